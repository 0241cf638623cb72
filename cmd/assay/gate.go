package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/duet"
	"github.com/assay-bench/assay/scenarios/target"
	"github.com/assay-bench/assay/suites"
	"github.com/assay-bench/assay/suites/gate"
)

const policyName = "gate.yaml"

type gateFlags struct {
	policy, baseline, candidate, out, inconclusive  string
	against                                         string
	againstGates                                    bool
	seed                                            uint64
	force, plan, probe, buildChange, creep, profile bool
	limit, budget                                   time.Duration
}

func (a *app) gateCommand() *cobra.Command {
	var f gateFlags
	cmd := &cobra.Command{
		Use: "gate [flags]", GroupID: "conformance", Args: none,
		Short: "compare two builds of a service side by side, with known error rates",
		Long: `gate starts fresh processes of a baseline and a candidate side by side, sends both the
same requests in turn, and decides with exact tests whether the candidate is worse:
at most 1 % false alarms, at most 5 % of the regressions beyond the pass margin missed.

A side is a program, ".", a git revision, merge-base:REVISION, last-release, or a container
image (name:tag), whose digest is what counts.

Exit codes:  0 pass, 1 regression, 2 usage or refused, 3 inconclusive, 4 harness error`,
		Example: `  assay gate init                 write gate.yaml for the repository around
  assay gate --plan --probe       what would run, how long, and what it could find
  assay gate --budget 6m          the largest plan that fits into six minutes
  assay gate --baseline merge-base:origin/main --candidate .
  assay gate --creep              nightly: small changes since the last release add up`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("seed") {
				f.seed = drawSeed()
			}
			if f.creep && !cmd.Flags().Changed("baseline") {
				f.baseline = "last-release"
			}
			return a.runGate(cmd.Context(), f)
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.policy, "policy", "p", policyName, "policy file")
	fl.StringVarP(&f.baseline, "baseline", "b", "merge-base:origin/main", "side to compare with")
	fl.StringVarP(&f.candidate, "candidate", "c", ".", "side to judge")
	fl.StringVar(&f.against, "against", "", "bundle of an earlier run with the same baseline, which is then a reference: advice on the candidate against what that run measured")
	fl.BoolVar(&f.againstGates, "against-gates", false, "let --against turn the gate red")
	fl.StringVarP(&f.out, "out", "o", "", "folder of the bundle (default: a new one under "+outDir+")")
	fl.Uint64Var(&f.seed, "seed", 0, "seed of all random choices (default: drawn and recorded)")
	fl.BoolVar(&f.force, "force", false, "go on where the pre-flight predicts that nothing will be decided")
	fl.BoolVar(&f.creep, "creep", false, "judge slow creep, nightly: against the last release, with the policy's narrower margins and more epochs")
	fl.BoolVar(&f.plan, "plan", false, "print the plan and stop")
	fl.BoolVar(&f.buildChange, "allow-build-change", false, "compare builds whose settings differ in what matters")
	fl.BoolVar(&f.profile, "profile", false, "after a regression, ask both sides for profiles (profile: in the policy) and name the functions that changed")
	fl.BoolVar(&f.probe, "probe", false, "with --plan: build the baseline and run two epochs of it, to tell the time")
	fl.DurationVar(&f.budget, "budget", 0, "fit the plan into this time, and say what it gave up")
	fl.DurationVar(&f.limit, "limit", 0, "longest time for pre-flight and duet; what is open then is not decided")
	fl.StringVar(&f.inconclusive, "inconclusive", "keep", "what exit 3 becomes: fail makes it 1, warn and pass make it 0, keep leaves it; the record stays")
	cmd.AddCommand(a.gateInitCommand(), a.gateSchemaCommand(), a.gateBenchCommand())
	return cmd
}

