package sandbox

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"github.com/assay-bench/assay/reference/defect"
)

// A call of the guest secret changes state, the next one looks for it.
var left = []struct {
	name         string
	change       []string
	look         []string
	fresh        string
	traps        bool // look traps when state was kept
	kept         defect.Name
	alsoUnpooled bool // the instance has to be another one
}{
	{"memory", []string{"put", "7"}, []string{"scan"}, "0", false, defect.SandboxMemoryShared, false},
	{"globals", []string{"g_set", "9"}, []string{"g_get"}, "1", false, "", false},
	{"globals i64", []string{"g_set", "9"}, []string{"g_get64"}, "2", false, "", false},
	{"globals f64", []string{"g_set", "9"}, []string{"g_getf"}, "3.5", false, "", false},
	{"table", []string{"table_set"}, []string{"table_call"}, "1", false, defect.SandboxTableKept, true},
	{"table size", []string{"table_grow"}, []string{"table_grow"}, "2", false, defect.SandboxTableKept, true},
	{"segment", []string{"segment_drop"}, []string{"segment_use"}, "4", true, defect.SandboxTableKept, true},
	{"pages", []string{"grow"}, []string{"grow"}, "4", false, "", true},
}

func TestStateIsNotLeft(t *testing.T) {
	for _, e := range engines {
		r := newRig(t, Config{})
		r.publish("pro", "secret", Upload{Engine: e})
		for _, l := range left {
			first, err := r.call("pro", "secret", l.change[0], l.change[1:]...)
			if err != nil {
				t.Fatalf("%s: %v", l.name, err)
			}
			second, err := r.call("pro", "secret", l.look[0], l.look[1:]...)
			if err != nil || second.Results[0] != l.fresh {
				t.Errorf("%s: %s: %v (%v), want %s", e, l.name, second.Results, err, l.fresh)
			}
			if l.alsoUnpooled && first.Instance == second.Instance {
				t.Errorf("%s: %s: the instance was reused", e, l.name)
			}
		}
		open := r.result("pro", "secret", "open_count")
		if fd := r.result("pro", "secret", "open_file"); fd[0] == '-' {
			t.Errorf("%s: open_file: %s", e, fd)
		}
		if got := r.result("pro", "secret", "open_count"); got != open {
			t.Errorf("%s: %s descriptors are open, want %s", e, got, open)
		}
	}
}

func TestPlantedLeaks(t *testing.T) {
	for _, l := range left {
		if l.kept == "" {
			continue
		}
		r := newRig(t, bad(l.kept))
		r.publish("pro", "secret", Upload{})
		r.publish("enterprise", "secret", Upload{})
		if _, err := r.call("pro", "secret", l.change[0], l.change[1:]...); err != nil {
			t.Fatal(err)
		}
		other := "pro"
		if l.kept == defect.SandboxMemoryShared {
			other = "enterprise"
		}
		a, err := r.call(other, "secret", l.look[0], l.look[1:]...)
		if l.traps != (err != nil) || err == nil && a.Results[0] == l.fresh {
			t.Errorf("%s: nothing is left: %v, %v", l.kept, a.Results, err)
		}
	}
	r := newRig(t, bad(defect.SandboxDescriptorsKept, defect.SandboxTableKept))
	r.publish("pro", "secret", Upload{})
	open := r.result("pro", "secret", "open_count")
	r.result("pro", "secret", "open_file")
	if got := r.result("pro", "secret", "open_count"); got == open {
		t.Errorf("%s descriptors are open, as before", got)
	}
}

// The globals of a guest without tables stay with the defect.
func TestPlantedGlobals(t *testing.T) {
	for cfg, fresh := range map[*Config]bool{{}: true, {Defects: defect.Of(defect.SandboxGlobalsKept, defect.SandboxTableKept)}: false} {
		r := newRig(t, *cfg)
		r.publish("pro", "secret", Upload{})
		if _, err := r.call("pro", "secret", "g_set", "9"); err != nil {
			t.Fatal(err)
		}
		if got := r.result("pro", "secret", "g_get"); (got == "1") != fresh {
			t.Errorf("defects %v: g_get = %s", cfg.Defects.Names(), got)
		}
	}
}

func TestTrappedInstance(t *testing.T) {
	for _, c := range []struct {
		names           []defect.Name
		guest, function string
		same            bool
	}{
		{nil, "traps", "t_load", false},
		{[]defect.Name{defect.SandboxTrappedReused}, "traps", "t_load", true},
		{nil, "spin", "spin", false},
		{[]defect.Name{defect.SandboxFuelKeepsInstance}, "spin", "spin", true},
	} {
		r := newRig(t, bad(c.names...))
		r.publish("free", c.guest, Upload{})
		_, err := r.call("free", c.guest, c.function)
		class(t, err)
		first := err.(*Trap).Instance
		if n := r.Stats().Tenants["free"].Instances; (n == 0) == c.same {
			t.Errorf("%v: %d instances are alive", c.names, n)
		}
		_, err = r.call("free", c.guest, c.function)
		class(t, err)
		if same := err.(*Trap).Instance == first; same != c.same {
			t.Errorf("%v: the instance is the same: %v", c.names, same)
		}
	}
}

func TestOutputIsNotRecycled(t *testing.T) {
	foreign := func(cfg Config) bool {
		r := newRig(t, cfg)
		r.publish("free", "echo-c", Upload{ABI: Buffer})
		r.publish("pro", "echo-c", Upload{ABI: Buffer})
		var wg sync.WaitGroup
		found := make([]bool, 2)
		for n, tenant := range []string{"free", "pro"} {
			input := bytes.Repeat([]byte{byte('a' + n)}, 4096)
			wg.Go(func() {
				for range 20 {
					a, err := r.Invoke(t.Context(), tenant, "echo-c", Call{Function: "echo", Input: input})
					if err != nil {
						t.Error(err)
					}
					if !bytes.Equal(a.Output, input) {
						found[n] = true
					}
				}
			})
		}
		wg.Wait()
		return found[0] || found[1]
	}
	if foreign(Config{}) {
		t.Error("an answer holds foreign bytes")
	}
	if raceEnabled {
		return // the defect is a race
	}
	if !foreign(bad(defect.SandboxViewRecycled)) {
		t.Error("no answer holds foreign bytes though buffers are recycled")
	}
}

func TestNeighbour(t *testing.T) {
	wait := func(cfg Config) time.Duration {
		r := newRig(t, cfg)
		r.publish("pro", "spin", Upload{})
		r.publish("free", "fib", Upload{})
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = r.call("pro", "spin", "spin") })
		for r.Stats().Tenants["pro"].Running == 0 {
			time.Sleep(time.Millisecond)
		}
		began := time.Now()
		r.result("free", "fib", "fib", "10")
		took := time.Since(began)
		wg.Wait()
		return took
	}
	good, blocked := wait(Config{}), wait(bad(defect.SandboxSpinBlocks))
	if good > blocked/2 || blocked < 100*time.Millisecond {
		t.Errorf("a neighbour waits %s, %s where calls run one at a time", good, blocked)
	}
}
