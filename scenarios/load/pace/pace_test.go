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

// TestMarginFollowsSleeps has sleeps that end late by a known time: the pacer learns it, wakes up so much earlier, and
// never earlier than it may.
func TestMarginFollowsSleeps(t *testing.T) {
	const spin, gap = 30_000, 2_000_000
	for _, tt := range []struct {
		name             string
		spin, most, late int64
		margin           int64 // that it comes to, within a tenth
		lateness         int64 // of the last waits
	}{
		{"sleeps are exact", spin, 100_000, 0, spin, 0},
		{"a little late", spin, 100_000, 20_000, spin, 0},
		{"later than the spin", spin, 100_000, 80_000, 80_000, 0},
		{"later than it may spin", spin, 100_000, 150_000, 100_000, 50_000},
		{"fixed", spin, 0, 80_000, spin, 50_000},
		{"never spins", 0, 100_000, 80_000, 0, 80_000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			now, late := int64(0), int64(0)
			p := &Pacer{Now: func() int64 { now += 100; return now }, Spin: tt.spin, Most: tt.most}
			p.nap = func(ns int64) { now += ns + tt.late }
			for i := range int64(400) {
				deadline := (i + 1) * gap
				at, ok := p.Wait(deadline)
				if late = at - deadline; !ok || late < 0 {
					t.Fatalf("wait %d: %d ns late, %v", i, late, ok)
				}
			}
			if got := p.Margin(); got < tt.margin*9/10 || got > tt.margin*11/10 {
				t.Errorf("margin %d ns, want about %d", got, tt.margin)
			}
			if late < tt.lateness*9/10 || late > tt.lateness*11/10+1000 {
				t.Errorf("%d ns late in the end, want about %d", late, tt.lateness)
			}
		})
	}
}

// TestOneFreezeMovesLittle keeps one sleep that ended 50 ms late from making the pacer spin.
func TestOneFreezeMovesLittle(t *testing.T) {
	p := &Pacer{Spin: 30_000, Most: 100_000, late: 10_000}
	if p.learn(50_000_000); p.Margin() > 40_000 {
		t.Errorf("margin %d ns after one freeze", p.Margin())
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
