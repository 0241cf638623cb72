package tls

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/suites"
)

// suite puts the frame and both areas together.
func suite(t testing.TB) *suites.Suite {
	t.Helper()
	var areas []suites.Area
	for _, area := range []func() (suites.Area, error){suites.Frame, Claims, Area} {
		a, err := area()
		if err != nil {
			t.Fatal(err)
		}
		areas = append(areas, a)
	}
	s, err := suites.New(areas...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestServerChecksAreMany(t *testing.T) {
	n := 0
	for _, c := range serverChecks(t) {
		n += len(c.Keys())
	}
	if n < 60 {
		t.Errorf("%d cases for servers, want 60 at least", n)
	}
}

// TestServerRowsAreCovered lists the rows that speak of a server: each has a check of its own name.
func TestServerRowsAreCovered(t *testing.T) {
	s := suite(t)
	for _, id := range serverCheckIDs() {
		if _, ok := s.Requirement(id); !ok {
			t.Errorf("no row %s is in the catalogue", id)
		}
		if c, ok := s.Check(id); !ok || len(c.Covers) != 1 || c.Covers[0] != id {
			t.Errorf("check %s covers %v", id, c.Covers)
		}
	}
}

func TestEveryFeatureHasAClaim(t *testing.T) {
	s, n := suite(t), 0
	for _, f := range features.All() {
		if !strings.HasPrefix(string(f.Feature), "tls.") {
			continue
		}
		n++
		if _, ok := s.Requirement("claims/" + string(f.Feature)); !ok {
			t.Errorf("feature %s has no row among the claims", f.Feature)
		}
	}
	if n == 0 {
		t.Fatal("saw no feature of TLS: this test proves nothing")
	}
}

func TestServerChecksWithoutEvidence(t *testing.T) {
	for _, c := range serverChecks(t) {
		for _, key := range c.Keys() {
			f := c.Judge(suites.Trace{Key: key})
			if f.Status == results.Pass || len(f.Cites) > 0 {
				t.Errorf("%s without evidence is %s and cites %v", suites.Pattern(key), f.Status, f.Cites)
			}
			if f := c.Judge(suites.Trace{Key: results.Key{Check: c.ID, Case: "no-such-case"}}); f.Status == results.Pass {
				t.Errorf("a case of %s that does not exist passes", c.ID)
			}
		}
	}
}

// TestCapabilityProbed proves tls/kex/capability-probed: what depends on a group needs the feature that
// claims it, each such feature has a probe, and a target without post-quantum groups gets NotClaimed for
// all of them and no Fail.
func TestCapabilityProbed(t *testing.T) {
	s := suite(t)
	if r, ok := s.Requirement("tls/kex/capability-probed"); !ok || r.Subject != "harness" {
		t.Errorf("the row is %+v, want one on the harness", r)
	}
	grouped := map[string]bool{}
	for _, g := range pqGroups() {
		grouped[string(g.feature)] = true
		if _, ok := s.Check("claims/" + string(g.feature)); !ok {
			t.Errorf("%s has no probe", g.feature)
		}
	}
	plan, err := s.Plan(suites.Selection{
		Patterns: []string{"tls/kex", "tls/hello"}, Probing: true,
		Barred:    func(suites.Check, results.Key) string { return "" },
		Reproduce: func(results.Key) string { return "" },
	})
	if err != nil {
		t.Fatal(err)
	}
	rec := results.NewRecorder(io.Discard, results.ClockSince(time.Now()))
	put := func(key results.Key, kind results.Kind, data any) {
		if _, err := rec.Record(key, results.FromTarget, kind, data); err != nil {
			t.Fatal(err)
		}
	}
	put(suites.FrameKey, results.Claimed, claimed(features.TLSServer, features.TLSTLS12))
	put(suites.FrameKey, results.Ready, nil)
	probed := map[string]bool{}
	need := map[results.Key]bool{}
	for _, p := range plan.Planned {
		probed[p.Check] = true
		for _, f := range p.Needs {
			need[p.Key()] = need[p.Key()] || grouped[f]
		}
		if need[p.Key()] {
			put(p.Key(), results.Ended, nil)
		}
	}
	for f := range grouped {
		if !probed["claims/"+f] {
			t.Errorf("claims/%s is not planned beside the checks that need it", f)
		}
	}
	n := 0
	for _, v := range s.Judge(results.Run{Plan: plan.Planned, Requirements: plan.Requirements, Probing: true}, rec.All()) {
		if !need[v.Key()] {
			continue
		}
		n++
		if v.Status != results.NotClaimed {
			t.Errorf("%s is %s %s", v.Key(), v.Status, v.Reason)
		}
	}
	if n < 40 {
		t.Fatalf("saw %d cases that depend on a group: this test proves nothing", n)
	}
}
