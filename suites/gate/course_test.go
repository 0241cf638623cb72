package gate_test

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/results/histogram"
	"github.com/assay-bench/assay/scenarios/duet"
	"github.com/assay-bench/assay/suites/gate"
)

const policyText = `apiVersion: assay/v1
kind: Gate
name: sample
start: {command: ["{out}", "{port}"]}
scenarios:
  - name: s
    requests: [{path: /}]
    metrics: {p50: {}, p90: {gating: false}}
`

// sample makes epochs as a driver would record them.
type sample struct {
	random   *rand.Rand
	noise    float64 // of log-ratios
	bias     float64 // of the second arm in the pre-flight
	effect   float64 // of the candidate
	voidEach int     // every n-th epoch of the duet is void
	capped   bool    // the candidate runs into the cap
	mute     bool    // the candidate gives no right answer under load
	mode     duet.Mode
	failing  [2]func(epoch int) int // failed requests of each arm
	over     func(epoch int) int    // requests of the candidate that take 50 ms in place of 1
	each     int                    // requests an arm; 0: 500
	lacks    string                 // scenario that the baseline gets wrong in every request
}

// unanswered makes every request of the baseline's processes a failure.
func (s *sample) unanswered(e *duet.Epoch) {
	for _, arm := range duet.Arms {
		if e.Phase == duet.Preflight || arm == duet.Baseline {
			e.Arms[arm].Errors, e.Arms[arm].Figures[duet.Errors] = e.Arms[arm].Requests, 1
		}
	}
}

func (s *sample) epoch(step gate.Step) duet.Epoch {
	e := duet.Epoch{Phase: step.Phase, Number: step.Number, Scenario: "s", Ratios: map[string]float64{}}
	e.Mode = s.mode
	shift, each := s.effect, cmp.Or(s.each, 500)
	if step.Phase == duet.Preflight {
		shift = s.bias
	}
	for i, arm := range duet.Arms {
		figures := duet.Figures{}
		for _, m := range []string{duet.P50, duet.P90} {
			figures[m] = 0.001 * math.Exp(float64(i)*(math.Log1p(shift)+s.noise*s.random.NormFloat64()))
		}
		side := duet.Side{PID: 2*step.Number + i, Requests: each, Took: 250 * time.Millisecond, Figures: figures}
		if s.failing[arm] != nil {
			side.Errors = s.failing[arm](step.Number)
		}
		figures[duet.Errors] = float64(side.Errors) / float64(each)
		if s.mode == duet.ByBlock {
			// A loss of throughput is answers that did not come.
			side.Requests = max(1, int(1e6*math.Exp(-float64(i)*(math.Log1p(shift)+s.noise*s.random.NormFloat64()))))
			figures[duet.Throughput] = float64(side.Requests-side.Errors) / side.Took.Seconds()
			figures[duet.Errors] = float64(side.Errors) / float64(side.Requests)
		}
		if s.over != nil {
			over := 0
			if arm == duet.Candidate {
				over = s.over(step.Number)
			}
			side.Over, side.Histogram = map[string]int{"25ms": over}, slowOnes(each, over)
		}
		e.Arms[arm] = side
	}
	for _, m := range []string{duet.P50, duet.P90, duet.Throughput} {
		if d, ok := duet.Ratio(e.Arms, m); ok {
			e.Ratios[m] = d
		}
	}
	if step.Phase == duet.Duet && s.voidEach > 0 && step.Number%s.voidEach == 0 {
		e.Void = duet.VoidLag
	}
	if step.Phase == duet.Duet && s.capped {
		e.Void = duet.VoidCapped
		e.Arms[duet.Candidate].Took = step.Cap
	}
	if step.Phase == duet.Duet && s.mute {
		candidate := duet.Candidate
		e.Void, e.VoidBy = duet.VoidCapped, &candidate
	}
	return e
}

// slowOnes is the histogram of n requests that take 1 ms, and of which some take 50 ms.
func slowOnes(n, over int) string {
	h := histogram.New()
	for range n - over {
		h.Record(int64(time.Millisecond))
	}
	for range over {
		h.Record(int64(50 * time.Millisecond))
	}
	text, err := h.Encode()
	if err != nil {
		panic(err)
	}
	return string(text)
}

