package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/assay-bench/assay/fixtures/wasm"
	"github.com/assay-bench/assay/reference/defect"
)

// endless are calls that nothing but the quota ends.
var endless = []struct {
	guest, function string
	args            []string
}{
	{"spin", "spin", nil},
	{"spin", "spin_rec", []string{"60"}},
	{"bulk-bomb", "fill", nil},
	{"busy", "busy_loop", nil},
	{"busy", "busy", []string{"2000000000"}},
}

func TestCPUQuota(t *testing.T) {
	for _, e := range engines {
		r := newRig(t, Config{})
		for _, c := range endless {
			r.publish("free", c.guest, Upload{Engine: e})
			_, err := r.call("free", c.guest, c.function, c.args...)
			trap, ok := errors.AsType[*Trap](err)
			if !ok || trap.Class != ClassFuel && trap.Class != ClassDeadline {
				t.Errorf("%s: %s %s: %v", e, c.guest, c.function, err)
				continue
			}
			if limit := (100 * time.Millisecond).Microseconds(); trap.CPUMicros > limit {
				t.Errorf("%s: %s %s used %d microseconds of CPU, want at most %d", e, c.guest, c.function, trap.CPUMicros, limit)
			}
			if n := r.Stats().Tenants["free"].Running; n != 0 {
				t.Errorf("%d calls run", n)
			}
		}
	}
}

// The cap on units ends a call too, and always at the same unit.
func TestFuelQuota(t *testing.T) {
	r := newRig(t, Config{})
	r.publish("free", "spin", Upload{})
	free, err := r.Sandbox.tenant("free")
	if err != nil {
		t.Fatal(err)
	}
	small := *free.quota.Load()
	small.Fuel = 1_000_000
	free.quota.Store(&small)
	var used int64
	for n := range 3 {
		_, err := r.call("free", "spin", "spin")
		trap, ok := errors.AsType[*Trap](err)
		if !ok || trap.Class != ClassFuel || trap.Fuel <= small.Fuel || trap.Fuel > small.Fuel+2*fuelSlice {
			t.Fatalf("%v, %+v", err, trap)
		}
		if n > 0 && trap.Fuel != used {
			t.Errorf("run %d ended after %d units, the first after %d", n, trap.Fuel, used)
		}
		used = trap.Fuel
	}
}

func TestCollectorIsNotHeldUp(t *testing.T) {
	r := newRig(t, Config{})
	r.publish("pro", "spin", Upload{})
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = r.call("pro", "spin", "spin") })
	var pauses []time.Duration
	for r.Stats().Tenants["pro"].Running == 0 {
		runtime.Gosched()
	}
	for r.Stats().Tenants["pro"].Running > 0 {
		pauses = append(pauses, Collect())
	}
	wg.Wait()
	slices.Sort(pauses)
	// the median: a host that others use holds up single ones by itself
	if n := len(pauses); n < 2 || pauses[n/2] > 100*time.Millisecond {
		t.Errorf("%d collections beside a spinning guest: %s", n, pauses)
	}
}

func TestMemoryQuota(t *testing.T) {
	r := newRig(t, Config{})
	for tier, pages := range map[string]string{"free": "16", "pro": "64", "enterprise": "256"} {
		r.publish(tier, "memory-bomb", Upload{})
		grown, err := r.call(tier, "memory-bomb", "grow_all")
		if err != nil || grown.Results[0] != pages || strconv.Itoa(int(grown.MemoryPages)) != pages {
			t.Errorf("%s: grew to %v, %d pages (%v), want %s", tier, grown.Results, grown.MemoryPages, err, pages)
		}
		next, err := r.call(tier, "memory-bomb", "size")
		if err != nil || next.Results[0] != "1" || next.Instance == grown.Instance {
			t.Errorf("%s: %v in instance %s after %s (%v)", tier, next.Results, next.Instance, grown.Instance, err)
		}
	}
	for guest, tier := range map[string]string{"memory-initial-17": "free", "memory-initial-65": "pro", "memory-initial-257": "enterprise"} {
		if _, err := r.try(tier, guest, Upload{Wasm: wasm.Module(guest)}); step(t, err) != StepStructure {
			t.Errorf("%s: %v", guest, err)
		}
	}
}

