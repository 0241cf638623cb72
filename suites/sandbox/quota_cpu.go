package sandbox

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	scenario "github.com/assay-bench/assay/scenarios/sandbox"
	"github.com/assay-bench/assay/suites"
)

const ms = time.Millisecond

// quoted writes bytes of a guest for people.
func quoted(b []byte) string { return hex.EncodeToString(b[:min(len(b), 32)]) }

// reasonNotStopped: the call ended by itself, too late, or never.
const reasonNotStopped = "not-stopped"

// burner is a call that uses the processor for ever, or for far longer than any quota, and how often it is
// made.
type burner struct {
	guest, function string
	args            []string
	after, result   string   // an ordinary call of the same guest, afterwards
	afterArgs       []string // of it
	calls           int
	process         bool // the processor time of the target's process is judged too
}

// burnCase is a tier, and the engine.
type burnCase struct {
	id, title   string
	tier        scenario.Tier
	interpreted bool
}

func (f burner) check(c suites.Check, cases ...burnCase) suites.Check {
	for _, k := range cases {
		x := suites.Case{ID: k.id, Title: k.title}
		if k.interpreted {
			x.Needs = []features.Feature{features.SandboxInterpreter}
		}
		c.Cases = append(c.Cases, x)
	}
	find := func(id string) (burnCase, bool) {
		i := slices.IndexFunc(cases, func(k burnCase) bool { return k.id == id })
		return cases[max(i, 0)], i >= 0
	}
	c.Reasons = append(c.Reasons, reasonNotStopped, reasonWrongClass, reasonNotCounted, reasonNotServed)
	c.Drive = func(ctx context.Context, env *scenarios.Env) error {
		k, ok := find(env.Key.Case)
		if !ok {
			return fmt.Errorf("no case %q", env.Key.Case)
		}
		return drive(ctx, env, func(ctx context.Context, b *bench) error { return ends(f.burn(ctx, b, k)) })
	}
	c.Judge = judging("each call is stopped with class fuel or deadline after at most twice the tier's processor time, and the next call is served",
		func(t suites.Trace, s *story) suites.Finding {
			k, ok := find(t.Key.Case)
			if !ok {
				return s.fail(reasonNotSet, "no case "+t.Key.Case)
			}
			return f.judge(s, k)
		})
	if c.Cost.Time == 0 {
		c.Cost.Time = 1500 * ms
	}
	return c
}

// times is how often the call is made: once where a call alone takes a second of processor time.
func (f burner) times(k burnCase) int {
	if k.tier == scenario.Enterprise {
		return 1
	}
	return f.calls
}

func (f burner) burn(ctx context.Context, b *bench, k burnCase) error {
	var bend []func(*scenario.Upload)
	if k.interpreted {
		bend = append(bend, interpreted)
	}
	tenant, err := b.serve(ctx, "a", k.tier, f.guest, bend...)
	if err != nil {
		return err
	}
	for n := range f.times(k) {
		if _, err := b.stats(ctx, fmt.Sprintf("counted %d", n)); err != nil {
			return err
		}
		if err := b.clock(fmt.Sprintf("before %d", n)); err != nil {
			return err
		}
		if _, err := b.invoke(ctx, fmt.Sprintf("burn %d", n), tenant, f.guest, f.function, f.args...); err != nil {
			return err
		}
		if err := b.clock(fmt.Sprintf("after %d", n)); err != nil {
			return err
		}
	}
	if _, err := b.stats(ctx, fmt.Sprintf("counted %d", f.times(k))); err != nil {
		return err
	}
	_, err = b.invoke(ctx, "ordinary", tenant, f.guest, f.after, f.afterArgs...)
	return err
}

// processSlack is what the target's process may use beyond the call itself: collection, HTTP, other calls
// that are under way.
const processSlack = 400 * ms

