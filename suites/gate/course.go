package gate

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/assay-bench/assay/results/stats"
	"github.com/assay-bench/assay/scenarios/duet"
)

// Constants of a course (gate.md sections 2 and 3).
const (
	biasLevel   = 0.001 // of the pre-flight's test, over all scenarios
	leastBefore = 12    // epochs of the pre-flight
	voidShare   = 0.2
	voidAfter   = 10 // epochs, before the share says anything
	stalled     = 3  // epochs
	notReady    = 2  // epochs in a row
	capFactor   = 10
	capLeast    = 5 * time.Second
)

// End is why a course ended before its metrics were decided; empty where they were.
type End string

// The ends of a course. All but bias are reasons of verdicts.
const (
	Running           End = ""
	Complete          End = "complete"
	Predicted         End = "predicted"
	Environment       End = "environment"
	HarnessBias       End = "harness-bias"
	CandidateStalled  End = "candidate-stalled"
	CandidateNotReady End = "candidate-not-ready"
	BaselineNotReady  End = "baseline-not-ready"
	TimeLimit         End = "time"
	NothingToCompare  End = "nothing-to-compare" // the baseline answers no scenario at all
)

// Step is what a course wants next.
type Step struct {
	Phase  duet.Phase
	Number int
	Cap    time.Duration // of the requests of one scenario in the epoch
}

// Options change the course of a run; they are recorded, so that a replay takes the same one.
type Options struct {
	Force bool `json:"force,omitempty"` // go on where the pre-flight predicts that nothing will be decided
	// NoPreflight leaves the pre-flight out: another one of the same program on this host has just been.
	NoPreflight bool `json:"noPreflight,omitempty"`
	// Creep judges by the rule of slow creep, against the last release.
	Creep bool `json:"creep,omitempty"`
	// Floors are the least fail margins on this host, by metric, where link orders alone reach more than what is usual:
	// margins that the policy does not name are raised to them.
	Floors map[string]float64 `json:"floors,omitempty"`
	// Fit is what a budget of time made of the policy; nil: all of it.
	Fit *Fit `json:"fit,omitempty"`
	// Through says that a stored result is compared with, and how; Epochs is how many valid ones that takes.
	Through Through `json:"through,omitempty"`
	Epochs  int     `json:"epochs,omitempty"`
}

// Course is a run of the gate as a function of its epochs: what comes next, when it ends, and what is decided. The
// driver asks it while it runs, the judge afterwards.
type Course struct {
	policy  Policy
	options Options
	metrics []Metric
	before  int // epochs of the pre-flight
	pre     map[string][]duet.Epoch
	preRun  int
	seq     *Sequence
	run     map[string]int // epochs by scenario
	void    map[string]int
	number  int
	slow    map[string]int // epochs in which the candidate ran into the cap
	refused [2]int         // successive starts that failed, by arm
	end     End
	need    Need
	slos    map[string][]*slo // by scenario
	fresh   map[string]bool   // scenarios that the baseline does not have
	driven  []duet.Scenario
}

// Need is what the pre-flight predicts.
type Need struct {
	Metric string        `json:"metric"` // the one that needs most
	Units  float64       `json:"units"`
	Most   int           `json:"most"`
	Epoch  time.Duration `json:"epoch"` // one of the duet, as far as the pre-flight tells
}

// Time is how long the duet will take.
func (n Need) Time() time.Duration { return time.Duration(n.Units * float64(n.Epoch)) }

// NewCourse returns the course before its first epoch. Errors are those of NewSequence.
func NewCourse(p Policy, o Options) (*Course, error) {
	if err := checkFloors(o.Floors); err != nil {
		return nil, err
	}
	metrics := o.Fit.metrics(p.MetricsFor(o))
	seq, err := sequenceOf(metrics, o)
	if err != nil {
		return nil, err
	}
	before := 0
	if !o.NoPreflight {
		before = max(leastBefore, int(math.Ceil(math.Log2(2*float64(len(p.Scenarios))/biasLevel))))
	}
	return &Course{
		policy: p, options: o, metrics: metrics, seq: seq, before: before,
		pre: map[string][]duet.Epoch{}, run: map[string]int{}, void: map[string]int{}, slow: map[string]int{},
		slos: p.slos(), fresh: map[string]bool{}, driven: o.Fit.scenarios(p.Measured()),
	}, nil
}

