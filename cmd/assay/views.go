package main

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/assay-bench/assay/reports"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/results/seal"
	"github.com/assay-bench/assay/suites/gate"
	"github.com/assay-bench/assay/suites/runner"
)

// writeViews renders every format that has a file name into the bundle.
func writeViews(b *results.Bundle) error {
	for _, f := range reports.All() {
		name := reports.File(f)
		if name == "" {
			continue
		}
		var buf bytes.Buffer
		if err := f.Write(&buf, b); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := results.WriteFileAtomic(filepath.Join(b.Dir, name), buf.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) printView(b *results.Bundle, name string) error {
	f, err := reports.Find(name)
	if err != nil {
		return usage(err)
	}
	return f.Write(a.out, b)
}

func (a *app) reportCommand() *cobra.Command {
	var from, format string
	cmd := &cobra.Command{
		Use: "report --from DIR --format FORMAT", GroupID: "publish", Args: none,
		Short: "render a bundle in a format, offline",
		RunE: func(*cobra.Command, []string) error {
			if from == "" {
				return usagef("--from DIR is missing: the folder of a bundle")
			}
			b, err := results.Open(from)
			if err != nil {
				return usage(err)
			}
			return a.printView(b, format)
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "folder of the bundle")
	cmd.Flags().StringVar(&format, "format", "text", "text, html, markdown, json, junit or conformance")
	return cmd
}

func (a *app) judgeCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "judge DIR", GroupID: "publish", Args: exactly(1, "the folder of a bundle"),
		Short: "compute the verdicts of a bundle from its evidence",
		Long: `judge computes the verdicts of a bundle from its evidence and prints them. It
writes them, and the reports, only where a killed run left none.`,
		RunE: func(_ *cobra.Command, args []string) error { return a.runJudge(args[0], asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print verdicts.json on standard output")
	return cmd
}

func (a *app) runJudge(dir string, asJSON bool) error {
	suite, err := newSuite()
	if err != nil {
		return err
	}
	b, err := results.Open(dir)
	if err != nil {
		return usage(err)
	}
	v := rulesOf(suite, b).Verdicts(b.Run, b.Evidence)
	if b.Verdicts == nil {
		if err := results.WriteVerdicts(dir, v, uint64(len(b.Evidence))); err != nil {
			return err
		}
		if b.Run.Kind != gate.Kind && b.Run.Kind != gate.BenchKind {
			b.Run = runner.Complete(b.Run, b.Evidence)
		}
		b.Verdicts = &v
		if err := writeViews(b); err != nil {
			return err
		}
	}
	b.Verdicts = &v
	if asJSON {
		raw, err := results.MarshalIndent(v)
		if err != nil {
			return err
		}
		if _, err := a.out.Write(raw); err != nil {
			return err
		}
	} else if err := a.printView(b, "text"); err != nil {
		return err
	}
	return finish(v.Exit)
}

func (a *app) verifyCommand() *cobra.Command {
	var unsigned bool
	cmd := &cobra.Command{
		Use: "verify DIR --unsigned", GroupID: "publish", Args: exactly(1, "the folder of a bundle"),
		Short: "recompute a bundle: digests, verdicts, reports",
		RunE: func(_ *cobra.Command, args []string) error {
			if !unsigned {
				return usagef("bundles of this version carry no signatures: say --unsigned to verify all the rest")
			}
			return a.runVerify(args[0])
		},
	}
	cmd.Flags().BoolVar(&unsigned, "unsigned", false, "verify everything but signatures")
	return cmd
}

// runVerify stops at the first mismatch and names it: manifest, evidence, verdicts, views.
func (a *app) runVerify(dir string) error {
	suite, err := newSuite()
	if err != nil {
		return err
	}
	if !exists(filepath.Join(dir, results.RunFile)) {
		return usage(fmt.Errorf("%s: %w here: it has no %s", dir, results.ErrNoBundle, results.RunFile))
	}
	mismatch := func(err error) error { return coded{results.ExitFail, err} }
	manifest, err := seal.Check(dir)
	if errors.Is(err, results.ErrVersion) {
		return usage(err)
	}
	if err != nil {
		return mismatch(err)
	}
	b, err := results.Open(dir)
	if errors.Is(err, results.ErrVersion) {
		return usage(err)
	}
	if err != nil {
		return mismatch(err)
	}
	if b.Verdicts == nil {
		return mismatch(fmt.Errorf("%s has no verdicts", dir))
	}
	judge := rulesOf(suite, b)
	if b.Run.Suite.Digest != judge.Digest() {
		return usagef("%s was judged by suite %s (%.12s), this program has %s (%.12s): verify it with the program that wrote it",
			dir, b.Run.Suite.Version, b.Run.Suite.Digest, aboutTool().Version, judge.Digest())
	}
	if err := sameSeal(manifest, b); err != nil {
		return mismatch(err)
	}
	if err := judge.CheckPlan(b.Run, b.Evidence); err != nil {
		return mismatch(err)
	}
	if err := sameVerdicts(*b.Verdicts, judge.Verdicts(b.Run, b.Evidence)); err != nil {
		return mismatch(err)
	}
	if err := gate.CheckProfiles(dir, b.Evidence); err != nil {
		return mismatch(err)
	}
	if err := sameViews(b); err != nil {
		return mismatch(err)
	}
	if b.Run.Proof != nil && b.Run.Kind == "prove" {
		if err := sameProof(suite, b); err != nil {
			return mismatch(err)
		}
	}
	fmt.Fprintf(a.out, "verified: %d verdicts recomputed from %d pieces of evidence, bundle %.12s; signatures were not checked\n",
		len(b.Verdicts.Verdicts), len(b.Evidence), b.Digest)
	return nil
}
