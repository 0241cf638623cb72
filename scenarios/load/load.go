// Package load is an open-loop load engine: arrivals follow a seeded schedule
// that no response can change, every latency counts from the intended start,
// and every arrival ends as ok, error, timeout or unsent.
//
// It measures and it judges only its own measurement (VALID or INVALID); it has
// no opinion on the latencies. Of the house it imports results/histogram alone.
// It reads the real clock and opens connections only through the dialer it is
// given, because pacing against a fake clock would measure nothing.
//
// Words, all in int64 nanoseconds of the monotonic clock: the intended time is
// when an arrival should start; hand-over is when the pacer passes it on; start
// is just before its first byte enters the socket (or the call begins); end is
// the last byte of the reply, the error or the timeout. Response = end −
// intended, service = end − start, lateness = start − intended, pacer lateness
// = hand-over − intended.
//
// Tried: a mutex and a ring as queue to the workers. Lost: arrivals are numbers
// in order, so two counters are an unbounded queue without memory.
// Tried: one array of start times for the whole run. Lost: 8 bytes for every
// arrival of a soak; pages that retire keep memory at what is in flight.
package load

import (
	"context"
	"fmt"
	"time"
)

// Defaults of Options.
const (
	DefaultTimeout = 10 * time.Second
	DefaultSpin    = 30 * time.Microsecond
)

const (
	maxTimeout = time.Hour // the range of the histograms
	maxDrain   = 24 * time.Hour
)

// Options tune a run; the zero value is usable.
type Options struct {
	// Timeout ends a request this long after its start; 0: DefaultTimeout.
	Timeout time.Duration
	// Drain is how long to wait after the last arrival; 0: Timeout. What is
	// queued then is unsent, what is in flight is a timeout.
	Drain time.Duration
	// Spin is how long before each deadline the pacer stops sleeping and
	// spins; 0: DefaultSpin, negative: never spin. It costs up to
	// rate × Spin of one core.
	Spin time.Duration
	// LatenessBound is the largest p99 lateness of a VALID run; 0: 1 % of the
	// reported p99 response.
	LatenessBound time.Duration
	// BoundedPool declares that the pool of workers is part of what is
	// tested: the bound then holds for the pacer's lateness alone.
	BoundedPool bool
	// Progress, if set, is called about once a second from a goroutine of its
	// own and never after Run returns. It cannot delay the pacer; Run waits
	// for the last call to return.
	Progress func(Progress)

	now     func() int64  // replaces the monotonic clock in tests
	abandon time.Duration // how long calls may outlive their context
}

// withDefaults fills in zeroes and refuses nonsense.
func (o Options) withDefaults() (Options, error) {
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Drain == 0 {
		o.Drain = o.Timeout
	}
	if o.Spin == 0 {
		o.Spin = DefaultSpin
	}
	if o.abandon == 0 {
		o.abandon = abandonAfter
	}
	if o.now == nil {
		o.now = monotonic()
	}
	switch {
	case o.Timeout < 0 || o.Timeout > maxTimeout:
		return o, fmt.Errorf("load options: timeout %v is outside 0 to %v", o.Timeout, maxTimeout)
	case o.Drain < 0 || o.Drain > maxDrain:
		return o, fmt.Errorf("load options: drain %v is outside 0 to %v", o.Drain, maxDrain)
	case o.LatenessBound < 0:
		return o, fmt.Errorf("load options: lateness bound %v is negative", o.LatenessBound)
	}
	return o, nil
}

// monotonic returns a clock in nanoseconds since the call, never 0.
func monotonic() func() int64 {
	base := time.Now()
	return func() int64 { return int64(time.Since(base)) + 1 }
}

// Progress is a look at a run under way.
type Progress struct {
	Elapsed              time.Duration // since the start of the schedule
	Scheduled, Handed    int64         // arrivals in all, passed on so far
	OK, Errors, Timeouts int64
}

// A Via is a way to send: *Mux or *Pool.
type Via interface {
	// open prepares everything that must exist before the first arrival.
	open(ctx context.Context, e *engine) (transport, error)
	mode() string
}

// A transport sends the arrivals of one run.
type transport interface {
	// hand passes arrival id on, on the pacer's thread and in order; it never
	// blocks.
	hand(id int64)
	// handedAll is called once, after the last hand.
	handedAll()
	// stop ends every goroutine of the transport and waits for them. What is
	// not finished then stays in the table.
	stop() error
}

// Run plays the schedule through via and returns the measured result. When ctx
// ends, the run ends at once: what was not sent is unsent, what is in flight a
// timeout, and the result is INVALID. An error means that there is no result:
// nonsense in the input, a failed dial, a Caller that does not return.
func Run(ctx context.Context, s Schedule, via Via, opt Options) (*Result, error) {
	opt, err := opt.withDefaults()
	if err != nil {
		return nil, err
	}
	offsets, err := s.Offsets()
	if err != nil {
		return nil, err
	}
	e := newEngine(offsets, s.Duration, opt)
	t, err := via.open(ctx, e)
	if err != nil {
		return nil, err
	}
	interrupted := e.play(ctx, t)
	e.endAt = opt.now()
	e.ending.Store(true)
	err = t.stop()
	e.stopProgress()
	if err != nil {
		return nil, err
	}
	return e.result(s, via.mode(), interrupted)
}
