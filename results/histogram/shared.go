package histogram

import (
	"math/bits"
	"sync/atomic"
)

// The buckets of the geometry as one row: below 2,048 one a value, above 1,024
// an octave.
const (
	halfBuckets  = 1 << (subBits - 1)
	sharedLength = (highestBits-subBits)*halfBuckets + 2*halfBuckets
	highestBits  = 42 // of Highest
)

// Shared counts durations for any number of goroutines at once, without locks,
// in the buckets of Histogram. It takes 4 KB for each octave that it has counted
// in, 0.14 MB at most, and what it counts is read by Drain while nobody records.
// The zero value is empty.
//
// Tried: one array. Lost: 16 recorders of four histograms, each twice, are 18 MB of heap,
// and the collector lets as much garbage pile up before it looks: a load grew by 23 MB in four minutes.
type Shared struct {
	pages    [sharedLength / halfBuckets]atomic.Pointer[counters]
	overflow atomic.Int64
}

// counters are the buckets of one octave.
type counters [halfBuckets]atomic.Uint32

// Record counts one duration in nanoseconds, clamped as by Histogram.Record.
func (s *Shared) Record(ns int64) {
	if ns < 0 || ns > Highest {
		s.overflow.Add(1)
		ns = min(max(ns, 0), Highest)
	}
	i := index(ns)
	page := s.pages[i/halfBuckets].Load()
	if page == nil {
		page = s.page(i / halfBuckets)
	}
	page[i%halfBuckets].Add(1)
}

// page makes a page, unless somebody else just did.
func (s *Shared) page(i int) *counters {
	s.pages[i].CompareAndSwap(nil, new(counters))
	return s.pages[i].Load()
}

// Drain moves the counts to every one of into, leaves s empty and returns how many
// durations those were. Nobody may record meanwhile, and at least every 4 billion
// records there must be a drain.
func (s *Shared) Drain(into ...*Histogram) (moved int64) {
	overflow := s.overflow.Swap(0)
	for _, h := range into {
		h.overflow += overflow
	}
	for p := range s.pages {
		page := s.pages[p].Load()
		if page == nil {
			continue
		}
		for i := range page {
			n := int64(page[i].Load())
			if n == 0 {
				continue
			}
			page[i].Store(0)
			moved += n
			for _, h := range into {
				_ = h.counts.RecordValues(edge(p*halfBuckets+i), n) // within the range, like Record
			}
		}
	}
	return moved
}

// index returns the bucket of a value in the range.
func index(ns int64) int {
	shift := max(bits.Len64(uint64(ns))-subBits, 0)
	return shift*halfBuckets + int(ns>>shift)
}

// edge returns the lowest value of a bucket.
func edge(i int) int64 {
	if i < 2*halfBuckets {
		return int64(i)
	}
	shift := i/halfBuckets - 1
	return int64(i-shift*halfBuckets) << shift
}

// Reset empties h, overflow included.
func (h *Histogram) Reset() {
	h.counts.Reset()
	h.overflow = 0
}
