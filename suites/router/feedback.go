package router

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/assay-bench/assay/results"
	scenario "github.com/assay-bench/assay/scenarios/router"
	"github.com/assay-bench/assay/suites"
)

const (
	reasonUnmoved    = "unmoved"     // feedback that has to be applied changes nothing
	reasonTooFar     = "too-far"     // an event, or many, moved a prototype beyond the bound
	reasonWrongWay   = "wrong-way"   // a row moved away from where it belongs
	reasonInexact    = "inexact"     // the row is not what the update gives
	reasonApplied    = "applied"     // feedback that must not be applied was
	reasonNotLimited = "not-limited" // a source is not limited
)

// generous are settings of feedback under which no source is ever limited.
func generous() *scenario.FeedbackSettings {
	return &scenario.FeedbackSettings{RatePerMinute: 1_000_000, Share: 1, GuardLoss: 100}
}

// Defaults of a router's feedback.
const (
	eta        = 0.05
	clipNorm   = 0.1
	capDegrees = 15
)

// prototypes is a router with three policies of one row each, on the first axes.
func (b *bench) prototypes(ctx context.Context, f *scenario.FeedbackSettings) error {
	if err := b.router(ctx, scenario.Settings{Feedback: f}); err != nil {
		return err
	}
	return b.policies(ctx, "policies", map[string]scenario.Policy{
		"x": {Vectors: [][]float64{axis(0, 1)}}, "y": {Vectors: [][]float64{axis(1, 1)}}, "z": {Vectors: [][]float64{axis(2, 1)}},
	})
}

func (b *bench) policy(ctx context.Context, name, id string) error {
	_, err := b.own(ctx, name, http.MethodGet, "/policies/"+id, nil, nil)
	return err
}

// nudge is one event on policy x: its outcome and the vector of the decision that it names.
func nudge(outcome string, u []float64) func(context.Context, *bench) error {
	return func(ctx context.Context, b *bench) error {
		if err := b.prototypes(ctx, generous()); err != nil {
			return err
		}
		if err := b.policy(ctx, "before", "x"); err != nil {
			return err
		}
		d, err := b.decide(ctx, "decide", scenario.OfVector(u))
		if err == nil {
			_, err = b.feedback(ctx, "feedback", scenario.FeedbackEvent{Decision: d.Decision, Outcome: outcome, Policy: "x", Source: "honest"})
		}
		if err == nil {
			err = b.policy(ctx, "after", "x")
		}
		return err
	}
}

// judgeNudge recomputes the update of a nudge.
func judgeNudge(outcome string, u []float64) func(*story) (string, string) {
	return func(s *story) (string, string) {
		before, ok := read[scenario.PolicyState](s, "before")
		after, ok1 := read[scenario.PolicyState](s, "after")
		answer, ok2 := read[scenario.FeedbackAnswer](s, "feedback")
		if !ok || !ok1 || !ok2 || len(before.Rows) != 1 || len(after.Rows) != 1 || len(answer.Results) != 1 {
			return reasonMissing, s.describe("before") + "; " + s.describe("feedback") + "; " + s.describe("after")
		}
		p, q := before.Rows[0].Vector, after.Rows[0].Vector
		sign := map[string]float64{scenario.Confirmed: 1, scenario.Rejected: -1}[outcome]
		want := step(p, u, sign, eta, clipNorm)
		moved, bound := degrees(p, q), math.Asin(eta*clipNorm)*180/math.Pi
		observed := fmt.Sprintf("the row moved by %.4f degrees, at most %.4f; from %.4f to %.4f degrees off the vector", moved, bound, degrees(p, u), degrees(q, u))
		switch {
		case len(p) != scenario.Dimension || len(q) != scenario.Dimension || !finite(q):
			return reasonMissing, fmt.Sprintf("rows of %d and %d values", len(p), len(q))
		case !answer.Results[0].Applied || moved == 0:
			return reasonUnmoved, observed
		case moved > bound*1.001:
			return reasonTooFar, observed
		case sign*(degrees(p, u)-degrees(q, u)) < 0:
			return reasonWrongWay, observed
		case apart(q, want) > 1e-6 || !near(answer.Results[0].MovedDegrees, moved):
			return reasonInexact, fmt.Sprintf("%s; %.2g off the update, said to be %.4f degrees", observed, apart(q, want), answer.Results[0].MovedDegrees)
		}
		return "", observed
	}
}

