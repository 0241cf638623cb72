// Package grpcface is the gRPC face: the test service that every gRPC language's interop suite
// drives, the behave service, and gRPC health, on grpc-go. It accepts no connections itself. Names
// that it does not serve answer UNIMPLEMENTED, and no status code leaves the range
// 0 to 16 that gRPC defines.
package grpcface

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/assay-bench/assay/fixtures/idl/behavepb"
	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/rpc/behave"
	"github.com/assay-bench/assay/reference/rpc/obs"
)

// Config configures a Face. All fields are required.
type Config struct {
	Defects          defect.Set
	Behave           *behave.Service
	Metrics          *obs.Metrics
	MaxMessage       int               // bytes of one message in either direction
	HandshakeTimeout time.Duration     // for the client's SETTINGS
	CloseConn        func(peer string) // closes the connection from that address; planted defects alone use it
}

// Face is the gRPC server.
type Face struct {
	cfg    Config
	server *grpc.Server
	health *health.Server
}

// maxStreams bounds the calls in flight of one connection; clients queue behind it.
const maxStreams = 1000

// New returns a Face that serves nothing yet.
func New(cfg Config) *Face {
	f := &Face{cfg: cfg, health: health.NewServer()}
	f.server = grpc.NewServer(
		grpc.MaxRecvMsgSize(cfg.MaxMessage),
		grpc.MaxSendMsgSize(cfg.MaxMessage),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(cfg.HandshakeTimeout),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Millisecond, PermitWithoutStream: true}),
		grpc.WaitForHandlers(true),
		grpc.ChainUnaryInterceptor(f.unary),
		grpc.ChainStreamInterceptor(f.stream),
		grpc.UnknownServiceHandler(f.unknown),
	)
	testpb.RegisterTestServiceServer(f.server, &testService{defects: cfg.Defects, limit: cfg.MaxMessage})
	if !cfg.Defects.On(defect.GRPCBehaveAbsent) {
		behavepb.RegisterBehaveServer(f.server, &behaveService{defects: cfg.Defects, service: cfg.Behave})
	}
	if !cfg.Defects.On(defect.HealthAbsent) {
		healthpb.RegisterHealthServer(f.server, healthService{f.health, cfg.Defects})
	}
	if cfg.Defects.On(defect.HealthNotServing) {
		f.health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	}
	for name := range f.server.GetServiceInfo() {
		f.health.SetServingStatus(name, healthpb.HealthCheckResponse_SERVING)
	}
	return f
}

// healthService is grpc-go's health server with room for a planted defect.
type healthService struct {
	*health.Server
	defects defect.Set
}

// Check answers for one service.
func (h healthService) Check(ctx context.Context, req *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	resp, err := h.Server.Check(ctx, req)
	if err != nil && h.defects.On(defect.HealthUnknownServing) {
		return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}, nil
	}
	return resp, err
}

// Serve accepts from l until Drain or Stop.
func (f *Face) Serve(l net.Listener) error { return f.server.Serve(l) }

// NotReady sets every health status to NOT_SERVING.
func (f *Face) NotReady() {
	if !f.cfg.Defects.On(defect.HealthAlwaysServing) {
		f.health.Shutdown()
	}
}

// Drain sends GOAWAY, waits for calls in flight and closes the listener. Stop ends it early.
func (f *Face) Drain() { f.server.GracefulStop() }

// Stop closes everything and waits for the handlers, whose contexts end.
func (f *Face) Stop() { f.server.Stop() }

func (f *Face) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	began := f.cfg.Metrics.Begin()
	defer func() {
		err = f.finish(ctx, began, info.FullMethod, recover(), err)
		if err != nil {
			resp = nil
		}
	}()
	return handler(ctx, req)
}

func (f *Face) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	began := f.cfg.Metrics.Begin()
	defer func() { err = f.finish(ss.Context(), began, info.FullMethod, recover(), err) }()
	return handler(srv, ss)
}

// finish contains a panic, counts the call, and plants the defect of cancelled streams.
func (f *Face) finish(ctx context.Context, began time.Time, fullMethod string, panicked any, err error) error {
	if panicked != nil {
		f.cfg.Metrics.Panicked()
		err = status.Error(codes.Internal, "internal error")
	}
	f.cfg.Metrics.Finish(began, "grpc", f.label(fullMethod), status.Code(err).String())
	if ctx.Err() == context.Canceled && f.cfg.Defects.On(defect.GRPCCancelBreaksConnection) {
		if p, ok := peer.FromContext(ctx); ok {
			f.cfg.CloseConn(p.Addr.String())
		}
	}
	return err
}

// label keeps the metric's method label inside a closed set: clients choose the path.
func (f *Face) label(fullMethod string) string {
	service, method, _ := strings.Cut(strings.TrimPrefix(fullMethod, "/"), "/")
	info, ok := f.server.GetServiceInfo()[service]
	if !ok {
		return "unknown"
	}
	for _, m := range info.Methods {
		if m.Name == method {
			return service + "/" + method
		}
	}
	return "unknown"
}

// unknown answers names that no service has.
func (f *Face) unknown(_ any, ss grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(ss)
	if method == "/grpc.testing.UnimplementedService/UnimplementedCall" && f.cfg.Defects.On(defect.GRPCUnimplementedServiceAnswers) {
		if err := ss.RecvMsg(new(testpb.Empty)); err != nil {
			return err
		}
		return ss.SendMsg(new(testpb.Empty))
	}
	return unimplemented(f.cfg.Defects)
}

// unimplemented is the status of an unknown name, as the planted defects leave it.
func unimplemented(defects defect.Set) error {
	code := codes.Unimplemented
	switch {
	case defects.On(defect.GRPCUnknownAsCancelled):
		code = codes.Canceled
	case defects.On(defect.GRPCUnknownAsInternal):
		code = codes.Internal
	}
	return status.Error(code, "unknown service or method")
}

// every counts calls and reports each n-th.
type every struct{ count atomic.Int64 }

func (e *every) nth(n int64) bool { return e.count.Add(1)%n == 0 }
