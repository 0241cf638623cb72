package sandbox

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/assay-bench/assay/fixtures/wasm"
	scenario "github.com/assay-bench/assay/scenarios/sandbox"
	"github.com/assay-bench/assay/suites"
)

const (
	reasonMixed   = "mixed"   // the tag of one version with the result of another
	reasonDropped = "dropped" // a call failed because of a reload

	reloads       = 10
	reloadWorkers = 4
	reloadCalls   = 50 // of each worker
)

// versionGuest is the fixture that answers for a version: odd ones with 1, even ones with 2.
func versionGuest(version uint64) string { return "versioned-" + versionResult(version) }

func versionResult(version uint64) string {
	if version%2 == 1 {
		return "1"
	}
	return "2"
}

var _ = add(suites.Check{
	ID: "sandbox/lifecycle/reload-atomic", Title: "calls during reloads see one version each, and none fails", Covers: []string{"sandbox/lifecycle/reload-atomic"},
	Cost: suites.Cost{Time: 2 * time.Second}, Reasons: []string{reasonMixed, reasonDropped},
	Drive: driving(reloadAll),
	Judge: judging("200 calls beside 10 reloads: each has the result of the version that it names", judgeReload),
	Kills: kills(kill(reasonMixed, "sandbox.reload-mixed"), kill(reasonDropped, "sandbox.reload-drops")),
})

// reloadAll calls from four goroutines while a fifth reloads. The calls are spread over the reloads: each
// worker goes on until the last one is done.
func reloadAll(ctx context.Context, b *bench) error {
	tenant, err := b.tenant(ctx, "a", scenario.Enterprise)
	if err != nil {
		return ends(err)
	}
	if err := b.reload(ctx, setup+"upload", tenant); err != nil {
		return ends(err)
	}
	began := b.env.Clock.Now()
	g := gathering{each: make([][]scenario.Trial, reloadWorkers)}
	done := make(chan struct{})
	for i := range reloadWorkers {
		g.all.Go(func() { b.callOn(ctx, &g, i, tenant, began, done) })
	}
	for n := range reloads {
		if err = b.reload(ctx, fmt.Sprintf("reload %d", n), tenant); err != nil {
			break
		}
	}
	close(done)
	if gerr := g.record(b, "calls", began); err == nil {
		err = gerr
	}
	return ends(err)
}

// reload publishes the next version with the guest that belongs to its number.
func (b *bench) reload(ctx context.Context, name, tenant string) error {
	u, err := b.signed(tenant, module, nil)
	if err != nil {
		return err
	}
	u.Wasm = wasm.Module(versionGuest(u.Version))
	if err := b.sign(&u); err != nil {
		return err
	}
	c, err := b.try(ctx, name, u)
	if err != nil {
		return err
	}
	return b.set(c)
}

// callOn calls at least reloadCalls times and until done, at most 40 times as often.
func (b *bench) callOn(ctx context.Context, g *gathering, i int, tenant string, began time.Duration, done <-chan struct{}) {
	in := scenario.Invocation{Function: "version"}
	if i%2 == 1 {
		in = scenario.Invocation{Function: "slow", Args: []string{"500000"}}
	}
	over := false
	for n := 0; n < reloadCalls || !over && n < 40*reloadCalls; n++ {
		at := b.env.Elapsed(began)
		c, err := b.api.Invoke(ctx, "", tenant, module, in)
		t := scenario.TrialOf(in.Function, at, c)
		if g.keep(i, t, err); err != nil || t.Status == 0 {
			return
		}
		select {
		case <-done:
			over = true
		default:
		}
	}
}

