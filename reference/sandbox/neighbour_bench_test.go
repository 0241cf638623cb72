package sandbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

const (
	blockCalls     = 200
	hostileTenants = 10
)

// BenchmarkNeighbours measures a good tenant's warm calls alone and beside ten tenants of the Free tier that
// run into their quota again and again, each with the processors left to themselves and with processors that are
// kept busy by processes that run only where nothing else would. Blocks of the four kinds take turns. It reports
// the percentiles of all calls of each kind in microseconds, and ratios.
//
// Back-to-back calls come from one goroutine that never waits: their latency is that of the engine. Paced calls
// begin at a timer, as requests from a network do: theirs, from when the timer was due, has the wait for a
// processor in it.
//
// What a host does to a machine whose processors never sleep (stolen time, shared cores and caches) is the same in
// both busy kinds. So "-busy-ratio" (beside/alone on busy processors) is the part that is the sandbox's, "-host-ratio"
// (busy/idle, alone) the part that no sandbox can do anything about, and "-ratio" has both.
func BenchmarkNeighbours(b *testing.B) {
	b.Run("back-to-back", func(b *testing.B) { benchmarkNeighbours(b, backToBack) })
	b.Run("paced", func(b *testing.B) { benchmarkNeighbours(b, paced) })
}

func benchmarkNeighbours(b *testing.B, block func(call func()) []time.Duration) {
	r := newRig(b, Config{})
	r.publish("enterprise", "echo-c", Upload{ABI: Buffer})
	crowd := newCrowd(r)
	input := make([]byte, 1024)
	call := func() {
		if _, err := r.Invoke(b.Context(), "enterprise", "echo-c", Call{Function: "sum", Input: input}); err != nil {
			b.Fatal(err)
		}
	}
	block(call) // warms up
	var idle, busy, beside, besideBusy []time.Duration
	for b.Loop() {
		idle = append(idle, block(call)...)
		quiet := crowd.start()
		beside = append(beside, block(call)...)
		quiet()
		sleep := idleSpinners(b)
		busy = append(busy, block(call)...)
		quiet = crowd.start()
		besideBusy = append(besideBusy, block(call)...)
		quiet()
		sleep()
	}
	b.ReportMetric(0, "ns/op") // a round of blocks says nothing
	for _, percent := range []int{50, 99} {
		at := func(name string, took []time.Duration) float64 {
			slices.Sort(took)
			us := float64(took[len(took)*percent/100].Nanoseconds()) / 1000
			b.ReportMetric(us, fmt.Sprintf("p%d-%s-us", percent, name))
			return us
		}
		i, h, s, hs := at("idle", idle), at("beside", beside), at("busy", busy), at("beside-busy", besideBusy)
		b.ReportMetric(h/i, fmt.Sprintf("p%d-ratio", percent))
		b.ReportMetric(s/i, fmt.Sprintf("p%d-host-ratio", percent))
		b.ReportMetric(hs/s, fmt.Sprintf("p%d-busy-ratio", percent))
	}
}

func backToBack(call func()) []time.Duration {
	took := make([]time.Duration, 10*blockCalls)
	for n := range took {
		began := time.Now()
		call()
		took[n] = time.Since(began)
	}
	return took
}

func paced(call func()) []time.Duration {
	const pause = time.Millisecond
	took := make([]time.Duration, blockCalls)
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for n := range took {
		due := time.Now().Add(pause)
		timer.Reset(pause)
		<-timer.C
		call()
		took[n] = time.Since(due)
	}
	return took
}

// crowd is the hostile tenants with what each of them calls.
type crowd struct {
	*rig
	calls []hostileCall
}

type hostileCall struct {
	tenant, guest, function string
	args                    []string
}

func newCrowd(r *rig) *crowd {
	r.tb.Helper()
	bombs := []hostileCall{
		{guest: "spin", function: "spin"},
		{guest: "spin", function: "spin_rec", args: []string{"60"}},
		{guest: "recursion-bomb", function: "bomb"},
		{guest: "bulk-bomb", function: "fill"},
	}
	r.slots.patience = 10 * time.Minute // a busy machine makes them wait, and is none of their quotas
	c := &crowd{rig: r}
	for n := range hostileTenants {
		bomb := bombs[n%len(bombs)]
		bomb.tenant = fmt.Sprintf("hostile-%d", n)
		r.tenant(bomb.tenant, Free)
		r.publish(bomb.tenant, bomb.guest, Upload{})
		c.calls = append(c.calls, bomb)
	}
	return c
}

// start returns when every tenant has run into its quota once. They go on until stop, which waits for them.
func (c *crowd) start() (stop func()) {
	ctx, cancel := context.WithCancel(c.tb.Context())
	var first, all sync.WaitGroup
	first.Add(len(c.calls))
	for _, h := range c.calls {
		all.Go(func() {
			once := sync.OnceFunc(first.Done)
			defer once()
			for ctx.Err() == nil {
				_, err := c.Invoke(ctx, h.tenant, h.guest, Call{Function: h.function, Args: h.args})
				if trap, ok := errors.AsType[*Trap](err); !ok {
					c.tb.Errorf("%s %s: %v, want a trap", h.guest, h.function, err)
					return
				} else if trap.Class != ClassFuel && trap.Class != ClassStack && ctx.Err() == nil {
					c.tb.Errorf("%s %s: %v, want the end of a quota", h.guest, h.function, err)
					return
				}
				once()
			}
		})
	}
	first.Wait()
	return func() {
		cancel()
		all.Wait()
	}
}
