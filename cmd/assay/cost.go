package main

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-bench/assay/reference/pqtls/cost"
	"github.com/assay-bench/assay/results"
)

// costFlags are the flags of assay cost.
type costFlags struct {
	rounds int
	chains []string
	tcp    bool
	json   bool
	out    string
	// library is ONNX Runtime's file or folder.
	library string
	loadGen loadGenFlags
}

func (a *app) costCommand() *cobra.Command {
	var f costFlags
	cmd := &cobra.Command{
		Use: "cost [tls | sandbox | router | loadgen]", GroupID: "target", Args: cobra.MaximumNArgs(1), ValidArgs: []string{"tls", "sandbox", "router", "loadgen"},
		Short: "measure what a TLS handshake, a cold start of a WebAssembly guest, a copied tensor or a routed request costs",
		Long: `cost tls, the default, makes handshakes of the reference with itself, every combination once
a round, and prints CPU of both ends, wall time, bytes and flights, with ratios to X25519 of
the same rounds and the cost of the primitives beneath.

cost sandbox starts guests from bytes, from the disk cache, from compiled code and from a
pool, up to an instance and up to a checked first result, and prints the cost of fuel and of
the runtime's own deadline, beside what others publish. Guests in C are measured a second time
as wasm-opt leaves them, where that is installed.

cost router runs graphs in ONNX Runtime over sizes from 512 B to 16 MiB, by way of copies
and over the caller's own memory in turn, and prints the curve of the ratios.

cost loadgen plays the four scenarios of MLPerf's LoadGen over a router's decide operation, at
full length, with its early stopping: SingleStream, MultiStream, Offline with 24,576 samples, and
the highest rate of Server whose p99 is shown to be under --bound.

On shared cores trust ratios, not times.`,
		Example: "  assay cost\n  assay cost --rounds 2000 --chain 'ECDSA P-256'\n  assay cost sandbox --rounds 50\n  assay cost router --library ./libonnxruntime.so.1\n  assay cost loadgen --duration 60s --bound 20ms -o loadgen.md",
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0 || args[0] == "tls":
				return a.runCost(cmd.Context(), f)
			case args[0] == "sandbox":
				return a.runColdStart(cmd.Context(), f)
			case args[0] == "router":
				return a.runCopyCurve(cmd.Context(), f)
			case args[0] == "loadgen":
				return a.runLoadGen(cmd.Context(), f)
			}
			return usagef("cost of %q is not measured: want tls, sandbox, router or loadgen", args[0])
		},
	}
	fl := cmd.Flags()
	fl.IntVar(&f.rounds, "rounds", 100, "handshakes of every combination, samples of every start, rounds of every size; 2,000 and 100 give a p99")
	fl.StringArrayVar(&f.chains, "chain", nil, "certificate chain to measure (repeatable; default: all)")
	fl.BoolVar(&f.tcp, "tcp", false, "over loopback TCP in place of a pipe in memory")
	fl.StringVar(&f.library, "library", "", "file or folder of ONNX Runtime (default: $ASSAY_ONNXRUNTIME, or where pip, npm and the system put it)")
	fl.StringVar(&f.loadGen.target, "target", "", "loadgen: file or URL of the router (default: the reference stack)")
	fl.DurationVar(&f.loadGen.duration, "duration", time.Minute, "loadgen: least duration of a scenario; LoadGen asks for 10m")
	fl.DurationVar(&f.loadGen.bound, "bound", 20*time.Millisecond, "loadgen: bound of Server's p99")
	fl.BoolVar(&f.json, "json", false, "print JSON in place of Markdown")
	fl.StringVarP(&f.out, "out", "o", "", "file to write to (default: standard output)")
	return cmd
}

func (a *app) runCost(ctx context.Context, f costFlags) error {
	if f.rounds < 1 || f.rounds > 100_000 {
		return usagef("--rounds is %d, want 1 to 100000", f.rounds)
	}
	cells, err := cost.Grid(f.chains...)
	if err != nil {
		return usage(err)
	}
	report, err := a.measureCost(ctx, cells, f)
	if err != nil {
		return err
	}
	write := report.WriteMarkdown
	if f.json {
		write = report.WriteJSON
	}
	if f.out == "" {
		return write(a.out)
	}
	return writeWhole(f.out, write)
}

func (a *app) measureCost(ctx context.Context, cells []cost.Cell, f costFlags) (*cost.Report, error) {
	r := &cost.Report{
		APIVersion: results.APIVersion, Kind: "cost", Go: runtime.Version(), Host: aboutHost().CPU, Transport: "a pipe in memory", Rounds: f.rounds,
	}
	if f.tcp {
		r.Transport = "loopback TCP"
	}
	step := max(1, f.rounds/10)
	samples, err := cost.Measure(ctx, cells, cost.Options{Rounds: f.rounds, TCP: f.tcp, Progress: func(done, total int) {
		if done%step == 0 {
			fmt.Fprintf(a.err, "round %d of %d\n", done, total)
		}
	}})
	if err != nil {
		return nil, err
	}
	r.Rows = cost.Summarise(cells, samples)
	r.PSK = cost.RatioOf(samples, "PSK+X25519MLKEM768 ECDSA P-256", "PSK+X25519 ECDSA P-256")
	if r.Primitives, err = cost.Primitives(f.rounds); err != nil {
		return nil, err
	}
	r.Baseline, err = cost.MeasureReuse(ctx, cost.Workload{Workers: 8, Requests: 50, Pause: time.Millisecond})
	return r, err
}
