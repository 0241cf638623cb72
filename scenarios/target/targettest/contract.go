// Package targettest holds the contract that every target adapter has to fulfil. It knows nothing of
// protocols: what an adapter serves is judged by the suites.
package targettest

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/scenarios/target"
)

// patience bounds each wait. It is a limit against hanging, not an expectation of speed.
const patience = 20 * time.Second

// Factory makes a fresh target that is not started, for one part of the contract.
type Factory func(t *testing.T) target.Target

// Crasher is implemented by local targets that have no process to be killed: Crash ends them unasked.
type Crasher interface{ Crash() error }

// Contract checks start, claims, reachable endpoints, stop, stop again and, for a target that runs on
// this host (target.Local), that its end is seen and that it can be started again.
func Contract(t *testing.T, factory Factory) {
	t.Helper()
	t.Run("serves between start and stop", func(t *testing.T) { serves(t, factory(t)) })
	t.Run("stop without start", func(t *testing.T) { stop(t, factory(t)) })
	t.Run("refuses to start twice", func(t *testing.T) { startTwice(t, factory(t)) })
	t.Run("start again after stop", func(t *testing.T) { startAgain(t, factory(t)) })
	t.Run("crash is seen", func(t *testing.T) { crash(t, factory(t)) })
}

func serves(t *testing.T, tg target.Target) {
	addrs := start(t, tg)
	claims, err := tg.Claims(t.Context())
	if err != nil {
		t.Fatalf("claims: %v", err)
	}
	if claims.Name == "" || len(claims.Features) == 0 {
		t.Errorf("claims = %+v, want a name and features", claims)
	}
	for _, name := range claims.Features {
		if _, ok := features.Find(name); !ok {
			t.Errorf("claims the unknown feature %q", name)
		}
	}
	for name, addr := range addrs {
		if err := dial(addr); err != nil {
			t.Errorf("endpoint %s: %v", name, err)
		}
	}
	l, isLocal := tg.(target.Local)
	if isLocal {
		running(t, l)
	}
	stop(t, tg)
	stop(t, tg)
	if !isLocal {
		return
	}
	ended(t, l)
	if state := l.ExitState(); !state.Asked {
		t.Errorf("after stop the exit is %+v, want it asked for", state)
	}
	// that its addresses are silent now can not be asserted: the kernel may have given them to others
	if left := l.Processes(); len(left) > 0 {
		t.Errorf("lists %v after stop", left)
	}
}

func running(t *testing.T, l target.Local) {
	t.Helper()
	select {
	case <-l.Exited():
		t.Fatalf("has ended just after start: %+v", l.ExitState())
	default:
	}
	if state := l.ExitState().State; state != "" {
		t.Errorf("exit state of a running target is %q", state)
	}
	for _, p := range l.Processes() {
		if !p.Alive() {
			t.Errorf("process %d is listed and not alive", p.PID)
		}
	}
}

func startTwice(t *testing.T, tg target.Target) {
	local(t, tg, func(l target.Local) {
		addrs := start(t, tg)
		if _, err := tg.Start(t.Context()); err == nil {
			t.Error("a second start while it runs is no error")
		}
		running(t, l)
		for name, addr := range addrs {
			if err := dial(addr); err != nil {
				t.Errorf("endpoint %s after a second start: %v", name, err)
			}
		}
	})
}

func startAgain(t *testing.T, tg target.Target) {
	for range 2 {
		for name, addr := range start(t, tg) {
			if err := dial(addr); err != nil {
				t.Errorf("endpoint %s: %v", name, err)
			}
		}
		stop(t, tg)
	}
}

func crash(t *testing.T, tg target.Target) {
	local(t, tg, func(l target.Local) {
		start(t, tg)
		before := l.Processes()
		switch c, canCrash := tg.(Crasher); {
		case canCrash:
			if err := c.Crash(); err != nil {
				t.Fatalf("crash: %v", err)
			}
		case len(before) > 0:
			if err := before[0].Kill(); err != nil {
				t.Fatalf("kill: %v", err)
			}
		default:
			t.Fatal("a local target needs a process or a method Crash")
		}
		ended(t, l)
		if state := l.ExitState(); state.Asked || state.State == "" {
			t.Errorf("after a crash the exit is %+v, want a state and not asked for", state)
		}
		stop(t, tg) // after a crash: no error, and no rewriting of who ended it
		if l.ExitState().Asked {
			t.Error("a stop after the crash claims the crash")
		}
		for name, addr := range start(t, tg) {
			if err := dial(addr); err != nil {
				t.Errorf("endpoint %s after a restart: %v", name, err)
			}
		}
		if after := l.Processes(); len(before) > 0 && (len(after) == 0 || after[0] == before[0]) {
			t.Errorf("processes after a restart = %v, before %v", after, before)
		}
		stop(t, tg)
	})
}

// local runs a part that is only for targets on this host; of others there is nothing to be seen.
func local(t *testing.T, tg target.Target, part func(target.Local)) {
	t.Helper()
	if l, ok := tg.(target.Local); ok {
		part(l)
	}
}

func start(t *testing.T, tg target.Target) target.Endpoints {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	addrs, err := tg.Start(ctx)
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	t.Cleanup(func() { _ = tg.Stop(context.Background()) }) // whatever the test's outcome
	if len(addrs) == 0 {
		t.Fatal("start returns no endpoints")
	}
	return addrs
}

func stop(t *testing.T, tg target.Target) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	if err := tg.Stop(ctx); err != nil {
		t.Fatalf("stop: %v", err)
	}
}

func ended(t *testing.T, l target.Local) {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-l.Exited():
	case <-timer.C:
		t.Fatal("its end is not seen")
	}
}

func dial(addr string) error {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return err
	}
	return conn.Close()
}
