package sandbox

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/fixtures/wasm"
	"github.com/assay-bench/assay/scenarios"
	scenario "github.com/assay-bench/assay/scenarios/sandbox"
	"github.com/assay-bench/assay/suites"
)

const reasonDiffer = "engines-differ"

// differential is a check that calls a corpus and compares with what the standard fixes.
type differential struct {
	modules []corpusModule
	engines []string // that the cases of the API call, in turn
}

func (d differential) check(c suites.Check) suites.Check {
	for _, m := range d.modules {
		k := suites.Case{ID: m.guest, Title: "the calls of " + m.guest}
		if slices.Contains(d.engines, interpreterCase) {
			k.Needs = []features.Feature{features.SandboxInterpreter}
		}
		c.Cases = append(c.Cases, k)
	}
	for _, m := range d.modules {
		c.Cases = append(c.Cases, suites.Case{ID: runCase + "-" + m.guest, Title: "calls of " + m.guest + " by run-wasm"})
	}
	c.Reasons = append(c.Reasons, reasonDiffer, reasonWrongResult, reasonWrongClass, reasonNoTrap, reasonPrinted)
	c.Cost.Time = 500 * ms
	c.Drive = func(ctx context.Context, env *scenarios.Env) error {
		m, ok := moduleOf(d.modules, env.Key.Case)
		if !ok {
			return fmt.Errorf("no case %q", env.Key.Case)
		}
		if byRun(env.Key.Case) {
			return runCorpus(ctx, env, m)
		}
		return drive(ctx, env, func(ctx context.Context, b *bench) error { return ends(d.call(ctx, b, m)) })
	}
	c.Judge = either(
		judging("every call gives what WebAssembly says, in every engine", func(t suites.Trace, s *story) suites.Finding {
			m, ok := moduleOf(d.modules, t.Key.Case)
			if !ok {
				return s.fail(reasonNotSet, "no case "+t.Key.Case)
			}
			return d.judge(s, m)
		}),
		judgingRuns("every call prints what WebAssembly says, and a trap prints nothing", func(t suites.Trace, s *story) suites.Finding {
			m, ok := moduleOf(d.modules, t.Key.Case)
			if !ok {
				return s.fail(reasonNoAnswer, "no case "+t.Key.Case)
			}
			return judgeCorpusRuns(s, m)
		}))
	return c
}

// call makes every call in every engine and records each engine's as a series.
func (d differential) call(ctx context.Context, b *bench, m corpusModule) error {
	tenant, err := b.tenant(ctx, "a", scenario.Pro)
	if err != nil {
		return err
	}
	for _, engine := range d.engines {
		if err := b.publish(ctx, tenant, engine, wasm.Module(m.guest), func(u *scenario.Upload) { u.Engine = engine }); err != nil {
			return err
		}
		if err := b.series(ctx, engine, tenant, engine, m.calls); err != nil {
			return err
		}
	}
	return nil
}

// series makes calls in a row and records them together.
func (b *bench) series(ctx context.Context, name, tenant, module string, calls []corpusCall) error {
	began := b.env.Clock.Now()
	x := scenario.Series{Name: name}
	for _, k := range calls {
		at := b.env.Elapsed(began)
		c, err := b.api.Invoke(ctx, "", tenant, module, scenario.Invocation{Function: k.function, Args: k.args})
		if err != nil {
			return err
		}
		x.Each = append(x.Each, scenario.TrialOf(k.text(), at, c))
		if b.note(c) != nil {
			break
		}
	}
	x.Took = b.env.Elapsed(began)
	return scenario.RecordSeries(b.env, x)
}

func (k corpusCall) text() string { return k.function + "(" + strings.Join(k.args, ", ") + ")" }

