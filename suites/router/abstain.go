package router

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"time"

	scenario "github.com/assay-bench/assay/scenarios/router"
	"github.com/assay-bench/assay/suites"
)

const (
	reasonDecided   = "decided"   // what had to abstain was decided
	reasonAbstained = "abstained" // what had to be decided was not
	reasonUnsourced = "unsourced" // the threshold does not say where it comes from
	reasonQuantile  = "quantile"  // it is not the quantile of the split
	reasonFallback  = "fallback"  // an abstention did not go to the fallback
)

// calibrationTexts are those of the split that a threshold is taken from.
func calibrationTexts() (out []scenario.Example) {
	for _, in := range scenario.Intents() {
		for _, text := range in.Unseen {
			out = append(out, scenario.Example{Text: text, Policy: in.Name})
		}
	}
	return out
}

const quantile = 0.25

var _ = add(apiRow(suites.Check{
	ID: "router/abstain/threshold-source", Title: "the threshold is a quantile of a named split and moves with nothing else", Cost: took(200 * time.Millisecond),
	Kills: kills(kill(reasonUnsourced, "router.threshold-unsourced"), kill(reasonMoved, "router.threshold-moves"), kill(reasonQuantile, "router.quantile-wrong")),
}, "value, split, quantile, number and digest are told; the value is the quantile of the greatest cosines of the split, also after other texts were decided",
	[]string{reasonMissing, reasonUnsourced, reasonMoved, reasonQuantile},
	apiCase{drive: func(ctx context.Context, b *bench) error {
		if err := b.taught(ctx, scenario.Settings{}, scenario.RowsExamples); err != nil {
			return err
		}
		var qs, others []scenario.DecideRequest
		for _, x := range calibrationTexts() {
			qs = append(qs, scenario.OfText(x.Text))
		}
		for i := range 40 {
			others = append(others, scenario.OfText(fmt.Sprintf("the weather of day %d, a refund and a compiler", i)))
		}
		_, err := b.decideAll(ctx, "split", qs...)
		if err == nil {
			_, err = b.own(ctx, "calibrate", http.MethodPost, "/calibrate", scenario.Calibration{Split: "validation", Quantile: quantile, Examples: calibrationTexts()}, nil)
		}
		if err == nil {
			_, err = b.decideAll(ctx, "others", others...)
		}
		if err == nil {
			_, err = b.state(ctx, "state")
		}
		return err
	}, wrong: func(s *story) (string, string) {
		all, ok := read[scenario.Decisions](s, "split")
		c, ok1 := read[scenario.Calibrated](s, "calibrate")
		st, ok2 := read[scenario.State](s, "state")
		others, ok3 := read[scenario.Decisions](s, "others")
		n := len(calibrationTexts())
		if !ok || !ok1 || !ok2 || !ok3 || len(all.Decisions) != n || len(others.Decisions) == 0 {
			return reasonMissing, s.describe("split") + "; " + s.describe("calibrate")
		}
		var tops []float64
		for _, d := range all.Decisions {
			tops = append(tops, d.TopCosine)
		}
		slices.Sort(tops)
		want := tops[int(math.Floor(quantile*float64(n)))]
		x, last := c.Threshold, others.Decisions[len(others.Decisions)-1].Threshold
		observed := fmt.Sprintf("threshold %.6f of split %q, quantile %g, n %d; computed %.6f; later %.6f and %.6f", x.Value, x.Split, x.Quantile, x.N, want, st.Threshold.Value, last.Value)
		switch {
		case x.Split != "validation" || x.Quantile != quantile || x.N != n || x.Digest == "" || st.Threshold.Split != x.Split || last.Split != x.Split || last.Quantile != x.Quantile:
			return reasonUnsourced, observed
		case !near(x.Value, want):
			return reasonQuantile, observed
		case st.Threshold != x || last.Value != x.Value:
			return reasonMoved, observed
		}
		return "", observed
	}},
))

// lone is a table with one policy far from a vector and one near it, with a fallback.
func lone(ctx context.Context, b *bench, s scenario.Settings) error {
	s.Fallback, s.K = "other", 64
	if err := b.router(ctx, s); err != nil {
		return err
	}
	return b.policies(ctx, "policies", map[string]scenario.Policy{
		"first": {Vectors: [][]float64{axis(0, 1)}}, "second": {Vectors: [][]float64{axis(1, 1)}}, "other": {Vectors: [][]float64{axis(2, 1)}},
	})
}

// abstention reads a decision that must abstain for a reason, and go to the fallback.
func (s *story) abstention(name, why string) (reason, observed string) {
	d, ok := read[scenario.Decision](s, name)
	observed = fmt.Sprintf("%s, policy %q, abstained %v, reason %q, top cosine %.3f, margin %.3f", s.describe(name), d.Policy, d.Abstained, d.Reason, d.TopCosine, d.Margin)
	switch {
	case !ok:
		return reasonMissing, observed
	case !d.Abstained || d.Reason != why:
		return reasonDecided, observed
	case d.Policy != "other":
		return reasonFallback, observed
	}
	return "", observed
}

