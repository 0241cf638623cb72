package stats_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/stat/distuv"

	"github.com/assay-bench/assay/results/stats"
)

func near(a, b, relative float64) bool { return math.Abs(a-b) <= relative*math.Abs(b) }

// Fisher's exact randomisation of Darwin's maize pairs (The Design of Experiments, 1935, section 21): the sum of 314
// eighths of an inch is reached by 863 of the 32,768 patterns, 5.267 % in both tails.
func TestSignFlipAgainstFisher(t *testing.T) {
	darwin := []float64{49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48}
	got, err := stats.SignFlip(darwin, 1)
	if err != nil || got != 863.0/32768 {
		t.Errorf("got %v, %v, want 863/32768 = %v", got, err, 863.0/32768)
	}
}

func TestSignFlipAtRandomIsNearTheExactOne(t *testing.T) {
	y := []float64{3, 1, -2, 5, 1, 0, -1, 2, 2, -3, 4, 1, -1, 2, 0, 1, -2, 1, 3, -1}
	exact, err := stats.SignFlip(y, 1)
	if err != nil {
		t.Fatal(err)
	}
	// A zero changes no sum, but makes the sample too large to enumerate.
	drawn, err := stats.SignFlip(append(slices.Clone(y), 0), 1)
	if err != nil || !near(drawn, exact, 0.1) || drawn == exact {
		t.Errorf("drawn %v, %v, exact %v", drawn, err, exact)
	}
	again, err := stats.SignFlip(append(slices.Clone(y), 0), 1)
	if err != nil || again != drawn {
		t.Errorf("the same seed gave %v and %v (%v)", drawn, again, err)
	}
}

func TestClopperPearsonAgainstClosedForms(t *testing.T) {
	for _, c := range []struct{ x, n, confidence, lower, upper float64 }{
		{0, 299, 0.95, 0, 1 - math.Pow(0.05, 1.0/299)},
		{0, 61, 0.95, 0, 1 - math.Pow(0.05, 1.0/61)},
		{17, 17, 0.95, math.Pow(0.05, 1.0/17), 1},
		{4, 10, 0.975, 0.1215523, 0.7376219}, // the textbook interval of 4 in 10 at 95 %
	} {
		lower, upper, err := stats.ClopperPearson(c.x, c.n, c.confidence)
		if err != nil || math.Abs(lower-c.lower) > 1e-7 || math.Abs(upper-c.upper) > 1e-7 {
			t.Errorf("%v of %v: %v to %v, %v, want %v to %v", c.x, c.n, lower, upper, err, c.lower, c.upper)
		}
	}
}

// The bounds cover any probability at least as often as they say, summed over all outcomes.
func TestClopperPearsonCovers(t *testing.T) {
	const n, confidence = 25, 0.9
	for p := 0.02; p < 1; p += 0.02 {
		low, high := 0.0, 0.0
		for x := range n + 1 {
			lower, upper, err := stats.ClopperPearson(float64(x), n, confidence)
			if err != nil {
				t.Fatal(err)
			}
			weight := distuv.Binomial{N: n, P: p}.Prob(float64(x))
			if lower <= p {
				low += weight
			}
			if upper >= p {
				high += weight
			}
		}
		if low < confidence || high < confidence {
			t.Errorf("p=%v is covered from below in %v, from above in %v", p, low, high)
		}
	}
}

func TestDesignEffect(t *testing.T) {
	got, err := stats.DesignEffect([]float64{0, 10, 0, 10}, []float64{10, 10, 10, 10})
	if err != nil || !near(got, 40.0/3, 1e-12) { // all or nothing: each cluster is one trial, times k/(k-1)
		t.Errorf("got %v, %v", got, err)
	}
	if got, err = stats.DesignEffect([]float64{0, 0}, []float64{10, 10}); err != nil || got != 1 {
		t.Errorf("no events: %v, %v", got, err)
	}
}

