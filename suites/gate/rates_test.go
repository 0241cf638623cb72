package gate_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios/duet"
	"github.com/assay-bench/assay/suites/gate"
)

// withMetrics is the sample policy with other metrics.
func withMetrics(metrics string) string {
	return strings.Replace(policyText, "{p50: {}, p90: {gating: false}}", metrics, 1)
}

// every returns n failures in each n-th epoch.
func every(n, failures int) func(int) int {
	return func(epoch int) int {
		if epoch%n == 0 {
			return failures
		}
		return 0
	}
}

// judged plays a sample and returns the verdict on one case.
func judged(t *testing.T, policy, name string, s sample) (results.Verdict, results.Exit) {
	t.Helper()
	s.random = rand.New(rand.NewPCG(21, 21))
	run, all := evidence(t, policy, &s, gate.Options{})
	v, _ := gate.Verdicts("digest", run, []byte(policy), all)
	for _, x := range v.Verdicts {
		if err := x.Validate(uint64(len(all))); err != nil {
			t.Errorf("%s: %v", x.Key(), err)
		}
		if x.Case == name {
			return x, v.Exit
		}
	}
	t.Fatalf("no case %q in %+v", name, v.Verdicts)
	return results.Verdict{}, 0
}

func figure(t *testing.T, v results.Verdict, name string) float64 {
	t.Helper()
	for _, f := range v.Figures {
		if f.Name == name {
			return f.Value
		}
	}
	t.Fatalf("%s has no figure %q: %+v", v.Key(), name, v.Figures)
	return 0
}

// A growth of failed requests beyond the margin is red, one that the margin allows is not, and what the baseline fails as
// well is no growth. No failure at all is told with the bound that it leaves, and a margin below that bound does not pass.
//
// Rows: gate/rates/zero-errors-bound.
func TestRatesNearZero(t *testing.T) {
	for name, c := range map[string]struct {
		margin string
		sample sample
		status results.Status
		exit   results.Exit
		says   string
	}{
		"no errors":               {"1%", sample{noise: 0.007}, results.Pass, results.ExitPass, "at most 0.0767 % of the candidate's fail"},
		"one in twenty fails":     {"1%", sample{noise: 0.007, failing: [2]func(int) int{nil, every(1, 25)}}, results.Fail, results.ExitFail, "of 8000 requests failed"},
		"both fail alike":         {"2%", sample{noise: 0.007, failing: [2]func(int) int{every(1, 25), every(1, 25)}}, results.Pass, results.ExitPass, "of the baseline's"},
		"the baseline fails more": {"1%", sample{noise: 0.007, failing: [2]func(int) int{every(1, 25), nil}}, results.Pass, results.ExitPass, "at most 0.0767 %"},
		"within the margin":       {"5%", sample{noise: 0.007, failing: [2]func(int) int{nil, every(1, 5)}}, results.Pass, results.ExitPass, "of the baseline's 0 of"},
		// 60 clean epochs of 500 bound the share at 0.0153 %: the sign flips would pass at 12 epochs.
		"margin below what can be shown": {"0.01%", sample{noise: 0.007}, results.Inconclusive, results.ExitInconclusive, "too few to show a margin of 0.01 %"},
		// A third of the requests of every sixth epoch: errors come together, and the bound is that of fewer requests.
		"errors that come together": {"6%", sample{noise: 0.007, failing: [2]func(int) int{nil, every(6, 160)}}, results.Inconclusive, results.ExitInconclusive, "errors come together"},
	} {
		t.Run(name, func(t *testing.T) {
			policy := withMetrics("{p50: {}, errors: {margin: " + c.margin + "}}")
			v, exit := judged(t, policy, duet.Errors, c.sample)
			if v.Status != c.status || exit != c.exit || !strings.Contains(v.Why.Observed, c.says) {
				t.Errorf("%s %q, exit %d: %s, want %s with %q", v.Status, v.Reason, exit, v.Why.Observed, c.status, c.says)
			}
			if upper := figure(t, v, "share at most"); !(upper > 0) {
				t.Errorf("upper bound %v", upper)
			}
			if n := figure(t, v, "requests"); n < 6000 {
				t.Errorf("%v requests", n)
			}
			if d := figure(t, v, "detectable"); !(d > figure(t, v, "fail above")) {
				t.Errorf("detectable %v", d)
			}
		})
	}
}

// A failure count that the recorded share does not give breaks every verdict of the run.
func TestTamperedErrorsAreSeen(t *testing.T) {
	policy := withMetrics("{p50: {}, errors: {margin: 1%}}")
	s := sample{noise: 0.007, failing: [2]func(int) int{nil, every(1, 25)}, random: rand.New(rand.NewPCG(9, 9))}
	run, all := evidence(t, policy, &s, gate.Options{})
	edit(t, all, func(e *duet.Epoch) { e.Arms[duet.Candidate].Errors = 0 })
	if v, exit := gateVerdict(t, policy, run, all); v.Status != results.Broken || exit != results.ExitHarness {
		t.Errorf("%s, exit %d", v.Status, exit)
	}
}

