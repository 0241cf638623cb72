package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// maxWorkers bounds a pool; each worker may take 1 MB of histograms.
const maxWorkers = 2_048

// abandonAfter is how long calls may take to return once their context ended.
const abandonAfter = 10 * time.Second

// A Caller makes one blocking request. It must return soon after ctx ends: the
// run waits for it. An error that wraps context.DeadlineExceeded or
// os.ErrDeadlineExceeded counts as a timeout, any other as an error.
type Caller interface {
	Call(ctx context.Context, id uint64) error
}

// Pool sends through one worker for each of Callers, fed by an unbounded FIFO.
// A pool is a queue in front of the server: use ample workers, or declare it
// with Options.BoundedPool.
type Pool struct {
	// Callers holds the caller of each worker, which no other worker uses;
	// repeat one that is safe for concurrent use.
	Callers []Caller
}

func (*Pool) mode() string { return "workers" }

func (p *Pool) open(_ context.Context, e *engine) (transport, error) {
	if n := len(p.Callers); n == 0 || n > maxWorkers {
		return nil, fmt.Errorf("load pool: %d workers, want 1 to %d", n, maxWorkers)
	}
	// The context of the calls is the run's own: when the caller's ends, the
	// run first notes the time, then cancels.
	ctx, cancel := context.WithCancel(context.Background())
	w := &workers{e: e, ctx: ctx, cancel: cancel, tokens: make(chan struct{}, len(e.offsets))}
	for _, c := range p.Callers {
		r := e.recorder()
		w.running.Go(func() { w.work(c, r) })
	}
	return w, nil
}

// workers is the queue and its workers. The queue holds tokens without size:
// arrivals are numbers in order, so whoever takes a token takes the next number.
type workers struct {
	e       *engine
	ctx     context.Context
	cancel  context.CancelFunc
	tokens  chan struct{} // as deep as the schedule is long: never full
	next    atomic.Int64
	running sync.WaitGroup
}

func (w *workers) hand(int64) { w.tokens <- struct{}{} }

func (w *workers) handedAll() { close(w.tokens) }

func (w *workers) work(c Caller, r *recorder) {
	for range w.tokens {
		if w.e.ending.Load() {
			return
		}
		w.call(c, r, w.next.Add(1)-1)
	}
}

// call makes one call and records it.
func (w *workers) call(c Caller, r *recorder, id int64) {
	start := w.e.opt.now()
	w.e.table.stamp(id, start)
	ctx, cancel := context.WithTimeout(w.ctx, w.e.opt.Timeout)
	err := c.Call(ctx, uint64(id))
	end := w.e.opt.now()
	cancel()
	switch {
	case err == nil:
		w.e.finish(r, id, end, outcomeOK, "")
	case w.e.ending.Load():
		// The end of the run broke the call: accounting makes it a timeout.
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded):
		w.e.finish(r, id, end, outcomeTimeout, "")
	default:
		w.e.finish(r, id, end, outcomeError, errorKind(err))
	}
}

func (w *workers) stop() error {
	w.cancel()
	ended := make(chan struct{})
	go func() { w.running.Wait(); close(ended) }()
	limit := time.NewTimer(w.e.opt.abandon)
	defer limit.Stop()
	select {
	case <-ended:
		return nil
	case <-limit.C:
		return fmt.Errorf("load pool: calls still running %v after their context ended", w.e.opt.abandon)
	}
}
