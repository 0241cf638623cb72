package router

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/assay-bench/assay/results"
	scenario "github.com/assay-bench/assay/scenarios/router"
	"github.com/assay-bench/assay/suites"
)

const (
	reasonUnlogged   = "unlogged"    // an event is not in the log
	reasonIncomplete = "incomplete"  // the log leaves out what replaying needs
	reasonNoReplay   = "no-replay"   // replaying the log does not give the rows
	reasonMutable    = "mutable"     // a version that was made has changed
	reasonNotBack    = "not-back"    // a loss on the guard set did not roll back
	reasonMixed      = "mixed"       // a decision was not made with the version that it names
	reasonOneVersion = "one-version" // the versions did not change meanwhile
)

// audited are the events of the case: who says what of which vector.
var auditedEvents = []struct {
	vector          []float64
	policy, outcome string
	source          string
}{
	{axis(0, 1, 5, 0.4), "x", scenario.Confirmed, "ann"},
	{axis(1, 1, 6, 0.8), "y", scenario.Confirmed, "bob"},
	{axis(1, 1, 0, 0.9), "x", scenario.Rejected, "ann"},
	{axis(2, 1, 7, 0.3), "z", scenario.Confirmed, ""}, // anonymous: recorded, not applied
	{axis(0, 1, 8, 1.5), "x", scenario.Confirmed, "cat"},
	{axis(2, 1, 1, 0.2), "z", scenario.Rejected, "bob"},
}

var _ = add(apiRow(suites.Check{
	ID: "router/feedback/audited", Title: "the log says who changed what, and replays to the same rows", Cost: took(200 * time.Millisecond),
	Kills: kills(kill(reasonUnlogged, "router.audit-missing", "router.refusal-unlogged"), kill(reasonIncomplete, "router.audit-incomplete"),
		kill(reasonMutable, "router.version-mutable")),
}, "each event stands in the log with source, vector, step and version; the applied ones, replayed on the rows before, give the rows after; the version before is as it was",
	[]string{reasonMissing, reasonUnlogged, reasonIncomplete, reasonNoReplay, reasonMutable},
	apiCase{drive: driveAudited, wrong: judgeAudited},
))

func driveAudited(ctx context.Context, b *bench) error {
	if err := b.prototypes(ctx, generous()); err != nil {
		return err
	}
	var events []scenario.FeedbackEvent
	for i, e := range auditedEvents {
		d, err := b.decide(ctx, named("decide-%d", i), scenario.OfVector(e.vector))
		if err != nil {
			return err
		}
		events = append(events, scenario.FeedbackEvent{Decision: d.Decision, Outcome: e.outcome, Policy: e.policy, Source: e.source})
	}
	before, err := b.state(ctx, "state")
	if err == nil {
		_, err = b.version(ctx, "before", before.Version)
	}
	answer, err1 := b.feedback(ctx, "feedback", events...)
	if err = first(err, err1); err == nil {
		_, err = b.version(ctx, "after", answer.Version)
	}
	if err == nil {
		_, err = b.version(ctx, "before again", before.Version)
	}
	if err == nil {
		_, err = b.own(ctx, "log", http.MethodGet, "/log", nil, nil)
	}
	return err
}

func judgeAudited(s *story) (string, string) {
	before, ok := read[scenario.Version](s, "before")
	again, ok1 := read[scenario.Version](s, "before again")
	after, ok2 := read[scenario.Version](s, "after")
	log, ok3 := read[scenario.Log](s, "log")
	answer, ok4 := read[scenario.FeedbackAnswer](s, "feedback")
	if !ok || !ok1 || !ok2 || !ok3 || !ok4 || len(answer.Results) != len(auditedEvents) {
		return reasonMissing, s.describe("feedback") + "; " + s.describe("log")
	}
	if !sameRows(before, again) || before.Digest != again.Digest {
		return reasonMutable, fmt.Sprintf("version %d has other rows after the feedback", before.Version)
	}
	rows := map[string][]float64{}
	for _, r := range before.Rows {
		rows[r.Row] = r.Vector
	}
	bySeq := map[int64]scenario.LogEvent{}
	for _, e := range log.Events {
		bySeq[e.Seq] = e
	}
	for i, r := range answer.Results {
		e, sent := bySeq[r.Seq], auditedEvents[i]
		observed := fmt.Sprintf("event %d of %q on %s: logged as %s of %q on %s, applied %v", i, sent.source, sent.policy, e.Kind, e.Source, e.Row, e.Applied)
		switch {
		case e.Kind != "feedback" || e.Applied != r.Applied:
			return reasonUnlogged, observed
		case e.Source != sent.source || e.Policy != sent.policy || e.Outcome != sent.outcome || e.Applied && (len(e.Vector) != scenario.Dimension || e.Eta == 0 || e.Clip == 0 || rows[e.Row] == nil):
			return reasonIncomplete, observed
		case e.Applied:
			sign := map[string]float64{scenario.Confirmed: 1, scenario.Rejected: -1}[e.Outcome]
			rows[e.Row] = step(rows[e.Row], e.Vector, sign, e.Eta, e.Clip)
		}
	}
	worst := 0.0
	for _, r := range after.Rows {
		worst = max(worst, apart(r.Vector, rows[r.Row]))
	}
	observed := fmt.Sprintf("%d events replayed on version %d: the rows are within %.2g of version %d", len(auditedEvents), before.Version, worst, after.Version)
	if worst > 1e-6 || after.Version == before.Version {
		return reasonNoReplay, observed
	}
	return "", observed
}

