package router

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/assay-bench/assay/results"
	scenario "github.com/assay-bench/assay/scenarios/router"
	"github.com/assay-bench/assay/suites"
)

const (
	reasonFew       = "too-few"     // fewer decisions were measured than the rule asks for
	reasonUnnamed   = "unnamed"     // the measurement does not name engine and model
	reasonAllocates = "allocates"   // a decision allocates
	reasonOther     = "other-model" // what was measured is not what decides
	reasonHidden    = "hidden"      // repeats are answered without the engine, unasked and unreported
)

// Bounds of a decision within the process.
const (
	leastSamples = 10_000
	p99Bound     = time.Millisecond
	bytesBound   = 64 // a decision that allocates nothing leaves the noise of the process
)

// probeSamples are few enough to tell soon that a target is far too slow for the measurement itself.
const probeSamples = 1000

// measured learns the intents and lets the target time decisions, unless a few of them tell enough.
func measured() func(context.Context, *bench) error {
	return func(ctx context.Context, b *bench) error {
		if err := b.taught(ctx, scenario.Settings{}, scenario.RowsExamples); err != nil {
			return err
		}
		if _, err := b.decide(ctx, "decide", scenario.OfText(example(0, 0))); err != nil {
			return err
		}
		var probe scenario.Measured
		_, err := b.own(ctx, "probe", http.MethodPost, "/measure", scenario.MeasureOrder{Samples: probeSamples}, &probe)
		if err == nil && time.Duration(probe.P50Nanos) <= p99Bound {
			_, err = b.own(ctx, "measured", http.MethodPost, "/measure", scenario.MeasureOrder{Samples: leastSamples}, nil)
		}
		return err
	}
}

// measureCheck judges what the target measured of itself. Other cases would disturb it.
func measureCheck(c suites.Check, want string, own []string, judge func(suites.Trace, *story, scenario.Measured, string) suites.Finding) suites.Check {
	c.Cost = suites.Cost{Time: 900 * time.Millisecond, Exclusive: true}
	c.Reasons = append(c.Reasons, append([]string{reasonMissing, reasonFew, reasonUnnamed}, own...)...)
	c.Drive = driving(measured())
	c.Judge = judging(want, func(t suites.Trace, s *story) suites.Finding {
		m, ok := read[scenario.Measured](s, "measured")
		probe, probed := read[scenario.Measured](s, "probe")
		slow := probed && time.Duration(probe.P50Nanos) > p99Bound
		if slow {
			m, ok = probe, true
		}
		observed := fmt.Sprintf("%d decisions by %s over %d rows: p50 %s, p90 %s, p99 %s (%s to %s), at most %s; %.3f allocations and %.1f bytes each",
			m.N, m.Engine, m.Rows, ns(m.P50Nanos), ns(m.P90Nanos), ns(m.P99Nanos), ns(m.P99Low), ns(m.P99High), ns(m.MaxNanos), m.AllocsPerOp, m.BytesPerOp)
		switch {
		case !ok:
			return s.fail(reasonMissing, s.describe("measured"))
		case m.N < leastSamples && !slow:
			return s.fail(reasonFew, observed)
		case m.Engine == "" || m.Model == "" || m.P99Low <= 0 || m.P99Low > m.P99Nanos || m.P99High < m.P99Nanos:
			return s.fail(reasonUnnamed, observed)
		}
		f := judge(t, s, m, observed)
		f.Figures = append(f.Figures, measuredFigures(m)...)
		return f
	})
	return c
}

func ns(n int64) string { return time.Duration(n).Round(100 * time.Nanosecond).String() }

func measuredFigures(m scenario.Measured) []results.Figure {
	sec := func(n int64) float64 { return float64(n) / 1e9 }
	return []results.Figure{
		{Name: "decision p50", Value: sec(m.P50Nanos), Unit: "seconds"}, {Name: "decision p90", Value: sec(m.P90Nanos), Unit: "seconds"},
		{Name: "decision p99", Value: sec(m.P99Nanos), Unit: "seconds"}, {Name: "decision p99 low", Value: sec(m.P99Low), Unit: "seconds"},
		{Name: "decision p99 high", Value: sec(m.P99High), Unit: "seconds"}, {Name: "decisions", Value: float64(m.N)},
		{Name: "allocations of a decision", Value: m.AllocsPerOp},
	}
}