func (a *app) runGate(ctx context.Context, f gateFlags) (err error) {
	if !slices.Contains([]string{"keep", "fail", "warn", "pass"}, f.inconclusive) {
		return usagef("--inconclusive is %q, want fail, warn or pass, or keep", f.inconclusive)
	}
	suite, err := newSuite()
	if err != nil {
		return err
	}
	raw, err := os.ReadFile(f.policy)
	if errors.Is(err, fs.ErrNotExist) {
		return usagef("no policy %s: write one with: assay gate init", f.policy)
	}
	if err != nil {
		return usage(err)
	}
	policy, err := gate.ParsePolicy(raw)
	if err != nil {
		return usage(fmt.Errorf("%s: %w", f.policy, err))
	}
	if f.profile {
		if err := policy.CanProfile(); err != nil {
			return usage(fmt.Errorf("%s: %w", f.policy, err))
		}
	}
	options := gate.Options{Force: f.force, Creep: f.creep}
	course, err := courseHere(f.policy, policy, &options)
	if err != nil {
		return err
	}
	if f.against == "" && f.againstGates || f.against != "" && (f.plan || f.budget > 0 || f.creep) {
		return usagef("--against-gates wants --against DIR, and neither goes with --plan, --budget or --creep: the stored run says how many epochs there are")
	}
	if f.plan && !f.probe && f.budget == 0 {
		return a.printGatePlan(policy, course, options, nil)
	}
	scratch, err := os.MkdirTemp("", "assay-gate-*")
	if err != nil {
		return err
	}
	sources := duet.Sources{Repository: filepath.Dir(f.policy), Build: policy.Build, Scratch: scratch}
	defer func() {
		err = errors.Join(err, sources.Release(context.WithoutCancel(ctx)), os.RemoveAll(scratch))
	}()
	sides, programs, err := a.buildSides(ctx, sources, policy, f, options)
	if err != nil {
		return err
	}
	if f.against != "" {
		if err := a.against(f, raw, &sides); err != nil {
			return usage(fmt.Errorf("refused: %w", err))
		}
	}
	session := gate.Session{Policy: raw, Sides: sides, Programs: programs, Dial: scenarios.NewDialer(nil, 0).DialContext, Journal: openJournal}
	if f.probe || f.budget > 0 {
		if sides.Options.Fit, err = a.fitGate(ctx, f, session, policy, scratch); err != nil || f.plan {
			return err
		}
	} else if err := a.printGatePlan(policy, course, sides.Options, nil); err != nil {
		return err
	}
	session.SuiteDigest, session.Sides = suite.Digest(), sides
	return a.conductGate(ctx, f, session)
}

// against reads a stored result, and refuses one that no reference makes comparable.
func (a *app) against(f gateFlags, policy []byte, sides *gate.Sides) error {
	stored, err := gate.ReadStored(f.against)
	if err == nil {
		err = stored.Comparable(aboutHost(), aboutTool(), policy, sides.Baseline.Digest)
	}
	if err == nil {
		err = gate.CheckSeal(f.against)
	}
	if err != nil {
		return err
	}
	sides.Stored, sides.Options.Through, sides.Options.Epochs = &stored, gate.Advisory, stored.Epochs()
	if f.againstGates {
		sides.Options.Through = gate.Gating
	}
	fmt.Fprintf(a.err, "against %s (%s, %s), through the reference %s: a ratio of ratios over %d epochs\n",
		stored.Measured.Given, f.against, stored.Started.Format(time.DateOnly), sides.Baseline.Given, stored.Epochs())
	return nil
}

// fitGate runs two epochs of the baseline, and prints the plan that a budget leaves.
func (a *app) fitGate(ctx context.Context, f gateFlags, s gate.Session, p gate.Policy, scratch string) (fit *gate.Fit, err error) {
	folder := filepath.Join(scratch, "probe")
	if err := os.Mkdir(folder, 0o755); err != nil {
		return nil, err
	}
	probe, err := s.Probe(ctx, folder)
	if errors.Is(err, target.ErrNotReady) {
		return nil, usage(fmt.Errorf("refused: %w: %w", gate.ErrBaseline, err))
	}
	if err != nil {
		return nil, err
	}
	o := s.Sides.Options
	if f.budget > 0 {
		if o.Fit, _, err = gate.FitBudget(p, o, probe, f.budget); errors.Is(err, gate.ErrBudget) {
			return nil, usage(fmt.Errorf("refused: %w", err))
		} else if err != nil {
			return nil, err
		}
	}
	course, err := gate.NewCourse(p, o)
	if err != nil {
		return nil, err
	}
	return o.Fit, a.printGatePlan(p, course, o, &probe)
}