// nudged makes a case of one event.
func nudged(id, title, outcome string, u []float64) apiCase {
	return apiCase{id: id, title: title, drive: nudge(outcome, u), wrong: judgeNudge(outcome, u)}
}

var _ = add(apiRow(suites.Check{
	ID: "router/feedback/bounded", Title: "an event moves one row, by the clipped update and no further",
	Kills: kills(killIn("across", reasonTooFar, "router.feedback-unclipped"), killIn("rejected", reasonWrongWay, "router.feedback-inverted"),
		killIn("across", reasonUnmoved, "router.feedback-dropped")),
}, "the row is normalise(p ± 0.05 × clip(u − p, 0.1)): at most 0.287 degrees, towards a confirmed text and away from a rejected one",
	[]string{reasonMissing, reasonUnmoved, reasonTooFar, reasonWrongWay, reasonInexact},
	nudged("near", "a text that is near", scenario.Confirmed, axis(0, 1, 5, 0.05)),
	nudged("across", "a vector at a right angle", scenario.Confirmed, axis(5, 1)),
	nudged("opposite", "a vector on the other side", scenario.Confirmed, axis(0, -1, 5, 0.2)),
	nudged("rejected", "a rejection", scenario.Rejected, axis(0, 1, 5, 0.7)),
))

// Bulk is the evidence of many events of feedback whose answers are not recorded by themselves.
type Bulk struct {
	Name     string         `json:"name"`
	Events   int            `json:"events"`
	Answered int            `json:"answered"` // events with a result
	Applied  int            `json:"applied"`
	Refused  map[string]int `json:"refused"` // by reason
	Broken   string         `json:"broken,omitempty"`
}

const inBulk results.Kind = "router-bulk"

// maxBatch is how many events a batch may have.
const maxBatch = 1000

// bulk sends events in batches and records what came of them.
func (b *bench) bulk(ctx context.Context, name string, events []scenario.FeedbackEvent) error {
	x := Bulk{Name: name, Events: len(events), Refused: map[string]int{}}
	for batch := range slices.Chunk(events, maxBatch) {
		var out scenario.FeedbackAnswer
		c, err := b.Own(ctx, "", http.MethodPost, "/feedback", scenario.FeedbackBatch{Events: batch}, &out)
		if err != nil {
			return err
		}
		if !c.Good() {
			x.Broken = answered(c)
			break
		}
		for _, r := range out.Results {
			x.Answered++
			if r.Applied {
				x.Applied++
			} else {
				x.Refused[r.Reason]++
			}
		}
	}
	return b.record(inBulk, x)
}

// bulkOf finds the evidence of a name.
func (s *story) bulkOf(name string) (Bulk, bool) {
	for _, e := range s.rest {
		var x Bulk
		if e.Kind == inBulk && e.Decode(&x) == nil && x.Name == name {
			return x, x.Broken == "" && x.Answered == x.Events
		}
	}
	return Bulk{}, false
}

func repeated(e scenario.FeedbackEvent, n int) []scenario.FeedbackEvent {
	return slices.Repeat([]scenario.FeedbackEvent{e}, n)
}

// oneSided is how many events push a row the same way.
const oneSided = 10_000

