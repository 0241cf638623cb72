package main

import (
	"errors"
	"math"
	"testing"
)

// A tail shows only above the host's own p99: the search finds the work at which it rises by the effect.
func TestSearchTail(t *testing.T) {
	for _, hidden := range []float64{0, 1.5, 4, 11} { // work that the host's own tail hides
		work, err := searchTail(0.2, func(work float64) (float64, error) { return max(0, work-hidden) / 10, nil })
		if err != nil || math.Abs(work-hidden-2) > 0.75 {
			t.Errorf("hidden %v: %v, %v, want %v", hidden, work, err, hidden+2)
		}
	}
	if _, err := searchTail(0.2, func(float64) (float64, error) { return 0, nil }); err == nil {
		t.Error("a p99 that feels nothing gives an answer")
	}
	broken := errors.New("broken")
	if _, err := searchTail(0.2, func(float64) (float64, error) { return 0, broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
}
