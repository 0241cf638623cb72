package stats

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sort"
)

// Constants of the smallest detectable effect (gate.md section 3.11). The factor makes up for the bursts that a
// sample of epochs has not seen: without it the measured power was 85 to 90 %.
const (
	effectDraws  = 1000
	effectPower  = 0.95
	effectFactor = 1.75
	effectFirst  = 0.001
	effectLast   = 0.5
	effectRatio  = 1.1
)

// DetectableEffect returns the smallest shift that a signed-rank test at level would have found with 95 % power in units
// epochs as noisy as d, on the scale of d, times 1.75. It draws with random signs from d about its centre. Where
// not even a shift of 0.5 is found it returns +Inf. Errors: an unusable sample, units outside 1 to MaxUnits.
func DetectableEffect(d []float64, units int, level float64, seed uint64) (float64, error) {
	centre, err := HodgesLehmann(d, 0.5, 0.5)
	if err != nil {
		return 0, err
	}
	critical, err := CriticalRankSum(units, level)
	if err != nil {
		return 0, fmt.Errorf("detectable effect: %w", err)
	}
	draws := symmetricDraws(d, centre.Point, units, seed)
	grid := effectGrid()
	i := sort.Search(len(grid), func(i int) bool { return power(draws, grid[i], critical) >= effectPower })
	if i == len(grid) {
		return math.Inf(1), nil
	}
	return effectFactor * grid[i], nil
}

// DetectableShare is DetectableEffect for a difference of shares near 0 that SignFlip tests: requests are those of an arm in an
// epoch. A shift brings the noise of its own events with it; patterns of signs are counted by their normal limit.
func DetectableShare(d []float64, units int, requests, level float64, seed uint64) (float64, error) {
	if err := finite(d); err != nil {
		return 0, err
	}
	if units < 1 || units > MaxUnits || !(requests > 0) {
		return 0, fmt.Errorf("detectable share: %d units of %v requests, want 1 to %d units with some", units, requests, MaxUnits)
	}
	if err := probability("level", level); err != nil {
		return 0, err
	}
	draws, critical := symmetricDraws(d, mean(d), units, seed), normalQuantile(1-level)
	random := rand.New(rand.NewPCG(seed, 2))
	var events [][]float64 // standard normal
	for range draws {
		e := make([]float64, units)
		for i := range e {
			e[i] = random.NormFloat64()
		}
		events = append(events, e)
	}
	grid := effectGrid()
	i := sort.Search(len(grid), func(i int) bool { return sharePower(draws, events, grid[i], requests, critical) >= effectPower })
	if i == len(grid) {
		return math.Inf(1), nil
	}
	return effectFactor * grid[i], nil
}

// sharePower is the share of draws that the sum of signs finds once theta more of the requests are events.
func sharePower(draws, events [][]float64, theta, requests, critical float64) float64 {
	sd, found := math.Sqrt(theta*(1-theta)/requests), 0
	for i, draw := range draws {
		sum, squares := 0.0, 0.0
		for j, v := range draw {
			y := v + theta + sd*events[i][j]
			sum, squares = sum+y, squares+y*y
		}
		if sum > critical*math.Sqrt(squares) {
			found++
		}
	}
	return float64(found) / float64(len(draws))
}

func mean(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x))
}

func effectGrid() []float64 {
	var grid []float64
	for theta := effectFirst; theta < effectLast; theta *= effectRatio {
		grid = append(grid, theta)
	}
	return append(grid, effectLast)
}

// symmetricDraws returns samples of units values each, drawn from d about its centre with random signs.
func symmetricDraws(d []float64, centre float64, units int, seed uint64) [][]float64 {
	random := rand.New(rand.NewPCG(seed, 1))
	draws := make([][]float64, effectDraws)
	for i := range draws {
		draws[i] = make([]float64, units)
		for j := range draws[i] {
			v := d[random.IntN(len(d))] - centre
			if random.Uint64()&1 == 0 {
				v = -v
			}
			draws[i][j] = v
		}
	}
	return draws
}

// power returns the share of draws, shifted by theta, whose ranks of negative values add up to the critical sum at most.
func power(draws [][]float64, theta float64, critical int) float64 {
	found := 0
	y := make([]float64, len(draws[0]))
	for _, draw := range draws {
		for i, v := range draw {
			y[i] = v + theta
		}
		negative := 0
		for i, rank := range doubledRanks(y) {
			if y[i] < 0 {
				negative += rank
			}
		}
		if negative <= 2*critical {
			found++
		}
	}
	return float64(found) / float64(len(draws))
}

// PredictedUnits returns how many epochs of scale (a robust standard deviation of their log-ratios) a plan needs to tell the
// margins fail and pass apart, with one-sided levels alpha and beta (gate.md section 3.1, step 4). Errors: margins
// that are not fail < pass, levels that are no probabilities.
func PredictedUnits(scale, fail, pass, alpha, beta float64) (float64, error) {
	if !(fail < pass) || math.IsNaN(scale) || scale < 0 {
		return 0, fmt.Errorf("predicted units: margins %v and %v with scale %v, want the first below the second", fail, pass, scale)
	}
	if err := probability("alpha", alpha); err != nil {
		return 0, err
	}
	if err := probability("beta", beta); err != nil {
		return 0, err
	}
	z := normalQuantile(1-alpha) + normalQuantile(1-beta)
	r := z * scale / (pass - fail)
	return math.Ceil(math.Pi / 3 * r * r), nil
}
