package gate

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios/duet"
)

// BenchSides is the data of a bench run's Started evidence.
type BenchSides struct {
	Sides
	Only      [2][]string `json:"only"`      // benchmarks of one side alone, which nothing is known of
	Identical []string    `json:"identical"` // packages whose test programs are the same byte for byte
}

// BenchFailure is the data of its Errored evidence: a process that failed, or did not show what it must.
type BenchFailure struct {
	Phase   duet.Phase `json:"phase"`
	Arm     duet.Arm   `json:"arm"`
	Benches []string   `json:"benchmarks"`
	Late    bool       `json:"late,omitempty"` // it was ended at the limit
	Detail  string     `json:"detail"`
}

type benchJudge struct {
	run      results.Run
	course   *BenchCourse
	seqs     map[string][]uint64
	failures map[string][]uint64
	broken   error
}

// BenchVerdicts is what stands in verdicts.json of a bench run: a function of policy and evidence.
func BenchVerdicts(suiteDigest string, run results.Run, policy []byte, evidence []results.Evidence) results.Verdicts {
	j := &benchJudge{run: run, seqs: map[string][]uint64{}, failures: map[string][]uint64{}}
	j.broken = j.replay(policy, evidence)
	out := results.Verdicts{APIVersion: results.APIVersion, SuiteDigest: suiteDigest}
	for _, p := range run.Plan {
		out.Verdicts = append(out.Verdicts, j.verdict(p))
	}
	return finished(out, run)
}

// finished adds the count of executed cases and the exit code.
func finished(v results.Verdicts, run results.Run) results.Verdicts {
	for _, x := range v.Verdicts {
		switch x.Status {
		case results.Pass, results.Fail, results.Inconclusive:
			v.Executed++
		}
	}
	v.Exit = results.ExitOf(v.Verdicts, func(x results.Verdict) bool { return run.Counts(x.Key()) })
	return v
}

// replay takes the course of the evidence.
func (j *benchJudge) replay(policy []byte, evidence []results.Evidence) error {
	p, err := ParseBenchPolicy(policy)
	if err != nil {
		return fmt.Errorf("policy.yaml: %w", err)
	}
	sides, err := sidesOf(evidence)
	if err != nil {
		return err
	}
	if j.course, err = NewBenchCourse(p, sides.Options); err != nil {
		return err
	}
	for _, e := range evidence {
		switch {
		case e.Kind == results.Errored && e.Key() == runKey:
			var f BenchFailure
			if err := e.Decode(&f); err != nil {
				return err
			}
			for _, id := range f.Benches {
				j.failures[id] = append(j.failures[id], e.Seq)
			}
			j.course.Failed(f)
		case e.Kind == results.Measured && strings.HasPrefix(e.Check, runKey.Check+"/"):
			if err := j.epoch(e); err != nil {
				return fmt.Errorf("evidence %d: %w", e.Seq, err)
			}
		}
	}
	return nil
}

func (j *benchJudge) epoch(e results.Evidence) error {
	var epoch duet.Epoch
	if err := e.Decode(&epoch); err != nil {
		return err
	}
	for _, unit := range slices.Sorted(maps.Keys(epoch.Ratios)) {
		recorded := epoch.Ratios[unit]
		d, ok := benchRatio(epoch.Arms, unit)
		if !ok || math.Abs(d-recorded) > tolerance*max(1, math.Abs(recorded)) {
			return fmt.Errorf("the log-ratio of %s is recorded as %v, its figures give %v", unit, recorded, d)
		}
	}
	if epoch.Phase == duet.Duet {
		j.seqs[epoch.Scenario] = append(j.seqs[epoch.Scenario], e.Seq)
	}
	return j.course.Observe(epoch)
}

func (j *benchJudge) verdict(p results.Planned) results.Verdict {
	v := results.Verdict{Check: p.Check, Case: p.Case, Under: p.Under, Why: results.Why{Reproduce: p.Reproduce}}
	if j.broken != nil {
		return finding(v, results.Broken, reasonReplay, j.broken.Error())
	}
	i := slices.IndexFunc(j.course.seq.states, func(s *state) bool {
		return scenarioKey(s.Metric.Scenario).Check == p.Check && s.Metric.Name == p.Case
	})
	if i < 0 {
		return finding(v, results.Broken, reasonReplay, "the policy has no such metric")
	}
	d := j.course.seq.states[i].Decision
	m := d.Metric
	v.Cites, v.Why.Expected = j.seqs[m.Scenario], expectation(m)
	if d.Outcome == Open {
		d.Units = len(j.course.seq.states[i].d)
	}
	figures, ok, err := j.course.seq.Estimate(m.ID(), j.run.Seed)
	if err != nil {
		return finding(v, results.Broken, reasonReplay, err.Error())
	}
	observed := "no epoch"
	if ok {
		v.Figures, observed = figuresOf(m, figures, d), describe(m, figures, d)
	}
	switch d.Outcome {
	case Regression:
		return finding(v, results.Fail, reasonRegression, observed)
	case Passed:
		return finding(v, results.Pass, "", observed)
	}
	return j.open(v, m, observed)
}

// open is the verdict on a metric that was not decided.
func (j *benchJudge) open(v results.Verdict, m Metric, observed string) results.Verdict {
	s := j.course.at[m.Scenario]
	if n, ok := s.hopeless[m.ID()]; ok {
		return finding(v, results.Inconclusive, string(Predicted),
			fmt.Sprintf("at the noise of the pre-flight it needs about %.0f epochs, the plan has %d: a longer --benchtime or wider margins help; %s", n.Units, n.Most, observed))
	}
	switch s.end {
	case BenchmarkFailed, CandidateStalled:
		v.Cites = append(v.Cites, j.failures[m.Scenario]...)
		return finding(v, results.Fail, string(s.end), observed)
	case BaselineFailed:
		v.Cites = append(v.Cites, j.failures[m.Scenario]...)
		return finding(v, results.Inconclusive, string(s.end), "the benchmark fails in the baseline too: there is nothing to compare with")
	case HarnessBias:
		return finding(v, results.Broken, string(s.end), "two processes of the baseline differ beyond chance: the harness favours one arm")
	case Complete:
		return finding(v, results.Inconclusive, reasonUndecided, observed)
	}
	return finding(v, results.Unproven, reasonUnfinished, "the run ended before the metric was decided")
}
