package perf

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/echo"
	"github.com/assay-bench/assay/scenarios/load"
	"github.com/assay-bench/assay/scenarios/load/bundle"
	"github.com/assay-bench/assay/suites"
)

// callTimeout is the only latency bound that these scenarios judge; the generator must be accurate to 1 %
// of it.
const callTimeout = time.Second

const (
	duration    = 3 * time.Second
	connections = 4
	workers     = 64
)

// Failure is recorded when no load could be put on the target at all.
type Failure struct {
	NoLoad string `json:"noLoad"`
}

var _ = add(echoCheck("perf/latency/echo-ttheader", "1 KiB echo over TTHeader, Poisson arrivals at 500/s for 3 s",
	features.RPCTTHeaderFramed, features.RPCBehave, "rpc.loses-calls",
	load.Schedule{Kind: load.Poisson, Rate: 500, Duration: duration},
	func(env *scenarios.Env) (load.Via, func(), error) {
		codec, err := echo.NewTTHeader()
		return &load.Mux{
			Codec: codec, Addr: env.Endpoints["rpc"], Conns: connections,
			Dial: func(ctx context.Context, addr string) (net.Conn, error) { return env.Dial(ctx, "tcp", addr) },
		}, func() {}, err
	}))

var _ = add(echoCheck("perf/latency/echo-grpc", "1 KiB echo over gRPC, constant arrivals at 300/s for 3 s",
	features.GRPCBehave, features.GRPCBehave, "grpc.loses-calls",
	load.Schedule{Kind: load.Const, Rate: 300, Duration: duration},
	func(env *scenarios.Env) (load.Via, func(), error) {
		caller, err := echo.NewGRPC(env.Endpoints["grpc"], env.Dial)
		if err != nil {
			return nil, nil, err
		}
		callers := make([]load.Caller, workers)
		for i := range callers {
			callers[i] = caller
		}
		return &load.Pool{Callers: callers}, func() { caller.Close() }, nil
	}))

func echoCheck(id, title string, need, behave features.Feature, loses string, schedule load.Schedule,
	via func(*scenarios.Env) (load.Via, func(), error),
) suites.Check {
	needs := []features.Feature{need}
	if behave != need {
		needs = append(needs, behave)
	}
	return suites.Check{
		ID: id, Title: title, Covers: []string{"perf/echo/answered"}, Needs: needs,
		Cost:    suites.Cost{Time: duration + 500*time.Millisecond, Exclusive: true},
		Reasons: []string{"calls-failed", "calls-lost", "no-load"},
		Kills:   []suites.Kill{{Defect: loses, Reason: "calls-lost"}},
		Judge:   judgeEcho,
		Drive: func(ctx context.Context, env *scenarios.Env) error {
			s := schedule
			s.Seed = env.Rand.Uint64()
			v, end, err := via(env)
			if err != nil {
				return err
			}
			defer end()
			return drive(ctx, env, s, v)
		},
	}
}

// drive plays the schedule and records result and histograms. A target that can not be dialled, or that
// breaks the connections, is evidence.
func drive(ctx context.Context, env *scenarios.Env, s load.Schedule, via load.Via) error {
	r, err := load.Run(ctx, s, via, load.Options{Timeout: callTimeout, LatenessBound: callTimeout / 100})
	if err != nil {
		return env.Record(results.Measured, Failure{NoLoad: err.Error()})
	}
	prefix := strings.ReplaceAll(env.Key.Check, "/", "-") + "--" + env.Key.Case + "--"
	for _, h := range []struct{ name, file string }{
		{load.ResponseOK, "response"}, {load.ResponseAll, "all"}, {load.Service, "service"}, {load.Lateness, "lateness"},
	} {
		if err := env.Save(prefix+h.file+".hdr", r.Histograms[h.name]); err != nil {
			return err
		}
	}
	return env.Record(results.Measured, r)
}

func judgeEcho(t suites.Trace) suites.Finding {
	const want = "every call answered without error within 1 s of its intended start"
	for _, e := range t.Evidence {
		if e.Kind != results.Measured {
			continue
		}
		cites := []uint64{e.Seq}
		var f Failure
		var r load.Result
		if e.Decode(&f) == nil && f.NoLoad != "" {
			return suites.Failing("no-load", want, f.NoLoad, cites)
		}
		if err := e.Decode(&r); err != nil {
			return suites.Failing("no-load", want, err.Error(), cites)
		}
		found := judgeResult(r, want, cites)
		found.Figures = bundle.Figures(&r)
		return found
	}
	return suites.Failing("no-load", want, "no result was recorded", nil)
}

func judgeResult(r load.Result, want string, cites []uint64) suites.Finding {
	c := r.Counts
	observed := fmt.Sprintf("%d calls scheduled: %d answered, %d failed, %d timed out, %d not sent; p50 %s, p99 %s, lateness of the generator p99 %s",
		c.Scheduled, c.OK, c.Error, c.Timeout, c.Unsent, ns(r.Quantiles[load.ResponseOK].P50), ns(r.Quantiles[load.ResponseOK].P99),
		ns(r.Quantiles[load.Lateness].P99))
	switch {
	case c.Timeout > 0:
		return suites.Failing("calls-lost", want, observed, cites)
	case c.Error > 0:
		return suites.Failing("calls-failed", want, observed, cites)
	case !r.Valid:
		return suites.TooNoisy(want, fmt.Sprintf("%s; the generator's result is invalid: %v", observed, r.Reasons), cites)
	case c.OK == 0 || c.OK != c.Scheduled:
		return suites.Failing("calls-lost", want, observed, cites)
	}
	return suites.Passing(want, observed, cites)
}

func ns(n int64) string { return time.Duration(n).Round(time.Microsecond).String() }