var _ = add(apiRow(suites.Check{
	ID: "router/feedback/drift-cap", Title: "ten thousand one-sided events move a row by 15 degrees at most", Cost: took(900 * time.Millisecond),
	Kills: kill(reasonTooFar, "router.feedback-capless"),
}, "the angle between the live and the trained row is at most 15 degrees; what was refused for it is counted",
	[]string{reasonMissing, reasonUnmoved, reasonTooFar, reasonNotCounted},
	apiCase{drive: func(ctx context.Context, b *bench) error {
		if err := b.prototypes(ctx, generous()); err != nil {
			return err
		}
		d, err := b.decide(ctx, "decide", scenario.OfVector(axis(5, 1)))
		if err == nil {
			err = b.bulk(ctx, "push", repeated(scenario.FeedbackEvent{Decision: d.Decision, Outcome: scenario.Confirmed, Policy: "x", Source: "pusher"}, oneSided))
		}
		if err == nil {
			err = b.policy(ctx, "after", "x")
		}
		if err == nil {
			_, err = b.stats(ctx, "stats")
		}
		return err
	}, wrong: func(s *story) (string, string) {
		after, ok := read[scenario.PolicyState](s, "after")
		st, ok1 := read[scenario.RouterStats](s, "stats")
		x, ok2 := s.bulkOf("push")
		if !ok || !ok1 || !ok2 || len(after.Rows) != 1 {
			return reasonMissing, s.describe("after") + "; " + x.Broken
		}
		angle := degrees(after.Rows[0].Vector, after.Rows[0].Trained)
		observed := fmt.Sprintf("%.3f degrees after %d events, %d applied, refused %v, counted %v", angle, x.Events, x.Applied, x.Refused, st.Feedback)
		switch {
		case angle > capDegrees+0.001:
			return reasonTooFar, observed
		case angle < capDegrees-1:
			return reasonUnmoved, observed
		case x.Refused["drift-cap"] == 0 || st.Feedback["drift-cap"] != int64(x.Refused["drift-cap"]):
			return reasonNotCounted, observed
		}
		return "", observed
	}},
))

// limitedBy pushes a row by events of one source and looks how many were refused, and why.
func limitedBy(f scenario.FeedbackSettings, source string, n int, why string, least, most int) apiCase {
	return apiCase{
		drive: func(ctx context.Context, b *bench) error {
			if err := b.prototypes(ctx, &f); err != nil {
				return err
			}
			if err := b.policy(ctx, "before", "x"); err != nil {
				return err
			}
			d, err := b.decide(ctx, "decide", scenario.OfVector(axis(0, 1, 5, 0.3)))
			if err == nil {
				err = b.bulk(ctx, "events", repeated(scenario.FeedbackEvent{Decision: d.Decision, Outcome: scenario.Confirmed, Policy: "x", Source: source}, n))
			}
			if err == nil {
				err = b.policy(ctx, "after", "x")
			}
			return err
		},
		wrong: func(s *story) (string, string) {
			before, ok := read[scenario.PolicyState](s, "before")
			after, ok1 := read[scenario.PolicyState](s, "after")
			x, ok2 := s.bulkOf("events")
			observed := fmt.Sprintf("of %d events %d were applied, refused %v", x.Events, x.Applied, x.Refused)
			if !ok || !ok1 || !ok2 || len(before.Rows) != 1 || len(after.Rows) != 1 {
				return reasonMissing, observed + "; " + s.describe("after")
			}
			switch {
			case x.Applied > most:
				return reasonNotLimited, observed
			case x.Applied < least || x.Refused[why] != n-x.Applied:
				return reasonUnmoved, observed
			case most == 0 && !sameVector(before.Rows[0].Vector, after.Rows[0].Vector):
				return reasonApplied, observed
			}
			return "", observed
		},
	}
}

func titled(id, title string, c apiCase) apiCase { c.id, c.title = id, title; return c }

