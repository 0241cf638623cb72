package runner

import (
	"sync"
	"time"

	"github.com/assay-bench/assay/results"
)

// stallTick is the period of the ticker whose gaps measure the harness's own stalls.
const stallTick = 5 * time.Millisecond

// stalls remembers when the harness itself did not get to run: a timing bound near such a gap says
// something about this host, not about the target.
type stalls struct {
	clock results.Clock
	end   chan struct{}
	wg    sync.WaitGroup

	mu   sync.Mutex
	gaps []gap // the last maxGaps that exceeded the period
}

type gap struct{ at, length time.Duration }

const maxGaps = 1 << 14

func watchStalls(clock results.Clock) *stalls {
	s := &stalls{clock: clock, end: make(chan struct{})}
	s.wg.Go(s.watch)
	return s
}

func (s *stalls) watch() {
	tick := time.NewTicker(stallTick)
	defer tick.Stop()
	last := s.clock.Now()
	for {
		select {
		case <-s.end:
			return
		case <-tick.C:
			now := s.clock.Now()
			if late := now - last - stallTick; late > time.Millisecond {
				s.note(gap{now, late})
			}
			last = now
		}
	}
}

func (s *stalls) note(g gap) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.gaps) == maxGaps {
		s.gaps = append(s.gaps[:0], s.gaps[maxGaps/2:]...)
	}
	s.gaps = append(s.gaps, g)
}

// since returns the longest gap that ended after began.
func (s *stalls) since(began time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	var longest time.Duration
	for i := len(s.gaps) - 1; i >= 0 && s.gaps[i].at >= began; i-- {
		longest = max(longest, s.gaps[i].length)
	}
	return longest
}

func (s *stalls) stop() {
	close(s.end)
	s.wg.Wait()
}
