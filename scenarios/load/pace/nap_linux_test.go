package pace

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// A pacer goes above the other threads of a real-time process, and changes no other one's class.
func TestPacerGoesAboveItsSiblings(t *testing.T) {
	for _, tt := range []struct{ policy, before, after uint32 }{
		{unix.SCHED_NORMAL, 0, 0},
		{unix.SCHED_RR, 1, 2},
		{unix.SCHED_FIFO, 7, 8},
		{unix.SCHED_RR, highestPriority, highestPriority},
	} {
		done := make(chan struct{})
		go func() { // its thread ends with it
			defer close(done)
			runtime.LockOSThread()
			if err := unix.SchedSetAttr(0, &unix.SchedAttr{Policy: tt.policy, Priority: tt.before}, 0); err != nil {
				t.Logf("policy %d is not for us: %v", tt.policy, err)
				return
			}
			p := &Pacer{Now: clock()}
			p.Lock()
			attr, err := unix.SchedGetAttr(0, 0)
			if err != nil {
				t.Error(err)
			} else if attr.Policy != tt.policy || attr.Priority != tt.after {
				t.Errorf("policy %d at %d became policy %d at %d, want %d", tt.policy, tt.before, attr.Policy, attr.Priority, tt.after)
			}
		}()
		<-done
	}
}
