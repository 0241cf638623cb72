package host

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
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
	cpus, err := Processors()
	if err != nil {
		t.Fatal(err)
	}
	a, err := KeepAwake(cpus)
	if err != nil {
		t.Fatal(err)
	}
	for i, cmd := range a.spins {
		attr, err := unix.SchedGetAttr(cmd.Process.Pid, 0)
		if err != nil || attr.Policy != unix.SCHED_IDLE {
			t.Errorf("class %+v, %v", attr, err)
		}
		var set, want unix.CPUSet
		want.Set(cpus[i])
		if err := unix.SchedGetaffinity(cmd.Process.Pid, &set); err != nil || set != want {
			t.Errorf("processors %v, %v", set, err)
		}
	}
	a.Stop()
	a.Stop()
	for _, cmd := range a.spins {
		if cmd.ProcessState == nil {
			t.Error("one goes on")
		}
	}
	if len(a.spins) != len(cpus) || len(cpus) == 0 {
		t.Errorf("%d for %d processors", len(a.spins), len(cpus))
	}
}

// The class is that of the process, whatever one of its threads has.
func TestRealTimeIsSeen(t *testing.T) {
	if os.Getenv("ASSAY_TEST_CLASS") != "" {
		fmt.Println("real time:", RealTime())
		return
	}
	for class, want := range map[string]bool{"--rr": true, "--fifo": true, "--other": false} {
		priority := "0"
		if want {
			priority = "1"
		}
		cmd := exec.Command("chrt", class, priority, os.Args[0], "-test.run", "^TestRealTimeIsSeen$")
		cmd.Env = append(os.Environ(), "ASSAY_TEST_CLASS=1")
		out, err := cmd.CombinedOutput()
		if err != nil && strings.Contains(string(out), "chrt") {
			t.Skipf("no real-time class for us: %s", out)
		}
		if err != nil || !strings.Contains(string(out), fmt.Sprint("real time: ", want)) {
			t.Errorf("%s: %v, %s", class, err, out)
		}
	}
}
