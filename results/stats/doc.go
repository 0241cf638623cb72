// Package stats holds the estimators and exact tests by which assay decides: the signed-rank test with its
// inversion, sign flips, binomial and clustered bounds, corrections for many tests, spending for repeated looks
// and the smallest effect that a plan can find.
//
// Its unit is what was drawn independently: the epoch of a duet or the repetition of a run, never the single
// request (gate.md section 6.1). Everything is deterministic. What draws at random takes a seed. It reads no
// clock, and imports nothing of the house.
package stats

import (
	"errors"
	"fmt"
	"math"
)

// MaxUnits bounds the sample of the exact signed-rank test: beyond it the weights of the null leave the range of
// float64.
const MaxUnits = 1000

// ErrSample is wrapped by the errors about samples: empty, too large, not finite.
var ErrSample = errors.New("sample can not be used")

// finite refuses samples that hold no number at all or something that is none.
func finite(x []float64) error {
	if len(x) == 0 {
		return fmt.Errorf("%w: it is empty", ErrSample)
	}
	for i, v := range x {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("%w: value %d is %v", ErrSample, i, v)
		}
	}
	return nil
}

// probability refuses what is not strictly between 0 and 1.
func probability(name string, p float64) error {
	if !(p > 0 && p < 1) {
		return fmt.Errorf("%s is %v, want a probability between 0 and 1", name, p)
	}
	return nil
}
