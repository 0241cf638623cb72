package sandbox

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/assay-bench/assay/reference/defect"
)

func TestSlots(t *testing.T) {
	s := newSlots(defect.Set{})
	ctx, cancel := context.WithCancel(t.Context())
	for range cap(s.free) {
		if err := s.take(ctx, 0); err != nil {
			t.Fatalf("a free slot: %v", err)
		}
	}
	late, ok := errors.AsType[*stop](s.take(ctx, time.Millisecond))
	if !ok || late.class != ClassDeadline || late.cause != nil {
		t.Errorf("no slot in time: %+v, want class deadline", late)
	}
	cancel()
	gone, ok := errors.AsType[*stop](s.take(ctx, time.Hour))
	if !ok || gone.class != ClassDeadline || !errors.Is(gone, context.Canceled) {
		t.Errorf("the caller is gone: %+v", gone)
	}
	s.leave()
	if err := s.take(t.Context(), time.Hour); err != nil {
		t.Errorf("after one left: %v", err)
	}
	if n := s.waiting.Load(); n != 0 {
		t.Errorf("%d wait", n)
	}
}

// TestTurn follows a call from its beginning: it waits for no slot before it is long, or its tenant has used up
// its allowance, and gives one up only to another.
func TestTurn(t *testing.T) {
	ctx := t.Context()
	quota, _ := Free.Quota()
	tenant := &tenant{}
	tenant.quota.Store(&quota)
	s := &slots{free: make(chan struct{}, 1), patience: longestWait}
	a, b := &turn{slots: s, tenant: tenant}, &turn{slots: s, tenant: tenant}
	if err := errors.Join(a.begin(ctx), a.pause(ctx, promptTime-1)); err != nil || a.held {
		t.Fatalf("a short call: %v, held %v", err, a.held)
	}
	if err := a.pause(ctx, promptTime); err != nil || !a.held {
		t.Fatalf("a long call: %v, held %v", err, a.held)
	}
	if err := a.pause(ctx, time.Second); err != nil || !a.held {
		t.Fatalf("nobody waits: %v, held %v", err, a.held)
	}
	var wg sync.WaitGroup
	tenant.allowance.use(&quota, quota.CPU)
	wg.Go(func() {
		defer b.leave()
		if err := b.begin(ctx); err != nil || !b.held {
			t.Errorf("a tenant without an allowance: %v, held %v", err, b.held)
		}
	})
	for s.waiting.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	a.since = a.since.Add(-slotTime)
	if err := a.pause(ctx, time.Second); err != nil || !a.held || b.waited == 0 {
		t.Errorf("after the other's turn: %v, held %v, the other waited %s", err, a.held, b.waited)
	}
	wg.Wait()
	a.leave()
	a.leave() // once more does nothing
	if len(s.free) != 0 {
		t.Errorf("%d slots are held in the end", len(s.free))
	}
}

func TestAllowance(t *testing.T) {
	quota, _ := Free.Quota()
	var a allowance
	if a.spent(&quota) {
		t.Fatal("spent before anything was used")
	}
	a.use(&quota, quota.Prompt/2)
	if a.spent(&quota) {
		t.Error("spent by half of it")
	}
	a.use(&quota, time.Hour)
	if a.owed != quota.Prompt+quota.CPU || !a.spent(&quota) {
		t.Errorf("%s owed after an hour, want one call's debt", a.owed)
	}
	a.at = a.at.Add(-time.Duration(float64(quota.CPU)/float64(quota.Prompt)*float64(time.Second)) - time.Millisecond)
	if a.spent(&quota) {
		t.Errorf("%s owed after the debt's time", a.owed)
	}
	a.forfeit(&quota)
	if a.owed != quota.Prompt+quota.CPU {
		t.Errorf("%s owed after a limit was met, want one call's debt", a.owed)
	}
	a.at = a.at.Add(-time.Hour)
	if a.spent(&quota) || a.owed != 0 {
		t.Errorf("%s owed after an hour of rest", a.owed)
	}
}

// TestLongCallsWait runs more long calls than there are slots: each is charged its own CPU time and no wait, and
// a short call of another tenant is served meanwhile.
func TestLongCallsWait(t *testing.T) {
	r := newRig(t, Config{})
	r.publish("enterprise", "fib", Upload{})
	crowd := newCrowd(r)
	stop := crowd.start()
	for range 20 {
		if _, err := r.Invoke(t.Context(), "enterprise", "fib", Call{Function: "fib", Args: []string{"5"}}); err != nil {
			t.Errorf("a neighbour: %v", err)
		}
	}
	stop()
	for _, h := range crowd.calls {
		tenant, err := r.Sandbox.tenant(h.tenant)
		if err != nil {
			t.Fatal(err)
		}
		quota := tenant.quota.Load()
		calls, used := tenant.calls.Load(), time.Duration(tenant.micros.Load())*time.Microsecond
		if calls == 0 || used > time.Duration(calls)*2*quota.CPU {
			t.Errorf("%s: %d calls were charged %s", h.tenant, calls, used)
		}
	}
	if n := len(r.slots.free); n != 0 {
		t.Errorf("%d slots are held in the end", n)
	}
}