var _ = add(measureCheck(suites.Check{
	ID: "router/perf/decide-p99", Title: "a decision takes at most a millisecond at p99, within the process",
	Kills: kill(reasonTooSlow, "router.slow"),
}, "p99 of at least 10,000 decisions, text to policy, is at most 1 ms", []string{reasonTooSlow},
	func(t suites.Trace, s *story, m scenario.Measured, observed string) suites.Finding {
		switch {
		case time.Duration(m.P50Nanos) > p99Bound: // no stall of the host slows down every second decision
			return s.fail(reasonTooSlow, observed)
		case time.Duration(m.P99Low) <= p99Bound:
			return s.pass(observed)
		case t.Stall > p99Bound/2:
			return s.noisy(observed)
		}
		return s.fail(reasonTooSlow, observed)
	}))

var _ = add(measureCheck(suites.Check{
	ID: "router/perf/decide-allocs", Title: "a decision allocates nothing in its steady state",
	Kills: kill(reasonAllocates, "router.allocates"),
}, "less than one allocation and 64 bytes a decision: what is left is the process's own noise", []string{reasonAllocates},
	func(_ suites.Trace, s *story, m scenario.Measured, observed string) suites.Finding {
		if m.AllocsPerOp >= 0.5 || m.BytesPerOp >= bytesBound {
			return s.fail(reasonAllocates, observed)
		}
		return s.pass(observed)
	}))

// asks is how often the same text is decided where every one has to reach the engine.
const asks = 40

var _ = add(suites.Check{
	ID: "router/perf/no-cache-gaming", Title: "repeats are not answered out of a cache that nobody asked for", Cost: suites.Cost{Time: 900 * time.Millisecond, Exclusive: true},
	Kills:   kill(reasonHidden, "router.cache-hidden"),
	Reasons: []string{reasonMissing, reasonHidden},
	Drive: driving(func(ctx context.Context, b *bench) error {
		if err := b.taught(ctx, scenario.Settings{}, scenario.RowsExamples); err != nil {
			return err
		}
		if _, err := b.stats(ctx, "stats 0"); err != nil {
			return err
		}
		for range asks {
			if _, err := b.decide(ctx, "repeat", scenario.OfText(example(1, 4))); err != nil {
				return err
			}
		}
		if _, err := b.stats(ctx, "stats 1"); err != nil {
			return err
		}
		var fresh []string
		for i := range 2048 {
			fresh = append(fresh, fmt.Sprintf("request %d: %s or %s", i, example(i%upstreamsOf, i), example((i+1)%upstreamsOf, i/7)))
		}
		if _, err := b.own(ctx, "fresh", http.MethodPost, "/measure", scenario.MeasureOrder{Samples: len(fresh), Texts: fresh}, nil); err != nil {
			return err
		}
		_, err := b.own(ctx, "repeated", http.MethodPost, "/measure", scenario.MeasureOrder{Samples: len(fresh), Texts: fresh[:1]}, nil)
		return err
	}),
	Judge: judging("40 decisions on one text are 40 calls of the engine, none is called cached; the ratio of repeated to unseen texts is printed", func(_ suites.Trace, s *story) suites.Finding {
		before, ok := read[scenario.RouterStats](s, "stats 0")
		after, ok1 := read[scenario.RouterStats](s, "stats 1")
		fresh, ok2 := read[scenario.Measured](s, "fresh")
		repeated, ok3 := read[scenario.Measured](s, "repeated")
		if !ok || !ok1 || !ok2 || !ok3 || fresh.P50Nanos == 0 {
			return s.fail(reasonMissing, s.describe("fresh")+"; "+s.describe("repeated"))
		}
		calls, ratio := after.EngineCalls-before.EngineCalls, float64(repeated.P50Nanos)/float64(fresh.P50Nanos)
		observed := fmt.Sprintf("%d calls of the engine for %d decisions; p50 %s repeated, %s unseen, ratio %.2f; %d and %d hits of the cache",
			calls, asks, ns(repeated.P50Nanos), ns(fresh.P50Nanos), ratio, repeated.CacheHits, fresh.CacheHits)
		if calls != asks || repeated.CacheHits+fresh.CacheHits > 0 {
			return s.fail(reasonHidden, observed)
		}
		return s.pass(observed, results.Figure{Name: "repeated ÷ unseen", Value: ratio, Unit: "ratio"})
	}),
})
