package sandbox

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"

	"github.com/assay-bench/assay/fixtures/wasm"
)

// median of pairs of batches that take turns: what the first costs in units of the second.
func ratio(tb testing.TB, pairs, batch int, a, b func()) float64 {
	tb.Helper()
	took := func(f func()) float64 {
		began := time.Now()
		for range batch {
			f()
		}
		return float64(time.Since(began))
	}
	took(a)
	took(b)
	ratios := make([]float64, pairs)
	for n := range ratios {
		ratios[n] = took(a) / took(b)
	}
	slices.Sort(ratios)
	return ratios[pairs/2]
}

// bare is the guest on wazero without a sandbox: the buffer ABI by hand.
func bare(tb testing.TB, module []byte, function string) func(input []byte) []byte {
	tb.Helper()
	ctx := context.Background()
	r := wazero.NewRuntime(ctx)
	tb.Cleanup(func() { _ = r.Close(ctx) })
	mod, err := r.Instantiate(ctx, module)
	if err != nil {
		tb.Fatal(err)
	}
	alloc, f := mod.ExportedFunction("alloc"), mod.ExportedFunction(function)
	stack := make([]uint64, 2)
	return func(input []byte) []byte {
		stack[0] = uint64(len(input))
		if err := alloc.CallWithStack(ctx, stack); err != nil {
			tb.Fatal(err)
		}
		mod.Memory().Write(uint32(stack[0]), input)
		stack[1] = uint64(len(input))
		if err := f.CallWithStack(ctx, stack); err != nil {
			tb.Fatal(err)
		}
		view, ok := mod.Memory().Read(uint32(stack[0]>>32), uint32(stack[0]))
		if !ok {
			tb.Fatal("output out of bounds")
		}
		return bytes.Clone(view)
	}
}

// warm is one instance that is kept, called through the ABI with its meter.
func warm(tb testing.TB, function string) func(input []byte) []byte {
	tb.Helper()
	r := newRig(tb, Config{})
	r.publish("enterprise", "echo-c", Upload{ABI: Buffer})
	_, v, err := r.serving("enterprise", "echo-c")
	if err != nil {
		tb.Fatal(err)
	}
	i, err := v.take(tb.Context(), newTurn(v))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { v.put(i, nil); v.release() })
	ctx := tb.Context()
	return func(input []byte) []byte {
		a, err := i.serve(ctx, Call{Function: function, Input: input})
		if err != nil {
			tb.Fatal(err)
		}
		return a.Output
	}
}

// invoker calls through everything: tenant, place, pool and reset.
func invoker(tb testing.TB, cfg Config) func() {
	tb.Helper()
	r := newRig(tb, cfg)
	r.publish("enterprise", "echo-c", Upload{ABI: Buffer})
	ctx, input := tb.Context(), make([]byte, 1024)
	return func() {
		if _, err := r.Invoke(ctx, "enterprise", "echo-c", Call{Function: "sum", Input: input}); err != nil {
			tb.Fatal(err)
		}
	}
}

// TestCosts holds bounds that are far from what is measured: it finds a mistake, not a percent.
func TestCosts(t *testing.T) {
	if raceEnabled {
		t.Log("the race detector changes what is compared: no ratios")
		return
	}
	input := make([]byte, 4096)
	b, w := bare(t, wasm.Module("echo-c"), "sum"), warm(t, "sum")
	if !bytes.Equal(b(input), w(input)) {
		t.Fatal("the two do not do the same")
	}
	abi := ratio(t, 15, 200, func() { w(input) }, func() { b(input) })
	pool := ratio(t, 15, 40, invoker(t, Config{Unpooled: true}), invoker(t, Config{}))
	t.Logf("warm call through the ABI: %.2f of wazero's bare call; a fresh instance: %.1f of a pooled one", abi, pool)
	if abi > 4 || pool < 1.5 {
		t.Errorf("warm call %.2f (want at most 4), fresh instance %.2f (want at least 1.5)", abi, pool)
	}
}

func BenchmarkWarmABI(b *testing.B) {
	input := make([]byte, 4096)
	plain, metered := bare(b, wasm.Module("echo-c"), "sum"), warm(b, "sum")
	for b.Loop() {
		metered(input)
	}
	b.ReportMetric(ratio(b, 31, 500, func() { metered(input) }, func() { plain(input) }), "x-bare")
}

func BenchmarkPooled(b *testing.B) {
	pooled := invoker(b, Config{})
	for b.Loop() {
		pooled()
	}
	b.ReportMetric(ratio(b, 31, 50, invoker(b, Config{Unpooled: true}), pooled), "fresh/pooled")
}

func BenchmarkReload(b *testing.B) {
	r := newRig(b, Config{})
	for b.Loop() {
		if _, err := r.try("enterprise", "m", versioned(int(r.last+1))); err != nil {
			b.Fatal(err)
		}
	}
}
