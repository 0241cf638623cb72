package gate_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/stat/distuv"

	"github.com/assay-bench/assay/suites/gate"
)

var (
	short = []int{12, 16, 20, 26, 32, 40, 50, 60}
	long  = []int{20, 30, 40, 60, 80, 100, 125, 150}
)

func p50(scenario string) gate.Metric {
	return gate.Metric{Scenario: scenario, Name: "p50", Fail: 0.02, Pass: 0.05, Gating: true, Looks: short}
}

func p99(scenario string) gate.Metric {
	return gate.Metric{Scenario: scenario, Name: "p99", Fail: 0.03, Pass: 0.10, Gating: true, Looks: long}
}

// noise draws the log-ratio of an epoch: normal, or with the tails of Student's t of two degrees.
type noise func() float64

func normal(random *rand.Rand, sd float64) noise {
	return func() float64 { return sd * random.NormFloat64() }
}

func heavy(random *rand.Rand, sd float64) noise {
	t := distuv.StudentsT{Mu: 0, Sigma: 0.6 * sd, Nu: 2, Src: random}
	return t.Rand
}

// play runs one metric to its end.
func play(t *testing.T, m gate.Metric, effect float64, n noise) gate.Decision {
	t.Helper()
	s, err := gate.NewSequence([]gate.Metric{m})
	if err != nil {
		t.Fatal(err)
	}
	for !s.Decided(m.Scenario) {
		if err := s.Observe(map[string]float64{m.ID(): math.Log1p(effect) + n()}); err != nil {
			t.Fatal(err)
		}
	}
	return s.Decisions()[0]
}

// TestErrorRates holds the two promises where they are hardest to keep: at the fail margin at most 1 % are alarms, at the
// pass margin at most 5 % are missed, with normal noise and with heavy tails. The counts leave room for four
// standard deviations of chance.
func TestErrorRates(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for _, c := range []struct {
		name   string
		metric gate.Metric
		noise  noise
		trials int
	}{
		{"p50, normal 0.73 %", p50("s"), normal(random, 0.0073), 600},
		{"p50, heavy 0.73 %", p50("s"), heavy(random, 0.0073), 600},
		{"p50, normal 2.8 %", p50("s"), normal(random, 0.028), 400},
		{"p50, heavy 2.8 %", p50("s"), heavy(random, 0.028), 400},
		{"p99, normal 11.7 %", p99("s"), normal(random, 0.117), 120},
		{"p99, heavy 11.7 %", p99("s"), heavy(random, 0.117), 120},
	} {
		t.Run(c.name, func(t *testing.T) {
			alarms, missed := 0, 0
			for range c.trials {
				if play(t, c.metric, c.metric.Fail, c.noise).Outcome == gate.Regression {
					alarms++
				}
				if play(t, c.metric, c.metric.Pass, c.noise).Outcome == gate.Passed {
					missed++
				}
			}
			n := float64(c.trials)
			if limit := n*0.01 + 4*math.Sqrt(n*0.01*0.99); float64(alarms) > limit {
				t.Errorf("%d false alarms in %d trials at the fail margin, at most %.0f", alarms, c.trials, limit)
			}
			if limit := n*0.05 + 4*math.Sqrt(n*0.05*0.95); float64(missed) > limit {
				t.Errorf("%d missed in %d trials at the pass margin, at most %.0f", missed, c.trials, limit)
			}
		})
	}
}

// Thirty metrics of unchanged code alarm in at most 1 % of the runs, not of the metrics.
//
// Rows: gate/multiplicity/run-level.
func TestFamilyOfUnchangedMetrics(t *testing.T) {
	random := rand.New(rand.NewPCG(2, 2))
	const runs = 60
	alarms := 0
	for range runs {
		var metrics []gate.Metric
		for i := range 10 {
			s := fmt.Sprintf("s%d", i)
			metrics = append(metrics, p50(s), p99(s), gate.Metric{Scenario: s, Name: "p90", Fail: 0.03, Pass: 0.10, Gating: true, Looks: short})
		}
		s, err := gate.NewSequence(metrics)
		if err != nil {
			t.Fatal(err)
		}
		for range 150 {
			d := map[string]float64{}
			for _, m := range metrics {
				d[m.ID()] = 0.01 * random.NormFloat64()
			}
			if err := s.Observe(d); err != nil {
				t.Fatal(err)
			}
		}
		for _, d := range s.Decisions() {
			if d.Outcome == gate.Regression {
				alarms++
				break
			}
		}
	}
	if alarms > 4 {
		t.Errorf("%d of %d runs of unchanged code raised an alarm", alarms, runs)
	}
}