// guardTexts are the examples of the intents: what every batch is measured with.
func guardTexts() (out []scenario.Example) {
	for _, in := range scenario.Intents() {
		for _, text := range in.Examples {
			out = append(out, scenario.Example{Text: text, Policy: in.Name})
		}
	}
	return out
}

func allUnseen() (qs []scenario.DecideRequest) {
	for _, in := range scenario.Intents() {
		for _, text := range in.Unseen {
			qs = append(qs, scenario.OfText(text))
		}
	}
	return qs
}

var _ = add(apiRow(suites.Check{
	ID: "router/feedback/rollback", Title: "a version that was rolled back to decides as it did", Cost: took(300 * time.Millisecond),
	Kills: kills(killIn("guard", reasonNotBack, "router.guard-ignored"),
		killIn("asked", reasonUnlike, "router.rollback-partial")),
}, "version id and digest return, and decisions are equal to those before, cosine for cosine", []string{reasonMissing, reasonNotBack, reasonUnlike, reasonUnmoved},
	apiCase{id: "guard", title: "a batch that costs guard accuracy", drive: func(ctx context.Context, b *bench) error {
		return b.spoiled(ctx, 0.5, func(before scenario.State) error { return nil })
	}, wrong: func(s *story) (string, string) {
		answer, _ := read[scenario.FeedbackAnswer](s, "feedback")
		if !answer.RolledBack {
			return reasonNotBack, fmt.Sprintf("guard accuracy %.1f, best %.1f, version %d after %d", answer.Guard.Accuracy, answer.Guard.Best, answer.Version, answer.VersionBefore)
		}
		return s.asBefore()
	}},
	apiCase{id: "asked", title: "a roll back that was asked for", drive: func(ctx context.Context, b *bench) error {
		return b.spoiled(ctx, 100, func(before scenario.State) error {
			_, err := b.own(ctx, "rollback", http.MethodPost, "/rollback", map[string]int64{"version": before.Version}, nil)
			return err
		})
	}, wrong: func(s *story) (string, string) {
		if answer, _ := read[scenario.FeedbackAnswer](s, "feedback"); answer.RolledBack || answer.Version == answer.VersionBefore {
			return reasonUnmoved, "the batch made no version: " + s.describe("feedback")
		}
		return s.asBefore()
	}},
))

// spoiled learns policies, sets the guard set, and sends a batch that moves a row onto another policy's text.
func (b *bench) spoiled(ctx context.Context, loss float64, then func(scenario.State) error) error {
	f := scenario.FeedbackSettings{Eta: 1, Clip: 2, CapDegrees: 180, RatePerMinute: 1_000_000, Share: 1, GuardLoss: loss}
	if err := b.taught(ctx, scenario.Settings{Feedback: &f}, scenario.RowsCentroid); err != nil {
		return err
	}
	if err := b.must(ctx, "guard", http.MethodPut, "/guard", scenario.GuardSet{Examples: guardTexts()}, nil); err != nil {
		return err
	}
	before, err := b.state(ctx, "state 0")
	if err == nil {
		_, err = b.decideAll(ctx, "decide 0", allUnseen()...)
	}
	d, err1 := b.decide(ctx, "hostile", scenario.OfText(scenario.Intents()[1].Examples[0]))
	if err = first(err, err1); err == nil {
		_, err = b.feedback(ctx, "feedback", scenario.FeedbackEvent{Decision: d.Decision, Outcome: scenario.Confirmed, Policy: scenario.Intents()[0].Name, Source: "bad"})
	}
	if err == nil {
		err = then(before)
	}
	if err == nil {
		_, err = b.state(ctx, "state 1")
	}
	if err == nil {
		_, err = b.decideAll(ctx, "decide 1", allUnseen()...)
	}
	return err
}

