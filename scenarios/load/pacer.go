package load

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
)

// longestNap bounds one sleep, so that an interrupted run ends soon.
const longestNap = int64(10 * time.Millisecond)

// pacer waits for deadlines on a thread of its own: it sleeps until spin before
// the deadline and spins the rest. A deadline that is past is due now: arrivals
// are never skipped and never moved.
type pacer struct {
	now  func() int64
	nap  func(ns int64)
	spin int64
	halt atomic.Bool
}

// wait returns true at the deadline and false once the pacer is halted.
func (p *pacer) wait(deadline int64) bool {
	for {
		left := deadline - p.now()
		switch {
		case p.halt.Load():
			return false
		case left <= 0:
			return true
		case left > p.spin:
			p.nap(min(left-p.spin, longestNap))
		}
	}
}

// play hands every arrival to t at its intended time and waits for the end: all
// finished, the drain limit, or ctx. It tells whether ctx ended it.
func (e *engine) play(ctx context.Context, t transport) (interrupted bool) {
	defer context.AfterFunc(ctx, func() { e.pacer.halt.Store(true) })()
	paced := make(chan struct{})
	e.startAt = time.Now().Add(startLead)
	e.t0 = e.opt.now() + int64(startLead)
	e.startProgress()
	go func() {
		defer close(paced)
		// The goroutine ends locked: its thread, whose timers were made
		// exact, ends with it instead of going back to the runtime.
		runtime.LockOSThread()
		e.pacer.nap = newNap()
		e.pace(t)
		t.handedAll()
	}()
	<-paced
	drain := time.NewTimer(e.opt.Drain)
	defer drain.Stop()
	if e.handed.Load() == e.scheduled() {
		select {
		case <-e.done:
		case <-drain.C:
		case <-ctx.Done():
		}
	}
	return ctx.Err() != nil && e.finished.Load() < e.scheduled()
}

// startLead is how far ahead of the first arrival the clock zero is put, so
// that the pacer's thread is up by then.
const startLead = time.Millisecond

// pace is the loop of the pacer's thread.
func (e *engine) pace(t transport) {
	for id, offset := range e.offsets {
		if !e.pacer.wait(e.t0 + offset) {
			return
		}
		e.pacerLateness.Record(e.opt.now() - e.t0 - offset)
		e.handed.Store(int64(id) + 1)
		t.hand(int64(id))
	}
}

// pacerNotes says what a reader must know about the pacing of this run.
func pacerNotes(spin time.Duration) []string {
	notes := []string{fmt.Sprintf("pacer: %s on %s, spin %v", napKind, runtime.GOOS, max(spin, 0))}
	if p, n := runtime.GOMAXPROCS(0), runtime.NumCPU(); p <= n {
		notes = append(notes, fmt.Sprintf("pacer: GOMAXPROCS is %d on %d cores; with %d the pacer need not wait for a processor", p, n, n+1))
	}
	return notes
}
