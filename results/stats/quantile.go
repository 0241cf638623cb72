package stats

import (
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// Quantile returns the p-quantile of a sorted sample by linear interpolation of its empirical distribution
// (gate.md section 3.4). It panics where the sample is empty or not sorted, as stat.Quantile does.
func Quantile(p float64, sorted []float64) float64 {
	return stat.Quantile(p, stat.LinInterp, sorted, nil)
}

// QuantileBounds returns order statistics of a sorted sample of independent values that bound its p-quantile, each
// one-sided at confidence (David and Nagaraja, Order Statistics, 7.1). A bound that the sample is too small for is
// infinite. Requests of one process are not independent: for them take the quantiles of epochs, or ShareBounds.
func QuantileBounds(p float64, sorted []float64, confidence float64) (lower, upper float64, err error) {
	if err := finite(sorted); err != nil {
		return 0, 0, err
	}
	if !slices.IsSorted(sorted) {
		return 0, 0, fmt.Errorf("%w: it is not sorted", ErrSample)
	}
	if err := probability("quantile", p); err != nil {
		return 0, 0, err
	}
	if err := probability("confidence", confidence); err != nil {
		return 0, 0, err
	}
	n := len(sorted)
	below := distuv.Binomial{N: float64(n), P: p} // how many values lie below the quantile
	lower, upper = math.Inf(-1), math.Inf(1)
	// x_(j) is above the quantile unless j or more values are below it.
	for lo, hi := 1, n; lo <= hi; {
		j := (lo + hi) / 2
		if below.CDF(float64(j-1)) >= confidence {
			upper, hi = sorted[j-1], j-1
		} else {
			lo = j + 1
		}
	}
	// x_(j) is below the quantile if j or more values are.
	for lo, hi := 1, n; lo <= hi; {
		j := (lo + hi) / 2
		if 1-below.CDF(float64(j-1)) >= confidence {
			lower, lo = sorted[j-1], j+1
		} else {
			hi = j - 1
		}
	}
	return lower, upper, nil
}

// ShareBounds bounds the mean of shares, one of each epoch (of requests over a limit, say), by Student's t, each bound
// one-sided at confidence. The epoch is the unit: however many requests it holds, it counts once. Errors: fewer
// than two shares, one outside 0 to 1.
func ShareBounds(shares []float64, confidence float64) (lower, upper float64, err error) {
	if err := finite(shares); err != nil {
		return 0, 0, err
	}
	if err := probability("confidence", confidence); err != nil {
		return 0, 0, err
	}
	n := float64(len(shares))
	if n < 2 {
		return 0, 0, fmt.Errorf("%w: one share has no spread", ErrSample)
	}
	for i, s := range shares {
		if s < 0 || s > 1 {
			return 0, 0, fmt.Errorf("%w: share %d is %v, want 0 to 1", ErrSample, i, s)
		}
	}
	mean, sd := stat.MeanStdDev(shares, nil)
	half := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: n - 1}.Quantile(confidence) * sd / math.Sqrt(n)
	return max(0, mean-half), min(1, mean+half), nil
}

// SamplesForQuantile returns the fewest independent samples that can show, without one miss, that a p-quantile is
// below a limit at confidence: n ≥ ln(1−confidence)/ln(p), the floor of MLPerf LoadGen's early stopping.
func SamplesForQuantile(p, confidence float64) (int, error) {
	if err := probability("quantile", p); err != nil {
		return 0, err
	}
	if err := probability("confidence", confidence); err != nil {
		return 0, err
	}
	return int(math.Ceil(math.Log(1-confidence) / math.Log(p))), nil
}
