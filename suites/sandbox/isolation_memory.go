package sandbox

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/assay-bench/assay/fixtures/wasm"
	"github.com/assay-bench/assay/scenarios"
	scenario "github.com/assay-bench/assay/scenarios/sandbox"
	"github.com/assay-bench/assay/suites"
)

const reasonLeaked = "leaked" // bytes of another instance were seen

const tenantsCase = "tenants"

var _ = addMixed(suites.Check{
	ID: "sandbox/isolation/memory-zeroed", Title: "a new instance sees nothing of an older one", Covers: []string{"sandbox/isolation/memory-zeroed"},
	Cases: []suites.Case{
		{ID: tenantsCase, Title: "secrets of one tenant, looked for by two others"},
		{ID: runCase, Title: "a fresh memory holds nothing but its data, by run-wasm"},
	},
	// What a tenant leaves behind must reach the next one, and not a case beside it.
	Cost: suites.Cost{Time: 300 * ms, Exclusive: true}, Reasons: []string{reasonLeaked, reasonWrongResult},
	Drive: func(ctx context.Context, env *scenarios.Env) error {
		if byRun(env.Key.Case) {
			for _, f := range []string{"scan", "g_get"} {
				if _, err := scenario.Run(ctx, env, wasm.Module("secret"), f); err != nil {
					return err
				}
			}
			return nil
		}
		return drive(ctx, env, leak)
	},
	Judge: either(
		judging("0 secrets of another tenant", judgeLeak),
		judgingRuns("0 secrets in a fresh memory", func(_ suites.Trace, s *story) suites.Finding {
			switch {
			case len(s.runs) != 2:
				return s.fail(reasonNoAnswer, s.runTale())
			case !ran(s.runs[0], "0"):
				return s.fail(reasonLeaked, s.runTale())
			case !ran(s.runs[1], "1"):
				return s.fail(reasonWrongResult, s.runTale())
			}
			return s.pass(s.runTale())
		})),
	Kills: killIn(tenantsCase, reasonLeaked, "sandbox.memory-shared"),
})

// leak writes secrets as one tenant and looks for them as two others, the second after the first one's
// module is gone.
func leak(ctx context.Context, b *bench) error {
	writer, err := b.serve(ctx, "a", scenario.Free, "secret")
	if err == nil {
		_, err = b.invoke(ctx, "put", writer, "secret", "put", "7")
	}
	for _, tag := range []string{"b", "c"} {
		var reader string
		if err == nil {
			reader, err = b.serve(ctx, tag, scenario.Free, "secret")
		}
		for n := range 2 {
			if err == nil {
				_, err = b.invoke(ctx, fmt.Sprintf("scan %s%d", tag, n), reader, "secret", "scan")
			}
		}
		if err == nil && tag == "b" {
			_, err = b.invoke(ctx, "put again", writer, "secret", "put", "9")
		}
		if err == nil && tag == "b" {
			_, err = b.api.Remove(ctx, "remove", writer, "secret")
		}
	}
	return ends(err)
}

func judgeLeak(_ suites.Trace, s *story) suites.Finding {
	observed := s.tale("scan b0", "scan b1", "scan c0", "scan c1")
	for _, n := range []string{"put", "put again"} {
		if !s.calls[n].Good() {
			return s.fail(reasonWrongResult, s.describe(n))
		}
	}
	for _, n := range []string{"scan b0", "scan b1", "scan c0", "scan c1"} {
		if a, ok := s.invoked(n); !ok || len(a.Results) != 1 {
			return s.fail(reasonNoAnswer, observed)
		}
		if !s.returned(n, "0") {
			return s.fail(reasonLeaked, observed)
		}
	}
	return s.pass(observed)
}

// stateCase changes a state of an instance and reads it in the next calls, which get a pooled instance or a
// fresh one: nobody may be able to tell which.
type stateCase struct {
	id, title string
	guest     string
	change    []corpusCall // their results, where want is given, are judged too
	read      []corpusCall // as they are in a fresh instance
}

func does(function string, args ...string) corpusCall {
	return corpusCall{function: function, args: args, want: anyResult}
}

const anyResult = "*"