// A rejection passes its level on (Holm), a pass frees none, and what is decided is not tested again.
//
// Rows: gate/spend/holm, gate/stop/frozen-verdict.
func TestHolmOverTheSequence(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 3))
	metrics := []gate.Metric{p50("a"), p50("b"), p50("c")}
	s, err := gate.NewSequence(metrics)
	if err != nil {
		t.Fatal(err)
	}
	observe := func(a, b, c float64) {
		t.Helper()
		if err := s.Observe(map[string]float64{"a/p50": a, "b/p50": b, "c/p50": c}); err != nil {
			t.Fatal(err)
		}
	}
	for range 16 { // 0.01/3 is out of reach at 12 epochs
		e := 0.001 * random.NormFloat64()
		observe(0.2+e, 0.3-e, math.Log1p(0.035)+0.02*random.NormFloat64())
	}
	d := s.Decisions()
	if d[0].Outcome != gate.Regression || d[1].Outcome != gate.Regression || d[0].Units != d[1].Units {
		t.Fatalf("two large regressions: %+v", d[:2])
	}
	if d[2].Share != gate.FamilyLevel {
		t.Errorf("after two rejections of three the third has share %v, want all of %v", d[2].Share, gate.FamilyLevel)
	}
	before := d[0]
	for range 40 {
		observe(-0.5, 0.3, math.Log1p(0.035)+0.02*random.NormFloat64())
	}
	after := s.Decisions()[0]
	if after.Outcome != before.Outcome || after.Units != before.Units || after.Worse != before.Worse {
		t.Errorf("a decided metric was tested again: %+v, then %+v", before, after)
	}
	f, ok, err := s.Estimate("a/p50", 1)
	if err != nil || !ok || f.All != 56 || !(f.Final < f.AtStop.Point) {
		t.Errorf("the estimate goes on: %+v, %v, %v", f, ok, err)
	}
}

// With thirty gating metrics the first usable look is 16.
//
// Rows: gate/spend/reachable.
func TestUnreachableLooksAreNotUsed(t *testing.T) {
	var metrics []gate.Metric
	for i := range 30 {
		metrics = append(metrics, p50(fmt.Sprintf("s%02d", i)))
	}
	s, err := gate.NewSequence(metrics)
	if err != nil {
		t.Fatal(err)
	}
	for k := 1; k <= 16; k++ {
		d := map[string]float64{}
		for _, m := range metrics {
			d[m.ID()] = 1 + float64(k)/100
		}
		if err := s.Observe(d); err != nil {
			t.Fatal(err)
		}
		if got := s.Decisions()[0].Outcome == gate.Regression; got != (k == 16) {
			t.Fatalf("after %d epochs: regression %v", k, got)
		}
	}
}

// The reader can check the verdict by eye: the interval lies beyond the margin exactly where the test rejects.
//
// Rows: gate/estimate/interval-agrees, gate/estimate/mde-printed.
func TestIntervalAgreesWithTheVerdict(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 4))
	seen := map[gate.Outcome]int{}
	for i := range 60 {
		m := p50("s")
		s, err := gate.NewSequence([]gate.Metric{m})
		if err != nil {
			t.Fatal(err)
		}
		effect := 0.015 * float64(i%5)
		for !s.Decided("s") {
			if err := s.Observe(map[string]float64{m.ID(): math.Log1p(effect) + 0.03*random.NormFloat64()}); err != nil {
				t.Fatal(err)
			}
		}
		d := s.Decisions()[0]
		f, ok, err := s.Estimate(m.ID(), 1)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		seen[d.Outcome]++
		if (d.Outcome == gate.Regression) != (f.AtStop.Lower > math.Log1p(m.Fail)) {
			t.Errorf("%s with interval %+v", d.Outcome, f.AtStop)
		}
		if (d.Outcome == gate.Passed) != (f.AtStop.Upper < math.Log1p(m.Pass)) && d.Outcome != gate.Regression {
			t.Errorf("%s with interval %+v", d.Outcome, f.AtStop)
		}
		if !(f.Seen > math.Log1p(m.Fail)) {
			t.Errorf("the detectable effect %v lies below the margin", f.Seen)
		}
		if last := m.Looks[len(m.Looks)-1]; d.Units == m.Looks[0] && !(f.SeenAtEnd < f.Seen) {
			t.Errorf("%d epochs find %v, %d only %v", d.Units, f.Seen, last, f.SeenAtEnd)
		}
	}
	if seen[gate.Regression] < 5 || seen[gate.Passed] < 5 {
		t.Fatalf("the trials prove nothing: %v", seen)
	}
}

// TestMetricsThatCanNotBeUsed proves gate/verdict/nothing-ran.
func TestMetricsThatCanNotBeUsed(t *testing.T) {
	advisory := p50("s")
	advisory.Gating = false
	if _, err := gate.NewSequence([]gate.Metric{advisory}); !errors.Is(err, gate.ErrNoMetric) {
		t.Errorf("no gating metric: %v", err)
	}
	wrong, few := p50("s"), p50("s")
	wrong.Fail, wrong.Pass = 0.05, 0.02
	few.Looks = []int{3, 6}
	for name, m := range map[string][]gate.Metric{
		"margins": {wrong}, "doubled": {p50("s"), p50("s")}, "unreachable looks": {few}, "no name": {{Gating: true}},
	} {
		if _, err := gate.NewSequence(m); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

// Throughput is better when higher: a loss is a positive log-ratio.
func TestHigherIsBetter(t *testing.T) {
	m := gate.Metric{Scenario: "s", Name: "throughput", Higher: true, Fail: 0.02, Pass: 0.05, Gating: true, Looks: short}
	if d := m.Worse(math.Log(95.0 / 100)); math.Abs(m.Relative(d)+0.05) > 1e-12 || d < 0 {
		t.Errorf("a loss of 5 %% is %v, or %v", d, m.Relative(d))
	}
	random := rand.New(rand.NewPCG(5, 5))
	if got := play(t, m, 0.10, normal(random, 0.005)).Outcome; got != gate.Regression {
		t.Errorf("a loss of 10 %%: %s", got)
	}
}
