package rpc

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	grpcgo "google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/backends"
	"github.com/assay-bench/assay/scenarios/target"
	"github.com/assay-bench/assay/suites"
)

// grpcFind returns a check of this part of the package.
func grpcFind(t *testing.T, id string) suites.Check {
	t.Helper()
	for _, c := range append(append([]suites.Check(nil), checks...), claims...) {
		if c.ID == id {
			return c
		}
	}
	t.Fatalf("no check %s", id)
	return suites.Check{}
}

// grpcCheckIDs lists the checks of this part of the package.
func grpcCheckIDs() []string {
	return []string{
		"rpc/wire/grpc-interop", "rpc/wire/grpc-unimplemented", "rpc/observe/health-serving",
		"claims/grpc.interop", "claims/grpc.behave", "claims/grpc.health", "claims/admin.http",
	}
}

// grpcCaseIDs lists a check's cases, an empty id where it has none.
func grpcCaseIDs(c suites.Check) []string {
	if len(c.Cases) == 0 {
		return []string{""}
	}
	var out []string
	for _, k := range c.Cases {
		out = append(out, k.ID)
	}
	return out
}

// grpcRun drives one case as the runner does, control first, and judges it.
func grpcRun(t *testing.T, c suites.Check, kase string, endpoints target.Endpoints) (suites.Finding, []results.Evidence) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	clock := results.ClockSince(time.Now())
	rec := results.NewRecorder(io.Discard, clock)
	key := results.Key{Check: c.ID, Case: kase}
	env := &scenarios.Env{
		Key: key, Token: "token", Endpoints: endpoints, Dial: scenarios.NewDialer(nil, 0).DialContext,
		Clock: clock, Rand: rand.New(rand.NewPCG(1, 2)),
		Put: func(from results.Source, kind results.Kind, data any) error {
			_, err := rec.Record(key, from, kind, data)
			return err
		},
	}
	if c.Control != nil {
		if err := c.Control.Drive(ctx, env); err != nil {
			t.Errorf("%s: control: %v", key, err)
		}
		if ok, observed := c.Control.Judge(rec.All()); !ok {
			return suites.Failing(suites.ReasonControl, "the control succeeds", observed, nil), rec.All()
		}
	}
	control := len(rec.All())
	if err := c.Drive(ctx, env); err != nil {
		t.Errorf("%s: drive: %v", key, err)
	}
	driven := rec.All()[control:]
	for _, e := range driven {
		if c.Explain(e) == "" {
			t.Errorf("%s: evidence %s is not explained: %s", key, e.Kind, e.Data)
		}
	}
	return c.Judge(suites.Trace{Key: key, Evidence: driven}), rec.All()
}

func grpcListen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// grpcServe serves what register adds, and answers every other method with answer; nil: UNIMPLEMENTED.
func grpcServe(t *testing.T, register func(*grpcgo.Server), answer grpcgo.StreamHandler) string {
	t.Helper()
	var o []grpcgo.ServerOption
	if answer != nil {
		o = append(o, grpcgo.UnknownServiceHandler(answer))
	}
	s := grpcgo.NewServer(o...)
	if register != nil {
		register(s)
	}
	l := grpcListen(t)
	go s.Serve(l)
	t.Cleanup(s.Stop)
	return l.Addr().String()
}

// TestInteropAgainstGRPCGo drives every case against grpc-go's own service.
func TestInteropAgainstGRPCGo(t *testing.T) {
	b, err := backends.Start(context.Background(), backends.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Stop() })
	endpoints := target.Endpoints{"grpc": b.Endpoints()[backends.GRPCInterop]}
	seen := 0
	for _, id := range []string{"rpc/wire/grpc-interop", "rpc/wire/grpc-unimplemented", "claims/grpc.interop"} {
		c := grpcFind(t, id)
		for _, kase := range grpcCaseIDs(c) {
			seen++
			t.Run(id+"#"+kase, func(t *testing.T) {
				t.Parallel()
				if f, _ := grpcRun(t, c, kase, endpoints); f.Status != results.Pass || len(f.Cites) == 0 {
					t.Errorf("%s %s: %s", f.Status, f.Reason, f.Observed)
				}
			})
		}
	}
	if want := 15 + 2 + 1; seen != want {
		t.Errorf("%d cases ran, want %d", seen, want)
	}
}

// grpcAnswerAll answers every call with an empty message and status OK.
func grpcAnswerAll(_ any, ss grpcgo.ServerStream) error {
	if err := ss.RecvMsg(new(testpb.Empty)); err != nil {
		return nil // an empty stream
	}
	return ss.SendMsg(new(testpb.Empty))
}

// TestHollowServersPassNothing drives every case against servers that serve nothing.
func TestHollowServersPassNothing(t *testing.T) {
	silent := func(l net.Listener, greet string, shut bool) string {
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				io.WriteString(conn, greet)
				if shut {
					conn.Close()
				} else {
					defer conn.Close()
				}
			}
		}()
		return l.Addr().String()
	}
	refused := grpcListen(t)
	refused.Close()
	hollow := map[string]string{
		"mute":    silent(grpcListen(t), "", false),
		"closing": silent(grpcListen(t), "", true),
		"garbage": silent(grpcListen(t), "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", true),
		"refused": refused.Addr().String(),
		"null":    grpcServe(t, nil, grpcAnswerAll),
		"reject":  grpcServe(t, nil, nil),
		"none":    "",
	}
	seen := 0
	var wg sync.WaitGroup // not subtests: they wait for silence, all of them at once
	for name, addr := range hollow {
		for _, id := range grpcCheckIDs() {
			c := grpcFind(t, id)
			for _, kase := range grpcCaseIDs(c) {
				seen++
				wg.Go(func() {
					f, _ := grpcRun(t, c, kase, target.Endpoints{"grpc": addr, "admin": addr})
					if f.Status != results.Fail {
						t.Errorf("%s: %s#%s: %s %s: %s", name, id, kase, f.Status, f.Reason, f.Observed)
					}
				})
			}
		}
	}
	wg.Wait()
	if seen == 0 {
		t.Fatal("no case ran")
	}
}

// deafHealth answers every name alike.
type deafHealth struct {
	healthpb.UnimplementedHealthServer
	status healthpb.HealthCheckResponse_ServingStatus
}

func (d deafHealth) Check(context.Context, *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	return &healthpb.HealthCheckResponse{Status: d.status}, nil
}

func TestHealthTellsServersApart(t *testing.T) {
	c := grpcFind(t, "rpc/observe/health-serving")
	cases := []struct {
		kase, reason string
		status       healthpb.HealthCheckResponse_ServingStatus
	}{
		{"overall", "", healthpb.HealthCheckResponse_SERVING},
		{"overall", healthNotServing, healthpb.HealthCheckResponse_NOT_SERVING},
		{"unknown-service", grpcWrongStatus, healthpb.HealthCheckResponse_SERVING},
	}
	seen := 0
	for _, k := range cases {
		seen++
		addr := grpcServe(t, func(s *grpcgo.Server) { healthpb.RegisterHealthServer(s, deafHealth{status: k.status}) }, nil)
		if f, _ := grpcRun(t, c, k.kase, target.Endpoints{"grpc": addr}); f.Reason != k.reason {
			t.Errorf("%s %s: reason %q (%s)", k.kase, k.status, f.Reason, f.Observed)
		}
	}
	if seen == 0 {
		t.Fatal("no case ran")
	}
}
