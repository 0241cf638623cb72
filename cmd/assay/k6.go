package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios/k6"
)

// k6Program is the program that links k6. It is under another licence, so it is run and not linked.
const k6Program = "assay-k6"

func (a *app) k6Command() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use: "k6 SCRIPT [K6 FLAG ...]", GroupID: "conformance",
		Short: "run a k6 script with assay-k6 and judge it",
		Long: `k6 runs a k6 script with the program assay-k6, which must lie beside this one or on
the PATH, and judges the bundle that it writes. The exit code is that of the bundle:
a run with dropped iterations is inconclusive (3), one that throws is broken (4).

Flags after the script go to k6 as they are.`,
		Example: `  assay k6 script.js
  assay k6 --out DIR script.js --vus 10 --duration 30s`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("assay k6 takes a script; see: assay k6 --help")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.runK6(cmd.Context(), out, args) },
	}
	cmd.Flags().StringVar(&out, "out", "", "folder of the bundle (default: a new one under "+outDir+")")
	cmd.Flags().SetInterspersed(false)
	return cmd
}

// runK6 runs the program, shows what it prints, and judges what it leaves.
func (a *app) runK6(ctx context.Context, dir string, args []string) error {
	program, err := findK6()
	if err != nil {
		return usage(err)
	}
	if dir == "" {
		dir = filepath.Join(outDir, time.Now().UTC().Format("20060102T150405Z")+"-"+newRunID()[:6])
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return usagef("%s is not empty: choose another folder with --out", dir)
	}
	line := append([]string{"run", "--quiet", "-o", "assay=" + dir}, args...)
	cmd := exec.CommandContext(ctx, program, line...)
	cmd.Stdout, cmd.Stderr = a.err, a.err // standard output is for the report
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	runErr := cmd.Run()
	b, err := results.Open(dir)
	if errors.Is(err, results.ErrNoBundle) { // k6 has said why
		return usagef("%s did not start the run: %v", k6Program, runErr)
	}
	if err != nil {
		return err
	}
	if b.Verdicts == nil {
		v := k6.Verdicts(b.Run, b.Evidence)
		b.Verdicts = &v
	}
	if err := a.printView(b, "text"); err != nil {
		return err
	}
	if err := writeViews(b); err != nil {
		return err
	}
	fmt.Fprintf(a.err, "report: %s\n", filepath.Join(dir, "report.html"))
	return finish(b.Verdicts.Exit)
}

// findK6 looks beside this program first.
func findK6() (string, error) {
	if self, err := os.Executable(); err == nil {
		if beside := filepath.Join(filepath.Dir(self), k6Program); exists(beside) {
			return beside, nil
		}
	}
	path, err := exec.LookPath(k6Program)
	if err != nil {
		return "", fmt.Errorf("there is no %s beside this program or on the PATH: build it in cmd/assay-k6 with go build", k6Program)
	}
	return path, nil
}
