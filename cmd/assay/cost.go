package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
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
}

func (a *app) costCommand() *cobra.Command {
	var f costFlags
	cmd := &cobra.Command{
		Use: "cost [tls | sandbox]", GroupID: "target", Args: cobra.MaximumNArgs(1), ValidArgs: []string{"tls", "sandbox"},
		Short: "measure what a TLS handshake or a cold start of a WebAssembly guest costs",
		Long: `cost tls, the default, makes handshakes of the reference with itself, every combination once
a round, and prints CPU of both ends, wall time, bytes and flights, with ratios to X25519 of
the same rounds and the cost of the primitives beneath.

cost sandbox starts guests from bytes, from the disk cache, from compiled code and from a
pool, up to an instance and up to a checked first result, and prints the cost of fuel and of
the runtime's own deadline, beside what others publish.

On shared cores trust ratios, not times.`,
		Example: "  assay cost\n  assay cost --rounds 2000 --chain 'ECDSA P-256'\n  assay cost sandbox --rounds 50",
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0 || args[0] == "tls":
				return a.runCost(cmd.Context(), f)
			case args[0] == "sandbox":
				return a.runColdStart(cmd.Context(), f)
			}
			return usagef("cost of %q is not measured: want tls or sandbox", args[0])
		},
	}
	fl := cmd.Flags()
	fl.IntVar(&f.rounds, "rounds", 100, "handshakes of every combination, samples of every start; 2,000 and 100 give a p99")
	fl.StringArrayVar(&f.chains, "chain", nil, "certificate chain to measure (repeatable; default: all)")
	fl.BoolVar(&f.tcp, "tcp", false, "over loopback TCP in place of a pipe in memory")
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

// writeWhole writes a file that is there whole or not at all.
func writeWhole(path string, write func(io.Writer) error) error {
	var buf bytes.Buffer
	if err := write(&buf); err != nil {
		return err
	}
	return results.WriteFileAtomic(path, buf.Bytes())
}
