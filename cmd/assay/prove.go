package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-bench/assay/chaos"
	"github.com/assay-bench/assay/chaos/catalogue"
	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/results/seal"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/target"
	"github.com/assay-bench/assay/suites"
	"github.com/assay-bench/assay/suites/prove"
	"github.com/assay-bench/assay/suites/runner"
)

// proofDeadline is the read deadline of the stacks under examination: shorter than the default, because
// a proof waits for it many times.
const proofDeadline = 800 * time.Millisecond

type proveFlags struct {
	out     string
	seed    uint64
	workers int
	json    bool
}

func (a *app) proveCommand() *cobra.Command {
	var f proveFlags
	cmd := &cobra.Command{
		Use: "prove [DEFECT ...]", GroupID: "conformance",
		Short: "show that every check can fail",
		Long: `prove plants each known defect in the reference stack and demands that the checks
which name it turn red for the reason they name, while unrelated checks stay green.
Targets that implement nothing must score nothing, and a fault that does nothing must
leave its case inconclusive. A defect that was missed is tried again by itself, up to
twice; how often it was missed is printed. Whatever survives is listed by name; exit 1.`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.runProve(cmd.Context(), f, args) },
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.out, "out", "o", filepath.Join(outDir, "prove"), "folder of the bundle; an earlier proof there is replaced")
	fl.Uint64Var(&f.seed, "seed", 1, "seed of all random choices")
	fl.IntVar(&f.workers, "workers", 6, "stacks at once")
	fl.BoolVar(&f.json, "json", false, "print the proof as JSON on standard output")
	return cmd
}

func (a *app) runProve(ctx context.Context, f proveFlags, only []string) error {
	suite, err := newSuite()
	if err != nil {
		return err
	}
	began := time.Now().UTC().Truncate(time.Second)
	dir := f.out
	if len(only) > 0 {
		dir += "-only" // a partial proof must not stand in for a whole one
	}
	if err := clearProof(dir); err != nil {
		return usage(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	journal, closeJournal, err := openJournal(dir)
	if err != nil {
		return err
	}
	clean, proof, err := prove.Run(ctx, prove.Options{
		Sentinels: sentinels(),
		Suite:     suite, Known: knownDefects(), Hollow: hollowKinds(), Started: began, Workers: f.workers, Only: only,
		Conduct: func(ctx context.Context, t prove.Trial) (*results.Bundle, error) {
			return conductTrial(ctx, suite, t, filepath.Join(dir, "proof", t.Name), f.seed, began, journal)
		},
		Progress: a.proveProgress(),
	})
	if err := errors.Join(err, closeJournal()); err != nil {
		return err
	}
	if clean != nil {
		if err := sealProof(dir, suite, clean, proof); err != nil {
			return err
		}
	}
	return a.printProof(proof, f.json, dir)
}

// clearProof removes an earlier proof, and nothing that is none.
func clearProof(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) || (err == nil && len(entries) == 0) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !ofProof[e.Name()] {
			return fmt.Errorf("%s holds %s, which is no part of an earlier proof: choose another folder with --out", dir, e.Name())
		}
	}
	if b, err := results.Open(dir); err == nil && b.Run.Kind != "prove" {
		return fmt.Errorf("%s holds a run and no proof: choose another folder with --out", dir)
	}
	return os.RemoveAll(dir)
}

// ofProof are the names that a proof's folder may have in it.
var ofProof = map[string]bool{
	"proof": true, results.JournalFile: true, results.RunFile: true, results.EvidenceFile: true, results.VerdictsFile: true,
	results.ManifestFile: true, "report.html": true, "report.md": true, "report.json": true, "junit.xml": true, "conformance.yaml": true,
}

func knownDefects() []string {
	var out []string
	for _, e := range defect.Catalogue() {
		out = append(out, string(e.Name))
	}
	return out
}

// hollowKinds lists the hollow targets that are scored.
func hollowKinds() []string { return []string{"null", "always-reject", "garbage", "mute"} }

// conductTrial runs one stack through its cases, into a bundle of its own.
func conductTrial(ctx context.Context, suite *suites.Suite, t prove.Trial, dir string, seed uint64, began time.Time, journal *chaos.Journal) (*results.Bundle, error) {
	f := runFlags{seed: seed, basis: "all", defects: t.Defects, readDeadline: proofDeadline, noProbe: !t.Probing, profile: "full"}
	chosen := referenceTarget(t.Defects, t.Hollow, proofDeadline)
	plan, err := suite.Plan(suites.Selection{
		Patterns: t.Patterns, Profile: f.profile, Probing: t.Probing, Barred: barred(ctx, chosen), Reproduce: reproduce(f),
	})
	if err != nil {
		return nil, err
	}
	run := describeRun(suite, f, plan, chosen, t.Patterns, nil)
	run.Started = began
	workers := 8
	if t.Hollow != "" {
		workers = 24 // such a target mostly makes us wait
	}
	build := chosen.build
	if hasPrefix(t.Defects, "stack.") {
		build = impatient(build)
	}
	return runner.Session{
		Suite: suite, Run: run, Dir: dir, Dialer: scenarios.NewDialer(nil, 0), Fault: catalogue.Find, Null: t.Null, Together: t.Hollow != "",
		Workers: workers, Target: asTarget(build),
		Journal: func(string) (*chaos.Journal, func() error, error) { return journal, func() error { return nil }, nil },
	}.Conduct(ctx)
}

