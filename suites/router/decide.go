package router

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/assay-bench/assay/results"
	scenario "github.com/assay-bench/assay/scenarios/router"
	"github.com/assay-bench/assay/suites"
)

const (
	reasonWrongPolicy = "wrong-policy" // another policy than the vote gives
	reasonWrongSum    = "wrong-sum"    // a sum, weight, cosine or margin is not what its vectors give
	reasonWrongOrder  = "wrong-order"  // neighbours or votes are not in their order
	reasonTies        = "ties"         // a tie was not resolved by policy id
	reasonUnlike      = "unlike"       // the explanation later differs from the decision
	reasonMoved       = "moved"        // something else changed than what was asked for
)

// votePolicies are five rows of three policies, by hand. To axis(0,1) their cosines are 0.9, 0.8, 0.7, -0.6, 0.1.
func votePolicies() map[string]scenario.Policy {
	at := func(c float64, place int) []float64 { return axis(0, c, float64(place), math.Sqrt(1-c*c)) }
	return map[string]scenario.Policy{
		"a": {Vectors: [][]float64{at(0.9, 1)}, Rows: scenario.RowsExamples, Weight: 1},
		"b": {Vectors: [][]float64{at(0.8, 2), at(0.7, 3)}, Rows: scenario.RowsExamples, Weight: 1},
		"c": {Vectors: [][]float64{at(-0.6, 4), at(0.1, 5)}, Rows: scenario.RowsExamples, Weight: 2},
	}
}

// voteCase asks for one decision on axis(0,1) and checks it against the rows of its version.
func voteCase(id, title string, k int, policies func() map[string]scenario.Policy) apiCase {
	return apiCase{id: id, title: title, drive: func(ctx context.Context, b *bench) error {
		if err := b.router(ctx, scenario.Settings{K: k}); err != nil {
			return err
		}
		if err := b.policies(ctx, "policies", policies()); err != nil {
			return err
		}
		d, err := b.decide(ctx, "decide", scenario.OfVector(axis(0, 1)))
		if err == nil {
			_, err = b.version(ctx, "version", d.Version)
		}
		return err
	}, wrong: func(s *story) (string, string) {
		d, ok := read[scenario.Decision](s, "decide")
		v, ok1 := read[scenario.Version](s, "version")
		if !ok || !ok1 {
			return reasonMissing, s.describe("decide") + "; " + s.describe("version")
		}
		return recomputed(d, v, axis(0, 1), k)
	}}
}

// recomputed compares a decision with what the rows of its version and the vector give.
func recomputed(d scenario.Decision, v scenario.Version, u []float64, k int) (reason, observed string) {
	rows := nearest(u, v.Rows, k)
	votes := vote(rows, shares(v.Rows))
	observed = fmt.Sprintf("policy %q of sum %s; computed: %s", d.Policy, votesText(d.Votes), votesText(votes))
	if len(votes) == 0 || len(d.Votes) == 0 || len(d.Neighbours) != len(rows) {
		return reasonMissing, fmt.Sprintf("%d neighbours of %d, %d votes", len(d.Neighbours), len(rows), len(d.Votes))
	}
	for i, n := range d.Neighbours {
		if i > 0 && n.Cosine > d.Neighbours[i-1].Cosine+closeTo {
			return reasonWrongOrder, fmt.Sprintf("neighbour %d of cosine %.6f stands after one of %.6f", i, n.Cosine, d.Neighbours[i-1].Cosine)
		}
		at := slices.IndexFunc(v.Rows, func(r scenario.Row) bool { return r.Row == n.Row })
		switch {
		case at < 0 || v.Rows[at].Policy != n.Policy:
			return reasonMissing, fmt.Sprintf("neighbour %q of policy %q is no row of version %d", n.Row, n.Policy, v.Version)
		case !near(dot(u, v.Rows[at].Vector), n.Cosine):
			return reasonWrongSum, fmt.Sprintf("row %q: cosine %.6f, computed %.6f", n.Row, n.Cosine, dot(u, v.Rows[at].Vector))
		case !near(rows[i].cosine, n.Cosine):
			return reasonWrongOrder, fmt.Sprintf("neighbour %d has cosine %.6f, the one nearest by then has %.6f", i, n.Cosine, rows[i].cosine)
		}
	}
	for i, x := range d.Votes {
		at := slices.IndexFunc(votes, func(y scenario.Vote) bool { return y.Policy == x.Policy })
		switch {
		case at < 0 || !near(x.Sum, votes[at].Sum) || !near(x.Weight, votes[at].Weight):
			return reasonWrongSum, observed
		case i > 0 && x.Sum > d.Votes[i-1].Sum+closeTo:
			return reasonWrongOrder, observed
		}
	}
	switch {
	case !near(d.TopCosine, rows[0].cosine) || !near(d.Margin, margin(votes)):
		return reasonWrongSum, fmt.Sprintf("top cosine %.6f and margin %.6f, computed %.6f and %.6f", d.TopCosine, d.Margin, rows[0].cosine, margin(votes))
	case !d.Abstained && d.Policy != votes[0].Policy && !near(votes[0].Sum, sumOf(votes, d.Policy)):
		return reasonWrongPolicy, observed
	}
	return "", observed
}

