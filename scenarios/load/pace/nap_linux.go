package pace

import "golang.org/x/sys/unix"

// Kind names how a pacer sleeps on this system.
const Kind = "clock_nanosleep"

// newNap returns a sleep for the calling thread, which must be locked: late by
// the timer slack, set to 1 ns here, and a thread wake-up.
func newNap() func(ns int64) {
	// A refusal leaves 50 µs of slack, which lateness will show.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	return func(ns int64) {
		t := unix.NsecToTimespec(ns)
		// An early return (EINTR) is fine: the pacer looks at the clock again.
		_ = unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &t, nil)
	}
}
