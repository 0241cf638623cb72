package truth

import (
	"container/heap"
	"net"
	"sync"
	"time"

	"github.com/assay-bench/assay/results/histogram"
	"github.com/assay-bench/assay/scenarios/load/pace"
)

const (
	poll     = int64(50 * time.Microsecond) // how often the timer thread looks for new requests
	idle     = int64(100 * time.Millisecond)
	incoming = 1 << 16
)

// pending is a request whose reply is not due yet.
type pending struct {
	arrived, due int64
	release      release
}

// release sends a reply, or returns what sends it together with others that are due. It must not block.
type release func() (flush func())

// outbox gathers the replies that are due on a connection at once, for one write: at the end of a freeze the last of a
// crowd would wait for a write for each of the others.
type outbox struct {
	conn  net.Conn
	buf   []byte
	flush func() // writes buf
}

func newOutbox(c net.Conn) *outbox {
	o := &outbox{conn: c}
	o.flush = func() { _ = o.write() } // of a client that has gone
	return o
}

// add returns flush with the first reply.
func (o *outbox) add(reply []byte) (flush func()) {
	if len(o.buf) == 0 {
		flush = o.flush
	}
	o.buf = append(o.buf, reply...)
	return flush
}

func (o *outbox) write() error {
	if len(o.buf) == 0 {
		return nil
	}
	_, err := o.conn.Write(o.buf)
	o.buf = o.buf[:0]
	return err
}

// agenda is a heap of the next due.
type agenda []pending

func (a agenda) Len() int           { return len(a) }
func (a agenda) Less(i, j int) bool { return a[i].due < a[j].due }
func (a agenda) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)        { *a = append(*a, x.(pending)) }
func (a *agenda) Pop() any {
	last := (*a)[len(*a)-1]
	*a = (*a)[:len(*a)-1]
	return last
}

// releaser takes requests in and releases their replies when they are due, from
// one thread that waits as the pacer does.
type releaser struct {
	now   func() int64
	pacer *pace.Pacer
	in    chan pending

	mu    sync.Mutex // guards rule and count
	rule  *delays
	count int64
	first int64 // when the first request arrived

	logs  sync.Mutex           // guards the histograms
	asked *histogram.Histogram // due − arrived
	given *histogram.Histogram // released − arrived

	flushes []func() // of the timer thread

	slower int64 // releases this much late: the fault of the self-check
}

func newReleaser(slower time.Duration) *releaser {
	now := newClock()
	return &releaser{
		now: now, in: make(chan pending, incoming), slower: int64(slower),
		pacer: &pace.Pacer{Now: now, Spin: int64(pace.DefaultSpin), Most: 4 * poll},
		rule:  newDelays(Stall, now(), 0), asked: histogram.New(), given: histogram.New(),
	}
}

// begin starts a new account under another rule and returns its epoch.
func (r *releaser) begin(rule Rule, seed uint64) (epoch int64) {
	epoch = r.now()
	r.mu.Lock()
	r.rule, r.count, r.first = newDelays(rule, epoch, seed), 0, 0
	r.mu.Unlock()
	r.logs.Lock()
	r.asked, r.given = histogram.New(), histogram.New()
	r.logs.Unlock()
	return epoch
}

// arrive takes a request in that came in so long ago and whose reply release sends.
func (r *releaser) arrive(ago time.Duration, release release) {
	r.mu.Lock()
	at := r.now() - int64(ago)
	due := r.rule.due(at)
	if r.count++; r.count == 1 {
		r.first = at
	}
	r.mu.Unlock()
	r.in <- pending{at, due, release}
}

// run is the timer thread; it ends when the pacer is halted.
func (r *releaser) run() {
	r.pacer.Lock()
	var next agenda
	last := r.now()
	for !r.pacer.Halted() {
		for {
			select {
			case p := <-r.in:
				heap.Push(&next, p)
				continue
			default:
			}
			break
		}
		now := r.now()
		switch {
		case len(next) == 0 && now-last > idle:
			r.pacer.Nap(int64(time.Millisecond))
		case len(next) == 0:
			r.pacer.Nap(poll)
		default:
			last = now
			r.await(&next, now)
		}
	}
}

// await releases what is due and naps until something may be.
func (r *releaser) await(next *agenda, now int64) {
	left := (*next)[0].due + r.slower - now
	switch {
	case left > r.pacer.Margin()+poll:
		r.pacer.Nap(poll)
		return
	case left > 0:
		r.pacer.Wait(now + left)
	}
	r.logs.Lock()
	defer r.logs.Unlock()
	for now = r.now(); len(*next) > 0 && (*next)[0].due+r.slower <= now; now = r.now() {
		p := heap.Pop(next).(pending)
		r.asked.Record(p.due - p.arrived)
		r.given.Record(now - p.arrived)
		if flush := p.release(); flush != nil {
			r.flushes = append(r.flushes, flush)
		}
	}
	for _, flush := range r.flushes {
		flush()
	}
	r.flushes = r.flushes[:0]
}
