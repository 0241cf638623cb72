package load

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/cpu"

	"github.com/assay-bench/assay/results/histogram"
	"github.com/assay-bench/assay/scenarios/load/pace"
)

// pagesAhead is how many pages of intended times are ready before the pacer
// needs them.
const pagesAhead = 8

// startLead is how far ahead of the first arrival the clock zero is put, so
// that the pacer's thread is up by then.
const startLead = time.Millisecond

// engine is the state of one run, shared by the pacer and the transport. It
// numbers arrivals among those of this node: 0, 1, …; ids that leave it are
// those of the whole schedule.
type engine struct {
	opt      Options
	schedule Schedule
	stripe   stripe
	n        int64 // arrivals of this node
	pacer    *pace.Pacer
	table    *table
	ledger   *ledger

	t0            int64 // the clock at offset 0
	startAt       time.Time
	endAt         int64
	done          chan struct{} // closed when all are recorded
	ending        atomic.Bool   // the run is over: send nothing, blame nobody
	pacerLateness histogram.Shared
	handed        atomic.Int64     // arrivals passed on
	_             cpu.CacheLinePad // the pacer writes above, workers below
	finished      atomic.Int64     // arrivals recorded, by whole pages

	running sync.WaitGroup // of the goroutines below
	quit    chan struct{}  // ends them
}

// newEngine prepares n arrivals of a valid schedule.
func newEngine(s Schedule, seg stripe, n int64, opt Options) *engine {
	return &engine{
		opt:      opt,
		schedule: s,
		stripe:   seg,
		n:        n,
		pacer:    opt.pacer(float64(s.Length()) / float64(max(n, 1))),
		table:    newTable(n),
		ledger:   newLedger(s.Length() + opt.Drain),
		done:     make(chan struct{}),
		quit:     make(chan struct{}),
	}
}

// recorder returns where a goroutine records; others may share it.
func (e *engine) recorder() *recorder { return e.ledger.recorder() }

// finish records the end of arrival j, unless it is not in flight. Whatever
// ends after its timeout is a timeout, with the time elapsed at the timeout.
func (e *engine) finish(r *recorder, j, end int64, out outcome, kind string) bool {
	offset, start, over, ok := e.table.finish(j)
	if !ok {
		return false
	}
	end = max(end, start) // a reply to what was not sent yet
	if limit := start + int64(e.opt.Timeout); end > limit {
		end, out = limit, outcomeTimeout
	}
	r.add(e.t0+offset, start, end, out, kind)
	if over > 0 && e.finished.Add(over) == e.n {
		close(e.done)
	}
	return true
}

// owned makes the intended times of this node's arrivals, in order.
type owned struct {
	from   source
	stripe stripe
	k      int64
}

func (o *owned) next() (int64, bool) {
	for {
		at, ok := o.from.next()
		if !ok {
			return 0, false
		}
		mine := o.stripe.slots == 1 || o.stripe.rank[o.k%o.stripe.slots] >= 0
		o.k++
		if mine {
			return at, true
		}
	}
}

func (e *engine) owned() *owned { return &owned{from: e.schedule.source(), stripe: e.stripe} }

// makePages writes the intended times page by page, ahead of the pacer.
func (e *engine) makePages(ready chan<- *page) {
	defer close(ready)
	from := e.owned()
	for i := int64(0); i*pageSize < e.n; i++ {
		p := new(page)
		for slot := range min(pageSize, e.n-i*pageSize) {
			p.offsets[slot], _ = from.next() // the survey has counted them
		}
		e.table.put(i, p)
		select {
		case ready <- p:
		case <-e.quit:
			return
		}
	}
}

// begin sets the clock zero: now, or the wall-clock time that all nodes share.
func (e *engine) begin() error {
	lead := startLead
	if at := e.opt.StartAt; !at.IsZero() {
		// A clock that is ahead shows the common time late.
		lead = time.Until(at.Add(e.opt.Clock.Offset))
		if lead <= 0 {
			return fmt.Errorf("load: the start time %s is %v past, give the nodes more time to get ready", at.Format(time.RFC3339Nano), -lead)
		}
		e.startAt = at
	}
	e.t0 = e.opt.now() + int64(lead)
	if e.startAt.IsZero() {
		e.startAt = time.Now().Add(lead)
	}
	return nil
}

