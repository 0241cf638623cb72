package stats

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/stat/distuv"
)

// TestEarlyStopPublished holds the figures that LoadGen printed in published MLPerf results: the least number of
// queries, and how many of the slowest were discarded.
func TestEarlyStopPublished(t *testing.T) {
	for _, c := range []struct {
		percentile          float64
		n, least, discarded int
	}{
		{0.9, 2048, 64, 172}, {0.9, 2116, 64, 178}, {0.9, 2145, 64, 181}, {0.9, 7469, 64, 685}, {0.9, 4776846, 64, 476158},
		{0.99, 1179125, 662, 11539}, {0.99, 2091550, 662, 20579},
	} {
		got, err := EarlyStop(c.n, c.percentile, 0.99)
		want := Stop{Least: c.least, Discard: c.discarded, Rank: c.n - c.discarded}
		if err != nil || got != want {
			t.Errorf("%d queries, p%v: %+v %v, want %+v", c.n, 100*c.percentile, got, err, want)
		}
	}
	// Server, p99: of 21 queries none over the bound, "would need at least 438 more"; of 300, 159
	for _, sum := range []int{21 + 438, 300 + 159} {
		if h, err := MinPassing(0, 0.99, 0.99); err != nil || h != sum {
			t.Errorf("%d %v, want %d", h, err, sum)
		}
	}
}

// TestMinPassingAgainstTheDefinition sums the binomial distribution itself.
func TestMinPassingAgainstTheDefinition(t *testing.T) {
	for over := range 40 {
		for _, p := range []float64{0.5, 0.9, 0.97, 0.99} {
			for _, c := range []float64{0.9, 0.99} {
				h, err := MinPassing(over, p, c)
				if err != nil {
					t.Fatal(err)
				}
				chance := func(h int) float64 {
					return distuv.Binomial{N: float64(h + over), P: 1 - p}.CDF(float64(over))
				}
				if chance(h) > 1-c+1e-9 || h > 1 && chance(h-1) < 1-c-1e-9 {
					t.Errorf("%d over, p %v, confidence %v: %d gives %v, one less %v", over, p, c, h, chance(h), chance(h-1))
				}
			}
		}
	}
}

// TestEarlyStopIsSeldomTooLow draws latencies whose true percentile is known: the estimate is below it in at most one
// run of a hundred, where the plain percentile is in about every second. More queries never discard fewer.
func TestEarlyStopIsSeldomTooLow(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	const runs, n, p = 4000, 300, 0.9
	s, err := EarlyStop(n, p, 0.99)
	if err != nil {
		t.Fatal(err)
	}
	low, plainLow := 0, 0
	for range runs {
		x := make([]float64, n)
		for i := range x {
			x[i] = r.Float64() // its percentile p is p
		}
		slices.Sort(x)
		if x[s.Rank-1] < p {
			low++
		}
		if x[int(p*n)-1] < p {
			plainLow++
		}
	}
	if low > runs/100+25 { // four standard deviations above one in a hundred
		t.Errorf("%d of %d estimates are too low", low, runs)
	}
	if plainLow < runs/4 {
		t.Errorf("the plain percentile is too low in %d of %d: the test shows nothing", plainLow, runs)
	}
	for n, last := 0, 0; n < 3000; n += 7 {
		s, err := EarlyStop(n, 0.9, 0.99)
		if err != nil || s.Discard < last || (s.Rank == 0) != (n < s.Least) {
			t.Fatalf("%d: %+v %v after %d", n, s, err, last)
		}
		last = s.Discard
	}
}

func TestMinPassingRefuses(t *testing.T) {
	if _, err := MinPassing(-1, 0.9, 0.99); !errors.Is(err, ErrSample) {
		t.Errorf("a negative count: %v", err)
	}
	for _, c := range [][2]float64{{0, 0.99}, {1, 0.99}, {0.9, 1}, {0.9, 0}} {
		if _, err := MinPassing(1, c[0], c[1]); err == nil {
			t.Errorf("%v is taken", c)
		}
		if _, err := EarlyStop(100, c[0], c[1]); err == nil {
			t.Errorf("%v is taken", c)
		}
	}
}
