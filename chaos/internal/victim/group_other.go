//go:build !unix

package victim

import "os/exec"

func inOwnGroup(*exec.Cmd) {}
