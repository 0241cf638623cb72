package gate

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/results/histogram"
	"github.com/assay-bench/assay/results/stats"
	"github.com/assay-bench/assay/scenarios/duet"
)

// The keys of a gate's evidence: one for the run, one a scenario.
var runKey = results.Key{Check: "gate"}

func scenarioKey(name string) results.Key { return results.Key{Check: "gate/" + name} }

// Reasons of verdicts beside the ends of a course.
const (
	reasonRegression = "regression"
	reasonUndecided  = "undecided"
	reasonUnfinished = "not-finished"
	reasonReplay     = "judge-error"
	reasonThreshold  = "threshold"
	reasonFewEpochs  = "too-few-epochs"
	// reasonNewScenario is no verdict on the candidate.
	reasonNewScenario = "new-scenario"
)

// discoveryRate is the share of false discoveries among metrics that do not gate (gate.md section 2).
const discoveryRate = 0.05

// Sides are the artefacts of a run: the data of the Started evidence.
type Sides struct {
	Options  Options         `json:"options"`
	Baseline ArtefactRef     `json:"baseline"`
	Cand     ArtefactRef     `json:"candidate"`
	Builds   BuildComparison `json:"builds"`
	Stored   *Stored         `json:"stored,omitempty"` // compared with through the baseline, which is the reference
	// Instrument is how epochs were measured: duet.Instrument.
	Instrument string `json:"instrument,omitempty"`
	Rates      string `json:"errorRates"` // of the gate on this class of host, as known when the run began
}

// ArtefactRef identifies one side.
type ArtefactRef struct {
	Given    string `json:"given"`              // what the user wrote
	Revision string `json:"revision,omitempty"` // commit, where it is one
	Digest   string `json:"digest"`             // SHA-256 of the program
}

// Failure is the data of Errored evidence: a process that did not come up.
type Failure struct {
	Phase  duet.Phase `json:"phase"`
	Arm    duet.Arm   `json:"arm"`
	Detail string     `json:"detail"`
}

// Judged is the outcome of a replay.
type Judged struct {
	Verdicts []results.Verdict
	Course   *Course
}

// Judge computes the verdicts of a gate's bundle from its policy and evidence. It is a pure function: the driver takes the same
// course while it runs.
func Judge(policy []byte, run results.Run, evidence []results.Evidence) (Judged, error) {
	p, err := ParsePolicy(policy)
	if err != nil {
		return Judged{}, fmt.Errorf("policy.yaml: %w", err)
	}
	sides, err := sidesOf(evidence)
	if err != nil {
		return Judged{}, err
	}
	j := &judge{run: run, seqs: map[string][]uint64{}, stored: sides.Stored}
	if (sides.Options.Through != NotThrough) != (sides.Stored != nil) {
		return Judged{}, errors.New("the evidence of a ratio of ratios has no stored result, or the other way round")
	}
	if j.course, err = NewCourse(p, sides.Options); err != nil {
		return Judged{}, err
	}
	j.replay(evidence)
	out := Judged{Course: j.course}
	for _, planned := range run.Plan {
		out.Verdicts = append(out.Verdicts, j.verdict(planned))
	}
	return out, nil
}

func sidesOf(evidence []results.Evidence) (s Sides, err error) {
	for _, e := range evidence {
		if e.Key() == runKey && e.Kind == results.Started {
			return s, e.Decode(&s)
		}
	}
	return s, nil
}

type judge struct {
	run      results.Run
	course   *Course
	seqs     map[string][]uint64 // evidence of the duet's epochs by scenario
	failures []uint64
	broken   error // the evidence is no course
	stored   *Stored
}

// replay feeds the epochs to the course, those of one step together.
func (j *judge) replay(evidence []results.Evidence) {
	var step []duet.Epoch
	flush := func() {
		if len(step) > 0 && j.broken == nil {
			j.broken = j.course.Observe(step)
		}
		step = nil
	}
	for _, e := range evidence {
		switch {
		case e.Kind == results.Measured && strings.HasPrefix(e.Check, runKey.Check+"/"):
			var epoch duet.Epoch
			if err := e.Decode(&epoch); err != nil {
				j.broken = err
				return
			}
			if err := errors.Join(consistent(epoch), j.course.enough(epoch)); err != nil {
				j.broken = fmt.Errorf("evidence %d: %w", e.Seq, err)
				return
			}
			step = append(step, epoch)
			if epoch.Phase == duet.Duet {
				j.seqs[epoch.Scenario] = append(j.seqs[epoch.Scenario], e.Seq)
			}
			if len(step) == len(j.course.policy.Scenarios) {
				flush()
			}
		case e.Kind == results.Errored && e.Key() == runKey:
			var f Failure
			if err := e.Decode(&f); err != nil {
				j.broken = err
				return
			}
			j.failures = append(j.failures, e.Seq)
			j.course.NotReady(f.Phase, f.Arm)
		case e.Kind == results.Ended && e.Key() == runKey:
			j.course.Stop()
		}
	}
}

