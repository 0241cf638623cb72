package gobench

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	benchparse "golang.org/x/tools/benchmark/parse"

	"github.com/assay-bench/assay/scenarios/target"
)

// maxOutput is what is read of a process's output.
const maxOutput = 4 << 20

// Command is what one process of a program runs.
type Command struct {
	Filter string // as go test's -bench
	Time   string // as go test's -benchtime
	Procs  int    // GOMAXPROCS
	Flags  []string
}

// Ran is what a process showed.
type Ran struct {
	PID     int
	Started time.Time
	Took    time.Duration
	Results map[string]Result // by name without Benchmark and GOMAXPROCS
}

// Result is one line of a benchmark.
type Result struct {
	Iterations int
	Figures    map[string]float64 // by unit: ns/op, B/op, allocs/op
}

// Failed says that a process of the program failed, or was not done in time: the product's fault, not the harness's.
type Failed struct {
	Late   bool
	Detail string
}

func (e *Failed) Error() string { return e.Detail }

// Run runs a process to its end. An error is *Failed, or the harness's own.
func (p Program) Run(ctx context.Context, c Command) (Ran, error) {
	args := append([]string{
		"-test.run=^$", "-test.bench=" + c.Filter, "-test.benchtime=" + c.Time, "-test.benchmem", "-test.count=1",
		"-test.cpu=" + strconv.Itoa(c.Procs),
	}, c.Flags...)
	out := Ran{Started: time.Now()}
	ran, err := target.Hook{
		Folder: p.Dir, Line: "{program} {args}", Fill: map[string]string{"program": p.Path}, Lists: map[string][]string{"args": args},
		Apart: true, Keep: maxOutput,
	}.Run(ctx)
	if err != nil {
		return out, err
	}
	out.PID, out.Took = ran.PID, time.Since(out.Started)
	if ran.Late || ran.Exit != 0 {
		return out, &Failed{ran.Late, fmt.Sprintf("%s: %s", ran.State, strings.TrimSpace(tail(ran.Output)+tail(ran.Errors)))}
	}
	out.Results = parse([]byte(ran.Output), c.Procs)
	return out, nil
}

// parse reads the lines of benchmarks; whatever else a process printed is passed over. Of a name that is there twice the
// first counts.
func parse(text []byte, procs int) map[string]Result {
	suffix := ""
	if procs != 1 {
		suffix = "-" + strconv.Itoa(procs)
	}
	out := map[string]Result{}
	for line := range strings.Lines(string(text)) {
		b, err := benchparse.ParseLine(line)
		if err != nil || b.N < 1 {
			continue
		}
		name := strings.TrimSuffix(strings.TrimPrefix(b.Name, "Benchmark"), suffix)
		if _, twice := out[name]; twice {
			continue
		}
		res := Result{Iterations: b.N, Figures: map[string]float64{}}
		for _, f := range []struct {
			unit  string
			bit   int
			value float64
		}{
			{Time, benchparse.NsPerOp, b.NsPerOp}, {Bytes, benchparse.AllocedBytesPerOp, float64(b.AllocedBytesPerOp)},
			{Allocs, benchparse.AllocsPerOp, float64(b.AllocsPerOp)},
		} {
			if b.Measured&f.bit != 0 && f.value >= 0 && !math.IsInf(f.value, 0) {
				res.Figures[f.unit] = f.value
			}
		}
		out[name] = res
	}
	return out
}

// The units that are compared.
const (
	Time   = "ns/op"
	Bytes  = "B/op"
	Allocs = "allocs/op"
)

// Function is the top-level benchmark that a name belongs to.
func Function(name string) string {
	f, _, _ := strings.Cut(name, "/")
	return f
}

// Only narrows a filter to one top-level benchmark.
func Only(filter, function string) string {
	only := "^Benchmark" + function + "$"
	if _, rest, ok := strings.Cut(filter, "/"); ok {
		only += "/" + rest
	}
	return only
}
