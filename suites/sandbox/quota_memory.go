package sandbox

import (
	"context"
	"fmt"
	"strconv"

	scenario "github.com/assay-bench/assay/scenarios/sandbox"
	"github.com/assay-bench/assay/suites"
)

const (
	reasonOver  = "over-quota"  // more than the tier allows was given
	reasonUnder = "under-quota" // less than the tier promises was given
)

func tierCases(title string) (out []suites.Case) {
	for _, t := range []scenario.Tier{scenario.Free, scenario.Pro, scenario.Enterprise} {
		out = append(out, suites.Case{ID: string(t), Title: fmt.Sprintf(title, t.Pages())})
	}
	return out
}

var _ = add(suites.Check{
	ID: "sandbox/quota/memory-pages", Title: "memory grows to the tier's pages and no further", Covers: []string{"sandbox/quota/memory-pages"},
	Cases:   tierCases("to %d pages"),
	Reasons: []string{reasonOver, reasonUnder, reasonWrongResult},
	Drive: driving(func(ctx context.Context, b *bench) error {
		tier := scenario.Tier(b.env.Key.Case)
		tenant, err := b.serve(ctx, "a", tier, "memory-bomb")
		if err == nil {
			_, err = b.invoke(ctx, "all", tenant, "memory-bomb", "grow_all")
		}
		if err == nil { // one page is there at the start
			_, err = b.invoke(ctx, "up to", tenant, "memory-bomb", "grow", strconv.Itoa(tier.Pages()-1))
		}
		if err == nil {
			_, err = b.invoke(ctx, "beyond", tenant, "memory-bomb", "grow", strconv.Itoa(tier.Pages()))
		}
		return ends(err)
	}),
	Judge: judging("memory.grow succeeds up to the tier's pages, and is -1 for one more", func(t suites.Trace, s *story) suites.Finding {
		pages := scenario.Tier(t.Key.Case).Pages()
		observed := s.tale("all", "up to", "beyond")
		all, ok := s.invoked("all")
		if !ok || len(all.Results) != 1 {
			return s.fail(reasonWrongResult, observed)
		}
		n, err := strconv.Atoi(all.Results[0])
		switch {
		case err != nil || pages == 0:
			return s.fail(reasonWrongResult, observed)
		case n > pages:
			return s.fail(reasonOver, observed)
		case n < pages || !s.returned("up to", "1"):
			return s.fail(reasonUnder, observed)
		case !s.returned("beyond", "-1"):
			return s.fail(reasonOver, observed)
		}
		return s.pass(observed)
	}),
	Kills: kills(killIn("free", reasonOver, "sandbox.pages-unlimited"), killIn("pro", reasonOver, "sandbox.pages-unlimited"),
		killIn("free", reasonUnder, "sandbox.pages-halved"), killIn("enterprise", reasonUnder, "sandbox.pages-halved")),
})

var _ = add(refusedRow{[]refusedCase{
	{id: "free", title: "17 pages for 16", tier: scenario.Free, code: guest("memory-initial-17"), steps: []string{"structure"}, function: "size"},
	{id: "pro", title: "65 pages for 64", tier: scenario.Pro, code: guest("memory-initial-65"), steps: []string{"structure"}, function: "size"},
	{id: "enterprise", title: "257 pages for 256", tier: scenario.Enterprise, code: guest("memory-initial-257"), steps: []string{"structure"}, function: "size"},
}}.check(suites.Check{
	ID: "sandbox/quota/memory-initial", Title: "a memory that begins above the tier is refused", Covers: []string{"sandbox/quota/memory-initial"},
	Kills: killIn("free", reasonWrongStatus, "sandbox.initial-unchecked"),
}))

var _ = add(refusedRow{[]refusedCase{
	{id: "bomb", title: "100,000,000 entries in 38 bytes", code: guest("table-bomb"), steps: []string{"structure"}, words: []string{"table"}},
	{id: "one-over", title: "10,001 entries", code: capped("table"), steps: []string{"structure"}, words: []string{"table"}},
}}.check(suites.Check{
	ID: "sandbox/quota/table-size", Title: "tables above 10,000 entries are refused", Covers: []string{"sandbox/quota/table-size"},
	Kills: kills(killIn("bomb", reasonTaken, "sandbox.table-unchecked"), killIn("one-over", reasonTaken, "sandbox.table-unchecked")),
}))

var _ = add(refusedRow{[]refusedCase{
	{id: "size", title: "more bytes than 8 MiB", tier: scenario.Enterprise, code: capped("size"), steps: []string{"size"}},
	{id: "functions", title: "more functions than 10,000", tier: scenario.Enterprise, code: capped("functions"), steps: []string{"structure"}, words: []string{"function"}},
	{id: "locals", title: "more locals than 10,000 in a function", tier: scenario.Enterprise, code: capped("locals"), steps: []string{"structure"}, words: []string{"local"}},
	{id: "data", title: "more data than 4 MiB", tier: scenario.Enterprise, code: capped("data"), steps: []string{"structure"}, words: []string{"data"}},
	{id: "globals", title: "more globals than 1,000", tier: scenario.Enterprise, code: capped("globals"), steps: []string{"structure"}, words: []string{"global"}},
}}.check(suites.Check{
	ID: "sandbox/quota/module-size", Title: "modules above a structural cap are refused", Covers: []string{"sandbox/quota/module-size"},
	Cost:  suites.Cost{Time: 500 * ms},
	Kills: kills(killIn("functions", reasonTaken, "sandbox.caps-unchecked"), killIn("locals", reasonTaken, "sandbox.caps-unchecked")),
}))
