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
// run into their quota again and again. Blocks of both kinds take turns. It reports the percentiles of
// all calls of each kind in microseconds, and their ratios.
//
// Back-to-back calls come from one goroutine that never waits: their latency is that of the engine. Paced calls
// begin at a timer, as requests from a network do: theirs, from when the timer was due, has the wait for a
// processor in it. In the control the tenants are quiet, and as many processes spin that run only where nothing
// else would: no sandbox can be better beside its tenants than that.
func BenchmarkNeighbours(b *testing.B) {
	b.Run("back-to-back", func(b *testing.B) { benchmarkNeighbours(b, backToBack, (*crowd).start) })
	b.Run("paced", func(b *testing.B) { benchmarkNeighbours(b, paced, (*crowd).start) })
	control := func(c *crowd) func() { return idleSpinners(c.tb) }
	b.Run("back-to-back-control", func(b *testing.B) { benchmarkNeighbours(b, backToBack, control) })
	b.Run("paced-control", func(b *testing.B) { benchmarkNeighbours(b, paced, control) })
}

func benchmarkNeighbours(b *testing.B, block func(call func()) []time.Duration, start func(*crowd) (stop func())) {
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
	var alone, beside []time.Duration
	for b.Loop() {
		alone = append(alone, block(call)...)
		stop := start(crowd)
		beside = append(beside, block(call)...)
		stop()
	}
	b.ReportMetric(0, "ns/op") // a pair of blocks says nothing
	slices.Sort(alone)
	slices.Sort(beside)
	for _, percent := range []int{50, 99} {
		a, h := alone[len(alone)*percent/100], beside[len(beside)*percent/100]
		b.ReportMetric(float64(a.Nanoseconds())/1000, fmt.Sprintf("p%d-alone-us", percent))
		b.ReportMetric(float64(h.Nanoseconds())/1000, fmt.Sprintf("p%d-beside-us", percent))
		b.ReportMetric(float64(h)/float64(a), fmt.Sprintf("p%d-ratio", percent))
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
