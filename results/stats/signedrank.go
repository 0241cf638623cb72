package stats

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// SignedRank is the outcome of Wilcoxon's signed-rank test (Wilcoxon 1945) against "the centre is at most 0".
type SignedRank struct {
	P float64 // exact one-sided p-value
	W int     // twice the sum of the ranks of positive values
	N int     // values that are not zero
}

// TestSignedRank computes the exact one-sided test of y > 0. Ties get mid-ranks. Zeros are ranked with the rest and
// then left out of the sum and of the null (Pratt 1959). With no value but zeros, P is 1. The p-value is made of additions and a division by
// a power of two, so that it has the same bits on every processor. Errors: an empty sample, more than MaxUnits
// values, a value that is not finite.
func TestSignedRank(y []float64) (SignedRank, error) {
	if err := finite(y); err != nil {
		return SignedRank{}, err
	}
	if len(y) > MaxUnits {
		return SignedRank{}, fmt.Errorf("%w: %d values, at most %d", ErrSample, len(y), MaxUnits)
	}
	var out SignedRank
	ranks := make([]int, 0, len(y))
	for i, rank := range doubledRanks(y) {
		if y[i] == 0 {
			continue
		}
		ranks = append(ranks, rank)
		if y[i] > 0 {
			out.W += rank
		}
	}
	out.N = len(ranks)
	out.P = upperTail(nullOf(ranks), out.W, out.N)
	return out, nil
}

// doubledRanks returns twice the mid-rank of each |y|, from 2 to 2·len(y).
func doubledRanks(y []float64) []int {
	order := make([]int, len(y))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(math.Abs(y[a]), math.Abs(y[b])) })
	ranks := make([]int, len(y))
	for from := 0; from < len(order); {
		to := from + 1
		for to < len(order) && math.Abs(y[order[to]]) == math.Abs(y[order[from]]) {
			to++
		}
		for _, i := range order[from:to] {
			ranks[i] = from + 1 + to // the mean of from+1 … to, doubled
		}
		from = to
	}
	return ranks
}

// nullOf counts, for each sum u, the sets of ranks that add up to it, by dynamic programming.
func nullOf(ranks []int) []float64 {
	total := 0
	for _, r := range ranks {
		total += r
	}
	f := make([]float64, total+1)
	f[0] = 1
	reached := 0
	for _, r := range ranks {
		reached += r
		for u := reached; u >= r; u-- {
			f[u] += f[u-r]
		}
	}
	return f
}

// upperTail returns P(W ≥ w) under the null of n signs.
func upperTail(f []float64, w, n int) float64 {
	sum := 0.0
	for u := len(f) - 1; u >= w; u-- {
		sum += f[u]
	}
	return math.Ldexp(sum, -n)
}

// CriticalRankSum returns the largest c with P(W ≤ c) < level, W being the sum of the ranks of either sign among n
// values without ties, in undoubled ranks. It is -1 where even W = 0 is not that rare.
func CriticalRankSum(n int, level float64) (int, error) {
	if n < 1 || n > MaxUnits {
		return 0, fmt.Errorf("%w: %d values, want 1 to %d", ErrSample, n, MaxUnits)
	}
	if err := probability("level", level); err != nil {
		return 0, err
	}
	ranks := make([]int, n)
	for i := range ranks {
		ranks[i] = i + 1
	}
	sum, limit := 0.0, math.Ldexp(level, n)
	for c, f := range nullOf(ranks) {
		if sum += f; sum >= limit {
			return c - 1, nil
		}
	}
	return n * (n + 1) / 2, nil
}
