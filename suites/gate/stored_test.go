package gate_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/results/seal"
	"github.com/assay-bench/assay/scenarios/duet"
	"github.com/assay-bench/assay/suites/gate"
)

var (
	thisHost = results.Host{CPU: "Some CPU", Cores: 2, Kernel: "6.1"}
	thisTool = results.Tool{Name: "assay", Version: "0.3.0", OS: "linux", Arch: "amd64"}
)

const reference = "5eed"

// storedRun writes the bundle of a run in which the reference was the baseline, and the candidate 30 % slower than it.
func storedRun(t *testing.T, s sample) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "stored")
	p, err := gate.ParsePolicy([]byte(policyText))
	if err != nil {
		t.Fatal(err)
	}
	run := results.Run{APIVersion: results.APIVersion, Kind: gate.Kind, Host: thisHost, Tool: thisTool, Requirements: []results.Requirement{}}
	w, err := results.Create(dir, run)
	if err != nil {
		t.Fatal(err)
	}
	s.random = rand.New(rand.NewPCG(31, 31))
	recordInto(t, w.Evidence(), p, &s, gate.Sides{Options: gate.Options{NoPreflight: true}, Baseline: gate.ArtefactRef{Digest: reference}})
	if err := errors.Join(w.WriteFile(results.PolicyFile, []byte(policyText)), w.Close(), seal.Write(dir, "suite", 1)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Against a stored result a change shows through the reference, however much both differ from it, and it is advice unless the user
// lets it gate.
//
// Rows: gate/baseline/advisory.
func TestRatioOfRatios(t *testing.T) {
	stored, err := gate.ReadStored(storedRun(t, sample{noise: 0.007, effect: 0.30}))
	if err != nil {
		t.Fatal(err)
	}
	if err := stored.Comparable(thisHost, thisTool, []byte(policyText), reference); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		effect  float64 // against the reference
		through gate.Through
		status  results.Status
		exit    results.Exit
	}{
		"unchanged":              {0.30, gate.Advisory, results.Pass, results.ExitPass},
		"unchanged, gating":      {0.30, gate.Gating, results.Pass, results.ExitPass},
		"10 % slower":            {1.30*1.10 - 1, gate.Advisory, results.Fail, results.ExitPass},
		"10 % slower, gating":    {1.30*1.10 - 1, gate.Gating, results.Fail, results.ExitFail},
		"faster, still above it": {0.10, gate.Gating, results.Pass, results.ExitPass},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := gate.ParsePolicy([]byte(policyText))
			if err != nil {
				t.Fatal(err)
			}
			s := sample{noise: 0.007, effect: c.effect, random: rand.New(rand.NewPCG(32, 32))}
			sides := gate.Sides{Options: gate.Options{Through: c.through, Epochs: stored.Epochs()}, Stored: &stored}
			run, all := recordInto(t, discard{}, p, &s, sides)
			if err := gate.CheckPlan(run, []byte(policyText), all); err != nil {
				t.Error(err)
			}
			v, exit := verdicts(t, policyText, run, all)
			if v.Status != c.status || exit != c.exit || !strings.Contains(v.Why.Observed, "through the reference") {
				t.Errorf("%s %q, exit %d: %s", v.Status, v.Reason, exit, v.Why.Observed)
			}
			if got, want := figure(t, v, "change"), (1+c.effect)/1.30-1; got < want-0.02 || got > want+0.02 {
				t.Errorf("change %v, planted %v", got, want)
			}
		})
	}
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// A plan that calls advice a gate, or a gate advice, is not that of its evidence.
func TestPlanOfARatioOfRatiosIsHeld(t *testing.T) {
	stored, err := gate.ReadStored(storedRun(t, sample{noise: 0.007}))
	if err != nil {
		t.Fatal(err)
	}
	p, err := gate.ParsePolicy([]byte(policyText))
	if err != nil {
		t.Fatal(err)
	}
	s := sample{noise: 0.007, random: rand.New(rand.NewPCG(32, 32))}
	run, all := recordInto(t, discard{}, p, &s, gate.Sides{Options: gate.Options{Through: gate.Gating, Epochs: 12}, Stored: &stored})
	run.Plan[0].Decides = false
	if err := gate.CheckPlan(run, []byte(policyText), all); err == nil {
		t.Error("a gating metric was planned as advice, and the plan was taken")
	}
	run, all = recordInto(t, discard{}, p, &s, gate.Sides{Options: gate.Options{Through: gate.Gating, Epochs: 12}})
	if v, exit := gateVerdict(t, policyText, run, all); v.Status != results.Broken || exit != results.ExitHarness {
		t.Errorf("without the stored result: %s, exit %d", v.Status, exit)
	}
}

// A ratio is not the same on another class of host, against another reference, with another policy or generator.
//
// Rows: gate/baseline/host-class.
func TestStoredResultsThatAreRefused(t *testing.T) {
	stored, err := gate.ReadStored(storedRun(t, sample{noise: 0.007}))
	if err != nil {
		t.Fatal(err)
	}
	otherHost, otherTool := thisHost, thisTool
	otherHost.CPU, otherTool.Version = "Another CPU", "0.4.0"
	few := stored
	few.Ratios = map[string][]float64{"s/p50": {0, 0, 0}}
	for name, c := range map[string]struct {
		stored    gate.Stored
		host      results.Host
		tool      results.Tool
		policy    string
		reference string
		says      string
	}{
		"host class":     {stored, otherHost, thisTool, policyText, reference, "host class"},
		"reference":      {stored, thisHost, thisTool, policyText, "0bad", "reference"},
		"policy":         {stored, thisHost, thisTool, policyText + "#", reference, "policy"},
		"load generator": {stored, thisHost, otherTool, policyText, reference, "load generator"},
		"few epochs":     {few, thisHost, thisTool, policyText, reference, "3 valid epochs"},
	} {
		err := c.stored.Comparable(c.host, c.tool, []byte(c.policy), c.reference)
		if !errors.Is(err, duet.ErrNotComparable) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStoredBundlesThatAreNone(t *testing.T) {
	if _, err := gate.ReadStored(t.TempDir()); !errors.Is(err, duet.ErrNotComparable) {
		t.Errorf("an empty folder: %v", err)
	}
	dir := storedRun(t, sample{noise: 0.007})
	path := filepath.Join(dir, results.EvidenceFile)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := gate.CheckSeal(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(raw), `"p50":0.`, `"p50":1.`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := gate.ReadStored(dir); !errors.Is(err, duet.ErrNotComparable) {
		t.Errorf("figures that were edited: %v", err)
	}
	if err := gate.CheckSeal(dir); !errors.Is(err, duet.ErrNotComparable) {
		t.Errorf("a seal that is broken: %v", err)
	}
}
