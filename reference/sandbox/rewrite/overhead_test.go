package rewrite_test

import (
	"context"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/assay-bench/assay/fixtures/wasm"
	"github.com/assay-bench/assay/reference/sandbox/rewrite"
	"github.com/tetratelabs/wazero"
)

// emptyLoop counts its parameter down.
func emptyLoop() []byte {
	return one([]byte{i32}, []byte{i32},
		loop, void, get, 0, constI32, 1, sub, tee, 0, brIf, 0, end, get, 0).bytes()
}

// workloads are the loops that the cost of metering is measured on, each of about a millisecond.
func workloads() []workload {
	return []workload{
		{"sum", benchWasm, "sum", 20},
		{"fnv", benchWasm, "fnv", 10},
		{"filter", benchWasm, "filter", 10},
		{"sieve", benchWasm, "sieve", 60},
		{"quicksort", benchWasm, "quicksort", 4},
		{"matrix", benchWasm, "matrix", 4},
		{"xorshift", benchWasm, "xorshift", 500_000},
		{"fib", benchWasm, "fib", 24},
		{"fib-twice", wasm.Module("fib"), "fib", 22},
		{"fib-O0", wasm.Module("compute-c-o0"), "fib", 21},
		{"sum-O1", wasm.Module("compute-c-o1"), "sum", 200},
		{"filter-O3", wasm.Module("compute-c-o3"), "filter", 100},
		{"empty", emptyLoop(), "f", 1_000_000},
	}
}

type workload struct {
	name     string
	wasm     []byte
	function string
	argument uint64
}

// pairsOfGuests is how many instances of each form a workload is measured on. Where an instance's stack and globals lie
// in memory moves the time of recursion by up to a third, in either form.
const pairsOfGuests = 6

// BenchmarkOverhead runs the original and the rewritten form by turns, on one thread, and reports the median, over
// pairs of instances, of the median ratio of the CPU time of two calls that follow each other.
// A refill comes every 100,000 units, as for a tenant.
func BenchmarkOverhead(b *testing.B) {
	for _, engine := range []string{"compiler", "interpreter"} {
		for _, w := range workloads() {
			b.Run(engine+"/"+w.name, func(b *testing.B) { measure(b, engine, w) })
		}
	}
}

func measure(b *testing.B, engine string, w workload) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	metered, _ := rewritten(b, w.wasm, rewrite.Options{Depth: 1024})
	if engine == "interpreter" {
		w.argument = max(1, w.argument/20)
		if w.function == "fib" {
			w.argument = 15
		}
	}
	var original, inserted [pairsOfGuests]func() time.Duration
	for pair := range pairsOfGuests {
		r := newRuntime(b, engines()[engine], 100_000)
		original[pair], inserted[pair] = w.timer(b, r, w.wasm), w.timer(b, r, metered)
	}
	var ratios [pairsOfGuests][]float64
	for i := -5; i < 0 || b.Loop(); i++ {
		for pair := range pairsOfGuests {
			var before, after time.Duration
			if i%2 == 0 {
				before, after = original[pair](), inserted[pair]()
			} else {
				after, before = inserted[pair](), original[pair]()
			}
			if i >= 0 { // warm
				ratios[pair] = append(ratios[pair], float64(after)/float64(before))
			}
		}
	}
	all := make([]float64, pairsOfGuests)
	for pair := range ratios {
		all[pair] = median(ratios[pair])
	}
	b.ReportMetric(median(all), "rewritten/original")
	b.ReportMetric(0, "ns/op")
}

// timer instantiates a guest and returns a call of the workload that says how long it took.
func (w workload) timer(b *testing.B, r wazero.Runtime, wasm []byte) func() time.Duration {
	b.Helper()
	guest := instantiate(b, r, wasm)
	if fill := guest.ExportedFunction("fill"); fill != nil {
		if _, err := fill.Call(b.Context(), 0); err != nil {
			b.Fatal(err)
		}
	}
	f, stack := guest.ExportedFunction(w.function), make([]uint64, 1)
	return func() time.Duration {
		stack[0] = w.argument
		start := cpuTime()
		if err := f.CallWithStack(context.Background(), stack); err != nil {
			b.Fatal(err)
		}
		return cpuTime() - start
	}
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
