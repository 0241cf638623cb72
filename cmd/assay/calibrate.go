package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/host"
	"github.com/assay-bench/assay/scenarios/load/truth"
)

// calibrateCommand groups what measures the harness itself.
func (a *app) calibrateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "calibrate", GroupID: "publish", Args: none,
		Short: "measure the error of the instruments themselves",
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.calibrateLoadCommand(), a.calibrateGateCommand())
	return cmd
}

// calibrateLoadFlags are the flags of assay calibrate load.
type calibrateLoadFlags struct {
	plan     truth.Plan
	peers    bool
	fresh    bool
	dryRun   bool
	fromSend bool
	out      string
	markdown string
}

func (a *app) calibrateLoadCommand() *cobra.Command {
	var f calibrateLoadFlags
	cmd := &cobra.Command{
		Use:   "load [PATTERN...]",
		Short: "hold the load engine's latencies against known truth",
		Long: `calibrate load drives a server whose delays are known and compares what the load engine
reports with the exact quantiles of those delays at the intended arrivals. The server runs in
a process of its own and keeps its own account; a repetition in which it missed its own
schedule by more than 2 % is void, and so is one in which the generator was not in time.

A virtual machine that sleeps wakes up late, and repetitions are void for it. In a real-time
class (chrt -r 1 assay calibrate load) the processors are kept awake by processes of the idle
class, which take nothing from it.

Cells are named tool/rule/spacing/ample|starved/protocol: rules stall, fifo, exp, heavy;
spacing const or poisson; protocols tcp, http, grpc. Patterns pick cells, * within a part.
Every round measures each cell once, until 3 repetitions of each are valid.

The result is saved after each repetition, and a second call goes on where the first one
stopped. Later runs on this class of hosts print it with every latency. Exit codes: 0 all
bounds hold, 1 a bound is broken, 3 too few repetitions were valid.`,
		Example: "  assay calibrate load --quick\n  assay calibrate load 'assay/stall/*/*/tcp' --reps 5\n  assay calibrate load --deep\n  assay calibrate load --peers '*/*/const/starved/http'",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			f.plan.Patterns = args
			return a.runCalibrateLoad(cmd.Context(), f)
		},
	}
	fl := cmd.Flags()
	fl.BoolVar(&f.plan.Quick, "quick", false, "eight cells, one repetition: about a minute")
	fl.BoolVar(&f.plan.Deep, "deep", false, "100,000 samples a cell, so that p99.9 is scored; without a pattern: unstarved tcp")
	fl.IntVar(&f.plan.Need, "reps", 0, "valid repetitions of each cell (default 3, with --quick 1)")
	fl.Float64Var(&f.plan.Rate, "rate", 0, "arrivals per second (default 500)")
	fl.DurationVar(&f.plan.Duration, "duration", 0, "of a repetition, a multiple of 2s (default 8s, with --quick 4s)")
	fl.BoolVar(&f.peers, "peers", false, "score assay-k6, vegeta, fortio, ghz, wrk and h2load beside assay, as far as they are on PATH")
	fl.BoolVar(&f.fresh, "fresh", false, "forget what an earlier call measured")
	fl.BoolVar(&f.dryRun, "dry-run", false, "print the plan and the time it takes, measure nothing")
	fl.BoolVar(&f.fromSend, "from-send", false, "planted defect: take latencies from the send; the command must then fail")
	fl.StringVarP(&f.out, "out", "o", "", "file of the calibration (default: a file of this class of hosts in the user's cache)")
	fl.StringVar(&f.markdown, "markdown", "", "file for the table (default: standard output)")
	return cmd
}

func (a *app) runCalibrateLoad(ctx context.Context, f calibrateLoadFlags) error {
	if f.plan.Deep && len(f.plan.Patterns) == 0 {
		f.plan.Patterns = []string{"*/*/*/ample/tcp"}
	}
	if f.peers {
		f.plan.Peers = truth.Peers(exec.LookPath)
	}
	cells, err := f.plan.Cells()
	if err != nil {
		return usage(err)
	}
	fmt.Fprintf(a.err, "%s, %d valid repetitions of each: about %v\n", plural(len(cells), "cell"), f.plan.Repetitions(), f.plan.Time(cells).Round(time.Second))
	if f.dryRun {
		for _, c := range cells {
			fmt.Fprintf(a.out, "%s\t%v/s\t%v\n", c.Name(), c.Rate, c.Duration)
		}
		return nil
	}
	m, err := a.truthMatrix(f)
	if err != nil {
		return err
	}
	leanHeap()
	awake, err := a.stayAwake()
	if err != nil {
		return err
	}
	defer awake.Stop()
	m.Awake = awake.Any()
	earlier, err := earlierCalibration(f, m)
	if err != nil {
		return err
	}
	r, err := m.Run(ctx, cells, f.plan.Repetitions(), earlier)
	if r != nil {
		err = errors.Join(err, a.showCalibration(r, f.markdown))
	}
	if err != nil {
		return err
	}
	return finish(calibrationExit(r.Summary()))
}

