package load

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// maxIntervals bounds the series: longer runs get wider intervals.
const maxIntervals = 600

// Interval is what ended within one interval of the run.
type Interval struct {
	Start    int64 `json:"start_ns"` // since the first intended time
	Width    int64 `json:"width_ns"`
	Count    int64 `json:"count"` // ok, errors and timeouts
	Errors   int64 `json:"errors"`
	Timeouts int64 `json:"timeouts"`
	P50      int64 `json:"p50_ns"` // response of all, upper bucket edge, buckets of 1.6 %
	P99      int64 `json:"p99_ns"`
}

// series counts ends per interval. Goroutines share its bins through atomic
// adds: an interval of its own per goroutine would have to be handed over, and
// an idle goroutine never does.
type series struct {
	width int64
	bins  []atomic.Pointer[bin]
}

// bin is one interval: a coarse log-linear histogram of 7 KB.
type bin struct {
	outcomes [outcomes]atomic.Int64
	buckets  [coarseBuckets]atomic.Uint32
}

// Geometry of the coarse histogram: units of 1.024 µs, 64 buckets an octave, up
// to an hour and a little.
const (
	coarseUnit    = 10
	coarseOctave  = 6
	coarseBuckets = 27 << coarseOctave
)

func newSeries(span time.Duration) *series {
	seconds := (int64(span) + second - 1) / second
	wide := (seconds + maxIntervals - 1) / maxIntervals
	width := max(wide, 1) * second
	return &series{width: width, bins: make([]atomic.Pointer[bin], int64(span)/width+1)}
}

// add counts an arrival that ended at `at` since the start; ends beyond the
// span go to the last interval.
func (s *series) add(at, response int64, out outcome) {
	i := min(max(at/s.width, 0), int64(len(s.bins)-1))
	p := s.bins[i].Load()
	if p == nil {
		s.bins[i].CompareAndSwap(nil, new(bin))
		p = s.bins[i].Load()
	}
	p.outcomes[out].Add(1)
	p.buckets[coarseIndex(response)].Add(1)
}

// coarseIndex returns the bucket of a duration.
func coarseIndex(ns int64) int {
	v := uint64(max(ns, 0)) >> coarseUnit
	shift := max(bits.Len64(v)-coarseOctave-1, 0)
	return min(shift<<coarseOctave+int(v>>shift), coarseBuckets-1)
}

// coarseEdge returns the upper edge of a bucket in nanoseconds.
func coarseEdge(i int) int64 {
	if i < 2<<coarseOctave {
		return int64(i+1)<<coarseUnit - 1
	}
	shift := i>>coarseOctave - 1
	return int64(i-shift<<coarseOctave+1)<<shift<<coarseUnit - 1
}

// quantile returns the upper edge of the bucket of rank ceil(percent × n / 100).
func (p *bin) quantile(percent, n int64) int64 {
	rank := (percent*n + 99) / 100
	for i := range p.buckets {
		rank -= int64(p.buckets[i].Load())
		if rank <= 0 && n > 0 {
			return coarseEdge(i)
		}
	}
	return 0
}

// totals sums the outcomes so far.
func (s *series) totals() (sum [outcomes]int64) {
	for i := range s.bins {
		if p := s.bins[i].Load(); p != nil {
			for o := range sum {
				sum[o] += p.outcomes[o].Load()
			}
		}
	}
	return sum
}

// intervals returns the series up to the last interval in which anything ended.
func (s *series) intervals() []Interval {
	list := []Interval{}
	last := 0
	for i := range s.bins {
		v := Interval{Start: int64(i) * s.width, Width: s.width}
		if p := s.bins[i].Load(); p != nil {
			v.Errors, v.Timeouts = p.outcomes[outcomeError].Load(), p.outcomes[outcomeTimeout].Load()
			v.Count = p.outcomes[outcomeOK].Load() + v.Errors + v.Timeouts
			v.P50, v.P99 = p.quantile(50, v.Count), p.quantile(99, v.Count)
			last = i + 1
		}
		list = append(list, v)
	}
	return list[:last]
}
