package load

import "golang.org/x/sys/unix"

const napKind = "clock_nanosleep"

// newNap returns a sleep for the calling thread, which must be locked. Timers
// of the Go runtime are late by about 0.6 ms when idle (golang/go#44343); this
// one is late by the timer slack, set to 1 ns here, and a thread wake-up.
func newNap() func(ns int64) {
	// A refusal leaves 50 µs of slack, which lateness will show.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	return func(ns int64) {
		t := unix.NsecToTimespec(ns)
		// An early return (EINTR) is fine: the pacer looks at the clock again.
		_ = unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &t, nil)
	}
}