func (f burner) judge(s *story, k burnCase) suites.Finding {
	bound := 2 * k.tier.CPU()
	var spent []time.Duration
	for n := range f.times(k) {
		name := fmt.Sprintf("burn %d", n)
		observed := s.describe(name)
		p, trapped := s.trap(name)
		switch {
		case s.silent(name) != "" || s.calls[name].Good():
			return s.fail(reasonNotStopped, observed)
		case !trapped || p.Class != "fuel" && p.Class != "deadline":
			return s.fail(reasonWrongClass, observed)
		}
		cpu, ok := s.spent(n)
		if !ok {
			return s.fail(reasonNotCounted, observed+"; "+s.tale(fmt.Sprintf("counted %d", n), fmt.Sprintf("counted %d", n+1)))
		}
		used, known := s.used(n)
		observed += fmt.Sprintf("; %s of processor time are accounted, %s are allowed", cpu, bound)
		if cpu > bound {
			return s.fail(reasonNotStopped, observed)
		}
		if f.process && known && used > bound+processSlack {
			return s.fail(reasonNotStopped, observed+fmt.Sprintf("; the process used %s meanwhile", used))
		}
		spent = append(spent, cpu)
	}
	if len(spent) == 0 {
		return s.fail(reasonNoAnswer, "nothing was called")
	}
	if !s.returned("ordinary", f.result) {
		return s.fail(reasonNotServed, s.describe("ordinary"))
	}
	worst := slices.Max(spent)
	out := s.pass(fmt.Sprintf("%d calls, the worst took %s of %s; %s", len(spent), worst, k.tier.CPU(), s.describe("ordinary")))
	out.Figures = []results.Figure{
		{Name: "processor time of a stopped call, worst", Value: worst.Seconds(), Unit: "seconds"},
		{Name: "overshoot, worst", Value: worst.Seconds() / k.tier.CPU().Seconds(), Unit: "ratio"},
	}
	return out
}

// spent is the processor time that the target accounts for the n-th call. ok is false where it accounts
// none.
func (s *story) spent(n int) (time.Duration, bool) {
	before, _, ok := s.counted(fmt.Sprintf("counted %d", n), "a")
	after, _, okay := s.counted(fmt.Sprintf("counted %d", n+1), "a")
	d := time.Duration(after.CPUMicros-before.CPUMicros) * time.Microsecond
	return d, ok && okay && d > 0
}

// used is the processor time of the target's processes during the n-th call.
func (s *story) used(n int) (time.Duration, bool) {
	before, after := s.clocks[fmt.Sprintf("before %d", n)], s.clocks[fmt.Sprintf("after %d", n)]
	return after.CPU - before.CPU, before.Known && after.Known
}

var (
	freeCase        = burnCase{id: "free", title: "50 ms", tier: scenario.Free}
	proCase         = burnCase{id: "pro", title: "200 ms", tier: scenario.Pro}
	enterpriseCase  = burnCase{id: "enterprise", title: "1,000 ms", tier: scenario.Enterprise}
	interpretedCase = burnCase{id: "free-interpreter", title: "50 ms, in the interpreter", tier: scenario.Free, interpreted: true}
)

var (
	_ = add(burner{guest: "spin", function: "spin", after: "answer", result: "42", calls: 3}.check(suites.Check{
		ID: "sandbox/quota/cpu-loop", Title: "an endless loop stops at the quota", Covers: []string{"sandbox/quota/cpu-loop"},
		Kills: kills(killIn("free", reasonNotStopped, "sandbox.cpu-unmetered"), killIn("free", reasonWrongClass, "sandbox.fuel-as-unreachable")),
	}, freeCase, proCase, enterpriseCase, interpretedCase))

	_ = add(burner{guest: "spin", function: "spin_rec", args: []string{"38"}, after: "answer", result: "42", calls: 2}.check(suites.Check{
		ID: "sandbox/quota/cpu-recursion", Title: "recursion without a loop stops at the quota", Covers: []string{"sandbox/quota/cpu-recursion"},
		Kills: killIn("free", reasonNotStopped, "sandbox.recursion-unmetered"),
	}, freeCase, interpretedCase))

	_ = add(burner{guest: "bulk-bomb", function: "fill", after: "fill_once", afterArgs: []string{"16"}, result: "90", calls: 3}.check(suites.Check{
		ID: "sandbox/quota/cpu-bulk", Title: "bulk memory work is charged by its length", Covers: []string{"sandbox/quota/cpu-bulk"},
		Cost:  suites.Cost{Time: 1500 * ms, Exclusive: true}, // uncharged bulk work can not be interrupted: the whole process waits
		Kills: killIn("free", reasonNotStopped, "sandbox.bulk-unmetered"),
	}, freeCase, interpretedCase))

	_ = add(burner{guest: "busy", function: "busy_loop", after: "busy", afterArgs: []string{"1"}, result: "0", calls: 2, process: true}.check(suites.Check{
		ID: "sandbox/quota/host-time-charged", Title: "time in host functions is charged", Covers: []string{"sandbox/quota/host-time-charged"},
		Cost:  suites.Cost{Time: time.Second, Exclusive: true}, // it looks at the target's whole process
		Kills: killIn("free", reasonNotStopped, "sandbox.host-time-free"),
	}, freeCase, proCase))
)
