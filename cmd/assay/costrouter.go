package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/assay-bench/assay/models/engine/copycurve"
	"github.com/assay-bench/assay/models/engine/ort"
)

// runCopyCurve measures what copies between the caller and ONNX Runtime cost.
func (a *app) runCopyCurve(ctx context.Context, f costFlags) error {
	if f.rounds < 1 || f.rounds > 100_000 {
		return usagef("--rounds is %d, want 1 to 100000", f.rounds)
	}
	report, err := copycurve.Run(ctx, copycurve.Options{Library: f.library, Rounds: f.rounds, Seed: drawSeed(), Progress: func(done, total int) {
		fmt.Fprintf(a.err, "point %d of %d\n", done, total)
	}})
	if errors.Is(err, ort.ErrLibrary) {
		return usage(err)
	}
	if err != nil {
		return err
	}
	write := report.Markdown
	if f.json {
		write = report.JSON
	}
	if f.out == "" {
		return write(a.out)
	}
	return writeWhole(f.out, write)
}
