//go:build !linux

package sandbox

import "time"

// epoch is when the process began, as far as this clock knows.
var epoch = time.Now()

// threadNanos stands in for the CPU time of the thread where there is no clock for it: time that passes.
func threadNanos() int64 { return int64(time.Since(epoch)) }
