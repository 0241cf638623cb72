package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/cpu"
)

const maxWorkers = 65_536

// abandonAfter is how long calls may take to return once their context ended.
const abandonAfter = 10 * time.Second

// A Caller makes one blocking request. It must return soon after ctx ends: the
// run waits for it. ctx ends when the request has timed out; it carries no
// deadline and may be that of other requests too. An error that wraps
// context.DeadlineExceeded or os.ErrDeadlineExceeded counts as a timeout, any
// other as an error.
type Caller interface {
	Call(ctx context.Context, id uint64) error
}

// An Aged caller knows how long ago the last byte of the reply to the call that
// just returned came in; 0: it does not know. It must never say more.
type Aged interface {
	Caller
	Age() time.Duration
}

// A Starter can begin a call from the pacer's thread, so that no worker has to
// wake up before the request leaves. Start and Finish are never called at once.
type Starter interface {
	Caller
	// Start sends the request, or its first bytes, without waiting for anything;
	// false: nothing was sent, and Call is to make the whole call. ctx is that of
	// the call.
	Start(ctx context.Context, id uint64) bool
	// Finish does the rest of the call that Start began; as Call.
	Finish(ctx context.Context, id uint64) error
}

// Pool sends through one worker for each of Callers, fed by an unbounded FIFO.
// A pool is a queue in front of the server: use ample workers, or declare it
// with Options.BoundedPool.
type Pool struct {
	// Callers holds the caller of each worker, which no other worker uses;
	// repeat one that is safe for concurrent use and is no Starter.
	Callers []Caller
}

func (*Pool) mode() string { return "workers" }

func (p *Pool) validate() error {
	if n := len(p.Callers); n == 0 || n > maxWorkers {
		return fmt.Errorf("load pool: %d workers, want 1 to %d", n, maxWorkers)
	}
	return nil
}

func (p *Pool) open(_ context.Context, e *engine) (transport, error) {
	if err := p.validate(); err != nil {
		return nil, err
	}
	q := &queue{e: e, crew: newCrew(p.Callers, e.opt, &e.ending), none: make(chan struct{})}
	for i, w := range q.crew.workers {
		r := e.recorder()
		w.number, w.wake = int32(i+1), make(chan task, 1)
		q.crew.running.Go(func() { q.work(w, r) })
	}
	return q, nil
}

// queue feeds the workers. Arrivals are numbers in order, so that those which
// wait follow one another, and either workers wait or arrivals do: one word holds
// how many were handed on and, in its lower half, the worker who waited last
// or, below 0, how many arrivals wait. The pacer alone takes workers from the
// stack, so that no worker can come back to its top unseen.
//
// Tried: a channel of empty tokens. Lost: its lock, twice for each arrival, cost
// as much as everything else when the workers are busy.
// Tried: two counters and a channel for those who wait. Lost: nobody knows who
// will make the call, so that the pacer can not begin it.
type queue struct {
	e    *engine
	crew *crew
	none chan struct{} // closed when no more arrivals come
	_    cpu.CacheLinePad
	word atomic.Uint64 // written by all
	_    cpu.CacheLinePad
}

// task is an arrival for a worker who waits.
type task struct {
	j     int64
	begun bool // its request is on the way
}

func packed(handed uint32, top int32) uint64 { return uint64(handed)<<32 | uint64(uint32(top)) }

func unpacked(word uint64) (handed uint32, top int32) { return uint32(word >> 32), int32(uint32(word)) }

func (q *queue) hand(j, due int64, behind bool) (handed int64) {
	for {
		was := q.word.Load()
		_, top := unpacked(was)
		if top <= 0 {
			if q.word.CompareAndSwap(was, packed(uint32(j+due), top-int32(due))) {
				return due
			}
			continue
		}
		w := q.crew.workers[top-1]
		if q.word.CompareAndSwap(was, packed(uint32(j+1), w.below)) {
			w.wake <- task{j, !behind && q.begin(w, j)} // never blocks: nobody else wakes who waits
			return 1
		}
	}
}

// begin sends the request of arrival j from the pacer's thread, if it can be.
func (q *queue) begin(w *worker, j int64) bool {
	if w.starter == nil {
		return false
	}
	start := q.e.opt.now()
	q.e.table.stamp(j, start)
	w.since.Store(start)
	if w.starter.Start(w.context.Load().ctx, uint64(q.e.stripe.global(j))) {
		return true
	}
	w.ended()
	q.e.table.unstamp(j)
	return false
}

func (q *queue) handedAll() { close(q.none) }

func (q *queue) stop() error { return q.crew.stop() }

func (q *queue) ends() string { return q.crew.ends() }

// take waits until an arrival is due; ok is false when none will be.
func (q *queue) take(w *worker) (t task, ok bool) {
	for {
		was := q.word.Load()
		handed, top := unpacked(was)
		if top < 0 {
			if q.word.CompareAndSwap(was, packed(handed, top+1)) {
				return task{j: int64(handed) + int64(top)}, true
			}
			continue
		}
		if w.below = top; q.word.CompareAndSwap(was, packed(handed, w.number)) {
			return q.wait(w)
		}
	}
}

func (q *queue) wait(w *worker) (t task, ok bool) {
	select {
	case t = <-w.wake:
		return t, true
	case <-q.none:
	}
	select {
	case t = <-w.wake: // handed on before the end
		return t, true
	default:
		return task{}, false
	}
}

