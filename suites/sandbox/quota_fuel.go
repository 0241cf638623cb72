package sandbox

import (
	"context"
	"fmt"

	"github.com/assay-bench/assay/fixtures/wasm"
	"github.com/assay-bench/assay/results"
	scenario "github.com/assay-bench/assay/scenarios/sandbox"
	"github.com/assay-bench/assay/suites"
)

var _ = add(suites.Check{
	ID: "sandbox/quota/fuel-exhausted", Title: "the end of fuel is reported as such, and its instance discarded", Covers: []string{"sandbox/quota/fuel-exhausted"},
	Reasons: []string{reasonNotStopped, reasonWrongClass, reasonUnnamed, reasonReused, reasonNotServed, reasonNotCounted},
	Drive: driving(func(ctx context.Context, b *bench) error {
		tenant, err := b.serve(ctx, "a", scenario.Free, "spin")
		if err == nil {
			_, err = b.invoke(ctx, "spin", tenant, "spin", "spin")
		}
		if err == nil {
			_, err = b.invoke(ctx, "next", tenant, "spin", "answer")
		}
		if err == nil {
			_, err = b.stats(ctx, "counted")
		}
		return ends(err)
	}),
	Judge: judging("class fuel, another instance answers the next call, and nothing runs any more", judgeExhausted),
	Kills: kills(kill(reasonWrongClass, "sandbox.fuel-as-unreachable"), kill(reasonReused, "sandbox.fuel-keeps-instance")),
})

func judgeExhausted(_ suites.Trace, s *story) suites.Finding {
	observed := s.tale("spin", "next")
	p, trapped := s.trap("spin")
	a, answered := s.invoked("next")
	t, _, counted := s.counted("counted", "a")
	switch {
	case s.silent("spin") != "" || s.calls["spin"].Good():
		return s.fail(reasonNotStopped, observed)
	case !trapped || p.Class != "fuel":
		return s.fail(reasonWrongClass, observed)
	case p.Instance == "":
		return s.fail(reasonUnnamed, observed)
	case !answered || !s.returned("next", "42"):
		return s.fail(reasonNotServed, observed)
	case a.Instance == p.Instance:
		return s.fail(reasonReused, observed)
	case !counted || t.Running != 0 || t.Traps["fuel"] < 1:
		return s.fail(reasonNotCounted, fmt.Sprintf("%s; %d run, traps %v", observed, t.Running, t.Traps))
	}
	return s.pass(observed)
}

const (
	reasonNotSame = "not-the-same" // the same call used other units
	sameCalls     = 10
)

var _ = add(suites.Check{
	ID: "sandbox/quota/fuel-deterministic", Title: "the same call uses the same units of fuel", Covers: []string{"sandbox/quota/fuel-deterministic"},
	Reasons: []string{reasonNotSame, reasonWrongResult, reasonNotCounted},
	Drive: driving(func(ctx context.Context, b *bench) error {
		tenant, err := b.serve(ctx, "a", scenario.Pro, "fib")
		if err == nil {
			err = b.publish(ctx, tenant, "again", wasm.Module("fib"))
		}
		var calls []corpusCall
		for range sameCalls {
			calls = append(calls, gives("fib", "610", "15"))
		}
		for _, m := range []string{"fib", "again"} {
			if err == nil {
				err = b.series(ctx, m, tenant, m, calls)
			}
		}
		return ends(err)
	}),
	Judge: judging("20 calls of fib(15), in two modules of the same bytes, use the same units", func(_ suites.Trace, s *story) suites.Finding {
		units := map[int64]int{}
		for _, m := range []string{"fib", "again"} {
			if len(s.series[m].Each) != sameCalls {
				return s.fail(reasonNoAnswer, fmt.Sprintf("%d calls of %s were answered", len(s.series[m].Each), m))
			}
			for _, x := range s.series[m].Each {
				if x.Status == 0 {
					return s.fail(reasonNoAnswer, x.Broken)
				}
				if x.Result() != "610" {
					return s.fail(reasonWrongResult, told1(x))
				}
				units[x.Fuel]++
			}
		}
		observed := fmt.Sprintf("units and how often: %v", units)
		switch {
		case units[0] > 0:
			return s.fail(reasonNotCounted, observed)
		case len(units) != 1:
			return s.fail(reasonNotSame, observed)
		}
		return s.pass(observed)
	}),
	Kills: kill(reasonNotSame, "sandbox.fuel-random"),
})

