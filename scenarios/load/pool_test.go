package load

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"
)

// odd begins some of its calls from the pacer and is now fast, now slow.
type odd struct {
	t       *testing.T
	random  *rand.Rand
	seen    []atomic.Int32 // how often each arrival was called, shared
	open    int64          // the arrival that Start began; -1: none
	last    int64
	started int
}

func (o *odd) Start(_ context.Context, id uint64) bool {
	if o.open != -1 {
		o.t.Errorf("arrival %d begun while %d is under way", id, o.open)
	}
	if o.random.IntN(3) == 0 {
		return false
	}
	o.open = int64(id)
	o.started++
	return true
}

func (o *odd) Finish(_ context.Context, id uint64) error {
	if o.open != int64(id) {
		o.t.Errorf("finishing %d, begun was %d", id, o.open)
	}
	o.open = -1
	return o.call(id)
}

func (o *odd) Call(_ context.Context, id uint64) error {
	if o.open != -1 {
		o.t.Errorf("call %d while %d is under way", id, o.open)
	}
	return o.call(id)
}

func (o *odd) call(id uint64) error {
	o.seen[id].Add(1)
	if int64(id) <= o.last {
		o.t.Errorf("arrival %d after %d", id, o.last)
	}
	o.last = int64(id)
	if o.random.IntN(8) == 0 {
		time.Sleep(time.Duration(o.random.IntN(500)) * time.Microsecond)
	}
	return nil
}

// However workers and arrivals wait for each other, each arrival is called once,
// in order, by a worker who is free.
func TestPoolHandsEachArrivalOnce(t *testing.T) {
	const n = 20_000
	seen := make([]atomic.Int32, n)
	p := &Pool{}
	for i := range 6 {
		p.Callers = append(p.Callers, &odd{t: t, random: rand.New(rand.NewPCG(7, uint64(i))), seen: seen, open: -1, last: -1})
	}
	r, err := Run(t.Context(), Schedule{Kind: Poisson, Rate: 40_000, Duration: n * time.Second / 40_000, Seed: 3}, p,
		Options{HostLimit: 1, LatenessBound: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if r.Counts.OK != r.Counts.Scheduled || r.Counts.Scheduled > n {
		t.Fatalf("counts %+v", r.Counts)
	}
	for i := range r.Counts.Scheduled {
		if got := seen[i].Load(); got != 1 {
			t.Fatalf("arrival %d was called %d times", i, got)
		}
	}
	started := 0
	for _, c := range p.Callers {
		started += c.(*odd).started
	}
	if started == 0 {
		t.Error("the pacer began no call")
	}
}

// willing begins every call that it is asked to.
type willing struct{ started, called atomic.Int32 }

func (w *willing) Start(context.Context, uint64) bool { w.started.Add(1); return true }

func (w *willing) Finish(context.Context, uint64) error { return nil }

func (w *willing) Call(context.Context, uint64) error { w.called.Add(1); return nil }

// A pacer that is behind leaves the write to the worker.
func TestPacerBehindBeginsNothing(t *testing.T) {
	opt, err := Options{}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	e := newEngine(constant(2, time.Second), Segment{}.stripe(), 2, opt)
	e.table.put(0, new(page))
	w := new(willing)
	sender, err := (&Pool{Callers: []Caller{w}}).open(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	q := sender.(*queue)
	for j := range int64(2) {
		for _, top := unpacked(q.word.Load()); top <= 0; _, top = unpacked(q.word.Load()) {
			time.Sleep(time.Millisecond) // until the worker waits
		}
		q.hand(j, 1, j == 0)
	}
	q.handedAll()
	<-e.done
	if err := q.stop(); err != nil {
		t.Fatal(err)
	}
	if w.called.Load() != 1 || w.started.Load() != 1 {
		t.Errorf("%d calls and %d begun, want one of each", w.called.Load(), w.started.Load())
	}
}
