package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios/duet"
	"github.com/assay-bench/assay/scenarios/duet/gobench"
	"github.com/assay-bench/assay/suites"
	"github.com/assay-bench/assay/suites/gate"
)

type benchFlags struct {
	baseline, candidate, out, filter, benchtime, inconclusive string
	packages, units                                           []string
	fail, pass                                                float64
	seed                                                      uint64
	force, plan, profile                                      bool
	timeout, limit                                            time.Duration
}

func (a *app) gateBenchCommand() *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use: "bench [packages]", Args: cobra.ArbitraryArgs,
		Short: "compare the Go benchmarks of two revisions side by side",
		Long: `bench compiles the benchmarks of a baseline and a candidate (go test -c), runs a fresh
process of each in turn, and decides with the tests of assay gate on time, bytes and
allocations of every benchmark: one level of error over all of them. Benchmarks that
only one side has are listed and not judged.

A side is a folder, ".", a git revision, merge-base:REVISION or last-release.

Exit codes:  0 pass, 1 regression, 2 usage or refused, 3 inconclusive, 4 harness error`,
		Example: `  assay gate bench ./...
  assay gate bench ./codec --bench 'Decode' --baseline v1.4.0 --profile`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.packages = args; len(args) == 0 {
				f.packages = []string{"./..."}
			}
			if !cmd.Flags().Changed("seed") {
				f.seed = drawSeed()
			}
			return a.runGateBench(cmd.Context(), f)
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.baseline, "baseline", "b", "merge-base:origin/main", "side to compare with")
	fl.StringVarP(&f.candidate, "candidate", "c", ".", "side to judge")
	fl.StringVarP(&f.out, "out", "o", "", "folder of the bundle (default: a new one under "+outDir+")")
	fl.StringVar(&f.filter, "bench", ".", "benchmarks to run, as go test's -bench")
	fl.StringVar(&f.benchtime, "benchtime", "100ms", "of one benchmark in one process, as go test's -benchtime")
	fl.StringSliceVar(&f.units, "metrics", []string{gobench.Time, gobench.Bytes, gobench.Allocs}, "units to judge")
	fl.Float64Var(&f.fail, "fail-above", 0.02, "change for the worse above which it is a regression")
	fl.Float64Var(&f.pass, "pass-below", 0.05, "change for the worse below which it passes")
	fl.Uint64Var(&f.seed, "seed", 0, "seed of all random choices (default: drawn and recorded)")
	fl.BoolVar(&f.force, "force", false, "go on with metrics of which the pre-flight predicts that nothing will be decided")
	fl.BoolVar(&f.plan, "plan", false, "compile, print the plan and stop")
	fl.BoolVar(&f.profile, "profile", false, "after a regression, run both sides again with profiles and name the functions that changed")
	fl.DurationVar(&f.timeout, "timeout", time.Minute, "longest time of one process")
	fl.DurationVar(&f.limit, "limit", 0, "longest time of the whole run; what is open then is not decided")
	fl.StringVar(&f.inconclusive, "inconclusive", "keep", "what exit 3 becomes: fail makes it 1, warn and pass make it 0, keep leaves it; the record stays")
	return cmd
}

// check refuses flags that no run can use.
func (f benchFlags) check() error {
	if !slices.Contains([]string{"keep", "fail", "warn", "pass"}, f.inconclusive) {
		return usagef("--inconclusive is %q, want fail, warn or pass, or keep", f.inconclusive)
	}
	for _, part := range strings.Split(f.filter, "/") {
		if _, err := regexp.Compile(part); err != nil {
			return usagef("--bench: %w", err)
		}
	}
	known := gate.UsualMargins()
	for _, u := range f.units {
		if _, ok := known[u]; !ok {
			return usagef("--metrics: %q is none of ns/op, B/op, allocs/op", u)
		}
	}
	return nil
}

func (a *app) runGateBench(ctx context.Context, f benchFlags) (err error) {
	if err := f.check(); err != nil {
		return err
	}
	suite, err := newSuite()
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "assay-bench-*")
	if err != nil {
		return err
	}
	sources := duet.Sources{Repository: ".", Scratch: scratch}
	defer func() {
		err = errors.Join(err, sources.Release(context.WithoutCancel(ctx)), os.RemoveAll(scratch))
	}()
	s := gate.BenchSession{SuiteDigest: suite.Digest(), Timeout: f.timeout, Limit: f.limit, Profile: f.profile}
	s.Sides.Options = gate.Options{Force: f.force}
	if err := a.benchSides(ctx, sources, f, &s); err != nil {
		return err
	}
	course, err := gate.NewBenchCourse(s.Policy, s.Sides.Options)
	if err != nil {
		return usage(err)
	}
	a.printBenchPlan(s, course)
	if f.plan {
		return nil
	}
	return a.conductBench(ctx, suite, f, s)
}

