package load

import "sync/atomic"

// pageSize is how many arrivals share a page of start times.
const pageSize = 1024

// States of a slot; any other value is the start time of a request in flight.
const (
	slotUnsent   int64 = 0
	slotFinished int64 = -1
)

// table holds the start time of every request in flight, by arrival number.
// A page lives from its first start to its last end, so memory follows what is
// in flight. All methods are safe for concurrent use; whoever wins finish
// records the arrival, so each is recorded once.
type table struct {
	pages   []atomic.Pointer[page]
	retired *page // stands for a page whose arrivals have all finished
	n       int64
}

type page struct {
	slots [pageSize]atomic.Int64
	left  atomic.Int32 // arrivals of this page that have not finished
}

func newTable(n int) *table {
	return &table{
		pages:   make([]atomic.Pointer[page], (n+pageSize-1)/pageSize),
		retired: new(page),
		n:       int64(n),
	}
}

// open returns the page of id, made when needed.
func (t *table) open(id int64) *page {
	at := &t.pages[id/pageSize]
	if p := at.Load(); p != nil {
		return p
	}
	fresh := new(page)
	fresh.left.Store(int32(min(pageSize, t.n-id/pageSize*pageSize)))
	at.CompareAndSwap(nil, fresh)
	return at.Load()
}

// stamp notes that id starts at now, unless it has one. Only the sender of id
// may call it. A hostile server can guess ids and answer before the request is
// written, so a finished slot stays finished.
func (t *table) stamp(id, now int64) {
	if p := t.open(id); p != t.retired {
		p.slots[id%pageSize].CompareAndSwap(slotUnsent, now)
	}
}

// unstamp takes the start of id back, if it is in flight: no byte was sent.
func (t *table) unstamp(id int64) {
	if start := t.start(id); start != slotFinished {
		t.open(id).slots[id%pageSize].CompareAndSwap(start, slotUnsent)
	}
}

// start returns the start of id, slotUnsent or slotFinished.
func (t *table) start(id int64) int64 {
	switch p := t.pages[id/pageSize].Load(); p {
	case nil:
		return slotUnsent
	case t.retired:
		return slotFinished
	default:
		return p.slots[id%pageSize].Load()
	}
}

// finish takes id out of flight and returns its start; ok is false when it was
// not in flight.
func (t *table) finish(id int64) (start int64, ok bool) {
	p := t.pages[id/pageSize].Load()
	if p == nil || p == t.retired {
		return 0, false
	}
	slot := &p.slots[id%pageSize]
	start = slot.Load()
	if start == slotUnsent || start == slotFinished || !slot.CompareAndSwap(start, slotFinished) {
		return 0, false
	}
	if p.left.Add(-1) == 0 {
		t.pages[id/pageSize].Store(t.retired)
	}
	return start, true
}
