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
// run into their quota again and again. Blocks of both kinds take turns. It reports the medians of the ratios
// of a pair of blocks, and of the percentiles in microseconds.
//
// Back-to-back calls come from one goroutine that never waits: their latency is that of the engine. Paced calls
// begin at a timer, as requests from a network do: theirs, from when the timer was due, has the wait for a
// processor in it.
func BenchmarkNeighbours(b *testing.B) {
	b.Run("back-to-back", func(b *testing.B) { benchmarkNeighbours(b, backToBack) })
	b.Run("paced", func(b *testing.B) { benchmarkNeighbours(b, paced) })
}

func benchmarkNeighbours(b *testing.B, block func(call func()) percentiles) {
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
	var alone, beside, ratios []percentiles
	for b.Loop() {
		a := block(call)
		stop := crowd.start()
		h := block(call)
		stop()
		alone, beside = append(alone, a), append(beside, h)
		ratios = append(ratios, percentiles{h.p50 / a.p50, h.p99 / a.p99})
	}
	b.ReportMetric(0, "ns/op") // a pair of blocks says nothing
	for name, all := range map[string][]percentiles{"ratio": ratios, "alone-us": alone, "beside-us": beside} {
		m := medians(all)
		b.ReportMetric(m.p50, "p50-"+name)
		b.ReportMetric(m.p99, "p99-"+name)
	}
}

// percentiles of the latencies of a block in microseconds, or their ratios.
type percentiles struct{ p50, p99 float64 }

func percentilesOf(took []time.Duration) percentiles {
	slices.Sort(took)
	at := func(percent int) float64 {
		return float64(took[len(took)*percent/100].Nanoseconds()) / 1000
	}
	return percentiles{at(50), at(99)}
}

func medians(all []percentiles) percentiles {
	median := func(of func(percentiles) float64) float64 {
		var values []float64
		for _, p := range all {
			values = append(values, of(p))
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	return percentiles{median(func(p percentiles) float64 { return p.p50 }), median(func(p percentiles) float64 { return p.p99 })}
}

func backToBack(call func()) percentiles {
	took := make([]time.Duration, blockCalls)
	for n := range took {
		began := time.Now()
		call()
		took[n] = time.Since(began)
	}
	return percentilesOf(took)
}

func paced(call func()) percentiles {
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
	return percentilesOf(took)
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
