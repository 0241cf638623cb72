package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/assay-bench/assay/reports"
	"github.com/assay-bench/assay/results"
)

type compareFlags struct {
	format, out string
	trend       bool
}

func (a *app) compareCommand() *cobra.Command {
	var f compareFlags
	cmd := &cobra.Command{
		Use: "compare A B | compare --trend DIR...", GroupID: "publish", Args: cobra.ArbitraryArgs,
		Short: "put stored bundles beside each other, without a verdict",
		Long: `compare shows two bundles of one kind beside each other: estimates with intervals, shift
functions, and cases that were judged otherwise. It never decides: stored results are
no baseline, and it says what else speaks against a comparison. assay gate decides.

With --trend it shows many bundles over time, with change points marked; a folder
stands for the bundles in it.`,
		Example: `  assay compare assay-out/monday assay-out/today
  assay compare --trend assay-out --format html --out trend.html`,
		RunE: func(_ *cobra.Command, args []string) error { return a.runCompare(args, f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.format, "format", "markdown", strings.Join(reports.ComparisonFormats, ", "))
	fl.StringVarP(&f.out, "out", "o", "", "file to write (default: standard output)")
	fl.BoolVar(&f.trend, "trend", false, "show many bundles over time")
	return cmd
}

// rendered is a comparison or a trend.
type rendered interface {
	Write(w io.Writer, format string) error
}

func (a *app) runCompare(args []string, f compareFlags) error {
	if !slices.Contains(reports.ComparisonFormats, f.format) {
		return usagef("--format is %q, want %s", f.format, strings.Join(reports.ComparisonFormats, ", "))
	}
	view, err := compared(args, f.trend)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := view.Write(&out, f.format); err != nil {
		return err
	}
	if f.out != "" {
		return writeOutput(f.out, out.Bytes())
	}
	_, err = a.out.Write(out.Bytes())
	return err
}

func compared(args []string, trend bool) (rendered, error) {
	if trend {
		return trendOf(args)
	}
	if len(args) != 2 {
		return nil, usagef("compare takes two bundles, got %d; for many: --trend", len(args))
	}
	var b [2]*results.Bundle
	for i, dir := range args {
		var err error
		if b[i], err = results.Open(dir); err != nil {
			return nil, usage(err)
		}
	}
	c, err := reports.Compare(b[0], b[1], [2]string{args[0], args[1]})
	if err != nil {
		return nil, usage(err)
	}
	return c, nil
}

// trendOf opens bundles, and those that lie directly in other folders.
func trendOf(args []string) (rendered, error) {
	if len(args) == 0 {
		return nil, usagef("--trend takes bundles, or folders with bundles in them")
	}
	var bundles []*results.Bundle
	for _, dir := range args {
		found := []string{dir}
		if !exists(filepath.Join(dir, results.RunFile)) {
			names, err := filepath.Glob(filepath.Join(dir, "*", results.RunFile))
			if err != nil || len(names) == 0 {
				return nil, usagef("%s is no bundle, and has none in it", dir)
			}
			found = nil
			for _, n := range names {
				found = append(found, filepath.Dir(n))
			}
		}
		for _, d := range found {
			b, err := results.Open(d)
			if err != nil {
				return nil, usage(err)
			}
			bundles = append(bundles, b)
		}
	}
	t, err := reports.NewTrend(bundles)
	if errors.Is(err, reports.ErrNoTrend) {
		return nil, usage(fmt.Errorf("%w in %s", err, plural(len(bundles), "bundle")))
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}