// A tenant that becomes smaller loses the instances of its old size.
func TestTierChange(t *testing.T) {
	r := newRig(t, Config{})
	r.tenant("moving", Enterprise)
	r.publish("moving", "memory-initial-17", Upload{})
	r.publish("moving", "memory-bomb", Upload{})
	r.tenant("moving", Free)
	if got := r.result("moving", "memory-bomb", "grow_all"); got != "16" {
		t.Errorf("grew to %s pages, want 16", got)
	}
	if _, err := r.call("moving", "memory-initial-17", "size"); class(t, err) != ClassQuota {
		t.Errorf("17 pages on the free tier: %v", err)
	}
}

func TestCaps(t *testing.T) {
	r := newRig(t, Config{})
	for kind, want := range map[string]string{"functions": StepStructure, "locals": StepStructure,
		"data": StepStructure, "globals": StepStructure, "table": StepStructure, "size": StepSize} {
		if _, err := r.try("enterprise", "capped", Upload{Wasm: wasm.Capped(kind)}); step(t, err) != want {
			t.Errorf("%s: %v", kind, err)
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := r.try("enterprise", "table-bomb", Upload{Wasm: wasm.Module("table-bomb")})
	runtime.ReadMemStats(&after)
	if step(t, err) != StepStructure || after.TotalAlloc-before.TotalAlloc > 4<<20 {
		t.Errorf("table bomb: %v, %d bytes", err, after.TotalAlloc-before.TotalAlloc)
	}
}

func TestDepth(t *testing.T) {
	for _, e := range engines {
		r := newRig(t, Config{})
		r.publish("free", "recursion-bomb", Upload{Engine: e})
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := r.call("free", "recursion-bomb", "bomb")
		runtime.ReadMemStats(&after)
		if class(t, err) != ClassStack || after.TotalAlloc-before.TotalAlloc > 4<<20 {
			t.Errorf("%s: %v, %d bytes", e, err, after.TotalAlloc-before.TotalAlloc)
		}
		if got := r.result("free", "recursion-bomb", "answer"); got != "42" {
			t.Errorf("%s: answer %s", e, got)
		}
	}
}

func TestReentry(t *testing.T) {
	for _, e := range engines {
		r := newRig(t, Config{})
		r.publish("free", "reentry-bomb", Upload{Engine: e})
		if got := r.result("free", "reentry-bomb", "dive", strconv.Itoa(MaxReentry)); got != strconv.Itoa(MaxReentry) {
			t.Errorf("%s: dive = %s", e, got)
		}
		for _, c := range [][]string{{"bomb"}, {"dive", strconv.Itoa(MaxReentry + 1)}} {
			_, err := r.call("free", "reentry-bomb", c[0], c[1:]...)
			if class(t, err) != ClassHostError {
				t.Errorf("%s: %v: %v", e, c, err)
			}
		}
		r2 := newRig(t, bad(defect.SandboxReentryUnlimited))
		r2.publish("enterprise", "reentry-bomb", Upload{Engine: e})
		if _, err := r2.call("enterprise", "reentry-bomb", "dive", "100"); err != nil {
			t.Errorf("%s: unlimited re-entry ends: %v", e, err)
		}
	}
}

func TestInstances(t *testing.T) {
	check := func(cfg Config, tier Tier, over bool) {
		r := newRig(t, cfg)
		id := string(tier)
		r.publish(id, "spin", Upload{})
		q, _ := tier.Quota()
		var wg sync.WaitGroup
		var mu sync.Mutex
		busy := 0
		for range 3 * q.Instances {
			wg.Go(func() {
				_, err := r.Invoke(t.Context(), id, "spin", Call{Function: "spin"})
				if _, ok := errors.AsType[*Busy](err); ok {
					mu.Lock()
					busy++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		s := r.Stats().Tenants[id]
		if over != (s.RunningMax > int64(q.Instances)) || over != (busy == 0) || s.Running != 0 {
			t.Errorf("%s: at most %d ran, %d were busy, %d run", tier, s.RunningMax, busy, s.Running)
		}
	}
	check(Config{}, Pro, false)
	check(Config{}, Free, false)
	check(bad(defect.SandboxInstancesUnlimited), Free, true)
}

func TestStartFunction(t *testing.T) {
	r := newRig(t, Config{})
	began := time.Now()
	_, err := r.try("pro", "start-endless", Upload{Wasm: wasm.Module("start-endless")})
	if step(t, err) != StepInstantiate || time.Since(began) > 5*time.Second {
		t.Errorf("endless start: %v after %s", err, time.Since(began))
	}
	r.publish("pro", "start-small", Upload{})
	for range 2 {
		if got := r.result("pro", "start-small", "get"); got != "7" {
			t.Errorf("get = %s, want 7", got)
		}
	}
}

// attack is what the child of TestHostSurvives does.
func attack(t *testing.T, r *rig) {
	for _, g := range wasm.Guests() {
		if g.ABI == wasm.Proxy || g.Name == "echo-go" {
			continue
		}
		for _, e := range engines {
			_, err := r.try("free", g.Name, Upload{Wasm: wasm.Module(g.Name), Engine: e})
			if err != nil {
				step(t, err)
			}
		}
	}
	for _, c := range append(endless, []struct {
		guest, function string
		args            []string
	}{{"reentry-bomb", "bomb", nil}, {"recursion-bomb", "bomb", nil}, {"memory-bomb", "grow_all", nil},
		{"traps", "t_load", nil}, {"bounds", "host_past", nil}, {"bounds", "host_wrap", nil}}...) {
		_, err := r.call("free", c.guest, c.function, c.args...)
		if _, ok := errors.AsType[*Trap](err); err != nil && !ok {
			t.Errorf("%s %s: %v", c.guest, c.function, err)
		}
		if got := r.result("free", "fib", "fib", "10"); got != "55" {
			t.Errorf("after %s %s: fib(10) = %s", c.guest, c.function, got)
		}
	}
}

// The whole list of attacks runs in a child: an overflow of the host's stack is not recoverable.
func TestHostSurvives(t *testing.T) {
	const variable = "ASSAY_SANDBOX_ATTACK"
	if name := os.Getenv(variable); name != "" {
		attack(t, newRig(t, bad(defect.Name(name))))
		return
	}
	for name, dies := range map[string]bool{"none": false, string(defect.SandboxDiesOnAttack): true} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestHostSurvives$", "-test.count=1")
		cmd.Env = append(os.Environ(), variable+"="+name)
		out, err := cmd.CombinedOutput()
		if dies != (err != nil) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		if exit, ok := errors.AsType[*exec.ExitError](err); dies && (!ok || exit.ExitCode() != 2) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTenants(t *testing.T) {
	r := newRig(t, Config{})
	for n := len(r.tiers); n < MaxTenants; n++ {
		r.tenant(fmt.Sprintf("t%d", n), Free)
	}
	for id, tenant := range map[string]Tenant{"one-more": {Tier: Free}, "free": {Tier: "gold"}, "a\nb": {Tier: Free},
		strings.Repeat("n", 65): {Tier: Free}, "pro": {Tier: Pro, Ed25519: make([]byte, 31)}} {
		if err := r.SetTenant(id, tenant); !errors.Is(err, ErrTenant) {
			t.Errorf("%.20q: %v", id, err)
		}
	}
	r.tenant("free", Enterprise) // one that exists
}