func sumOf(votes []scenario.Vote, policy string) float64 {
	for _, v := range votes {
		if v.Policy == policy {
			return v.Sum
		}
	}
	return math.Inf(-1)
}

func votesText(votes []scenario.Vote) string {
	var parts []string
	for _, v := range votes[:min(len(votes), 5)] {
		parts = append(parts, fmt.Sprintf("%s %.6f", v.Policy, v.Sum))
	}
	return strings.Join(parts, ", ")
}

var _ = add(apiRow(suites.Check{
	ID: "router/decide/weighted-vote", Title: "the nearest rows vote with their cosines",
	Kills: kills(killIn("three", reasonWrongSum, "router.vote-unweighted"), killIn("negative", reasonWrongSum, "router.vote-negative"),
		killIn("three", reasonMissing, "router.k-ignored"), killIn("three", reasonWrongOrder, "router.neighbours-unsorted")),
}, "neighbours, sums, margin and policy are those that the rows of the version give", []string{reasonMissing, reasonWrongPolicy, reasonWrongSum, reasonWrongOrder},
	voteCase("three", "k 3 of five rows: two rows of b outvote one of a", 3, votePolicies),
	voteCase("one", "k 1: the nearest row alone", 1, votePolicies),
	voteCase("negative", "all rows: a cosine below 0 counts nothing", 64, votePolicies),
))

var _ = add(apiRow(suites.Check{
	ID: "router/decide/explained", Title: "a decision carries what it was made of, and can be asked for later", Cost: took(150 * time.Millisecond),
	Kills: kills(kill(reasonWrongSum, "router.explanation-lies"), kill(reasonUnlike, "router.explain-forgets")),
}, "neighbours, cosines, votes, threshold, version and model agree with the vector and the rows, also after the policies have changed",
	[]string{reasonMissing, reasonWrongPolicy, reasonWrongSum, reasonWrongOrder, reasonUnlike},
	apiCase{drive: func(ctx context.Context, b *bench) error {
		if err := b.taught(ctx, scenario.Settings{K: 7}, scenario.RowsExamples); err != nil {
			return err
		}
		d, err := b.decide(ctx, "decide", scenario.OfText(scenario.Intents()[2].Unseen[0]))
		if err == nil {
			_, err = b.version(ctx, "version", d.Version)
		}
		if err == nil {
			err = b.policies(ctx, "others", map[string]scenario.Policy{"programming": {Examples: []string{"a poem about the sea"}}, "new": {Examples: scenario.Intents()[2].Examples}})
		}
		if err == nil {
			_, err = b.own(ctx, "explain", http.MethodGet, "/decisions/"+d.Decision, nil, nil)
		}
		return err
	}, wrong: func(s *story) (string, string) {
		d, ok := read[scenario.Decision](s, "decide")
		v, ok1 := read[scenario.Version](s, "version")
		later, ok2 := read[scenario.Decision](s, "explain")
		switch {
		case !ok || !ok1 || !ok2:
			return reasonMissing, s.describe("decide") + "; " + s.describe("version") + "; " + s.describe("explain")
		case len(d.Vector) != scenario.Dimension || d.Model.Digest == "" || d.Model.Engine == "" || d.VersionDigest != v.Digest || d.Decision == "":
			return reasonMissing, fmt.Sprintf("vector of %d, model %+v, version digest %q of %q", len(d.Vector), d.Model, d.VersionDigest, v.Digest)
		}
		if reason, observed := recomputed(d, v, d.Vector, 7); reason != "" {
			return reason, observed
		}
		if later.Version != d.Version || later.Policy != d.Policy || !slices.Equal(later.Neighbours, d.Neighbours) || !slices.Equal(later.Votes, d.Votes) {
			return reasonUnlike, fmt.Sprintf("decided %q with version %d, explained later as %q with version %d", d.Policy, d.Version, later.Policy, later.Version)
		}
		return "", fmt.Sprintf("%d neighbours recomputed, the same later", len(d.Neighbours))
	}},
))