var stateCases = []stateCase{
	{"memory", "16-byte secrets all over three pages", "secret", []corpusCall{does("put", "5")}, []corpusCall{gives("scan", "0")}},
	{"globals", "globals of three types", "secret", []corpusCall{does("g_set", "9")},
		[]corpusCall{gives("g_get", "1"), gives("g_get64", "2"), gives("g_getf", "3.5")}},
	{"table", "an entry of the table", "secret", []corpusCall{does("table_set")}, []corpusCall{gives("table_call", "1")}},
	{"table-size", "the table's size", "secret", []corpusCall{gives("table_grow", "2")}, []corpusCall{gives("table_grow", "2"), gives("table_grow", "2")}},
	{"segment", "a dropped data segment", "secret", []corpusCall{does("segment_drop")}, []corpusCall{gives("segment_use", "4")}},
	{"memory-size", "the memory's size", "secret", []corpusCall{gives("grow", "4")}, []corpusCall{gives("grow", "4"), gives("scan", "0")}},
	{"descriptors", "open files of WASI", "secret", []corpusCall{does("open_count"), does("open_file")}, []corpusCall{does("open_count"), does("open_file")}},
	{"pooled-memory", "16-byte secrets, in a guest that a pool may keep", "pooled", []corpusCall{does("put", "5")}, []corpusCall{gives("scan", "0")}},
	{"pooled-globals", "globals of three types, in a guest that a pool may keep", "pooled", []corpusCall{does("g_set", "9")},
		[]corpusCall{gives("g_get", "1"), gives("g_get64", "2"), gives("g_getf", "3.5")}},
	{"pooled-descriptors", "open files of WASI, in a guest that a pool may keep", "pooled",
		[]corpusCall{does("open_count"), does("open_file")}, []corpusCall{does("open_count"), does("open_file")}},
}

const reasonKept = "kept" // the state of an earlier call was seen

func stateSuiteCases() (out []suites.Case) {
	for _, k := range stateCases {
		out = append(out, suites.Case{ID: k.id, Title: k.title})
	}
	return out
}

func stateOf(id string) (stateCase, bool) {
	for _, k := range stateCases {
		if k.id == id {
			return k, true
		}
	}
	return stateCase{}, false
}

var _ = add(suites.Check{
	ID: "sandbox/isolation/pool-clean", Title: "a pooled instance equals a fresh one", Covers: []string{"sandbox/isolation/pool-clean"},
	Cases: stateSuiteCases(), Reasons: []string{reasonKept},
	Drive: driving(func(ctx context.Context, b *bench) error {
		k, ok := stateOf(b.env.Key.Case)
		if !ok {
			return fmt.Errorf("no case %q", b.env.Key.Case)
		}
		tenant, err := b.serve(ctx, "a", scenario.Free, k.guest)
		if err == nil {
			err = b.series(ctx, "state", tenant, k.guest, append(append([]corpusCall(nil), k.change...), k.read...))
		}
		return ends(err)
	}),
	Judge: judging("what an earlier call changed is as in a fresh instance", judgeState),
	Kills: kills(killIn("pooled-globals", reasonKept, "sandbox.globals-kept"), killIn("table", reasonKept, "sandbox.table-kept"),
		killIn("pooled-descriptors", reasonKept, "sandbox.descriptors-kept")),
})

func judgeState(t suites.Trace, s *story) suites.Finding {
	k, ok := stateOf(t.Key.Case)
	all := s.series["state"].Each
	if !ok || len(all) != len(k.change)+len(k.read) {
		return s.fail(reasonNoAnswer, fmt.Sprintf("%d calls were answered", len(all)))
	}
	for n, x := range all {
		call := append(append([]corpusCall(nil), k.change...), k.read...)[n]
		observed := fmt.Sprintf("call %d, %s: %s, want %s", n, call.text(), told1(x), call.want)
		switch {
		case x.Status == 0 || x.What != call.text():
			return s.fail(reasonNoAnswer, observed+"; "+x.Broken)
		case x.Status != 200 && n < len(k.change):
			return s.fail(reasonNoAnswer, observed) // the state was never changed
		case call.want == anyResult:
		case len(x.Results) != 1 || !same(x.Results[0], call.want):
			return s.fail(reasonKept, observed)
		}
	}
	observed := fmt.Sprintf("%d calls, on %d instances", len(all), instancesOf(all))
	if strings.HasSuffix(k.id, "descriptors") { // the first two calls and the last two are alike
		observed += fmt.Sprintf("; open descriptors %s, then %s", all[0].Result(), all[2].Result())
		if all[0].Result() != all[2].Result() || all[1].Result() != all[3].Result() || all[0].Result() == "" {
			return s.fail(reasonKept, observed)
		}
	}
	return s.pass(observed)
}

func instancesOf(all []scenario.Trial) int {
	seen := map[string]bool{}
	for _, x := range all {
		seen[x.Instance] = true
	}
	return len(seen)
}

// spoilCases are calls after which an instance must not be used again.
var spoilCases = map[string]struct {
	guest, function, next, result string
	args, nextArgs                []string
	trap                          bool
}{
	"trap":  {guest: "traps", function: "t_unreachable", next: "ok", result: "1", trap: true},
	"quota": {guest: "spin", function: "spin", next: "answer", result: "42", trap: true},
	"grown": {guest: "memory-bomb", function: "grow", args: []string{"1"}, next: "grow", nextArgs: []string{"0"}, result: "1"},
}

