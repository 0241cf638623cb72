package runner

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/assay-bench/assay/chaos"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/results/seal"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/target"
	"github.com/assay-bench/assay/suites"
)

// Session is one run from plan to sealed bundle.
type Session struct {
	Suite    *suites.Suite
	Run      results.Run // with its plan
	Dir      string      // of the bundle; must not exist or be empty
	Dialer   *scenarios.Dialer
	Fault    func(name string) (chaos.Fault, error)
	Null     bool
	Together bool // as in Options
	Workers  int
	Pace     time.Duration // as in Options
	Progress func(Event)
	// Journal opens the undo log once the bundle exists; close is called before sealing.
	Journal func(dir string) (j *chaos.Journal, close func() error, err error)
	// Target builds the target; what it starts must be journaled with own, what is seen of it recorded.
	Target func(own func(chaos.Process) error, record func(results.Source, results.Kind, any) error) (target.Target, error)
}

// Conduct drives, judges and seals. The bundle is on disk from before the first process starts. An
// error means that the harness failed; a bundle may be there all the same, unsealed.
func (s Session) Conduct(ctx context.Context) (*results.Bundle, error) {
	w, err := results.Create(s.Dir, s.Run)
	if err != nil {
		return nil, err
	}
	clock := results.ClockSince(time.Now())
	rec := results.NewRecorder(w.Evidence(), clock)
	err = s.drive(ctx, w, rec, clock)
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, fmt.Errorf("the run in %s did not finish: %w", s.Dir, err)
	}
	if err := s.finish(w, rec.All()); err != nil {
		return nil, err
	}
	return results.Open(s.Dir)
}

func (s Session) drive(ctx context.Context, w *results.Writer, rec *results.Recorder, clock results.Clock) error {
	journal, closeJournal, err := s.Journal(w.Dir())
	if err != nil {
		return err
	}
	children := Children{Journal: journal}
	tgt, err := s.Target(children.Own, func(from results.Source, kind results.Kind, data any) error {
		_, err := rec.Record(suites.FrameKey, from, kind, data)
		return err
	})
	if err == nil {
		err = Drive(ctx, Options{
			Suite: s.Suite, Run: s.Run, Target: tgt, Dialer: s.Dialer, Recorder: rec, Clock: clock, Fault: s.Fault,
			Journal: journal, Null: s.Null, Together: s.Together, Progress: s.Progress, Workers: s.Workers, Pace: s.Pace,
			Save: func(name string, data []byte) error {
				return w.WriteFile(filepath.ToSlash(filepath.Join(results.HistogramDir, name)), data)
			},
		})
	}
	return errors.Join(err, children.Release(), closeJournal())
}

// Children journals the processes that the harness starts and takes them out of the journal when they
// have ended.
type Children struct {
	Journal *chaos.Journal

	mu  sync.Mutex
	all []chaos.Process
}

// Own journals a process that was just started.
func (c *Children) Own(p chaos.Process) error {
	c.mu.Lock()
	c.all = append(c.all, p)
	c.mu.Unlock()
	return c.Journal.Own(p)
}

// Release takes ended processes out of the journal. One that lives stays in it: closing the journal
// names it, and a replay ends it.
func (c *Children) Release() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, p := range c.all {
		if !p.Alive() {
			errs = append(errs, c.Journal.Disown(p))
		}
	}
	c.all = nil
	return errors.Join(errs...)
}

// finish completes run.json with what the target said of itself, judges and seals.
func (s Session) finish(w *results.Writer, evidence []results.Evidence) error {
	run := Complete(s.Run, evidence)
	if err := w.WriteRun(run); err != nil {
		return err
	}
	v := Verdicts(s.Suite, run, evidence)
	if err := w.WriteVerdicts(v, uint64(len(evidence))); err != nil {
		return err
	}
	return seal.Write(w.Dir(), s.Suite.Digest(), v.Executed)
}

// Verdicts judges a run into the content of verdicts.json. It is pure.
func Verdicts(s *suites.Suite, run results.Run, evidence []results.Evidence) results.Verdicts {
	run = Complete(run, evidence)
	v := results.Verdicts{APIVersion: results.APIVersion, SuiteDigest: s.Digest(), Verdicts: s.Judge(run, evidence)}
	for _, x := range v.Verdicts {
		switch x.Status {
		case results.Pass, results.Fail, results.Inconclusive:
			if !x.Frame {
				v.Executed++
			}
		}
	}
	v.Exit = results.ExitOf(v.Verdicts, func(x results.Verdict) bool { return run.Counts(x.Key()) })
	return v
}

// Complete fills in what the target said of itself, from the evidence, so that a killed run's bundle
// reads like a finished one.
func Complete(run results.Run, evidence []results.Evidence) results.Run {
	for _, e := range evidence {
		if e.Key() != suites.FrameKey {
			continue
		}
		switch e.Kind {
		case results.Claimed:
			var c target.Claims
			if e.Decode(&c) == nil {
				if c.Name != "" {
					run.Target.Name = c.Name
				}
				if c.Version != "" {
					run.Target.Version = c.Version
				}
				run.Target.Features, run.Target.Defects = c.Features, c.Defects
			}
		case results.Ready:
			var r struct {
				Endpoints map[string]string `json:"endpoints"`
			}
			if e.Decode(&r) == nil {
				run.Target.Endpoints = r.Endpoints
			}
		}
	}
	return run
}