// sequenceOf returns the tests of a course. Against a stored result there are none on the way: the duet is with the reference, from
// which the candidate may differ as it likes.
func sequenceOf(metrics []Metric, o Options) (*Sequence, error) {
	s, err := NewSequence(metrics)
	if err != nil || o.Through == NotThrough {
		return s, err
	}
	if o.Epochs < fewestStored || o.Epochs > mostStored {
		return nil, fmt.Errorf("a ratio of ratios over %d epochs, want %d to %d", o.Epochs, fewestStored, mostStored)
	}
	for _, m := range metrics {
		s.advise(m.Scenario)
	}
	return s, nil
}

// wouldGate is how many metrics of the policy gate.
func (c *Course) wouldGate() (n int) {
	for _, m := range c.metrics {
		if m.Gating {
			n++
		}
	}
	return n
}

// Metrics are what is judged, with what a budget left of it.
func (c *Course) Metrics() []Metric { return c.metrics }

// Before is how many epochs the pre-flight has.
func (c *Course) Before() int { return c.before }

// Next returns the epoch to run; ok is false when the course has ended.
func (c *Course) Next() (step Step, ok bool) {
	if c.end != Running {
		return Step{}, false
	}
	if c.preRun < c.before {
		return Step{Phase: duet.Preflight, Number: c.preRun + 1}, true
	}
	return Step{Phase: duet.Duet, Number: c.number + 1, Cap: c.cap()}, true
}

// cap is ten times the median epoch of the pre-flight, at least 5 s.
func (c *Course) cap() time.Duration {
	var took []time.Duration
	for _, epochs := range c.pre {
		for _, e := range epochs {
			took = append(took, e.Arms[0].Took+e.Arms[1].Took)
		}
	}
	if len(took) == 0 {
		return capLeast
	}
	slices.Sort(took)
	return max(capLeast, capFactor*took[len(took)/2])
}

// Stop ends the course at the limit of the run's time.
func (c *Course) Stop() {
	if c.end == Running {
		c.end = TimeLimit
	}
}

// NotReady notes that a process did not come up.
func (c *Course) NotReady(phase duet.Phase, arm duet.Arm) {
	if phase == duet.Preflight || arm == duet.Baseline {
		c.end = BaselineNotReady
		return
	}
	c.number++
	c.refused[arm]++
	if c.refused[arm] >= notReady {
		c.end = CandidateNotReady
	}
}

// Observe takes the epochs of one step, one a scenario.
func (c *Course) Observe(epochs []duet.Epoch) error {
	if len(epochs) == 0 || c.end != Running {
		return fmt.Errorf("epoch after the end of the course (%s), or without a scenario", c.end)
	}
	c.refused = [2]int{}
	if epochs[0].Phase == duet.Preflight {
		for _, e := range epochs {
			c.pre[e.Scenario] = append(c.pre[e.Scenario], e)
		}
		if c.preRun++; c.preRun == c.before {
			return c.judgePreflight()
		}
		return nil
	}
	c.number++
	return c.observeDuet(epochs)
}

func (c *Course) observeDuet(epochs []duet.Epoch) error {
	d := map[string]float64{}
	for _, e := range epochs {
		c.run[e.Scenario]++
		if tooSlow(e) {
			if c.slow[e.Scenario]++; c.slow[e.Scenario] >= stalled {
				c.end = CandidateStalled
				return nil
			}
		}
		if e.Void != "" {
			c.void[e.Scenario]++
			continue
		}
		for _, m := range c.metrics {
			if v, ok := m.of(e); ok && m.Scenario == e.Scenario {
				d[m.ID()] = v
			}
		}
		c.seq.Count(e.Scenario, TallyOf(e))
		for _, s := range c.slos[e.Scenario] {
			s.observe(e)
		}
	}
	if err := c.seq.Observe(d); err != nil {
		return err
	}
	open := false
	for _, s := range c.policy.Scenarios {
		if n := c.run[s.Name]; n >= voidAfter && float64(c.void[s.Name]) > voidShare*float64(n) {
			c.end = Environment
			return nil
		}
		open = open || !c.decided(s.Name)
	}
	if !open {
		c.end = Complete
	}
	return nil
}

// tooSlow tells that the candidate can not be measured: it ran into the cap while the baseline needed little of the time, or
// it gave no right answer under load while the baseline did.
func tooSlow(e duet.Epoch) bool {
	if e.Void != duet.VoidCapped {
		return false
	}
	return e.VoidBy != nil && *e.VoidBy == duet.Candidate || 4*e.Arms[duet.Baseline].Took < e.Arms[0].Took+e.Arms[1].Took
}

