package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// spentCPU is the CPU time of this process so far, of all its threads.
func spentCPU() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