// evidence plays a course to its end and returns what a driver would have written.
func evidence(t *testing.T, policy string, s *sample, o gate.Options) (results.Run, []results.Evidence) {
	t.Helper()
	p, err := gate.ParsePolicy([]byte(policy))
	if err != nil {
		t.Fatal(err)
	}
	return recordInto(t, io.Discard, p, s, gate.Sides{Options: o, Instrument: duet.Instrument})
}

// recordInto is evidence with all that its first piece says, written as well.
func recordInto(t *testing.T, out io.Writer, p gate.Policy, s *sample, sides gate.Sides) (results.Run, []results.Evidence) {
	t.Helper()
	c, err := gate.NewCourse(p, sides.Options)
	if err != nil {
		t.Fatal(err)
	}
	rec := results.NewRecorder(out, results.ClockSince(time.Now()))
	put := func(check string, kind results.Kind, data any) {
		if _, err := rec.Record(results.Key{Check: check}, results.FromScenario, kind, data); err != nil {
			t.Fatal(err)
		}
	}
	put("gate", results.Started, sides)
	for {
		step, more := c.Next()
		if !more {
			break
		}
		var epochs []duet.Epoch
		for _, scenario := range p.Scenarios {
			e := s.epoch(step)
			e.Scenario = scenario.Name
			if scenario.Name == s.lacks {
				s.unanswered(&e)
			}
			put("gate/"+scenario.Name, results.Measured, e)
			epochs = append(epochs, e)
		}
		if err := c.Observe(epochs); err != nil {
			t.Fatal(err)
		}
	}
	run := results.Run{Kind: gate.Kind, Started: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC), Target: results.Target{Kind: "command"}}
	run.Plan = gate.PlanFor(p, sides.Options, func(gate.Metric) string { return "assay gate" })
	return run, rec.All()
}

// verdicts judges and returns the verdict on p50 and the exit code.
func verdicts(t *testing.T, policy string, run results.Run, all []results.Evidence) (results.Verdict, results.Exit) {
	t.Helper()
	v, _ := gate.Verdicts("digest", run, []byte(policy), all)
	if len(v.Verdicts) != 2 || v.Verdicts[0].Case != "p50" {
		t.Fatalf("%+v", v.Verdicts)
	}
	for _, x := range v.Verdicts {
		if err := x.Validate(uint64(len(all))); err != nil {
			t.Errorf("%s: %v", x.Key(), err)
		}
	}
	return v.Verdicts[0], v.Exit
}

// TestVerdictExitCodes has a case for each outcome of gate.md section 3.12.
//
// Rows: gate/verdict/exit-codes, gate/preflight/bias-detected, gate/preflight/predicted, gate/epoch/void-share,
// gate/ab/candidate-stalled, gate/epoch/void-blind.
func TestVerdictExitCodes(t *testing.T) {
	for name, c := range map[string]struct {
		sample sample
		force  bool
		status results.Status
		reason string
		exit   results.Exit
	}{
		"unchanged":            {sample{noise: 0.007}, false, results.Pass, "", results.ExitPass},
		"ten percent slower":   {sample{noise: 0.007, effect: 0.10}, false, results.Fail, "regression", results.ExitFail},
		"ten times slower":     {sample{noise: 0.007, effect: 9}, false, results.Fail, "regression", results.ExitFail},
		"between the margins":  {sample{noise: 0.12, effect: 0.035}, true, results.Inconclusive, "undecided", results.ExitInconclusive},
		"biased harness":       {sample{noise: 0.007, bias: 0.05}, false, results.Broken, "harness-bias", results.ExitHarness},
		"hopeless noise":       {sample{noise: 0.30}, false, results.Inconclusive, "predicted", results.ExitInconclusive},
		"a third is void":      {sample{noise: 0.007, voidEach: 3}, false, results.Inconclusive, "environment", results.ExitInconclusive},
		"an eighth is void":    {sample{noise: 0.007, voidEach: 8}, false, results.Pass, "", results.ExitPass},
		"too slow to measure":  {sample{noise: 0.007, capped: true}, false, results.Fail, "candidate-stalled", results.ExitFail},
		"slower and void, too": {sample{noise: 0.007, effect: 0.10, voidEach: 8}, false, results.Fail, "regression", results.ExitFail},
	} {
		t.Run(name, func(t *testing.T) {
			c.sample.random = rand.New(rand.NewPCG(8, 8))
			run, all := evidence(t, policyText, &c.sample, gate.Options{Force: c.force})
			v, exit := verdicts(t, policyText, run, all)
			if v.Status != c.status || v.Reason != c.reason || exit != c.exit {
				t.Errorf("%s %q, exit %d: %s", v.Status, v.Reason, exit, v.Why.Observed)
			}
		})
	}
}

