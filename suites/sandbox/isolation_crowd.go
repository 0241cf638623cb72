package sandbox

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/assay-bench/assay/results"
	scenario "github.com/assay-bench/assay/scenarios/sandbox"
	"github.com/assay-bench/assay/suites"
)

const (
	crowdTenants = 10
	crowdRounds  = 2 // of calls alone and beside the crowd
	crowdCalls   = 40
	crowdPace    = 5 * ms
	crowdKept    = 3 // hostile calls of a tenant and round that are recorded
	// crowdFactor is what the median may grow by. On one core of two it grows by a fifth; a crowd that has all
	// processors makes it ten times as long and more.
	crowdFactor = 4
	crowdLeast  = 2 * ms  // a shorter median is in order whatever it was alone
	crowdBusy   = 20 * ms // a longer one alone is the host's
)

const (
	aloneWhat  = "alone"
	besideWhat = "beside"
)

// crowdBombs are what the hostile tenants call, again and again.
var crowdBombs = []struct {
	guest string
	in    scenario.Invocation
}{
	{"spin", scenario.Invocation{Function: "spin"}},
	{"spin", scenario.Invocation{Function: "spin_rec", Args: []string{"60"}}},
	{"recursion-bomb", scenario.Invocation{Function: "bomb"}},
	{"bulk-bomb", scenario.Invocation{Function: "fill"}},
}

var _ = add(suites.Check{
	ID: "sandbox/isolation/neighbour-crowd", Title: "ten hostile tenants do not slow a neighbour down", Covers: []string{"sandbox/isolation/neighbour-latency"},
	Cost: suites.Cost{Time: 4 * time.Second, Exclusive: true}, Reasons: []string{reasonFrozen, reasonNoBite, reasonWrongResult},
	Drive: driving(besideCrowd),
	Judge: judging(fmt.Sprintf("the median of paced calls beside ten tenants that run into their quotas is at most %d times that of calls alone, or %s", crowdFactor, crowdLeast), judgeBesideCrowd),
	Kills: kill(reasonFrozen, "sandbox.long-calls-unbounded"),
})

// besideCrowd calls as one tenant at a pace, by turns alone and while ten others spend their quotas.
func besideCrowd(ctx context.Context, b *bench) error {
	neighbour, err := b.serve(ctx, "n", scenario.Pro, "fib")
	if err != nil {
		return ends(err)
	}
	hostile := make([]string, crowdTenants)
	for i := range hostile {
		if hostile[i], err = b.serve(ctx, fmt.Sprintf("h%d", i), scenario.Free, crowdBombs[i%len(crowdBombs)].guest); err != nil {
			return ends(err)
		}
	}
	began := b.env.Clock.Now()
	g := gathering{each: make([][]scenario.Trial, crowdTenants+1)}
	paced := func(what string) {
		for range crowdCalls {
			select {
			case <-time.After(crowdPace):
			case <-ctx.Done():
				return
			}
			at := b.env.Elapsed(began)
			c, err := b.api.Invoke(ctx, "", neighbour, "fib", scenario.Invocation{Function: "fib", Args: []string{"5"}})
			g.keep(crowdTenants, scenario.TrialOf(what, at, c), err)
		}
	}
	for range crowdRounds {
		paced(aloneWhat)
		var done atomic.Bool
		var first, all sync.WaitGroup
		first.Add(crowdTenants)
		for i, tenant := range hostile {
			all.Go(func() {
				once := sync.OnceFunc(first.Done)
				defer once()
				for n := 0; !done.Load() && ctx.Err() == nil; n++ {
					bomb := crowdBombs[i%len(crowdBombs)]
					at := b.env.Elapsed(began)
					c, err := b.api.Invoke(ctx, "", tenant, bomb.guest, bomb.in)
					if n < crowdKept || err != nil {
						g.keep(i, scenario.TrialOf(bomb.in.Function, at, c), err)
					}
					once()
					if err != nil {
						return
					}
				}
			})
		}
		first.Wait()
		paced(besideWhat)
		done.Store(true)
		all.Wait()
	}
	return ends(g.record(b, "crowd", began))
}

func judgeBesideCrowd(_ suites.Trace, s *story) suites.Finding {
	took := map[string][]time.Duration{}
	stopped := 0
	for _, x := range s.series["crowd"].Each {
		switch {
		case x.Status == 0:
			return s.fail(reasonNoAnswer, x.What+": "+x.Broken)
		case x.What != aloneWhat && x.What != besideWhat:
			if x.Class == "fuel" || x.Class == "deadline" || x.Class == "stack" {
				stopped++
			}
		case x.Status != 200 || x.Result() != "5":
			return s.fail(reasonWrongResult, fmt.Sprintf("%s: status %d, %q", x.What, x.Status, x.Result()))
		default:
			took[x.What] = append(took[x.What], x.Took)
		}
	}
	alone, beside := took[aloneWhat], took[besideWhat]
	if len(alone) == 0 || len(beside) == 0 {
		return s.fail(reasonNoAnswer, "nothing was called")
	}
	slices.Sort(alone)
	slices.Sort(beside)
	at := func(d []time.Duration, percent int) time.Duration { return d[(len(d)*percent-1)/100] }
	before, during := at(alone, 50), at(beside, 50)
	observed := fmt.Sprintf("%d calls alone: median %s, p99 %s; %d beside %d hostile calls that were stopped: median %s, p99 %s",
		len(alone), before.Round(ms/100), at(alone, 99).Round(ms/100), len(beside), stopped, during.Round(ms/100), at(beside, 99).Round(ms/100))
	out := s.pass(observed)
	bound := max(crowdLeast, crowdFactor*before)
	switch {
	case stopped < crowdTenants:
		out = s.fail(reasonNoBite, observed)
	case before > crowdBusy:
		out = s.noisy(observed)
	case during > bound: // half of the calls: no single stall of the harness can do that
		out = s.fail(reasonFrozen, observed)
	}
	out.Figures = []results.Figure{
		{Name: "median of a neighbour's calls beside ten hostile tenants, over alone", Value: during.Seconds() / before.Seconds(), Unit: "ratio"},
		{Name: "p99 of a neighbour's calls beside ten hostile tenants, over alone", Value: at(beside, 99).Seconds() / at(alone, 99).Seconds(), Unit: "ratio"},
	}
	return out
}
