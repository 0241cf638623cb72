package router

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/assay-bench/assay/results"
	scenario "github.com/assay-bench/assay/scenarios/router"
	"github.com/assay-bench/assay/suites"
)

// Stream is the evidence of a stream of requests whose kinds drift, decided by two routers of which one gets
// feedback. An entry is a request: which policy was right, and what each router chose.
type Stream struct {
	Each []Drifted `json:"each"`
}

// Drifted is one request of it.
type Drifted struct {
	Right  string `json:"right"`
	Frozen string `json:"frozen"`
	Live   string `json:"live"`
}

const streamed results.Kind = "router-stream"

const (
	reasonNoGain = "no-gain" // feedback does not help under drift
	reasonNoBite = "no-bite" // the frozen router does not lose: the case shows nothing
)

// Bounds of the stream: requests, how many between two batches of feedback, and how far the kinds turn.
const (
	streamLength = 480
	streamBatch  = 16
	streamTurn   = 54.0 // degrees
)

// drifted is a request of kind x or y at a time from 0 to 1: both kinds turn the same way, in the plane of the
// two prototypes, with a little noise beside it.
func drifted(kind string, at, noise float64, place int) []float64 {
	angle := streamTurn * at
	if kind == "y" {
		angle += 90
	}
	sin, cos := math.Sincos(angle * math.Pi / 180)
	return axis(0, cos, 1, sin, float64(place), noise)
}

var _ = add(suites.Check{
	ID: "router/feedback/improves", Title: "honest feedback helps when requests drift", Cost: took(900 * time.Millisecond),
	Kills:   kill(reasonNoGain, "router.feedback-dropped"),
	Reasons: []string{reasonMissing, reasonNoGain, reasonNoBite},
	Drive:   driving(driveStream),
	Judge: judging("the cumulative regret with feedback is below the frozen router's; the 95 % interval of the difference excludes 0",
		func(_ suites.Trace, s *story) suites.Finding { return judgeStream(s) }),
})

func driveStream(ctx context.Context, b *bench) error {
	if err := b.prototypes(ctx, generous()); err != nil {
		return err
	}
	frozen := &bench{scenario.NewAPI(b.env), b.env}
	defer func() { _ = frozen.Close(ctx) }() // that it is gone, or stays, changes nothing
	if err := frozen.prototypes(ctx, generous()); err != nil {
		return err
	}
	var all Stream
	for i := 0; i < streamLength; i += streamBatch {
		var qs []scenario.DecideRequest
		var right []string
		for k := range streamBatch {
			kind := []string{"x", "y"}[b.env.Rand.IntN(2)]
			v := drifted(kind, float64(i+k)/streamLength, 0.2*b.env.Rand.NormFloat64(), 10+b.env.Rand.IntN(100))
			qs, right = append(qs, scenario.DecideRequest{Vector: v}), append(right, kind)
		}
		live, err := b.decideAll(ctx, "", qs...)
		still, err1 := frozen.decideAll(ctx, "", qs...)
		if err := first(err, err1); err != nil {
			return err
		}
		var events []scenario.FeedbackEvent
		for k, d := range live {
			if k >= len(still) || k >= len(right) {
				break
			}
			all.Each = append(all.Each, Drifted{right[k], still[k].Policy, d.Policy})
			if d.Policy != right[k] {
				events = append(events, scenario.FeedbackEvent{Decision: d.Decision, Outcome: scenario.Rejected, Source: "users"})
			}
			events = append(events, scenario.FeedbackEvent{Decision: d.Decision, Outcome: scenario.Confirmed, Policy: right[k], Source: "users"})
		}
		if _, err := b.feedback(ctx, "", events...); err != nil {
			return err
		}
	}
	return b.record(streamed, all)
}

