package duet

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/assay-bench/assay/results/histogram"
	"github.com/assay-bench/assay/scenarios/load"
)

// Mode is how the arms take turns in an epoch (gate.md section 3.2).
type Mode string

// The modes. By request one request is in flight; by slice each arm gets open-loop load for a moment, by block as much as
// it takes from a number of users.
const (
	ByRequest Mode = ""
	BySlice   Mode = "slice"
	ByBlock   Mode = "block"
)

// Patterns of turns: each cancels a drift that is linear, that of slices a quadratic one as well. The polarity is drawn.
const (
	slicePattern = "ABBABAAB"
	blockPattern = "ABBA"
	dropped      = 3 // requests at the start of a turn that do not count
	maxRounds    = 64
	maxUsers     = 1024
)

// Longest and shortest turns, and what is usual.
const (
	ShortSlice = 80 * time.Millisecond
	LongSlice  = 250 * time.Millisecond
	UsualSlice = 120 * time.Millisecond
	ShortBlock = 2 * time.Second
	LongBlock  = 5 * time.Second
	UsualUsers = 16
)

// Check tells why a scenario can not be driven in its mode.
func (s Scenario) Check() error {
	if s.Mode == ByRequest {
		return nil
	}
	switch {
	case s.Mode != BySlice && s.Mode != ByBlock:
		return fmt.Errorf("mode %q is unknown", s.Mode)
	case s.Users < 1 || s.Users > maxUsers:
		return fmt.Errorf("%d users, want 1 to %d", s.Users, maxUsers)
	case s.Span <= 0:
		return errors.New("a turn needs a length")
	case s.Mode == BySlice && !(s.Rate > 0):
		return errors.New("slices need a rate")
	case s.Mode == BySlice && s.Rounds() > maxRounds:
		return fmt.Errorf("%.4g requests a second in slices of %v take %d rounds to make %d requests an arm, at most %d", s.Rate, s.Span, s.Rounds(), s.Least(), maxRounds)
	}
	return nil
}

// Rounds is how often the pattern of slices is played, so that each arm gets its fewest requests.
func (s Scenario) Rounds() int {
	if s.Mode != BySlice {
		return 1
	}
	each := s.Rate * s.Span.Seconds() * float64(len(slicePattern)/2)
	return max(1, int(min(math.Ceil(float64(s.Least())/each), math.MaxInt32)))
}

// crowd is many requests in flight on one arm, over all its turns of an epoch.
type crowd struct {
	conns    []Connection
	callers  []load.Caller
	requests int
	good     int // right answers within the scenario's latency
	all      *histogram.Histogram
}

// user is one connection of a crowd. The context of a call ends when the request has timed out.
type user struct{ conn Connection }

func (u user) Call(ctx context.Context, id uint64) error {
	return u.conn.Call(ctx, int(id&math.MaxInt32))
}

func openCrowd(ctx context.Context, p Process, s Scenario) (*crowd, error) {
	c := &crowd{all: histogram.New()}
	for range s.Users {
		conn, err := p.Open(ctx, s.Name)
		if err != nil {
			return nil, errors.Join(err, c.close())
		}
		c.conns, c.callers = append(c.conns, conn), append(c.callers, user{conn})
	}
	return c, nil
}

func (c *crowd) close() (err error) {
	for _, conn := range c.conns {
		err = errors.Join(err, conn.Close())
	}
	return err
}

func (c *crowd) wire() (n int64) {
	if c == nil {
		return 0
	}
	for _, conn := range c.conns {
		n += conn.Wire()
	}
	return n
}

