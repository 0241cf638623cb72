//go:build !linux

package pace

import "time"

// Kind names how a pacer sleeps on this system.
const Kind = "plain timers"

// newNap returns the sleep of the Go runtime.
func newNap() func(ns int64) {
	return func(ns int64) { time.Sleep(time.Duration(ns)) }
}