// asTarget adapts a builder to a session.
func asTarget(build builder) func(func(chaos.Process) error, func(results.Source, results.Kind, any) error) (target.Target, error) {
	return func(own func(chaos.Process) error, record func(results.Source, results.Kind, any) error) (target.Target, error) {
		return build(own, record)
	}
}

func hasPrefix(list []string, prefix string) bool {
	for _, x := range list {
		if strings.HasPrefix(x, prefix) {
			return true
		}
	}
	return false
}

// builder makes the target of a session.
type builder func(own func(chaos.Process) error, record put) (target.Target, error)

// impatient shortens the start time-out: these stacks never come up.
func impatient(build builder) builder {
	return func(own func(chaos.Process) error, record put) (target.Target, error) {
		t, err := build(own, record)
		if c, ok := t.(*target.Command); ok {
			c.Timeout = 2 * time.Second
		}
		return t, err
	}
}

// sealProof makes the proof's folder a bundle: the clean reference's run with the proof in its run.json.
func sealProof(dir string, suite *suites.Suite, clean *results.Bundle, proof *results.Proof) error {
	run := clean.Run
	run.Kind, run.Proof = "prove", proof
	raw, err := results.MarshalIndent(run)
	if err != nil {
		return err
	}
	if err := results.WriteFileAtomic(filepath.Join(dir, results.RunFile), raw); err != nil {
		return err
	}
	if err := copyFile(filepath.Join(clean.Dir, results.EvidenceFile), filepath.Join(dir, results.EvidenceFile)); err != nil {
		return err
	}
	if err := results.WriteVerdicts(dir, *clean.Verdicts, uint64(len(clean.Evidence))); err != nil {
		return err
	}
	if err := seal.Write(dir, suite.Digest(), clean.Verdicts.Executed); err != nil {
		return err
	}
	b, err := results.Open(dir)
	if err != nil {
		return err
	}
	return writeViews(b)
}

func copyFile(from, to string) error {
	raw, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return results.WriteFileAtomic(to, raw)
}

func (a *app) printProof(p *results.Proof, asJSON bool, dir string) error {
	if asJSON {
		raw, err := results.MarshalIndent(p)
		if err != nil {
			return err
		}
		if _, err := a.out.Write(raw); err != nil {
			return err
		}
	} else if err := writeProof(a.out, p); err != nil {
		return err
	}
	fmt.Fprintf(a.err, "proof: %s\n", dir)
	if len(p.Survivors) > 0 {
		return finish(results.ExitFail)
	}
	if len(p.Open) > 0 {
		return finish(results.ExitInconclusive)
	}
	return nil
}

// writeProof prints the kill matrix, the hollow scores and the survivors by name; the verdict line last.
func writeProof(w io.Writer, p *results.Proof) error {
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tw, "defect\tcheck\treason\tkilled")
	killed, unsteady, caught := 0, 0, map[string]bool{}
	for _, k := range p.Defects {
		mark := "no: " + k.Observed
		if k.Killed {
			mark, caught[k.Defect] = "yes", true
			killed++
			if k.Missed > 0 {
				mark = fmt.Sprintf("yes, missed in %d of %d trials", k.Missed, k.Trials)
				unsteady++
			}
		}
		key := results.Key{Check: k.Check, Case: k.Case, Under: k.Under}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", k.Defect, suites.Pattern(key), k.Reason, mark)
	}
	fmt.Fprintln(tw)
	for _, h := range p.Hollow {
		fmt.Fprintf(tw, "hollow target %s\t%d executed\t%d pass\t%d broken\n", h.Target, h.Executed, h.Counts["pass"], h.Counts["broken"])
	}
	for _, n := range p.Faults {
		fmt.Fprintf(tw, "fault that does nothing: %s\t%s\t%s\t\n", n.Fault, n.Check, n.Observed)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, s := range p.Survivors {
		fmt.Fprintf(w, "SURVIVOR %s\n", printable(s))
	}
	if len(p.Unshown) > 0 {
		fmt.Fprintf(w, "declared, but reached by no planted defect yet: %d cases and reasons (proof.unshown in run.json)\n", len(p.Unshown))
	}
	for _, s := range p.Open {
		fmt.Fprintf(w, "OPEN %s\n", printable(s))
	}
	fmt.Fprintf(w, "\nrequirements %d, covered %d, proven %d\n", p.Requirements, p.Covered, p.Proven)
	if unsteady > 0 {
		fmt.Fprintf(w, "%s missed in some trials and seen in others\n", plural(unsteady, "kill"))
	}
	verdict := "PROVEN"
	switch {
	case len(p.Survivors) > 0:
		verdict = "NOT PROVEN"
	case len(p.Open) > 0:
		verdict = "INCONCLUSIVE"
	}
	_, err := fmt.Fprintf(w, "%s: %d of %d kills by %s, %s\n", verdict, killed, len(p.Defects),
		plural(len(caught), "defect"), plural(len(p.Survivors), "survivor"))
	return err
}
