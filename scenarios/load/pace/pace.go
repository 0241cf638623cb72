// Package pace waits for deadlines more exactly than the timers of Go do. It
// waits and nothing else: what is due, and who is late, its users know.
//
// Timers of the runtime are late by about 0.6 ms when idle (golang/go#44343).
// A Pacer sleeps in the kernel until shortly before the deadline and spins the
// rest on the clock.
package pace

import (
	"runtime"
	"sync/atomic"
	"time"
)

// DefaultSpin is how long before a deadline a pacer stops sleeping.
const DefaultSpin = 30 * time.Microsecond

// longestNap bounds one sleep, so that a halted pacer ends soon.
const longestNap = int64(10 * time.Millisecond)

// A Pacer waits for deadlines on the thread that called Lock. It stops sleeping Spin before a deadline, and up to
// Most before it where sleeps end late: a virtual machine may add 0.1 ms to each.
type Pacer struct {
	Now  func() int64 // the clock of the deadlines, in nanoseconds
	Spin int64        // nanoseconds before the deadline; 0: never spin
	Most int64        // nanoseconds; less than Spin: Spin
	late int64        // how late sleeps end, which most of them do not exceed
	nap  func(ns int64)
	halt atomic.Bool
}

// Margin is how long before a deadline the pacer stops sleeping, in nanoseconds.
func (p *Pacer) Margin() int64 {
	if p.Spin <= 0 {
		return 0
	}
	return max(p.Spin, min(p.late, p.Most))
}

// learn follows how late sleeps end: up fast and down slowly, so that four of five end earlier than that.
func (p *Pacer) learn(late int64) {
	if late > p.late {
		p.late += (min(late, 2*p.Most) - p.late) / 8
	} else {
		p.late -= (p.late - late) / 32
	}
}

// Lock ties the calling goroutine to its thread and makes the thread's timers
// exact. The goroutine should end locked: its thread then ends with it instead
// of going back to the runtime. It must be called before Wait.
func (p *Pacer) Lock() {
	runtime.LockOSThread()
	p.nap = newNap()
}

// Wait returns at the deadline, at once when that is past, with the time that it
// saw; ok is false once the pacer is halted.
func (p *Pacer) Wait(deadline int64) (now int64, ok bool) {
	for {
		now = p.Now()
		left := deadline - now
		switch {
		case p.halt.Load():
			return now, false
		case left <= 0:
			return now, true
		case left > p.Margin():
			p.Nap(left - p.Margin())
		}
	}
}

// Nap sleeps in the kernel for about so many nanoseconds, 10 ms at most.
func (p *Pacer) Nap(ns int64) {
	ns = min(ns, longestNap)
	if p.Most <= p.Spin {
		p.nap(ns)
		return
	}
	end := p.Now() + ns
	p.nap(ns)
	p.learn(max(p.Now()-end, 0))
}

// Halt makes the Wait under way and every later one return false.
func (p *Pacer) Halt() { p.halt.Store(true) }

// Halted tells whether Halt was called.
func (p *Pacer) Halted() bool { return p.halt.Load() }
