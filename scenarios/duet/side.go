package duet

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/assay-bench/assay/scenarios/host"
)

// Constants of the warm-up (gate.md section 2).
const (
	warmupWindow   = 50 * time.Millisecond
	warmupRequests = 30
	warmupLimit    = 5 * time.Second
	warmupStable   = 0.02
)

// side is one arm while it is measured.
type side struct {
	started
	conn    Connection
	timeout time.Duration
	warmup  Warmup
	median  time.Duration // of the last window of the warm-up
	before  counters
	ns      []float64
	errors  int
	took    time.Duration
	crowd   *crowd // of concurrent turns; ns is empty then
}

// requests is how many were sent.
func (s *side) requests() int {
	if s.crowd != nil {
		return s.crowd.requests
	}
	return len(s.ns)
}

// counters are what a process has used so far.
type counters struct {
	cpu     time.Duration
	hasCPU  bool
	allocs  float64
	counted bool
	wire    int64
}

// typical is how long a request takes, as far as the warm-up tells.
func (s *side) typical() time.Duration { return s.median }

// warm sends both arms requests in turn until neither gets faster by 2 % from one window to the next, or the limit
// is there. A window that is slower than the last one tells of the host, not of a program that is warming up.
func warm(ctx context.Context, sides [2]*side, limit time.Duration) error {
	begin := time.Now()
	for n := 0; n == 0 || time.Since(begin) < limit && !(sides[0].warmup.Converged && sides[1].warmup.Converged); n++ {
		window(ctx, sides, limit)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	for _, s := range sides {
		s.warmup.Took = time.Since(begin)
	}
	for _, s := range sides {
		if err := s.count(ctx, &s.before); err != nil {
			return err
		}
	}
	return nil
}

// window sends the requests of one window of the warm-up and looks at their medians.
func window(ctx context.Context, sides [2]*side, limit time.Duration) {
	var took [2][]time.Duration
	for begin := time.Now(); ctx.Err() == nil && (len(took[0]) < warmupRequests || time.Since(begin) < 2*warmupWindow); {
		for i, s := range sides {
			sent := time.Now()
			end, _ := s.call(ctx, s.warmup.Requests, sent)
			s.warmup.Requests++
			took[i] = append(took[i], end.Sub(sent))
		}
		if time.Since(begin) > limit {
			break
		}
	}
	for i, s := range sides {
		if len(took[i]) == 0 {
			continue
		}
		slices.Sort(took[i])
		last := s.median
		s.median = took[i][len(took[i])/2]
		if last > 0 && float64(s.median) > float64(last)*(1-warmupStable) {
			s.warmup.Converged = true
		}
	}
}

// call makes one request and returns when it ended.
func (s *side) call(ctx context.Context, n int, sent time.Time) (end time.Time, err error) {
	limited, cancel := context.WithDeadline(ctx, sent.Add(s.timeout))
	err = s.conn.Call(limited, n)
	end = time.Now()
	cancel()
	return end, err
}

// measure makes one request that counts. A failed one counts with the time that it took.
func (s *side) measure(ctx context.Context, n int, sent time.Time) time.Time {
	end, err := s.call(ctx, n, sent)
	if err != nil {
		s.errors++
	}
	s.ns = append(s.ns, float64(end.Sub(sent)))
	s.took += end.Sub(sent)
	return end
}

// count reads the counters of the process.
func (s *side) count(ctx context.Context, c *counters) (err error) {
	c.wire = s.conn.Wire() + s.crowd.wire()
	if tree := s.process.Tree(); len(tree) > 0 {
		c.cpu, err = host.ProcessCPU(tree)
		c.hasCPU = err == nil // a process that is gone has no figure, and its errors say so
	}
	c.allocs, c.counted, err = s.source.Allocs(ctx, s.process)
	if err != nil {
		return fmt.Errorf("count allocations: %w", err)
	}
	return nil
}

// close returns what was measured.
func (s *side) close(ctx context.Context, sc Scenario) (Side, error) {
	out := Side{
		PID: s.process.PID, Started: s.at, Ready: s.ready, Warmup: s.warmup,
		Requests: s.requests(), Errors: s.errors, Took: s.took, Figures: Figures{},
	}
	var after counters
	if err := s.count(ctx, &after); err != nil {
		return out, err
	}
	n := float64(out.Requests)
	if n == 0 {
		return out, nil
	}
	if err := s.latencies(&out, sc); err != nil {
		return out, err
	}
	out.Figures[Errors] = float64(s.errors) / n
	out.Figures[Wire] = float64(after.wire-s.before.wire) / n
	if s.before.hasCPU && after.hasCPU {
		out.Figures[CPU] = (after.cpu - s.before.cpu).Seconds() / n
	}
	if s.before.counted && after.counted {
		out.Figures[Allocs] = (after.allocs - s.before.allocs) / n
	}
	if slices.Contains(sc.Metrics, Peak) {
		peak, err := host.PeakMemory(s.process.Tree())
		if err != nil {
			return out, err
		}
		out.Figures[Peak] = float64(peak)
	}
	return out, nil
}

// latencies adds what the times of the requests give.
func (s *side) latencies(out *Side, sc Scenario) (err error) {
	if s.crowd != nil {
		return s.crowd.latencies(out, sc)
	}
	for _, limit := range sc.Limits {
		over := 0
		for _, v := range s.ns {
			if v > float64(limit) {
				over++
			}
		}
		out.over(limit, over)
	}
	if out.Histogram, err = encodeHistogram(s.ns); err != nil {
		return err
	}
	out.Figures.latencies(s.ns)
	return nil
}

func (s *Side) over(limit time.Duration, n int) {
	if s.Over == nil {
		s.Over = map[string]int{}
	}
	s.Over[limit.String()] = n
}