// benchSides compiles both sides, runs every benchmark once and pairs them.
func (a *app) benchSides(ctx context.Context, sources duet.Sources, f benchFlags, s *gate.BenchSession) error {
	var shown [2]map[string]map[string]gobench.Result
	refs := [2]*gate.ArtefactRef{&s.Sides.Baseline, &s.Sides.Cand}
	for arm, word := range [2]string{f.baseline, f.candidate} {
		label := duet.Arm(arm).String()
		fmt.Fprintf(a.err, "%s: %s\n", label, word)
		b, err := sources.Checkout(ctx, label, word)
		if err != nil {
			return usage(fmt.Errorf("refused: %w", err))
		}
		if s.Programs[arm], err = gobench.Compile(ctx, b.Dir, filepath.Join(sources.Scratch, label+".programs"), f.packages); err != nil {
			return usage(fmt.Errorf("refused: the %s does not compile: %w", label, err))
		}
		if shown[arm], err = probe(ctx, s.Programs[arm], f); err != nil {
			return fmt.Errorf("%s: %w", label, err)
		}
		*refs[arm] = gate.ArtefactRef{Given: b.Given, Revision: b.Revision, Digest: gobench.Digest(s.Programs[arm])}
	}
	s.Policy = gate.BenchPolicy{
		APIVersion: results.APIVersion, Kind: "GateBench", Filter: f.filter, Benchtime: f.benchtime, Procs: runtime.GOMAXPROCS(0),
		Margins: map[string]gate.Margin{},
	}
	for _, u := range f.units {
		s.Policy.Margins[u] = gate.Margin{Fail: f.fail, Pass: f.pass}
	}
	s.Policy.Benchmarks, s.Sides.Only = gate.CommonBenchmarks(shown)
	if len(s.Policy.Benchmarks) == 0 {
		return usagef("refused: %w matches --bench %s in %s", gate.ErrNoBenchmark, f.filter, strings.Join(f.packages, " "))
	}
	return a.benchBuilds(s)
}

// probe runs every benchmark once, so that the plan names all of them.
func probe(ctx context.Context, programs map[string]gobench.Program, f benchFlags) (map[string]map[string]gobench.Result, error) {
	out := map[string]map[string]gobench.Result{}
	for pkg, p := range programs {
		limited, cancel := context.WithTimeout(ctx, f.timeout)
		ran, err := p.Run(limited, gobench.Command{Filter: f.filter, Time: "1x", Procs: runtime.GOMAXPROCS(0)})
		cancel()
		var failed *gobench.Failed
		switch {
		case errors.As(err, &failed) && ctx.Err() == nil:
			return nil, usagef("refused: benchmarks of %s fail when they run once; leave those out with --bench: %s", pkg, oneLine(failed.Detail))
		case err != nil:
			return nil, err
		}
		out[pkg] = ran.Results
	}
	return out, nil
}

// benchBuilds lists how the programs differ, and refuses what can not be compared.
func (a *app) benchBuilds(s *gate.BenchSession) error {
	packages := map[string]bool{}
	for _, b := range s.Policy.Benchmarks {
		packages[b.Package] = true
	}
	for pkg, p := range s.Programs[duet.Baseline] {
		other, both := s.Programs[duet.Candidate][pkg]
		if !both || !packages[pkg] {
			continue
		}
		if p.Digest == other.Digest {
			s.Sides.Identical = append(s.Sides.Identical, pkg)
		}
		c := gate.CompareBuilds(p.Path, other.Path)
		if len(c.Refused) > 0 {
			return usagef("refused: build differs: %s: %s; build both alike", pkg, strings.Join(c.Refused, "; "))
		}
		for _, d := range c.Listed {
			if !slices.Contains(s.Sides.Builds.Listed, d) {
				s.Sides.Builds.Listed = append(s.Sides.Builds.Listed, d)
				fmt.Fprintf(a.err, "the builds differ: %s\n", d)
			}
		}
	}
	slices.Sort(s.Sides.Identical)
	slices.Sort(s.Sides.Builds.Listed)
	return nil
}