// ties is how often a tie is asked.
const ties = 100

var _ = add(apiRow(suites.Check{
	ID: "router/decide/tie-stable", Title: "ties go to the lesser policy id", Kills: kill(reasonTies, "router.tie-random"),
}, "of two policies with the same row each of 100 decisions is the one with the lesser id", []string{reasonTies, reasonMissing},
	apiCase{drive: func(ctx context.Context, b *bench) error {
		if err := b.router(ctx, scenario.Settings{}); err != nil {
			return err
		}
		same := scenario.Policy{Vectors: [][]float64{axis(3, 1)}}
		if err := b.policies(ctx, "policies", map[string]scenario.Policy{"zebra": same, "ant": same, "mole": same}); err != nil {
			return err
		}
		var qs []scenario.DecideRequest
		for range ties {
			q := scenario.OfVector(axis(3, 1, 4, 0.5))
			q.Explain = false
			qs = append(qs, q)
		}
		_, err := b.decideAll(ctx, "ties", qs...)
		return err
	}, wrong: func(s *story) (string, string) {
		all, ok := read[scenario.Decisions](s, "ties")
		if !ok || len(all.Decisions) != ties {
			return reasonMissing, s.describe("ties")
		}
		won := map[string]int{}
		for _, d := range all.Decisions {
			won[d.Policy]++
		}
		if won["ant"] != ties {
			return reasonTies, fmt.Sprint(won)
		}
		return "", fmt.Sprint(won)
	}},
))

var _ = add(apiRow(suites.Check{
	ID: "router/decide/route-added", Title: "a policy from five examples works at once, and moves no other", Cost: took(200 * time.Millisecond),
	Kills: kills(kill(reasonMoved, "router.addition-reshuffles")),
}, "the new policy is chosen for at least 3 of 4 texts like its examples, the rows of the others are equal bit for bit, and their texts stay with them",
	[]string{reasonMissing, reasonMoved, reasonWrongPolicy},
	apiCase{drive: func(ctx context.Context, b *bench) error {
		if err := b.router(ctx, scenario.Settings{}); err != nil {
			return err
		}
		all := taught(scenario.RowsExamples)
		added := all["weather"]
		delete(all, "weather")
		added.Examples = added.Examples[:5]
		if err := b.policies(ctx, "policies", all); err != nil {
			return err
		}
		before, err := b.state(ctx, "before")
		if err == nil {
			_, err = b.version(ctx, "version 0", before.Version)
		}
		if err == nil {
			_, err = b.decideAll(ctx, "old 0", oldTexts()...)
		}
		if err == nil {
			_, err = b.own(ctx, "added", http.MethodPut, "/policies/weather", added, nil)
		}
		after, err1 := b.state(ctx, "after")
		if err = first(err, err1); err == nil {
			_, err = b.version(ctx, "version 1", after.Version)
		}
		if err == nil {
			_, err = b.decideAll(ctx, "old 1", oldTexts()...)
		}
		if err == nil {
			var qs []scenario.DecideRequest
			for _, text := range scenario.Intents()[1].Unseen {
				qs = append(qs, scenario.OfText(text))
			}
			_, err = b.decideAll(ctx, "new", qs...)
		}
		return err
	}, wrong: judgeAdded},
))

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// oldTexts are those of the policies that were there before.
func oldTexts() (qs []scenario.DecideRequest) {
	for _, i := range []int{0, 2} {
		for _, text := range scenario.Intents()[i].Unseen {
			qs = append(qs, scenario.OfText(text))
		}
	}
	return qs
}

