//go:build !linux

package cost

import (
	"errors"
	"time"
)

// cpuOf needs the CPU clock of a thread, which only Linux is known to have here.
func cpuOf(func() error) (time.Duration, error) {
	return 0, errors.New("the CPU time of a thread can be read on Linux only")
}
