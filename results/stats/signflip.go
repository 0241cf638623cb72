package stats

import (
	"math"
	"math/rand/v2"
)

// Up to exactFlips values all patterns of signs are tried, beyond it randomFlips random ones (gate.md section 3.9).
const (
	exactFlips  = 20
	randomFlips = 99_999
)

// SignFlip returns the one-sided p-value of "the mean of y is above 0" against all patterns of signs, exact up to 20
// values. Beyond them 99,999 patterns are drawn from the seed, and p = (c+1)/(99,999+1). Sums that differ by no more
// than rounding count as equal. The error is that of an unusable sample.
func SignFlip(y []float64, seed uint64) (float64, error) {
	if err := finite(y); err != nil {
		return 0, err
	}
	observed, size := 0.0, 0.0
	for _, v := range y {
		observed += v
		size += math.Abs(v)
	}
	reach := observed - 1e-12*size
	if len(y) <= exactFlips {
		return math.Ldexp(float64(flipsReaching(y, 0, reach)), -len(y)), nil
	}
	draw, count := rand.New(rand.NewPCG(seed, 0)), 0
	for range randomFlips {
		if flippedSum(y, draw) >= reach {
			count++
		}
	}
	return float64(count+1) / (randomFlips + 1), nil
}

// flipsReaching counts the patterns of the rest whose sum, added to sum, is at least reach.
func flipsReaching(rest []float64, sum, reach float64) int {
	if len(rest) == 0 {
		if sum >= reach {
			return 1
		}
		return 0
	}
	return flipsReaching(rest[1:], sum+rest[0], reach) + flipsReaching(rest[1:], sum-rest[0], reach)
}

// flippedSum adds the values with random signs, 64 of them a draw.
func flippedSum(y []float64, draw *rand.Rand) float64 {
	sum, bits := 0.0, uint64(0)
	for i, v := range y {
		if i%64 == 0 {
			bits = draw.Uint64()
		}
		if bits&1 == 0 {
			v = -v
		}
		bits >>= 1
		sum += v
	}
	return sum
}
