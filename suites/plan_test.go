package suites_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/chaos"
	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/suites"
)

var slowly = chaos.Spec{Name: "net/delay", Magnitude: 0.08}

// planSuite has every shape that a plan tells apart.
func planSuite(t testing.TB) *suites.Suite {
	t.Helper()
	claim := check("claims/rpc.framed", needs(features.RPCFramed))
	return built(t, frame(t), area("claims", claim, check("claims/rpc.behave", needs(features.RPCBehave))),
		area("rpc",
			check("rpc/wire/one", needs(features.RPCFramed)),
			check("rpc/wire/many", cases("a", "b"), under(pause, slowly)),
			check("rpc/calm/slow", func(c *suites.Check) { c.Cost.Time = time.Minute }),
		),
		area("perf", check("perf/echo", func(c *suites.Check) { c.Cost = suites.Cost{Time: 3 * time.Second, Exclusive: true} })),
	)
}

func selection(patterns ...string) suites.Selection {
	return suites.Selection{
		Patterns: patterns, Profile: "full",
		Barred:    func(suites.Check, results.Key) string { return "" },
		Reproduce: func(k results.Key) string { return "assay run " + suites.Pattern(k) },
	}
}

// driven lists the planned keys that are not of the frame.
func driven(p suites.Plan) []string {
	var out []string
	for _, x := range p.Planned {
		if x.Area != "target" {
			out = append(out, suites.Pattern(x.Key()))
		}
	}
	return out
}

var manyKeys = []string{
	"rpc/wire/many#a", "rpc/wire/many#a@proc/pause=0.4", "rpc/wire/many#a@net/delay=0.08",
	"rpc/wire/many#b", "rpc/wire/many#b@proc/pause=0.4", "rpc/wire/many#b@net/delay=0.08",
}

func TestPlanPatterns(t *testing.T) {
	s := planSuite(t)
	tests := []struct {
		patterns []string
		want     []string
	}{
		{[]string{"perf"}, []string{"perf/echo"}},
		{[]string{"rpc"}, slices.Concat([]string{"rpc/calm/slow"}, manyKeys, []string{"rpc/wire/one"})},
		{[]string{"rpc/wire"}, slices.Concat(manyKeys, []string{"rpc/wire/one"})},
		{[]string{"rpc/wire/"}, slices.Concat(manyKeys, []string{"rpc/wire/one"})},
		{[]string{"rpc/wire/one"}, []string{"rpc/wire/one"}},
		{[]string{"rpc/wire/many"}, manyKeys},
		{[]string{"rpc/*/slow"}, []string{"rpc/calm/slow"}},
		{[]string{"rpc/wire/o*"}, []string{"rpc/wire/one"}},
		{[]string{"rpc/wire/many#b"}, []string{"rpc/wire/many#b"}},
		{[]string{"rpc/wire/many#b@proc/pause"}, []string{"rpc/wire/many#b@proc/pause=0.4"}},
		{[]string{"rpc/wire/many@proc/pause=0.4"}, []string{"rpc/wire/many#a@proc/pause=0.4", "rpc/wire/many#b@proc/pause=0.4"}},
		{[]string{"rpc/wire/*@net/delay"}, []string{"rpc/wire/many#a@net/delay=0.08", "rpc/wire/many#b@net/delay=0.08"}},
		{[]string{"rpc@net/delay"}, []string{"rpc/wire/many#a@net/delay=0.08", "rpc/wire/many#b@net/delay=0.08"}},
		{[]string{"perf", "rpc/wire/one", "perf/echo"}, []string{"perf/echo", "rpc/wire/one"}},
	}
	for _, tt := range tests {
		plan, err := s.Plan(selection(tt.patterns...))
		if err != nil {
			t.Errorf("%q: %v", tt.patterns, err)
			continue
		}
		if diff := cmp.Diff(tt.want, driven(plan)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.patterns, diff)
		}
		if plan.Planned[len(plan.Planned)-1].Check != "target/stays-up" {
			t.Errorf("%q: the frame's checks are not planned", tt.patterns)
		}
	}
}

