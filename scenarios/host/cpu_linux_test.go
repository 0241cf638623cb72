package host

import (
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/assay-bench/assay/chaos"
)

// TestCPUGrowsWithWork spins for a while of processor time, which both clocks must see.
func TestCPUGrowsWithWork(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	self := []chaos.Process{{PID: os.Getpid()}}
	process, err := ProcessCPU(self)
	if err != nil {
		t.Fatal(err)
	}
	thread, err := ThreadCPU()
	if err != nil {
		t.Fatal(err)
	}
	const work = 20 * time.Millisecond
	deadline := time.Now().Add(10 * time.Second)
	for now := thread; now < thread+work; {
		if time.Now().After(deadline) {
			t.Fatal("the thread's clock does not move")
		}
		if now, err = ThreadCPU(); err != nil {
			t.Fatal(err)
		}
	}
	after, err := ProcessCPU(self)
	if err != nil {
		t.Fatal(err)
	}
	if got := after - process; got < work {
		t.Errorf("the process used %s, its thread alone %s", got, work)
	}
}

func TestCPUOfNothing(t *testing.T) {
	if _, err := ProcessCPU(nil); err == nil {
		t.Error("processor time of no process is known")
	}
	if _, err := ProcessCPU([]chaos.Process{{PID: 1 << 28}}); err == nil {
		t.Error("processor time of a process that there can not be is known")
	}
}
