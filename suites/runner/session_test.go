package runner

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/chaos"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/results/seal"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/target"
)

func (r *rig) session(dir string) Session {
	return Session{
		Suite: r.suite, Run: r.run, Dir: dir, Dialer: r.opt.Dialer, Workers: 2,
		Journal: func(dir string) (*chaos.Journal, func() error, error) {
			j, err := chaos.CreateJournal(filepath.Join(dir, results.JournalFile))
			if err != nil {
				return nil, nil, err
			}
			return j, j.Close, nil
		},
		Target: func(func(chaos.Process) error, func(results.Source, results.Kind, any) error) (target.Target, error) {
			return r.target, nil
		},
	}
}

func TestConduct(t *testing.T) {
	r := newRig(t, simple("x/good", func(ctx context.Context, env *scenarios.Env) error {
		return errors.Join(env.Save("a.hdr", []byte("histogram")), measure(ctx, env))
	}), simple("x/bad", func(context.Context, *scenarios.Env) error { return nil }))
	dir := filepath.Join(t.TempDir(), "b")
	b, err := r.session(dir).Conduct(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if b.Verdicts.Executed != 2 || b.Verdicts.Exit != results.ExitFail || len(b.Verdicts.Verdicts) != 4 {
		t.Errorf("executed %d, exit %d, %d verdicts", b.Verdicts.Executed, b.Verdicts.Exit, len(b.Verdicts.Verdicts))
	}
	if b.Run.Target.Name != "fake" || b.Run.Target.Endpoints["rpc"] != "127.0.0.1:1" || len(b.Run.Target.Features) != 1 {
		t.Errorf("target %+v: what it said of itself is not in run.json", b.Run.Target)
	}
	if string(b.Histograms["a.hdr"]) != "histogram" {
		t.Errorf("histograms %q", b.Histograms)
	}
	m, err := seal.Check(dir)
	if err != nil || m.Executed != 2 || m.SuiteDigest != r.suite.Digest() {
		t.Errorf("manifest %+v, %v", m, err)
	}
	again := Verdicts(r.suite, b.Run, b.Evidence)
	if diff := cmp.Diff(*b.Verdicts, again); diff != "" {
		t.Errorf("judged again from the bundle (-written +again):\n%s", diff)
	}
}

func TestConductWritesNothingOver(t *testing.T) {
	r := newRig(t, simple("x/a", measure))
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mine"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := r.session(dir).Conduct(t.Context()); err == nil || r.target.starts != 0 {
		t.Errorf("error %v, %d starts", err, r.target.starts)
	}
}

func TestConductCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := newRig(t, simple("claims/done", measure), simple("x/a", func(ctx context.Context, _ *scenarios.Env) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}))
	dir := filepath.Join(t.TempDir(), "b")
	if _, err := r.session(dir).Conduct(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	b, err := results.Open(dir)
	if err != nil || b.Verdicts != nil || b.Torn {
		t.Fatalf("%+v, %v", b, err)
	}
	v := Verdicts(r.suite, b.Run, b.Evidence)
	if v.Executed != 1 || v.Exit != results.ExitHarness || v.Count(results.Unproven) != 1 {
		t.Errorf("executed %d, exit %d, %d unproven", v.Executed, v.Exit, v.Count(results.Unproven))
	}
	if _, err := seal.Check(dir); err == nil {
		t.Error("a run that was broken off is sealed")
	}
}

func TestConductFails(t *testing.T) {
	boom := errors.New("boom")
	tests := map[string]func(*Session){
		"target": func(s *Session) {
			s.Target = func(func(chaos.Process) error, func(results.Source, results.Kind, any) error) (target.Target, error) {
				return nil, boom
			}
		},
		"journal": func(s *Session) {
			s.Journal = func(string) (*chaos.Journal, func() error, error) { return nil, nil, boom }
		},
		"journal at its end": func(s *Session) {
			open := s.Journal
			s.Journal = func(dir string) (*chaos.Journal, func() error, error) {
				j, end, err := open(dir)
				return j, func() error { return errors.Join(end(), boom) }, err
			}
		},
	}
	for name, change := range tests {
		s := newRig(t, simple("x/a", measure)).session(filepath.Join(t.TempDir(), "b"))
		change(&s)
		if _, err := s.Conduct(t.Context()); !errors.Is(err, boom) {
			t.Errorf("%s: error %v", name, err)
		}
		if _, err := results.Open(s.Dir); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestVerdictsCountWhatWasDriven(t *testing.T) {
	r := newRig(t, simple("x/a", measure))
	clock := results.ClockSince(time.Now())
	rec := results.NewRecorder(&r.file, clock)
	if _, err := rec.Record(results.Key{Check: "target"}, results.FromTarget, results.Ready, nil); err != nil {
		t.Fatal(err)
	}
	if v := Verdicts(r.suite, r.run, rec.All()); v.Executed != 0 || v.Exit != results.ExitHarness {
		t.Errorf("a run that became ready and drove nothing: executed %d, exit %d", v.Executed, v.Exit)
	}
}