func TestPlanNoMatch(t *testing.T) {
	s := planSuite(t)
	tests := []struct{ pattern, says string }{
		{"rpc/wire/onee", "nearest: rpc/wire/one"},
		{"rpc/wire/many#z", "the check has rpc/wire/many#a, rpc/wire/many#a@proc/pause=0.4"},
		{"rpc/wire/many@proc/kill", "the check has rpc/wire/many#a"},
		{"rpc/wire/many#a@proc/pause=0.5", "the check has"},
		{"rpc/wire/one#a", "the check has rpc/wire/one"},
		{"rpc/wir", "nearest: "},
		{"nope*", "nearest: "},
		{"", "nearest: "},
	}
	for _, tt := range tests {
		_, err := s.Plan(selection("rpc/wire/one", tt.pattern))
		if !errors.Is(err, suites.ErrNoMatch) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%q: error %v, want ErrNoMatch that says %q", tt.pattern, err, tt.says)
		}
	}
	if _, err := s.Plan(selection("rpc/[")); err == nil || errors.Is(err, suites.ErrNoMatch) {
		t.Errorf("a malformed glob: %v", err)
	}
	if _, err := s.Plan(selection("target")); !errors.Is(err, suites.ErrNothingRuns) {
		t.Errorf("a plan that drives nothing: %v", err)
	}
}

func TestPlanProfiles(t *testing.T) {
	s := planSuite(t)
	both := []string{"claims/rpc.behave", "claims/rpc.framed"}
	tests := map[string][]string{
		"full":        slices.Concat(both, []string{"perf/echo", "rpc/calm/slow"}, manyKeys, []string{"rpc/wire/one"}),
		"quick":       slices.Concat(both, []string{"perf/echo"}, manyKeys, []string{"rpc/wire/one"}),
		"":            slices.Concat(both, []string{"perf/echo"}, manyKeys, []string{"rpc/wire/one"}),
		"conformance": slices.Concat(both, []string{"rpc/calm/slow", "rpc/wire/many#a", "rpc/wire/many#b", "rpc/wire/one"}),
		"latency":     slices.Concat(both, []string{"perf/echo"}),
		"chaos": {
			"rpc/wire/many#a@proc/pause=0.4", "rpc/wire/many#a@net/delay=0.08",
			"rpc/wire/many#b@proc/pause=0.4", "rpc/wire/many#b@net/delay=0.08",
		},
	}
	for name, want := range tests {
		sel := selection()
		sel.Profile = name
		plan, err := s.Plan(sel)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(want, driven(plan)); diff != "" {
			t.Errorf("profile %q (-want +got):\n%s", name, diff)
		}
	}
	for _, p := range suites.Profiles() {
		if _, tested := tests[p.Name]; !tested {
			t.Errorf("profile %s is not tested", p.Name)
		}
	}
	sel := selection()
	sel.Profile = "fast"
	if _, err := s.Plan(sel); err == nil || !strings.Contains(err.Error(), "quick, conformance") {
		t.Errorf("an unknown profile: %v", err)
	}
}

func TestPlanThatSelectsNothing(t *testing.T) {
	s := built(t, frame(t), area("x", check("x/a")))
	sel := selection()
	sel.Profile = "chaos"
	if _, err := s.Plan(sel); !errors.Is(err, suites.ErrNoMatch) {
		t.Errorf("a profile that selects nothing: %v", err)
	}
}

func TestPlanLeftOut(t *testing.T) {
	s := planSuite(t)
	whys := func(sel suites.Selection) map[string]string {
		plan, err := s.Plan(sel)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for _, l := range plan.LeftOut {
			out[l.Check] = l.Why
		}
		for _, p := range plan.Planned {
			if _, both := out[p.Check]; both && p.Area != "target" {
				t.Errorf("%s is planned and left out", p.Check)
			}
		}
		return out
	}
	quick := selection()
	quick.Profile = "quick"
	if diff := cmp.Diff(map[string]string{"rpc/calm/slow": "takes 1m0s, profile quick stops at 8s"}, whys(quick)); diff != "" {
		t.Errorf("quick (-want +got):\n%s", diff)
	}
	if got := whys(selection("perf")); got["rpc/wire/one"] != "not among the patterns" || got["perf/echo"] != "" {
		t.Errorf("patterns: %v", got)
	}
	latency := selection()
	latency.Profile = "latency"
	if got := whys(latency); got["rpc/wire/one"] != "area not in profile latency" {
		t.Errorf("latency: %v", got)
	}
}

