package main

import (
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios/k6"
	"github.com/assay-bench/assay/scenarios/load/bundle"
	"github.com/assay-bench/assay/suites"
	"github.com/assay-bench/assay/suites/gate"
	"github.com/assay-bench/assay/suites/runner"
)

// rules are what a bundle is judged by: the suite, the policy of a gate, or the thresholds of a load or of a k6 script.
type rules interface {
	Digest() string
	// CheckPlan refuses a plan that the rules would not have made.
	CheckPlan(run results.Run, evidence []results.Evidence) error
	Verdicts(run results.Run, evidence []results.Evidence) results.Verdicts
}

func rulesOf(suite *suites.Suite, b *results.Bundle) rules {
	switch b.Run.Kind {
	case gate.Kind:
		return gateRules{suite.Digest(), b.Policy}
	case gate.BenchKind:
		return benchRules{suite.Digest(), b.Policy}
	case k6.Kind:
		return scriptRules{}
	case bundle.Kind:
		return loadRules{}
	}
	return suiteRules{suite}
}

type suiteRules struct{ *suites.Suite }

func (s suiteRules) Verdicts(run results.Run, evidence []results.Evidence) results.Verdicts {
	return runner.Verdicts(s.Suite, run, evidence)
}

type scriptRules struct{}

func (scriptRules) Digest() string { return k6.Digest() }

func (scriptRules) CheckPlan(run results.Run, evidence []results.Evidence) error {
	return k6.CheckPlan(run, evidence)
}

func (scriptRules) Verdicts(run results.Run, evidence []results.Evidence) results.Verdicts {
	return k6.Verdicts(run, evidence)
}

type loadRules struct{}

func (loadRules) Digest() string { return bundle.Digest() }

func (loadRules) CheckPlan(run results.Run, evidence []results.Evidence) error {
	return bundle.CheckPlan(run, evidence)
}

func (loadRules) Verdicts(run results.Run, evidence []results.Evidence) results.Verdicts {
	return bundle.Verdicts(run, evidence)
}

type gateRules struct {
	digest string
	policy []byte
}

func (g gateRules) Digest() string { return g.digest }

func (g gateRules) CheckPlan(run results.Run, evidence []results.Evidence) error {
	return gate.CheckPlan(run, g.policy, evidence)
}

func (g gateRules) Verdicts(run results.Run, evidence []results.Evidence) results.Verdicts {
	v, _ := gate.Verdicts(g.digest, run, g.policy, evidence)
	return v
}

type benchRules struct {
	digest string
	policy []byte
}

func (r benchRules) Digest() string { return r.digest }

func (r benchRules) CheckPlan(run results.Run, _ []results.Evidence) error {
	return gate.CheckBenchPlan(run, r.policy)
}

func (r benchRules) Verdicts(run results.Run, evidence []results.Evidence) results.Verdicts {
	return gate.BenchVerdicts(r.digest, run, r.policy, evidence)
}
