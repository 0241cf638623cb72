package load

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/assay-bench/assay/results/histogram"
)

// engine is the state of one run, shared by the pacer and the transport.
type engine struct {
	opt     Options
	offsets []int64 // intended times since t0; read only
	pacer   *pacer
	table   *table
	series  *series

	t0            int64 // the clock at offset 0
	startAt       time.Time
	endAt         int64
	handed        atomic.Int64  // arrivals passed on
	finished      atomic.Int64  // arrivals recorded
	done          chan struct{} // closed when all are recorded
	ending        atomic.Bool   // the run is over: send nothing, blame nobody
	pacerLateness *histogram.Histogram

	mu        sync.Mutex // guards recorders
	recorders []*recorder

	progress sync.WaitGroup
	quit     chan struct{} // ends the progress goroutine
}

func newEngine(offsets []int64, duration time.Duration, opt Options) *engine {
	return &engine{
		opt:           opt,
		offsets:       offsets,
		pacer:         &pacer{now: opt.now, spin: max(int64(opt.Spin), 0)},
		table:         newTable(len(offsets)),
		series:        newSeries(duration + opt.Drain),
		done:          make(chan struct{}),
		quit:          make(chan struct{}),
		pacerLateness: histogram.New(),
	}
}

func (e *engine) scheduled() int64 { return int64(len(e.offsets)) }

// recorder returns a new set of histograms for one goroutine.
func (e *engine) recorder() *recorder {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := new(recorder)
	e.recorders = append(e.recorders, r)
	return r
}

// finish records the end of arrival id, unless it is not in flight. Whatever
// ends after its timeout is a timeout, with the time elapsed at the timeout.
func (e *engine) finish(r *recorder, id, end int64, out outcome, kind string) bool {
	start, ok := e.table.finish(id)
	if !ok {
		return false
	}
	if limit := start + int64(e.opt.Timeout); end > limit {
		end, out = limit, outcomeTimeout
	}
	intended := e.t0 + e.offsets[id]
	r.add(intended, start, end, out, kind)
	e.series.add(end-e.t0, end-intended, out)
	if e.finished.Add(1) == e.scheduled() {
		close(e.done)
	}
	return true
}

// startProgress calls Options.Progress once a second until stopProgress.
func (e *engine) startProgress() {
	if e.opt.Progress == nil {
		return
	}
	e.progress.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-e.quit:
				return
			case <-tick.C:
				e.opt.Progress(e.look())
			}
		}
	})
}

func (e *engine) stopProgress() {
	close(e.quit)
	e.progress.Wait()
}

// look returns the progress so far.
func (e *engine) look() Progress {
	sum := e.series.totals()
	return Progress{
		Elapsed:   time.Duration(e.opt.now() - e.t0),
		Scheduled: e.scheduled(),
		Handed:    e.handed.Load(),
		OK:        sum[outcomeOK],
		Errors:    sum[outcomeError],
		Timeouts:  sum[outcomeTimeout],
	}
}