// stayAwake keeps the processors from sleeping where this process is in a real-time class: there nothing that keeps them
// awake can be in its way, and a virtual machine that wakes up late makes repetitions void.
func (a *app) stayAwake() (host.Awake, error) {
	if !host.RealTime() || host.Limited() {
		return host.Awake{}, nil
	}
	cpus, err := host.Processors()
	if err != nil {
		return host.Awake{}, err
	}
	awake, err := host.KeepAwake(cpus)
	if err == nil {
		fmt.Fprintf(a.err, "a real-time class: %s kept awake\n", plural(len(cpus), "processor"))
	}
	return awake, err
}

// truthMatrix wires the matrix: this program is the truth server, too.
func (a *app) truthMatrix(f calibrateLoadFlags) (*truth.Matrix, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	out := f.out
	if out == "" && !f.fromSend {
		if out, err = calibrationFile(); err != nil {
			return nil, err
		}
	}
	return &truth.Matrix{
		Dial: scenarios.NewDialer(nil, 0).DialContext, Argv: []string{self, "truth-server"},
		Host: hostClass(), Version: toolVersion(), FromSend: f.fromSend, Peers: f.plan.Peers,
		Done: func(r *truth.Report, c truth.Cell, rep truth.Rep) error {
			a.sayRepetition(c, rep)
			if out == "" {
				return nil
			}
			return saveCalibration(out, r)
		},
	}, nil
}

// sayRepetition prints one line a repetition.
func (a *app) sayRepetition(c truth.Cell, rep truth.Rep) {
	what := "valid"
	switch {
	case rep.Problem != "":
		what = oneLine(rep.Problem)
	case !rep.Valid:
		what = fmt.Sprintf("void: %v, server %.1f %% off its own schedule", rep.Reasons, 100*rep.ServerError)
	}
	fmt.Fprintf(a.err, "%-36s %s\n", c.Name(), what)
}

func (a *app) showCalibration(r *truth.Report, file string) error {
	if file == "" {
		return r.Markdown(a.out)
	}
	return writeWhole(file, r.Markdown)
}

func saveCalibration(file string, r *truth.Report) error {
	raw, err := r.Encode()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return writeWhole(file, func(w io.Writer) error {
		_, err := w.Write(raw)
		return err
	})
}

// earlierCalibration reads what an earlier call measured with this version.
func earlierCalibration(f calibrateLoadFlags, m *truth.Matrix) (*truth.Report, error) {
	if f.fresh || f.fromSend {
		return nil, nil
	}
	file := f.out
	if file == "" {
		var err error
		if file, err = calibrationFile(); err != nil {
			return nil, err
		}
	}
	r, err := readCalibration(file)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, usagef("%s: %w; --fresh begins a new one", file, err)
	case r.Version != m.Version && f.out == "":
		return nil, nil // of an older program
	}
	return r, nil
}

func readCalibration(file string) (*truth.Report, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return truth.Decode(raw)
}

// calibrationExit: a broken bound fails, too few valid repetitions decide nothing.
func calibrationExit(s truth.Summary) results.Exit {
	switch {
	case len(s.Broken) > 0:
		return results.ExitFail
	case len(s.Undecided) > 0:
		return results.ExitInconclusive
	}
	return results.ExitPass
}

// calibrationFile is where the calibration of this class of hosts lies.
func calibrationFile() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", usagef("no place for the calibration: %w; name one with --out", err)
	}
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(hostClass()))
	return filepath.Join(dir, "assay", "calibration-"+name+".json"), nil
}

// hostClass names the machines that a calibration holds for.
func hostClass() string {
	h := aboutHost()
	cpu := h.CPU
	if cpu == "" {
		cpu = "unknown CPU"
	}
	return fmt.Sprintf("%d x %s, %s/%s", h.Cores, cpu, runtime.GOOS, runtime.GOARCH)
}

func toolVersion() string {
	t := aboutTool()
	return strings.TrimSpace(t.Version + " " + t.Revision)
}

// lastCalibration returns what was found on this class of hosts, nil if nothing
// was.
func lastCalibration() *results.Calibration {
	file, err := calibrationFile()
	if err != nil {
		return nil
	}
	r, err := readCalibration(file)
	if err != nil || r.FromSend || r.Host != hostClass() {
		return nil
	}
	s := r.Summary()
	c := &results.Calibration{Host: r.Host, Version: r.Version, Taken: r.Started, Cells: s.Cells, Decided: s.Decided, Broken: s.Broken}
	c.Unstarved, c.Starved = truth.Figure(s.Ample), truth.Figure(s.Starved)
	return c
}

// truthServerCommand is the server of the truth test.
func (a *app) truthServerCommand() *cobra.Command {
	return &cobra.Command{
		Use: "truth-server", Hidden: true, Args: none,
		Short: "serve known delays on loopback until standard input ends",
		RunE:  func(*cobra.Command, []string) error { return truth.Main(a.in, a.out, 0) },
	}
}
