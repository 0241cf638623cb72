package load

import (
	"context"
	"io"
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

func (n *nothing) hand(id int64) {
	now := n.e.opt.now()
	n.e.table.stamp(id, now)
	n.e.finish(n.r, id, n.e.opt.now(), outcomeOK, "")
}

func (*nothing) handedAll()  {}
func (*nothing) stop() error { return nil }

// BenchmarkPacerEmpty is the engine's own work for one arrival: pace, stamp,
// finish, record.
func BenchmarkPacerEmpty(b *testing.B) {
	runs(b, func() Via { return &nothing{} })
}

// BenchmarkPoolEmpty adds the queue and the wake-up of workers.
func BenchmarkPoolEmpty(b *testing.B) {
	runs(b, func() Via { return repeat(func(context.Context, uint64) error { return nil }, 4) })
}

func BenchmarkRecord(b *testing.B) {
	var r recorder
	at := int64(0)
	for b.Loop() {
		at = (at*25 + 7) & (1<<30 - 1)
		r.add(0, at/8, at, outcomeOK, "")
	}
}

// BenchmarkAsyncTCP is one arrival over loopback; x-bare is its cost relative to
// the same frames written and read by two bare loops.
func BenchmarkAsyncTCP(b *testing.B) {
	s := serve(b, echo)
	runs(b, func() Via { return s.mux(1) })
	engine := b.Elapsed()
	b.StopTimer()
	bare := bareEcho(b, s)
	b.ReportMetric(float64(engine)/float64(bare), "x-bare")
}

// bareEcho pipelines b.N frames without the engine.
func bareEcho(b *testing.B, s *server) time.Duration {
	c, err := dialTCP(b.Context(), s.addr)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	begin := time.Now()
	go func() {
		var buf []byte
		for id := range b.N {
			buf = frames{}.Request(buf[:0], uint64(id))
			if _, err := c.Write(buf); err != nil {
				return // the reader sees it too
			}
		}
	}()
	if _, err := io.CopyN(io.Discard, c, int64(b.N)*frameSize); err != nil {
		b.Fatal(err)
	}
	return time.Since(begin)
}
