package sandbox

import (
	"context"
	"fmt"
	"strings"
	"time"

	scenario "github.com/assay-bench/assay/scenarios/sandbox"
	"github.com/assay-bench/assay/suites"
)

const (
	reasonCorruptFails   = "refused-after-damage" // a damaged entry made the upload fail
	reasonUnreplaced     = "not-replaced"
	reasonCorruptUnknown = "not-noticed"
)

var _ = add(suites.Check{
	ID: "sandbox/lifecycle/cache-corrupt", Title: "a damaged entry of the cache is a miss", Covers: []string{"sandbox/lifecycle/cache-corrupt"},
	Locality: suites.OwnedHost, Cost: suites.Cost{Time: time.Second, Exclusive: true}, // new files must be this case's own
	Reasons: []string{reasonCorruptFails, reasonUnreplaced, reasonCorruptUnknown, reasonNoFolder, reasonWrongResult, reasonNoBite},
	Drive:   driving(damage),
	Judge:   judging("a module whose compiled form was damaged is compiled anew, and the file replaced", judgeDamage),
	Kills:   kill(reasonCorruptFails, "sandbox.cache-corrupt-fails"),
})

// damage publishes a module that nobody has published before, inverts a byte of what that left in the folder,
// and publishes it again.
func damage(ctx context.Context, b *bench) error {
	tenant, err := b.tenant(ctx, "a", scenario.Pro)
	if err != nil {
		return ends(err)
	}
	stats, err := b.stats(ctx, "before")
	if err != nil {
		return err
	}
	was, err := scenario.Examine(b.env, "before", stats.Cache.Dir)
	if err != nil {
		return err
	}
	code := constant(int32(b.env.Rand.Uint32()))
	if err := b.publish(ctx, tenant, module, code); err != nil {
		return ends(err)
	}
	if _, err := b.invoke(ctx, "first", tenant, module, "get"); err != nil {
		return ends(err)
	}
	is, err := scenario.Examine(b.env, "after", stats.Cache.Dir)
	if err != nil {
		return err
	}
	if c, err := b.api.Remove(ctx, "remove", tenant, module); err != nil || b.note(c) != nil {
		return ends(err)
	}
	file, size := "", 0
	for path, d := range is {
		if _, old := was[path]; !old && d.Len > size {
			file, size = path, d.Len
		}
	}
	// The target says where its folder is: nothing is altered but in one that names its engine's version.
	if v := versionOf(stats); file == "" || v == "" || !strings.Contains(stats.Cache.Dir, v) {
		return nil
	}
	flipped, err := scenario.Flip(b.env, "flipped", file)
	if err != nil {
		return err
	}
	u, err := b.signed(tenant, module, code)
	if err != nil {
		return err
	}
	c, err := b.try(ctx, "again", u)
	if err == nil && c.Good() {
		_, err = b.invoke(ctx, "second", tenant, module, "get")
	}
	if err == nil {
		_, err = b.stats(ctx, "counted")
	}
	if err != nil {
		return ends(err)
	}
	return scenario.Reread(b.env, "reread", file, flipped)
}

func judgeDamage(_ suites.Trace, s *story) suites.Finding {
	before, ok := s.anyStats("before")
	after, okay := s.anyStats("counted")
	flipped, altered := s.damages["flipped"]
	reread := s.damages["reread"]
	observed := fmt.Sprintf("%s; corrupt entries %d, then %d; file %s", s.tale("first", "again", "second"), before.Cache.Corrupt, after.Cache.Corrupt, flipped.File)
	first, fine := s.invoked("first")
	switch {
	case s.folders["after"].Broken != "" || !ok:
		return s.fail(reasonNoFolder, s.folders["after"].Broken+"; "+s.describe("before"))
	case !fine || len(first.Results) != 1:
		return s.fail(reasonWrongResult, observed)
	case !altered:
		return s.unsure("publishing a new module left no new file in the folder; " + observed)
	case s.silent("again") != "":
		return s.fail(reasonNoAnswer, observed)
	case !s.calls["again"].Good():
		return s.fail(reasonCorruptFails, observed)
	case !s.returned("second", first.Results[0]):
		return s.fail(reasonWrongResult, observed)
	case !okay || after.Cache.Corrupt <= before.Cache.Corrupt:
		return s.fail(reasonCorruptUnknown, observed)
	case reread.Gone != "" || reread.Is == flipped.Is:
		return s.fail(reasonUnreplaced, observed+"; "+reread.Gone)
	}
	return s.pass(observed)
}

// anyStats reads recorded counters, whichever tenants they name.
func (s *story) anyStats(name string) (all scenario.Stats, ok bool) {
	c, there := s.calls[name]
	return all, there && c.Read(&all)
}
