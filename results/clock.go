package results

import "time"

// Clock tells the time since the run began.
type Clock interface {
	// Now is monotonic.
	Now() time.Duration
}

type sinceClock struct{ t0 time.Time }

func (c sinceClock) Now() time.Duration { return time.Since(c.t0) }

// ClockSince returns a clock that counts from t0, which must carry a monotonic reading.
func ClockSince(t0 time.Time) Clock { return sinceClock{t0} }
