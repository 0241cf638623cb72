package main

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"
)

// line is one workload for the terminal.
func (r row) line() string {
	text := fmt.Sprintf("%-28s k6 %8.2f µs", r.title, median(r.perCall[viaK6])/1e3)
	for _, e := range natives {
		q := r.ratios(e)
		text += fmt.Sprintf("   %s %7.2f µs, %.1fx (%.1f to %.1f)", e, median(r.perCall[e])/1e3, median(q), q[0], q[len(q)-1])
	}
	return text
}

// report is the published page.
func (c config) report(rows []row) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# CPU of the generator for each call: k6 JavaScript and assay

One call costs the generator so many microseconds of CPU (user and system, getrusage of the child process).
The times are the median of %d interleaved rounds with the best in brackets; a ratio is k6's cost over
assay's of the same round, its median with the smallest and the largest. Start-up is taken out: each figure
is the difference of two runs over the difference of their calls.

| call | k6 JavaScript | assay, closed | ratio | assay, open loop | ratio | wanted |
|---|--:|--:|--:|--:|--:|--:|
`, c.rounds)
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %s |", r.title, times(r.perCall[viaK6]))
		for _, e := range natives {
			q := r.ratios(e)
			fmt.Fprintf(&b, " %s | **%.1fx** (%.1f to %.1f) |", times(r.perCall[e]), median(q), q[0], q[len(q)-1])
		}
		fmt.Fprintf(&b, " %gx |\n", r.want)
	}
	fmt.Fprintf(&b, `
- k6 JavaScript: k6 v1.8.1, shared-iterations with %d virtual users, without summary and thresholds. TCP is
  the extension's own echo(), HTTP is k6/http, gRPC is k6/net/grpc.
- assay, closed: as many users that wait for their replies; what k6 does.
- assay, open loop: every arrival due at once, so that the pacer never waits. At a rate that leaves it
  time, the pacer also spins for up to 30 µs before each arrival, to be punctual: up to 3 %% of a core for each
  1,000 arrivals per second; where sleeps end later than that, for up to 5 %% of a core. k6 does not spend that
  (Options.Spin of the engine).
- The servers run in the parent process on the same machine; their CPU is not counted.

%s, %s/%s, %d cores, %s. Taken again with: cd cmd/assay-k6 && go build -o assay-k6 . && go run ./bench
-rounds %d -out ../../results/published/load/k6.md
`, c.users, runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), time.Now().UTC().Format(time.DateOnly), c.rounds)
	return b.String()
}

func times(ns []float64) string {
	return fmt.Sprintf("%.2f (%.2f) µs", median(ns)/1e3, slices.Min(ns)/1e3)
}
