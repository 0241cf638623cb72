package main

import (
	"bytes"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/assay-bench/assay/reports"
	"github.com/assay-bench/assay/results"
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
