package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/fixtures/wasm"
	"github.com/assay-bench/assay/results"
	scenario "github.com/assay-bench/assay/scenarios/sandbox"
	"github.com/assay-bench/assay/suites"
)

const (
	reasonFrozen    = "frozen"    // a neighbour's calls waited for a guest that spun
	reasonCollector = "collector" // the collector did
	// neighbourBound is for the 99th percentile of a neighbour's calls, HTTP and all, while another tenant
	// spins for a second.
	neighbourBound   = 250 * ms
	collectBound     = 20 * ms
	neighbourCalls   = 60
	neighbourCollect = 5
)

var _ = add(suites.Check{
	ID: "sandbox/isolation/neighbour-latency", Title: "a guest that spins does not freeze the others", Covers: []string{"sandbox/isolation/neighbour-latency"},
	Cost: suites.Cost{Time: 3 * time.Second, Exclusive: true}, Reasons: []string{reasonFrozen, reasonCollector, reasonNoBite},
	Drive: driving(besideSpin),
	Judge: judging("during the spin p99 of a neighbour's calls is at most 250 ms, and a collection takes less than 20 ms", judgeNeighbour),
	Kills: kills(kill(reasonFrozen, "sandbox.spin-blocks"), kill(reasonCollector, "sandbox.slices-long")),
})

// besideSpin spins as one tenant and calls as another meanwhile, with collections in between.
func besideSpin(ctx context.Context, b *bench) error {
	spinner, err := b.serve(ctx, "a", scenario.Enterprise, "spin")
	if err != nil {
		return ends(err)
	}
	neighbour, err := b.serve(ctx, "b", scenario.Pro, "fib")
	if err != nil {
		return ends(err)
	}
	began := b.env.Clock.Now()
	g := gathering{each: make([][]scenario.Trial, 2)}
	spun := make(chan struct{})
	g.all.Go(func() {
		defer close(spun)
		at := b.env.Elapsed(began)
		c, err := b.api.Invoke(ctx, "", spinner, "spin", scenario.Invocation{Function: "spin"})
		g.keep(0, scenario.TrialOf(spinWhat, at, c), err)
	})
	g.all.Go(func() {
		for n := range neighbourCalls {
			if n%(neighbourCalls/neighbourCollect) == 0 {
				at := b.env.Elapsed(began)
				c, err := b.api.Collect(ctx, "")
				g.keep(1, collected(at, c), err)
			}
			at := b.env.Elapsed(began)
			c, err := b.api.Invoke(ctx, "", neighbour, "fib", scenario.Invocation{Function: "fib", Args: []string{"5"}})
			g.keep(1, scenario.TrialOf(fibWhat, at, c), err)
			select {
			case <-spun:
				return
			case <-ctx.Done():
				return
			default:
			}
		}
	})
	return ends(g.record(b, "beside", began))
}

const (
	spinWhat    = "spin"
	fibWhat     = "fib(5)"
	collectWhat = "collect"
)

// collected keeps the answer of a collection: the pause stands as its result.
func collected(at time.Duration, c scenario.Call) scenario.Trial {
	t := scenario.TrialOf(collectWhat, at, c)
	var a struct {
		PauseMicros json.Number `json:"pauseMicros"`
	}
	if c.Read(&a) {
		t.Results = []string{a.PauseMicros.String()}
	}
	return t
}

func judgeNeighbour(t suites.Trace, s *story) suites.Finding {
	var calls, pauses []time.Duration
	var spinning time.Duration
	for _, x := range s.series["beside"].Each {
		switch {
		case x.Status == 0 && x.What == spinWhat:
			return s.fail(reasonNoAnswer, x.What+": "+x.Broken)
		case x.Status == 0:
			return s.fail(reasonFrozen, x.What+": "+x.Broken)
		}
		switch x.What {
		case spinWhat:
			spinning += x.Took
		case fibWhat:
			if x.Status != 200 || x.Result() != "5" {
				return s.fail(reasonFrozen, fmt.Sprintf("%s: status %d, %q", x.What, x.Status, x.Result()))
			}
			calls = append(calls, x.Took)
		case collectWhat:
			d, err := time.ParseDuration(x.Result() + "us")
			if err != nil {
				return s.fail(reasonNoAnswer, "a collection is answered with "+x.Result())
			}
			pauses = append(pauses, d)
		}
	}
	if len(calls) == 0 || len(pauses) == 0 {
		return s.fail(reasonNoAnswer, "nothing was called beside the spin")
	}
	slices.Sort(calls)
	slices.Sort(pauses)
	p99, pause := calls[(len(calls)*99-1)/100], pauses[len(pauses)/2]
	observed := fmt.Sprintf("%d calls beside %s of spinning: p99 %s; median of %d collections %s",
		len(calls), spinning.Round(ms), p99.Round(ms/10), len(pauses), pause)
	out := s.pass(observed)
	switch {
	case spinning < time.Second/4:
		out = s.unsure(observed)
	case p99 > neighbourBound && t.Within(p99, 0, neighbourBound) == suites.TooLate && !t.Noisy(neighbourBound):
		out = s.fail(reasonFrozen, observed)
	case p99 > neighbourBound:
		out = s.noisy(observed)
	case pause >= collectBound && pause-t.Stall > collectBound:
		out = s.fail(reasonCollector, observed)
	case pause >= collectBound:
		out = s.noisy(observed)
	}
	out.Figures = []results.Figure{
		{Name: "p99 of a neighbour's calls during a spin", Value: p99.Seconds(), Unit: "seconds"},
		{Name: "collection during a spin, median", Value: pause.Seconds(), Unit: "seconds"},
	}
	return out
}