// tolerance is how far a recomputed log-ratio may differ: logarithms differ between processors in the last bit.
const tolerance = 1e-9

// consistent compares what was recorded of an epoch twice: log-ratios with figures, figures with counts, counts with
// histograms.
func consistent(e duet.Epoch) error {
	for _, arm := range duet.Arms {
		if err := consistentSide(e.Arms[arm]); err != nil {
			return fmt.Errorf("epoch %d of %s, %s: %w", e.Number, e.Scenario, arm, err)
		}
	}
	if err := checkOver(e); err != nil {
		return err
	}
	for _, metric := range slices.Sorted(maps.Keys(e.Ratios)) {
		recorded := e.Ratios[metric]
		d, ok := duet.Ratio(e.Arms, metric)
		if !ok || math.Abs(d-recorded) > tolerance*max(1, math.Abs(recorded)) {
			return fmt.Errorf("epoch %d of %s: the log-ratio of %s is recorded as %v, its figures give %v", e.Number, e.Scenario, metric, recorded, d)
		}
	}
	return nil
}

func consistentSide(s duet.Side) error {
	if s.Errors < 0 || s.Errors > s.Requests || s.Good < 0 || s.Good > s.Requests-s.Errors {
		return fmt.Errorf("%d errors and %d answers in time of %d requests", s.Errors, s.Good, s.Requests)
	}
	for _, f := range []struct {
		metric string
		want   float64
	}{
		{duet.Errors, float64(s.Errors) / float64(max(s.Requests, 1))},
		{duet.Throughput, float64(s.Requests-s.Errors) / max(s.Took, 1).Seconds()},
		{duet.Goodput, float64(s.Good) / max(s.Took, 1).Seconds()},
	} {
		if recorded, ok := s.Figures[f.metric]; ok && !(math.Abs(recorded-f.want) <= tolerance*max(1, f.want)) {
			return fmt.Errorf("%s is recorded as %v, the counts give %v", f.metric, recorded, f.want)
		}
	}
	return nil
}

func decodeHistogram(s duet.Side) (*histogram.Histogram, error) {
	h, err := histogram.Decode([]byte(s.Histogram))
	if err == nil && h.Count() != int64(s.Requests) {
		err = fmt.Errorf("%d requests, %d in the histogram", s.Requests, h.Count())
	}
	return h, err
}

func (j *judge) verdict(p results.Planned) results.Verdict {
	v := results.Verdict{Check: p.Check, Case: p.Case, Under: p.Under, Why: results.Why{Reproduce: p.Reproduce}}
	if s := j.slo(p); s != nil {
		return j.absolute(v, p, s)
	}
	i := slices.IndexFunc(j.course.metrics, func(m Metric) bool { return scenarioKey(m.Scenario).Check == p.Check && m.Name == p.Case })
	if i < 0 {
		return finding(v, results.Broken, reasonReplay, "the policy has no such metric")
	}
	if j.broken != nil {
		return finding(v, results.Broken, reasonReplay, j.broken.Error())
	}
	m := j.course.metrics[i]
	v.Cites = j.seqs[m.Scenario]
	v.Why.Expected = expectation(m)
	if j.stored != nil {
		if end := j.course.End(); end != Complete && end != TimeLimit {
			return j.open(v, m, "the run did not come to its end")
		}
		return j.ratioOfRatios(v, m)
	}
	figures, ok, err := j.course.seq.Estimate(m.ID(), j.run.Seed)
	if err != nil {
		return finding(v, results.Broken, reasonReplay, err.Error())
	}
	observed := "no valid epoch"
	if ok {
		v.Figures = figuresOf(m, figures, j.decision(m))
		observed = describe(m, figures, j.decision(m))
	}
	if bounds, known, err := j.course.seq.Rates(m.ID()); err != nil {
		return finding(v, results.Broken, reasonReplay, err.Error())
	} else if known {
		v.Figures = append(v.Figures, bounds.figures()...)
		observed += "; " + bounds.text(m.Fail, j.decision(m).Units)
	}
	switch {
	case m.Gating && j.course.fresh[m.Scenario] && j.course.End() != NothingToCompare:
		return finding(v, results.NotClaimed, reasonNewScenario, "the baseline gave no right answer to any request of this scenario: it is new, and nothing can get worse. The candidate: "+observed)
	case m.Gating:
		return j.gating(v, m, figures, observed)
	}
	return j.advisory(v, m, observed)
}

