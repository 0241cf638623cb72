package sandbox

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/tetratelabs/wazero/api"

	"github.com/assay-bench/assay/reference/defect"
)

const (
	// fuelSlice is what a refill grants. A guest leaves compiled code at least this often, so that the
	// collector never waits longer than a slice takes (tens of microseconds).
	fuelSlice = 100_000

	// longSlice is fuelSlice with defect.SandboxSlicesLong: tens of milliseconds.
	longSlice = 4_000 * fuelSlice

	// fuelPerMilli makes the cap on units of a tier. The cheapest code spends 0.04 ns a unit: a cap below
	// this would end such a guest before its promised milliseconds are over.
	fuelPerMilli = 25_000_000

	// lateClock bounds what is charged for the time before the clock of the thread is first read.
	lateClock = int64(2 * time.Millisecond)

	// unmeteredBound ends calls that a planted defect leaves without a quota. An unmetered loop gets a part of
	// it, so that its caller is still there when it ends.
	unmeteredBound = 3 * time.Second // of a call
)

// stop is the error with which the host ends a guest.
type stop struct {
	class string
	text  string
	cause error // for errors.Is; may be nil
}

func (s *stop) Error() string { return s.text }
func (s *stop) Unwrap() error { return s.cause }

// meter charges one call at a time. It is used by the goroutine of the call only, which stays on its
// thread.
//
// The clock of the thread costs two system calls, more than a short call itself. It is first read at the
// first refill or host function; calls that end before are charged the time that passed, which is never
// less than the CPU time.
type meter struct {
	fuel    api.MutableGlobal
	version *version
	turn    *turn
	defects defect.Set

	ctx     context.Context
	quota   Quota
	granted int64
	began   time.Time
	running bool  // the clock of the thread was read
	base    int64 // of the thread's clock, at the beginning of the call
	free    int64 // nanoseconds in host functions that are not charged
}

func (m *meter) slice() int64 {
	if m.defects.On(defect.SandboxSlicesLong) {
		return longSlice
	}
	return fuelSlice
}

// begin starts a call with one slice of fuel.
func (m *meter) begin(ctx context.Context, q Quota) {
	m.ctx, m.quota = ctx, q
	m.granted = min(m.slice(), q.Fuel)
	m.fuel.Set(uint64(m.granted))
	m.began, m.running, m.free = time.Now(), false, 0
}

// end returns what the call cost.
func (m *meter) end() (fuel, micros int64) {
	fuel = m.used()
	if m.defects.On(defect.SandboxFuelRandom) {
		fuel += rand.Int64N(1 << 20)
	}
	nanos := int64(time.Since(m.began))
	if m.running {
		nanos = m.cpu()
	}
	m.ctx = nil
	return fuel, (nanos + 999) / 1000
}

// used is exact but for a trap in a short loop, which leaves up to four passes uncharged, always the same ones.
func (m *meter) used() int64 { return m.granted - int64(m.fuel.Get()) }

// cpu is the charged CPU time of the call in nanoseconds.
func (m *meter) cpu() int64 {
	now := threadNanos()
	if !m.running {
		m.running = true
		m.base = now - min(int64(time.Since(m.began)), lateClock)
	}
	return now - m.base - m.free
}

// refill grants the next slice, and more when one bulk operation cost more, or ends the guest.
func (m *meter) refill() {
	left := int64(m.fuel.Get())
	if s := m.over(m.granted - left); s != nil {
		panic(s)
	}
	grant := m.slice()
	if left < 0 {
		grant -= left
	}
	m.granted += grant
	m.fuel.Set(uint64(left + grant))
	m.pause()
}

// pause lets other long calls have their turn. The wait is none of the guest's CPU time.
func (m *meter) pause() {
	if err := m.turn.pause(m.ctx, time.Duration(m.cpu())); err != nil {
		panic(err)
	}
}

// over says why the guest has to end, or nil.
func (m *meter) over(used int64) *stop {
	if m.defects.On(defect.SandboxCPUUnmetered) {
		if time.Since(m.began) < m.version.sandbox.bound*2/5 {
			return nil
		}
		return &stop{class: ClassFuel, text: "fuel exhausted: unmetered call"}
	}
	if used > m.quota.Fuel {
		return &stop{class: ClassFuel, text: fmt.Sprintf("fuel exhausted: %d units", m.quota.Fuel)}
	}
	if m.cpu() > int64(m.quota.CPU) {
		return &stop{class: ClassFuel, text: fmt.Sprintf("fuel exhausted: no slice after %s of CPU time", m.quota.CPU)}
	}
	return m.interrupted()
}

// interrupted says why the guest has to end though it is within its quota, or nil.
func (m *meter) interrupted() *stop {
	if m.ctx.Err() != nil {
		return &stop{class: ClassDeadline, text: "the caller gave up", cause: m.ctx.Err()}
	}
	if m.version.cut.Load() {
		return &stop{class: ClassHostError, text: "the version was replaced", cause: ErrClosed}
	}
	return nil
}

// hosted runs a host function and charges it. Its CPU time counts by itself, since it runs on the thread
// of the call; the quota is compared afterwards.
func (m *meter) hosted(do func()) {
	before := m.cpu()
	do()
	after := m.cpu()
	if m.defects.On(defect.SandboxHostTimeFree) {
		m.free += after - before
		if time.Since(m.began) > m.version.sandbox.bound {
			panic(&stop{class: ClassDeadline, text: "deadline: free host time"})
		}
		return
	}
	if after > int64(m.quota.CPU) && !m.defects.On(defect.SandboxCPUUnmetered) {
		panic(&stop{class: ClassDeadline, text: fmt.Sprintf("deadline: %s of CPU time are over", m.quota.CPU)})
	}
	if s := m.interrupted(); s != nil {
		panic(s)
	}
	m.pause()
}

// spin uses CPU time in the host until the quota or d is over.
func (m *meter) spin(d time.Duration) {
	most := m.version.sandbox.bound
	if !m.defects.On(defect.SandboxHostTimeFree) && !m.defects.On(defect.SandboxCPUUnmetered) {
		most = m.quota.CPU - time.Duration(m.cpu()) + time.Millisecond
	}
	until := threadNanos() + int64(min(d, most))
	for threadNanos() < until && m.ctx.Err() == nil {
	}
}
