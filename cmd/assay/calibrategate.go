package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-bench/assay/fixtures/services/echo"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/suites/gate"
)

type calibrateFlags struct {
	file    string
	aa      int
	power   int
	tail    int
	layouts int
	effects []float64
	metrics string
	budget  time.Duration
	quick   bool
	from    []string
	// simulate is how many trials are resampled from recorded epochs, in place of real ones
	simulate, block int
	seed            uint64
}

// sampleCommand serves the sample service: the program of both sides of a calibration.
func (a *app) sampleCommand() *cobra.Command {
	return &cobra.Command{
		Use: "sample-service", Hidden: true, DisableFlagParsing: true,
		Short: "serve the sample service of assay calibrate gate (started by assay itself)",
		RunE:  func(cmd *cobra.Command, args []string) error { return echo.Run(cmd.Context(), args) },
	}
}

func (a *app) calibrateGateCommand() *cobra.Command {
	var f calibrateFlags
	cmd := &cobra.Command{
		Use: "gate", Args: none,
		Short: "measure the gate's false-alarm rate and power on this host",
		Long: `calibrate gate runs the gate on pairs of which the truth is known (a sample service against
itself, and against itself with planted slowdowns) and sums up how often it was wrong, with
exact bounds. Trials are added to one file, so that it can be interrupted and goes on where
it was; they hold for 30 days on this class of host. A claim of at most 1 % false alarms
takes 299 clean pairs.

The pre-flight of every gate is unchanged code against itself: --from adds them to the file.
One alone decides nothing, so they are chained: pre-flights under one rule (metrics, margins,
looks) on one coarse class of host go through it one after the other, and each passage that
decides every metric is a pair. --simulate draws trials from the recorded epochs, with the
arms swapped at random, and plays the rule on them: unchanged, at the fail and at the pass
margins.`,
		Example: "  assay calibrate gate --quick\n  assay calibrate gate --budget 1h\n  assay calibrate gate --from assay-out\n  assay calibrate gate --simulate 10000 --seed 1",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("seed") {
				f.seed = drawSeed()
			}
			if f.quick {
				f.aa, f.power, f.layouts, f.effects = 20, 10, 5, []float64{0.05}
			}
			return a.runCalibrateGate(cmd.Context(), f)
		},
	}
	fl := cmd.Flags()
	fl.BoolVar(&f.quick, "quick", false, "20 pairs of unchanged code, 10 with +5 %, 5 link orders: wide bounds in minutes")
	fl.StringArrayVar(&f.from, "from", nil, "folder below which every bundle of the gate gives its pre-flight to the pool; nothing is run")
	fl.IntVar(&f.simulate, "simulate", 0, "resample so many trials from recorded epochs of unchanged code; nothing is run")
	fl.IntVar(&f.block, "block", gate.DefaultBlock, "successive epochs that --simulate draws together")
	fl.Uint64Var(&f.seed, "seed", 0, "seed of --simulate (default: drawn and printed)")
	fl.StringVar(&f.file, "file", "", "file of the trials (default: in the user's cache folder)")
	fl.IntVar(&f.aa, "aa", 300, "pairs of unchanged code that there shall be in the end")
	fl.IntVar(&f.power, "power", 60, "pairs for each planted slowdown")
	fl.IntVar(&f.tail, "tail", 0, "pairs whose candidate is slower in its tail alone, by 20 % of an epoch's p99, judged on p99 and p50")
	fl.IntVar(&f.layouts, "layouts", 10, "pairs of one source that was linked in two orders, over five orders; they need a Go toolchain")
	fl.Float64SliceVar(&f.effects, "effects", []float64{0.02, 0.05, 0.10}, "planted slowdowns of every request")
	fl.StringVar(&f.metrics, "metrics", "p50 p90", "metrics that gate")
	fl.DurationVar(&f.budget, "budget", 0, "stop after this time; 0: when all trials are there")
	return cmd
}

// gateTrialsFile is where the trials of this user's hosts are kept.
func gateTrialsFile() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache folder for the calibration: %w; say --file", err)
	}
	return filepath.Join(cache, "assay", "gate-trials.jsonl"), nil
}

// gateCalibration reads what is known of the gate's error rates on this host.
func gateCalibration(file string) (gate.Calibration, bool, error) {
	if file == "" {
		var err error
		if file, err = gateTrialsFile(); err != nil {
			return gate.Calibration{}, false, nil // without a cache folder there is no calibration
		}
	}
	trials, err := gate.ReadTrials(file)
	if err != nil {
		return gate.Calibration{}, false, err
	}
	return gate.Calibrate(trials, gate.HostClass(aboutHost()), time.Now())
}

func (a *app) runCalibrateGate(ctx context.Context, f calibrateFlags) (err error) {
	if f.file == "" {
		if f.file, err = gateTrialsFile(); err != nil {
			return err
		}
	}
	if err := a.gatherPreflights(f); err != nil {
		return err
	}
	class := gate.HostClass(aboutHost())
	switch {
	case f.simulate > 0:
		return a.simulateGate(f)
	case len(f.from) > 0:
		trials, err := gate.ReadTrials(f.file)
		if err != nil {
			return usage(err)
		}
		return a.printCalibration(trials, class)
	}
	return a.runTrials(ctx, f, class)
}

// startsInARow is how many trials may fail one after the other because the sample service did not start: a host that is
// that busy may be less so in a minute.
const startsInARow = 5

