package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/assay-bench/assay/scenarios/load"
	"github.com/assay-bench/assay/scenarios/load/bundle"
)

func (a *app) loadMergeCommand() *cobra.Command {
	var thresholds []string
	var out loadOut
	cmd := &cobra.Command{
		Use:   "merge RESULT RESULT ...",
		Short: "merge the results of all segments of one load",
		Long: `merge adds up the counts and the histograms of the generators of one load, each a
file that assay load --save wrote or the folder of its bundle. Percentiles are computed
after the merge and thresholds are judged on it.

It refuses results of different schedules, versions or geometries, a segment that is
missing, and one that is there twice. A generator whose result is INVALID makes the
merged one INVALID.`,
		Example: "  assay load merge 1.json 2.json 3.json --threshold 'response:p(99)<50' --out merged",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("assay load merge takes the results of all segments; see: assay load merge --help")
			}
			return a.runLoadMerge(commandWords(cmd, args), thresholds, out, args)
		},
	}
	cmd.Flags().StringArrayVar(&thresholds, "threshold", nil, "METRIC:EXPRESSION (repeatable)")
	out.add(cmd)
	return cmd
}

func (a *app) runLoadMerge(words, thresholds []string, out loadOut, paths []string) error {
	job := loadJob{out: out, words: words}
	if err := parseThresholds(thresholds, &job.thresholds); err != nil {
		return usage(err)
	}
	if err := checkFormat(out.format); err != nil {
		return usage(err)
	}
	var nodes []*load.Result
	for _, path := range paths {
		r, err := readLoad(path)
		if err != nil {
			return usage(err)
		}
		nodes = append(nodes, r)
	}
	merged, err := load.Merge(nodes...)
	if err != nil {
		return loadError(err)
	}
	run := a.describeLoad(job)
	run.Target.Name = fmt.Sprintf("%d merged results", len(nodes))
	run.Target.Kind = "remote"
	b, err := newLoadBundle(out.dir, run)
	if err != nil {
		return usage(err)
	}
	l := bundle.NewLoad(merged, job.thresholds)
	l.Merged = paths
	if err := b.add("load", l); err != nil {
		return err
	}
	return a.finishLoad(b, out)
}
