package suites_test

import (
	"strings"
	"testing"

	"github.com/assay-bench/assay/suites"
	"github.com/assay-bench/assay/suites/perf"
	"github.com/assay-bench/assay/suites/rpc"
	"github.com/assay-bench/assay/suites/sandbox"
	"github.com/assay-bench/assay/suites/tls"
	"github.com/assay-bench/assay/suites/tpm"
)

// realSuite is what the command puts together.
func realSuite(t testing.TB) *suites.Suite {
	t.Helper()
	var areas []suites.Area
	for _, area := range []func() (suites.Area, error){suites.Frame, rpc.Claims, tls.Claims, tpm.Claims, sandbox.Claims, rpc.Area, tls.Area, tpm.Area, sandbox.Area, perf.Area} {
		a, err := area()
		if err != nil {
			t.Fatal(err)
		}
		areas = append(areas, a)
	}
	return built(t, areas...)
}

func TestRealPatternSelectsItsKey(t *testing.T) { everyPatternSelectsItsKey(t, realSuite(t)) }

func TestRealProfiles(t *testing.T) {
	s := realSuite(t)
	n := 0
	for _, p := range suites.Profiles() {
		sel := selection()
		sel.Profile = p.Name
		plan, err := s.Plan(sel)
		if err != nil {
			t.Errorf("profile %s: %v", p.Name, err)
		}
		n += len(driven(plan))
	}
	if n == 0 {
		t.Fatal("no profile plans anything: this test proves nothing")
	}
}

func TestRealIdsBelongToTheirArea(t *testing.T) {
	s := realSuite(t)
	n := 0
	for _, c := range s.Checks() {
		n++
		if !strings.HasPrefix(c.ID, s.AreaOf(c.ID)+"/") {
			t.Errorf("check %s belongs to area %s", c.ID, s.AreaOf(c.ID))
		}
	}
	if n < 30 {
		t.Fatalf("saw %d checks: this test proves nothing", n)
	}
}

// TestRealChecksWithoutEvidence judges every case of the real suite although nothing was driven.
func TestRealChecksWithoutEvidence(t *testing.T) {
	s := realSuite(t)
	n := 0
	for _, c := range s.Checks() {
		for _, key := range c.Keys() {
			n++
			f := c.Judge(suites.Trace{Key: key})
			if f.Status.String() == "pass" || len(f.Cites) > 0 {
				t.Errorf("%s without evidence is %s and cites %v", key, f.Status, f.Cites)
			}
		}
	}
	if n < 60 {
		t.Fatalf("saw %d cases: this test proves nothing", n)
	}
}
