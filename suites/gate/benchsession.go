package gate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/results/seal"
	"github.com/assay-bench/assay/scenarios/duet"
	"github.com/assay-bench/assay/scenarios/duet/gobench"
)

// BenchSession is one run on Go benchmarks, from the first process to the sealed bundle.
type BenchSession struct {
	SuiteDigest string
	Policy      BenchPolicy
	Sides       BenchSides
	Run         results.Run // without its plan
	Dir         string
	Programs    [2]map[string]gobench.Program // by package
	Timeout     time.Duration                 // of one process
	Limit       time.Duration                 // of the whole run; 0: none
	Profile     bool                          // of both sides where a metric regressed
	Progress    func(step BenchStep, decisions []Decision, open int)
	Reproduce   func(Bench) string
}

// Conduct measures, judges and seals. Errors are the harness's own.
func (s BenchSession) Conduct(ctx context.Context) (*results.Bundle, error) {
	raw, err := results.MarshalIndent(s.Policy)
	if err != nil {
		return nil, err
	}
	if _, err := ParseBenchPolicy(raw); err != nil {
		return nil, err
	}
	course, err := NewBenchCourse(s.Policy, s.Sides.Options)
	if err != nil {
		return nil, err
	}
	s.Run.Kind, s.Run.Plan = BenchKind, BenchPlan(s.Policy, s.Reproduce)
	w, err := results.Create(s.Dir, s.Run)
	if err != nil {
		return nil, err
	}
	rec := results.NewRecorder(w.Evidence(), results.ClockSince(time.Now()))
	err = errors.Join(w.WriteFile(results.PolicyFile, raw), s.drive(ctx, course, w, rec), w.Close())
	if err != nil {
		return nil, fmt.Errorf("the run in %s did not finish: %w", s.Dir, err)
	}
	v := BenchVerdicts(s.SuiteDigest, s.Run, raw, rec.All())
	if err := errors.Join(w.WriteVerdicts(v, uint64(len(rec.All()))), seal.Write(w.Dir(), s.SuiteDigest, v.Executed)); err != nil {
		return nil, err
	}
	return results.Open(s.Dir)
}

// drive runs rounds: in each, every open function once on both sides, functions and sides in random order.
func (s BenchSession) drive(ctx context.Context, course *BenchCourse, w *results.Writer, rec *results.Recorder) error {
	if _, err := rec.Record(runKey, results.FromHost, results.Started, s.Sides); err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(s.Run.Seed, 0xbe7c4))
	begin := time.Now()
	for {
		round := course.Round()
		random.Shuffle(len(round), func(i, j int) { round[i], round[j] = round[j], round[i] })
		for _, step := range round {
			if s.Limit > 0 && time.Since(begin) > s.Limit {
				return nil
			}
			if err := s.step(ctx, course, rec, step, duet.Arm(random.IntN(2))); err != nil {
				return err
			}
			if s.Progress != nil {
				s.Progress(step, course.Decisions(), course.Open())
			}
		}
		if len(round) == 0 {
			break
		}
	}
	if !s.Profile {
		return nil
	}
	return s.profile(ctx, course, w, rec)
}

// step runs a function once in a fresh process of each side and records what it showed, before the course sees it.
func (s BenchSession) step(ctx context.Context, course *BenchCourse, rec *results.Recorder, step BenchStep, first duet.Arm) error {
	command := gobench.Command{Filter: gobench.Only(s.Policy.Filter, step.Function.Name), Time: s.Policy.Benchtime, Procs: s.Policy.Procs}
	var ran [2]gobench.Ran
	for _, arm := range []duet.Arm{first, 1 - first} {
		source := arm
		if step.Phase == duet.Preflight {
			source = duet.Baseline
		}
		out, err := s.process(ctx, source, step, command)
		var failed *gobench.Failed
		if errors.As(err, &failed) && ctx.Err() == nil {
			f := BenchFailure{step.Phase, arm, ids(step.Benches), failed.Late, failed.Detail}
			course.Failed(f)
			_, err := rec.Record(runKey, results.FromTarget, results.Errored, f)
			return err
		}
		if err != nil {
			return fmt.Errorf("%s: %w", step.Function, err)
		}
		ran[arm] = out
	}
	for _, b := range step.Benches {
		e := epochOf(step, b, ran, first)
		if _, err := rec.Record(scenarioKey(b.ID()), results.FromScenario, results.Measured, e); err != nil {
			return err
		}
		if err := course.Observe(e); err != nil {
			return err
		}
	}
	return nil
}

func ids(benches []Bench) (out []string) {
	for _, b := range benches {
		out = append(out, b.ID())
	}
	return out
}

// process runs a function once; what it does not show that it must is a failure of the product.
func (s BenchSession) process(ctx context.Context, arm duet.Arm, step BenchStep, c gobench.Command) (gobench.Ran, error) {
	limited, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	ran, err := s.Programs[arm][step.Function.Package].Run(limited, c)
	if err != nil {
		return ran, err
	}
	for _, b := range step.Benches {
		if _, ok := ran.Results[b.Name]; !ok {
			return ran, &gobench.Failed{Detail: fmt.Sprintf("%s printed no result", b.ID())}
		}
	}
	return ran, nil
}

func epochOf(step BenchStep, b Bench, ran [2]gobench.Ran, first duet.Arm) duet.Epoch {
	e := duet.Epoch{Phase: step.Phase, Number: step.Number, Scenario: b.ID(), First: first, Ratios: map[string]float64{}}
	for _, arm := range duet.Arms {
		r := ran[arm].Results[b.Name]
		e.Arms[arm] = duet.Side{PID: ran[arm].PID, Started: ran[arm].Started, Took: ran[arm].Took, Requests: r.Iterations, Figures: r.Figures}
	}
	for _, unit := range b.Units {
		if d, ok := benchRatio(e.Arms, unit); ok {
			e.Ratios[unit] = d
		}
	}
	return e
}
