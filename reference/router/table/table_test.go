package table_test

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/assay-bench/assay/reference/router/table"
)

// at returns the unit vector at an angle in the plane of the first two axes: its cosine with at(0) is that of
// the angle.
func at(degrees float64) []float32 {
	v := make([]float32, table.Dim)
	v[0], v[1] = float32(math.Cos(degrees*math.Pi/180)), float32(math.Sin(degrees*math.Pi/180))
	return v
}

func policy(t *testing.T, id string, weight float64, degrees ...float64) *table.Policy {
	t.Helper()
	p := table.Policy{ID: id, Weight: weight}
	for _, d := range degrees {
		p.Rows = append(p.Rows, table.Row{Live: at(d), Trained: at(d)})
	}
	made, err := table.NewPolicy(p)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func made(t *testing.T, threshold float64, policies ...*table.Policy) *table.Table {
	t.Helper()
	made, err := table.New(policies, table.Threshold{Value: threshold}, "model")
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// TestWeightedVote is the fixture of five rows and k = 3 (router/decide/weighted-vote): the nearest are b at
// cos 0, a at cos 60 and a at cos 60, so that with equal shares of a half b has 0.5 and a 0.25 + 0.25.
func TestWeightedVote(t *testing.T) {
	five := made(t, 0, policy(t, "a", 1, 60, -60), policy(t, "b", 1, 0, 90, 180))
	var o table.Outcome
	five.Decide(&o, at(0), []float64{0.6, 0.4}, table.Rule{K: 3})
	want := []table.Vote{{Policy: 0, Sum: 0.6}, {Policy: 1, Sum: 0.4}}
	if diff := cmp.Diff(want, o.Votes(), cmpopts.EquateApprox(0, 1e-6)); diff != "" {
		t.Error(diff)
	}
	near := []table.Neighbour{{Row: 2, Policy: 1, Cosine: 1}, {Row: 0, Policy: 0, Cosine: 0.5}, {Row: 1, Policy: 0, Cosine: 0.5}}
	if diff := cmp.Diff(near, o.Neighbours(), cmpopts.EquateApprox(0, 1e-6)); diff != "" {
		t.Error(diff)
	}
	if math.Abs(o.Margin-0.2) > 1e-6 || o.Winner != 0 || o.Second != 1 || o.Reason != table.Decided {
		t.Errorf("winner %d, second %d, margin %v, reason %q", o.Winner, o.Second, o.Margin, o.Reason)
	}
}

// TestTies: equal sums go to the first policy by id, whatever order they were made in (router/decide/tie-stable).
func TestTies(t *testing.T) {
	one, other := policy(t, "x", 1, 30), policy(t, "b", 1, -30)
	for range 100 {
		for _, order := range [][]*table.Policy{{one, other}, {other, one}} {
			tied := made(t, 0, order...)
			var o table.Outcome
			tied.Decide(&o, at(0), []float64{0.5, 0.5}, table.Rule{K: 5})
			if got := tied.Policies()[o.Winner].ID; got != "b" {
				t.Fatalf("winner %s", got)
			}
		}
	}
}

func TestAbstentions(t *testing.T) {
	two := []*table.Policy{policy(t, "a", 1, 10), policy(t, "b", 1, -10)}
	cases := []struct {
		name      string
		threshold float64
		rule      table.Rule
		policies  []*table.Policy
		want      table.Reason
	}{
		{"between two", 0, table.Rule{K: 2, Margin: 0.1}, two, table.BelowMargin},
		{"between two without a margin", 0, table.Rule{K: 2}, two, table.Decided},
		{"far", 0.99, table.Rule{K: 2}, two, table.BelowThreshold},
		{"near", 0.98, table.Rule{K: 2}, two, table.Decided},
		{"one policy alone has the whole margin", 0, table.Rule{K: 2, Margin: 1}, two[:1:1], table.Decided},
		{"nothing to choose", 0, table.Rule{K: 2}, nil, table.NoPolicy},
		{"a policy without rows", 0, table.Rule{K: 2}, []*table.Policy{policy(t, "a", 1)}, table.NoPolicy},
	}
	seen := 0
	for _, c := range cases {
		seen++
		t.Run(c.name, func(t *testing.T) {
			var o table.Outcome
			made(t, c.threshold, append([]*table.Policy(nil), c.policies...)...).Decide(&o, at(0), []float64{0.5, 0.5}, c.rule)
			if o.Reason != c.want {
				t.Errorf("reason %q, want %q", o.Reason, c.want)
			}
		})
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

func TestMistakesShow(t *testing.T) {
	cases := map[string]struct {
		mistakes table.Mistakes
		winner   int32
	}{
		"none":          {table.Mistakes{}, 0},
		"unweighted":    {table.Mistakes{Unweighted: true}, 1},
		"negative":      {table.Mistakes{NegativeVotes: true}, 1},
		"one neighbour": {table.Mistakes{OneNeighbour: true}, 0},
	}
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
	weighed := made(t, 0, policy(t, "a", 1, 0, 170, 175), policy(t, "b", 1, 80, 85, 100, 105))
	for name, c := range cases {
		var o table.Outcome
		weighed.Decide(&o, at(0), []float64{0.5, 0.5}, table.Rule{K: 7, Mistakes: c.mistakes})
		if o.Winner != c.winner {
			t.Errorf("%s: winner %d, want %d", name, o.Winner, c.winner)
		}
	}
}

func TestRefused(t *testing.T) {
	zero := make([]float32, table.Dim)
	nan := at(0)
	nan[5] = float32(math.NaN())
	cases := map[string]table.Row{
		"length 0": {Live: zero, Trained: zero}, "NaN": {Live: nan, Trained: nan}, "2 values": {Live: []float32{1, 0}, Trained: at(0)},
	}
	seen := 0
	for want, row := range cases {
		seen++
		if _, err := table.NewPolicy(table.Policy{ID: "p", Rows: []table.Row{row}}); err == nil || !strings.Contains(err.Error(), "policy p: row 0") {
			t.Errorf("%s: %v", want, err)
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
	p := policy(t, "p", 1, 0)
	if _, err := table.New([]*table.Policy{p, p}, table.Threshold{}, ""); err == nil {
		t.Error("two policies of one id are taken")
	}
}

func TestDigestCoversWhatDecides(t *testing.T) {
	base := made(t, 0.1, policy(t, "a", 1, 0)).Digest()
	others := map[string]string{
		"row":       made(t, 0.1, policy(t, "a", 1, 1e-3)).Digest(),
		"weight":    made(t, 0.1, policy(t, "a", 2, 0)).Digest(),
		"threshold": made(t, 0.2, policy(t, "a", 1, 0)).Digest(),
		"id":        made(t, 0.1, policy(t, "b", 1, 0)).Digest(),
	}
	for what, digest := range others {
		if digest == base {
			t.Errorf("another %s has the same digest", what)
		}
	}
	if again := made(t, 0.1, policy(t, "a", 1, 0)).Digest(); again != base {
		t.Error("the same table has another digest")
	}
}

func TestDecideAllocatesNothing(t *testing.T) {
	five, o, u, shares := made(t, 0, policy(t, "a", 1, 60, -60), policy(t, "b", 1, 0, 90, 180)), new(table.Outcome), at(3), []float64{0.5, 0.5}
	if n := testing.AllocsPerRun(100, func() { five.Decide(o, u, shares, table.Rule{K: 5}) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
