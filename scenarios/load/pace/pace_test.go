package pace

import (
	"testing"
	"time"
)

// run calls f on a locked goroutine, which then ends.
func run(p *Pacer, f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Lock()
		f()
	}()
	<-done
}

func clock() func() int64 {
	base := time.Now()
	return func() int64 { return int64(time.Since(base)) }
}

func TestWaitNeverReturnsEarly(t *testing.T) {
	for _, spin := range []int64{0, int64(DefaultSpin)} {
		p := &Pacer{Now: clock(), Spin: spin}
		run(p, func() {
			for i := range int64(50) {
				deadline := p.Now() + i*20_000
				if now, ok := p.Wait(deadline); !ok || now < deadline || p.Now() < now {
					t.Errorf("spin %d: Wait(%d) = %d, %v", spin, deadline, now, ok)
				}
			}
		})
	}
}

func TestPastDeadlineIsDueNow(t *testing.T) {
	p := &Pacer{Now: clock()}
	p.nap = func(int64) { t.Error("slept for a deadline that is past") }
	if _, ok := p.Wait(-1); !ok {
		t.Error("a past deadline is not due")
	}
}

func TestHaltEndsAWait(t *testing.T) {
	p := &Pacer{Now: clock()}
	time.AfterFunc(5*time.Millisecond, p.Halt)
	run(p, func() {
		if _, ok := p.Wait(int64(time.Hour)); ok {
			t.Error("an hour has passed")
		}
	})
	if !p.Halted() {
		t.Error("not halted")
	}
}

// BenchmarkFloor prints how late the pacer is beside a plain timer, in turns.
func BenchmarkFloor(b *testing.B) {
	p := &Pacer{Now: clock(), Spin: int64(DefaultSpin)}
	var hybrid, plain int64
	run(p, func() {
		for b.Loop() {
			deadline := p.Now() + int64(time.Millisecond)
			p.Wait(deadline)
			hybrid += p.Now() - deadline
			deadline = p.Now() + int64(time.Millisecond)
			time.Sleep(time.Millisecond)
			plain += p.Now() - deadline
		}
	})
	b.ReportMetric(float64(hybrid)/float64(b.N), "ns-late")
	b.ReportMetric(float64(plain)/float64(b.N), "ns-late-plain")
	b.ReportMetric(float64(plain)/float64(max(hybrid, 1)), "x-plain")
}
