package router_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/assay-bench/assay/models/encode"
	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/router"
	"github.com/assay-bench/assay/reference/router/learn"
)

func service(t testing.TB, defects ...defect.Name) *router.Service {
	t.Helper()
	s, err := router.New(router.Config{Defects: defect.Of(defects...)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func routed(t testing.TB, settings router.Settings, defects ...defect.Name) *router.Router {
	t.Helper()
	s := service(t, defects...)
	settings.Engine = router.PureGo
	if _, err := s.Set("test", settings); err != nil {
		t.Fatal(err)
	}
	r, err := s.Router("test")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// taught is a router with three policies of a few examples each.
func taught(t testing.TB, settings router.Settings, defects ...defect.Name) *router.Router {
	t.Helper()
	r := routed(t, settings, defects...)
	if _, err := r.SetPolicies(map[string]router.Policy{
		"bills":   {Examples: []string{"send me my invoice", "refund my payment", "change my billing address"}},
		"code":    {Examples: []string{"write a function that sorts a list", "fix this syntax error", "explain the stack trace"}},
		"weather": {Examples: []string{"will it rain tomorrow", "weather forecast for lisbon", "is a storm coming"}, Rows: "examples"},
	}); err != nil {
		t.Fatal(err)
	}
	return r
}

func decide(t testing.TB, r *router.Router, text string) router.Decision {
	t.Helper()
	d, err := r.Decide(context.Background(), router.DecideRequest{Text: &text, Explain: true})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func of[T any](v T) *T { return &v }

func TestDecides(t *testing.T) {
	r := taught(t, router.Settings{})
	cases := map[string]string{
		"please refund the charge": "bills", "is it going to rain this weekend": "weather", "why does my function not compile": "code",
	}
	seen := 0
	for text, want := range cases {
		seen++
		if d := decide(t, r, text); d.Policy != want || len(d.Vector) != 128 || d.Trace == "" || d.Model.Digest == "" {
			t.Errorf("%q: %+v", text, d)
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

// TestExplanationRecomputes: cosines, weights, sums and margin follow from the vector and the version's rows
// (router/decide/explained).
func TestExplanationRecomputes(t *testing.T) {
	r := taught(t, router.Settings{K: of(4)})
	d := decide(t, r, "refund this invoice, it rains")
	v, err := r.Version(d.Version)
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]router.Row{}
	for _, row := range v.Rows {
		rows[row.Row] = row
	}
	sums := map[string]float64{}
	for _, n := range d.Neighbours {
		dot := 0.0
		for i, x := range rows[n.Row].Vector {
			dot += float64(x) * float64(d.Vector[i])
		}
		if math.Abs(dot-float64(n.Cosine)) > 1e-5 {
			t.Errorf("%s: cosine %v, recomputed %v", n.Row, n.Cosine, dot)
		}
		sums[n.Policy] += n.Weight * math.Max(0, float64(n.Cosine))
	}
	got := map[string]float64{}
	for _, vote := range d.Votes {
		got[vote.Policy] = vote.Sum
	}
	if diff := cmp.Diff(sums, got, cmpopts.EquateApprox(1e-12, 0)); diff != "" || len(d.Neighbours) != 4 {
		t.Error(diff)
	}
	again, err := r.Explain(d.Decision)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(d, again); diff != "" {
		t.Errorf("explained differently: %s", diff)
	}
}

func TestUnknownTextReachesNoEngine(t *testing.T) {
	r := taught(t, router.Settings{Fallback: "code"})
	before := r.Stats()
	for _, text := range []string{"", "?!…", "\U000f0001"} {
		d := decide(t, r, text)
		if !d.Abstained || d.Reason != "unknown-text" || d.Policy != "code" {
			t.Errorf("%q: %+v", text, d)
		}
	}
	after := r.Stats()
	if after.EngineCalls != before.EngineCalls || after.Fallbacks != before.Fallbacks+3 || after.Abstained["unknown-text"] != 3 {
		t.Errorf("%+v", after)
	}
}

func TestFeedbackIsCappedAndLogged(t *testing.T) {
	r := taught(t, router.Settings{Feedback: router.FeedbackSettings{RatePerMinute: of(1000000), Share: of(1.0)}})
	base := r.State().Version
	d := decide(t, r, "write a poem about the sea")
	refused := 0
	for range 20 {
		events := make([]router.FeedbackEvent, 500)
		for i := range events {
			events[i] = router.FeedbackEvent{Decision: d.Decision, Outcome: router.Confirmed, Policy: "bills", Source: "s"}
		}
		a, err := r.Feedback(events)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range a.Results {
			if x.DriftDegrees > 15 {
				t.Fatalf("drift %v", x.DriftDegrees)
			}
			if x.Reason == "drift-cap" {
				refused++
			}
		}
	}
	p, err := r.Policy("bills")
	if err != nil {
		t.Fatal(err)
	}
	if deg := p.Rows[0].Degrees; deg < 14 || deg > 15 || refused == 0 || r.Stats().Feedback["drift-cap"] != int64(refused) {
		t.Errorf("%v degrees, %d refused, %v counted", deg, refused, r.Stats().Feedback)
	}
	replay(t, r, base)
}

// replay makes the live rows again from a version's rows and the log (router/feedback/audited).
func replay(t *testing.T, r *router.Router, base int64) {
	t.Helper()
	from, err := r.Version(base)
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]float32{}
	for _, row := range from.Rows {
		rows[row.Row] = row.Vector
	}
	applied := 0
	for since := int64(0); ; {
		page := r.Log(since)
		if len(page.Events) == 0 {
			break
		}
		for _, e := range page.Events {
			since = e.Seq
			if e.Kind == "feedback" && e.Applied && e.Version > base {
				applied++
				rows[e.Row], _ = learn.Step{Eta: e.Eta, Clip: e.Clip}.Apply(rows[e.Row], e.Vector, 1)
			}
		}
	}
	live, err := r.Version(r.State().Version)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range live.Rows {
		if diff := cmp.Diff(row.Vector, rows[row.Row]); diff != "" {
			t.Errorf("%s replays to another row", row.Row)
		}
	}
	if applied == 0 {
		t.Error("nothing was applied: this proves nothing")
	}
}

func TestGuardRollsBack(t *testing.T) {
	r := taught(t, router.Settings{K: of(1), Feedback: router.FeedbackSettings{
		RatePerMinute: of(1000000), Share: of(1.0), Clip: of(2.0), Eta: of(1.0), CapDegrees: of(180.0),
	}})
	guard := []router.Example{{Text: "refund the invoice", Policy: "bills"}, {Text: "will it rain", Policy: "weather"}, {Text: "sort a list in a function", Policy: "code"}, {Text: ""}}
	g, err := r.SetGuard(guard)
	if err != nil {
		t.Fatal(err)
	}
	if g.Correct != 4 {
		t.Fatalf("guard %+v", g)
	}
	before := decide(t, r, "refund the invoice")
	a, err := r.Feedback([]router.FeedbackEvent{{Decision: before.Decision, Outcome: router.Confirmed, Policy: "code", Source: "bad"}})
	if err != nil {
		t.Fatal(err)
	}
	after := decide(t, r, "refund the invoice")
	if !a.RolledBack || a.Version != before.Version || r.Stats().Rollbacks != 1 {
		t.Errorf("%+v", a)
	}
	if diff := cmp.Diff(before, after, cmpopts.IgnoreFields(router.Decision{}, "Decision", "At", "Trace")); diff != "" {
		t.Errorf("another decision after the roll back: %s", diff)
	}
}

// TestDecisionsAreOfOneVersion: what a decision says recomputes from the version that it names, while feedback
// makes new ones (router/feedback/atomic).
func TestDecisionsAreOfOneVersion(t *testing.T) {
	r := taught(t, router.Settings{Feedback: router.FeedbackSettings{RatePerMinute: of(1000000), Share: of(1.0)}})
	seed := decide(t, r, "write a poem about the sea")
	var writers, readers sync.WaitGroup
	stop := make(chan struct{})
	writers.Go(func() {
		// nearer and farther in turn: confirmations alone come to an end after some sixty versions, perhaps before anybody reads
		outcomes := []string{router.Confirmed, router.Rejected}
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				d := decide(t, r, "write a poem about the sea") // anew: a bounded log forgets old ones
				e := router.FeedbackEvent{Decision: d.Decision, Outcome: outcomes[i%2], Policy: "bills", Source: "s"}
				if _, err := r.Feedback([]router.FeedbackEvent{e}); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	versions := sync.Map{}
	for range 4 {
		readers.Go(func() {
			changes, last, until := 0, seed.Version, time.Now().Add(time.Minute)
			for n := 0; (n < 500 || changes < 3) && time.Now().Before(until); n++ { // a busy writer comes late
				d := decide(t, r, "refund my payment")
				versions.Store(d.Version, true)
				if d.Version != last {
					changes, last = changes+1, d.Version
				}
				v, err := r.Version(d.Version)
				if err != nil {
					continue // forgotten meanwhile: 256 are kept
				}
				if v.Digest != d.VersionDigest {
					t.Errorf("version %d has digest %s, the decision says %s", v.Version, v.Digest, d.VersionDigest)
					return
				}
			}
		})
	}
	readers.Wait()
	close(stop)
	writers.Wait()
	seen := 0
	versions.Range(func(any, any) bool { seen++; return true })
	if seen < 2 {
		t.Errorf("%d versions seen: this proves nothing", seen)
	}
}

func TestRefusals(t *testing.T) {
	r := taught(t, router.Settings{})
	long := strings.Repeat("a", encode.MaxTextBytes+1)
	vector := make([]float64, 128)
	infinite := append([]float64{math.Inf(1)}, vector[1:]...)
	before := r.State()
	cases := map[string]struct {
		kind router.Kind
		do   func() error
	}{
		"too long":        {router.TooLarge, func() error { _, err := r.Decide(t.Context(), router.DecideRequest{Text: &long}); return err }},
		"neither":         {router.Bad, func() error { _, err := r.Decide(t.Context(), router.DecideRequest{}); return err }},
		"zero vector":     {router.Bad, func() error { _, err := r.Decide(t.Context(), router.DecideRequest{Vector: vector}); return err }},
		"infinite vector": {router.Bad, func() error { _, err := r.Decide(t.Context(), router.DecideRequest{Vector: infinite}); return err }},
		"unknown decision": {router.Unknown, func() error {
			_, err := r.Feedback([]router.FeedbackEvent{{Decision: "d", Outcome: "confirmed"}})
			return err
		}},
		"unknown version": {router.Unknown, func() error { _, err := r.Rollback(99); return err }},
		"unknown policy":  {router.Unknown, func() error { _, err := r.RemovePolicy("none"); return err }},
		"unknown example": {router.Bad, func() error {
			_, err := r.SetPolicies(map[string]router.Policy{"new": {Examples: []string{"?"}}})
			return err
		}},
		"vectors and a rollout": {router.Conflict, func() error {
			_, err := r.SetRollout(router.Rollout{Model: before.Model.Digest, Mode: "canary"})
			return err
		}},
	}
	for name, c := range cases {
		err := c.do()
		e, ok := errors.AsType[*router.Error](err)
		if !ok || e.Kind != c.kind {
			t.Errorf("%s: %v", name, err)
		}
	}
	if diff := cmp.Diff(before, r.State()); diff != "" {
		t.Errorf("the state changed: %s", diff)
	}
}

func TestWeights(t *testing.T) {
	r := routed(t, router.Settings{Windows: []router.Window{{From: "22:00", To: "06:00", Factors: map[string]float64{"night": 3}}}})
	if _, err := r.SetPolicies(map[string]router.Policy{
		"night": {Examples: []string{"owl"}}, "day": {Examples: []string{"sun"}, Weight: of(2.0)},
	}); err != nil {
		t.Fatal(err)
	}
	cases := map[string]map[string]float64{
		"2026-01-31T12:00:00Z": {"day": 2.0 / 3, "night": 1.0 / 3},
		"2026-01-31T23:30:00Z": {"day": 0.4, "night": 0.6},
		"2026-01-31T06:00:00Z": {"day": 2.0 / 3, "night": 1.0 / 3},
	}
	seen := 0
	for text, want := range cases {
		seen++
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, r.Weights(at).Weights, cmpopts.EquateApprox(1e-12, 0)); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

func TestCalibration(t *testing.T) {
	r := taught(t, router.Settings{})
	var examples []router.Example
	for i := range 20 {
		examples = append(examples, router.Example{Text: fmt.Sprintf("invoice number %d for the rain", i)})
	}
	c, err := r.Calibrate(router.Calibration{Split: "validation", Quantile: 0.1, Examples: append(examples, router.Example{Text: "?"})})
	if err != nil {
		t.Fatal(err)
	}
	below := 0
	for _, x := range examples {
		if d := decide(t, r, x.Text); d.Abstained {
			below++
		}
	}
	d := decide(t, r, "write a function")
	if c.Unknown != 1 || c.Threshold.N != 20 || below > 2 || d.Threshold != c.Threshold || c.Threshold.Split != "validation" {
		t.Errorf("%+v, %d below", c, below)
	}
}

func TestAskAllocatesNothing(t *testing.T) {
	r := taught(t, router.Settings{})
	var s router.Scratch
	if err := r.Ask(&s, "please refund my payment"); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(200, func() { _ = r.Ask(&s, "please refund my payment") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkAsk is a decision from the text to the policy, by number of rows.
func BenchmarkAsk(b *testing.B) {
	for _, rows := range []int{10, 150, 1000, 10000} {
		b.Run(fmt.Sprint(rows), func(b *testing.B) {
			r, policies := routed(b, router.Settings{}), map[string]router.Policy{}
			for i := range rows {
				policies[fmt.Sprintf("p%05d", i)] = router.Policy{Examples: []string{fmt.Sprintf("topic %d about %d and %d", i, i*7, i*13)}}
			}
			if _, err := r.SetPolicies(policies); err != nil {
				b.Fatal(err)
			}
			var s router.Scratch
			b.ReportAllocs()
			for b.Loop() {
				if err := r.Ask(&s, "please show me the last invoice of my account"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
