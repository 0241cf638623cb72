package stats

import (
	"fmt"
	"math"
	"sort"

	"gonum.org/v1/gonum/mathext"
)

// Early stopping after MLPerf's LoadGen (loadgen/early_stopping.cc, tolerance 0): how few queries may show a tail. A
// query is over its bound or not, so that the count of those over is binomial; the percentile that a short run may
// claim lies above the nominal one, by as much as confidence demands.

// MinPassing returns the fewest queries under a bound that, beside over ones above it, show at a confidence that the
// percentile of the latency is under it: the least h for which the chance of at most over of h+over queries above the
// bound, were that percentile exactly at it, is at most 1−confidence. Errors: a negative count, a percentile or
// confidence outside (0, 1).
func MinPassing(over int, percentile, confidence float64) (int, error) {
	if over < 0 {
		return 0, fmt.Errorf("%w: %d queries over the bound", ErrSample, over)
	}
	if err := probability("percentile", percentile); err != nil {
		return 0, err
	}
	if err := probability("confidence", confidence); err != nil {
		return 0, err
	}
	shown := func(h int) bool { // Binomial CDF as the regularised incomplete beta function
		return mathext.RegIncBeta(float64(h), float64(over)+1, percentile) <= 1-confidence
	}
	most := 1
	for !shown(most) {
		most *= 2
	}
	return 1 + sort.Search(most, func(i int) bool { return shown(i + 1) }), nil
}

// Stop is what early stopping makes of a number of queries.
type Stop struct {
	Least   int // queries, below which it makes nothing of them
	Discard int // the slowest queries that are left out
	Rank    int // the estimate is the latency of this rank, from 1 in ascending order; 0: too few queries
}

// EarlyStop returns which of n latencies, in ascending order, is the estimate of a percentile that holds at a
// confidence. Errors are those of MinPassing.
func EarlyStop(n int, percentile, confidence float64) (Stop, error) {
	least, err := MinPassing(1, percentile, confidence)
	if err != nil {
		return Stop{}, err
	}
	s := Stop{Least: least + 1}
	if n < s.Least {
		return s, nil
	}
	// the share of queries over the bound can not reach 1−percentile, so that the search ends there
	most := int(math.Ceil(float64(n)*(1-percentile))) + 1
	over := sort.Search(most, func(i int) bool { // the first count of queries over the bound that n do not allow
		h, err := MinPassing(i+2, percentile, confidence)
		return err != nil || h+i+2 > n
	}) + 1
	s.Discard, s.Rank = over-1, n-over+1
	return s, nil
}
