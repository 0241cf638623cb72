//go:build !linux

package chaos

import (
	"errors"
	"fmt"
	"runtime"
)

// Watchdog is for Linux only.
type Watchdog struct{}

// StartWatchdog is for Linux only.
func StartWatchdog(string, []string, string) (*Watchdog, error) {
	return nil, fmt.Errorf("watchdog on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

// Close does nothing.
func (*Watchdog) Close() error { return nil }
