//go:build !linux

package sandbox

import "testing"

func idleSpinners(tb testing.TB) func() {
	tb.Skip("NOT RUN: only Linux has a class of processes that run where nothing else would")
	return nil
}
