package gate

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/assay-bench/assay/results/stats"
)

// The error levels of the whole run (gate.md section 2): a family-wise chance of a false alarm, and of a miss a metric.
const (
	FamilyLevel = 0.01
	MissLevel   = 0.05
)

// ErrNoMetric says that nothing could turn the gate red.
var ErrNoMetric = errors.New("no gating metric: a gate that can not fail is no gate")

// Outcome is what was decided on one metric.
type Outcome string

// The outcomes of a metric.
const (
	Open       Outcome = "open" // not decided yet, or not at all
	Regression Outcome = "regression"
	Passed     Outcome = "pass"
)

// Decision is a metric, what was decided on it and the tests behind that.
type Decision struct {
	Metric  Metric  `json:"metric"`
	Outcome Outcome `json:"outcome"`
	// Units is the number of valid epochs at the stop, and of all of them where nothing was decided.
	Units int `json:"units"`
	// Share is the part of the family level that the metric had at the last look.
	Share  float64 `json:"share"`
	Worse  Test    `json:"worse"`  // that it is worse than Fail
	Better Test    `json:"better"` // that it is better than Pass
}

// Test is one signed-rank test at a look.
type Test struct {
	P     float64 `json:"p"`
	Level float64 `json:"level"` // 0: no look of this test was reached
}

func (t Test) rejects() bool { return t.P < t.Level }

// Sequence decides on metrics epoch by epoch.
type Sequence struct {
	states   []*state // by id of the metric
	gating   int
	rejected int
}

type state struct {
	Decision
	d      []float64 // log-ratios of valid epochs, or differences of shares
	stop   int       // how many of them the decision saw
	tally  tally     // of a share near 0
	within bool      // its exact bound lies within the margin
}

// NewSequence returns the state before the first epoch. Errors: no gating metric, a metric that no test can use, two of one id.
func NewSequence(metrics []Metric) (*Sequence, error) {
	s := &Sequence{}
	for _, m := range metrics {
		if err := m.validate(); err != nil {
			return nil, err
		}
		if m.Gating {
			s.gating++
		}
		s.states = append(s.states, &state{Decision: Decision{Metric: m, Outcome: Open}})
	}
	if s.gating == 0 {
		return nil, ErrNoMetric
	}
	slices.SortFunc(s.states, func(a, b *state) int { return cmp.Compare(a.Metric.ID(), b.Metric.ID()) })
	for i, st := range s.states[1:] {
		if st.Metric.ID() == s.states[i].Metric.ID() {
			return nil, fmt.Errorf("metric %s is there twice", st.Metric.ID())
		}
	}
	// The tables of the first epoch are made now, so that a plan that no test can decide is refused before it runs.
	for _, st := range s.states {
		if !st.Metric.Gating {
			continue
		}
		_, err := levels(st.Metric.Looks, s.share())
		if err == nil && st.Metric.Absolute {
			err = checkReachable(st.Metric, s.share())
		}
		if err != nil {
			return nil, fmt.Errorf("metric %s: %w", st.Metric.ID(), err)
		}
	}
	return s, nil
}

// advise takes the metrics of a scenario out of the family, before the first epoch.
func (s *Sequence) advise(scenario string) {
	for _, st := range s.states {
		if st.Metric.Scenario == scenario && st.Metric.Gating {
			st.Metric.Gating = false
			s.gating--
		}
	}
}

// share is the level of each undecided metric: Holm's, over the sequence.
func (s *Sequence) share() float64 { return FamilyLevel / float64(max(1, s.gating-s.rejected)) }

// tables remembers stats.Levels, which takes a third of a second, by looks and level.
var tables sync.Map

func levels(looks []int, level float64) ([]stats.Look, error) {
	key := fmt.Sprint(looks, level)
	if t, ok := tables.Load(key); ok {
		return t.([]stats.Look), nil
	}
	t, err := stats.Levels(looks, level)
	if err == nil {
		tables.Store(key, t)
	}
	return t, err
}

// Count adds the failed requests of one valid epoch of a scenario, before Observe adds its differences.
func (s *Sequence) Count(scenario string, t Tally) {
	for _, st := range s.states {
		if st.Metric.Scenario == scenario && st.Metric.Absolute {
			st.tally.add(t)
		}
	}
}

