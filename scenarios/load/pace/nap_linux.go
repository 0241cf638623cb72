package pace

import "golang.org/x/sys/unix"

// Kind names how a pacer sleeps on this system.
const Kind = "clock_nanosleep"

// newNap returns a sleep for the calling thread, which must be locked: late by
// the timer slack, set to 1 ns here, and a thread wake-up.
func newNap() func(ns int64) {
	// A refusal leaves 50 µs of slack, which lateness will show.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	raise()
	return func(ns int64) {
		t := unix.NsecToTimespec(ns)
		// An early return (EINTR) is fine: the pacer looks at the clock again.
		_ = unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &t, nil)
	}
}

// highestPriority is that of the real-time classes (sched(7)).
const highestPriority = 99

// raise puts the calling thread above the others of a process that is in a real-time class, as chrt starts it: among
// equals it would wait for a millisecond and more until another one sleeps. Other processes stay as they are, and a
// refusal shows as lateness.
func raise() {
	attr, err := unix.SchedGetAttr(0, 0)
	if err != nil || attr.Policy != unix.SCHED_RR && attr.Policy != unix.SCHED_FIFO || attr.Priority >= highestPriority {
		return
	}
	attr.Priority++
	_ = unix.SchedSetAttr(0, attr, 0)
}