const reasonShared = "shared" // a handle of another instance worked

var _ = add(suites.Check{
	ID: "sandbox/isolation/handles-private", Title: "handles of graphs belong to an instance", Covers: []string{"sandbox/isolation/handles-private"},
	Needs: []features.Feature{features.SandboxNN}, Reasons: []string{reasonShared, reasonWrongResult},
	Drive: driving(func(ctx context.Context, b *bench) error {
		first, err := b.serve(ctx, "a", scenario.Pro, "nn")
		second := ""
		if err == nil {
			second, err = b.serve(ctx, "b", scenario.Pro, "nn")
		}
		var c scenario.Call
		if err == nil {
			c, err = b.invoke(ctx, "open", first, "nn", "open_graph")
		}
		var a scenario.Invoked
		if err == nil && c.Read(&a) && len(a.Results) == 1 {
			_, err = b.invoke(ctx, "use", second, "nn", "use_graph", a.Results[0])
		}
		if err == nil {
			_, err = b.invoke(ctx, "own", second, "nn", "roundtrip")
		}
		return ends(err)
	}),
	Judge: judging("invalid_argument (1) for a graph of another tenant's instance", func(_ suites.Trace, s *story) suites.Finding {
		observed := s.tale("open", "use", "own")
		a, ok := s.invoked("open")
		switch {
		case s.silent("open", "use", "own") != "":
			return s.fail(reasonNoAnswer, observed)
		case !ok || len(a.Results) != 1 || strings.HasPrefix(a.Results[0], "-") || !s.returned("own", "0"):
			return s.fail(reasonWrongResult, observed)
		case s.returned("use", "0"):
			return s.fail(reasonShared, observed)
		case !s.returned("use", "1"):
			return s.fail(reasonWrongResult, observed)
		}
		return s.pass(observed)
	}),
	Kills: kill(reasonShared, "sandbox.handles-shared"),
})

const (
	reasonOpen        = "open" // others may read compiled modules
	reasonUnversioned = "unversioned"
	reasonNoFolder    = "no-folder"
)

var _ = add(suites.Check{
	ID: "sandbox/isolation/cache-private", Title: "compiled modules are private and apart by version", Covers: []string{"sandbox/isolation/cache-private"},
	Locality: suites.OwnedHost, Reasons: []string{reasonOpen, reasonUnversioned, reasonNoFolder},
	Drive: driving(func(ctx context.Context, b *bench) error {
		_, err := b.serve(ctx, "a", scenario.Pro, "fib")
		if err != nil {
			return ends(err)
		}
		stats, err := b.stats(ctx, "stats")
		if err != nil {
			return err
		}
		_, err = scenario.Examine(b.env, "cache", stats.Cache.Dir)
		return err
	}),
	Judge: judging("the folder has mode 0700, belongs to the user that the target runs as, and names the engine's version", func(_ suites.Trace, s *story) suites.Finding {
		_, all, ok := s.counted("stats", "a")
		f, looked := s.folders["cache"]
		observed := fmt.Sprintf("%s: mode %04o, owner %d, %d files; the engine is %q", f.Dir, f.Mode, f.Owner, f.Files, all.Engine)
		version := versionOf(all)
		switch {
		case !ok:
			return s.fail(reasonNoAnswer, s.describe("stats"))
		case !looked || f.Broken != "":
			return s.fail(reasonNoFolder, observed+"; "+f.Broken)
		case !f.Private():
			return s.fail(reasonOpen, observed)
		case f.Files == 0:
			return s.fail(reasonNoFolder, observed)
		case version == "" || !strings.Contains(f.Dir, version):
			return s.fail(reasonUnversioned, observed)
		}
		return s.pass(observed)
	}),
	Kills: kill(reasonOpen, "sandbox.cache-open"),
})

