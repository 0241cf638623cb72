package stats

import (
	"math"
	"math/rand/v2"
	"testing"
)

// series is normal noise of standard deviation 1 that moves by shift at each of the places.
func series(random *rand.Rand, n int, shift float64, at ...int) []float64 {
	out := make([]float64, n)
	level := 0.0
	for i := range out {
		for _, a := range at {
			if i == a {
				level += shift
			}
		}
		out[i] = level + random.NormFloat64()
	}
	return out
}

func TestChangePointsArePlantedOnes(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, at := range [][]int{{10}, {15, 30}} {
		got, err := ChangePoints(series(random, 45, 8, at...), 0.01, 1)
		if err != nil || len(got) != len(at) {
			t.Fatalf("planted at %v, found %+v (%v)", at, got, err)
		}
		for i, c := range got {
			if c.At != at[i] || c.P > 0.01 || math.Abs(c.After-c.Before-8) > 2 {
				t.Errorf("planted at %d, found %+v", at[i], c)
			}
		}
	}
}

// One outlier is no change: the complaint about tools that flag one.
func TestOneOutlierIsNoChange(t *testing.T) {
	x := series(rand.New(rand.NewPCG(3, 4)), 30, 0)
	x[12] += 30
	if got, err := ChangePoints(x, 0.01, 1); err != nil || len(got) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

// The false-alarm rate is that of the level, and of a step of two standard deviations most are found. The figures are printed.
func TestChangePointRates(t *testing.T) {
	const trials, level = 200, 0.05
	random := rand.New(rand.NewPCG(5, 6))
	alarms, found := 0, 0
	for i := range trials {
		none, err := ChangePoints(series(random, 24, 0), level, uint64(i))
		if err != nil {
			t.Fatal(err)
		}
		if len(none) > 0 {
			alarms++
		}
		moved, err := ChangePoints(series(random, 24, 2, 12), level, uint64(i))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range moved {
			if c.At >= 10 && c.At <= 14 {
				found++
				break
			}
		}
	}
	t.Logf("level %v, 24 values: %d alarms in %d series without a change; a step of 2 standard deviations found within 2 places in %d", level, alarms, trials, found)
	// 200 trials at 5 %: more than 22 alarms have a chance below 0.001
	if alarms > 22 || found < trials*3/4 {
		t.Errorf("%d alarms, %d found of %d", alarms, found, trials)
	}
}

func TestChangePointsOfLittle(t *testing.T) {
	for _, x := range [][]float64{nil, {1}, {1, 2, 3, 4, 5}, {2, 2, 2, 2, 2, 2, 2, 2}} {
		if got, err := ChangePoints(x, 0.05, 1); err != nil || len(got) != 0 {
			t.Errorf("%v: %+v, %v", x, got, err)
		}
	}
	if _, err := ChangePoints([]float64{1, math.NaN(), 1, 1, 1, 1}, 0.05, 1); err == nil {
		t.Error("a series that is not finite")
	}
	if _, err := ChangePoints(make([]float64, 10), 0.0001, 1); err == nil {
		t.Error("a level below what the permutations reach")
	}
}
