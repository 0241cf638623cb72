package sandbox

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/assay-bench/assay/reference/defect"
)

const (
	// promptTime is the CPU time after which a call is long.
	promptTime = time.Millisecond

	// slotTime is how long a long call keeps a slot that another waits for.
	slotTime = 10 * time.Millisecond

	// longestWait is how long a call waits for slots altogether.
	longestWait = 10 * time.Second
)

// slots are what long calls run in: one fewer than there are processors, of the host and of Go's scheduler, so
// that a call that is not long always finds one. A long call is one that has used promptTime, or whose tenant has
// used up its allowance.
//
// A long call's thread is kept off one processor as well: the kernel wakes the thread of a timer behind a guest's even
// where another processor is free, and a call that begins at a timer then waited for milliseconds.
//
// Tried: demoting the threads of long calls (SCHED_IDLE). Lost: beside other busy processes a guest then came to
// its next refill so late that a collection, and everyone with it, waited for up to 1.0 s (0.06 s without).
type slots struct {
	free     chan struct{}
	only     bool          // there is one processor: a long call offers it at each refill
	confine  bool          // a long call's thread is kept off one processor
	patience time.Duration // how long a call waits altogether
	waiting  atomic.Int64
}

func newSlots(defects defect.Set) *slots {
	n := min(runtime.GOMAXPROCS(0), runtime.NumCPU())
	s := &slots{free: make(chan struct{}, max(1, n-1)), only: runtime.GOMAXPROCS(0) == 1, patience: longestWait}
	s.confine = n > 1
	if defects.On(defect.SandboxLongCallsUnbounded) {
		s.free, s.only, s.confine = make(chan struct{}, 1<<16), false, false
	}
	return s
}

// take waits for a slot for as long as d.
func (s *slots) take(ctx context.Context, d time.Duration) error {
	select {
	case s.free <- struct{}{}:
		return nil
	default:
	}
	s.waiting.Add(1)
	defer s.waiting.Add(-1)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case s.free <- struct{}{}:
		return nil
	case <-ctx.Done():
		return &stop{class: ClassDeadline, text: "the caller gave up", cause: ctx.Err()}
	case <-timer.C:
		return &stop{class: ClassDeadline, text: fmt.Sprintf("deadline: no processor for a long call within %s", s.patience)}
	}
}

func (s *slots) leave() { <-s.free }

// turn is a call's way through the slots. It is used by the goroutine of the call only.
type turn struct {
	slots  *slots
	tenant *tenant
	held   bool
	since  time.Time
	waited time.Duration
	thread confined
}

func newTurn(v *version) *turn { return &turn{slots: v.sandbox.slots, tenant: v.tenant} }

// begin takes a slot at once where the tenant has used up its allowance.
func (t *turn) begin(ctx context.Context) error {
	if !t.tenant.allowance.spent(t.tenant.quota.Load()) {
		return nil
	}
	return t.take(ctx)
}

// pause is called while the guest stands still: a call that has become long waits for a slot, and one that has
// held its slot for long lets others have theirs.
func (t *turn) pause(ctx context.Context, used time.Duration) error {
	switch {
	case t.held:
		if t.slots.only {
			runtime.Gosched()
		}
		if t.slots.waiting.Load() == 0 || time.Since(t.since) < slotTime {
			return nil
		}
		t.leave()
	case used < promptTime:
		return nil
	}
	return t.take(ctx)
}

func (t *turn) take(ctx context.Context) error {
	began := time.Now()
	err := t.slots.take(ctx, t.slots.patience-t.waited)
	t.since = time.Now()
	t.waited += t.since.Sub(began)
	t.held = err == nil
	if t.held && t.slots.confine {
		t.thread = confine()
	}
	return err
}

func (t *turn) leave() {
	if t.held {
		t.thread.release()
		t.slots.leave()
		t.held = false
	}
}

// allowance is the CPU time that a tenant may use without waiting for a slot: Quota.Prompt for each second, and
// as much saved up. What it uses beyond that is a debt, of one call at most. The zero value is a full one.
type allowance struct {
	mu   sync.Mutex
	owed time.Duration // less than nothing is left when above Prompt
	at   time.Time
}

func (a *allowance) spent(q *Quota) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.settle(q)
	return a.owed >= q.Prompt
}

func (a *allowance) use(q *Quota, d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.settle(q)
	a.owed = min(a.owed+d, q.Prompt+q.CPU)
}

// forfeit takes all that is left, and makes the debt that of a whole call. A call that ran into a limit costs the host
// more than its own time: its instance is thrown away, and what that leaves to the collector is everyone's.
func (a *allowance) forfeit(q *Quota) { a.use(q, q.Prompt+q.CPU) }

func (a *allowance) settle(q *Quota) {
	now := time.Now()
	if !a.at.IsZero() {
		a.owed = max(0, a.owed-time.Duration(now.Sub(a.at).Seconds()*float64(q.Prompt)))
	}
	a.at = now
}