// edit changes the first epoch of the duet in evidence.
func edit(t *testing.T, all []results.Evidence, change func(*duet.Epoch)) {
	t.Helper()
	for i := range all {
		var e duet.Epoch
		if all[i].Kind != results.Measured || all[i].Decode(&e) != nil || e.Phase != duet.Duet {
			continue
		}
		change(&e)
		raw, err := results.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		all[i].Data = raw
		return
	}
	t.Fatal("no epoch of the duet")
}

func gateVerdict(t *testing.T, policy string, run results.Run, all []results.Evidence) (results.Verdict, results.Exit) {
	t.Helper()
	v, _ := gate.Verdicts("digest", run, []byte(policy), all)
	if len(v.Verdicts) == 0 {
		t.Fatal("no verdict")
	}
	return v.Verdicts[0], v.Exit
}

// The level is divided over the gating metrics of all scenarios, and stands in the bundle.
//
// Rows: gate/spend/family.
func TestFamilyLevelIsDivided(t *testing.T) {
	var scenarios strings.Builder
	scenarios.WriteString("apiVersion: assay/v1\nkind: Gate\nstart: {command: [x, \"{port}\"]}\nscenarios:\n")
	for i := range 3 {
		fmt.Fprintf(&scenarios, "  - {name: s%d, requests: [{path: /}], metrics: {p50: {}, p90: {}, errors: {margin: 1%%}, mean: {gating: false}}}\n", i)
	}
	p, err := gate.ParsePolicy([]byte(scenarios.String()))
	if err != nil {
		t.Fatal(err)
	}
	s, err := gate.NewSequence(p.Metrics())
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		d := map[string]float64{}
		for _, m := range p.Metrics() {
			d[m.ID()] = 0.03 // between the margins of p50: nothing is rejected
			if m.Absolute {
				d[m.ID()] = 0.01
			}
		}
		for i := range 3 {
			s.Count(fmt.Sprintf("s%d", i), gate.Tally{Events: [2]int{0, 5}, Trials: [2]int{500, 500}})
		}
		if err := s.Observe(d); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range s.Decisions() {
		if !d.Metric.Gating {
			continue
		}
		if d.Outcome == gate.Regression || d.Share != gate.FamilyLevel/9 {
			t.Errorf("%s: %s with share %v of the level, want %v: nine metrics gate", d.Metric.ID(), d.Outcome, d.Share, gate.FamilyLevel/9)
		}
	}
}

func TestFailuresMustBeCounted(t *testing.T) {
	m := gate.Metric{Scenario: "s", Name: duet.Errors, Absolute: true, Fail: 0.01, Pass: 0.01, Gating: true, Looks: short}
	s, err := gate.NewSequence([]gate.Metric{m})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Observe(map[string]float64{m.ID(): 0}); err == nil {
		t.Error("a rate was taken without its counts")
	}
	m.Pass = 0.02
	if _, err := gate.NewSequence([]gate.Metric{m}); err == nil {
		t.Error("two margins of a rate were taken")
	}
}

// The pre-flight of a gate that bounds failures joins the pool, where a share near 0 can not be tested again.
func TestPreflightBesideFailuresIsPooled(t *testing.T) {
	policy := withMetrics("{p50: {}, errors: {margin: 1%}}")
	run, all := evidence(t, policy, &sample{noise: 0.005, random: rand.New(rand.NewPCG(21, 21))}, gate.Options{})
	before, err := gate.Unchanged(&results.Bundle{Run: run, Policy: []byte(policy), Evidence: all})
	if err != nil || len(before) == 0 || before[0].Kind != gate.Before {
		t.Fatalf("trials %+v, %v", before, err)
	}
	c, ok, err := gate.Calibrate(before, gate.HostClass(run.Host), run.Started.Add(time.Hour))
	if r, known := c.FalseAlarms(); err != nil || !ok || !known || r.Trials == 0 || r.Events != 0 {
		t.Errorf("%+v, %v, %v", c, ok, err)
	}
	// one that bounds nothing else has nothing to replay
	policy = withMetrics("{errors: {margin: 1%}}")
	run, all = evidence(t, policy, &sample{noise: 0.005, random: rand.New(rand.NewPCG(21, 21))}, gate.Options{})
	before, err = gate.Unchanged(&results.Bundle{Run: run, Policy: []byte(policy), Evidence: all})
	if err != nil || slices.ContainsFunc(before, func(t gate.Trial) bool { return t.Kind == gate.Before }) {
		t.Errorf("trials %+v, %v", before, err)
	}
}
