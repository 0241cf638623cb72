package sandbox

import (
	"context"
	"fmt"
	"time"

	"github.com/assay-bench/assay/results"
	scenario "github.com/assay-bench/assay/scenarios/sandbox"
	"github.com/assay-bench/assay/suites"
)

const (
	reasonTooDeep = "too-deep" // a depth beyond the limit was reached
	reasonShallow = "too-shallow"
)

// depthCase is a guest that goes as deep as it is asked, and endlessly.
type depthCase struct {
	guest, function string
	fine, beyond    string // a depth that must work, and one that must not
	class           string // of the trap
}

var (
	callDepth  = depthCase{guest: "recursion-bomb", function: "depth", fine: "500", beyond: "5000", class: "stack"}
	reentering = depthCase{guest: "reentry-bomb", function: "dive", fine: "20", beyond: "100", class: "host-error"}
)

// stackCPU is what endless recursion may cost before it is stopped.
const stackCPU = 50 * ms

func (d depthCase) drive(ctx context.Context, b *bench) error {
	tenant, err := b.serve(ctx, "a", scenario.Enterprise, d.guest)
	calls := []struct {
		name, function string
		args           []string
	}{
		{"fine", d.function, []string{d.fine}}, {"beyond", d.function, []string{d.beyond}}, {"endless", "bomb", nil},
		{"next", d.function, []string{"2"}},
	}
	for _, k := range calls {
		if err == nil && k.name == "endless" {
			_, err = b.stats(ctx, "counted 0")
		}
		if err == nil {
			_, err = b.invoke(ctx, k.name, tenant, d.guest, k.function, k.args...)
		}
		if err == nil && k.name == "endless" {
			_, err = b.stats(ctx, "counted 1")
		}
	}
	return ends(err)
}

func (d depthCase) judge(_ suites.Trace, s *story) suites.Finding {
	observed := s.tale("fine", "beyond", "endless", "next")
	if n := s.silent("fine", "beyond", "endless", "next"); n != "" {
		return s.fail(reasonNoAnswer, observed)
	}
	if !s.returned("fine", d.fine) {
		return s.fail(reasonShallow, observed)
	}
	for _, name := range []string{"beyond", "endless"} {
		p, trapped := s.trap(name)
		switch {
		case !trapped:
			return s.fail(reasonTooDeep, observed)
		case p.Class != d.class:
			return s.fail(reasonWrongClass, observed)
		}
	}
	if !s.returned("next", "2") {
		return s.fail(reasonNotServed, observed)
	}
	cpu, ok := s.spent(0)
	observed += fmt.Sprintf("; endless recursion cost %s", cpu)
	if d.class == "stack" && (!ok || cpu > stackCPU) {
		return s.fail(reasonOverrun, observed)
	}
	out := s.pass(observed)
	out.Figures = []results.Figure{{Name: "processor time of endless recursion", Value: cpu.Seconds(), Unit: "seconds"}}
	return out
}

func (d depthCase) check(c suites.Check) suites.Check {
	c.Reasons = []string{reasonTooDeep, reasonShallow, reasonWrongClass, reasonNotServed, reasonOverrun}
	c.Drive = driving(d.drive)
	c.Judge = judging(fmt.Sprintf("%s deep returns; %s deep and endlessly trap with class %s; the next call is served", d.fine, d.beyond, d.class), d.judge)
	return c
}

var (
	_ = add(callDepth.check(suites.Check{
		ID: "sandbox/quota/stack-depth", Title: "recursion stops at the limit of depth", Covers: []string{"sandbox/quota/stack-depth"},
		Kills: kills(kill(reasonTooDeep, "sandbox.depth-unlimited"), kill(reasonShallow, "sandbox.depth-shallow")),
	}))
	_ = add(reentering.check(suites.Check{
		ID: "sandbox/quota/reentry-depth", Title: "host and guest calling each other stops at the limit", Covers: []string{"sandbox/quota/reentry-depth"},
		Kills: kill(reasonTooDeep, "sandbox.reentry-unlimited"),
	}))
)

const (
	reasonTooMany = "too-many" // more instances ran at once than the tier has
	reasonOdd     = "odd-answer"
)

// crowd is how many calls are made at once, by tier.
var crowd = map[string]int{string(scenario.Free): 4, string(scenario.Pro): 6}

var _ = add(suites.Check{
	ID: "sandbox/quota/instances", Title: "a tier's instances at once are not exceeded", Covers: []string{"sandbox/quota/instances"},
	Cases: []suites.Case{{ID: "free", Title: "4 calls at once of 1"}, {ID: "pro", Title: "6 calls at once of 3"}},
	Cost:  suites.Cost{Time: 2 * time.Second}, Reasons: []string{reasonTooMany, reasonOdd, reasonNotCounted, reasonNotServed},
	Drive: driving(func(ctx context.Context, b *bench) error {
		tenant, err := b.serve(ctx, "a", scenario.Tier(b.env.Key.Case), "spin")
		if err == nil {
			err = b.together(ctx, "crowd", crowd[b.env.Key.Case], func(int) (string, scenario.Invocation) {
				return tenant, scenario.Invocation{Function: "spin"}
			}, "spin")
		}
		if err == nil {
			_, err = b.stats(ctx, "counted")
		}
		if err == nil {
			_, err = b.invoke(ctx, "next", tenant, "spin", "answer")
		}
		return ends(err)
	}),
	Judge: judging("each call waits or is answered 429 with class instances, and never more run than the tier has", judgeCrowd),
	Kills: kills(killIn("free", reasonTooMany, "sandbox.instances-unlimited"), killIn("pro", reasonTooMany, "sandbox.instances-unlimited")),
})

func judgeCrowd(t suites.Trace, s *story) suites.Finding {
	most := scenario.Tier(t.Key.Case).Instances()
	all := s.series["crowd"].Each
	ended, busy := 0, 0
	for _, x := range all {
		switch {
		case x.Status == 0:
			return s.fail(reasonNoAnswer, x.Broken)
		case x.Status == statusTrap && (x.Class == "fuel" || x.Class == "deadline"):
			ended++
		case x.Status == statusBusy && x.Class == "instances":
			busy++
		default:
			return s.fail(reasonOdd, fmt.Sprintf("status %d, class %q", x.Status, x.Class))
		}
	}
	c, _, ok := s.counted("counted", "a")
	observed := fmt.Sprintf("of %d calls %d ran to their quota and %d were answered busy; at most %d ran at once, %d may; %s",
		len(all), ended, busy, c.RunningMax, most, s.describe("next"))
	switch {
	case len(all) == 0 || len(all) != crowd[t.Key.Case] || !ok:
		return s.fail(reasonNoAnswer, observed)
	case c.RunningMax > most:
		return s.fail(reasonTooMany, observed)
	case c.RunningMax < 1 || ended < 1:
		return s.fail(reasonNotCounted, observed)
	case !s.returned("next", "42"):
		return s.fail(reasonNotServed, observed)
	}
	return s.pass(observed)
}