func TestQuantileBoundsAgainstTheBinomial(t *testing.T) {
	sorted := make([]float64, 20)
	for i := range sorted {
		sorted[i] = float64(i + 1)
	}
	// P(B(20, 1/2) <= 5) = 0.0207: the textbook interval of the median is from the 6th to the 15th value.
	lower, upper, err := stats.QuantileBounds(0.5, sorted, 0.975)
	if err != nil || lower != 6 || upper != 15 {
		t.Errorf("got %v to %v, %v", lower, upper, err)
	}
	lower, upper, err = stats.QuantileBounds(0.99, sorted, 0.99)
	if err != nil || !math.IsInf(upper, 1) || math.IsInf(lower, -1) {
		t.Errorf("p99 of 20: %v to %v, %v", lower, upper, err)
	}
}

func TestSamplesForQuantile(t *testing.T) {
	for p, want := range map[float64]int{0.99: 459, 0.9: 44} {
		if got, err := stats.SamplesForQuantile(p, 0.99); err != nil || got != want {
			t.Errorf("%v: got %d, %v, want %d", p, got, err, want)
		}
	}
}

// t of 3 degrees at 99 % is 4.541 in every table.
func TestShareBounds(t *testing.T) {
	lower, upper, err := stats.ShareBounds([]float64{0.1, 0.2, 0.3, 0.4}, 0.99)
	sd := math.Sqrt(0.05 / 3)
	if err != nil || lower != 0 || math.Abs(upper-(0.25+4.541*sd/2)) > 1e-4 {
		t.Errorf("got %v to %v, %v", lower, upper, err)
	}
	if _, _, err := stats.ShareBounds([]float64{0.1}, 0.99); !errors.Is(err, stats.ErrSample) {
		t.Errorf("one share: %v", err)
	}
}

// The p-values are the fifteen of Benjamini and Hochberg (1995), section 3.2: their procedure rejects four, Holm's three.
func TestCorrectionsAgainstThePaper(t *testing.T) {
	p := []float64{0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1}
	order := rand.New(rand.NewPCG(3, 3)).Perm(len(p))
	shuffled := make([]float64, len(p))
	for i, j := range order {
		shuffled[i] = p[j]
	}
	for name, c := range map[string]struct {
		got  []bool
		want int
	}{"Holm": {stats.Holm(shuffled, 0.05), 3}, "Benjamini-Hochberg": {stats.BenjaminiHochberg(shuffled, 0.05), 4}} {
		for i, j := range order {
			if c.got[i] != (j < c.want) {
				t.Errorf("%s: p = %v rejected: %v", name, p[j], c.got[i])
			}
		}
	}
}

// The levels are the golden ones of gate.md section 3.6.
//
// Rows: gate/spend/levels.
func TestLevelsAgainstTheGoldenTable(t *testing.T) {
	short, long := []int{12, 16, 20, 26, 32, 40, 50, 60}, []int{20, 30, 40, 60, 80, 100, 125, 150}
	for _, c := range []struct {
		looks []int
		a     float64
		want  []float64
	}{
		{short, 0.01, []float64{0.000447218, 0.000379391, 0.000466868, 0.00076365, 0.00114687, 0.00215036, 0.00420672, 0.00692381}},
		{short, 0.05, []float64{0.00224193, 0.00215612, 0.00296357, 0.00550244, 0.00878742, 0.015229, 0.0251247, 0.0353014}},
		{short, 0.005, []float64{0.000344292, 0.000248927, 0.000365638, 0.000513907, 0.000948174, 0.0019521, 0.00345162}},
		{short, 0.001, []float64{6.88531e-05, 4.59915e-05, 6.60754e-05, 8.56008e-05, 0.000147648, 0.000327151, 0.000685578}},
		{short, 0.01 / 30, []float64{2.2951e-05, 1.46541e-05, 2.1057e-05, 2.65031e-05, 4.33752e-05, 9.71538e-05, 0.000227756}},
		{long, 0.01, []float64{0.000243432, 0.000263875, 0.000350242, 0.000753318, 0.00125377, 0.00216899, 0.00421414, 0.0069274}},
		{long, 0.05, []float64{0.0012172, 0.00141417, 0.00199547, 0.00498175, 0.00937704, 0.0153285, 0.0251593, 0.0353157}},
		{long, 0.001, []float64{2.43432e-05, 2.46492e-05, 3.19513e-05, 6.7773e-05, 9.59506e-05, 0.00014873, 0.000327304, 0.000685406}},
		{long, 0.01 / 30, []float64{8.11441e-06, 8.0122e-06, 1.03005e-05, 2.20084e-05, 3.0135e-05, 4.37679e-05, 9.72522e-05, 0.000227757}},
	} {
		got, err := stats.Levels(c.looks, c.a)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(c.want) || got[0].Units != c.looks[len(c.looks)-len(c.want)] {
			t.Errorf("a=%v: %d looks from %d, want %d", c.a, len(got), got[0].Units, len(c.want))
			continue
		}
		for i, l := range got {
			if !near(l.Level, c.want[i], 1e-5) {
				t.Errorf("a=%v, %d units: %v, want %v", c.a, l.Units, l.Level, c.want[i])
			}
			if math.Ldexp(1, -l.Units) >= l.Level {
				t.Errorf("a=%v: %d units can not reach %v", c.a, l.Units, l.Level)
			}
		}
	}
}

