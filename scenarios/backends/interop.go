package backends

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
)

// Bounds on what a caller may ask of the interop service, which itself knows none.
const (
	maxPayload  = 4 << 20 // bytes of one response
	maxInterval = 10 * time.Second
)

// serveInterop serves grpc-go's own interop service: code that the reference stack does not use.
func (b *Backends) serveInterop(l net.Listener) (stop func() error) {
	s := grpc.NewServer(
		grpc.MaxRecvMsgSize(maxPayload),
		grpc.MaxConcurrentStreams(256),
		grpc.ConnectionTimeout(5*time.Second),
		grpc.UnaryInterceptor(boundedUnary),
		grpc.StreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return handler(srv, boundedStream{ss})
		}),
		grpc.StatsHandler(watcher{b.witness}),
		grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error {
			return status.Error(codes.Unimplemented, "unknown service or method")
		}),
	)
	testpb.RegisterTestServiceServer(s, interop.NewTestServer())
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	return func() error {
		s.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) { // stopped before it served
			return err
		}
		return nil
	}
}

func boundedUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if err := bounded(req); err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

// boundedStream refuses requests beyond the bounds before the service sees them.
type boundedStream struct{ grpc.ServerStream }

// RecvMsg reads a message within the bounds.
func (s boundedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return bounded(m)
}

func bounded(req any) error {
	switch in := req.(type) {
	case *testpb.SimpleRequest:
		return boundedSize(in.GetResponseSize())
	case *testpb.StreamingOutputCallRequest:
		for _, p := range in.GetResponseParameters() {
			if err := boundedSize(p.GetSize()); err != nil {
				return err
			}
			if time.Duration(p.GetIntervalUs())*time.Microsecond > maxInterval {
				return status.Errorf(codes.InvalidArgument, "an interval above %s", maxInterval)
			}
		}
	}
	return nil
}

func boundedSize(n int32) error {
	if n < 0 || n > maxPayload {
		return status.Errorf(codes.InvalidArgument, "a response of %d bytes: want 0 to %d", n, maxPayload)
	}
	return nil
}

// watcher turns what grpc-go tells of a call into an arrival.
type watcher struct{ witness func(Arrival) }

// call is the arrival in the making of one call; requests and responses are told concurrently.
type call struct {
	mu sync.Mutex
	Arrival
}

type callKey struct{}

// TagRPC begins an arrival.
func (watcher) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, callKey{}, &call{Arrival: Arrival{Backend: GRPCInterop, Method: "POST", Path: info.FullMethodName}})
}

// HandleRPC fills the arrival in, and witnesses it with the call's end.
func (w watcher) HandleRPC(ctx context.Context, s stats.RPCStats) {
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch s := s.(type) {
	case *stats.InHeader:
		c.Headers, c.Peer = names(s.Header, strings.ToLower), s.RemoteAddr.String()
	case *stats.InPayload:
		c.Received += int64(s.Length)
		c.Messages++
	case *stats.OutPayload:
		c.Sent += int64(s.Length)
	case *stats.End:
		c.Status = int(status.Code(s.Error))
		w.witness(c.Arrival)
	}
}

// TagConn leaves connections alone.
func (watcher) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn does nothing.
func (watcher) HandleConn(context.Context, stats.ConnStats) {}
