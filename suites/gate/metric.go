// Package gate decides whether a candidate is worse than a baseline, from paired epochs of both: duet-gate/1 of
// gate.md. It judges and drives nothing; scenarios/duet measures. Every decision is a function of the recorded
// epochs and the policy, so that a replay gives the same verdict bit for bit.
package gate

import (
	"fmt"
	"math"
	"slices"

	"github.com/assay-bench/assay/scenarios/duet"
)

// Metric is one figure of one scenario, and how much worse it may get.
type Metric struct {
	Scenario string  `json:"scenario"`
	Name     string  `json:"name"`             // p50, p90, p99, mean, cpu, allocs, …
	Higher   bool    `json:"higher,omitempty"` // higher is better: throughput
	Fail     float64 `json:"failAbove"`        // relative change for the worse that may not be exceeded: 0.02
	Pass     float64 `json:"passBelow"`        // relative change for the worse below which it passes: 0.05
	// Absolute says that Fail and Pass, which are alike, bound the difference of two shares near 0.
	Absolute bool  `json:"absolute,omitempty"`
	Gating   bool  `json:"gating"`
	Looks    []int `json:"looks"` // valid epochs at which it is tested
}

// ID is scenario/name.
func (m Metric) ID() string { return m.Scenario + "/" + m.Name }

// margins are the two margins on the log scale, positive for the worse (gate.md section 2).
func (m Metric) margins() (fail, pass float64) {
	return m.logMargin(m.Fail), m.logMargin(m.Pass)
}

func (m Metric) logMargin(relative float64) float64 {
	switch {
	case m.Absolute:
		return relative
	case m.Higher:
		return -math.Log1p(-relative)
	}
	return math.Log1p(relative)
}

// Relative turns a log-ratio (positive for the worse) back into the relative change of the figure itself. The difference
// of an absolute metric stays what it is.
func (m Metric) Relative(d float64) float64 {
	if m.Absolute {
		return d
	}
	if m.Higher {
		d = -d
	}
	return math.Expm1(d)
}

// Worse turns ln(candidate/baseline) into a log-ratio that is positive for the worse.
func (m Metric) Worse(ratio float64) float64 {
	if m.Higher {
		return -ratio
	}
	return ratio
}

// validate refuses margins and looks that no test can use.
func (m Metric) validate() error {
	switch {
	case m.Scenario == "" || m.Name == "":
		return fmt.Errorf("metric %q: it needs a scenario and a name", m.ID())
	case m.Absolute && (m.Fail != m.Pass || !(m.Fail > 0) || m.Fail >= 1):
		return fmt.Errorf("metric %s: margin %v, want one between 0 and 1", m.ID(), m.Fail)
	case m.Absolute:
	case !(m.Fail >= 0) || !(m.Fail < m.Pass) || m.Pass > 10 || m.Higher && m.Pass >= 1:
		return fmt.Errorf("metric %s: fail above %v and pass below %v, want 0 <= fail < pass", m.ID(), m.Fail, m.Pass)
	}
	switch {
	case m.Gating && len(m.Looks) == 0:
		return fmt.Errorf("metric %s: a gating metric needs looks", m.ID())
	case !slices.IsSorted(m.Looks):
		return fmt.Errorf("metric %s: looks %v do not grow", m.ID(), m.Looks)
	}
	return nil
}

// of returns the statistic of an epoch: a log-ratio that is positive for the worse, or the difference of two shares.
func (m Metric) of(e duet.Epoch) (d float64, ok bool) {
	if m.Absolute {
		return duet.Difference(e.Arms, m.Name)
	}
	d, ok = e.Ratios[m.Name]
	return m.Worse(d), ok
}

// The looks of gate.md section 2.
func shortLooks() []int { return []int{12, 16, 20, 26, 32, 40, 50, 60} }
func longLooks() []int  { return []int{20, 30, 40, 60, 80, 100, 125, 150} }
