package load

import (
	"context"
	"testing"
	"time"
)

// overdue returns a schedule of n arrivals that are all due at once, so that
// only the engine's own work is timed.
func overdue(n int) Schedule {
	return Schedule{Kind: Const, Rate: maxRate, Duration: time.Duration(n)}
}

// chunk is how many arrivals a benchmark gives one run.
const chunk = 100_000

// runs plays b.N arrivals in runs of at most chunk.
func runs(b *testing.B, via func() Via) {
	for left := b.N; left > 0; left -= chunk {
		r, err := Run(b.Context(), overdue(min(left, chunk)), via(), Options{})
		if err != nil {
			b.Fatal(err)
		}
		if r.Counts.OK != r.Counts.Scheduled {
			b.Fatalf("not all ok: %+v, errors %v", r.Counts, r.Errors)
		}
	}
}

// nothing is a transport that finishes every arrival on the pacer's thread.
type nothing struct {
	e *engine
	r *recorder
}

func (*nothing) mode() string { return "nothing" }

func (*nothing) open(_ context.Context, e *engine) (transport, error) {
	return &nothing{e: e, r: e.recorder()}, nil
}

func (*nothing) ends() string { return "" }

func (n *nothing) hand(id, _ int64, _ bool) int64 {
	now := n.e.opt.now()
	n.e.table.stamp(id, now)
	n.e.finish(n.r, id, n.e.opt.now(), outcomeOK, "")
	return 1
}

func (*nothing) handedAll()  {}
func (*nothing) stop() error { return nil }

func BenchmarkRecord(b *testing.B) {
	r := newRecorder(new(errorKinds))
	at := int64(0)
	for b.Loop() {
		at = (at*25 + 7) & (1<<30 - 1)
		r.add(0, at/8, at, outcomeOK, "")
	}
}
