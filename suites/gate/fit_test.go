package gate_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios/duet"
	"github.com/assay-bench/assay/suites/gate"
)

// probeOf is a service by request that takes so long to start, and for a request to each side.
func probeOf(t *testing.T, policy string, overhead, pair time.Duration) (gate.Policy, gate.Probe) {
	t.Helper()
	p, err := gate.ParsePolicy([]byte(policy))
	if err != nil {
		t.Fatal(err)
	}
	return p, gate.Probe{Overhead: overhead, Pair: map[string]time.Duration{"s": pair}, Scenarios: p.Measured()}
}

// A budget that holds the whole plan changes nothing; a smaller one gives up looks, then the tail, then requests, and says so; one
// that holds nothing is refused with the time that would do.
func TestFitBudget(t *testing.T) {
	const all, tail = "{p50: {}, cpu: {}}", "{p50: {}, cpu: {}, p99: {}}"
	for name, c := range map[string]struct {
		metrics        string
		overhead, pair time.Duration
		budget         time.Duration
		gaveUp         []string
		gating         int
	}{
		"all of it":            {all, 200 * time.Millisecond, 250 * time.Microsecond, 2 * time.Minute, nil, 2},
		"fewer looks":          {all, 200 * time.Millisecond, 250 * time.Microsecond, 20 * time.Second, []string{"looks after"}, 2},
		"without the tail":     {tail, 200 * time.Millisecond, 10 * time.Millisecond, 4 * time.Minute, []string{"s/p99", "looks after"}, 2},
		"the service of 20 ms": {all, 5 * time.Second, 40 * time.Millisecond, 6 * time.Minute, []string{"requests a side", "looks after"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			p, probe := probeOf(t, withMetrics(c.metrics), c.overhead, c.pair)
			f, plan, err := gate.FitBudget(p, gate.Options{}, probe, c.budget)
			if err != nil {
				t.Fatal(err)
			}
			if len(f.GaveUp) != len(c.gaveUp) {
				t.Fatalf("gave up %q, want %q", f.GaveUp, c.gaveUp)
			}
			for i, g := range f.GaveUp {
				if !strings.Contains(g, c.gaveUp[i]) {
					t.Errorf("gave up %q, want %q", g, c.gaveUp[i])
				}
			}
			if plan.Most() > c.budget || plan.First > plan.Last || plan.First < 12 {
				t.Errorf("%+v takes %v to %v of %v", plan, plan.Least(), plan.Most(), c.budget)
			}
			course, err := gate.NewCourse(p, gate.Options{Fit: f})
			if err != nil {
				t.Fatal(err)
			}
			gating := 0
			for _, m := range course.Metrics() {
				if m.Gating {
					gating++
				}
			}
			if gating != c.gating {
				t.Errorf("%d metrics gate, want %d", gating, c.gating)
			}
			if n := f.Requests["s"]; n != 0 && (n < 100 || n > 500) {
				t.Errorf("%d requests", n)
			}
		})
	}
	p, probe := probeOf(t, withMetrics(all), 5*time.Second, 40*time.Millisecond)
	_, _, err := gate.FitBudget(p, gate.Options{}, probe, time.Minute)
	if !errors.Is(err, gate.ErrBudget) || !strings.Contains(err.Error(), "say --budget") {
		t.Errorf("one minute: %v", err)
	}
}

// What a budget left of a policy is in evidence: the replay takes it from there, and an epoch with fewer requests than that counts
// for nothing.
func TestFitIsReplayed(t *testing.T) {
	policy := withMetrics("{p50: {}, p90: {}}")
	fit := &gate.Fit{Budget: time.Minute, Most: 26, Requests: map[string]int{"s": 130}, Advisory: []string{"s/p90"}}
	s := sample{noise: 0.007, each: 130, random: rand.New(rand.NewPCG(2, 4))}
	run, all := evidence(t, policy, &s, gate.Options{Fit: fit})
	if err := gate.CheckPlan(run, []byte(policy), all); err != nil {
		t.Error(err)
	}
	if v, exit := gateVerdict(t, policy, run, all); v.Status != results.Pass || exit != results.ExitPass {
		t.Errorf("%s, exit %d: %s", v.Status, exit, v.Why.Observed)
	}
	edit(t, all, func(e *duet.Epoch) {
		e.Arms[duet.Candidate].Requests = 129
	})
	if v, exit := gateVerdict(t, policy, run, all); v.Status != results.Broken || exit != results.ExitHarness {
		t.Errorf("an epoch of 129 requests: %s, exit %d", v.Status, exit)
	}
}

