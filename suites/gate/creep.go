package gate

import (
	"fmt"
	"maps"
	"slices"
)

// Creep is the rule of the nightly comparison with the last release. Changes that are each too small for the gate of a
// pull request add up, and between its margins either verdict is right; this rule has a narrower gap, and the epochs
// that takes.
type Creep struct {
	Metrics map[string]CreepMargins `yaml:"metrics"` // by name, in every scenario that has it
}

// CreepMargins are those of one metric; 0: what is usual.
type CreepMargins struct {
	FailAbove Percent `yaml:"failAbove"`
	PassBelow Percent `yaml:"passBelow"`
}

// gapShare is how much of the gap between the margins the rule keeps where the policy says nothing: 150 epochs in place of
// 60 resolve sqrt(60/150) = 0.63 of it at the same noise.
const gapShare = 0.65

// creepMetrics are the metrics under the rule of slow creep: the same ones gate, each with the narrower gap and the long
// looks.
func (p Policy) creepMetrics() []Metric {
	metrics := p.Metrics()
	for i := range metrics {
		m := &metrics[i]
		m.Pass = m.Fail + gapShare*(m.Pass-m.Fail)
		own := p.Creep.Metrics[m.Name]
		MetricPolicy{FailAbove: own.FailAbove, PassBelow: own.PassBelow}.override(m)
		m.Looks = longLooks()
	}
	return metrics
}

// MetricsFor are the metrics under the rule that the options choose.
func (p Policy) MetricsFor(o Options) []Metric {
	metrics := p.Metrics()
	if o.Creep {
		metrics = p.creepMetrics()
	}
	for i := range metrics {
		m := &metrics[i]
		if floor := o.Floors[m.Name]; floor > m.Fail && !p.names(*m, o.Creep) {
			m.Fail, m.Pass = floor, floor+m.Pass-m.Fail
		}
	}
	return metrics
}

// names tells whether the policy itself says when a metric fails.
func (p Policy) names(m Metric, creep bool) bool {
	if creep && p.Creep.Metrics[m.Name].FailAbove > 0 {
		return true
	}
	for _, s := range p.Scenarios {
		if s.Name == m.Scenario {
			return s.Metrics[m.Name].FailAbove > 0 || s.Metrics[m.Name].PassBelow > 0 || m.Absolute
		}
	}
	return false
}

// Raised says which margins are not the usual ones because link orders alone exceed those on this host.
func (p Policy) Raised(o Options) (out []string) {
	usual := o
	usual.Floors = nil
	before := p.MetricsFor(usual)
	for i, m := range p.MetricsFor(o) {
		if m.Fail != before[i].Fail {
			out = append(out, fmt.Sprintf("%s fails above %.3g %% in place of %.3g %%: link orders alone move it so far on this host", m.ID(), 100*m.Fail, 100*before[i].Fail))
		}
	}
	return out
}

// badCreep refuses what would judge nothing, or by margins that no test can use.
func (p Policy) badCreep() (errs []error) {
	known := map[string]bool{}
	for _, m := range p.creepMetrics() {
		known[m.Name] = true
		if err := m.validate(); err != nil && p.Creep.Metrics != nil {
			errs = append(errs, fmt.Errorf("creep: %w", err))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.Creep.Metrics)) {
		if !known[name] {
			errs = append(errs, fmt.Errorf("creep: no scenario has the metric %q", name))
		}
	}
	return errs
}
