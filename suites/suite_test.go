package suites_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/assay-bench/assay/chaos"
	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/suites"
)

// row is a requirement of basis standard.
func row(id string) suites.Requirement {
	return suites.Requirement{
		ID: id, Level: "MUST", Basis: "standard", Subject: "target", Document: "a standard", Statement: "It holds.", Observe: "look",
	}
}

// area holds checks and one requirement for each id that they cover.
func area(name string, checks ...suites.Check) suites.Area {
	a := suites.Area{Name: name, Checks: checks}
	seen := map[string]bool{}
	for _, c := range checks {
		for _, id := range c.Covers {
			if !seen[id] {
				a.Requirements = append(a.Requirements, row(id))
			}
			seen[id] = true
		}
	}
	return a
}

func drive(context.Context, *scenarios.Env) error { return nil }

// check is a valid check whose judge does what the case's evidence of kind Measured tells it.
func check(id string, change ...func(*suites.Check)) suites.Check {
	c := suites.Check{
		ID: id, Title: "title of " + id, Covers: []string{id}, Reasons: []string{"bad"},
		Drive: drive, Judge: obey, Kills: []suites.Kill{{Defect: "some.defect", Reason: "bad"}},
	}
	for _, f := range change {
		f(&c)
	}
	return c
}

// obey returns the finding that stands in the evidence.
func obey(t suites.Trace) suites.Finding {
	for _, e := range t.Evidence {
		if e.Kind != results.Measured {
			continue
		}
		var f suites.Finding
		if err := json.Unmarshal(e.Data, &f); err != nil {
			return suites.Finding{Observed: err.Error()}
		}
		if f.Cites == nil {
			f.Cites = []uint64{e.Seq}
		}
		return f
	}
	return suites.Failing("bad", "a measurement", "none", nil)
}

func cases(ids ...string) func(*suites.Check) {
	return func(c *suites.Check) {
		for _, id := range ids {
			c.Cases = append(c.Cases, suites.Case{ID: id, Title: "case " + id})
		}
	}
}

func needs(fs ...features.Feature) func(*suites.Check) {
	return func(c *suites.Check) { c.Needs = append(c.Needs, fs...) }
}

func under(specs ...chaos.Spec) func(*suites.Check) {
	return func(c *suites.Check) {
		c.Under, c.Endpoint = specs, "rpc"
		c.Probe = func(context.Context, *scenarios.Env, string) (time.Duration, error) { return 0, nil }
	}
}

