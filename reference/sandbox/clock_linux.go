package sandbox

import "golang.org/x/sys/unix"

// threadNanos is the CPU time that the calling thread has used. The caller has locked its goroutine to
// the thread.
func threadNanos() int64 {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) != nil {
		return 0 // never on Linux since 2.6; fuel still ends the call
	}
	return t.Nano()
}