// Walks without drift cross the boundaries as rarely as was promised: an independent look at the quadrature.
func TestLevelsHoldInSimulation(t *testing.T) {
	const a, walks = 0.05, 40_000
	levels, err := stats.Levels([]int{12, 20, 40, 60}, a)
	if err != nil {
		t.Fatal(err)
	}
	random, crossed := rand.New(rand.NewPCG(11, 12)), 0
	for range walks {
		k, sum := 0, 0.0
		for _, l := range levels {
			sum += random.NormFloat64() * math.Sqrt(float64(l.Units-k))
			k = l.Units
			if sum/math.Sqrt(float64(k)) > distuv.UnitNormal.Quantile(1-l.Level) {
				crossed++
				break
			}
		}
	}
	share, sd := float64(crossed)/walks, math.Sqrt(a*(1-a)/walks)
	if math.Abs(share-a) > 4*sd {
		t.Errorf("%v of the walks crossed, want %v ± %v", share, a, 4*sd)
	}
}

func TestLooksThatCanNotBeUsed(t *testing.T) {
	for name, looks := range map[string][]int{"none": nil, "falling": {20, 12}, "zero": {0, 12}, "hopeless": {2, 4}} {
		if _, err := stats.Levels(looks, 0.01); !errors.Is(err, stats.ErrLooks) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDetectableEffectFollowsTheNoise(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	d := make([]float64, 40)
	for i := range d {
		d[i] = 0.3 + 0.01*random.NormFloat64() // the centre does not matter
	}
	few, err := stats.DetectableEffect(d, 12, 0.01, 1)
	if err != nil {
		t.Fatal(err)
	}
	many, err := stats.DetectableEffect(d, 60, 0.01, 1)
	if err != nil {
		t.Fatal(err)
	}
	// The normal approximation for 60: (2.33+1.64)·0.01/√60 = 0.0051, times π/3 in the square, times 1.75.
	if !(many < few) || !near(many, 0.0092, 0.25) {
		t.Errorf("12 epochs find %v, 60 find %v", few, many)
	}
	none, err := stats.DetectableEffect(d, 5, 0.01, 1)
	if err != nil || !math.IsInf(none, 1) {
		t.Errorf("5 epochs reach no level of 0.01: %v, %v", none, err)
	}
}

// The predictions are those of gate.md section 3.1 on its measured noise, for one gating metric.
func TestPredictedUnits(t *testing.T) {
	got, err := stats.PredictedUnits(0.0073, math.Log1p(0.02), math.Log1p(0.05), 0.01, 0.05)
	if err != nil || got != 2 {
		t.Errorf("p50: %v, %v, want 2", got, err)
	}
	for scale, want := range map[float64]float64{0.117: 53, 0.103: 41} {
		if got, err = stats.PredictedUnits(scale, math.Log1p(0.03), math.Log1p(0.1), 0.01, 0.05); err != nil || got != want {
			t.Errorf("p99 with %v: %v, %v, want %v", scale, got, err, want)
		}
	}
	if _, err = stats.PredictedUnits(0.01, 0.05, 0.02, 0.01, 0.05); err == nil {
		t.Error("margins the wrong way round were taken")
	}
}