// play hands every arrival to t at its intended time and waits for the end: all
// finished, the drain limit, or ctx. It tells whether ctx ended it.
func (e *engine) play(ctx context.Context, t transport) (interrupted bool) {
	if ctx.Err() != nil { // AfterFunc's goroutine may come after the first arrival
		e.pacer.Halt()
	}
	defer context.AfterFunc(ctx, e.pacer.Halt)()
	e.collectEachSecond()
	ready := make(chan *page, pagesAhead)
	e.running.Go(func() { e.makePages(ready) })
	paced := make(chan struct{})
	go func() {
		defer close(paced)
		e.pacer.Lock()
		e.pace(t, ready)
		t.handedAll()
	}()
	<-paced
	drain := time.NewTimer(e.opt.Drain)
	defer drain.Stop()
	if e.handed.Load() == e.n {
		select {
		case <-e.done:
		case <-drain.C:
		case <-ctx.Done():
		}
	}
	return ctx.Err() != nil && e.finished.Load() < e.n
}

// perReading is how many arrivals that are due already may be handed on one
// reading of the clock: together they take less than 1 µs, and a reading costs
// more than the rest of what the pacer does.
const perReading = 16

// tooLate is how late the pacer may be and still make a worker's write.
const tooLate = int64(200 * time.Microsecond)

// pace is the loop of the pacer's thread.
func (e *engine) pace(t transport, ready <-chan *page) {
	j := int64(0)
	for p := range ready {
		for left := p.offsets[:min(pageSize, e.n-j)]; len(left) > 0; {
			now, ok := e.pacer.Wait(e.t0 + left[0])
			if !ok {
				return
			}
			now -= e.t0
			due := 1
			for due < min(perReading, len(left)) && left[due] <= now {
				due++
			}
			handed := t.hand(j, int64(due), now-left[0] > tooLate)
			for _, offset := range left[:handed] {
				e.pacerLateness.Record(now - offset)
			}
			j, left = j+handed, left[handed:]
			e.handed.Store(j)
		}
	}
}

// collectEachSecond empties the recorders once a second and then reports
// progress, each on a goroutine of its own, until stop.
func (e *engine) collectEachSecond() {
	look := make(chan struct{}, 1)
	e.running.Go(func() {
		defer close(look)
		for at := second; ; at += second {
			timer := time.NewTimer(time.Duration(e.t0 + at - e.opt.now()))
			select {
			case <-e.quit:
				timer.Stop()
				return
			case <-timer.C:
			}
			e.ledger.collect(at)
			select {
			case look <- struct{}{}:
			default: // the last report is not finished
			}
		}
	})
	e.running.Go(func() {
		shown := 0
		for range look {
			if e.opt.Progress != nil {
				p := e.look()
				p.Intervals = e.ledger.closed(shown)
				shown += len(p.Intervals)
				e.opt.Progress(p)
			}
		}
	})
}

// stop ends the engine's goroutines and waits for them.
func (e *engine) stop() {
	close(e.quit)
	e.running.Wait()
}

// look returns the progress so far.
func (e *engine) look() Progress {
	sum, p50, p99 := e.ledger.look()
	return Progress{
		Elapsed:   time.Duration(e.opt.now() - e.t0),
		Scheduled: e.n,
		Handed:    e.handed.Load(),
		OK:        sum[outcomeOK],
		Errors:    sum[outcomeError],
		Timeouts:  sum[outcomeTimeout],
		P50:       p50,
		P99:       p99,
	}
}

// pacerNotes says what a reader must know about the pacing of this run.
func pacerNotes(p *pace.Pacer) []string {
	note := fmt.Sprintf("pacer: %s on %s, spin %v", pace.Kind, runtime.GOOS, time.Duration(p.Spin))
	if p.Spin > 0 && p.Most > p.Spin {
		note += fmt.Sprintf(", up to %v where sleeps end late", time.Duration(p.Most))
	}
	notes := []string{note}
	if procs, n := runtime.GOMAXPROCS(0), runtime.NumCPU(); procs <= n {
		notes = append(notes, fmt.Sprintf("pacer: GOMAXPROCS is %d on %d cores; with %d the pacer need not wait for a processor", procs, n, n+1))
	}
	return notes
}
