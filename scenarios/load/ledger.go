package load

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/assay-bench/assay/results/histogram"
)

const (
	maxIntervals = 600 // of a result: longer runs get wider intervals
	maxShards    = 16  // recorders; each takes some 0.2 MB, 0.6 MB at most
	perProcessor = 2   // recorders of a smaller host
)

// Interval is what was recorded within one interval of the run.
type Interval struct {
	Start    int64 `json:"start_ns"` // since the first intended time
	Width    int64 `json:"width_ns"`
	Count    int64 `json:"count"` // ok, errors and timeouts
	Errors   int64 `json:"errors"`
	Timeouts int64 `json:"timeouts"`
	P50      int64 `json:"p50_ns"` // response of all
	P99      int64 `json:"p99_ns"`
	// Histograms holds ResponseAll, Service and Lateness of the interval as
	// histogram.Encode writes them; nil when nothing ended in it.
	Histograms map[string][]byte `json:"-"`
}

// intervalKinds are the histograms of an interval.
var intervalKinds = []string{ResponseAll, Service, Lateness}

// ledger collects what the recorders count: once a second it empties them into
// the totals and into the interval under way. Its memory depends on the length
// of the run, up to a bound, and not on the number of arrivals.
type ledger struct {
	kinds errorKinds
	width int64

	mu     sync.Mutex // guards the rest; nobody takes it to record
	shards []*recorder
	spare  *buffer // empty: what the next recorder to be emptied goes on with
	dealt  int
	counts [outcomes]int64
	totals map[string]*histogram.Histogram
	open   map[string]*histogram.Histogram // of the interval under way
	index  int64                           // of the interval under way
	missed [outcomes]int64                 // counts when the interval under way began
	done   []Interval
	latest *histogram.Histogram // response of what the last collection brought
	err    error
}

func newLedger(span time.Duration) *ledger {
	seconds := (int64(span) + second - 1) / second
	l := &ledger{
		width:  max((seconds+maxIntervals-1)/maxIntervals, 1) * second,
		totals: map[string]*histogram.Histogram{},
		open:   map[string]*histogram.Histogram{},
		latest: histogram.New(),
		spare:  new(buffer),
	}
	for _, name := range []string{ResponseOK, ResponseAll, Service, Lateness} {
		l.totals[name] = histogram.New()
	}
	for _, name := range intervalKinds {
		l.open[name] = histogram.New()
	}
	return l
}

// recorder deals the recorders out: the first of those who ask have one to themselves.
func (l *ledger) recorder() *recorder {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.shards) < min(maxShards, perProcessor*runtime.GOMAXPROCS(0)) {
		l.shards = append(l.shards, newRecorder(&l.kinds))
	}
	l.dealt++
	return l.shards[(l.dealt-1)%len(l.shards)]
}

// collect empties the recorders, at so many nanoseconds since the start.
// Everything that ended since the last collection counts for the interval that
// was under way then.
func (l *ledger) collect(at int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.latest.Reset()
	all := []*histogram.Histogram{l.totals[ResponseAll], l.open[ResponseAll], l.latest}
	for _, r := range l.shards {
		b := r.turn(l.spare)
		for o := range b.failed {
			l.counts[o] += b.failed[o].Swap(0)
		}
		l.counts[outcomeOK] += b.ok.Drain(append(all, l.totals[ResponseOK])...)
		b.bad.Drain(all...)
		b.service.Drain(l.totals[Service], l.open[Service])
		b.lateness.Drain(l.totals[Lateness], l.open[Lateness])
		l.spare = b
	}
	for l.index < at/l.width {
		l.closeInterval()
	}
}

// finish collects the rest and returns the intervals up to the last in which
// anything ended.
func (l *ledger) finish(at int64) ([]Interval, error) {
	l.collect(at)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closeInterval()
	last := len(l.done)
	for last > 0 && l.done[last-1].Count == 0 {
		last--
	}
	return append([]Interval{}, l.done[:last]...), l.err
}

// closed returns the intervals that have ended, from number from on.
func (l *ledger) closed(from int) []Interval {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Interval{}, l.done[from:]...)
}

// closeInterval ends the interval under way.
func (l *ledger) closeInterval() {
	since := func(o outcome) int64 { return l.counts[o] - l.missed[o] }
	all := l.open[ResponseAll]
	v := Interval{
		Start: l.index * l.width, Width: l.width,
		Errors: since(outcomeError), Timeouts: since(outcomeTimeout),
		P50: all.Quantile(0.5), P99: all.Quantile(0.99),
	}
	v.Count = since(outcomeOK) + v.Errors + v.Timeouts
	if v.Count > 0 {
		var err error
		if v.Histograms, err = encodeAll(l.open); err != nil && l.err == nil {
			l.err = err
		}
	}
	l.index++
	l.missed = l.counts
	l.done = append(l.done, v)
	for _, h := range l.open {
		h.Reset()
	}
}

// encodeAll returns the text of each histogram.
func encodeAll(hists map[string]*histogram.Histogram) (map[string][]byte, error) {
	all := make(map[string][]byte, len(hists))
	for _, name := range slices.Sorted(maps.Keys(hists)) {
		text, err := hists[name].Encode()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all[name] = text
	}
	return all, nil
}

// look returns the counts so far and the median and p99 of the last second.
func (l *ledger) look() (counts [outcomes]int64, p50, p99 time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts, time.Duration(l.latest.Quantile(0.5)), time.Duration(l.latest.Quantile(0.99))
}
