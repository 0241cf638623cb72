package results_test

import (
	"testing"

	"github.com/assay-bench/assay/results"
)

func TestExitOf(t *testing.T) {
	pass := results.Verdict{Check: "std", Status: results.Pass}
	fail := results.Verdict{Check: "std", Status: results.Fail}
	known := results.Verdict{Check: "std", Status: results.Fail, Expected: "a known bug"}
	open := results.Verdict{Check: "std", Status: results.Inconclusive}
	broken := results.Verdict{Check: "std", Status: results.Broken}
	unproven := results.Verdict{Check: "std"}
	unclaimed := results.Verdict{Check: "std", Status: results.NotClaimed}
	house := func(v results.Verdict) results.Verdict { v.Check = "house"; return v }
	frame := func(v results.Verdict) results.Verdict { v.Frame = true; return v }
	counts := func(v results.Verdict) bool { return v.Check != "house" }

	tests := []struct {
		name string
		of   []results.Verdict
		want results.Exit
	}{
		{"pass", []results.Verdict{pass}, results.ExitPass},
		{"pass beside not claimed", []results.Verdict{unclaimed, pass}, results.ExitPass},
		{"fail", []results.Verdict{pass, fail}, results.ExitFail},
		{"fail before broken", []results.Verdict{broken, fail, open, pass}, results.ExitFail},
		{"fail before unproven", []results.Verdict{unproven, fail}, results.ExitFail},
		{"broken before inconclusive", []results.Verdict{open, broken, pass}, results.ExitHarness},
		{"unproven before inconclusive", []results.Verdict{open, unproven, pass}, results.ExitHarness},
		{"inconclusive before pass", []results.Verdict{pass, open}, results.ExitInconclusive},
		{"known failing beside a pass", []results.Verdict{known, pass}, results.ExitPass},
		{"known failing alone proves nothing", []results.Verdict{known}, results.ExitHarness},
		{"inconclusive alone", []results.Verdict{open}, results.ExitInconclusive},
		{"house fail alone proves nothing", []results.Verdict{house(fail)}, results.ExitHarness},
		{"known failing beside a fail", []results.Verdict{known, fail}, results.ExitFail},
		{"house fail", []results.Verdict{pass, house(fail)}, results.ExitPass},
		{"house inconclusive", []results.Verdict{pass, house(open)}, results.ExitPass},
		{"house broken is the harness's", []results.Verdict{pass, house(broken)}, results.ExitHarness},
		{"nothing", nil, results.ExitHarness},
		{"nothing claimed", []results.Verdict{unclaimed, unclaimed}, results.ExitHarness},
		{"only the run as a whole", []results.Verdict{frame(pass), frame(pass)}, results.ExitHarness},
		{"the run as a whole fails", []results.Verdict{frame(fail)}, results.ExitFail},
		{"only broken", []results.Verdict{broken}, results.ExitHarness},
	}
	for _, tt := range tests {
		if got := results.ExitOf(tt.of, counts); got != tt.want {
			t.Errorf("%s: exit %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestRunCounts(t *testing.T) {
	decides, house := results.Key{Check: "a"}, results.Key{Check: "b"}
	plan := []results.Planned{{Check: "a", Decides: true}, {Check: "b", Standard: true}}
	tests := []struct {
		kind, basis string
		key         results.Key
		want        bool
	}{
		{"reference", "standard", house, true},
		{"command", "standard", house, false},
		{"command", "standard", decides, true},
		{"remote", "all", house, true},
		{"command", "standard", results.Key{Check: "unplanned"}, true},
	}
	for _, tt := range tests {
		run := results.Run{Target: results.Target{Kind: tt.kind}, Basis: tt.basis, Plan: plan}
		if got := run.Counts(tt.key); got != tt.want {
			t.Errorf("target %s, basis %s: %s counts = %t, want %t", tt.kind, tt.basis, tt.key, got, tt.want)
		}
	}
}
