package rpc

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/grpc"
	"github.com/assay-bench/assay/scenarios/rpc"
	"github.com/assay-bench/assay/scenarios/target"
	"github.com/assay-bench/assay/suites"
)

const (
	healthNotServing = "not-serving" // a reason: the target says that it does not serve

	healthLive  = "/healthz"
	healthReady = "/readyz"
)

var _ = add(suites.Check{
	ID:     "rpc/observe/health-serving",
	Title:  "a target that serves says so",
	Covers: []string{"rpc/observe/health"},
	Cases: []suites.Case{
		{ID: "overall", Title: "gRPC health of the whole server", Needs: []features.Feature{features.GRPCHealth}},
		{ID: "unknown-service", Title: "gRPC health of a service that is not there", Needs: []features.Feature{features.GRPCHealth}},
		{ID: "healthz", Title: "GET /healthz", Needs: []features.Feature{features.AdminHTTP}},
		{ID: "readyz", Title: "GET /readyz", Needs: []features.Feature{features.AdminHTTP}},
	},
	Cost:    suites.Cost{Time: 50 * time.Millisecond},
	Reasons: []string{grpcCallFailed, grpcWrongStatus, healthNotServing},
	Drive:   driveHealthServing,
	Judge:   judgeHealthServing,
	Explain: healthExplain,
	Kills: []suites.Kill{
		{Defect: "health.not-serving", Reason: healthNotServing, Case: "overall"},
		{Defect: "health.unknown-service-serving", Reason: grpcWrongStatus, Case: "unknown-service"},
		{Defect: "health.absent", Reason: grpcCallFailed, Case: "overall"},
		{Defect: "admin.healthz-fails", Reason: healthNotServing, Case: "healthz"},
		{Defect: "admin.readyz-fails", Reason: healthNotServing, Case: "readyz"},
	},
})

// healthNoService is a name that no server registers.
const healthNoService = "assay.testing.NoSuchService"

const healthWait = 2 * time.Second

func driveHealthServing(ctx context.Context, env *scenarios.Env) error {
	switch env.Key.Case {
	case "overall":
		return driveHealth(ctx, env, "")
	case "unknown-service":
		return driveHealth(ctx, env, "", healthNoService)
	case "healthz":
		return healthGet(ctx, env, healthLive)
	case "readyz":
		return healthGet(ctx, env, healthReady)
	}
	return fmt.Errorf("no case %q", env.Key.Case)
}

// driveHealth asks gRPC health for services, the empty name being the whole server.
func driveHealth(ctx context.Context, env *scenarios.Env, services ...string) error {
	return withGRPC(ctx, env, func(d grpcDriver) error {
		for _, s := range services {
			_, err := d.client.Unary(ctx, healthLabel(s), healthpb.Health_Check_FullMethodName,
				&healthpb.HealthCheckRequest{Service: s}, new(healthpb.HealthCheckResponse), grpc.Options{Timeout: healthWait})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func healthLabel(service string) string { return "health of " + fmt.Sprintf("%q", service) }

// healthGet asks the admin endpoint for a path, over a connection of its own.
func healthGet(ctx context.Context, env *scenarios.Env, path string) error {
	return healthGetAs(ctx, env, path, path)
}

// healthGetAs is healthGet under a label of the exchange's own.
func healthGetAs(ctx context.Context, env *scenarios.Env, label, path string) error {
	c, err := rpc.Dial(ctx, env, "admin", label)
	if err != nil {
		return err
	}
	defer c.Close()
	request := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: assay\r\nConnection: close\r\n\r\n", path, healthHost(env.Endpoints))
	if err := c.Send(label, []byte(request)); err != nil {
		return err
	}
	return c.Await(ctx, healthWait, nil)
}

func healthHost(endpoints target.Endpoints) string {
	if endpoints["admin"] == "" {
		return "target"
	}
	return endpoints["admin"]
}

func judgeHealthServing(t suites.Trace) suites.Finding {
	switch t.Key.Case {
	case "overall":
		g := grpcTrialOf(t, "the health of the whole server is SERVING")
		g.serving()
		return g.finding()
	case "unknown-service":
		return judgeHealthUnknown(t)
	case "healthz":
		return judgeHealthGet(t, healthLive)
	case "readyz":
		return judgeHealthGet(t, healthReady)
	}
	return suites.Finding{Observed: "no case " + t.Key.Case}
}

// serving objects unless the whole server says that it serves.
func (g *grpcTrial) serving() {
	c, ok := g.good(healthLabel(""))
	if !ok {
		return
	}
	if got := healthStatus(c); got != "SERVING" {
		g.object(healthNotServing, "the status is %q: %s", got, c)
	}
}

// healthStatus reads the status of an answered health call.
func healthStatus(c grpc.Seen) string {
	if len(c.Received) != 1 {
		return ""
	}
	return grpcField[string](c.Received[0], "status")
}

func judgeHealthUnknown(t suites.Trace) suites.Finding {
	g := grpcTrialOf(t, "the health of a service that is not there is status NOT_FOUND")
	// The control: a server that knows no service at all would answer NOT_FOUND to everything.
	if _, ok := g.good(healthLabel("")); !ok {
		return g.finding()
	}
	if c, ok := g.call(healthLabel(healthNoService)); ok {
		g.status(c, codes.NotFound)
	}
	return g.finding()
}

func judgeHealthGet(t suites.Trace, path string) suites.Finding {
	want := "GET " + path + " is answered 200"
	a := healthAnswerOf(t, path)
	switch {
	case a.status == http.StatusOK:
		return suites.Passing(want, a.observed, a.cites)
	case a.status != 0:
		return suites.Failing(healthNotServing, want, a.observed, a.cites)
	case a.silent && t.Noisy(healthWait):
		return suites.TooNoisy(want, a.observed, a.cites)
	}
	return suites.Failing(grpcCallFailed, want, a.observed, a.cites)
}

// healthAnswer is what came of a GET; a status of 0 means no HTTP answer.
type healthAnswer struct {
	status   int
	silent   bool
	observed string
	cites    []uint64
}

func healthAnswerOf(t suites.Trace, path string) healthAnswer {
	xs, err := rpc.Exchanges(t.Evidence)
	if err != nil {
		return healthAnswer{observed: err.Error()}
	}
	if x := xs["dial "+path]; x != nil {
		return healthAnswer{observed: "no connection: " + x.Refused, cites: x.Cites}
	}
	x := xs[path]
	if x == nil {
		return healthAnswer{observed: "nothing was asked"}
	}
	a := healthAnswer{cites: x.Cites, silent: len(x.Received) == 0 && x.Silent}
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(x.Received)), nil)
	if err != nil {
		a.observed = fmt.Sprintf("no HTTP answer (%v) in %d bytes", err, len(x.Received))
		return a
	}
	defer resp.Body.Close()
	a.status, a.observed = resp.StatusCode, resp.Status
	return a
}

// healthExplain renders gRPC calls, and HTTP/1.1 as the text that it is.
func healthExplain(e results.Evidence) string {
	if e.Kind == results.Sent || e.Kind == results.Received {
		var s rpc.Step
		if e.Decode(&s) != nil {
			return ""
		}
		b, _ := s.Bytes.Whole()
		return fmt.Sprintf("%q", b[:min(len(b), 1<<10)])
	}
	return grpcExplain(e)
}
