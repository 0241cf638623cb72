// Package load is an open-loop load engine: arrivals follow a seeded schedule
// that no response can change, every latency counts from the intended start,
// and every arrival ends as ok, error, timeout or unsent. Several nodes can play
// one schedule, each its segment; Merge puts their results together.
//
// It measures and it judges only its own measurement (VALID or INVALID); it has
// no opinion on the latencies. Of the house it imports results/histogram alone.
// It reads the real clock and opens connections only through the dialer it is
// given, because pacing against a fake clock would measure nothing.
//
// Words, all in int64 nanoseconds of the monotonic clock: the intended time is
// when an arrival should start; hand-over is when the pacer passes it on; start
// is just before its first byte enters the socket (or the call begins); end is
// the last byte of the reply, the error or the timeout; the last byte counts when
// the kernel took it in, where it tells (package arrival). Response = end −
// intended, service = end − start, lateness = start − intended, pacer lateness
// = hand-over − intended.
//
// Tried: a mutex and a ring as queue to the workers. Lost: arrivals are numbers
// in order, so one word is an unbounded queue without memory.
// Tried: arrays of intended and start times for the whole run. Lost: 16 bytes
// for every arrival of a soak; pages that are made ahead of the pacer and retire
// keep memory at what is in flight.
package load

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/assay-bench/assay/scenarios/load/pace"
)

// Defaults of Options.
const (
	DefaultTimeout   = 10 * time.Second
	DefaultSpin      = pace.DefaultSpin
	DefaultHostLimit = 0.5
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
	// spins; negative: never spin. It costs up to rate × Spin of one core. 0:
	// DefaultSpin, and longer where sleeps end late, for up to spinShare of the
	// mean gap between arrivals.
	Spin time.Duration
	// LatenessBound is the largest p99 lateness of a VALID run; 0: 1 % of the
	// reported p99 response.
	LatenessBound time.Duration
	// Segment is the share of this node; the zero value is the whole schedule.
	Segment Segment
	// StartAt is offset 0 by the wall clock, the same for all nodes of a run;
	// zero: as soon as everything is connected.
	StartAt time.Time
	// Clock estimates this machine's clock against the one that StartAt was
	// read from; the zero value is what the system says of its clock.
	Clock Clock
	// Version names the program in the result; empty: as it was built.
	Version string
	// HostLimit is the largest share of time that a VALID run may wait for a
	// processor, and that the hypervisor may take; 0: DefaultHostLimit, 1: any.
	HostLimit float64
	// BoundedPool declares that the pool of workers is part of what is
	// tested: the bound then holds for the pacer's lateness alone.
	BoundedPool bool
	// Progress, if set, is called about once a second from a goroutine of its
	// own and never after Run returns. It cannot delay the pacer; Run waits
	// for the last call to return.
	Progress func(Progress)

	adapt   bool          // Spin is nobody's wish
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
		o.Spin, o.adapt = DefaultSpin, true
	}
	if o.abandon == 0 {
		o.abandon = abandonAfter
	}
	if o.HostLimit == 0 {
		o.HostLimit = DefaultHostLimit
	}
	if o.Version == "" {
		o.Version = buildVersion()
	}
	if o.Clock == (Clock{}) {
		o.Clock = SystemClock()
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
	case !(o.HostLimit > 0) || o.HostLimit > 1:
		return o, fmt.Errorf("load options: host limit %v is outside 0 to 1", o.HostLimit)
	}
	if err := o.Segment.Validate(); err != nil {
		return o, err
	}
	if o.Segment.Of == 0 {
		o.Segment = Segment{Node: 1, Of: 1}
	}
	return o, nil
}

// spinShare is the share of a core that the pacer may spin for where sleeps end later than DefaultSpin.
const spinShare = 0.05

// pacer returns the pacer of arrivals that are so many nanoseconds apart.
func (o Options) pacer(gap float64) *pace.Pacer {
	p := &pace.Pacer{Now: o.now, Spin: max(int64(o.Spin), 0)}
	if o.adapt {
		p.Most = int64(spinShare * gap)
	}
	return p
}

// monotonic returns a clock in nanoseconds since the call, never 0.
func monotonic() func() int64 {
	base := time.Now()
	return func() int64 { return int64(time.Since(base)) + 1 }
}

// Progress is a look at a run under way.
type Progress struct {
	Elapsed              time.Duration // since the start of the schedule
	Scheduled, Handed    int64         // arrivals of this node in all, passed on so far
	OK, Errors, Timeouts int64         // ended until a moment ago
	P50, P99             time.Duration // response of what ended in the last second
	Intervals            []Interval    // that have ended since the last call, in order
}

// A Via is a way to send: *Mux or *Pool.
type Via interface {
	// open prepares everything that must exist before the first arrival.
	open(ctx context.Context, e *engine) (transport, error)
	mode() string
}

// A transport sends the arrivals of one run.
type transport interface {
	// hand passes this node's arrival j on, on the pacer's thread and in order;
	// it never blocks. Behind says that the pacer can not spare the time of a
	// write. due arrivals, j and those after it, are due; hand passes as many of
	// them on as take a few instructions together, one at least, and returns how
	// many those were.
	hand(j, due int64, behind bool) (handed int64)
	// handedAll is called once, after the last hand.
	handedAll()
	// stop ends every goroutine of the transport and waits for them. What is
	// not finished then stays in the table.
	stop() error
	// ends tells who dated the granted replies; only after stop.
	ends() string
}

// Run plays this node's share of the schedule through via and returns the
// measured result. When ctx ends, the run ends at once: what was not sent is
// unsent, what is in flight a timeout, and the result is INVALID. An error means
// that there is no result: nonsense in the input, a failed dial, a start time
// that is past, a Caller that does not return.
func Run(ctx context.Context, s Schedule, via Via, opt Options) (*Result, error) {
	opt, err := opt.withDefaults()
	if err != nil {
		return nil, err
	}
	played, err := s.Survey()
	if err != nil {
		return nil, err
	}
	share := opt.Segment.stripe()
	n := share.count(played.Count)
	if n == 0 {
		return nil, fmt.Errorf("%w: segment %s owns none of %d arrivals", ErrSchedule, opt.Segment, played.Count)
	}
	e := newEngine(s, share, n, opt)
	t, err := via.open(ctx, e)
	if err != nil {
		return nil, err
	}
	if err := e.begin(); err != nil {
		e.ending.Store(true)
		t.handedAll()
		return nil, errors.Join(err, t.stop())
	}
	host := watchHost()
	interrupted := e.play(ctx, t)
	e.endAt = opt.now()
	e.ending.Store(true)
	err = t.stop()
	e.stop()
	if err != nil {
		return nil, err
	}
	r, err := e.result(played, host.end())
	if err != nil {
		return nil, fmt.Errorf("load result: %w", err)
	}
	r.Mode, r.Ends = via.mode(), t.ends()
	r.judge(gate{opt: opt, handed: e.handed.Load(), interrupted: interrupted})
	return r, nil
}