func judgeAdded(s *story) (string, string) {
	v0, ok := read[scenario.Version](s, "version 0")
	v1, ok1 := read[scenario.Version](s, "version 1")
	old0, ok2 := read[scenario.Decisions](s, "old 0")
	old1, ok3 := read[scenario.Decisions](s, "old 1")
	fresh, ok4 := read[scenario.Decisions](s, "new")
	if !ok || !ok1 || !ok2 || !ok3 || !ok4 || len(old0.Decisions) != len(old1.Decisions) || len(v0.Rows) == 0 {
		return reasonMissing, s.describe("added")
	}
	for _, r := range v0.Rows {
		at := slices.IndexFunc(v1.Rows, func(x scenario.Row) bool { return x.Row == r.Row })
		if at < 0 || !sameVector(v1.Rows[at].Vector, r.Vector) {
			return reasonMoved, "row " + r.Row + " is another one now"
		}
	}
	right, lost := 0, 0
	for _, d := range fresh.Decisions {
		if d.Policy == "weather" {
			right++
		}
	}
	for i, d := range old0.Decisions {
		if d.Policy != old1.Decisions[i].Policy {
			lost++
		}
	}
	observed := fmt.Sprintf("%d of %d texts like the examples find the new policy; %d of %d old texts changed theirs; %d rows are equal bit for bit",
		right, len(fresh.Decisions), lost, len(old0.Decisions), len(v0.Rows))
	switch {
	case right < 3:
		return reasonWrongPolicy, observed
	case lost > 0:
		return reasonMoved, observed
	}
	return "", observed
}

const reasonNotOne = "not-one" // weights do not sum to 1

// atNoon and atNight are times within and outside the window of the case.
const (
	atNoon  = "2026-03-05T12:00:00Z"
	atNight = "2026-03-05T23:30:00Z"
)

var _ = add(apiRow(suites.Check{
	ID: "router/decide/weights-sum", Title: "weights follow time windows and sum to 1",
	Kills: kills(kill(reasonNotOne, "router.weights-unnormalised"), killIn("window", reasonWrongSum, "router.window-ignored")),
}, "at each time the weights are own weight times factor, divided by the sum", []string{reasonNotOne, reasonWrongSum, reasonMissing, reasonWrongPolicy},
	apiCase{id: "plain", title: "without windows", drive: func(ctx context.Context, b *bench) error {
		return b.weighed(ctx, nil)
	}, wrong: func(s *story) (string, string) {
		return s.weights(map[string]map[string]float64{"noon": {"a": 1, "b": 1, "c": 2}, "night": {"a": 1, "b": 1, "c": 2}})
	}},
	apiCase{id: "window", title: "with a window by day and one over midnight", drive: func(ctx context.Context, b *bench) error {
		return b.weighed(ctx, []scenario.Window{
			{From: "09:00", To: "17:00", Factors: map[string]float64{"a": 4}},
			{From: "22:00", To: "06:00", Factors: map[string]float64{"b": 0.25, "c": 0.5}},
		})
	}, wrong: func(s *story) (string, string) {
		return s.weights(map[string]map[string]float64{"noon": {"a": 4, "b": 1, "c": 2}, "night": {"a": 1, "b": 0.25, "c": 1}})
	}},
))

// weighed asks for weights at two times, and for a decision with explicit time.
func (b *bench) weighed(ctx context.Context, windows []scenario.Window) error {
	if err := b.router(ctx, scenario.Settings{Windows: windows, K: 64}); err != nil {
		return err
	}
	if err := b.policies(ctx, "policies", votePolicies()); err != nil {
		return err
	}
	times := map[string]string{"night": atNight, "noon": atNoon}
	for _, name := range sortedKeys(times) {
		at := times[name]
		if _, err := b.own(ctx, name, http.MethodGet, "/weights?at="+at, nil, nil); err != nil {
			return err
		}
		q := scenario.OfVector(axis(0, 1))
		q.At = at
		if _, err := b.decide(ctx, "decide "+name, q); err != nil {
			return err
		}
	}
	return nil
}

