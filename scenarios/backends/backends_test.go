package backends_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios/backends"
)

// witness keeps arrivals.
type witness struct {
	mu  sync.Mutex
	got []backends.Arrival
	new chan struct{}
}

func (w *witness) put(from results.Source, kind results.Kind, data any) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a, ok := data.(backends.Arrival); ok && from == results.FromUpstream && kind == backends.Arrived {
		w.got = append(w.got, a)
	}
	w.new <- struct{}{}
	return nil
}

// next waits for one arrival.
func (w *witness) next(t *testing.T) backends.Arrival {
	t.Helper()
	select {
	case <-w.new:
	case <-time.After(5 * time.Second):
		t.Fatal("nothing was witnessed")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.got[0]
	w.got = w.got[1:]
	return a
}

func start(t *testing.T) (map[string]string, *witness) {
	t.Helper()
	w := &witness{new: make(chan struct{}, 64)}
	b, err := backends.Start(context.Background(), backends.Options{Put: w.put})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Stop(); err != nil {
			t.Error(err)
		}
	})
	return b.Endpoints(), w
}

func TestInteropIsServedAndWitnessed(t *testing.T) {
	addrs, w := start(t)
	conn, err := grpc.NewClient("passthrough:///"+addrs[backends.GRPCInterop], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c := testpb.NewTestServiceClient(conn)
	req := &testpb.SimpleRequest{ResponseSize: 100, Payload: &testpb.Payload{Body: make([]byte, 50)}}
	if _, err := c.UnaryCall(ctx, req); err != nil {
		t.Fatal(err)
	}
	a := w.next(t)
	if a.Path != testpb.TestService_UnaryCall_FullMethodName || a.Received < 50 || a.Sent < 100 || a.Messages != 1 || a.Status != 0 {
		t.Errorf("unary: %+v", a)
	}
	if !slices.Contains(a.Headers, "user-agent") || a.Peer == "" || a.Backend != backends.GRPCInterop {
		t.Errorf("unary: %+v", a)
	}
	_, err = testpb.NewUnimplementedServiceClient(conn).UnimplementedCall(ctx, &testpb.Empty{})
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("unknown service: %v", err)
	}
	if a := w.next(t); a.Path != testpb.UnimplementedService_UnimplementedCall_FullMethodName || a.Status != 12 {
		t.Errorf("unknown service: %+v", a)
	}
	_, err = c.UnaryCall(ctx, &testpb.SimpleRequest{ResponseSize: 1 << 30})
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("a response of 1 GiB: %v", err)
	}
	w.next(t)
	greedy := []*testpb.ResponseParameters{{Size: -1}, {Size: 1 << 30}, {IntervalUs: 1 << 30}}
	for _, p := range greedy {
		s, err := c.StreamingOutputCall(ctx, &testpb.StreamingOutputCallRequest{ResponseParameters: []*testpb.ResponseParameters{p}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Recv(); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: %v", p, err)
		}
		w.next(t)
	}
}

func TestEcho(t *testing.T) {
	addrs, w := start(t)
	url := "http://" + addrs[backends.HTTPEcho] + "/some/path?secret=1"
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url, strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Trace", "value")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "hello" {
		t.Errorf("%q %v", body, err)
	}
	a := w.next(t)
	if a.Path != "/some/path" || a.Method != "POST" || a.Received != 5 || a.Sent != 5 || a.Status != 200 || !slices.Contains(a.Headers, "x-trace") {
		t.Errorf("%+v", a)
	}
	large, err := http.Post(url, "text/plain", bytes.NewReader(make([]byte, 2<<20)))
	if err != nil {
		t.Fatal(err)
	}
	large.Body.Close()
	if a := w.next(t); a.Status != http.StatusRequestEntityTooLarge || large.StatusCode != a.Status {
		t.Errorf("%+v", a)
	}
}

func TestBackendsEndWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	b, err := backends.Start(ctx, backends.Options{})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := b.Stop(); err != nil { // waits for the end that the context began
		t.Error(err)
	}
	if conn, err := net.Dial("tcp", b.Endpoints()[backends.GRPCInterop]); err == nil {
		conn.Close()
		t.Error("the interop service is still served")
	}
}

func TestStopEndsBackendsAndTellsOfLostEvidence(t *testing.T) {
	full := errors.New("disk full")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	b, err := backends.Start(ctx, backends.Options{Put: func(results.Source, results.Kind, any) error { return full }})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get("http://" + b.Endpoints()[backends.HTTPEcho])
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if err := b.Stop(); !errors.Is(err, full) {
		t.Errorf("stop: %v", err)
	}
	if err := b.Stop(); !errors.Is(err, full) {
		t.Errorf("second stop: %v", err)
	}
	seen := 0
	for name, addr := range b.Endpoints() {
		seen++
		if conn, err := net.Dial("tcp", addr); err == nil {
			conn.Close()
			t.Errorf("%s is still served", name)
		}
	}
	if seen != 2 {
		t.Errorf("%d backends", seen)
	}
}