// versionOf is the version of the engine, or nothing.
func versionOf(all scenario.Stats) string {
	if words := strings.Fields(all.Engine); len(words) > 1 {
		return strings.TrimPrefix(words[len(words)-1], "v")
	}
	return ""
}

// attack is a module and what is called of it, if it is taken at all.
type attack struct {
	guest, function string
	args            []string
}

// attacks are all that a guest is known to try, and the cheap ones last but one.
var attacks = []attack{
	{guest: "table-bomb"}, {guest: "memory-initial-257"}, {guest: "forged-fuel"}, {guest: "forged-depth"}, {guest: "forged-export"},
	{guest: "forged-import"}, {guest: "unknown-import"}, {guest: "wrong-import"}, {guest: "truncated"}, {guest: "huge-length"},
	{guest: "bad-magic"}, {guest: "start-endless"},
	{guest: "spin", function: "spin"}, {guest: "spin", function: "spin_rec", args: []string{"60"}}, {guest: "recursion-bomb", function: "bomb"},
	{guest: "memory-bomb", function: "grow_all"}, {guest: "bulk-bomb", function: "fill"}, {guest: "reentry-bomb", function: "bomb"},
	{guest: "bounds", function: "host_far"}, {guest: "bounds", function: "host_wrap"}, {guest: "bounds", function: "fill_past"},
	{guest: "busy", function: "busy_loop"}, {guest: "secret", function: "open_file"},
	{guest: "traps", function: "t_stack"}, {guest: "traps", function: "t_load"}, {guest: "traps", function: "t_call_signature"},
}

const (
	reasonDied     = "died"           // the target ended or stopped answering
	reasonInternal = "internal-error" // the target blamed itself
)

var _ = add(suites.Check{
	ID: "sandbox/isolation/host-survives", Title: "no guest ends the host", Covers: []string{"sandbox/isolation/host-survives"},
	Cost: suites.Cost{Time: 4 * time.Second, Exclusive: true}, Reasons: []string{reasonDied, reasonInternal},
	Drive: driving(attackAll),
	Judge: judging("each attack is answered, and an ordinary call after each of them", judgeSurvival),
	Kills: kill(reasonDied, "sandbox.dies-on-attack"),
})

func attackAll(ctx context.Context, b *bench) error {
	tenant, err := b.serve(ctx, "a", scenario.Free, "fib")
	if err != nil {
		return ends(err)
	}
	began := b.env.Clock.Now()
	x := scenario.Series{Name: "attacks"}
	note := func(what string, c scenario.Call, err error) error {
		if err != nil {
			return err
		}
		x.Each = append(x.Each, scenario.TrialOf(what, b.env.Elapsed(began), c))
		return b.note(c)
	}
	for _, a := range attacks {
		if err = b.attack(ctx, tenant, a, note); err != nil {
			break
		}
	}
	if ends(err) != nil {
		return err
	}
	return scenario.RecordSeries(b.env, x)
}

// attack uploads and calls one guest, and makes an ordinary call afterwards.
func (b *bench) attack(ctx context.Context, tenant string, a attack, note func(string, scenario.Call, error) error) error {
	u, err := b.signed(tenant, "attack", wasm.Module(a.guest))
	if err != nil {
		return err
	}
	c, err := b.api.Upload(ctx, "", u)
	if err := note("upload "+a.guest, c, err); err != nil {
		return err
	}
	if c.Good() && a.function != "" {
		b.modules[tenant] = []string{"fib", "attack"}
		c, err := b.api.Invoke(ctx, "", tenant, "attack", scenario.Invocation{Function: a.function, Args: a.args})
		if err := note("call "+a.guest+" "+a.function, c, err); err != nil {
			return err
		}
	}
	c, err = b.api.Invoke(ctx, "", tenant, "fib", scenario.Invocation{Function: "fib", Args: []string{"10"}})
	return note(healthWhat, c, err)
}

const healthWhat = "health"

func judgeSurvival(_ suites.Trace, s *story) suites.Finding {
	healthy := 0
	for n, x := range s.series["attacks"].Each {
		observed := fmt.Sprintf("%d. %s: status %d %s", n+1, x.What, x.Status, x.Broken)
		switch {
		case x.Status == 0:
			return s.fail(reasonDied, observed)
		case x.Status >= 500:
			return s.fail(reasonInternal, observed)
		case x.What == healthWhat && x.Result() != "55":
			return s.fail(reasonDied, observed)
		case x.What == healthWhat:
			healthy++
		}
	}
	if healthy != len(attacks) {
		return s.fail(reasonDied, fmt.Sprintf("%d ordinary calls after %d attacks", healthy, len(attacks)))
	}
	return s.pass(fmt.Sprintf("%d attacks, %d ordinary calls in between", len(attacks), healthy))
}
