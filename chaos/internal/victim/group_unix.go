//go:build unix

package victim

import (
	"os/exec"
	"syscall"
)

// inOwnGroup makes the victim a group leader, as a harness does with its targets.
func inOwnGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