func built(t testing.TB, areas ...suites.Area) *suites.Suite {
	t.Helper()
	s, err := suites.New(areas...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func frame(t testing.TB) suites.Area {
	t.Helper()
	a, err := suites.Frame()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

var pause = chaos.Spec{Name: "proc/pause", Magnitude: 0.4}

func TestNewRefuses(t *testing.T) {
	two := func(a, b suites.Check) []suites.Area { return []suites.Area{area("x", a), area("y", b)} }
	one := func(change ...func(*suites.Check)) []suites.Area {
		return []suites.Area{area("x", check("x/a", change...))}
	}
	kill := func(ks ...suites.Kill) func(*suites.Check) { return func(c *suites.Check) { c.Kills = ks } }
	reasons := func(rs ...string) func(*suites.Check) {
		return func(c *suites.Check) { c.Reasons = append(c.Reasons, rs...) }
	}
	uncovered := area("x", check("x/a"))
	uncovered.Requirements = []suites.Requirement{row("x/other")}
	ofHarness := area("x", check("x/a"))
	ofHarness.Requirements[0].Subject = "harness"

	tests := []struct {
		name  string
		areas []suites.Area
		says  string
	}{
		{"nothing", nil, "a suite without checks proves nothing"},
		{"no checks", []suites.Area{{Name: "x", Requirements: []suites.Requirement{row("x/a")}}}, "without checks"},
		{"unknown requirement", []suites.Area{uncovered}, "check x/a: covers unknown requirement x/a"},
		{"requirement of the harness", []suites.Area{ofHarness}, "whose subject is the harness"},
		{"covers nothing", one(func(c *suites.Check) { c.Covers = nil }), "covers no requirement"},
		{"check twice", two(check("x/a"), check("x/a", func(c *suites.Check) { c.Covers = []string{"y/a"} })), "check x/a stands twice"},
		{"requirement twice", two(check("x/a"), check("y/a", func(c *suites.Check) { c.Covers = []string{"x/a"} })), "requirement x/a stands twice"},
		{"case twice", one(cases("k", "k")), `case "k" stands twice`},
		{"no kills", one(kill()), "names no planted defect"},
		{"kill without defect", one(kill(suites.Kill{Reason: "bad"})), "a kill names no defect"},
		{"kill with another reason", one(kill(suites.Kill{Defect: "d", Reason: "worse"})), `the kill of d has reason "worse"`},
		{"kill without reason", one(kill(suites.Kill{Defect: "d"})), `the kill of d has reason ""`},
		{"kill in a missing case", one(cases("k"), kill(suites.Kill{Defect: "d", Reason: "bad", Case: "l"})), `names case "l"`},
		{"kill in a case where there are none", one(kill(suites.Kill{Defect: "d", Reason: "bad", Case: "k"})), `names case "k"`},
		{"kill under a missing fault", one(cases("k"), kill(suites.Kill{Defect: "d", Reason: "bad", Case: "k", Under: "proc/pause=0.4"})), `under "proc/pause=0.4"`},
		{"kill of any case under a missing fault", one(under(pause), kill(suites.Kill{Defect: "d", Reason: "bad", Under: "proc/pause"})), `under "proc/pause"`},
		{"kill in fair weather, which is not run", one(under(pause), func(c *suites.Check) { c.Only = true }), `under ""`},
		{"reason of the frame", one(reasons("control-failed")), "reason control-failed"},
		{"reason host-noise", one(reasons("host-noise")), "reason host-noise"},
		{"reason twice", one(reasons("bad")), "reason bad stands twice"},
		{"unknown feature", one(needs("rpc.telepathy")), "needs unknown feature rpc.telepathy"},
		{"unknown feature of a case", one(cases("k"), func(c *suites.Check) { c.Cases[0].Needs = []features.Feature{"x"} }), "unknown feature x"},
		{"fault without probe", one(under(pause), func(c *suites.Check) { c.Probe = nil }), "no endpoint and probe"},
		{"fault without endpoint", one(under(pause), func(c *suites.Check) { c.Endpoint = "" }), "no endpoint and probe"},
		{"only under no fault", one(func(c *suites.Check) { c.Only = true }), "runs only under faults and names none"},
		{"no slug", []suites.Area{area("x", check("x/A b"))}, "the id is no slug"},
		{"no judge", one(func(c *suites.Check) { c.Judge = nil }), "title, drive and judge"},
		{"no drive", one(func(c *suites.Check) { c.Drive = nil }), "title, drive and judge"},
		{"no title", one(func(c *suites.Check) { c.Title = "" }), "title, drive and judge"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := suites.New(tt.areas...)
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want one that says %q", err, tt.says)
			}
		})
	}
}

func TestNewNamesAllFaultsAtOnce(t *testing.T) {
	_, err := suites.New(area("x", check("x/a", func(c *suites.Check) { c.Kills = nil }), check("x/b", needs("nope"))))
	if err == nil || !strings.Contains(err.Error(), "x/a") || !strings.Contains(err.Error(), "x/b") {
		t.Errorf("error %v does not name both checks", err)
	}
}

func TestEveryFrameReasonIsReserved(t *testing.T) {
	reserved := []string{
		suites.ReasonControl, suites.ReasonClaimAbsent, suites.ReasonNotReady, suites.ReasonNotWitnessed, suites.ReasonResidue,
		suites.ReasonHostNoise, suites.ReasonHarness, suites.ReasonUnfinished, suites.ReasonJudge, suites.ReasonStale,
	}
	for _, r := range reserved {
		if _, err := suites.New(area("x", check("x/a", func(c *suites.Check) { c.Reasons = append(c.Reasons, r) }))); err == nil {
			t.Errorf("a check may use the frame's reason %s", r)
		}
	}
}

func TestSuiteFinds(t *testing.T) {
	house := check("x/b", func(c *suites.Check) { c.Covers = []string{"x/b", "x/a"} })
	a := area("x", check("x/a"), house)
	a.Requirements[1].Basis = "house"
	s := built(t, a)
	if got := s.CheckedBy("x/a"); len(got) != 2 || got[0] != "x/a" || got[1] != "x/b" {
		t.Errorf("x/a is checked by %q", got)
	}
	if got := s.CheckedBy("x/none"); got != nil {
		t.Errorf("x/none is checked by %q", got)
	}
	if s.AreaOf("x/a") != "x" || s.AreaOf("nope") != "" {
		t.Error("AreaOf is wrong")
	}
	if r, ok := s.Requirement("x/b"); !ok || r.Basis != "house" {
		t.Errorf("requirement %+v, %t", r, ok)
	}
	if !s.Standard(house) {
		t.Error("a check that covers one row of a standard is house")
	}
	if !s.Decides(house) {
		t.Error("a check that covers a MUST of a standard does not decide")
	}
	house.Covers = []string{"x/b"}
	if s.Decides(house) {
		t.Error("a check that covers house rows only decides")
	}
	if s.Standard(house) {
		t.Error("a check that covers house rows only is standard")
	}
}

func TestDecides(t *testing.T) {
	for level, want := range map[string]bool{"MUST": true, "SHOULD": false, "MAY": false} {
		a := area("x", check("x/a"))
		a.Requirements[0].Level = level
		if got := built(t, a).Decides(a.Checks[0]); got != want {
			t.Errorf("a %s of a standard decides: %t", level, got)
		}
	}
	probe := area("claims", check("claims/rpc.framed"))
	probe.Requirements[0].Basis = "house"
	if !built(t, probe).Decides(probe.Checks[0]) {
		t.Error("whether a target is what it claims does not decide")
	}
}

func TestDigestFollowsDeclarations(t *testing.T) {
	base := func() suites.Area { return area("x", check("x/a", cases("k"), under(pause))) }
	digest := func(change func(*suites.Area)) string {
		a := base()
		change(&a)
		return built(t, a).Digest()
	}
	plain := digest(func(*suites.Area) {})
	if again := digest(func(*suites.Area) {}); again != plain {
		t.Error("equal declarations have different digests")
	}
	changes := map[string]func(*suites.Area){
		"statement": func(a *suites.Area) { a.Requirements[0].Statement += "!" },
		"level":     func(a *suites.Area) { a.Requirements[0].Level = "MAY" },
		"reasons":   func(a *suites.Area) { a.Checks[0].Reasons = []string{"bad", "worse"} },
		"kills":     func(a *suites.Area) { a.Checks[0].Kills[0].Defect = "other.defect" },
		"cases":     func(a *suites.Area) { a.Checks[0].Cases = append(a.Checks[0].Cases, suites.Case{ID: "l"}) },
		"faults":    func(a *suites.Area) { a.Checks[0].Under = []chaos.Spec{{Name: "proc/pause", Magnitude: 0.5}} },
		"cost":      func(a *suites.Area) { a.Checks[0].Cost.Exclusive = true },
	}
	for name, change := range changes {
		if digest(change) == plain {
			t.Errorf("a change of %s leaves the digest as it was", name)
		}
	}
}

func TestWithin(t *testing.T) {
	const ms = time.Millisecond
	tests := []struct {
		stall, measured time.Duration
		want            suites.Timing
	}{
		{0, 99 * ms, suites.TooEarly},
		{0, 100 * ms, suites.Inside},
		{0, 200 * ms, suites.Inside},
		{0, 201 * ms, suites.TooLate},
		{10 * ms, 89 * ms, suites.TooEarly},
		{10 * ms, 90 * ms, suites.Unsure},
		{10 * ms, 109 * ms, suites.Unsure},
		{10 * ms, 110 * ms, suites.Inside},
		{10 * ms, 190 * ms, suites.Inside},
		{10 * ms, 191 * ms, suites.Unsure},
		{10 * ms, 210 * ms, suites.Unsure},
		{10 * ms, 211 * ms, suites.TooLate},
		{60 * ms, 150 * ms, suites.Unsure},
		{60 * ms, 10 * ms, suites.TooEarly},
		{60 * ms, 500 * ms, suites.TooLate},
	}
	for _, tt := range tests {
		if got := (suites.Trace{Stall: tt.stall}).Within(tt.measured, 100*ms, 200*ms); got != tt.want {
			t.Errorf("%s, stalled for %s: %d, want %d", tt.measured, tt.stall, got, tt.want)
		}
	}
}

func TestNoisy(t *testing.T) {
	tr := suites.Trace{Stall: 100 * time.Millisecond}
	if !tr.Noisy(499*time.Millisecond) || tr.Noisy(500*time.Millisecond) {
		t.Error("a bound is noisy below five times the stall, and only there")
	}
	if (suites.Trace{}).Noisy(0) {
		t.Error("without a stall nothing is noisy")
	}
}
