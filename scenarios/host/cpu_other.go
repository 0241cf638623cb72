//go:build !linux

package host

import (
	"errors"
	"time"

	"github.com/assay-bench/assay/chaos"
)

var errNoCPU = errors.New("processor time of other processes is read on Linux only")

// ProcessCPU is not known on this system.
func ProcessCPU([]chaos.Process) (time.Duration, error) { return 0, errNoCPU }

// ThreadCPU is not known on this system.
func ThreadCPU() (time.Duration, error) { return 0, errNoCPU }
