package gate

import (
	"fmt"
	"math"
	"slices"

	"github.com/assay-bench/assay/results/stats"
	"github.com/assay-bench/assay/scenarios/duet"
	"github.com/assay-bench/assay/scenarios/duet/gobench"
)

// BenchmarkFailed is the end of a benchmark that failed in two successive epochs of the candidate, or once in the
// baseline's.
const (
	BenchmarkFailed End = "benchmark-failed"
	BaselineFailed  End = "baseline-failed"
)

// BenchCourse is a run on Go benchmarks as a function of its epochs, as Course is for a service. Each benchmark has a
// pre-flight, a duet and an end of its own; the level is Holm's over all of them.
type BenchCourse struct {
	policy  BenchPolicy
	options Options
	before  int
	seq     *Sequence
	benches []*benchState
	at      map[string]*benchState
}

type benchState struct {
	Bench
	metrics  []Metric
	pre      map[string][]float64 // log-ratios of the pre-flight by unit
	preRun   int
	number   int
	failed   int             // successive epochs in which the candidate failed
	hopeless map[string]Need // by metric: predicted not to be decided
	end      End
}

// NewBenchCourse returns the course before its first epoch.
func NewBenchCourse(p BenchPolicy, o Options) (*BenchCourse, error) {
	seq, err := NewSequence(p.Metrics())
	if err != nil {
		return nil, err
	}
	c := &BenchCourse{policy: p, options: o, seq: seq, at: map[string]*benchState{}}
	c.before = max(leastBefore, int(math.Ceil(math.Log2(2*float64(len(p.Benchmarks))/biasLevel))))
	for _, b := range p.Benchmarks {
		s := &benchState{Bench: b, pre: map[string][]float64{}, hopeless: map[string]Need{}}
		for _, m := range p.Metrics() {
			if m.Scenario == b.ID() {
				s.metrics = append(s.metrics, m)
			}
		}
		c.benches, c.at[b.ID()] = append(c.benches, s), s
	}
	return c, nil
}

// Before is how many epochs the pre-flight of a benchmark has.
func (c *BenchCourse) Before() int { return c.before }

// BenchStep is a process of each side that is wanted next.
type BenchStep struct {
	Function BenchFunction
	Phase    duet.Phase
	Number   int
	Benches  []Bench // what it must show
}

// Round returns a step for every function of which a benchmark is open; none: the course has ended.
func (c *BenchCourse) Round() []BenchStep {
	var out []BenchStep
	for _, s := range c.benches {
		if s.end != Running {
			continue
		}
		phase, number := duet.Preflight, s.preRun+1
		if s.preRun >= c.before {
			phase, number = duet.Duet, s.number+1
		}
		i := slices.IndexFunc(out, func(st BenchStep) bool {
			return st.Function == s.Function() && st.Phase == phase && st.Number == number
		})
		if i < 0 {
			i, out = len(out), append(out, BenchStep{Function: s.Function(), Phase: phase, Number: number})
		}
		out[i].Benches = append(out[i].Benches, s.Bench)
	}
	return out
}

// Failed notes that a process of a step did not show what it must.
func (c *BenchCourse) Failed(f BenchFailure) {
	for _, s := range c.benches {
		if s.end != Running || !slices.Contains(f.Benches, s.ID()) {
			continue
		}
		switch {
		case f.Phase == duet.Preflight || f.Arm == duet.Baseline:
			s.end = BaselineFailed
		default:
			s.number++
			if s.failed++; s.failed >= notReady {
				s.end = BenchmarkFailed
				if f.Late {
					s.end = CandidateStalled
				}
			}
		}
	}
}

// Observe takes one epoch of one benchmark.
func (c *BenchCourse) Observe(e duet.Epoch) error {
	s, ok := c.at[e.Scenario]
	if !ok || s.end != Running {
		return fmt.Errorf("epoch %d of %q, which is not open", e.Number, e.Scenario)
	}
	if e.Phase == duet.Preflight {
		for unit, d := range e.Ratios {
			s.pre[unit] = append(s.pre[unit], d)
		}
		if s.preRun++; s.preRun == c.before {
			return c.judgePreflight(s)
		}
		return nil
	}
	s.number++
	s.failed = 0
	d := map[string]float64{}
	for _, m := range s.metrics {
		if v, ok := e.Ratios[m.Name]; ok {
			d[m.ID()] = v
		}
	}
	if err := c.seq.Observe(d); err != nil {
		return err
	}
	c.settle(s)
	return nil
}

// judgePreflight tests for bias on the time, which alone is noisy, and predicts each metric.
func (c *BenchCourse) judgePreflight(s *benchState) error {
	if d := s.pre[gobench.Time]; len(d) > 0 {
		p, err := twoSided(d)
		if err != nil {
			return fmt.Errorf("pre-flight of %s: %w", s.ID(), err)
		}
		if p < biasLevel/float64(len(c.benches)) {
			s.end = HarnessBias
			return nil
		}
	}
	for _, m := range s.metrics {
		scale, err := stats.RobustScale(s.pre[m.Name])
		if err != nil {
			continue // no epoch showed it: it stays open, and is not decided
		}
		fail, pass := m.margins()
		units, err := stats.PredictedUnits(scale, fail, pass, c.seq.share(), MissLevel)
		if err != nil {
			return fmt.Errorf("metric %s: %w", m.ID(), err)
		}
		if most := slices.Max(m.Looks); units > float64(most) && !c.options.Force {
			s.hopeless[m.ID()] = Need{Metric: m.ID(), Units: units, Most: most}
		}
	}
	c.settle(s)
	return nil
}

// settle ends a benchmark of which nothing can be decided any more.
func (c *BenchCourse) settle(s *benchState) {
	for _, st := range c.seq.states {
		if st.Metric.Scenario != s.ID() || st.Outcome != Open || s.number >= slices.Max(st.Metric.Looks) {
			continue
		}
		if _, hopeless := s.hopeless[st.Metric.ID()]; !hopeless {
			return
		}
	}
	s.end = Complete
}

// Open is how many benchmarks are not done.
func (c *BenchCourse) Open() int {
	n := 0
	for _, s := range c.benches {
		if s.end == Running {
			n++
		}
	}
	return n
}

// Decisions are those of the sequence.
func (c *BenchCourse) Decisions() []Decision { return c.seq.Decisions() }
