package router

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/assay-bench/assay/fixtures/routes"
	"github.com/assay-bench/assay/results"
	scenario "github.com/assay-bench/assay/scenarios/router"
	"github.com/assay-bench/assay/suites"
)

const played results.Kind = "router-played"

// Sizes of the scenarios. They are those of a check that runs on every change, and short: what they give is no LoadGen
// result. `assay cost loadgen` plays them at full length.
const (
	singleQueries  = 300
	multiQueries   = 60
	serverRate     = 150.0
	serverTime     = 1500 * time.Millisecond
	serverBound    = 80 * time.Millisecond // of p99
	offlineSamples = 1024
	serverAttempts = 3 // while p99 is above its bound
)

// play records a scenario that was played.
func (b *bench) play(x scenario.Played, err error) error {
	return first(err, b.record(played, x))
}

// server plays Poisson arrivals in an open loop: latency counts from the intended send time. A p99 above the bound is played
// again: a host that takes the target's processor once is not seen again, a router with a tail is.
func (b *bench) server(ctx context.Context, texts []string) error {
	for range serverAttempts {
		x, err := b.Serve(ctx, scenario.Serve{Rate: serverRate, Duration: serverTime, Bound: serverBound, Seed: b.env.Rand.Uint64()}, texts)
		if err := b.play(x, err); err != nil || x.Failed > 0 || x.P99 <= serverBound {
			return err
		}
	}
	return nil
}

const reasonTail = "tail" // p99 of Server is above its bound

var _ = add(suites.Check{
	ID: "router/perf/scenarios", Title: "LoadGen's scenarios over decide, short: SingleStream, MultiStream, Server, Offline",
	Cost:    suites.Cost{Time: 3500 * time.Millisecond, Exclusive: true},
	Kills:   kill(reasonTail, "router.stalls"),
	Reasons: []string{reasonMissing, reasonLost, reasonTail},
	Drive: driving(func(ctx context.Context, b *bench) error {
		c, err := b.learned(ctx)
		if err != nil {
			return err
		}
		texts := unseenTexts(c)
		return first(
			b.play(b.Stream(ctx, scenario.SingleStream, scenario.Streams{Queries: singleQueries}, 1, texts)),
			b.play(b.Stream(ctx, scenario.MultiStream, scenario.Streams{Queries: multiQueries}, scenario.MultiSamples, texts)),
			b.play(b.Offline(ctx, offlineSamples, texts)),
			b.server(ctx, texts),
		)
	}),
	Judge: judging("each is played without a lost query; p99 of Server, from the intended send time, is at most 80 ms in one of three attempts", func(t suites.Trace, s *story) suites.Finding { return judgePlayed(t, s) }),
})

// unseenTexts are those that no policy was learned from.
func unseenTexts(c routes.Corpus) (out []string) {
	for _, r := range c.Routes {
		out = append(out, r.Validation...)
		out = append(out, r.Test...)
	}
	return append(out, c.Test...)
}

func judgePlayed(t suites.Trace, s *story) suites.Finding {
	all, attempts := map[string]scenario.Played{}, map[string]int{}
	for _, e := range s.rest {
		var x scenario.Played
		if e.Kind != played || e.Decode(&x) != nil {
			continue
		}
		attempts[x.Scenario]++
		if was, ok := all[x.Scenario]; !ok || x.Failed > 0 || x.P99 < was.P99 {
			all[x.Scenario] = x
		}
	}
	var parts []string
	var figures []results.Figure
	for _, name := range []string{scenario.SingleStream, scenario.MultiStream, scenario.Server, scenario.Offline} {
		x, ok := all[name]
		parts = append(parts, fmt.Sprintf("%s: %d samples in %s, %.0f a second, p50 %s, p90 %s, p99 %s", name, x.N, x.Duration.Round(time.Millisecond), x.Rate,
			x.P50.Round(time.Microsecond), x.P90.Round(time.Microsecond), x.P99.Round(time.Microsecond))+stopped(x))
		observed := strings.Join(parts, "; ")
		switch {
		case !ok || x.N == 0:
			return s.fail(reasonMissing, name+" was not played: "+x.Broken)
		case x.Failed > 0:
			return s.fail(reasonLost, fmt.Sprintf("%s; %d failed: %s", observed, x.Failed, x.Broken))
		}
		figures = append(figures, results.Figure{Name: name + " p50", Value: x.P50.Seconds(), Unit: "seconds"}, results.Figure{Name: name + " p90", Value: x.P90.Seconds(), Unit: "seconds"},
			results.Figure{Name: name + " p99", Value: x.P99.Seconds(), Unit: "seconds"}, results.Figure{Name: name + " rate", Value: x.Rate, Unit: "per second"},
			results.Figure{Name: name + " samples", Value: float64(x.N)})
		for _, e := range x.Early {
			if e.Estimate > 0 {
				figures = append(figures, results.Figure{Name: fmt.Sprintf("%s p%.0f by early stopping", name, 100*e.Percentile), Value: e.Estimate.Seconds(), Unit: "seconds"})
			}
		}
	}
	x, observed := all[scenario.Server], strings.Join(parts, "; ")
	if n := attempts[scenario.Server]; n > 1 {
		observed += fmt.Sprintf("; Server is the best of %d attempts", n)
	}
	observed += fmt.Sprintf("; the generator was late by %s at p99", x.Late.Round(time.Microsecond))
	switch {
	case x.P99 <= serverBound: // a late generator makes it greater, never less
		return s.pass(observed, figures...)
	case x.Service > serverBound && t.Stall < serverBound/2, x.Valid && !t.Noisy(serverBound):
		return s.fail(reasonTail, observed)
	}
	return s.noisy(observed)
}