var _ = add(suites.Check{
	ID: "sandbox/isolation/discard-after-trap", Title: "an instance that trapped or grew is never used again", Covers: []string{"sandbox/isolation/discard-after-trap"},
	Cases: []suites.Case{
		{ID: "trap", Title: "after a trap of the guest"}, {ID: "quota", Title: "after the end of its quota"}, {ID: "grown", Title: "after its memory grew"},
	},
	Reasons: []string{reasonNoTrap, reasonUnnamed, reasonReused, reasonNotServed},
	Drive: driving(func(ctx context.Context, b *bench) error {
		k := spoilCases[b.env.Key.Case]
		tenant, err := b.serve(ctx, "a", scenario.Free, k.guest)
		if err == nil {
			_, err = b.invoke(ctx, "spoil", tenant, k.guest, k.function, k.args...)
		}
		if err == nil {
			_, err = b.invoke(ctx, "next", tenant, k.guest, k.next, k.nextArgs...)
		}
		return ends(err)
	}),
	Judge: judging("the next call is served by another instance", func(t suites.Trace, s *story) suites.Finding {
		k, known := spoilCases[t.Key.Case]
		observed := s.tale("spoil", "next")
		p, trapped := s.trap("spoil")
		a, fine := s.invoked("spoil")
		next, served := s.invoked("next")
		was := p.Instance + a.Instance
		switch {
		case !known || s.silent("spoil", "next") != "":
			return s.fail(reasonNoAnswer, observed)
		case k.trap != trapped || k.trap == fine:
			return s.fail(reasonNoTrap, observed)
		case was == "" || served && next.Instance == "":
			return s.fail(reasonUnnamed, observed)
		case !served || !s.returned("next", k.result):
			return s.fail(reasonNotServed, observed)
		case next.Instance == was:
			return s.fail(reasonReused, observed)
		}
		return s.pass(observed)
	}),
	Kills: kills(killIn("trap", reasonReused, "sandbox.trapped-reused"), killIn("quota", reasonReused, "sandbox.fuel-keeps-instance")),
})

const (
	reasonForeign = "foreign-bytes"
	echoBytes     = 56 << 10
	echoRounds    = 12
	echoWorkers   = 2 // of each tenant
)

var _ = add(suites.Check{
	ID: "sandbox/isolation/view-after-close", Title: "an answer holds no bytes of another tenant", Covers: []string{"sandbox/isolation/view-after-close"},
	Cost: suites.Cost{Time: time.Second, Exclusive: true}, Reasons: []string{reasonForeign},
	Drive: driving(echoAll),
	Judge: judging("every answer is the caller's own bytes", func(_ suites.Trace, s *story) suites.Finding {
		all := s.series["echo"].Each
		good := 0
		for _, x := range all {
			switch {
			case x.Status == 0:
				return s.fail(reasonNoAnswer, x.Broken)
			case x.Status == statusBusy:
			case x.Status != 200 || x.Output.Len != echoBytes+len(echoTag):
				return s.fail(reasonForeign, fmt.Sprintf("status %d, %d bytes for %d", x.Status, x.Output.Len, echoBytes+len(echoTag)))
			case x.Foreign > 0:
				return s.fail(reasonForeign, fmt.Sprintf("%d bytes of an answer are not the caller's", x.Foreign))
			default:
				good++
			}
		}
		observed := fmt.Sprintf("%d of %d answers, all whole", good, len(all))
		if good < echoRounds {
			return s.fail(reasonNoAnswer, observed)
		}
		return s.pass(observed)
	}),
	Kills: kill(reasonForeign, "sandbox.view-recycled"),
})

// echoTag is what versioned-1 puts before its input.
const echoTag = "v1:"

// echoAll lets two tenants echo at once, each a pattern of its own.
func echoAll(ctx context.Context, b *bench) error {
	var tenants []string
	for _, tag := range []string{"a", "b"} {
		t, err := b.serve(ctx, tag, scenario.Pro, "versioned-1", buffered)
		if err != nil {
			return ends(err)
		}
		tenants = append(tenants, t)
	}
	began := b.env.Clock.Now()
	g := gathering{each: make([][]scenario.Trial, len(tenants)*echoWorkers)}
	for i := range g.each {
		tenant := i % len(tenants)
		g.all.Go(func() {
			for range echoRounds {
				t, err := b.echo(ctx, tenants[tenant], byte('A'+tenant), began)
				if g.keep(i, t, err); err != nil || t.Status == 0 {
					return
				}
			}
		})
	}
	return ends(g.record(b, "echo", began))
}

// echo has a pattern echoed and counts the bytes that are not its own.
func (b *bench) echo(ctx context.Context, tenant string, pattern byte, began time.Duration) (scenario.Trial, error) {
	input := make([]byte, echoBytes)
	for i := range input {
		input[i] = pattern
	}
	at := b.env.Elapsed(began)
	c, err := b.api.Invoke(ctx, "", tenant, "versioned-1", scenario.Invocation{Function: "echo", Input: input})
	t := scenario.TrialOf("echo "+string(pattern), at, c)
	var a scenario.Invoked
	if c.Read(&a) {
		for i, x := range a.Output {
			if i < len(echoTag) && x != echoTag[i] || i >= len(echoTag) && x != pattern {
				t.Foreign++
			}
		}
	}
	return t, err
}
