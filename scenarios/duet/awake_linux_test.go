package duet

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestUnlimited(t *testing.T) {
	for quota, want := range map[string]bool{"max 100000\n": true, "-1\n": true, "50000 100000\n": false, "50000\n": false, "": true} {
		if unlimited(quota) != want {
			t.Errorf("%q: %v", quota, !want)
		}
	}
}

// What keeps a processor awake is of the idle class, stays on it, and ends.
func TestSpinsAreIdleAndEnd(t *testing.T) {
	c, err := choose()
	if err != nil {
		t.Fatal(err)
	}
	a, err := keepAwake(c.cpus)
	if err != nil {
		t.Fatal(err)
	}
	for i, cmd := range a {
		attr, err := unix.SchedGetAttr(cmd.Process.Pid, 0)
		if err != nil || attr.Policy != unix.SCHED_IDLE {
			t.Errorf("class %+v, %v", attr, err)
		}
		var set, want unix.CPUSet
		want.Set(c.cpus[i])
		if err := unix.SchedGetaffinity(cmd.Process.Pid, &set); err != nil || set != want {
			t.Errorf("processors %v, %v", set, err)
		}
	}
	a.stop()
	for _, cmd := range a {
		if cmd.ProcessState == nil {
			t.Error("one goes on")
		}
	}
	if len(a) != len(c.cpus) || len(c.cpus) == 0 {
		t.Errorf("%d for %d processors", len(a), len(c.cpus))
	}
	var now unix.CPUSet
	if err := unix.SchedGetaffinity(os.Getpid(), &now); err != nil || now != c.all {
		t.Errorf("this process has %v of %v", now, c.all)
	}
}
