//go:build !linux

package truth

import "time"

// newClock returns the wall clock: the only one that processes share here.
func newClock() func() int64 {
	base := time.Now()
	return func() int64 { return base.UnixNano() + int64(time.Since(base)) }
}