// A scenario whose every request the baseline gets wrong is new: it decides nothing, and the others do. Where there is no other,
// nothing is compared.
func TestNewScenarioIsAdvisory(t *testing.T) {
	two := policyText + "  - {name: new, requests: [{path: /new}], metrics: {p50: {}}}\n"
	for name, c := range map[string]struct {
		effect float64
		status results.Status // of s
		exit   results.Exit
	}{
		"unchanged": {0, results.Pass, results.ExitPass}, "slower": {0.10, results.Fail, results.ExitFail},
	} {
		s := sample{noise: 0.007, effect: c.effect, lacks: "new", random: rand.New(rand.NewPCG(3, 1))}
		run, all := evidence(t, two, &s, gate.Options{})
		v, _ := gate.Verdicts("digest", run, []byte(two), all)
		if len(v.Verdicts) != 3 || v.Verdicts[0].Status != c.status || v.Exit != c.exit {
			t.Errorf("%s: %+v, exit %d", name, v.Verdicts, v.Exit)
			continue
		}
		if got := v.Verdicts[2]; got.Status != results.NotClaimed || got.Reason != "new-scenario" {
			t.Errorf("%s: the new scenario is %s %q: %s", name, got.Status, got.Reason, got.Why.Observed)
		}
	}
	v, exit := judged(t, policyText, "p50", sample{noise: 0.007, lacks: "s"})
	if v.Status != results.Inconclusive || v.Reason != "nothing-to-compare" || exit != results.ExitInconclusive {
		t.Errorf("no scenario of the baseline's: %s %q, exit %d: %s", v.Status, v.Reason, exit, v.Why.Observed)
	}
}

// A run that comes to its time limit is inconclusive, not unproven.
func TestTimeLimitIsInconclusive(t *testing.T) {
	s := sample{noise: 0.007, random: rand.New(rand.NewPCG(1, 1))}
	run, all := evidence(t, policyText, &s, gate.Options{})
	cut := append(all[:14:14], ended(t, all[14]))
	if v, exit := gateVerdict(t, policyText, run, cut); v.Status != results.Inconclusive || v.Reason != "time" || exit != results.ExitInconclusive {
		t.Errorf("%s %q, exit %d", v.Status, v.Reason, exit)
	}
}

// Throughput is judged like any ratio, and a candidate that gives no right answer under load is red.
func TestThroughputCourse(t *testing.T) {
	policy := strings.Replace(withMetrics("{throughput: {}}"), "  - name: s\n", "  - name: s\n    mode: block\n", 1)
	for name, c := range map[string]struct {
		sample sample
		status results.Status
		reason string
		exit   results.Exit
	}{
		"unchanged":     {sample{noise: 0.005}, results.Pass, "", results.ExitPass},
		"10 % slower":   {sample{noise: 0.005, effect: 0.10}, results.Fail, "regression", results.ExitFail},
		"10 % faster":   {sample{noise: 0.005, effect: -0.10}, results.Pass, "", results.ExitPass},
		"only failures": {sample{noise: 0.005, mute: true}, results.Fail, "candidate-stalled", results.ExitFail},
	} {
		c.sample.mode = duet.ByBlock
		v, exit := judged(t, policy, duet.Throughput, c.sample)
		if v.Status != c.status || v.Reason != c.reason || exit != c.exit {
			t.Errorf("%s: %s %q, exit %d: %s", name, v.Status, v.Reason, exit, v.Why.Observed)
		}
	}
	s := sample{noise: 0.005, mode: duet.ByBlock, random: rand.New(rand.NewPCG(1, 1))}
	run, all := evidence(t, policy, &s, gate.Options{})
	edit(t, all, func(e *duet.Epoch) { e.Arms[duet.Candidate].Requests /= 2 })
	if v, exit := gateVerdict(t, policy, run, all); v.Status != results.Broken || exit != results.ExitHarness {
		t.Errorf("half of the answers gone: %s, exit %d", v.Status, exit)
	}
}