// asBefore tells whether state and decisions are those before the batch.
func (s *story) asBefore() (reason, observed string) {
	st0, ok := read[scenario.State](s, "state 0")
	st1, ok1 := read[scenario.State](s, "state 1")
	d0, ok2 := read[scenario.Decisions](s, "decide 0")
	d1, ok3 := read[scenario.Decisions](s, "decide 1")
	if !ok || !ok1 || !ok2 || !ok3 || len(d0.Decisions) != len(allUnseen()) || len(d1.Decisions) != len(d0.Decisions) {
		return reasonMissing, s.describe("state 1") + "; " + s.describe("decide 1")
	}
	observed = fmt.Sprintf("version %d, then %d; %d decisions compared", st0.Version, st1.Version, len(d0.Decisions))
	if st0.Version != st1.Version || st0.Digest != st1.Digest {
		return reasonUnlike, observed
	}
	for i, d := range d0.Decisions {
		e := d1.Decisions[i]
		if d.Policy != e.Policy || d.TopCosine != e.TopCosine || d.VersionDigest != e.VersionDigest || !slices.Equal(d.Neighbours, e.Neighbours) || !slices.Equal(d.Votes, e.Votes) {
			return reasonUnlike, fmt.Sprintf("text %d: %q with top cosine %.6f before, %q with %.6f after", i, d.Policy, d.TopCosine, e.Policy, e.TopCosine)
		}
	}
	return "", observed
}

// Tally is the evidence of equal decisions among many at once.
type Tally struct {
	Vector  int     `json:"vector"` // which of the case's vectors
	Version int64   `json:"version"`
	Digest  string  `json:"digest"`
	Policy  string  `json:"policy"`
	Top     float64 `json:"top"`
	N       int     `json:"n"`
}

// Tallies are all decisions of a case that decided while versions changed.
type Tallies struct {
	Decisions int     `json:"decisions"`
	Failed    int     `json:"failed"`
	Broken    string  `json:"broken,omitempty"` // the first failure
	Each      []Tally `json:"each"`
}

const tallied results.Kind = "router-tallies"

// Bounds of the case: decisions, how many a call, callers at once, versions made meanwhile.
const (
	atOnce     = 10_000
	aCall      = 50
	callers    = 5
	changes    = 30
	maxTallies = 4096
)

// spots are the vectors that are decided while the row of x moves among them.
var spots = [][]float64{axis(0, 1), axis(0, 1, 9, 0.5), axis(9, 1, 1, 0.4)}

// placed is the row of x in a version.
func placed(i int) []float64 { return axis(0, 1, 9, float64(i)/10) }

var _ = add(apiRow(suites.Check{
	ID: "router/feedback/atomic", Title: "no decision mixes versions", Cost: suites.Cost{Time: 1500 * time.Millisecond, Exclusive: true},
	Kills: kill(reasonMixed, "router.versions-mixed"),
}, "each of 10,000 decisions made while 30 versions come and go has the top cosine and the policy that the rows of the version give which it names",
	[]string{reasonMissing, reasonMixed, reasonLost, reasonOneVersion},
	apiCase{drive: driveAtomic, wrong: judgeAtomic},
))

