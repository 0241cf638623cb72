package sandbox

import (
	"context"
	"fmt"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/fixtures/wasm"
	"github.com/assay-bench/assay/scenarios"
	scenario "github.com/assay-bench/assay/scenarios/sandbox"
	"github.com/assay-bench/assay/suites"
)

// trapCase is an export of the guest traps and the class of its trap.
type trapCase struct{ id, function, class, title string }

var trapCases = []trapCase{
	{"unreachable", "t_unreachable", "unreachable", "unreachable"},
	{"div-zero", "t_div_zero", "divide-by-zero", "a division by zero"},
	{"div-overflow", "t_div_overflow", "integer-overflow", "the smallest integer divided by -1"},
	{"trunc-overflow", "t_trunc_overflow", "integer-overflow", "a float too large for an integer"},
	{"trunc-nan", "t_trunc_nan", "bad-conversion", "NaN as an integer"},
	{"load", "t_load", "memory-bounds", "a load over the end of the memory"},
	{"store", "t_store", "memory-bounds", "a store over the end of the memory"},
	{"fill", "t_fill", "memory-bounds", "a fill over the end of the memory"},
	{"call-signature", "t_call_signature", "signature", "an indirect call of another type"},
	{"table-null", "t_table_null", "table-access", "an indirect call of an empty entry"},
	{"table-range", "t_table_range", "table-access", "an indirect call past the end of the table"},
	{"stack", "t_stack", "stack", "endless recursion"},
}

const (
	compilerCase    = "compiler"
	interpreterCase = "interpreter"
	reasonPrinted   = "printed-result" // a run that trapped printed something as its result
)

func trapSuiteCases() []suites.Case {
	out := []suites.Case{
		{ID: compilerCase, Title: "all 12 in the compiler"},
		{ID: interpreterCase, Title: "all 12 in the interpreter", Needs: []features.Feature{features.SandboxInterpreter}},
	}
	for _, k := range trapCases {
		out = append(out, suites.Case{ID: runCase + "-" + k.id, Title: "by run-wasm: " + k.title})
	}
	return out
}

var _ = addMixed(suites.Check{
	ID: "sandbox/abi/traps-classified", Title: "a trap ends a call without a result and has its class", Covers: []string{"sandbox/abi/traps-classified"},
	Cases:   trapSuiteCases(),
	Reasons: []string{reasonNoTrap, reasonWrongClass, reasonPrinted, reasonNotServed},
	Drive: func(ctx context.Context, env *scenarios.Env) error {
		if byRun(env.Key.Case) {
			return runTrap(ctx, env)
		}
		return drive(ctx, env, callTraps)
	},
	Judge: either(
		judging("each trap is answered with its class, and the next call is served", judgeTraps),
		judgingRuns("the command exits with another status than 0 and prints no result", judgeTrapRun)),
	Kills: kills(killIn(compilerCase, reasonWrongClass, "sandbox.traps-as-internal"), killIn(interpreterCase, reasonWrongClass, "sandbox.traps-as-internal")),
})

func callTraps(ctx context.Context, b *bench) error {
	var bend []func(*scenario.Upload)
	if b.env.Key.Case == interpreterCase {
		bend = append(bend, interpreted)
	}
	tenant, err := b.serve(ctx, "a", scenario.Pro, "traps", bend...)
	for _, k := range trapCases {
		if err == nil {
			_, err = b.invoke(ctx, k.function, tenant, "traps", k.function)
		}
	}
	if err == nil {
		_, err = b.invoke(ctx, "ok", tenant, "traps", "ok")
	}
	return ends(err)
}

func judgeTraps(t suites.Trace, s *story) suites.Finding {
	if t.Key.Case != compilerCase && t.Key.Case != interpreterCase {
		return s.fail(reasonNotSet, "no case "+t.Key.Case)
	}
	for _, k := range trapCases {
		observed := fmt.Sprintf("%s, want class %s", s.describe(k.function), k.class)
		p, trapped := s.trap(k.function)
		switch {
		case s.silent(k.function) != "":
			return s.fail(reasonNoAnswer, observed)
		case !trapped:
			return s.fail(reasonNoTrap, observed)
		case p.Class != k.class:
			return s.fail(reasonWrongClass, observed)
		}
	}
	if !s.returned("ok", "1") {
		return s.fail(reasonNotServed, s.describe("ok"))
	}
	return s.pass(fmt.Sprintf("all %d, and %s", len(trapCases), s.describe("ok")))
}

func trapOf(kase string) (trapCase, bool) {
	for _, k := range trapCases {
		if kase == runCase+"-"+k.id {
			return k, true
		}
	}
	return trapCase{}, false
}

func runTrap(ctx context.Context, env *scenarios.Env) error {
	k, ok := trapOf(env.Key.Case)
	if !ok {
		return fmt.Errorf("no case %q", env.Key.Case)
	}
	_, err := scenario.Run(ctx, env, wasm.Module("traps"), k.function)
	return err
}

// judgeTrapRun says nothing on the text of the error: a runtime may call a trap what it likes.
func judgeTrapRun(t suites.Trace, s *story) suites.Finding {
	k, ok := trapOf(t.Key.Case)
	if !ok || len(s.runs) != 1 || s.runs[0].Function != k.function {
		return s.fail(reasonNoAnswer, s.runTale())
	}
	return s.verdict(trappedRun(s.runs[0]), s.runTale())
}

// trappedRun tells why a run is not that of a trap, or nothing.
func trappedRun(r scenario.Execution) (reason string) {
	switch {
	case r.Exit == 0:
		return reasonNoTrap
	case r.Output != "":
		return reasonPrinted
	}
	return ""
}
