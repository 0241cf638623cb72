package proto

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/assay-bench/assay/scenarios/load"
	"github.com/assay-bench/assay/scenarios/load/arrival"
)

// grpcUnary is gRPC with grpc-go: unary calls as streams on few connections. Messages are bytes; nothing
// is marshalled for a call.
type grpcUnary struct{}

var _ = add(grpcUnary{})

func (grpcUnary) Schemes() []Scheme {
	return []Scheme{{"grpc", "gRPC, unary"}, {"grpc+tls", "gRPC, unary, over TLS"}}
}

func (grpcUnary) Open(ctx context.Context, c Config) (*Session, error) {
	if strings.Count(c.URL.Path, "/") != 2 || strings.HasSuffix(c.URL.Path, "/") || c.URL.RawQuery != "" || c.Method != "" {
		return nil, refuse("gRPC wants the method in the path: %s://%s/package.Service/Method", c.URL.Scheme, c.URL.Host)
	}
	if err := c.probe(ctx); err != nil {
		return nil, err
	}
	c, err := encoded(ctx, c)
	if err != nil {
		return nil, err
	}
	list, err := c.messages()
	if err != nil {
		return nil, err
	}
	conns := c.Conns
	if conns == 0 {
		conns = streamConns
	}
	g := &grpcSender{method: c.URL.Path}
	for _, m := range list {
		g.calls = append(g.calls, grpcCall{body: rawMessage(m.body), header: outgoing(m.header)})
	}
	g.started = make([]atomic.Int64, conns)
	for range conns {
		under := new(arrival.Socket)
		conn, err := grpcConn(c, under)
		if err != nil {
			g.close()
			return nil, refuse("%v", err)
		}
		g.conns, g.sockets = append(g.conns, conn), append(g.sockets, under)
	}
	caller := func(i int) load.Caller {
		return &grpcCaller{sender: g, conn: g.conns[i%conns], socket: g.sockets[i%conns], started: &g.started[i%conns]}
	}
	return c.streams(conns, caller, "gRPC "+c.URL.Path, g.close), nil
}

func outgoing(header []Field) metadata.MD {
	if len(header) == 0 {
		return nil
	}
	md := metadata.MD{}
	for _, f := range header {
		md.Append(f.Name, f.Value)
	}
	return md
}

// grpcConn is one connection, made with the first call.
func grpcConn(c Config, under *arrival.Socket) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if strings.HasSuffix(c.URL.Scheme, "+tls") {
		creds = credentials.NewTLS(c.tlsConfig("h2"))
	}
	return grpc.NewClient("passthrough:///"+c.URL.Host,
		grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(under.Dialer(c.Dial)),
		grpc.WithNoProxy(), grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(), grpc.WithUserAgent("assay"),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 2, MaxDelay: time.Second},
			MinConnectTimeout: dialTimeout,
		}),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{}), grpc.MaxCallRecvMsgSize(maxReply)))
}

// rawMessage is an encoded message.
type rawMessage []byte

// rawCodec passes bytes through. What comes back is not kept.
type rawCodec struct{}

var _ encoding.CodecV2 = rawCodec{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*rawMessage))}, nil
}

func (rawCodec) Unmarshal(mem.BufferSlice, any) error { return nil }

type grpcSender struct {
	method  string
	calls   []grpcCall
	conns   []*grpc.ClientConn
	sockets []*arrival.Socket // under each
	started []atomic.Int64    // calls under way that the pacer began on each
}

type grpcCall struct {
	body   rawMessage
	header metadata.MD
}

func (g *grpcSender) close() {
	for _, c := range g.conns {
		_ = c.Close() // fails only when closed
	}
}

// What the pacer may begin: a new stream waits where the server limits them, which no server should to fewer
// than 100 (RFC 9113 section 6.5.2), and a message waits beyond a stream's 64 KiB.
const (
	maxStarted     = 90
	maxStartedBody = 16 << 10
)

// grpcCaller makes calls on one connection.
type grpcCaller struct {
	sender  *grpcSender
	conn    *grpc.ClientConn
	socket  *arrival.Socket
	started *atomic.Int64
	stream  grpc.ClientStream // that Start began
	reply   rawMessage
}

var _ load.Starter = (*grpcCaller)(nil)

// Age tells how long ago the reply came in, or a later one of the same connection.
func (g *grpcCaller) Age() time.Duration { return g.socket.Age() }

func (g *grpcCaller) call(id uint64) *grpcCall {
	return &g.sender.calls[id%uint64(len(g.sender.calls))]
}

func (c *grpcCall) context(ctx context.Context) context.Context {
	if c.header == nil {
		return ctx
	}
	return metadata.NewOutgoingContext(ctx, c.header)
}

func (g *grpcCaller) Start(ctx context.Context, id uint64) bool {
	call := g.call(id)
	if g.conn.GetState() != connectivity.Ready || len(call.body) > maxStartedBody {
		return false
	}
	if g.started.Add(1) > maxStarted {
		g.started.Add(-1)
		return false
	}
	stream, err := g.conn.NewStream(call.context(ctx), &grpc.StreamDesc{}, g.sender.method)
	if err != nil {
		g.started.Add(-1)
		return false
	}
	_ = stream.SendMsg(&call.body) // Finish meets the error
	g.stream = stream
	return true
}

func (g *grpcCaller) Finish(context.Context, uint64) error {
	defer g.started.Add(-1)
	return statusOf(g.stream.RecvMsg(&g.reply))
}

func (g *grpcCaller) Call(ctx context.Context, id uint64) error {
	call := g.call(id)
	return statusOf(g.conn.Invoke(call.context(ctx), g.sender.method, &call.body, &g.reply))
}

func statusOf(err error) error {
	if err == nil {
		return nil
	}
	s := status.Convert(err)
	return fmt.Errorf("grpc status %s: %.80s", s.Code(), s.Message())
}
