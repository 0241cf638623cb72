package stats_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/assay-bench/assay/results/stats"
)

// ranked returns n values 1…n, of which those named by ranks are positive.
func ranked(n int, positive func(rank int) bool) []float64 {
	y := make([]float64, n)
	for i := range y {
		y[i] = float64(i + 1)
		if !positive(i + 1) {
			y[i] = -y[i]
		}
	}
	return y
}

// withSum returns n values without ties whose positive ranks add up to w.
func withSum(n, w int) []float64 {
	positive := map[int]bool{}
	for rank := n; rank > 0; rank-- {
		if w >= rank {
			positive[rank] = true
			w -= rank
		}
	}
	return ranked(n, func(rank int) bool { return positive[rank] })
}

// The golden values are those of gate.md section 4, computed there by another implementation.
func TestSignedRankAgainstPublishedTails(t *testing.T) {
	for _, c := range []struct {
		n, w int
		p    float64
	}{
		{12, 78, 0.000244140625}, {12, 77, 0.00048828125}, {12, 69, 0.008056640625},
		{20, 167, 0.00961685180664062}, {20, 166, 0.0107421875},
		{30, 345, 0.00983040779829025}, {60, 1300, 0.00206111601580992}, {150, 7500, 0.000252016773742044},
	} {
		got, err := stats.TestSignedRank(withSum(c.n, c.w))
		if err != nil {
			t.Fatal(err)
		}
		if got.W != 2*c.w || got.N != c.n || math.Abs(got.P-c.p) > 1e-14 {
			t.Errorf("n=%d: got %+v, want P(W >= %d) = %v", c.n, got, c.w, c.p)
		}
	}
}

// Critical values of Wilcoxon's test at one-sided 0.01: the published table gives 5, 9, 43 and 120.
func TestCriticalRankSumAgainstPublishedTable(t *testing.T) {
	for n, want := range map[int]int{4: -1, 10: 5, 12: 9, 20: 43, 30: 120, 60: 600} {
		if got, err := stats.CriticalRankSum(n, 0.01); err != nil || got != want {
			t.Errorf("n=%d: got %d, %v, want %d", n, got, err, want)
		}
	}
}

// enumerated computes the p-value from all patterns of signs, with ranks from their definition.
func enumerated(y []float64) float64 {
	rank := func(i int) float64 {
		below, equal := 0, 0
		for _, v := range y {
			switch {
			case math.Abs(v) < math.Abs(y[i]):
				below++
			case math.Abs(v) == math.Abs(y[i]):
				equal++
			}
		}
		return float64(below) + float64(equal+1)/2
	}
	var ranks []float64
	observed := 0.0
	for i, v := range y {
		if v == 0 {
			continue
		}
		ranks = append(ranks, rank(i))
		if v > 0 {
			observed += rank(i)
		}
	}
	reach := 0
	for pattern := range 1 << len(ranks) {
		sum := 0.0
		for i, r := range ranks {
			if pattern>>i&1 == 1 {
				sum += r
			}
		}
		if sum >= observed {
			reach++
		}
	}
	return float64(reach) / float64(int(1)<<len(ranks))
}

// TestSignedRankEqualsEnumerationWithTiesAndZeros proves gate/test/exact-null.
func TestSignedRankEqualsEnumerationWithTiesAndZeros(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	tied := 0
	for range 400 {
		y := make([]float64, 1+random.IntN(11))
		for i := range y {
			y[i] = float64(random.IntN(9) - 4)
		}
		if len(slices.Compact(slices.Sorted(slices.Values(y)))) < len(y) {
			tied++
		}
		got, err := stats.TestSignedRank(y)
		if err != nil {
			t.Fatal(err)
		}
		if want := enumerated(y); got.P != want {
			t.Fatalf("%v: got %v, want %v", y, got.P, want)
		}
	}
	if tied < 100 {
		t.Fatalf("only %d samples had ties", tied)
	}
}

// Under the null the p-value is at or below any level no more often than that.
func TestSignedRankHoldsItsLevel(t *testing.T) {
	const n, level = 10, 0.05
	rejected := 0
	for pattern := range 1 << n {
		got, err := stats.TestSignedRank(ranked(n, func(rank int) bool { return pattern>>(rank-1)&1 == 1 }))
		if err != nil {
			t.Fatal(err)
		}
		if got.P <= level {
			rejected++
		}
	}
	if share := float64(rejected) / (1 << n); share > level || share < level/2 {
		t.Errorf("rejects %v of all patterns at %v", share, level)
	}
}

func TestUnusableSamples(t *testing.T) {
	for name, y := range map[string][]float64{
		"empty": nil, "not a number": {1, math.NaN()}, "infinite": {math.Inf(-1)}, "too many": make([]float64, stats.MaxUnits+1),
	} {
		if _, err := stats.TestSignedRank(y); !errors.Is(err, stats.ErrSample) {
			t.Errorf("signed rank, %s: %v", name, err)
		}
		if _, err := stats.HodgesLehmann(y, 0.01, 0.01); !errors.Is(err, stats.ErrSample) {
			t.Errorf("Hodges-Lehmann, %s: %v", name, err)
		}
	}
	if got, err := stats.TestSignedRank([]float64{0, 0}); err != nil || got.P != 1 || got.N != 0 {
		t.Errorf("zeros alone: %+v, %v", got, err)
	}
}

// The largest sample stays in the range of float64.
func TestSignedRankAtTheBound(t *testing.T) {
	got, err := stats.TestSignedRank(ranked(stats.MaxUnits, func(rank int) bool { return rank%2 == 0 }))
	if err != nil || !(got.P > 0.4 && got.P < 0.5) {
		t.Errorf("got %+v, %v", got, err)
	}
}
