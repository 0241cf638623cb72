package runner

import (
	"sync"
	"time"

	"github.com/assay-bench/assay/results"
)

// stallTick is the period of the ticker whose gaps measure the harness's own stalls.
const stallTick = 5 * time.Millisecond

// stallNoise is how late a tick usually is on an idle host.
const stallNoise = time.Millisecond

// stalls remembers when the harness itself did not get to run: a timing bound near such a gap says
// something about this host, not about the target.
type stalls struct {
	clock results.Clock
	end   chan struct{}
	wg    sync.WaitGroup

	mu   sync.Mutex
	last time.Duration // the newest tick
	gaps []gap         // the last maxGaps that exceeded the period
}

type gap struct{ at, length time.Duration }

const maxGaps = 1 << 14

func watchStalls(clock results.Clock) *stalls {
	s := &stalls{clock: clock, end: make(chan struct{}), last: clock.Now()}
	s.wg.Go(s.watch)
	return s
}

func (s *stalls) watch() {
	tick := time.NewTicker(stallTick)
	defer tick.Stop()
	for {
		select {
		case <-s.end:
			return
		case <-tick.C:
			s.note(s.clock.Now())
		}
	}
}

// note takes a tick.
func (s *stalls) note(now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	late := now - s.last - stallTick
	s.last = now
	if late <= stallNoise {
		return
	}
	if len(s.gaps) == maxGaps {
		s.gaps = append(s.gaps[:0], s.gaps[maxGaps/2:]...)
	}
	s.gaps = append(s.gaps, gap{now, late})
}

// since returns the longest gap that ended after began, or has not ended yet.
func (s *stalls) since(began time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	var longest time.Duration
	if late := s.clock.Now() - s.last - stallTick; late > stallNoise {
		longest = late
	}
	for i := len(s.gaps) - 1; i >= 0 && s.gaps[i].at >= began; i-- {
		longest = max(longest, s.gaps[i].length)
	}
	return longest
}

func (s *stalls) stop() {
	close(s.end)
	s.wg.Wait()
}
