package stats

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// ChangePoint is where a series moved.
type ChangePoint struct {
	At     int     // index of the first value after the change
	P      float64 // of the permutation test
	Before float64 // median of the segment before
	After  float64 // and after
}

// Constants of ChangePoints.
const (
	changeSegment      = 3   // values on either side of a change, at least
	changePermutations = 999 // of the test
)

// MinSeries is the least length of a series in which a change can be found at all.
const MinSeries = 2 * changeSegment

// ChangePoints finds where the distribution of a series changes: E-divisive (Matteson and James, "A Nonparametric Approach
// for Multiple Change Point Analysis of Multivariate Data", JASA 109, 2014), that is hierarchical bisection by energy
// distance with exponent 1, each split tested by permuting within the segments that there are. A test is one of the whole
// series, so that level bounds the chance of any change in a series that has none, as far as its values are exchangeable. It is
// a finder of what to look at, not a gate. Errors: a value that is not finite, a level that no permutation test reaches.
func ChangePoints(x []float64, level float64, seed uint64) ([]ChangePoint, error) {
	if len(x) > 0 {
		if err := finite(x); err != nil {
			return nil, err
		}
	}
	if !(level >= 1.0/(changePermutations+1)) || level >= 1 {
		return nil, fmt.Errorf("stats: level %v of a permutation test with %d permutations", level, changePermutations)
	}
	random := rand.New(rand.NewPCG(seed, 0xed1f))
	bounds := []int{0, len(x)}
	p := map[int]float64{}
	for {
		at, energy := bestSplit(x, bounds)
		if at < 0 {
			break
		}
		reached := 1
		shuffled := slices.Clone(x)
		for range changePermutations {
			for i := range len(bounds) - 1 {
				part := shuffled[bounds[i]:bounds[i+1]]
				random.Shuffle(len(part), func(i, j int) { part[i], part[j] = part[j], part[i] })
			}
			if _, e := bestSplit(shuffled, bounds); e >= energy {
				reached++
			}
		}
		if p[at] = float64(reached) / (changePermutations + 1); p[at] > level {
			break
		}
		bounds = append(bounds, at)
		slices.Sort(bounds)
	}
	var out []ChangePoint
	for i := 1; i < len(bounds)-1; i++ {
		c := ChangePoint{At: bounds[i], P: p[bounds[i]]}
		c.Before, c.After = median(x[bounds[i-1]:bounds[i]]), median(x[bounds[i]:bounds[i+1]])
		out = append(out, c)
	}
	return out, nil
}

// bestSplit is the split of any segment with the largest scaled energy distance; -1 where no segment is long enough.
func bestSplit(x []float64, bounds []int) (at int, energy float64) {
	at = -1
	for i := range len(bounds) - 1 {
		k, e := splitOf(x[bounds[i]:bounds[i+1]])
		if k > 0 && (at < 0 || e > energy) {
			at, energy = bounds[i]+k, e
		}
	}
	return at, energy
}

// splitOf tries every split of one segment; sums of distances are carried from one to the next.
func splitOf(x []float64) (at int, energy float64) {
	n := len(x)
	if n < MinSeries {
		return 0, 0
	}
	var left, right, across float64 // sums of distances within and between
	for i := range n {
		for j := range i {
			right += math.Abs(x[i] - x[j])
		}
	}
	energy = math.Inf(-1)
	for k := 1; k <= n-changeSegment; k++ {
		moved := x[k-1]
		var toLeft, toRight float64
		for _, v := range x[:k-1] {
			toLeft += math.Abs(moved - v)
		}
		for _, v := range x[k:] {
			toRight += math.Abs(moved - v)
		}
		left, right, across = left+toLeft, right-toRight, across+toRight-toLeft
		if k < changeSegment {
			continue
		}
		a, b := float64(k), float64(n-k)
		e := 2*across/(a*b) - 2*left/(a*(a-1)) - 2*right/(b*(b-1))
		if e *= a * b / (a + b); e > energy {
			at, energy = k, e
		}
	}
	return at, energy
}

func median(x []float64) float64 {
	sorted := slices.Clone(x)
	slices.Sort(sorted)
	return medianOf(sorted)
}