func TestPlanNotRun(t *testing.T) {
	s := planSuite(t)
	sel := selection("rpc/wire")
	sel.Barred = func(c suites.Check, key results.Key) string {
		if key.Under == slowly.String() || c.ID == "target/stays-up" {
			return "no driver works: /dev/net/tun is missing"
		}
		return ""
	}
	plan, err := s.Plan(sel)
	if err != nil {
		t.Fatal(err)
	}
	want := []results.NotRun{
		{Check: "rpc/wire/many", Case: "a", Under: "net/delay=0.08", Probe: "no driver works: /dev/net/tun is missing"},
		{Check: "rpc/wire/many", Case: "b", Under: "net/delay=0.08", Probe: "no driver works: /dev/net/tun is missing"},
		{Check: "target/stays-up", Probe: "no driver works: /dev/net/tun is missing"},
	}
	if diff := cmp.Diff(want, plan.NotRun); diff != "" {
		t.Errorf("not run (-want +got):\n%s", diff)
	}
	for _, n := range plan.NotRun {
		for _, p := range plan.Planned {
			if p.Key() == (results.Key{Check: n.Check, Case: n.Case, Under: n.Under}) {
				t.Errorf("%s is planned although it can not run", p.Key())
			}
		}
	}
	sel.Barred = func(suites.Check, results.Key) string { return "nothing works here" }
	if plan, err := s.Plan(sel); !errors.Is(err, suites.ErrNothingRuns) || len(plan.Planned) != 0 || len(plan.NotRun) == 0 {
		t.Errorf("all barred: %d planned, %d not run, %v", len(plan.Planned), len(plan.NotRun), err)
	}
}

func TestPlanProbesClaims(t *testing.T) {
	s := planSuite(t)
	sel := selection("rpc/wire/one")
	sel.Probing = true
	plan, err := s.Plan(sel)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"claims/rpc.framed", "rpc/wire/one"}, driven(plan)); diff != "" {
		t.Errorf("with probing (-want +got):\n%s", diff)
	}
}

func TestPlanCopiesWhatReportsNeed(t *testing.T) {
	s := planSuite(t)
	plan, err := s.Plan(selection("rpc/wire/many#b@proc/pause", "rpc/wire/one"))
	if err != nil {
		t.Fatal(err)
	}
	want := []results.Planned{
		{
			Check: "rpc/wire/many", Case: "b", Under: "proc/pause=0.4", Area: "rpc", Title: "title of rpc/wire/many: case b",
			Covers: []string{"rpc/wire/many"}, Standard: true, Decides: true, Reproduce: "assay run rpc/wire/many#b@proc/pause=0.4",
		},
		{
			Check: "rpc/wire/one", Area: "rpc", Title: "title of rpc/wire/one", Covers: []string{"rpc/wire/one"},
			Needs: []string{"rpc.framed"}, Standard: true, Decides: true, Reproduce: "assay run rpc/wire/one",
		},
	}
	if diff := cmp.Diff(want, plan.Planned[:2]); diff != "" {
		t.Errorf("planned (-want +got):\n%s", diff)
	}
	var ids []string
	for _, r := range plan.Requirements {
		ids = append(ids, r.ID)
	}
	if diff := cmp.Diff([]string{"rpc/wire/many", "rpc/wire/one", "target/ready", "target/stays-up"}, ids); diff != "" {
		t.Errorf("requirements (-want +got):\n%s", diff)
	}
}

// everyPatternSelectsItsKey demands that the command that a report prints runs that one case.
func everyPatternSelectsItsKey(t *testing.T, s *suites.Suite) {
	t.Helper()
	n := 0
	for _, c := range s.Checks() {
		if !c.Driven() {
			continue
		}
		for _, key := range c.Keys() {
			n++
			plan, err := s.Plan(selection(suites.Pattern(key)))
			if err != nil {
				t.Errorf("%s: %v", key, err)
				continue
			}
			if diff := cmp.Diff([]string{suites.Pattern(key)}, driven(plan)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", key, diff)
			}
		}
	}
	if n == 0 {
		t.Fatal("no key: this test proves nothing")
	}
}

func TestPatternSelectsItsKey(t *testing.T) { everyPatternSelectsItsKey(t, planSuite(t)) }

func TestSuggest(t *testing.T) {
	ids := []string{"kitten", "sitting", "mitten", "zzzzzzzz"}
	if got := suites.Suggest("kitte", ids); got != "; nearest: kitten, mitten, sitting" {
		t.Errorf("Suggest = %q", got)
	}
	if got := suites.Suggest("x", nil); got != "" {
		t.Errorf("Suggest among nothing = %q", got)
	}
}