// A run that was cut off is Unproven, and one of which nothing is there as well.
//
// Rows: gate/verdict/nothing-ran.
func TestUnfinishedRunProvesNothing(t *testing.T) {
	run, all := evidence(t, policyText, &sample{noise: 0.007, random: rand.New(rand.NewPCG(9, 9))}, gate.Options{})
	for _, n := range []int{0, 1, 5, len(all) - 1} {
		if v, exit := verdicts(t, policyText, run, all[:n]); v.Status != results.Unproven || exit != results.ExitHarness {
			t.Errorf("of %d pieces of evidence: %s, exit %d", n, v.Status, exit)
		}
	}
}

// A log-ratio that its own figures do not give breaks the verdict. Row: gate/verdict/replay.
func TestTamperedEpochIsSeen(t *testing.T) {
	run, all := evidence(t, policyText, &sample{noise: 0.007, effect: 0.10, random: rand.New(rand.NewPCG(9, 9))}, gate.Options{})
	for i := range all {
		var e duet.Epoch
		if all[i].Kind != results.Measured || all[i].Decode(&e) != nil || e.Phase != duet.Duet {
			continue
		}
		e.Ratios[duet.P50] = 0
		raw, err := results.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		all[i].Data = raw
		break
	}
	if v, exit := verdicts(t, policyText, run, all); v.Status != results.Broken || exit != results.ExitHarness {
		t.Errorf("%s, exit %d", v.Status, exit)
	}
}

// A wanted regression stays a failure and does not turn the run red, up to its bound and until its day.
func TestAcceptedRegression(t *testing.T) {
	accepts := func(upTo, expires string) string {
		return policyText + fmt.Sprintf("accepts: [{metric: s/p50, upTo: %s, reason: checksums, expires: %s}]\n", upTo, expires)
	}
	for name, c := range map[string]struct {
		policy string
		exit   results.Exit
	}{
		"covered": {accepts("12%", "2026-12-01"), results.ExitPass},
		"larger":  {accepts("5%", "2027-01-01"), results.ExitFail},
		"expired": {accepts("12%", "2026-11-30"), results.ExitFail},
	} {
		s := sample{noise: 0.004, effect: 0.08, random: rand.New(rand.NewPCG(3, 9))}
		policy := strings.Replace(c.policy, "p90: {gating: false}", "p90: {failAbove: 30%, passBelow: 40%}", 1)
		run, all := evidence(t, policy, &s, gate.Options{})
		v, exit := verdicts(t, policy, run, all)
		if v.Status != results.Fail || exit != c.exit || (v.Expected != "") != (c.exit == results.ExitPass) {
			t.Errorf("%s: %s (%s), exit %d", name, v.Status, v.Expected, exit)
		}
	}
}

// A plan that leaves a metric of the policy out is not verified.
func TestPlanMustHoldEveryMetric(t *testing.T) {
	run, _ := evidence(t, policyText, &sample{noise: 0.007, random: rand.New(rand.NewPCG(1, 9))}, gate.Options{})
	if err := gate.CheckPlan(run, []byte(policyText), nil); err != nil {
		t.Error(err)
	}
	run.Plan = run.Plan[1:]
	if err := gate.CheckPlan(run, []byte(policyText), nil); err == nil {
		t.Error("a shorter plan was taken")
	}
}

// The bias test can reach its level, however many scenarios share it.
//
// Rows: gate/preflight/bias-reachable.
func TestBiasTestIsReachable(t *testing.T) {
	for _, n := range []int{1, 5, 30} {
		var scenarios strings.Builder
		for i := range n {
			fmt.Fprintf(&scenarios, "  - {name: s%d, requests: [{path: /}], metrics: {p50: {}}}\n", i)
		}
		p, err := gate.ParsePolicy([]byte("apiVersion: assay/v1\nkind: Gate\nstart: {command: [x, \"{port}\"]}\nscenarios:\n" + scenarios.String()))
		if err != nil {
			t.Fatal(err)
		}
		c, err := gate.NewCourse(p, gate.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if least := 2 * math.Ldexp(1, -c.Before()); least >= 0.001/float64(n) {
			t.Errorf("%d scenarios: %d epochs reach no less than %v", n, c.Before(), least)
		}
	}
}
