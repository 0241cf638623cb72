package results_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assay-bench/assay/results"
)

func TestValidate(t *testing.T) {
	tests := []struct {
		name string
		v    results.Verdict
		err  string // empty: valid
	}{
		{"pass", results.Verdict{Check: "a", Status: results.Pass, Cites: []uint64{1, 9}}, ""},
		{"fail", results.Verdict{Check: "a", Status: results.Fail, Reason: "r"}, ""},
		{"not claimed", results.Verdict{Check: "a", Status: results.NotClaimed}, ""},
		{"unproven", results.Verdict{Check: "a"}, ""},
		{"pass without evidence", results.Verdict{Check: "a", Status: results.Pass}, "a: a pass must cite evidence"},
		{"pass that cites beyond the last", results.Verdict{Check: "a", Status: results.Pass, Cites: []uint64{10}}, "a: cites evidence 10, the last one is 9"},
		{"fail that cites beyond the last", results.Verdict{Check: "a", Case: "c", Status: results.Fail, Reason: "r", Cites: []uint64{1, 11}}, "a#c: cites evidence 11"},
		{"cites number 0", results.Verdict{Check: "a", Status: results.Pass, Cites: []uint64{0}}, "a: cites evidence 0"},
		{"fail without reason", results.Verdict{Check: "a", Status: results.Fail, Cites: []uint64{1}}, "a: fail without a reason"},
		{"inconclusive without reason", results.Verdict{Check: "a", Status: results.Inconclusive}, "a: inconclusive without a reason"},
		{"broken without reason", results.Verdict{Check: "a", Status: results.Broken}, "a: broken without a reason"},
		{"no check", results.Verdict{Status: results.Fail, Reason: "r"}, "verdict without a check"},
	}
	for _, tt := range tests {
		err := tt.v.Validate(9)
		switch {
		case tt.err == "" && err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case tt.err != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.err)):
			t.Errorf("%s: error %v, want one that begins %q", tt.name, err, tt.err)
		}
	}
	if err := (results.Verdict{Check: "a", Status: results.Pass}).Validate(9); !errors.Is(err, results.ErrUncited) {
		t.Errorf("%v does not wrap ErrUncited", err)
	}
}

func TestWriteVerdictsRefuses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "b")
	w, err := results.Create(dir, aRun())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	good := results.Verdicts{
		APIVersion: results.APIVersion, Executed: 1,
		Verdicts: []results.Verdict{{Check: "a", Status: results.Pass, Cites: []uint64{1}}},
	}
	if err := w.WriteVerdicts(good, 1); err != nil {
		t.Fatal(err)
	}
	before := read(t, filepath.Join(dir, results.VerdictsFile))
	bad := good
	bad.Verdicts = append(bad.Verdicts[:1:1], results.Verdict{Check: "b", Status: results.Pass})
	if err := w.WriteVerdicts(bad, 1); !errors.Is(err, results.ErrUncited) {
		t.Errorf("a pass that cites nothing was written: %v", err)
	}
	if err := w.WriteVerdicts(good, 0); err == nil {
		t.Error("a citation of evidence that there is not was written")
	}
	if after := read(t, filepath.Join(dir, results.VerdictsFile)); after != before {
		t.Errorf("what was there was written over: %s", after)
	}
}

func TestCount(t *testing.T) {
	v := results.Verdicts{Verdicts: []results.Verdict{{Status: results.Pass}, {Status: results.Fail}, {Status: results.Pass}, {}}}
	for s, want := range map[results.Status]int{results.Pass: 2, results.Fail: 1, results.Unproven: 1, results.Broken: 0} {
		if got := v.Count(s); got != want {
			t.Errorf("%d verdicts are %s, want %d", got, s, want)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
