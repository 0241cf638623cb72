package stats

import (
	"math"
	"slices"
)

// Estimate is a point with an interval. A bound that the sample is too small for is infinite.
type Estimate struct {
	Point, Lower, Upper float64
}

// HodgesLehmann returns the median of the Walsh averages (d_i+d_j)/2, i ≤ j (Hodges and Lehmann 1963), with the
// interval that inverts the signed-rank test: for values without ties Lower > m exactly where TestSignedRank of
// d−m has P < lowerLevel, and Upper < m exactly where that of m−d has P < upperLevel. Errors are those of
// TestSignedRank, and levels that are no probabilities.
func HodgesLehmann(d []float64, lowerLevel, upperLevel float64) (Estimate, error) {
	if err := finite(d); err != nil {
		return Estimate{}, err
	}
	low, err := CriticalRankSum(len(d), lowerLevel)
	if err != nil {
		return Estimate{}, err
	}
	high, err := CriticalRankSum(len(d), upperLevel)
	if err != nil {
		return Estimate{}, err
	}
	walsh := walshAverages(d)
	e := Estimate{Point: medianOf(walsh), Lower: math.Inf(-1), Upper: math.Inf(1)}
	if low >= 0 {
		e.Lower = walsh[low]
	}
	if high >= 0 {
		e.Upper = walsh[len(walsh)-1-high]
	}
	return e, nil
}

// walshAverages returns the sorted means of all pairs, each value paired with itself as well.
func walshAverages(d []float64) []float64 {
	out := make([]float64, 0, len(d)*(len(d)+1)/2)
	for i, x := range d {
		for _, y := range d[:i+1] {
			out = append(out, x/2+y/2)
		}
	}
	slices.Sort(out)
	return out
}

// medianOf returns the median of a sorted sample that is not empty.
func medianOf(sorted []float64) float64 {
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return sorted[n/2-1]/2 + sorted[n/2]/2
}

// RobustScale returns 1.4826 times the median absolute deviation from the median: the standard deviation, where the
// sample is normal, and hardly moved by a few wild values. The error is that of an unusable sample.
func RobustScale(x []float64) (float64, error) {
	if err := finite(x); err != nil {
		return 0, err
	}
	sorted := slices.Sorted(slices.Values(x))
	m := medianOf(sorted)
	for i, v := range sorted {
		sorted[i] = math.Abs(v - m)
	}
	slices.Sort(sorted)
	return 1.4826 * medianOf(sorted), nil
}
