package rpc

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/rpc"
	"github.com/assay-bench/assay/scenarios/wire/behave"
	"github.com/assay-bench/assay/scenarios/wire/rpcframe"
	"github.com/assay-bench/assay/suites"
)

const (
	// drainCall is how long the call lasts that is in flight when the target is asked to stop.
	drainCall = 800 * time.Millisecond
	// drainPoll and drainPolls bound how long readiness is asked for.
	drainPoll  = 30 * time.Millisecond
	drainPolls = 15
)

const (
	reasonInflightLost = "inflight-lost"
	reasonStillReady   = "still-ready"
)

var _ = add(suites.Check{
	ID:       "rpc/resilience/stop-finishes-calls",
	Title:    "a call in flight is answered after the server was asked to stop",
	Covers:   []string{"rpc/resilience/stop-finishes-calls"},
	Needs:    []features.Feature{features.RPCBehave, features.RPCFramed},
	Control:  controlOf(func(string) (rpcframe.Form, error) { return rpcframe.Framed, nil }),
	Cost:     suites.Cost{Time: time.Second, Exclusive: true},
	Locality: suites.OwnedHost, Stops: true,
	Drive: func(ctx context.Context, env *scenarios.Env) error {
		return whileStopping(ctx, env, func() error { return nil })
	},
	Judge:   judgeInflight,
	Explain: explain,
	Reasons: []string{reasonInflightLost},
	Kills:   []suites.Kill{{Defect: "drain.drops-inflight", Reason: reasonInflightLost}},
})

var _ = add(suites.Check{
	ID:       "rpc/observe/health-drain",
	Title:    "a server that was asked to stop says that it is not ready",
	Covers:   []string{"rpc/observe/health"},
	Needs:    []features.Feature{features.RPCBehave, features.RPCFramed, features.AdminHTTP},
	Control:  controlOf(func(string) (rpcframe.Form, error) { return rpcframe.Framed, nil }),
	Cost:     suites.Cost{Time: time.Second, Exclusive: true},
	Locality: suites.OwnedHost, Stops: true,
	Drive: func(ctx context.Context, env *scenarios.Env) error {
		if err := healthGetAs(ctx, env, "ready before", healthReady); err != nil {
			return err
		}
		return whileStopping(ctx, env, func() error {
			for i := range drainPolls {
				if err := healthGetAs(ctx, env, drainLabel(i), healthReady); err != nil {
					return err
				}
				if err := pause(ctx, drainPoll); err != nil {
					return err
				}
			}
			return nil
		})
	},
	Judge:   judgeDrain,
	Explain: explain,
	Reasons: []string{reasonInflightLost, reasonStillReady, healthNotServing},
	Kills: []suites.Kill{
		{Defect: "health.always-serving", Reason: reasonStillReady},
		{Defect: "drain.drops-inflight", Reason: reasonInflightLost},
		{Defect: "admin.readyz-fails", Reason: healthNotServing},
	},
})

func drainLabel(i int) string { return fmt.Sprintf("ready while stopping %d", i) }

// pause waits without holding up a run that ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// whileStopping puts a slow call in flight, asks the target to stop, looks around, and takes the answer.
func whileStopping(ctx context.Context, env *scenarios.Env, look func() error) error {
	slow, err := echo(rpcframe.Framed, 21, tagged(env.Token, behave.Op{Kind: behave.Delay, Millis: ptr(drainCall.Milliseconds())})).Encode()
	if err != nil {
		return err
	}
	c, err := rpc.Dial(ctx, env, "rpc", "probe")
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Send("probe", slow); err != nil {
		return err
	}
	if err := pause(ctx, drainCall/8); err != nil { // the call is to be in the handler, not in a buffer
		return err
	}
	env.Terminate()
	if err := look(); err != nil {
		return err
	}
	return c.Await(ctx, 2*drainCall+env.Claims.Limits.Answer(), wholeFrames(rpcframe.Framed, 1))
}

func judgeInflight(t suites.Trace) suites.Finding {
	const want = "the call in flight is answered"
	a := answerOf(exchangesOf(t), "probe", rpcframe.Framed)
	switch {
	case a.served():
		return suites.Passing(want, a.String(), a.cites())
	case a.kind == quiet && t.Noisy(t.Claims.Limits.Answer()):
		return suites.TooNoisy(want, a.String(), a.cites())
	}
	return suites.Failing(reasonInflightLost, want, a.String(), a.cites())
}

// judgeDrain wants readiness before, and no readiness at the last look at which the admin port still
// answered: the polls begin before the signal can have arrived.
func judgeDrain(t suites.Trace) suites.Finding {
	const want = "ready before the stop, and not ready while a call in flight holds it up"
	before := healthAnswerOf(t, "ready before")
	if before.status != http.StatusOK {
		return suites.Failing(healthNotServing, want, "before the stop: "+before.observed, before.cites)
	}
	f := judgeInflight(t)
	f.Expected, f.Cites = want, joined(before.cites, f.Cites)
	if f.Status != results.Pass {
		return f
	}
	last := healthAnswer{observed: "the admin port was closed"}
	for i := range drainPolls {
		a := healthAnswerOf(t, drainLabel(i))
		if a.status == 0 {
			break
		}
		last = a
	}
	f.Cites = joined(f.Cites, last.cites)
	f.Observed = "while stopping: " + last.observed + "; the call in flight: " + f.Observed
	if last.status == http.StatusOK {
		f.Status, f.Reason = results.Fail, reasonStillReady
	}
	return f
}
