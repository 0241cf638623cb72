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

// A Pacer waits for deadlines on the thread that called Lock.
type Pacer struct {
	Now  func() int64 // the clock of the deadlines, in nanoseconds
	Spin int64        // nanoseconds before the deadline; 0: never spin
	nap  func(ns int64)
	halt atomic.Bool
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
		case left > p.Spin:
			p.Nap(left - p.Spin)
		}
	}
}

// Nap sleeps in the kernel for about so many nanoseconds, 10 ms at most.
func (p *Pacer) Nap(ns int64) { p.nap(min(ns, longestNap)) }

// Halt makes the Wait under way and every later one return false.
func (p *Pacer) Halt() { p.halt.Store(true) }

// Halted tells whether Halt was called.
func (p *Pacer) Halted() bool { return p.halt.Load() }
