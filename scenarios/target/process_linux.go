package target

import (
	"errors"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// isolate gives the child its own process group and asks the kernel to kill it when its parent dies,
// which also ends a stopped process. The watchdog covers its descendants.
func isolate(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// reap waits for the child's end, kills its group and only then takes its exit status: until it is
// taken the number belongs to the child, so that the kill can not hit a stranger.
func reap(cmd *exec.Cmd) error {
	for {
		err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break // an error here is told again by Wait
		}
	}
	killGroup(cmd.Process.Pid)
	return cmd.Wait()
}
