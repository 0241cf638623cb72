package load

import "sync/atomic"

// pageSize is how many arrivals share a page.
const pageSize = 1024

// States of a slot; any other value is the start time of a request in flight.
const (
	slotUnsent   int64 = 0
	slotFinished int64 = -1
)

// table holds intended and start time of every arrival that is near, by number
// among this node's arrivals. A page lives from a little before its first
// arrival is due until its last has ended, so memory follows what is in flight.
// All methods are safe for concurrent use; whoever wins finish records the
// arrival, so each is recorded once.
type table struct {
	pages   []atomic.Pointer[page]
	retired *page // stands for a page whose arrivals have all finished
	n       int64
}

type page struct {
	offsets [pageSize]int64 // intended times since t0; written before the page is in the table
	slots   [pageSize]atomic.Int64
	left    atomic.Int32 // arrivals of this page that have not finished
}

func newTable(n int64) *table {
	return &table{
		pages:   make([]atomic.Pointer[page], (n+pageSize-1)/pageSize),
		retired: new(page),
		n:       n,
	}
}

// put makes page i with the offsets of its arrivals.
func (t *table) put(i int64, p *page) {
	p.left.Store(int32(min(pageSize, t.n-i*pageSize)))
	t.pages[i].Store(p)
}

// stamp notes that j starts at now, unless it has a start. Only the sender of j
// may call it, after its page was put. A hostile server can guess ids and
// answer before the request is written, so a finished slot stays finished.
func (t *table) stamp(j, now int64) {
	if p := t.pages[j/pageSize].Load(); p != t.retired {
		p.slots[j%pageSize].CompareAndSwap(slotUnsent, now)
	}
}

// unstamp takes the start of j back, if it is in flight: no byte was sent.
func (t *table) unstamp(j int64) {
	if p := t.pages[j/pageSize].Load(); p != t.retired {
		if start := p.slots[j%pageSize].Load(); start != slotFinished {
			p.slots[j%pageSize].CompareAndSwap(start, slotUnsent)
		}
	}
}

// start returns the start of j, slotUnsent or slotFinished.
func (t *table) start(j int64) int64 {
	switch p := t.pages[j/pageSize].Load(); p {
	case nil:
		return slotUnsent
	case t.retired:
		return slotFinished
	default:
		return p.slots[j%pageSize].Load()
	}
}

// finish takes j out of flight and returns its intended offset and its start, and
// how many arrivals are over with it: those of its page, with the last of them. ok is
// false when it was not in flight.
func (t *table) finish(j int64) (offset, start, over int64, ok bool) {
	p := t.pages[j/pageSize].Load()
	if p == nil || p == t.retired {
		return 0, 0, 0, false
	}
	slot := &p.slots[j%pageSize]
	start = slot.Load()
	if start == slotUnsent || start == slotFinished || !slot.CompareAndSwap(start, slotFinished) {
		return 0, 0, 0, false
	}
	offset = p.offsets[j%pageSize]
	if p.left.Add(-1) == 0 {
		t.pages[j/pageSize].Store(t.retired)
		over = min(pageSize, t.n-j/pageSize*pageSize)
	}
	return offset, start, over, true
}
