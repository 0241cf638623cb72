package gate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/assay-bench/assay/chaos"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/results/seal"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/duet"
	"github.com/assay-bench/assay/suites/runner"
)

// Session is one run of the gate, from the first process to the sealed bundle.
type Session struct {
	SuiteDigest string
	Policy      []byte
	Sides       Sides
	Run         results.Run // without its plan
	Dir         string
	Programs    [2]*duet.Program
	Dial        scenarios.DialFunc
	// Journal opens the undo log once the bundle exists; close is called before sealing.
	Journal  func(dir string) (j *chaos.Journal, close func() error, err error)
	Progress func(Progress)
	Limit    time.Duration // of the whole run; 0: none
	Profile  bool          // of both sides where a metric regressed
	// Reproduce is the command that judges one metric again.
	Reproduce func(Metric) string
}

// Progress is where a run stands.
type Progress struct {
	Step      Step
	Before    int // epochs of the pre-flight
	Need      Need
	Decisions []Decision
	Took      time.Duration
}

// Plan lists the metrics and absolute bounds of a policy as cases of the bundle. Those that do not gate do not decide.
func Plan(p Policy, reproduce func(Metric) string) []results.Planned {
	return PlanFor(p, Options{}, reproduce)
}

// PlanFor is Plan with what a budget of time changes.
func PlanFor(p Policy, o Options, reproduce func(Metric) string) []results.Planned {
	var out []results.Planned
	for _, m := range o.Fit.metrics(p.MetricsFor(o)) {
		out = append(out, results.Planned{
			Check: scenarioKey(m.Scenario).Check, Case: m.Name, Area: "gate", Decides: m.Gating && o.Through != Advisory,
			Title: fmt.Sprintf("%s of %s", m.Name, m.Scenario), Covers: []string{}, Reproduce: reproduce(m),
		})
	}
	for _, s := range p.Scenarios {
		for _, b := range p.slos()[s.Name] {
			out = append(out, results.Planned{
				Check: scenarioKey(s.Name).Check, Case: b.name(), Area: "gate", Decides: true, Covers: []string{},
				Title: fmt.Sprintf("%s of %s", b.name(), s.Name), Reproduce: reproduce(Metric{Scenario: s.Name, Name: b.name()}),
			})
		}
	}
	return out
}

// Kind is that of a gate's run.
const Kind = "gate"

// CheckPlan compares a bundle's plan with its policy: a metric that was left out would be one that could not fail.
func CheckPlan(run results.Run, policy []byte, evidence []results.Evidence) error {
	p, err := ParsePolicy(policy)
	if err != nil {
		return fmt.Errorf("policy.yaml: %w", err)
	}
	sides, err := sidesOf(evidence)
	if err != nil {
		return err
	}
	want := PlanFor(p, sides.Options, func(Metric) string { return "" })
	if len(run.Plan) != len(want) {
		return fmt.Errorf("run.json plans %d metrics, policy.yaml has %d", len(run.Plan), len(want))
	}
	for i, p := range run.Plan {
		if p.Key() != want[i].Key() || p.Decides != want[i].Decides {
			return fmt.Errorf("run.json plans %s, policy.yaml %s", p.Key(), want[i].Key())
		}
	}
	return nil
}

// Conduct measures, judges and seals. Errors are the harness's own, and ErrBaseline.
func (s Session) Conduct(ctx context.Context) (*results.Bundle, *Course, error) {
	p, err := ParsePolicy(s.Policy)
	if err != nil {
		return nil, nil, err
	}
	s.Sides.Instrument = p.instrument()
	s.Run.Kind, s.Run.Plan = Kind, PlanFor(p, s.Sides.Options, s.Reproduce)
	course, err := NewCourse(p, s.Sides.Options)
	if err != nil {
		return nil, nil, err
	}
	w, err := results.Create(s.Dir, s.Run)
	if err != nil {
		return nil, nil, err
	}
	rec := results.NewRecorder(w.Evidence(), results.ClockSince(time.Now()))
	err = errors.Join(w.WriteFile(results.PolicyFile, s.Policy), s.drive(ctx, p, course, w, rec), w.Close())
	if err != nil {
		return nil, nil, fmt.Errorf("the run in %s did not finish: %w", s.Dir, err)
	}
	v, course := Verdicts(s.SuiteDigest, s.Run, s.Policy, rec.All())
	if err := errors.Join(w.WriteVerdicts(v, uint64(len(rec.All()))), seal.Write(w.Dir(), s.SuiteDigest, v.Executed)); err != nil {
		return nil, nil, err
	}
	b, err := results.Open(s.Dir)
	if err == nil && course.End() == BaselineNotReady {
		err = baselineFailure(rec.All())
	}
	return b, course, err
}

