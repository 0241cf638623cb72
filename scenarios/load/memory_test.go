package load

import (
	"os"
	"runtime"
	"testing"
	"time"
)

// weighing is a transport that finishes arrivals at once and weighs the heap now
// and then.
type weighing struct {
	nothing
	every int64
	most  *uint64
}

func (w *weighing) hand(j, _ int64, _ bool) int64 {
	w.nothing.hand(j, 1, true)
	if j%w.every == w.every-1 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		*w.most = max(*w.most, m.HeapAlloc)
	}
	return 1
}

// load/record/memory: ten times the arrivals take the same memory. The full size
// of the row, 1 and 10 million, is measured with ASSAY_SOAK=1.
func TestMemoryDoesNotFollowTheSamples(t *testing.T) {
	few := 100_000
	if os.Getenv("ASSAY_SOAK") != "" {
		few = 1_000_000
	}
	heap := func(n int) (most uint64) {
		via := viaFunc(func(e *engine) transport {
			return &weighing{nothing{e: e, r: e.recorder()}, int64(n / 5), &most}
		})
		r := play(t, t.Context(), overdue(n), via, Options{LatenessBound: time.Hour})
		wantCounts(t, r, Counts{Scheduled: int64(n), OK: int64(n)})
		return most
	}
	small := heap(few)
	large := heap(10 * few)
	t.Logf("live heap: %d arrivals %d KiB, ten times as many %d KiB", few, small>>10, large>>10)
	if grown := int64(large) - int64(small); grown > 10<<20 {
		t.Errorf("the heap grows by %d KiB", grown>>10)
	}
}

// An hour's worth of intervals, each with three encoded histograms of a wide
// distribution, stays below the same bound.
func TestIntervalsOfASoakAreSmall(t *testing.T) {
	l := newLedger(time.Hour)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	r := l.recorder()
	intervals := int64(time.Hour) / l.width
	for i := range intervals {
		for k := range int64(300) {
			r.add(0, k*k, k*k+(k*7919+i*104729)%9_000_000, outcomeOK, "")
		}
		l.collect((i + 1) * l.width)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	grown := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("%d intervals of %v take %d KiB", len(l.done), time.Duration(l.width), grown>>10)
	if int64(len(l.done)) != intervals || grown > 10<<20 {
		t.Errorf("%d intervals of %d, %d KiB", len(l.done), intervals, grown>>10)
	}
}
