package cost

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// cpuOf runs f and returns the CPU time that this thread spent on it.
func cpuOf(f func() error) (time.Duration, error) {
	before, err := threadCPU()
	if err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	after, err := threadCPU()
	return after - before, err
}

func threadCPU() (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		return 0, fmt.Errorf("clock of the thread: %w", err)
	}
	return time.Duration(ts.Nano()), nil
}
