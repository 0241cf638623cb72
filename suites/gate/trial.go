package gate

import (
	"maps"
	"slices"

	"github.com/assay-bench/assay/results/stats"
)

// Trial sums the course up as a line of a calibration: what was decided, and the log-ratios that replay it.
func (c *Course) Trial() Trial {
	t := c.seq.trial()
	t.End = c.end
	for _, n := range c.void {
		t.Void += n
	}
	return t
}

// trial sums up the gating metrics of a sequence. What replays it leaves out the shares near 0, as preflightTrial does.
func (s *Sequence) trial() Trial {
	t := Trial{Outcomes: map[string]Outcome{}, Epochs: map[string]int{}, Estimates: map[string]float64{}, Ratios: map[string][]float64{}}
	for _, st := range s.states {
		if !st.Metric.Gating {
			continue
		}
		id := st.Metric.ID()
		t.Outcomes[id], t.Epochs[id] = st.Outcome, st.stop
		if st.Outcome == Open {
			t.Epochs[id] = len(st.d)
		}
		if st.Metric.Absolute {
			continue
		}
		t.Metrics = append(t.Metrics, st.Metric)
		t.Ratios[id] = slices.Clone(st.d)
		if e, err := stats.HodgesLehmann(st.d, FamilyLevel, MissLevel); err == nil {
			t.Estimates[id] = st.Metric.Relative(e.Point)
		}
	}
	return t
}

// step is the log-ratios of one epoch by metric.
type step map[string]float64

// steps turns a trial's log-ratios back into epochs. Metrics that have fewer epochs than others end earlier.
func (t Trial) steps() []step {
	var out []step
	for _, id := range slices.Sorted(maps.Keys(t.Ratios)) {
		for i, d := range t.Ratios[id] {
			if i == len(out) {
				out = append(out, step{})
			}
			out[i][id] = d
		}
	}
	return out
}

// decided tells whether no gating metric of any scenario is open before its last look.
func (s *Sequence) decided() bool {
	return !slices.ContainsFunc(s.states, func(st *state) bool { return !s.Decided(st.Metric.Scenario) })
}

// Replay feeds a trial's log-ratios to the rule again and returns what it decides now.
func (t Trial) Replay() (Trial, error) {
	s, err := NewSequence(t.Metrics)
	if err != nil {
		return Trial{}, err
	}
	for _, d := range t.steps() {
		if err := s.Observe(d); err != nil {
			return Trial{}, err
		}
	}
	return s.trial(), nil
}
