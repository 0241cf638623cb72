package grpc_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	grpcgo "google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/grpc"
	"github.com/assay-bench/assay/scenarios/target"
)

const service = "/grpc.testing.TestService/"

// peerService answers in ways that the recording must tell apart.
type peerService struct {
	testpb.UnimplementedTestServiceServer
}

func (peerService) UnaryCall(ctx context.Context, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if err := grpcgo.SendHeader(ctx, metadata.MD{"x-back": md["x-there"]}); err != nil {
		return nil, err
	}
	if err := grpcgo.SetTrailer(ctx, metadata.Pairs("x-raw-bin", "\x00\xff")); err != nil {
		return nil, err
	}
	if in.GetResponseSize() < 0 {
		return nil, status.Error(codes.DataLoss, "asked for less than nothing")
	}
	return &testpb.SimpleResponse{Payload: &testpb.Payload{Body: make([]byte, in.GetResponseSize())}}, nil
}

func (peerService) FullDuplexCall(s testpb.TestService_FullDuplexCallServer) error {
	for {
		in, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for range in.GetResponseParameters() {
			if err := s.Send(&testpb.StreamingOutputCallResponse{Payload: &testpb.Payload{Body: []byte("x")}}); err != nil {
				return err
			}
		}
	}
}

func (peerService) StreamingInputCall(s testpb.TestService_StreamingInputCallServer) error {
	n := 0
	for {
		in, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return s.SendAndClose(&testpb.StreamingInputCallResponse{AggregatedPayloadSize: int32(n)})
		}
		if err != nil {
			return err
		}
		n += len(in.GetPayload().GetBody())
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// newEnv returns an Env of one endpoint "grpc" and a function that reads the evidence back.
func newEnv(addr string) (*scenarios.Env, func() []results.Evidence) {
	clock := results.ClockSince(time.Now())
	rec := results.NewRecorder(io.Discard, clock)
	key := results.Key{Check: "test"}
	return &scenarios.Env{
		Key: key, Token: "t", Endpoints: target.Endpoints{"grpc": addr}, Dial: scenarios.NewDialer(nil, 0).DialContext,
		Clock: clock, Rand: rand.New(rand.NewPCG(1, 2)),
		Put: func(from results.Source, kind results.Kind, data any) error {
			_, err := rec.Record(key, from, kind, data)
			return err
		},
	}, rec.All
}

func newClient(t *testing.T, env *scenarios.Env) *grpc.Client {
	t.Helper()
	c, err := grpc.NewClient(env, "grpc", "main")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func serve(t *testing.T) string {
	l := listen(t)
	s := grpcgo.NewServer()
	testpb.RegisterTestServiceServer(s, peerService{})
	go s.Serve(l)
	t.Cleanup(s.Stop)
	return l.Addr().String()
}

func TestUnaryIsRecorded(t *testing.T) {
	env, evidence := newEnv(serve(t))
	c := newClient(t, env)
	req := &testpb.SimpleRequest{ResponseSize: 2000, Payload: &testpb.Payload{Body: []byte("abc")}}
	ctx := context.Background()
	if _, err := c.Unary(ctx, "good", service+"UnaryCall", req, new(testpb.SimpleResponse), grpc.Options{Metadata: map[string]string{"x-there": "and back"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Unary(ctx, "bad", service+"UnaryCall", &testpb.SimpleRequest{ResponseSize: -1}, new(testpb.SimpleResponse), grpc.Options{}); err != nil {
		t.Fatal(err)
	}
	calls, err := grpc.Calls(evidence())
	if err != nil {
		t.Fatal(err)
	}
	good, bad := calls["good"], calls["bad"]
	if good.Code != 0 || good.Connection != 1 || good.Seq == 0 {
		t.Errorf("good: %+v", good)
	}
	if d := cmp.Diff(map[string]int{"payload.body": 2000}, good.Received[0].Bytes); d != "" {
		t.Error(d)
	}
	if good.Received[0].JSON != nil || !strings.Contains(string(good.Sent[0].JSON), "responseSize") {
		t.Errorf("json: sent %s, received %s", good.Sent[0].JSON, good.Received[0].JSON)
	}
	if d := cmp.Diff([]string{"and back"}, good.Header["x-back"]); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"AP8="}, good.Trailer["x-raw-bin"]); d != "" {
		t.Error(d)
	}
	if bad.Code != uint32(codes.DataLoss) || bad.Message != "asked for less than nothing" || bad.Connection != 1 || len(bad.Received) != 0 {
		t.Errorf("bad: %+v", bad)
	}
	if s := good.String(); !strings.Contains(s, "status 0 OK") {
		t.Error(s)
	}
	dialed := 0
	for _, e := range evidence() {
		if e.Kind == results.Dialed {
			dialed++
		}
	}
	if dialed != 1 {
		t.Errorf("%d dials are recorded", dialed)
	}
}

func TestStreamsAreRecordedAndBounded(t *testing.T) {
	env, _ := newEnv(serve(t))
	c := newClient(t, env)
	ctx := context.Background()
	in := c.Open(ctx, "in", service+"StreamingInputCall", grpc.Shape{Client: true}, grpc.Options{})
	in.Send(&testpb.StreamingInputCallRequest{Payload: &testpb.Payload{Body: make([]byte, 7)}})
	in.CloseSend()
	got, err := in.End(new(testpb.StreamingInputCallResponse))
	if err != nil || got.Code != 0 || len(got.Received) != 1 || string(got.Received[0].JSON) != `{"aggregatedPayloadSize":7}` {
		t.Errorf("in: %+v %v", got, err)
	}
	flood := &testpb.StreamingOutputCallRequest{}
	for range 3 * grpc.MaxMessages {
		flood.ResponseParameters = append(flood.ResponseParameters, &testpb.ResponseParameters{Size: 1})
	}
	out := c.Open(ctx, "flood", service+"FullDuplexCall", grpc.Shape{Client: true, Server: true}, grpc.Options{})
	out.Send(flood)
	out.CloseSend()
	got, err = out.End(new(testpb.StreamingOutputCallResponse))
	if err != nil || len(got.Received) != grpc.MaxMessages || !got.More {
		t.Errorf("flood: %d received, more %v, %v", len(got.Received), got.More, err)
	}
	gone := c.Open(ctx, "cancelled", service+"FullDuplexCall", grpc.Shape{Client: true, Server: true}, grpc.Options{})
	gone.Cancel()
	got, err = gone.End(new(testpb.StreamingOutputCallResponse))
	if err != nil || got.Code != uint32(codes.Canceled) || !got.Cancelled {
		t.Errorf("cancelled: %+v %v", got, err)
	}
	none := c.Open(ctx, "none", service+"NoSuchCall", grpc.Shape{Client: true, Server: true}, grpc.Options{})
	got, err = none.End(new(testpb.StreamingOutputCallResponse))
	if err != nil || got.Code != uint32(codes.Unimplemented) {
		t.Errorf("none: %+v %v", got, err)
	}
}

// TestHollowPeers shows that whatever a peer does is evidence, and none makes a call outlast its time.
func TestHollowPeers(t *testing.T) {
	mute := listen(t)
	go func() {
		for {
			if _, err := mute.Accept(); err != nil {
				return
			}
		}
	}()
	garbage := listen(t)
	go func() {
		for {
			conn, err := garbage.Accept()
			if err != nil {
				return
			}
			conn.Write([]byte("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"))
			conn.Close()
		}
	}()
	closed := listen(t)
	closed.Close()
	peers := map[string]string{
		"mute": mute.Addr().String(), "garbage": garbage.Addr().String(), "refused": closed.Addr().String(), "no endpoint": "",
	}
	seen := 0
	for name, addr := range peers {
		seen++
		env, evidence := newEnv(addr)
		c := newClient(t, env)
		call, err := c.Unary(context.Background(), "call", service+"EmptyCall", new(testpb.Empty), new(testpb.Empty), grpc.Options{Timeout: 300 * time.Millisecond})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if call.Code != uint32(codes.Unavailable) && call.Code != uint32(codes.DeadlineExceeded) {
			t.Errorf("%s: %v", name, call)
		}
		if calls, err := grpc.Calls(evidence()); err != nil || len(calls) != 1 {
			t.Errorf("%s: %d calls recorded, %v", name, len(calls), err)
		}
	}
	if seen == 0 {
		t.Fatal("no peer ran")
	}
}

func TestHarnessErrors(t *testing.T) {
	env, _ := newEnv("192.0.2.1:1") // a documentation address that the dialer does not allow
	c := newClient(t, env)
	_, err := c.Unary(context.Background(), "call", service+"EmptyCall", new(testpb.Empty), new(testpb.Empty), grpc.Options{Timeout: time.Second})
	if !errors.Is(err, scenarios.ErrNotAllowed) {
		t.Errorf("a dial off the allowlist: %v", err)
	}
	full := errors.New("disk full")
	env, _ = newEnv(serve(t))
	env.Put = func(results.Source, results.Kind, any) error { return full }
	c = newClient(t, env)
	if _, err := c.Unary(context.Background(), "call", service+"EmptyCall", new(testpb.Empty), new(testpb.Empty), grpc.Options{}); !errors.Is(err, full) {
		t.Errorf("a recorder that fails: %v", err)
	}
}
