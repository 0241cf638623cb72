package gate_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/scenarios/duet"
	"github.com/assay-bench/assay/suites/gate"
)

// preflights makes pre-flights of twelve epochs, a day apart, with a shift that unchanged code does not have.
func preflights(n int, shift, noise float64, metrics ...gate.Metric) []gate.Trial {
	random := rand.New(rand.NewPCG(9, 9))
	var out []gate.Trial
	for i := range n {
		t := gate.Trial{Kind: gate.Before, Source: fmt.Sprintf("run-%03d", i), At: noon.Add(time.Duration(i-n) * time.Hour), HostClass: "h", Instrument: duet.Instrument, Metrics: metrics, Ratios: map[string][]float64{}}
		for range 12 {
			for _, m := range metrics {
				t.Ratios[m.ID()] = append(t.Ratios[m.ID()], shift+noise*random.NormFloat64())
			}
		}
		out = append(out, t)
	}
	return out
}

// A pre-flight alone decides nothing with three gating metrics: no alarm is possible in its twelve epochs. Chained they
// are pairs that can fail, and each epoch stands in one pair.
//
// Rows: gate/calibrate/claims.
func TestPreflightsAreChained(t *testing.T) {
	three := []gate.Metric{p50("a"), p50("b"), p50("c")}
	for _, c := range []struct {
		name         string
		pre          []gate.Trial
		pairs, alarm int
	}{
		{"quiet ones pass at the first look", preflights(10, 0, 0.005, three...), 10, 0},
		{"one that needs more takes the next one's epochs", preflights(2, 0.1, 0.0001, three...), 1, 1},
		{"what is left over is no pair", preflights(1, 0.1, 0.0001, three...), 0, 0},
	} {
		got, ok, err := gate.Calibrate(c.pre, "h", noon)
		if err != nil || ok != (c.pairs > 0) {
			t.Fatal(c.name, ok, err)
		}
		r, _ := got.FalseAlarms()
		if r.Trials != c.pairs || r.Events != c.alarm {
			t.Errorf("%s: %d alarms in %d pairs, want %d in %d", c.name, r.Events, r.Trials, c.alarm, c.pairs)
		}
	}
	mixed := append(preflights(5, 0, 0.005, p50("a")), preflights(5, 0, 0.005, p50("b"))...)
	c, _, err := gate.Calibrate(mixed, "h", noon)
	if r, _ := c.FalseAlarms(); err != nil || r.Trials != 10 {
		t.Errorf("two rules: %+v, %v", r, err)
	}
}

// Pre-flights are pooled by the coarse class of the host, trials of a calibration are not.
func TestPreflightsArePooledByCoarseClass(t *testing.T) {
	if got := gate.Coarse("CPU X, 2 cores, Linux 6.18.44-a"); got != "CPU X, 2 cores, Linux 6.18" || got != gate.Coarse("CPU X, 2 cores, Linux 6.18.9") {
		t.Error(got)
	}
	pre := preflights(3, 0, 0.005, p50("a"))
	for i := range pre {
		pre[i].HostClass = "CPU X, 2 cores, Linux 6.18.9"
	}
	other := trials(5, gate.SameBuild, 0, gate.Passed)
	for i := range other {
		other[i].HostClass = "CPU X, 2 cores, Linux 6.18.9"
	}
	c, ok, err := gate.Calibrate(append(pre, other...), "CPU X, 2 cores, Linux 6.18.44-a", noon)
	if r, _ := c.FalseAlarms(); err != nil || !ok || r.Trials != 3 {
		t.Errorf("%+v, %v", r, err)
	}
	if _, ok, _ := gate.Calibrate(pre, "CPU Y, 2 cores, Linux 6.18.44-a", noon); ok {
		t.Error("pre-flights of another processor count")
	}
}

func TestNewsAreTakenOnce(t *testing.T) {
	pre := preflights(3, 0, 0.005, p50("a"))
	if got := gate.News(pre[:2], append(pre, pre...)); len(got) != 1 || got[0].Source != "run-002" {
		t.Errorf("%d new ones", len(got))
	}
}

// What a trial recorded gives the same decisions again, bit for bit.
func TestTrialsReplay(t *testing.T) {
	_, all := evidence(t, policyText, &sample{random: rand.New(rand.NewPCG(6, 6)), noise: 0.01, effect: 0.06}, gate.Options{})
	run, _ := evidence(t, policyText, &sample{random: rand.New(rand.NewPCG(6, 6)), noise: 0.01, effect: 0.06}, gate.Options{})
	judged, err := gate.Judge([]byte(policyText), run, all)
	if err != nil {
		t.Fatal(err)
	}
	trial := judged.Course.Trial()
	again, err := trial.Replay()
	if err != nil {
		t.Fatal(err)
	}
	again.End, again.Void = trial.End, trial.Void
	if diff := cmp.Diff(trial, again); diff != "" || trial.Outcomes["s/p50"] != gate.Regression {
		t.Errorf("%v\n%s", trial.Outcomes, diff)
	}
}

// The simulation keeps what the rule promises on honest epochs, shows what a rule that is too lax does, and follows its
// seed.
func TestSimulation(t *testing.T) {
	m := p50("a")
	pool := preflights(40, 0.01, 0.01, m) // a bias that the swapped arms cancel
	sim := gate.Simulation{Metrics: []gate.Metric{m}, Trials: 400, Seed: 5, Block: gate.DefaultBlock}
	got, err := sim.Run(pool)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct{ least, most int }{{0, 0}, {0, 14}, {370, 400}} {
		if r := got[i].Any; r.Trials != 400 || r.Events < want.least || r.Events > want.most {
			t.Errorf("%s: %+v", got[i].Change, r)
		}
	}
	again, err := sim.Run(pool)
	if diff := cmp.Diff(got, again); err != nil || diff != "" {
		t.Errorf("another result with one seed: %v %s", err, diff)
	}
	lax := m
	lax.Fail, lax.Pass = 0, 0.0001
	sim.Metrics = []gate.Metric{lax}
	if got, err = sim.Run(pool); err != nil || got[0].Any.Events == 0 || got[0].Any.Open == 0 {
		t.Errorf("a rule without margins on unchanged code: %+v, %v", got[0].Any, err)
	}
	if _, err := sim.Run(pool[:3]); err == nil {
		t.Error("36 epochs are no pool")
	}
	if _, err := gate.Rule(nil); err == nil {
		t.Error("nothing has a rule")
	}
	if rule, err := gate.Rule(append(pool, preflights(3, 0, 0, p50("b"))...)); err != nil || rule[0].Scenario != "a" {
		t.Errorf("%v, %v", rule, err)
	}
}
