package stats

import (
	"cmp"
	"slices"
)

// Holm returns which hypotheses are rejected at family-wise level alpha (Holm 1979): the smallest p-value against
// alpha/m, the next against alpha/(m−1), until one is not rejected. The order is that of p.
func Holm(p []float64, alpha float64) []bool {
	rejected := make([]bool, len(p))
	for r, i := range ascending(p) {
		if !(p[i] <= alpha/float64(len(p)-r)) {
			break
		}
		rejected[i] = true
	}
	return rejected
}

// BenjaminiHochberg returns which hypotheses are rejected with a false discovery rate of at most q (Benjamini and Hochberg 1995).
// The order is that of p.
func BenjaminiHochberg(p []float64, q float64) []bool {
	rejected := make([]bool, len(p))
	order := ascending(p)
	for r := len(order) - 1; r >= 0; r-- {
		if p[order[r]] <= q*float64(r+1)/float64(len(p)) {
			for _, i := range order[:r+1] {
				rejected[i] = true
			}
			break
		}
	}
	return rejected
}

// ascending returns the indices of p by value, equal ones in their order.
func ascending(p []float64) []int {
	order := make([]int, len(p))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(p[a], p[b]) })
	return order
}
