// Command assay runs conformance and latency suites against the reference stack or any target, judges
// the evidence and writes reports. It is the only place that wires the parts of the house together.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

func main() {
	// the load engine's pacer needs a processor that no other goroutine waits for
	runtime.GOMAXPROCS(runtime.NumCPU() + 1)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(int(code))
}