// chosen reads a decision that must not abstain.
func (s *story) chosen(name, policy string) (reason, observed string) {
	d, ok := read[scenario.Decision](s, name)
	observed = fmt.Sprintf("%s, policy %q, abstained %v, reason %q, top cosine %.3f, margin %.3f", s.describe(name), d.Policy, d.Abstained, d.Reason, d.TopCosine, d.Margin)
	switch {
	case !ok:
		return reasonMissing, observed
	case d.Abstained:
		return reasonAbstained, observed
	case d.Policy != policy:
		return reasonWrongPolicy, observed
	}
	return "", observed
}

var _ = add(apiRow(suites.Check{
	ID: "router/abstain/threshold", Title: "a text whose greatest cosine is below the threshold abstains",
	Kills: kill(reasonDecided, "router.threshold-ignored"),
}, "just below it abstains, just above it decides", []string{reasonMissing, reasonDecided, reasonAbstained, reasonFallback, reasonWrongPolicy},
	apiCase{drive: func(ctx context.Context, b *bench) error {
		threshold := 0.5
		if err := lone(ctx, b, scenario.Settings{Threshold: &threshold}); err != nil {
			return err
		}
		cosines := map[string]float64{"above": 0.51, "below": 0.49}
		for _, name := range sortedKeys(cosines) {
			c := cosines[name]
			if _, err := b.decide(ctx, name, scenario.OfVector(axis(0, c, 9, math.Sqrt(1-c*c)))); err != nil {
				return err
			}
		}
		return nil
	}, wrong: func(s *story) (string, string) {
		reason, observed := s.abstention("below", "below-threshold")
		if reason != "" {
			return reason, observed
		}
		reason, also := s.chosen("above", "first")
		return reason, observed + "; " + also
	}},
))

var _ = add(apiRow(suites.Check{
	ID: "router/abstain/margin", Title: "two policies that are nearly equal abstain under the margin rule",
	Kills: kill(reasonDecided, "router.margin-ignored"),
}, "a vector between two rows abstains with a minimum margin and is decided without", []string{reasonMissing, reasonDecided, reasonAbstained, reasonFallback, reasonWrongPolicy},
	apiCase{id: "between", title: "minimum 0.1: a vector between two rows", drive: marginDrive(0.1, 1, 0.98), wrong: func(s *story) (string, string) { return s.abstention("decide", "margin") }},
	apiCase{id: "apart", title: "minimum 0.1: a vector that one row is nearer to", drive: marginDrive(0.1, 1, 0.5), wrong: func(s *story) (string, string) { return s.chosen("decide", "first") }},
	apiCase{id: "none", title: "no minimum: a vector between two rows", drive: marginDrive(0, 1, 0.98), wrong: func(s *story) (string, string) { return s.chosen("decide", "first") }},
))

func marginDrive(least, x, y float64) func(context.Context, *bench) error {
	return func(ctx context.Context, b *bench) error {
		if err := lone(ctx, b, scenario.Settings{Margin: least}); err != nil {
			return err
		}
		_, err := b.decide(ctx, "decide", scenario.OfVector(axis(0, x, 1, y)))
		return err
	}
}

var _ = add(apiRow(suites.Check{
	ID: "router/abstain/fallback", Title: "abstentions go to the fallback and are counted",
	Kills: kills(kill(reasonFallback, "router.fallback-ignored"), kill(reasonNotCounted, "router.fallback-uncounted")),
}, "each abstention answers the fallback policy; the counters by reason and of fallbacks grow by as many", []string{reasonMissing, reasonDecided, reasonFallback, reasonNotCounted},
	apiCase{drive: func(ctx context.Context, b *bench) error {
		threshold := 0.5
		if err := lone(ctx, b, scenario.Settings{Threshold: &threshold}); err != nil {
			return err
		}
		if _, err := b.decide(ctx, "low", scenario.OfVector(axis(9, 1))); err != nil {
			return err
		}
		if _, err := b.decide(ctx, "low 2", scenario.OfVector(axis(10, 1))); err != nil {
			return err
		}
		if _, err := b.decide(ctx, "unknown", scenario.OfText(featureless()[2])); err != nil {
			return err
		}
		if _, err := b.decide(ctx, "fine", scenario.OfVector(axis(0, 1))); err != nil {
			return err
		}
		_, err := b.stats(ctx, "stats")
		return err
	}, wrong: func(s *story) (string, string) {
		whys := map[string]string{"low": "below-threshold", "low 2": "below-threshold", "unknown": "unknown-text"}
		for _, name := range sortedKeys(whys) {
			if reason, observed := s.abstention(name, whys[name]); reason != "" {
				return reason, observed
			}
		}
		st, ok := read[scenario.RouterStats](s, "stats")
		observed := fmt.Sprintf("abstained %v, fallbacks %d, decisions %d", st.Abstained, st.Fallbacks, st.Decisions)
		switch {
		case !ok:
			return reasonMissing, s.describe("stats")
		case st.Abstained["below-threshold"] != 2 || st.Abstained["unknown-text"] != 1 || st.Fallbacks != 3 || st.Decisions != 4:
			return reasonNotCounted, observed
		}
		return "", observed
	}},
))
