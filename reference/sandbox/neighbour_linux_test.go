package sandbox

import (
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const spinnerVariable = "ASSAY_SANDBOX_SPINNER"

// TestSpinner is what idleSpinners runs: a process that uses the processor until it is killed, a minute at most.
func TestSpinner(t *testing.T) {
	if os.Getenv(spinnerVariable) == "" {
		t.Skip("only as a process of BenchmarkNeighbours")
	}
	for until := time.Now().Add(time.Minute); time.Now().Before(until); {
	}
}

// idleSpinners starts a process for each processor. They run only where nothing else would (SCHED_IDLE): what they
// do to a neighbour is the host's doing, such as shared caches and cores, sleep states and its hypervisor.
func idleSpinners(tb testing.TB) (stop func()) {
	tb.Helper()
	var all []*exec.Cmd
	for range runtime.NumCPU() {
		cmd := exec.Command(os.Args[0], "-test.run=^TestSpinner$")
		cmd.Env = append(os.Environ(), spinnerVariable+"=1")
		if err := cmd.Start(); err != nil {
			tb.Fatal(err)
		}
		all = append(all, cmd)
		if err := unix.SchedSetAttr(cmd.Process.Pid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0); err != nil {
			tb.Fatal(err)
		}
	}
	return func() {
		for _, cmd := range all {
			_ = cmd.Process.Kill() // it may have ended
			_ = cmd.Wait()         // killed
		}
	}
}