func judgeStream(s *story) suites.Finding {
	all, ok := the[Stream](s, streamed)
	if !ok || len(all.Each) != streamLength {
		return s.fail(reasonMissing, fmt.Sprintf("%d of %d requests were decided by both", len(all.Each), streamLength))
	}
	var frozen, live, better, worse int
	for _, d := range all.Each {
		f, l := d.Frozen != d.Right, d.Live != d.Right
		frozen, live = frozen+one(f), live+one(l)
		better, worse = better+one(f && !l), worse+one(l && !f)
	}
	// the paired difference of two proportions, with its normal interval
	n := float64(len(all.Each))
	diff := float64(better-worse) / n
	half := 1.96 * math.Sqrt(float64(better+worse)-float64(better-worse)*float64(better-worse)/n) / n
	observed := fmt.Sprintf("regret after %d requests: %d frozen, %d with feedback; difference %.1f ± %.1f points", len(all.Each), frozen, live, 100*diff, 100*half)
	switch {
	case diff-half <= 0:
		return s.fail(reasonNoGain, observed)
	case frozen < streamLength/20:
		return s.fail(reasonNoBite, observed)
	}
	out := s.pass(observed, append(curve("regret frozen", all, func(d Drifted) bool { return d.Frozen != d.Right }),
		curve("regret with feedback", all, func(d Drifted) bool { return d.Live != d.Right })...)...)
	return out
}