// Observe adds one valid epoch: the log-ratios by metric id, positive for the worse. Metrics that are not in it (a void
// scenario) do not move. Then every metric that has come to a look is tested (gate.md section 3.7). The error says
// that a test could not be computed.
func (s *Sequence) Observe(d map[string]float64) error {
	var due []*state
	for _, st := range s.states {
		v, ok := d[st.Metric.ID()]
		if !ok {
			continue
		}
		st.d = append(st.d, v)
		if st.Metric.Absolute && len(st.tally.events[0]) != len(st.d) {
			return fmt.Errorf("metric %s after %d epochs: the failures of %d were counted", st.Metric.ID(), len(st.d), len(st.tally.events[0]))
		}
		if st.Outcome == Open && st.Metric.Gating && slices.Contains(st.Metric.Looks, len(st.d)) {
			due = append(due, st)
		}
	}
	for changed := true; changed; {
		changed = false
		for _, st := range due {
			if st.Outcome != Open {
				continue
			}
			rejected, err := s.look(st)
			if err != nil {
				return fmt.Errorf("metric %s after %d epochs: %w", st.Metric.ID(), len(st.d), err)
			}
			changed = changed || rejected
		}
	}
	return nil
}

// look tests one metric with the level that it has now and tells whether that freed level for others.
func (s *Sequence) look(st *state) (freed bool, err error) {
	st.Units, st.stop, st.Share = len(st.d), len(st.d), s.share()
	if st.Metric.Absolute {
		err = s.lookRate(st)
	} else {
		err = s.lookRatio(st)
	}
	if err != nil {
		return false, err
	}
	switch {
	case st.Worse.rejects():
		st.Outcome = Regression
		s.rejected++
		return true, nil
	case st.Better.rejects() && (!st.Metric.Absolute || st.within):
		st.Outcome = Passed
	}
	return false, nil
}

func (s *Sequence) lookRatio(st *state) (err error) {
	fail, pass := st.Metric.margins()
	if st.Worse, err = testAt(st.d, st.Metric.Looks, st.Share, func(v float64) float64 { return v - fail }); err != nil {
		return err
	}
	st.Better, err = testAt(st.d, st.Metric.Looks, MissLevel, func(v float64) float64 { return pass - v })
	return err
}

// levelAt is the level of the look at a number of epochs; 0: this look can not reach it.
func levelAt(units int, looks []int, level float64) (float64, error) {
	table, err := levels(looks, level)
	if err != nil {
		return 0, err
	}
	i := slices.IndexFunc(table, func(l stats.Look) bool { return l.Units == units })
	if i < 0 {
		return 0, nil
	}
	return table[i].Level, nil
}

// testAt is the signed-rank test of the moved log-ratios at the look that they have come to.
func testAt(d []float64, looks []int, level float64, move func(float64) float64) (Test, error) {
	at, err := levelAt(len(d), looks, level)
	if err != nil || at == 0 {
		return Test{P: 1}, err
	}
	r, err := stats.TestSignedRank(moved(d, move))
	return Test{P: r.P, Level: at}, err
}

func moved(d []float64, move func(float64) float64) []float64 {
	y := make([]float64, len(d))
	for i, v := range d {
		y[i] = move(v)
	}
	return y
}

// observed returns the statistics of a metric so far.
func (s *Sequence) observed(id string) []float64 {
	for _, st := range s.states {
		if st.Metric.ID() == id {
			return st.d
		}
	}
	return nil
}

// Decided tells whether every gating metric of a scenario is decided, or has had its last look.
func (s *Sequence) Decided(scenario string) bool {
	for _, st := range s.states {
		if st.Metric.Scenario == scenario && st.Metric.Gating && st.Outcome == Open && len(st.d) < slices.Max(st.Metric.Looks) {
			return false
		}
	}
	return true
}

// Decisions returns what is decided so far, by metric id.
func (s *Sequence) Decisions() []Decision {
	out := make([]Decision, len(s.states))
	for i, st := range s.states {
		out[i] = st.Decision
		if st.Outcome == Open {
			out[i].Units = len(st.d)
		}
	}
	return out
}
