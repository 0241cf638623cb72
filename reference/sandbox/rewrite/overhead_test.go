package rewrite_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/assay-bench/assay/reference/sandbox/rewrite"
	"github.com/tetratelabs/wazero/api"
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
		{"empty", emptyLoop(), "f", 1_000_000},
	}
}

type workload struct {
	name     string
	wasm     []byte
	function string
	argument uint64
}

// BenchmarkOverhead runs the original and the rewritten form by turns and reports the ratio of the medians.
// A refill comes every 100,000 units, as for a tenant.
func BenchmarkOverhead(b *testing.B) {
	for _, engine := range []string{"compiler", "interpreter"} {
		for _, w := range workloads() {
			b.Run(engine+"/"+w.name, func(b *testing.B) { measure(b, engine, w) })
		}
	}
}

func measure(b *testing.B, engine string, w workload) {
	r := newRuntime(b, engines()[engine], 100_000)
	metered, _ := rewritten(b, w.wasm, rewrite.Options{Depth: 1024})
	guests := [2]api.Module{instantiate(b, r, w.wasm), instantiate(b, r, metered)}
	if engine == "interpreter" {
		w.argument = max(1, w.argument/20)
		if w.function == "fib" {
			w.argument = 16
		}
	}
	var calls [2]func() time.Duration
	for i, guest := range guests {
		if fill := guest.ExportedFunction("fill"); fill != nil {
			if _, err := fill.Call(context.Background(), 0); err != nil {
				b.Fatal(err)
			}
		}
		f, stack := guest.ExportedFunction(w.function), make([]uint64, 1)
		calls[i] = func() time.Duration {
			stack[0] = w.argument
			start := time.Now()
			if err := f.CallWithStack(context.Background(), stack); err != nil {
				b.Fatal(err)
			}
			return time.Since(start)
		}
	}
	var taken [2][]time.Duration
	for range 5 { // warm up
		calls[0]()
		calls[1]()
	}
	for i := 0; b.Loop(); i++ {
		for side := range 2 {
			side = (side + i) % 2
			taken[side] = append(taken[side], calls[side]())
		}
	}
	b.ReportMetric(float64(median(taken[1]))/float64(median(taken[0])), "rewritten/original")
	b.ReportMetric(float64(median(taken[1])), "ns-rewritten")
	b.ReportMetric(0, "ns/op")
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}