func one(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// curve are the cumulative counts at eight points of the stream.
func curve(name string, all Stream, wrong func(Drifted) bool) (out []results.Figure) {
	sum, every := 0, len(all.Each)/8
	for i, d := range all.Each {
		sum += one(wrong(d))
		if (i+1)%every == 0 {
			out = append(out, results.Figure{Name: fmt.Sprintf("%s after %d", name, i+1), Value: float64(sum)})
		}
	}
	return out
}

const reasonPoisoned = "poisoned" // hostile feedback costs more than a point of guard accuracy

// Poison are the shares of hostile feedback.
const (
	poisonEvents  = 400
	poisonHostile = 20 // 5 %
)

// Guarded is the evidence of a router's guard accuracy before and after feedback.
type Guarded struct {
	Name   string  `json:"name"`
	Before float64 `json:"before"` // points
	After  float64 `json:"after"`
	Taken  int     `json:"taken"` // texts of the attacked kind that go where the adversary wants, of
	Of     int     `json:"of"`    // as many
	Broken string  `json:"broken,omitempty"`
}

const guarded results.Kind = "router-guarded"

// What the two bounds of feedback are where they do not bind: no two unit vectors are farther apart.
const (
	noClip = 2
	noCap  = 180
)

// defences are the bounds of feedback, each with the other one off: together one of them could be missing unseen,
// because the other holds. Without both the attack must succeed.
var defences = []struct {
	name        string
	clip, limit float64
}{{"clip", clipNorm, noCap}, {"cap", noClip, capDegrees}, {"open", noClip, noCap}}

var _ = add(suites.Check{
	ID: "router/feedback/poisoning", Title: "five in a hundred hostile events cost no point of guard accuracy, by the clip alone and by the cap alone", Cost: took(1800 * time.Millisecond),
	Kills:   kill(reasonPoisoned, "router.feedback-unbounded", "router.feedback-unclipped", "router.feedback-capless"),
	Reasons: []string{reasonMissing, reasonPoisoned, reasonNoBite},
	Drive: driving(func(ctx context.Context, b *bench) error {
		for _, d := range defences {
			f := generous()
			f.Clip, f.CapDegrees = d.clip, d.limit
			attacked := &bench{scenario.NewAPI(b.env), b.env}
			err := attacked.poison(ctx, d.name, f)
			if err = first(err, attacked.Close(ctx)); err != nil {
				return err
			}
		}
		return nil
	}),
	Judge: judging("with the clip alone, and with the cap alone, the loss is at most a point; without both the same events cost more, else the case shows nothing",
		func(_ suites.Trace, s *story) suites.Finding { return judgePoison(s) }),
})

// poison confirms what is right, then lets an adversary confirm weather texts for the policy of invoices.
func (b *bench) poison(ctx context.Context, name string, f *scenario.FeedbackSettings) error {
	if err := b.taught(ctx, scenario.Settings{Feedback: f}, scenario.RowsCentroid); err != nil {
		return err
	}
	if err := b.must(ctx, "guard", http.MethodPut, "/guard", scenario.GuardSet{Examples: append(guardTexts(), calibrationTexts()...)}, nil); err != nil {
		return err
	}
	g, err := b.measure(ctx, name)
	if err != nil || g.Broken != "" {
		return first(err, b.record(guarded, g))
	}
	honest, err := b.decideAll(ctx, "", allUnseen()...)
	var attack []scenario.DecideRequest
	for _, text := range scenario.Intents()[1].Examples {
		attack = append(attack, scenario.DecideRequest{Text: &text})
	}
	hostile, err1 := b.decideAll(ctx, "", attack...)
	if err := first(err, err1); err != nil {
		return err
	}
	var events []scenario.FeedbackEvent
	for i := range poisonEvents - poisonHostile {
		if len(honest) > 0 {
			events = append(events, scenario.FeedbackEvent{Decision: honest[i%len(honest)].Decision, Outcome: scenario.Confirmed, Source: fmt.Sprintf("user-%d", i%40)})
		}
	}
	for i := range poisonHostile {
		if len(hostile) > 0 {
			events = append(events, scenario.FeedbackEvent{Decision: hostile[i%len(hostile)].Decision, Outcome: scenario.Confirmed, Policy: scenario.Intents()[0].Name, Source: "adversary"})
		}
	}
	if _, err := b.feedback(ctx, name+" feedback", events...); err != nil {
		return err
	}
	after, err := b.measure(ctx, name)
	if err != nil {
		return err
	}
	g.After, g.Broken = after.Before, after.Broken
	now, err := b.decideAll(ctx, "", attack...)
	for _, d := range now {
		g.Of++
		g.Taken += one(d.Policy == scenario.Intents()[0].Name)
	}
	return first(err, b.record(guarded, g))
}

// measure reads the guard accuracy as the value before.
func (b *bench) measure(ctx context.Context, name string) (Guarded, error) {
	var g scenario.Guard
	c, err := b.own(ctx, "", http.MethodGet, "/guard", nil, &g)
	out := Guarded{Name: name, Before: g.Accuracy}
	if !c.Good() || g.N == 0 {
		out.Broken = answered(c)
	}
	return out, err
}

func judgePoison(s *story) suites.Finding {
	all := map[string]Guarded{}
	for _, e := range s.rest {
		var g Guarded
		if e.Kind == guarded && e.Decode(&g) == nil {
			all[g.Name] = g
		}
	}
	open := all["open"]
	var parts []string
	var figures []results.Figure
	worst, broken := "", ""
	for _, d := range defences {
		g := all[d.name]
		parts = append(parts, fmt.Sprintf("%s: guard accuracy %.1f, then %.1f, %d of %d attacked texts taken", d.name, g.Before, g.After, g.Taken, g.Of))
		figures = append(figures, results.Figure{Name: "guard accuracy lost, " + d.name, Value: g.lost()}, results.Figure{Name: "attacked texts taken, " + d.name, Value: float64(g.Taken)})
		switch {
		case g.Of == 0 || g.Broken != "":
			broken += d.name + " " + g.Broken
		case d.name == "open":
		case g.lost() > 1:
			worst = reasonPoisoned
		case open.lost() <= g.lost() && open.Taken <= g.Taken && worst == "":
			worst = reasonNoBite
		}
	}
	observed := strings.Join(parts, "; ")
	switch {
	case broken != "":
		return s.fail(reasonMissing, observed+"; "+broken)
	case worst != "":
		return s.fail(worst, observed)
	}
	return s.pass(observed, figures...)
}

// lost is the guard accuracy that an attack costs, in points.
func (g Guarded) lost() float64 { return g.Before - g.After }