func driveAtomic(ctx context.Context, b *bench) error {
	if err := b.prototypes(ctx, generous()); err != nil {
		return err
	}
	first, err := b.state(ctx, "state 0")
	if err != nil {
		return err
	}
	var all Tallies
	var mu sync.Mutex
	var wg sync.WaitGroup
	counts, errs := map[Tally]int{}, make([]error, callers)
	made := make(chan struct{}, atOnce/aCall) // a signal for each call that was answered
	for k := range callers {
		wg.Go(func() { errs[k] = b.callMany(ctx, &mu, &all, counts, made) })
	}
	go func() { wg.Wait(); close(made) }()
	for i := range changes {
		for range atOnce / aCall / (changes + 2) { // so that the changes are spread over the calls
			<-made
		}
		body := scenario.Policy{Vectors: [][]float64{placed(i)}}
		if _, err = b.Own(ctx, "", http.MethodPut, "/policies/x", body, nil); err != nil {
			break
		}
	}
	wg.Wait()
	if err := errorOf(err, errs); err != nil {
		return err
	}
	for t, n := range counts {
		t.N = n
		if len(all.Each) < maxTallies {
			all.Each = append(all.Each, t)
		}
	}
	slices.SortFunc(all.Each, func(a, b Tally) int { return compareTally(a, b) })
	if err := b.record(tallied, all); err != nil {
		return err
	}
	last, err := b.state(ctx, "state 1")
	for v := max(1, first.Version-1); v <= last.Version && v < first.Version+2*changes && err == nil; v++ {
		_, err = b.version(ctx, "version "+strconv.FormatInt(v, 10), v)
	}
	return err
}

func errorOf(err error, errs []error) error { return first(append([]error{err}, errs...)...) }

func compareTally(a, b Tally) int {
	switch {
	case a.Version != b.Version:
		return int(a.Version - b.Version)
	case a.Vector != b.Vector:
		return a.Vector - b.Vector
	case a.Top < b.Top:
		return -1
	case a.Top > b.Top:
		return 1
	}
	return 0
}

// callMany makes one caller's share of the decisions.
func (b *bench) callMany(ctx context.Context, mu *sync.Mutex, all *Tallies, counts map[Tally]int, made chan<- struct{}) error {
	var qs []scenario.DecideRequest
	for i := range aCall {
		qs = append(qs, scenario.DecideRequest{Vector: spots[i%len(spots)]})
	}
	for range atOnce / aCall / callers {
		var out scenario.Decisions
		c, err := b.Own(ctx, "", http.MethodPost, "/decide-batch", scenario.DecideBatch{Requests: qs}, &out)
		if err != nil {
			return err
		}
		mu.Lock()
		all.Decisions += aCall
		if !c.Good() || len(out.Decisions) != aCall {
			all.Failed += aCall
			all.Broken = answered(c)
		}
		for i, d := range out.Decisions[:min(len(out.Decisions), aCall)] {
			counts[Tally{Vector: i % len(spots), Version: d.Version, Digest: d.VersionDigest, Policy: d.Policy, Top: d.TopCosine}]++
		}
		mu.Unlock()
		made <- struct{}{}
	}
	return nil
}

func judgeAtomic(s *story) (string, string) {
	all, ok := the[Tallies](s, tallied)
	if !ok || all.Decisions == 0 {
		return reasonMissing, "nothing was decided"
	}
	if all.Failed > 0 {
		return reasonLost, fmt.Sprintf("%d of %d decisions failed: %s", all.Failed, all.Decisions, all.Broken)
	}
	seen, compared := map[int64]bool{}, 0
	for _, t := range all.Each {
		v, ok := read[scenario.Version](s, "version "+strconv.FormatInt(t.Version, 10))
		if ok && len(v.Rows) == 0 {
			return reasonMixed, fmt.Sprintf("%d decisions for %q name version %d, which has no rows", t.N, t.Policy, t.Version)
		}
		if !ok || t.Vector >= len(spots) {
			return reasonMissing, fmt.Sprintf("version %d, which %d decisions name, can not be read", t.Version, t.N)
		}
		top := nearest(spots[t.Vector], v.Rows, 1)[0]
		if v.Digest != t.Digest || !near(top.cosine, t.Top) || !agrees(t, v) {
			return reasonMixed, fmt.Sprintf("%d decisions on vector %d name version %d, policy %q and top cosine %.6f; its rows give %q and %.6f",
				t.N, t.Vector, t.Version, t.Policy, t.Top, top.Policy, top.cosine)
		}
		seen[t.Version] = true
		compared += t.N
	}
	observed := fmt.Sprintf("%d decisions with %d versions recomputed", compared, len(seen))
	switch {
	case compared != all.Decisions:
		return reasonMissing, observed
	case len(seen) < 3:
		return reasonOneVersion, observed
	}
	return "", observed
}

// agrees tells whether the policy of a tally is what the vote of its version gives, or ties with it.
func agrees(t Tally, v scenario.Version) bool {
	votes := vote(nearest(spots[t.Vector], v.Rows, 5), shares(v.Rows))
	return len(votes) > 0 && (votes[0].Policy == t.Policy || near(votes[0].Sum, sumOf(votes, t.Policy)))
}