var _ = add(refusedRow{[]refusedCase{
	{id: "fuel-index", title: "global.set of the index that the rewriter's global gets", code: guest("forged-fuel"), steps: []string{"validation"}, function: "forge"},
	{id: "depth-index", title: "likewise for the second global", code: guest("forged-depth"), steps: []string{"validation"}, function: "forge"},
	{id: "export", title: "an export by the reserved name", code: guest("forged-export"), steps: []string{"structure"}, words: []string{"__assay_fuel"}},
	{id: "import", title: "an import of the meter's own function", code: guest("forged-import"), steps: []string{"structure"}, function: "run"},
}}.check(suites.Check{
	ID: "sandbox/quota/fuel-unforgeable", Title: "a guest can not reach its fuel or its depth", Covers: []string{"sandbox/quota/fuel-unforgeable"},
	Kills: killIn("fuel-index", reasonTaken, "sandbox.fuel-forgeable"),
}))

// startBound is how long the refusal of an endless start function may take: 16 times the quota, since it
// is time of the wall.
const startBound = 800 * ms

var startCases = map[string]struct{ guest, want string }{
	"endless": {guest: "start-endless"},
	"small":   {guest: "start-small", want: "7"},
	"slow":    {guest: "slow-start", want: "-1605196760"},
}

var _ = add(suites.Check{
	ID: "sandbox/quota/start-function", Title: "start functions run under fuel", Covers: []string{"sandbox/quota/start-function"},
	Cases: []suites.Case{
		{ID: "endless", Title: "an endless start function is refused in time"},
		{ID: "small", Title: "a small one has run before the first call"},
		{ID: "slow", Title: "one of some milliseconds has, too"},
	},
	Cost:    suites.Cost{Time: 300 * ms, Exclusive: true}, // the time of a refusal is judged
	Reasons: []string{reasonTaken, reasonNotStopped, reasonWrongStatus, reasonWrongStep, reasonWrongResult},
	Drive: driving(func(ctx context.Context, b *bench) error {
		k := startCases[b.env.Key.Case]
		tenant, err := b.tenant(ctx, "a", scenario.Free)
		if err != nil {
			return ends(err)
		}
		u, err := b.signed(tenant, module, wasm.Module(k.guest))
		if err != nil {
			return err
		}
		c, err := b.try(ctx, "upload", u)
		if err == nil && c.Good() && k.want != "" {
			_, err = b.invoke(ctx, "get", tenant, module, "get")
		}
		return ends(err)
	}),
	Judge: judging("an endless start function is refused at instantiate within 800 ms, others have run before the first call", judgeStart),
	Kills: killIn("endless", reasonNotStopped, "sandbox.start-unmetered"),
})

func judgeStart(t suites.Trace, s *story) suites.Finding {
	k, known := startCases[t.Key.Case]
	observed := s.tale("upload", "get")
	c := s.calls["upload"]
	switch {
	case !known:
		return s.fail(reasonNotSet, "no case "+t.Key.Case)
	case k.want != "":
		if !s.returned("get", k.want) {
			return s.fail(reasonWrongResult, observed)
		}
		return s.pass(observed)
	case !c.Answered():
		return s.fail(reasonNotStopped, observed)
	case c.Good():
		return s.fail(reasonTaken, observed)
	}
	observed += fmt.Sprintf("; after %s", c.Took.Round(ms))
	switch t.Within(c.Took, 0, startBound) {
	case suites.TooLate:
		return s.fail(reasonNotStopped, observed)
	case suites.Unsure:
		return s.noisy(observed)
	}
	reason := refusedCase{steps: []string{"instantiate"}}.refusal(c)
	if reason == reasonUnnamed {
		reason = reasonWrongStep
	}
	out := s.verdict(reason, observed)
	out.Figures = []results.Figure{{Name: "time to refuse an endless start function", Value: c.Took.Seconds(), Unit: "seconds"}}
	return out
}
