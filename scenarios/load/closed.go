package load

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/cpu"

	"github.com/assay-bench/assay/results/histogram"
)

// ClosedLabel is the label of every closed-model result.
const ClosedLabel = "closed model, not from intended start"

// Closed is a load without a schedule: each worker of a pool makes its next call
// when the last has ended. It is good for throughput and cost. Its latency says
// little: a server that stands still gets no calls that could show it.
type Closed struct {
	Duration time.Duration
	Requests int64 // at most; 0: as many as fit
}

func (c Closed) validate() error {
	switch {
	case c.Duration <= 0 || c.Duration > maxDuration:
		return fmt.Errorf("closed load: duration %v is outside 0 to %v", c.Duration, maxDuration)
	case c.Requests < 0:
		return fmt.Errorf("closed load: %d requests", c.Requests)
	}
	return nil
}

// RunClosed runs a closed model with one user for each caller of the pool. The
// result is labelled with ClosedLabel, has no lateness, and response equals
// service. Errors and the end of ctx are as in Run.
func RunClosed(ctx context.Context, c Closed, p *Pool, opt Options) (*Result, error) {
	opt, err := opt.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := c.validate(); err != nil {
		return nil, err
	}
	if err := p.validate(); err != nil {
		return nil, err
	}
	if !opt.Segment.Whole() {
		return nil, fmt.Errorf("closed load: segment %s: without a schedule there is nothing to divide", opt.Segment)
	}
	// The engine of a schedule of one arrival, which is never played: its
	// clock, ledger and progress serve here.
	e := newEngine(Schedule{Duration: c.Duration}, Segment{}.stripe(), 1, opt)
	e.n = 0
	u := &users{e: e, crew: newCrew(p.Callers, opt, &e.ending), most: c.Requests}
	if err := e.begin(); err != nil {
		_ = u.crew.stop()
		return nil, err
	}
	host := watchHost()
	e.collectEachSecond()
	interrupted := u.play(ctx, c.Duration)
	err = u.crew.stop()
	e.stop()
	if err != nil {
		return nil, err
	}
	r, err := u.result(c, host.end())
	if err != nil {
		return nil, fmt.Errorf("load result: %w", err)
	}
	r.judge(gate{opt: opt, interrupted: interrupted})
	return r, nil
}

// users are the workers of a closed model.
type users struct {
	e     *engine
	crew  *crew
	most  int64
	over  atomic.Bool
	begun atomic.Int64 // calls
	_     cpu.CacheLinePad
	given atomic.Int64 // ids
	_     cpu.CacheLinePad
}

// play lets the users call until the time is up, and then waits for the calls
// under way up to the drain limit. It tells whether ctx ended it.
func (u *users) play(ctx context.Context, d time.Duration) (interrupted bool) {
	left := atomic.Int64{}
	left.Store(int64(len(u.crew.workers)))
	all := make(chan struct{})
	for _, w := range u.crew.workers {
		r := u.e.recorder()
		u.crew.running.Go(func() {
			u.use(w, r)
			if left.Add(-1) == 0 {
				close(all)
			}
		})
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-all:
		u.e.endAt = u.e.opt.now()
		return false
	case <-ctx.Done():
		interrupted = true
	case <-timer.C:
	}
	u.over.Store(true)
	u.e.endAt = u.e.opt.now()
	timer.Reset(u.e.opt.Drain)
	if !interrupted {
		select {
		case <-all:
		case <-ctx.Done():
			interrupted = true
		case <-timer.C:
		}
	}
	u.e.endAt = u.e.opt.now()
	u.e.ending.Store(true)
	return interrupted
}

// Users take ids in blocks, so that they do not write to one word in turns. A block is larger than one id as long as
// its calls are so brief that nobody waits for what another one holds.
const (
	mostIDs = 256
	briefly = int64(50 * time.Microsecond)
)

// use is one user.
func (u *users) use(w *worker, r *recorder) {
	begun, block := int64(0), int64(1)
	defer func() { u.begun.Add(begun) }()
	for !u.over.Load() {
		id := u.given.Add(block) - block
		end := id + block
		if u.most > 0 {
			end = min(end, u.most)
		}
		if id >= end {
			return
		}
		began := u.e.opt.now()
		for ; id < end && !u.over.Load(); id++ {
			begun++
			u.one(w, r, uint64(id))
		}
		if u.e.opt.now()-began > briefly {
			block = max(block/2, 1)
		} else {
			block = min(2*block, mostIDs)
		}
	}
}

// one makes one call.
func (u *users) one(w *worker, r *recorder, id uint64) {
	start := u.e.opt.now()
	w.since.Store(start)
	end := w.call(false, id)
	if end.broken {
		end.at, end.out = u.e.endAt, outcomeTimeout
	}
	if limit := start + int64(u.e.opt.Timeout); end.at > limit {
		end.at, end.out = limit, outcomeTimeout
	}
	r.add(noIntent, start, max(end.at, start), end.out, end.kind)
}

// result closes the accounts; every user has ended.
func (u *users) result(c Closed, host Host) (*Result, error) {
	p := Played{Kind: "closed", Duration: int64(c.Duration), Count: u.begun.Load()}
	r, err := u.e.assemble(p, histogram.New(), host)
	if err != nil {
		return nil, err
	}
	r.Ends = u.crew.ends()
	r.Model, r.Label, r.Mode = ModelClosed, ClosedLabel, fmt.Sprintf("%d users", len(u.crew.workers))
	return r, nil
}