// judge compares each engine with the other and with the standard.
func (d differential) judge(s *story, m corpusModule) suites.Finding {
	compared := 0
	for n, k := range m.calls {
		var first string
		for e, engine := range d.engines {
			all := s.series[engine].Each
			if n >= len(all) || all[n].Status == 0 || all[n].What != k.text() {
				return s.fail(reasonNoAnswer, fmt.Sprintf("%s in the %s: no answer", k.text(), engine))
			}
			got := told1(all[n])
			observed := fmt.Sprintf("%s in the %s: %s, want %s%s", k.text(), engine, got, k.want, k.class)
			if e == 0 {
				first = got
			} else if got != first {
				return s.fail(reasonDiffer, observed+"; in the "+d.engines[0]+": "+first)
			}
			if reason := k.wrong(all[n]); reason != "" && len(d.engines) == 1 {
				return s.fail(reason, observed)
			}
			compared++
		}
		// both are alike: are they right?
		if reason := k.wrong(s.series[d.engines[0]].Each[n]); reason != "" {
			return s.fail(reason, fmt.Sprintf("%s: %s, want %s%s", k.text(), first, k.want, k.class))
		}
	}
	if compared == 0 {
		return s.fail(reasonNoAnswer, "nothing was compared")
	}
	return s.pass(fmt.Sprintf("%d calls, 0 differences", compared))
}

// told1 says in a word what came of a call.
func told1(t scenario.Trial) string {
	if t.Class != "" {
		return "trap " + t.Class
	}
	if t.Status != 200 {
		return fmt.Sprintf("status %d", t.Status)
	}
	return t.Result()
}

// wrong tells why a call did not give what is due, or nothing.
func (k corpusCall) wrong(t scenario.Trial) (reason string) {
	switch {
	case k.class == "" && (t.Status != 200 || len(t.Results) != 1 || !same(t.Results[0], k.want)):
		return reasonWrongResult
	case k.class != "" && t.Status != statusTrap:
		return reasonNoTrap
	case k.class != "" && t.Class != k.class:
		return reasonWrongClass
	}
	return ""
}

func runCorpus(ctx context.Context, env *scenarios.Env, m corpusModule) error {
	code := wasm.Module(m.guest)
	for _, k := range m.run {
		r, err := scenario.Run(ctx, env, code, k.function, k.args...)
		if err != nil || r.Broken != "" || r.Late {
			return err
		}
	}
	return nil
}

func judgeCorpusRuns(s *story, m corpusModule) suites.Finding {
	if len(m.run) == 0 || len(s.runs) != len(m.run) {
		return s.fail(reasonNoAnswer, fmt.Sprintf("%d of %d runs; %s", len(s.runs), len(m.run), s.runTale()))
	}
	for n, k := range m.run {
		r := s.runs[n]
		observed := fmt.Sprintf("%s, want %s%s", describeRun(r), k.want, k.class)
		switch {
		case r.Call() != k.text():
			return s.fail(reasonNoAnswer, observed)
		case k.class == "" && !ran(r, k.want):
			return s.fail(reasonWrongResult, observed)
		case k.class != "" && trappedRun(r) != "":
			return s.fail(trappedRun(r), observed)
		}
	}
	return s.pass(fmt.Sprintf("%d runs, 0 differences", len(s.runs)))
}

var (
	_ = addMixed(differential{corpus, []string{compilerCase, interpreterCase}}.check(suites.Check{
		ID: "sandbox/abi/engines-agree", Title: "both engines give what WebAssembly says", Covers: []string{"sandbox/abi/engines-agree"},
		Kills: killIn("numeric", reasonDiffer, "sandbox.engine-differs"),
	}))
	_ = addMixed(differential{rewritten, []string{compilerCase}}.check(suites.Check{
		ID: "sandbox/abi/rewrite-equivalent", Title: "a rewritten module behaves as the original", Covers: []string{"sandbox/abi/rewrite-equivalent"},
		Kills: killIn("branches", reasonWrongResult, "sandbox.rewrite-skips-br-table"),
	}))
)
