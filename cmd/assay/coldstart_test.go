package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/assay-bench/assay/reference/sandbox/coldstart"
)

func TestWithoutWasmOpt(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	guests, note, err := optimisedGuests(t.Context(), coldGuests())
	if err != nil || len(guests) != 0 || !strings.Contains(note, "not installed") {
		t.Errorf("%d guests, %q, %v", len(guests), note, err)
	}
}

// TestWasmOpt measures what wasm-opt makes of the guests in C: their answers are compared there.
func TestWasmOpt(t *testing.T) {
	if _, err := exec.LookPath(wasmOpt); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("wasm-opt is not installed, and CI should have installed binaryen")
		}
		t.Skip("NOT RUN: wasm-opt is not installed")
	}
	guests, note, err := optimisedGuests(t.Context(), coldGuests())
	if err != nil {
		t.Fatal(err)
	}
	if len(guests) < 3 || !strings.Contains(note, "compute-c-o0 from") {
		t.Errorf("%d guests, %q", len(guests), note)
	}
	rows, err := coldstart.Measure(t.Context(), coldstart.Options{Samples: 3, Guests: guests, Engines: []coldstart.Engine{coldstart.Compiler}})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if r.N != 3 || r.Void != 0 || !r.Checked {
			t.Errorf("%+v", r)
		}
	}
	if len(rows) != 8*len(guests) {
		t.Errorf("%d rows of %d guests", len(rows), len(guests))
	}
	if _, err := optimise(t.Context(), []byte("not wasm")); err == nil || !strings.Contains(err.Error(), wasmOpt) {
		t.Errorf("not wasm: %v", err)
	}
}
