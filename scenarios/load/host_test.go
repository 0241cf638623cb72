package load

import (
	"testing"
	"time"
)

// What a thread waits for because it was asleep is not held against the host; what it waits because others run is.
func TestWaitedIsBeyondWakingUp(t *testing.T) {
	for name, tt := range map[string]struct {
		ran, waited time.Duration
		turns       int64
		want        float64
	}{
		"nothing ran":                         {0, 0, 0, 0},
		"a brief call and a wake-up each":     {4 * time.Millisecond, 5 * time.Millisecond, 1000, 0},
		"others run for 1 ms before each":     {4 * time.Millisecond, time.Second, 1000, 0.98 / 0.984},
		"one that never sleeps shares evenly": {time.Second, time.Second, 200, 0.996 / 1.996},
	} {
		if got := waitedShare(tt.ran, tt.waited, tt.turns); got < tt.want-1e-9 || got > tt.want+1e-9 {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}
