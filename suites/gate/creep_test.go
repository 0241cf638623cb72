package gate_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/suites/gate"
)

// A change of +4 % lies between the margins of a pull request, where either verdict is right; against the last release it
// is red, and a replay of the evidence takes the same rule. Unchanged code passes either rule.
func TestSlowCreep(t *testing.T) {
	for _, c := range []struct {
		creep  bool
		effect float64
		want   results.Status
	}{{true, 0.04, results.Fail}, {true, 0, results.Pass}, {false, 0, results.Pass}, {true, 0.02, results.Pass}} {
		random := rand.New(rand.NewPCG(12, 7))
		run, all := evidence(t, policyText, &sample{random: random, noise: 0.02, effect: c.effect}, gate.Options{Creep: c.creep})
		v, course := gate.Verdicts("suite", run, []byte(policyText), all)
		if got := v.Verdicts[0]; got.Status != c.want || course.End() != gate.Complete {
			t.Errorf("creep %v, %+.0f %%: %s, %s, %s", c.creep, 100*c.effect, got.Status, course.End(), got.Why.Observed)
		}
	}
}

// The rule of slow creep has a narrower gap and more looks, and what the policy says of it.
func TestCreepPolicy(t *testing.T) {
	p, err := gate.ParsePolicy([]byte(policyText))
	if err != nil {
		t.Fatal(err)
	}
	usual, creep := p.MetricsFor(gate.Options{})[0], p.MetricsFor(gate.Options{Creep: true})[0]
	if creep.Fail != usual.Fail || !(creep.Pass < usual.Pass) || creep.Looks[len(creep.Looks)-1] != 150 || creep.ID() != usual.ID() {
		t.Errorf("%+v, in place of %+v", creep, usual)
	}
	own := policyText + "creep: {metrics: {p50: {failAbove: 1%, passBelow: 3%}}}\n"
	if p, err = gate.ParsePolicy([]byte(own)); err != nil || p.MetricsFor(gate.Options{Creep: true})[0].Pass != 0.03 || p.Metrics()[0].Pass != 0.05 {
		t.Errorf("%v, %+v", err, p.Creep)
	}
	for text, want := range map[string]string{
		"creep: {metrics: {p99: {}}}":                             "no scenario has the metric \"p99\"",
		"creep: {metrics: {p50: {failAbove: 6%, passBelow: 5%}}}": "want 0 <= fail < pass",
		"creep: {metrics: {p50: {gating: false}}}":                "gating",
	} {
		if _, err := gate.ParsePolicy([]byte(policyText + text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