// decided tells that a scenario needs no further epoch: its gating metrics are decided, and absolute checks have theirs.
func (c *Course) decided(scenario string) bool {
	for _, s := range c.slos[scenario] {
		if len(s.shares) < sloEpochs {
			return false
		}
	}
	if c.options.Through != NotThrough {
		return c.run[scenario]-c.void[scenario] >= c.options.Epochs
	}
	return c.seq.Decided(scenario)
}

// judgePreflight tests the harness for bias and predicts what the duet needs.
func (c *Course) judgePreflight() error {
	level := biasLevel / float64(len(c.policy.Scenarios))
	for _, s := range c.policy.Scenarios {
		d, quietest := c.quietest(s.Name)
		if len(d) == 0 {
			c.end = Environment
			return nil
		}
		p, err := twoSided(d)
		if err != nil {
			return fmt.Errorf("pre-flight of %s: %w", quietest, err)
		}
		if p < level {
			c.end = HarnessBias
			return nil
		}
	}
	if c.options.Through != NotThrough {
		return nil
	}
	for _, s := range c.policy.Scenarios {
		if c.unanswered(s.Name) {
			c.fresh[s.Name] = true
			c.seq.advise(s.Name)
		}
	}
	if c.seq.gating == 0 {
		c.end = NothingToCompare
		return nil
	}
	return c.predict()
}

// unanswered tells that the baseline got no request of a scenario right in the pre-flight: a scenario that is new with the
// candidate can not get worse.
func (c *Course) unanswered(scenario string) bool {
	for _, e := range c.pre[scenario] {
		for _, arm := range e.Arms {
			if arm.Errors < arm.Requests {
				return false
			}
		}
	}
	return len(c.pre[scenario]) > 0
}

// quietest returns the pre-flight's log-ratios of the metric that is least noisy in a scenario, but noisy at all.
func (c *Course) quietest(scenario string) (d []float64, id string) {
	least := math.Inf(1)
	for _, m := range c.metrics {
		if m.Scenario != scenario || m.Absolute {
			continue // rates are no sign of bias: most are 0
		}
		of := c.preflight(m)
		scale, err := stats.RobustScale(of)
		if err == nil && (scale < least && scale > 0 || d == nil) {
			d, id, least = of, m.ID(), scale
		}
	}
	return d, id
}

// preflight returns the log-ratios of a metric between the two processes of the baseline.
func (c *Course) preflight(m Metric) []float64 {
	var d []float64
	for _, e := range c.pre[m.Scenario] {
		if v, ok := m.of(e); ok && e.Void == "" {
			d = append(d, v)
		}
	}
	return d
}

// twoSided is twice the smaller p-value of the signed-rank test in either direction.
func twoSided(d []float64) (float64, error) {
	up, err := stats.TestSignedRank(d)
	if err != nil {
		return 0, err
	}
	mirrored := make([]float64, len(d))
	for i, v := range d {
		mirrored[i] = -v
	}
	down, err := stats.TestSignedRank(mirrored)
	return min(1, 2*min(up.P, down.P)), err
}

// predict ends the course where a gating metric is too noisy to be decided within its looks.
func (c *Course) predict() error {
	for _, m := range c.metrics {
		if !m.Gating || c.fresh[m.Scenario] {
			continue
		}
		scale, err := stats.RobustScale(c.preflight(m))
		if err != nil {
			c.end = Environment
			return nil
		}
		fail, pass := m.margins()
		if m.Absolute {
			fail = 0 // what is to be told from the margin is no change
		}
		units, err := stats.PredictedUnits(scale, fail, pass, c.seq.share(), MissLevel)
		if err != nil {
			return fmt.Errorf("metric %s: %w", m.ID(), err)
		}
		most := m.Looks[len(m.Looks)-1]
		units = max(units, float64(m.Looks[0]))
		if n := (Need{m.ID(), units, most, 0}); c.need.Metric == "" || units/float64(most) > c.need.Units/float64(c.need.Most) {
			c.need = n
		}
	}
	if c.need.Units > float64(c.need.Most) && !c.options.Force {
		c.end = Predicted
	}
	return nil
}

// Need returns what the pre-flight predicts, given how long it took.
func (c *Course) Need(preflight time.Duration) Need {
	n := c.need
	if c.before > 0 {
		n.Epoch = preflight / time.Duration(c.before)
	}
	return n
}

// End tells whether and why the course has ended.
func (c *Course) End() End { return c.end }