// weights compares the weights that were told with raw ones, at each time, and those of a decision.
func (s *story) weights(want map[string]map[string]float64) (reason, observed string) {
	for _, name := range sortedKeys(want) {
		w, ok := read[scenario.Weights](s, name)
		d, ok1 := read[scenario.Decision](s, "decide "+name)
		if !ok || !ok1 {
			return reasonMissing, s.describe(name) + "; " + s.describe("decide "+name)
		}
		all, told := 0.0, 0.0
		for p, raw := range want[name] {
			all += raw
			told += w.Weights[p]
		}
		observed += fmt.Sprintf("%s: %v; ", name, w.Weights)
		if math.Abs(told-1) > 1e-9 || len(w.Weights) != len(want[name]) {
			return reasonNotOne, observed
		}
		for _, p := range sortedKeys(want[name]) {
			if share := want[name][p] / all; !near(w.Weights[p], share) {
				return reasonWrongSum, observed + fmt.Sprintf("%s should be %.6f", p, share)
			}
		}
		for _, v := range d.Votes {
			if !near(v.Weight, w.Weights[v.Policy]) {
				return reasonWrongSum, observed + fmt.Sprintf("the decision weighs %s by %.6f", v.Policy, v.Weight)
			}
		}
	}
	return "", observed
}

// Touched is the evidence of how often a backend that must not be called was connected to.
type Touched struct {
	Connections int64 `json:"connections"`
	Decisions   int   `json:"decisions"`
}

const touched results.Kind = "router-touched"

const reasonDialled = "dialled" // deciding connected to a backend

var _ = add(suites.Check{
	ID: "router/decide/no-network", Title: "deciding connects to nothing", Kills: kill(reasonDialled, "router.decide-dials"),
	Reasons: []string{reasonDialled, reasonMissing},
	Drive: driving(func(ctx context.Context, b *bench) (err error) {
		trap, err := newBait()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, trap.listen.Close()) }()
		return b.untouched(ctx, trap)
	}),
	Judge: judging("32 decisions for policies with a backend make no connection to it", func(_ suites.Trace, s *story) suites.Finding {
		x, ok := the[Touched](s, touched)
		all, ok1 := read[scenario.Decisions](s, "decide")
		observed := fmt.Sprintf("%d decisions, %d connections", len(all.Decisions), x.Connections)
		switch {
		case !ok || !ok1 || len(all.Decisions) != x.Decisions || all.Decisions[0].Backend == "":
			return s.fail(reasonMissing, observed+"; "+s.describe("decide"))
		case x.Connections > 0:
			return s.fail(reasonDialled, observed)
		}
		return s.pass(observed)
	}),
})

// untouched decides for policies whose backend is a bait, and records how often that was connected to.
func (b *bench) untouched(ctx context.Context, trap *bait) error {
	if err := b.router(ctx, scenario.Settings{}); err != nil {
		return err
	}
	if err := b.must(ctx, "backend", http.MethodPut, "/backends/up", scenario.Backend{URL: "http://" + trap.addr() + "/v1", Model: "m"}, nil); err != nil {
		return err
	}
	all := taught(scenario.RowsCentroid)
	for name, p := range all {
		p.Backends = []string{"up"}
		all[name] = p
	}
	if err := b.policies(ctx, "policies", all); err != nil {
		return err
	}
	var qs []scenario.DecideRequest
	for range 2 {
		for _, text := range append(someTexts(), featureless()[2]) {
			q := scenario.OfText(text)
			q.Explain = false
			qs = append(qs, q)
		}
	}
	if _, err := trap.count(ctx, b.env); err != nil { // what setting a backend may do is not deciding
		return err
	}
	if _, err := b.decideAll(ctx, "decide", qs...); err != nil {
		return err
	}
	n, err := trap.count(ctx, b.env)
	if err != nil {
		return err
	}
	return b.record(touched, Touched{Connections: n, Decisions: len(qs)})
}
