package load

import (
	"context"
	"io"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// processorTime returns the processor time that this process has used.
func processorTime(tb testing.TB) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkCostOverBare is load/perf/cpu against a bare loop: the processor time
// of a call through the engine and of the same call by the same client without
// it, in turns of one process, server included in both. x-bare is the ratio.
func BenchmarkCostOverBare(b *testing.B) {
	const turn = 100_000 // many, so that what a run costs once does not count
	s := serve(b, echo)
	b.Run("workers", func(b *testing.B) {
		dial := func() *blocking {
			c, err := dialTCP(b.Context(), s.addr)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = c.Close() })
			return &blocking{conn: c}
		}
		bare, behind := dial(), dial()
		inTurns(b, turn, func(n int) {
			for id := range n {
				if err := bare.Call(context.Background(), uint64(id)); err != nil {
					b.Fatal(err)
				}
			}
		}, func(n int) {
			play1(b, n, &Pool{Callers: []Caller{behind}})
		})
	})
	b.Run("async", func(b *testing.B) {
		inTurns(b, turn, func(n int) { pipeline(b, s, n) }, func(n int) { play1(b, n, s.mux(1)) })
	})
}

// play1 plays n arrivals that are all due.
func play1(b *testing.B, n int, via Via) {
	r, err := Run(b.Context(), overdue(n), via, Options{})
	if err != nil || r.Counts.OK != int64(n) {
		b.Fatalf("%+v, %v", r, err)
	}
}

// pipeline writes and reads n frames with two bare loops.
func pipeline(b *testing.B, s *server, n int) {
	c, err := dialTCP(b.Context(), s.addr)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	go func() {
		var buf []byte
		for id := range n {
			buf = frames{}.Request(buf[:0], uint64(id))
			if _, err := c.Write(buf); err != nil {
				return // the reader sees it too
			}
		}
	}()
	if _, err := io.CopyN(io.Discard, c, int64(n)*frameSize); err != nil {
		b.Fatal(err)
	}
}

// inTurns gives each of two ways b.N calls, a turn of one after a turn of the
// other, and reports the ratio of their processor time.
func inTurns(b *testing.B, turn int, bare, engine func(n int)) {
	var of [2]time.Duration
	for left := b.N; left > 0; left -= turn {
		n := min(left, turn)
		for i, f := range []func(int){bare, engine} {
			before := processorTime(b)
			f(n)
			of[i] += processorTime(b) - before
		}
	}
	b.ReportMetric(float64(of[0].Nanoseconds())/float64(b.N), "bare-cpu-ns/op")
	b.ReportMetric(float64(of[1].Nanoseconds())/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(of[1])/float64(max(of[0], 1)), "x-bare")
}

// BenchmarkCostEmpty is the processor time of an iteration that does nothing, by
// the pacer alone, through the queue to workers and by users of a closed model: what
// k6's empty iteration is held against.
func BenchmarkCostEmpty(b *testing.B) {
	for name, via := range map[string]func() Via{
		"pacer":   func() Via { return viaFunc(func(e *engine) transport { return &nothing{e: e, r: e.recorder()} }) },
		"workers": func() Via { return repeat(func(context.Context, uint64) error { return nil }, 4) },
		"closed":  nil,
	} {
		b.Run(name, func(b *testing.B) {
			before := processorTime(b)
			if via == nil {
				runClosed(b)
			} else {
				runs(b, via)
			}
			b.ReportMetric(float64((processorTime(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	}
}

func runClosed(b *testing.B) {
	pool := repeat(func(context.Context, uint64) error { return nil }, 10)
	r, err := RunClosed(b.Context(), Closed{Duration: time.Hour, Requests: int64(b.N)}, pool, Options{})
	if err != nil || r.Counts.OK != int64(b.N) {
		b.Fatalf("%+v, %v", r, err)
	}
}

// BenchmarkLateness is load/pacer/floor: the median lateness at 1,000 a second,
// from the pacer's thread and through workers, in turns with workers fed by plain
// timers.
func BenchmarkLateness(b *testing.B) {
	const per = 500 // arrivals a turn
	s := serve(b, echo)
	pool := &Pool{}
	for range 4 {
		c, err := dialTCP(b.Context(), s.addr)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = c.Close() })
		pool.Callers = append(pool.Callers, &blocking{conn: c})
	}
	late := map[string]float64{}
	turns := 0
	for ; turns < max(b.N/per, 1); turns++ {
		for name, via := range map[string]Via{"async": s.mux(1), "workers": pool} {
			r, err := Run(b.Context(), constant(1000, per*time.Millisecond), via, Options{})
			if err != nil {
				b.Fatal(err)
			}
			late[name] += float64(r.Quantiles[Lateness].P50)
		}
		late["plain"] += plainTimers(per)
	}
	for name, sum := range late {
		b.ReportMetric(sum/float64(turns), name+"-p50-ns")
	}
}

// plainTimers returns the median lateness of time.Sleep at 1,000 a second.
func plainTimers(n int) float64 {
	var late []int64
	begin := time.Now()
	for k := range n {
		due := time.Duration(k) * time.Millisecond
		time.Sleep(due - time.Since(begin))
		late = append(late, int64(time.Since(begin)-due))
	}
	slices.Sort(late)
	return float64(late[n/2])
}
