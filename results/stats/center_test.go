package stats_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/assay-bench/assay/results/stats"
)

func TestHodgesLehmannByHand(t *testing.T) {
	got, err := stats.HodgesLehmann([]float64{1, 2, 4, 9}, 0.2, 0.1)
	if err != nil {
		t.Fatal(err)
	}
	// Walsh averages: 1 1.5 2 2.5 3 4 5 5.5 6.5 9; P(W=0) = 1/16, P(W<=1) = 2/16, P(W<=2) = 3/16, P(W<=3) = 5/16
	if got.Point != 3.5 || got.Lower != 2 || got.Upper != 9 {
		t.Errorf("got %+v, want 3.5 from 2 to 9", got)
	}
}

func TestIntervalAgreesWithTheTest(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	decided := 0
	for range 300 {
		d := make([]float64, 6+random.IntN(30))
		for i := range d {
			d[i] = random.NormFloat64() + 0.5
		}
		level := []float64{0.05, 0.01, 0.002}[random.IntN(3)]
		e, err := stats.HodgesLehmann(d, level, level)
		if err != nil {
			t.Fatal(err)
		}
		margin := random.NormFloat64()
		up, down := make([]float64, len(d)), make([]float64, len(d))
		for i, v := range d {
			up[i], down[i] = v-margin, margin-v
		}
		above, err := stats.TestSignedRank(up)
		if err != nil {
			t.Fatal(err)
		}
		below, err := stats.TestSignedRank(down)
		if err != nil {
			t.Fatal(err)
		}
		if (e.Lower > margin) != (above.P < level) || (e.Upper < margin) != (below.P < level) {
			t.Fatalf("%+v at %v with level %v: P %v and %v", e, margin, level, above.P, below.P)
		}
		if above.P < level || below.P < level {
			decided++
		}
	}
	if decided < 30 {
		t.Fatalf("only %d samples were decided", decided)
	}
}

func TestHodgesLehmannMovesWithTheSample(t *testing.T) {
	d := []float64{0.25, -1, 3, 0.5, 2, -0.75, 1.5, 8, -4, 0.125, 6, 5}
	base, err := stats.HodgesLehmann(d, 0.01, 0.05)
	if err != nil {
		t.Fatal(err)
	}
	moved := make([]float64, len(d))
	for i, v := range d {
		moved[i] = 2*v + 16 // exact in binary
	}
	got, err := stats.HodgesLehmann(moved, 0.01, 0.05)
	if err != nil {
		t.Fatal(err)
	}
	if want := (stats.Estimate{Point: 2*base.Point + 16, Lower: 2*base.Lower + 16, Upper: 2*base.Upper + 16}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestTooFewForAnInterval(t *testing.T) {
	got, err := stats.HodgesLehmann([]float64{1, 2, 3}, 0.01, 0.2)
	if err != nil || !math.IsInf(got.Lower, -1) || got.Upper != 3 || got.Point != 2 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestRobustScale(t *testing.T) {
	got, err := stats.RobustScale([]float64{1, 2, 3, 4, 1000})
	if err != nil || got != 1.4826 {
		t.Errorf("got %v, %v", got, err)
	}
}