// runTrials runs what the file lacks, and prints what it holds then.
func (a *app) runTrials(ctx context.Context, f calibrateFlags, class string) error {
	bench, err := newTrialBench(f.metrics, class)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bench.Close()) }()
	begin, failed := time.Now(), 0
	for {
		trials, err := gate.ReadTrials(f.file)
		if err != nil {
			return usage(err)
		}
		w, have, more := next(f.wanted(), trials, class)
		if !more || f.budget > 0 && time.Since(begin) > f.budget {
			return a.printCalibration(trials, class)
		}
		t, err := bench.run(ctx, w)
		if errors.Is(err, gate.ErrBaseline) && failed < startsInARow {
			failed++
			fmt.Fprintf(a.err, "%s: no trial, a process did not start in time\n", w)
			continue
		}
		if err != nil {
			return err
		}
		failed = 0
		if err := gate.AppendTrial(f.file, t); err != nil {
			return err
		}
		fmt.Fprintf(a.err, "%s, %d of %d: %s in %s, %s\n", w, have+1, w.count, t.End, t.Took.Round(100*time.Millisecond), outcomes(t))
	}
}

// gatherPreflights adds what the bundles below --from hold of unchanged code to the file.
func (a *app) gatherPreflights(f calibrateFlags) error {
	for _, dir := range f.from {
		found, err := gate.Gather(dir)
		if err != nil {
			return usage(err)
		}
		added, err := keepTrials(f.file, found.Trials)
		if err != nil {
			return err
		}
		for _, err := range found.Skipped {
			fmt.Fprintf(a.err, "skipped %v\n", err)
		}
		fmt.Fprintf(a.err, "%s: %s of the gate, %s added\n", dir, plural(found.Bundles, "bundle"), plural(added, "record"))
	}
	return nil
}

// keepTrials adds to a file what it does not hold yet.
func keepTrials(file string, found []gate.Trial) (added int, err error) {
	known, err := gate.ReadTrials(file)
	if err != nil {
		return 0, usage(err)
	}
	for _, t := range gate.News(known, found) {
		if err := gate.AppendTrial(file, t); err != nil {
			return added, err
		}
		added++
	}
	return added, nil
}

// simulateGate prints what the rule does on resampled epochs. Exit 1: it calls unchanged code a regression in more than
// 1 % of the trials.
func (a *app) simulateGate(f calibrateFlags) error {
	trials, err := gate.ReadTrials(f.file)
	if err != nil {
		return usage(err)
	}
	rule, err := gate.Rule(trials)
	if err != nil {
		return usage(err)
	}
	rates, err := gate.Simulation{Metrics: rule, Trials: f.simulate, Seed: f.seed, Block: f.block}.Run(trials)
	if err != nil {
		return usage(err)
	}
	fmt.Fprintf(a.out, "%s resampled from %d recorded epochs of unchanged code in blocks of %d, arms swapped at random, seed %d\n",
		plural(f.simulate, "trial"), rates[0].Pool, f.block, f.seed)
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "planted in every metric\tmetric\tcalled a regression\tnot decided\t95 % bounds\tmean epochs\t")
	for _, r := range rates {
		fmt.Fprintf(w, "%s\tany\t%.2f %%\t%.2f %%\t%s\t\t\n", r.Change, share(r.Any.Events, f.simulate), share(r.Any.Open, f.simulate), bounds(r.Any))
		for _, id := range sortedKeys(r.Metrics) {
			m := r.Metrics[id]
			fmt.Fprintf(w, "\t%s\t%.2f %%\t%.2f %%\t%s\t%.1f\t\n", id, share(m.Events, f.simulate), share(m.Open, f.simulate), bounds(m), r.Epochs[id])
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if share(rates[0].Any.Events, f.simulate) > 100*gate.FamilyLevel {
		return finish(results.ExitFail)
	}
	return nil
}

func share(n, of int) float64 { return 100 * float64(n) / float64(of) }

// bounds are the exact ones of a rate.
func bounds(r gate.Rate) string { return fmt.Sprintf("%.3g to %.3g %%", 100*r.Lower, 100*r.Upper) }

func (a *app) printCalibration(trials []gate.Trial, class string) error {
	c, ok, err := gate.Calibrate(trials, class, time.Now())
	if err != nil {
		return err
	}
	if !ok {
		fmt.Fprintf(a.out, "%s: not calibrated\n", class)
		return finish(results.ExitHarness)
	}
	fmt.Fprintf(a.out, "%s: %s\n\n", class, c.Text())
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "kind\tplanted\tmetric\tcalled a regression\ttrials\topen\t95 % bounds\t")
	for _, r := range c.Rates {
		fmt.Fprintf(w, "%s\t%+.3g %%\t%s\t%d\t%d\t%d\t%s\t\n", r.Kind, 100*r.Effect, cmp.Or(r.Metric, "any"), r.Events, r.Trials, r.Open, bounds(r))
	}
	for _, s := range c.Shifts {
		fmt.Fprintf(w, "link order %s\t\t%s\t%+.2f %%\t\t%d\t%+.2f to %+.2f %%\t\n", s.Variant, s.Metric, 100*s.Change, s.Epochs, 100*s.Lower, 100*s.Upper)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, m := range []string{"p50", "p90"} {
		fmt.Fprintf(a.out, "least fail margin of %s: %.3g %%\n", m, 100*c.Floor(m))
	}
	fmt.Fprintf(a.out, "time of a run: %v at the 95th percentile; trials of %s of assay\n", c.P95.Round(100*time.Millisecond), plural(c.Builds, "build"))
	return nil
}