// baselineFailure is ErrBaseline with the reason that was recorded last.
func baselineFailure(evidence []results.Evidence) error {
	for _, e := range slices.Backward(evidence) {
		var f Failure
		if e.Kind == results.Errored && json.Unmarshal(e.Data, &f) == nil && f.Detail != "" {
			return fmt.Errorf("%w: %s", ErrBaseline, f.Detail)
		}
	}
	return ErrBaseline
}

// drive runs the epochs that the course asks for.
func (s Session) drive(ctx context.Context, p Policy, course *Course, w *results.Writer, rec *results.Recorder) (err error) {
	if _, err := rec.Record(runKey, results.FromHost, results.Started, s.Sides); err != nil {
		return err
	}
	return s.with(p, w.Dir(), func(runs *duet.Runner) error {
		if err := s.play(ctx, runs, course, rec); err != nil {
			return err
		}
		return s.profile(ctx, p, course, w, rec)
	})
}

// with opens the journal and gives body a runner of the policy's epochs.
func (s Session) with(p Policy, dir string, body func(*duet.Runner) error) (err error) {
	journal, closeJournal, err := s.Journal(dir)
	if err != nil {
		return err
	}
	children := runner.Children{Journal: journal}
	defer func() { err = errors.Join(err, children.Release(), closeJournal()) }()
	for _, prog := range s.Programs {
		prog.Dial, prog.Own = s.Dial, children.Own
	}
	runs, err := duet.New(duet.Config{
		Scenarios: s.Sides.Options.Fit.scenarios(p.Measured()), Artefacts: [2]duet.Artefact{s.Programs[0], s.Programs[1]}, Seed: s.Run.Seed,
		Warmup: time.Duration(p.Start.Warmup), Spread: p.Start.Processors == allProcessors,
	})
	if err != nil {
		return err
	}
	return body(runs)
}

func (s Session) play(ctx context.Context, runs *duet.Runner, course *Course, rec *results.Recorder) error {
	begin, preflight := time.Now(), time.Duration(0)
	for n := 0; ; n++ {
		step, more := course.Next()
		if !more {
			return nil
		}
		if n > 0 && s.Limit > 0 && time.Since(begin) > s.Limit {
			_, err := rec.Record(runKey, results.FromHost, results.Ended, Ending{TimeLimit})
			course.Stop()
			return err
		}
		if err := s.step(ctx, runs, course, rec, step); err != nil {
			return err
		}
		if step.Phase == duet.Preflight {
			preflight = time.Since(begin)
		}
		if s.Progress != nil {
			s.Progress(Progress{Step: step, Before: course.Before(), Need: course.Need(preflight), Decisions: course.seq.Decisions(), Took: time.Since(begin)})
		}
	}
}

// Ending is the data of Ended evidence: why a run stopped that its epochs do not show.
type Ending struct {
	End End `json:"end"`
}

// step runs one epoch and records it before the course sees it.
func (s Session) step(ctx context.Context, runs *duet.Runner, course *Course, rec *results.Recorder, step Step) error {
	epochs, err := runs.Epoch(ctx, step.Phase, step.Number, step.Cap)
	var not *duet.NotReady
	if errors.As(err, &not) && ctx.Err() == nil {
		course.NotReady(step.Phase, not.Arm)
		_, err := rec.Record(runKey, results.FromTarget, results.Errored, Failure{step.Phase, not.Arm, not.Err.Error()})
		return err
	}
	if err != nil {
		return fmt.Errorf("epoch %d of the %s: %w", step.Number, step.Phase, err)
	}
	for _, e := range epochs {
		if _, err := rec.Record(scenarioKey(e.Scenario), results.FromScenario, results.Measured, e); err != nil {
			return err
		}
	}
	return course.Observe(epochs)
}