func (q *queue) work(w *worker, r *recorder) {
	for t, ok := q.take(w); ok && !q.e.ending.Load(); t, ok = q.take(w) {
		if !t.begun {
			start := q.e.opt.now()
			q.e.table.stamp(t.j, start)
			w.since.Store(start)
		}
		if end := w.call(t.begun, uint64(q.e.stripe.global(t.j))); !end.broken {
			q.e.finish(r, t.j, end.at, end.out, end.kind)
		}
	}
}

// crew is the workers of a run and the watch that ends calls at their timeout.
//
// Tried: context.WithTimeout for each call. Lost: it costs about as much as a
// whole call over loopback. A context is made anew only when it was used up.
type crew struct {
	opt     Options
	ending  *atomic.Bool // the run is over
	base    context.Context
	cancel  context.CancelFunc
	workers []*worker
	running sync.WaitGroup
}

func newCrew(callers []Caller, opt Options, ending *atomic.Bool) *crew {
	// The context of the calls is the run's own: when the caller's ends, the
	// run first notes the time, then cancels.
	base, cancel := context.WithCancel(context.Background())
	c := &crew{opt: opt, ending: ending, base: base, cancel: cancel}
	for _, caller := range callers {
		w := &worker{crew: c, caller: caller}
		w.aged, _ = caller.(Aged)
		w.starter, _ = caller.(Starter)
		w.context.Store(c.newContext())
		c.workers = append(c.workers, w)
	}
	c.running.Go(c.watch)
	return c
}

// timeLimit ends one or more calls.
type timeLimit struct {
	ctx    context.Context
	cancel context.CancelFunc
}

func (c *crew) newContext() *timeLimit {
	ctx, cancel := context.WithCancel(c.base)
	return &timeLimit{ctx, cancel}
}

// watch ends the calls that are past their timeout, until the crew stops.
func (c *crew) watch() {
	tick := time.NewTicker(sweepEvery(c.opt.Timeout))
	defer tick.Stop()
	for {
		select {
		case <-c.base.Done():
			return
		case <-tick.C:
			now := c.opt.now()
			for _, w := range c.workers {
				w.expire(now)
			}
		}
	}
}

// sweepEvery is how often requests are held against their timeout. The time
// that is recorded does not depend on it.
func sweepEvery(timeout time.Duration) time.Duration {
	return min(max(timeout/20, time.Millisecond), 100*time.Millisecond)
}

// stop ends all calls and waits for the workers.
func (c *crew) stop() error {
	c.cancel()
	ended := make(chan struct{})
	go func() { c.running.Wait(); close(ended) }()
	limit := time.NewTimer(c.opt.abandon)
	defer limit.Stop()
	select {
	case <-ended:
		return nil
	case <-limit.C:
		return fmt.Errorf("load pool: calls still running %v after their context ended", c.opt.abandon)
	}
}

func (c *crew) ends() (who string) {
	for _, w := range c.workers {
		who = bothEnds(who, w.ends)
	}
	return who
}

// worker makes one call at a time.
type worker struct {
	_       cpu.CacheLinePad
	crew    *crew
	caller  Caller
	aged    Aged    // caller, if it is
	starter Starter // caller, if it is
	context atomic.Pointer[timeLimit]
	since   atomic.Int64 // start of the call under way, or one of the two below
	ends    string       // who dated the replies

	// Of a queue:
	number int32     // from 1
	below  int32     // who has waited for longer; 0: nobody
	wake   chan task // for a worker who waits
}

const (
	noCall      int64 = 0
	expiredCall int64 = -1 // its context has ended or is about to
)

// expire ends the call under way if its time is up. The context is read before
// the start: a call that began after now is not mistaken for an expired one.
func (w *worker) expire(now int64) {
	limit := w.context.Load()
	since := w.since.Load()
	if since > 0 && now-since > int64(w.crew.opt.Timeout) && w.since.CompareAndSwap(since, expiredCall) {
		limit.cancel()
	}
}

// ended is the end of a call.
type ended struct {
	at     int64
	out    outcome
	kind   string
	broken bool // by the end of the run: accounting makes it a timeout
}

// call makes one call, or finishes one that was begun. It started at w.since.
func (w *worker) call(begun bool, id uint64) ended {
	ctx := w.context.Load().ctx
	var err error
	if begun {
		err = w.starter.Finish(ctx, id)
	} else {
		err = w.caller.Call(ctx, id)
	}
	age := int64(0)
	if w.aged != nil {
		age = int64(w.aged.Age()) // before the clock: rather too slow than too fast
	}
	end := ended{at: w.crew.opt.now()}
	expired := w.ended()
	switch {
	case err == nil:
		end.at -= age
		w.dated(age > 0)
	case w.crew.ending.Load():
		end.broken = true
	case expired || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded):
		end.out = outcomeTimeout
	default:
		end.out, end.kind = outcomeError, errorKind(err)
	}
	return end
}

// ended notes that no call is under way and tells whether the watch has ended it.
func (w *worker) ended() (expired bool) {
	expired = w.since.Swap(noCall) == expiredCall
	if expired {
		w.context.Store(w.crew.newContext())
	}
	return expired
}

func (w *worker) dated(byKernel bool) {
	who := EndsRead
	if byKernel {
		who = EndsKernel
	}
	if w.ends != who {
		w.ends = bothEnds(w.ends, who)
	}
}