var _ = add(apiRow(suites.Check{
	ID: "router/feedback/sources", Title: "a source is limited, and an anonymous one is not applied", Cost: took(150 * time.Millisecond),
	Kills: kills(killIn("anonymous", reasonNotLimited, "router.feedback-anonymous"), killIn("rate", reasonNotLimited, "router.feedback-unlimited")),
}, "anonymous events are recorded and not applied; beyond its rate, and beyond its share, a source's events are refused and say why",
	[]string{reasonMissing, reasonUnmoved, reasonNotLimited, reasonApplied},
	titled("anonymous", "events without a source", limitedBy(scenario.FeedbackSettings{RatePerMinute: 1_000_000, Share: 1}, "", 5, "anonymous", 0, 0)),
	titled("rate", "30 events at 20 a minute", limitedBy(scenario.FeedbackSettings{RatePerMinute: 20, Share: 1, CapDegrees: 180}, "busy", 30, "rate", 15, 21)),
	titled("share", "120 events of one source, whose share may be a half", limitedBy(scenario.FeedbackSettings{RatePerMinute: 1_000_000, Share: 0.5, CapDegrees: 180}, "busy", 120, "share", 1, 60)),
))

var _ = add(apiRow(suites.Check{
	ID: "router/feedback/refused-whole", Title: "feedback for an unknown decision is refused, and nothing of its batch is applied",
	Kills: kills(killIn("alone", reasonApplied, "router.feedback-unknown-ok"), killIn("batch", reasonHalfDone, "router.feedback-partial")),
}, "404, and version and rows stay", []string{reasonMissing, reasonApplied, reasonHalfDone, reasonServerError},
	apiCase{id: "alone", title: "an unknown decision", drive: unknownDecision(false), wrong: judgeUnknown},
	apiCase{id: "batch", title: "a known decision, then an unknown one", drive: unknownDecision(true), wrong: judgeUnknown},
))

func unknownDecision(known bool) func(context.Context, *bench) error {
	return func(ctx context.Context, b *bench) error {
		if err := b.prototypes(ctx, generous()); err != nil {
			return err
		}
		events := []scenario.FeedbackEvent{{Decision: "no-such-decision", Outcome: scenario.Confirmed, Source: "honest"}}
		if known {
			d, err := b.decide(ctx, "decide", scenario.OfVector(axis(0, 1, 5, 0.3)))
			if err != nil {
				return err
			}
			events = append([]scenario.FeedbackEvent{{Decision: d.Decision, Outcome: scenario.Confirmed, Source: "honest"}}, events...)
		}
		before, err := b.state(ctx, "state 0")
		if err == nil {
			_, err = b.version(ctx, "version 0", before.Version)
		}
		if err == nil {
			_, err = b.feedback(ctx, "feedback", events...)
		}
		after, err1 := b.state(ctx, "state 1")
		if err = first(err, err1); err == nil {
			_, err = b.version(ctx, "version 1", after.Version)
		}
		return err
	}
}

func judgeUnknown(s *story) (string, string) {
	v0, ok := read[scenario.Version](s, "version 0")
	v1, ok1 := read[scenario.Version](s, "version 1")
	observed := fmt.Sprintf("%s; version %d before, %d after", s.describe("feedback"), v0.Version, v1.Version)
	switch st := s.calls["feedback"].Status; {
	case !ok || !ok1:
		return reasonMissing, s.describe("version 0") + "; " + s.describe("version 1")
	case st < 300:
		return reasonApplied, observed
	case st >= 500:
		return reasonServerError, observed
	case v0.Digest != v1.Digest || v0.Version != v1.Version || !sameRows(v0, v1):
		return reasonHalfDone, observed
	}
	return "", observed
}

func sameRows(a, b scenario.Version) bool {
	return len(a.Rows) > 0 && slices.EqualFunc(a.Rows, b.Rows, func(x, y scenario.Row) bool {
		return x.Row == y.Row && x.Policy == y.Policy && x.Weight == y.Weight && sameVector(x.Vector, y.Vector)
	})
}
