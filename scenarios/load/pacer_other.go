//go:build !linux

package load

import "time"

const napKind = "plain timers"

// newNap returns the sleep of the Go runtime: later than clock_nanosleep, and
// named in the notes of the result.
func newNap() func(ns int64) {
	return func(ns int64) { time.Sleep(time.Duration(ns)) }
}