func (j *judge) slo(p results.Planned) *slo {
	for _, s := range j.course.slos[strings.TrimPrefix(p.Check, runKey.Check+"/")] {
		if s.name() == p.Case {
			return s
		}
	}
	return nil
}

// absolute is the verdict on a bound that no baseline has a part in.
func (j *judge) absolute(v results.Verdict, p results.Planned, s *slo) results.Verdict {
	if j.broken != nil {
		return finding(v, results.Broken, reasonReplay, j.broken.Error())
	}
	scenario := strings.TrimPrefix(p.Check, runKey.Check+"/")
	v.Cites = j.seqs[scenario]
	judged := s.verdict(v)
	if end := j.course.End(); end == Complete || end == TimeLimit {
		return judged
	}
	open := j.open(v, Metric{Scenario: scenario}, judged.Why.Observed)
	open.Why.Expected = judged.Why.Expected
	return open
}

func finding(v results.Verdict, s results.Status, reason, observed string) results.Verdict {
	v.Status, v.Reason, v.Why.Observed = s, reason, observed
	return v
}

func (j *judge) decision(m Metric) Decision {
	for _, d := range j.course.seq.Decisions() {
		if d.Metric.ID() == m.ID() {
			return d
		}
	}
	return Decision{}
}

// gating is the verdict on a metric that can turn the gate red.
func (j *judge) gating(v results.Verdict, m Metric, f Figures, observed string) results.Verdict {
	switch d := j.decision(m); {
	case d.Outcome == Regression:
		v = finding(v, results.Fail, reasonRegression, observed)
		if a, ok := j.course.policy.accepted(m.ID(), j.run.Started); ok && f.AtStop.Point <= m.logMargin(float64(a.UpTo)) {
			v.Expected = fmt.Sprintf("%s (up to %s, until %s)", a.Reason, percent(float64(a.UpTo)), a.Expires)
		}
		return v
	case d.Outcome == Passed:
		return finding(v, results.Pass, "", observed)
	}
	return j.open(v, m, observed)
}

// open is the verdict on a metric that was not decided.
func (j *judge) open(v results.Verdict, m Metric, observed string) results.Verdict {
	switch end := j.course.End(); end {
	case CandidateStalled, CandidateNotReady:
		v.Cites = append(v.Cites, j.failures...)
		return finding(v, results.Fail, string(end), observed)
	case HarnessBias:
		return finding(v, results.Broken, string(end), "two processes of the baseline differ beyond chance: the harness favours one arm")
	case Predicted:
		n := j.course.need
		return finding(v, results.Inconclusive, string(end), fmt.Sprintf("%s needs about %.0f epochs at this noise, the plan has %d", n.Metric, n.Units, n.Most))
	case Environment:
		return finding(v, results.Inconclusive, string(end), fmt.Sprintf("%d of %d epochs are void; %s", j.course.void[m.Scenario], j.course.run[m.Scenario], observed))
	case Complete:
		return finding(v, results.Inconclusive, reasonUndecided, observed)
	case TimeLimit:
		if j.course.preRun+j.course.number == 0 {
			return finding(v, results.Unproven, reasonUnfinished, "no epoch was completed")
		}
		return finding(v, results.Inconclusive, string(end), "the time of the run was over; "+observed)
	case NothingToCompare:
		return finding(v, results.Inconclusive, string(end), "the baseline gave no right answer to any request: does the policy ask what it serves?")
	case BaselineNotReady:
		return finding(v, results.Unproven, string(end), "the baseline did not start")
	}
	return finding(v, results.Unproven, reasonUnfinished, "the run ended before the metric was decided")
}

// advisory is the verdict on a metric that does not gate: Benjamini and Hochberg over all of these.
func (j *judge) advisory(v results.Verdict, m Metric, observed string) results.Verdict {
	if j.course.End() != Complete {
		return j.open(v, m, observed)
	}
	var ids []string
	var p []float64
	for _, st := range j.course.seq.states {
		if st.Metric.Gating || len(st.d) == 0 {
			continue
		}
		one, err := worseThanMargin(st)
		if err != nil {
			return finding(v, results.Broken, reasonReplay, err.Error())
		}
		ids, p = append(ids, st.Metric.ID()), append(p, one)
	}
	i := slices.Index(ids, m.ID())
	if i < 0 {
		return finding(v, results.Inconclusive, reasonUndecided, observed)
	}
	if stats.BenjaminiHochberg(p, discoveryRate)[i] {
		return finding(v, results.Fail, reasonRegression, observed+" (advisory)")
	}
	return finding(v, results.Pass, "", observed+" (advisory)")
}