func judgeReload(_ suites.Trace, s *story) suites.Finding {
	for n := range reloads {
		if name := fmt.Sprintf("reload %d", n); !s.calls[name].Good() {
			return s.fail(reasonNotSet, s.describe(name))
		}
	}
	all, versions := s.series["calls"].Each, map[uint64]int{}
	for _, x := range all {
		observed := fmt.Sprintf("%s after %s: status %d, class %q, version %d, result %q %s",
			x.What, x.At.Round(ms), x.Status, x.Class, x.Version, x.Result(), x.Broken)
		switch {
		case x.Status == 0:
			return s.fail(reasonNoAnswer, observed)
		case x.Status != 200:
			return s.fail(reasonDropped, observed)
		case x.Version == 0 || x.Result() != versionResult(x.Version):
			return s.fail(reasonMixed, observed)
		}
		versions[x.Version]++
	}
	observed := fmt.Sprintf("%d calls of %d versions, none failed", len(all), len(versions))
	switch {
	case len(all) < reloadWorkers*reloadCalls:
		return s.fail(reasonNoAnswer, observed)
	case len(versions) < 2:
		return s.fail(reasonNoAnswer, observed+"; no reload took effect")
	}
	return s.pass(observed)
}

const (
	reasonHeld = "memory-held" // memory of an old version stays accounted
	// slowRounds of the guest take some tenths of a second of a tier that has one second.
	slowRounds = 60_000_000
)

var _ = add(suites.Check{
	ID: "sandbox/lifecycle/drain", Title: "the memory of an old version is freed after its last call", Covers: []string{"sandbox/lifecycle/drain"},
	Cases: []suites.Case{{ID: "idle", Title: "51 pages, no call under way"}, {ID: "in-flight", Title: "a call is under way"}},
	Cost:  suites.Cost{Time: time.Second, Exclusive: true}, Reasons: []string{reasonHeld, reasonDropped, reasonMixed, reasonNotCounted},
	Drive: driving(drain),
	Judge: judging("a call under way ends well, and then the accounts show what the new version alone takes", judgeDrain),
	Kills: kills(killIn("idle", reasonHeld, "sandbox.drain-leaks"), killIn("in-flight", reasonDropped, "sandbox.reload-drops")),
})

// drain replaces a version, and publishes the same new version for another tenant to compare with.
func drain(ctx context.Context, b *bench) error {
	tenant, err := b.tenant(ctx, "a", scenario.Enterprise)
	if err != nil {
		return ends(err)
	}
	began := b.env.Clock.Now()
	g := gathering{each: make([][]scenario.Trial, 1)}
	if b.env.Key.Case == "idle" {
		if err := b.publish(ctx, tenant, module, wasm.Module("large-state-c")); err != nil {
			return ends(err)
		}
		if _, err := b.invoke(ctx, "old", tenant, module, "touch", "1"); err != nil {
			return ends(err)
		}
		if _, err := b.stats(ctx, "large"); err != nil {
			return err
		}
	} else {
		if err := b.publish(ctx, tenant, module, wasm.Module("versioned-1")); err != nil {
			return ends(err)
		}
		g.all.Go(func() {
			c, err := b.api.Invoke(ctx, "", tenant, module, scenario.Invocation{Function: "slow", Args: []string{strconv.Itoa(slowRounds)}})
			g.keep(0, scenario.TrialOf("slow", 0, c), err)
		})
		if err := b.until(ctx, "started", func(s scenario.Stats) bool { return s.Tenants[tenant].Running > 0 }); err != nil {
			return err
		}
	}
	err = b.publishNew(ctx, tenant)
	if gerr := g.record(b, "under way", began); err == nil {
		err = gerr
	}
	if err != nil {
		return ends(err)
	}
	return ends(b.compare(ctx, tenant))
}

// publishNew replaces the module by versioned-2.
func (b *bench) publishNew(ctx context.Context, tenant string) error {
	u, err := b.signed(tenant, module, wasm.Module("versioned-2"))
	if err != nil {
		return err
	}
	c, err := b.try(ctx, "replace", u)
	if err != nil {
		return err
	}
	return b.set(c)
}

