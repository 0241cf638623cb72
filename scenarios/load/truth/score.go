package truth

import (
	"fmt"
	"math"
	"slices"

	"github.com/assay-bench/assay/results/histogram"
)

// Levels are the quantiles that are scored beside the mean.
func Levels() []float64 { return []float64{0.5, 0.75, 0.9, 0.95, 0.99, 0.999} }

const (
	deepLevel   = 0.999
	deepSamples = 100_000 // below, p99.9 rests on too few of them
	near        = 0.005   // share of the samples within which a level must not lie on a jump
	jump        = 2       // ratio that is one
)

// Shape is a distribution at the scored levels, in nanoseconds.
type Shape struct {
	Count  int64     `json:"count"`
	Mean   float64   `json:"mean_ns"`
	Levels []float64 `json:"levels_ns"` // as Levels
}

// shapeOf returns the exact shape of samples.
func shapeOf(samples []int64) Shape {
	sorted := slices.Sorted(slices.Values(samples))
	s := Shape{Count: int64(len(sorted))}
	for _, v := range sorted {
		s.Mean += float64(v) / float64(len(sorted))
	}
	for _, q := range Levels() {
		s.Levels = append(s.Levels, quantile(sorted, q))
	}
	return s
}

// quantile returns the sample of rank ceil(q × n).
func quantile(sorted []int64, q float64) float64 {
	// The small term keeps 0.9 × 10 at rank 9.
	rank := int(math.Ceil(q*float64(len(sorted)) - 1e-9))
	return float64(sorted[min(max(rank, 1), len(sorted))-1])
}

// corners tells which levels lie on a jump of the truth, where a tenth of a
// percent of the samples decides between two values: not scored.
func corners(samples []int64) []bool {
	sorted := slices.Sorted(slices.Values(samples))
	out := make([]bool, len(Levels()))
	for i, q := range Levels() {
		d := min(near, (1-q)/2)
		out[i] = quantile(sorted, q+d) > jump*quantile(sorted, q-d)
	}
	return out
}

// shapeOfHistogram returns the shape that a histogram shows: bucket edges, which
// lie within 0.1 % of the samples.
func shapeOfHistogram(h *histogram.Histogram) Shape {
	s := Shape{Count: h.Count(), Mean: h.Mean()}
	for _, q := range Levels() {
		s.Levels = append(s.Levels, float64(h.Quantile(q)))
	}
	return s
}

// Errors is the relative error of a shape: of the mean, then of each level; NaN
// where it is not scored.
type Errors []float64

// compare returns (got − want) / want.
func compare(got, want Shape) Errors {
	e := Errors{got.Mean/want.Mean - 1}
	for i, w := range want.Levels {
		e = append(e, got.Levels[i]/w-1)
	}
	return e
}

// worst returns the largest absolute error among those that pick allows; NaN
// when it allows none.
func (e Errors) worst(pick func(i int) bool) float64 {
	worst := math.NaN()
	for i, v := range e {
		if pick(i) && !math.IsNaN(v) && !(math.Abs(v) <= worst) {
			worst = math.Abs(v)
		}
	}
	return worst
}

// ownError returns the largest error of the server by its own account: how far
// its replies were from when they were due, beside the truth that is judged at the
// same level. Behind a queue of few workers that is longer than the server's part.
func (st Stats) ownError(truth Shape, judged func(i int) bool) (float64, error) {
	asked, err := histogram.Decode([]byte(st.Asked))
	if err != nil {
		return 0, fmt.Errorf("truth server: asked: %w", err)
	}
	given, err := histogram.Decode([]byte(st.Given))
	if err != nil {
		return 0, fmt.Errorf("truth server: given: %w", err)
	}
	if given.Count() == 0 {
		return 0, fmt.Errorf("truth server: answered nothing")
	}
	want, got := shapeOfHistogram(asked), shapeOfHistogram(given)
	missed := Errors{(got.Mean - want.Mean) / max(want.Mean, truth.Mean)}
	for i, w := range want.Levels {
		missed = append(missed, (got.Levels[i]-w)/max(w, truth.Levels[i]))
	}
	return missed.worst(judged), nil
}