// worseThanMargin is the p-value of all epochs of a metric that does not gate.
func worseThanMargin(st *state) (float64, error) {
	fail, _ := st.Metric.margins()
	y := moved(st.d, func(d float64) float64 { return d - fail })
	if st.Metric.Absolute {
		return stats.SignFlip(y, flipSeed)
	}
	r, err := stats.TestSignedRank(y)
	return r.P, err
}

func expectation(m Metric) string {
	if m.Absolute {
		return fmt.Sprintf("the share of failed requests grows by at most %s, absolute", percent(m.Fail))
	}
	if m.Higher {
		return fmt.Sprintf("%s falls by less than %s; a loss beyond %s is a regression", m.Name, percent(m.Pass), percent(m.Fail))
	}
	return fmt.Sprintf("%s gets worse by less than %s; beyond %s it is a regression", m.Name, percent(m.Pass), percent(m.Fail))
}

func percent(x float64) string { return fmt.Sprintf("%.3g %%", 100*x) }

// change prints a log-ratio as the relative change of the figure.
func change(m Metric, d float64) string {
	if math.IsInf(d, 0) {
		return "unbounded"
	}
	unit := "%"
	if m.Absolute {
		unit = "points"
	}
	return fmt.Sprintf("%+.2f %s", 100*m.Relative(d), unit)
}

func describe(m Metric, f Figures, d Decision) string {
	text := fmt.Sprintf("%s (%s to %s) after %d epochs; a change of %s would have been called a regression",
		change(m, f.AtStop.Point), change(m, f.AtStop.Lower), change(m, f.AtStop.Upper), d.Units, change(m, f.Seen))
	if n := len(m.Looks); n > 0 && d.Units < m.Looks[n-1] {
		text += fmt.Sprintf(" at that look, of %s at the last one (epoch %d) unless it was passed before", change(m, f.SeenAtEnd), m.Looks[n-1])
	}
	return text + ", if noise stays as in this run"
}

func figuresOf(m Metric, f Figures, d Decision) []results.Figure {
	out := []results.Figure{
		{Name: "change", Value: m.Relative(f.AtStop.Point), Unit: "ratio"},
		{Name: "epochs", Value: float64(d.Units)},
		{Name: "change of all epochs", Value: m.Relative(f.Final), Unit: "ratio"},
		{Name: "epochs in all", Value: float64(f.All)},
		{Name: "fail above", Value: m.Fail, Unit: "ratio"}, {Name: "pass below", Value: m.Pass, Unit: "ratio"},
		{Name: "p worse", Value: d.Worse.P}, {Name: "level worse", Value: d.Worse.Level},
		{Name: "p better", Value: d.Better.P}, {Name: "level better", Value: d.Better.Level},
	}
	for name, v := range map[string]float64{"lower": f.AtStop.Lower, "upper": f.AtStop.Upper, "detectable": f.Seen, "detectable with the full plan": f.SeenAtEnd} {
		if !math.IsInf(v, 0) { // JSON has no infinity: what is unbounded is left out
			out = append(out, results.Figure{Name: name, Value: m.Relative(v), Unit: "ratio"})
		}
	}
	slices.SortStableFunc(out[10:], func(a, b results.Figure) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Verdicts is what stands in verdicts.json, and the course that led there. Where the policy can not be read, every
// verdict is Broken and there is no course.
func Verdicts(suiteDigest string, run results.Run, policy []byte, evidence []results.Evidence) (results.Verdicts, *Course) {
	v := results.Verdicts{APIVersion: results.APIVersion, SuiteDigest: suiteDigest}
	judged, err := Judge(policy, run, evidence)
	if err != nil {
		for _, p := range run.Plan {
			broken := results.Verdict{Check: p.Check, Case: p.Case, Under: p.Under, Why: results.Why{Reproduce: p.Reproduce}}
			v.Verdicts = append(v.Verdicts, finding(broken, results.Broken, reasonReplay, err.Error()))
		}
		v.Exit = results.ExitHarness
		return v, nil
	}
	v.Verdicts = judged.Verdicts
	for _, x := range v.Verdicts {
		switch x.Status {
		case results.Pass, results.Fail, results.Inconclusive:
			v.Executed++
		}
	}
	v.Exit = exitOf(v, run, judged.Course)
	return v, judged.Course
}

// ErrBaseline says that the baseline did not start, which is no verdict on the candidate.
var ErrBaseline = errors.New("the baseline did not start: there is nothing to compare with")