// compare calls the new version as both tenants and reads what each is accounted.
func (b *bench) compare(ctx context.Context, tenant string) error {
	other, err := b.serve(ctx, "b", scenario.Enterprise, "versioned-2")
	if err != nil {
		return err
	}
	if _, err := b.invoke(ctx, "other", other, "versioned-2", "version"); err != nil {
		return err
	}
	if _, err := b.invoke(ctx, "new", tenant, module, "version"); err != nil {
		return err
	}
	return b.until(ctx, "settled", func(s scenario.Stats) bool { return s.Tenants[tenant].Memory <= s.Tenants[other].Memory })
}

func judgeDrain(t suites.Trace, s *story) suites.Finding {
	observed := s.tale("old", "replace", "new")
	for _, x := range s.series["under way"].Each {
		observed += fmt.Sprintf("; the call under way: status %d, version %d, result %q", x.Status, x.Version, x.Result())
		switch {
		case x.Status != 200:
			return s.fail(reasonDropped, observed)
		case x.Result() != "1":
			return s.fail(reasonMixed, observed)
		}
	}
	if t.Key.Case != "idle" && len(s.series["under way"].Each) == 0 {
		return s.fail(reasonNoAnswer, observed)
	}
	if !s.calls["replace"].Good() || !s.returned("new", "2") {
		return s.fail(reasonMixed, observed)
	}
	own, _, ok := s.counted("settled", "a")
	other, _, okay := s.counted("settled", "b")
	observed += fmt.Sprintf("; %d bytes are accounted, %d for a tenant that had only the new version", own.Memory, other.Memory)
	switch {
	case !ok || !okay || other.Memory <= 0:
		return s.fail(reasonNotCounted, observed)
	case own.Memory > other.Memory:
		return s.fail(reasonHeld, observed)
	}
	return s.pass(observed)
}

var _ = add(suites.Check{
	ID: "sandbox/lifecycle/accounting-zero", Title: "after the last module the accounts are at 0", Covers: []string{"sandbox/lifecycle/accounting-zero"},
	Reasons: []string{reasonHeld, reasonNotCounted, reasonNotServed},
	Drive: driving(func(ctx context.Context, b *bench) error {
		tenant, err := b.serve(ctx, "a", scenario.Pro, "secret")
		for n := range 3 {
			if err == nil {
				_, err = b.invoke(ctx, fmt.Sprintf("call %d", n), tenant, "secret", "scan")
			}
		}
		for _, f := range []string{"grow", "segment_drop"} { // after which the instance is discarded
			if err == nil {
				_, err = b.invoke(ctx, f, tenant, "secret", f)
			}
		}
		if err == nil {
			_, err = b.stats(ctx, "serving")
		}
		if err == nil {
			_, err = b.api.Remove(ctx, "remove", tenant, "secret")
		}
		if err == nil {
			err = b.until(ctx, "settled", func(s scenario.Stats) bool {
				return s.Tenants[tenant].Memory == 0 && s.Tenants[tenant].Instances == 0
			})
		}
		return ends(err)
	}),
	Judge: judging("no memory and no instance is accounted after the module was removed", func(_ suites.Trace, s *story) suites.Finding {
		before, _, ok := s.counted("serving", "a")
		after, _, okay := s.counted("settled", "a")
		observed := fmt.Sprintf("%s; while it served %d bytes, after it %d bytes and %d instances", s.tale("call 0", "remove"), before.Memory, after.Memory, after.Instances)
		switch {
		case !s.calls["remove"].Good() || !s.returned("call 0", "0"):
			return s.fail(reasonNotServed, observed)
		case !ok || !okay || before.Calls < 5:
			return s.fail(reasonNotCounted, observed)
		case after.Memory != 0 || after.Instances != 0:
			return s.fail(reasonHeld, observed)
		}
		return s.pass(observed)
	}),
	Kills: kill(reasonHeld, "sandbox.accounting-drifts"),
})
