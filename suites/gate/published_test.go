package gate_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/suites/gate"
)

// The published trials give the same decisions and estimates again, bit for bit, and no pair of unchanged code among
// them was called a regression.
func TestPublishedTrialsReplay(t *testing.T) {
	all, err := gate.ReadTrials("../../results/published/gate/trials.jsonl")
	if err != nil || len(all) == 0 {
		t.Fatalf("%d trials, %v", len(all), err)
	}
	for i, trial := range all {
		again, err := trial.Replay()
		if err != nil {
			t.Fatalf("line %d: %v", i+1, err)
		}
		for name, diff := range map[string]string{
			"outcomes": cmp.Diff(trial.Outcomes, again.Outcomes), "epochs": cmp.Diff(trial.Epochs, again.Epochs), "estimates": cmp.Diff(trial.Estimates, again.Estimates),
		} {
			if diff != "" {
				t.Errorf("line %d, seed %d, %s:\n%s", i+1, trial.Seed, name, diff)
			}
		}
	}
}