func (a *app) printBenchPlan(s gate.BenchSession, c *gate.BenchCourse) {
	metrics := s.Policy.Metrics()
	fmt.Fprintf(a.err, "gate: %s, %s; a pre-flight of %d epochs of each, then %d to %d with a fresh process of both sides, %s a benchmark\n",
		plural(len(s.Policy.Benchmarks), "benchmark"), plural(len(metrics), "metric"), c.Before(), metrics[0].Looks[0], slices.Max(metrics[0].Looks), s.Policy.Benchtime)
	if n := len(s.Sides.Identical); n > 0 {
		fmt.Fprintf(a.err, "%s compiled to the same bytes on both sides\n", plural(n, "package"))
	}
	for arm, only := range s.Sides.Only {
		for _, id := range only {
			fmt.Fprintf(a.err, "only in the %s, hence not judged: %s\n", duet.Arm(arm), oneLine(id))
		}
	}
}

func (a *app) conductBench(ctx context.Context, suite *suites.Suite, f benchFlags, s gate.BenchSession) error {
	s.Run = results.Run{
		APIVersion: results.APIVersion, ID: newRunID(), Tool: aboutTool(),
		Suite:  results.Suite{Version: suites.Version, Digest: suite.Digest()},
		Target: results.Target{Name: s.Sides.Cand.Given, Kind: "command", Role: "endpoint", Digest: s.Sides.Cand.Digest, Version: s.Sides.Cand.Revision},
		Host:   aboutHost(), Seed: f.seed, Profile: "gate", Patterns: f.packages, Basis: "standard",
		Started: time.Now().UTC().Truncate(time.Second), Requirements: []results.Requirement{},
	}
	for arm, only := range s.Sides.Only {
		for _, id := range only {
			s.Run.NotRun = append(s.Run.NotRun, results.NotRun{Check: "gate/" + id, Probe: "only in the " + duet.Arm(arm).String() + ": nothing to compare with"})
		}
	}
	if s.Dir = f.out; s.Dir == "" {
		s.Dir = filepath.Join(outDir, s.Run.Started.Format("20060102T150405Z")+"-bench-"+s.Run.ID[:6])
	}
	s.Sides.Rates = "of benchmarks not calibrated; by the tests at most 1 % false alarms over all metrics, 5 % missed at the pass margin"
	s.Reproduce = func(b gate.Bench) string { return reproduceBench(f, b) }
	s.Progress = a.benchProgress()
	bundle, err := s.Conduct(ctx)
	if err != nil {
		return a.runFailed(ctx, s.Dir, err)
	}
	if err := writeViews(bundle); err != nil {
		return err
	}
	a.printBench(bundle)
	return a.mapInconclusive(bundle.Verdicts.Exit, f.inconclusive)
}

func (a *app) benchProgress() func(gate.BenchStep, []gate.Decision, int) {
	decided := map[string]bool{}
	return func(step gate.BenchStep, decisions []gate.Decision, open int) {
		for _, d := range decisions {
			if d.Outcome != gate.Open && !decided[d.Metric.ID()] {
				decided[d.Metric.ID()] = true
				fmt.Fprintf(a.err, "epoch %d: %s %s, %s open\n", step.Number, oneLine(d.Metric.ID()), d.Outcome, plural(open, "benchmark"))
			}
		}
	}
}

func (a *app) printBench(b *results.Bundle) {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, v := range b.Verdicts.Verdicts {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", oneLine(strings.TrimPrefix(v.Check, "gate/")), v.Case, v.Status, oneLine(v.Why.Observed))
	}
	_ = w.Flush() // as for every print of this command
	fmt.Fprintf(a.err, "report: %s\n", filepath.Join(b.Dir, "report.html"))
	word := map[results.Exit]string{
		results.ExitPass: "PASS", results.ExitFail: "REGRESSION", results.ExitInconclusive: "INCONCLUSIVE", results.ExitHarness: "HARNESS ERROR",
	}[b.Verdicts.Exit]
	fmt.Fprintf(a.out, "%s: %s compared [exit %d]\n", word, plural(len(b.Verdicts.Verdicts), "metric"), b.Verdicts.Exit)
}

// reproduceBench is the command that judges one benchmark again.
func reproduceBench(f benchFlags, b gate.Bench) string {
	parts := strings.Split(b.Name, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	filter := "^Benchmark" + strings.TrimPrefix(strings.Join(parts, "/"), "^")
	words := []string{"assay", "gate", "bench", quote(b.Package), "--bench", quote(filter), "--baseline", quote(f.baseline), "--candidate", quote(f.candidate),
		"--benchtime", quote(f.benchtime), "--fail-above", fmt.Sprint(f.fail), "--pass-below", fmt.Sprint(f.pass), "--seed", fmt.Sprint(f.seed)}
	return strings.Join(words, " ")
}
