package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/assay-bench/assay/fixtures/wasm"
	"github.com/assay-bench/assay/reference/sandbox/coldstart"
)

// coldGuests are the guests of three languages and four levels of optimisation.
func coldGuests() []coldstart.Guest {
	fib := func(name, built string) coldstart.Guest {
		return coldstart.Guest{
			Name: name, Built: built, Wasm: wasm.Module(name), Function: "fib", Args: []uint64{10}, Want: []uint64{55},
			Warm: &coldstart.Call{Function: "fib", Args: []uint64{15}, Want: []uint64{610}},
		}
	}
	golang := fib("echo-go", "Go, c-shared")
	golang.Samples = 5 // compiling it takes seconds
	return []coldstart.Guest{
		fib("fib", "WAT"), fib("compute-c-o0", "C, clang -O0"), fib("compute-c-o1", "C, clang -O1"),
		fib("compute-c", "C, clang -O2"), fib("compute-c-o3", "C, clang -O3"), golang,
	}
}

const (
	wasmOpt      = "wasm-opt"
	wasmOptLevel = "-O3"
)

// optimisedGuests puts the guests in C through wasm-opt where that is installed; the note says what it did to
// them, or that it is not there. What comes out twice is measured once.
func optimisedGuests(ctx context.Context, guests []coldstart.Guest) (out []coldstart.Guest, note string, err error) {
	if _, err := exec.LookPath(wasmOpt); err != nil {
		return nil, "wasm-opt is not installed (package binaryen): guests that it optimised are not measured.", nil
	}
	version, err := exec.CommandContext(ctx, wasmOpt, "--version").Output()
	if err != nil {
		return nil, "", fmt.Errorf("%s --version: %w", wasmOpt, err)
	}
	var sizes []string
	seen := map[string]bool{}
	for _, g := range guests {
		if !strings.HasPrefix(g.Built, "C,") {
			continue
		}
		before := len(g.Wasm)
		if g.Wasm, err = optimise(ctx, g.Wasm); err != nil {
			return nil, "", fmt.Errorf("guest %s: %w", g.Name, err)
		}
		sizes = append(sizes, fmt.Sprintf("%s from %d to %d bytes", g.Name, before, len(g.Wasm)))
		if seen[string(g.Wasm)] {
			continue
		}
		seen[string(g.Wasm)] = true
		g.Name, g.Built = g.Name+"-opt", g.Built+", "+wasmOpt+" "+wasmOptLevel
		out = append(out, g)
	}
	return out, fmt.Sprintf("%s %s takes %s. Outputs that are the same are measured once.",
		strings.TrimSpace(string(version)), wasmOptLevel, strings.Join(sizes, ", ")), nil
}

// optimise returns what wasm-opt makes of a module.
func optimise(ctx context.Context, module []byte) ([]byte, error) {
	cmd := exec.CommandContext(ctx, wasmOpt, "--enable-bulk-memory", wasmOptLevel, "-", "-o", "-")
	var complaint bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(module), &complaint
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %.200s", wasmOpt, err, complaint.String())
	}
	return out, nil
}

func (a *app) runColdStart(ctx context.Context, f costFlags) error {
	guests := coldGuests()
	optimised, note, err := optimisedGuests(ctx, guests)
	if err != nil {
		return err
	}
	report, err := coldstart.Run(ctx, coldstart.Options{
		Samples: f.rounds, Budget: time.Minute, Guests: append(guests, optimised...), Seed: drawSeed(),
	})
	if err != nil {
		return err
	}
	report.Notes = append(report.Notes, note)
	write := report.Markdown
	if f.json {
		write = report.JSON
	}
	if f.out == "" {
		return write(a.out)
	}
	return writeWhole(f.out, write)
}
