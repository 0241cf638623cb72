package sandbox

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/assay-bench/assay/reference/defect"
)

// processors is what the calling thread may run on.
func processors(t *testing.T) (s unix.CPUSet) {
	t.Helper()
	if err := unix.SchedGetaffinity(0, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// slice is the calling thread's; 0 where the kernel has none to set.
func slice(t *testing.T) uint64 {
	t.Helper()
	attr, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return attr.Runtime
}

// TestLongCallsLeaveAProcessor holds a slot: its thread runs on all processors but one, if there are two, threads that
// start meanwhile on all, and the thread gets back what it had.
func TestLongCallsLeaveAProcessor(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, brief := processors(t), slice(t)
	s := newSlots(defect.Set{})
	if want := min(runtime.NumCPU(), runtime.GOMAXPROCS(0)) > 1; s.confine != want {
		t.Fatalf("long calls are confined: %v, want %v", s.confine, want)
	}
	fewer, long := before.Count(), brief
	if s.confine {
		fewer--
		if brief > 0 {
			long = uint64(patientSlice)
		}
	}
	call := &turn{slots: s}
	for range 2 {
		if err := call.take(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := processors(t); n.Count() != fewer {
			t.Errorf("a long call may run on %d of %d processors, want %d", n.Count(), before.Count(), fewer)
		}
		if got := slice(t); got != long {
			t.Errorf("a long call has slices of %d ns, want %d", got, long)
		}
		other := make(chan unix.CPUSet)
		for range 20 {
			go func() {
				runtime.LockOSThread() // and ends so: the next one is a new thread
				other <- processors(t)
			}()
		}
		for range 20 {
			if got := <-other; got != before {
				t.Error("another thread is confined too")
			}
		}
		call.leave()
		if got := slice(t); got != brief {
			t.Errorf("afterwards the thread has slices of %d ns, want its %d", got, brief)
		}
		if got := processors(t); got != before {
			t.Errorf("afterwards the thread has %d processors, want its %d", got.Count(), before.Count())
		}
	}
	if s := newSlots(defect.Of(defect.SandboxLongCallsUnbounded)); s.confine {
		t.Error("the planted defect confines its calls")
	}
}