// buildSides makes both programs and refuses builds that can not be compared.
func (a *app) buildSides(ctx context.Context, sources duet.Sources, policy gate.Policy, f gateFlags, o gate.Options) (gate.Sides, [2]*duet.Program, error) {
	sides := gate.Sides{Options: o}
	var programs [2]*duet.Program
	var built [2]duet.Built
	for arm, word := range [2]string{f.baseline, f.candidate} {
		if arm == int(duet.Candidate) && f.plan { // only the baseline is run
			built[arm], programs[arm] = built[0], programs[0]
			continue
		}
		var err error
		fmt.Fprintf(a.err, "%s: %s\n", duet.Arm(arm), word)
		if built[arm], err = sources.Resolve(ctx, duet.Arm(arm).String(), word); err != nil {
			return sides, programs, usage(fmt.Errorf("refused: %w", err))
		}
		if built[arm].Image {
			programs[arm], err = policy.Containers(built[arm].Digest)
		} else if programs[arm] = policy.Program(built[arm].Out, built[arm].Dir); len(policy.Start.Command) == 0 {
			err = errors.New("the policy has no start.command: it starts a side that is no image")
		}
		if err != nil {
			return sides, programs, usage(fmt.Errorf("refused: %s: %w", word, err))
		}
	}
	if built[0].Image != built[1].Image {
		return sides, programs, usagef("refused: %v: one side is a container image and the other is not, so that what differs is the container too", duet.ErrNotComparable)
	}
	ref := func(b duet.Built) gate.ArtefactRef {
		return gate.ArtefactRef{Given: b.Given, Revision: b.Revision, Digest: b.Digest}
	}
	sides.Baseline, sides.Cand = ref(built[0]), ref(built[1])
	sides.Builds = gate.CompareBuilds(built[0].Out, built[1].Out)
	for _, d := range sides.Builds.Listed {
		fmt.Fprintf(a.err, "the builds differ: %s\n", d)
	}
	if len(sides.Builds.Refused) > 0 && !f.buildChange {
		return sides, programs, usagef("refused: build differs: %s; build both alike, or say --allow-build-change", strings.Join(sides.Builds.Refused, "; "))
	}
	return sides, programs, nil
}

func (a *app) conductGate(ctx context.Context, f gateFlags, s gate.Session) error {
	run := results.Run{
		APIVersion: results.APIVersion, ID: newRunID(), Tool: aboutTool(),
		Suite:  results.Suite{Version: suites.Version, Digest: s.SuiteDigest},
		Target: results.Target{Name: s.Sides.Cand.Given, Kind: "command", Role: "endpoint", Digest: s.Sides.Cand.Digest, Version: s.Sides.Cand.Revision},
		Host:   aboutHost(), Seed: f.seed, Profile: "gate", Basis: "standard",
		Started: time.Now().UTC().Truncate(time.Second), Requirements: []results.Requirement{},
	}
	dir := f.out
	if dir == "" {
		dir = filepath.Join(outDir, run.Started.Format("20060102T150405Z")+"-gate-"+run.ID[:6])
	}
	calibration, known, err := gateCalibration("")
	if err != nil {
		return usage(err)
	}
	if s.Sides.Rates = "not calibrated: assay calibrate gate measures them"; known {
		s.Sides.Rates = calibration.Text()
	}
	s.Run, s.Dir, s.Progress, s.Profile = run, dir, a.gateProgress(), f.profile
	if s.Limit = f.limit; s.Limit == 0 {
		s.Limit = f.budget
	}
	s.Reproduce = func(m gate.Metric) string { return reproduceGate(f, m) }
	bundle, course, err := s.Conduct(ctx)
	switch {
	case errors.Is(err, gate.ErrBaseline), errors.Is(err, target.ErrNotReady):
		return usage(fmt.Errorf("refused: %w; the record is %s", err, filepath.Join(dir, results.EvidenceFile)))
	case err != nil:
		return a.runFailed(ctx, dir, err)
	}
	if err := writeViews(bundle); err != nil {
		return err
	}
	a.keepPreflight(bundle)
	a.printGate(bundle, course, s.Sides.Rates)
	if s.Sides.Options.Through == gate.Advisory && bundle.Verdicts.Count(results.Fail) > 0 && bundle.Verdicts.Exit == results.ExitPass {
		fmt.Fprintln(a.err, "assay: warning: worse than the stored result; a ratio of ratios is advice, so that this is exit 0: --against-gates makes it 1")
	}
	return a.mapInconclusive(bundle.Verdicts.Exit, f.inconclusive)
}

// mapInconclusive is what exit 3 becomes: fail makes it 1, warn and pass make it 0. The record is not touched.
func (a *app) mapInconclusive(code results.Exit, to string) error {
	if code != results.ExitInconclusive || to == "keep" {
		return finish(code)
	}
	if to == "fail" {
		return finish(results.ExitFail)
	}
	if to == "warn" {
		fmt.Fprintln(a.err, "assay: warning: inconclusive, and --inconclusive=warn makes that exit 0; the record says inconclusive")
	}
	return nil
}

func reproduceGate(f gateFlags, m gate.Metric) string {
	words := []string{"assay", "gate", "--policy", quote(f.policy), "--baseline", quote(f.baseline), "--candidate", quote(f.candidate)}
	if f.creep {
		words = append(words, "--creep")
	}
	return strings.Join(append(words, "--seed", fmt.Sprint(f.seed)), " ") + "  # " + m.ID()
}