// turns loads the arms one after the other in the pattern of the mode, never both at once.
func (r *Runner) turns(ctx context.Context, s Scenario, sides [2]*side, limit time.Duration) (out traffic, err error) {
	for _, arm := range Arms {
		if sides[arm].crowd, err = openCrowd(ctx, sides[arm].process, s); err != nil {
			return out, fmt.Errorf("connect to the %s: %w", arm, err)
		}
		defer func() { err = errors.Join(err, sides[arm].crowd.close()) }()
	}
	pattern := slicePattern
	if s.Mode == ByBlock {
		pattern = blockPattern
	}
	var right [2]int64
	late := histogram.New() // of all turns: the limit is on the epoch
	defer func() { out.lag = time.Duration(late.Quantile(0.99)) }()
	begin := time.Now()
	for round := range s.Rounds() {
		flip := Arm(r.random.IntN(2))
		for i, letter := range pattern {
			arm := Arm(letter-'A') ^ flip
			out.order += string(rune('A' + arm))
			result, err := r.turn(ctx, s, sides[arm])
			if err != nil {
				return out, fmt.Errorf("%s of the %s: %w", s.Mode, arm, err)
			}
			right[arm] += result.Counts.OK
			if err := merge(late, result, load.PacerLateness); err != nil {
				return out, err
			}
			if last := round+1 == s.Rounds() && i+1 == len(pattern); limit > 0 && time.Since(begin) > limit && !last {
				out.capped = true
				return out, nil
			}
		}
	}
	// An arm under load that gives no right answer has no throughput to take the ratio of: it is one that can not be
	// measured, and no accident of the host.
	for _, arm := range Arms {
		if right[arm] == 0 && right[1-arm] > 0 {
			out.capped, out.mute = true, &arm
		}
	}
	return out, nil
}

// turn is one slice or block of one arm.
func (r *Runner) turn(ctx context.Context, s Scenario, on *side) (*load.Result, error) {
	for i := range dropped {
		_, _ = on.call(ctx, i, time.Now()) // an error of the product counts where requests count
	}
	pool := &load.Pool{Callers: on.crowd.callers}
	opt := load.Options{Timeout: r.cfg.Timeout, HostLimit: 1, BoundedPool: true}
	var result *load.Result
	var err error
	if s.Mode == ByBlock {
		result, err = load.RunClosed(ctx, load.Closed{Duration: s.Span}, pool, opt)
	} else {
		result, err = load.Run(ctx, load.Schedule{Kind: load.Const, Rate: s.Rate, Duration: s.Span}, pool, opt)
	}
	if err := errors.Join(err, ctx.Err()); err != nil {
		return nil, err
	}
	if slices.Contains(result.Reasons, load.ReasonAccounting) {
		return nil, errors.New("the generator lost requests")
	}
	return result, on.add(result, s)
}

// add takes the requests of a turn. An arrival that was never sent is an error that took as long as it had waited: the
// arm kept every connection busy.
func (s *side) add(r *load.Result, sc Scenario) error {
	c := s.crowd
	c.requests += int(r.Counts.Scheduled)
	s.errors += int(r.Counts.Error + r.Counts.Timeout + r.Counts.Unsent)
	s.took += time.Duration(r.Elapsed)
	if err := errors.Join(merge(c.all, r, load.ResponseAll), merge(c.all, r, load.UnsentWait)); err != nil {
		return err
	}
	if sc.Within > 0 {
		right := histogram.New()
		if err := merge(right, r, load.ResponseOK); err != nil {
			return err
		}
		_, over := right.Above(int64(sc.Within))
		c.good += int(right.Count() - over)
	}
	return nil
}

// merge adds a histogram of a turn.
func merge(into *histogram.Histogram, r *load.Result, name string) error {
	h, err := histogram.Decode(r.Histograms[name])
	if err != nil {
		return err
	}
	return into.Merge(h)
}

// latencies adds the figures of the crowd. Quantiles are those of the histogram, within 0.1 %.
func (c *crowd) latencies(out *Side, sc Scenario) error {
	text, err := c.all.Encode()
	if err != nil {
		return err
	}
	out.Histogram, out.Good = string(text), c.good
	out.Figures[Mean] = c.all.Mean() / 1e9
	for name, p := range quantiles {
		out.Figures[name] = float64(c.all.Quantile(p)) / 1e9
	}
	for _, limit := range sc.Limits {
		_, over := c.all.Above(int64(limit))
		out.over(limit, int(over))
	}
	if sc.Mode == ByBlock {
		out.Figures[Throughput] = out.rate(out.Requests - out.Errors)
	}
	if sc.Within > 0 {
		out.Figures[Goodput] = out.rate(out.Good)
	}
	return nil
}

func (s *Side) rate(n int) float64 { return float64(n) / max(s.Took, 1).Seconds() }
