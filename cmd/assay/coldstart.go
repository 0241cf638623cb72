package main

import (
	"context"
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

func (a *app) runColdStart(ctx context.Context, f costFlags) error {
	report, err := coldstart.Run(ctx, coldstart.Options{Samples: f.rounds, Budget: time.Minute, Guests: coldGuests(), Seed: drawSeed()})
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
