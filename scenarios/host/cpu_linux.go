package host

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/assay-bench/assay/chaos"
)

// ProcessCPU is the processor time that processes have used since they began, threads that ended included,
// in nanoseconds' resolution (clock_getcpuclockid(3)).
func ProcessCPU(tree []chaos.Process) (total time.Duration, err error) {
	if len(tree) == 0 {
		return 0, errors.New("processor time: no process is known")
	}
	for _, p := range tree {
		const sched = 2 // CPUCLOCK_SCHED: of all threads, counted by the scheduler
		n, err := clock(int32(^p.PID<<3 | sched))
		if err != nil {
			return 0, fmt.Errorf("processor time of process %d: %w", p.PID, err)
		}
		total += n
	}
	return total, nil
}

// ThreadCPU is the processor time of the calling thread; lock the goroutine to it.
func ThreadCPU() (time.Duration, error) { return clock(unix.CLOCK_THREAD_CPUTIME_ID) }

func clock(id int32) (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(id, &ts); err != nil {
		return 0, err
	}
	return time.Duration(ts.Nano()), nil
}