// stopped says what early stopping makes of a scenario of this length.
func stopped(x scenario.Played) (out string) {
	for _, e := range x.Early {
		p := strconv.FormatFloat(100*e.Percentile, 'g', 4, 64)
		if e.Estimate == 0 {
			out += fmt.Sprintf(", no p%s by early stopping below %d queries", p, e.Least)
		} else {
			out += fmt.Sprintf(", p%s by early stopping %s (%d discarded)", p, e.Estimate.Round(time.Microsecond), e.Discard)
		}
	}
	if x.Needed > 0 {
		out += fmt.Sprintf(", %d over the bound: %d more queries under it would be needed", x.Over, x.Needed)
	}
	return out
}

// apartTexts is how many texts the two passes have.
const apartTexts = 96

var _ = add(suites.Check{
	ID: "router/perf/accuracy-apart", Title: "what is measured for speed is what is measured for accuracy", Cost: suites.Cost{Time: 1200 * time.Millisecond, Exclusive: true},
	Kills:   kill(reasonOther, "router.measures-other"),
	Reasons: []string{reasonMissing, reasonOther, reasonUnlike, reasonLost},
	Drive: driving(func(ctx context.Context, b *bench) error {
		c, err := b.learned(ctx)
		if err != nil {
			return err
		}
		texts := inScope(c, func(r routes.Route) []string { return r.Validation })[:apartTexts]
		return first(
			b.label(ctx, "accuracy", texts),
			b.label(ctx, "performance", slices.Concat(texts, texts, texts, texts)),
			func() error {
				_, err := b.own(ctx, "measured", http.MethodPost, "/measure", scenario.MeasureOrder{Samples: 2000}, nil)
				return err
			}(),
		)
	}),
	Judge: judging("decisions of both passes and the measurement name the same model and engine, and the policies are equal", func(_ suites.Trace, s *story) suites.Finding {
		all := s.labels()
		slow, fast := all["accuracy"], all["performance"]
		m, ok := read[scenario.Measured](s, "measured")
		if !ok || len(slow.Each) != apartTexts || len(fast.Each) != 4*apartTexts {
			return s.fail(reasonMissing, fmt.Sprintf("%d and %d decisions; %s", len(slow.Each), len(fast.Each), s.describe("measured")))
		}
		observed := fmt.Sprintf("accuracy: %s by %s; performance: %s by %s; measurement: %s by %s", slow.Model, slow.Engine, fast.Model, fast.Engine, m.Model, m.Engine)
		if slow.Model != fast.Model || slow.Model != m.Model || slow.Engine != fast.Engine || slow.Engine != m.Engine || slow.Model == "" {
			return s.fail(reasonOther, observed)
		}
		for i, j := range fast.Each {
			if j != slow.Each[i%apartTexts] {
				return s.fail(reasonUnlike, fmt.Sprintf("text %d: %q of cosine %.6f, under load %q of %.6f", i%apartTexts, slow.Each[i%apartTexts].Policy, slow.Each[i%apartTexts].Top, j.Policy, j.Top))
			}
		}
		return s.pass(observed)
	}),
})
