package sandbox

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/fixtures/wasm"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	scenario "github.com/assay-bench/assay/scenarios/sandbox"
	"github.com/assay-bench/assay/scenarios/target"
	"github.com/assay-bench/assay/scenarios/target/targettest"
	"github.com/assay-bench/assay/suites"
)

// log is evidence, as the runner records it or made by hand.
type log struct {
	mu  sync.Mutex
	all []results.Evidence
}

func (l *log) put(from results.Source, kind results.Kind, data any) error {
	raw, err := results.Marshal(data)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, results.Evidence{Seq: uint64(len(l.all) + 1), Source: from, Kind: kind, Data: raw})
	return nil
}

func (l *log) add(t *testing.T, kind results.Kind, data any) *log {
	t.Helper()
	if err := l.put(results.FromScenario, kind, data); err != nil {
		t.Fatal(err)
	}
	return l
}

// call adds a call of the API with its status and answer.
func (l *log) call(t *testing.T, name string, status int, answer string) *log {
	t.Helper()
	return l.add(t, scenario.Called, scenario.Call{Name: name, Status: status, Answer: json.RawMessage(answer), Took: time.Millisecond})
}

// result adds a call that returned.
func (l *log) result(t *testing.T, name, result string) *log {
	t.Helper()
	return l.call(t, name, 200, fmt.Sprintf(`{"results":[%q],"version":1,"instance":"i-%s"}`, result, name))
}

// trap adds a call that trapped.
func (l *log) trap(t *testing.T, name, class string) *log {
	t.Helper()
	return l.call(t, name, 422, fmt.Sprintf(`{"status":422,"class":%q,"instance":"i-%s"}`, class, name))
}

// ready adds the preparation of one tenant.
func ready(t *testing.T) *log {
	return (&log{}).call(t, "set tenant a", 200, `{}`).call(t, "set upload m", 201, `{}`)
}

func (l *log) stats(t *testing.T, name string, tenants string) *log {
	t.Helper()
	return l.call(t, name, 200, `{"tenants":{`+tenants+`},"cache":{},"engine":"wazero v1.2.3"}`)
}

// own are the checks of this file's neighbours; those on WASI-NN and on proxies have tests of their own.
func own(t *testing.T) (out []suites.Check) {
	t.Helper()
	for _, c := range slices.Concat(claims, checks) {
		if !strings.HasPrefix(c.ID, "sandbox/nn/") && !strings.HasPrefix(c.ID, "sandbox/proxy/") &&
			c.ID != "claims/sandbox.nn" && c.ID != "claims/sandbox.proxy" {
			out = append(out, c)
		}
	}
	if len(out) < 30 {
		t.Fatalf("%d checks: this test proves little", len(out))
	}
	return out
}

func checkOf(t *testing.T, id string) suites.Check {
	t.Helper()
	all := own(t)
	i := slices.IndexFunc(all, func(c suites.Check) bool { return c.ID == id })
	if i < 0 {
		t.Fatalf("no check %s", id)
	}
	return all[i]
}

func TestAreas(t *testing.T) {
	area, err := Area()
	if err != nil {
		t.Fatal(err)
	}
	claimed, err := Claims()
	if err != nil {
		t.Fatal(err)
	}
	s, err := suites.New(area, claimed)
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for _, r := range s.Requirements() {
		rows++
		switch {
		case strings.HasPrefix(r.ID, "sandbox/nn/"), strings.HasPrefix(r.ID, "sandbox/proxy/"), r.ID == "claims/sandbox.nn", r.ID == "claims/sandbox.proxy":
		case len(s.CheckedBy(r.ID)) == 0:
			t.Errorf("%s is not covered", r.ID)
		}
	}
	if rows != 63+5 {
		t.Errorf("%d rows, want 63 of the sandbox and 5 of its features", rows)
	}
	for _, c := range own(t) {
		if c.Control == nil && !strings.HasPrefix(c.ID, "claims/") {
			t.Errorf("%s has no positive control", c.ID)
		}
		for _, k := range c.Keys() {
			if len(c.NeedsOf(k.Case)) == 0 {
				t.Errorf("%s needs no feature", k)
			}
		}
	}
}

// What a runtime without tenants is judged by needs the command alone.
func TestRunCasesNeedTheCommandAlone(t *testing.T) {
	seen := 0
	for _, c := range own(t) {
		for _, k := range c.Keys() {
			if !byRun(k.Case) {
				continue
			}
			seen++
			if got := c.NeedsOf(k.Case); !slices.Equal(got, []features.Feature{features.SandboxRun}) {
				t.Errorf("%s needs %v", k, got)
			}
		}
	}
	if seen < 15 {
		t.Errorf("%d cases for the command", seen)
	}
}

// engineDefects are those of the engine and of its rewriter: each must be killed by a check of this package.
var engineDefects = strings.Fields(`sandbox.absent sandbox.run-absent sandbox.interpreter-absent sandbox.export-unchecked
	sandbox.import-unchecked sandbox.host-bounds-trap sandbox.host-partial-write sandbox.traps-as-internal sandbox.engine-differs
	sandbox.rewrite-skips-br-table sandbox.view-stale sandbox.cpu-unmetered sandbox.recursion-unmetered sandbox.bulk-unmetered
	sandbox.fuel-as-unreachable sandbox.fuel-keeps-instance sandbox.fuel-random sandbox.fuel-forgeable sandbox.start-unmetered
	sandbox.pages-unlimited sandbox.initial-unchecked sandbox.table-unchecked sandbox.depth-unlimited sandbox.reentry-unlimited
	sandbox.instances-unlimited sandbox.caps-unchecked sandbox.host-time-free sandbox.memory-shared sandbox.globals-kept
	sandbox.table-kept sandbox.descriptors-kept sandbox.trapped-reused sandbox.spin-blocks sandbox.view-recycled sandbox.handles-shared
	sandbox.cache-open sandbox.dies-on-attack sandbox.admission-reversed sandbox.unsigned-taken sandbox.signature-unchecked
	sandbox.scope-unchecked sandbox.reload-mixed sandbox.reload-drops sandbox.refused-replaces sandbox.refused-as-500
	sandbox.canary-ignored sandbox.version-rollback sandbox.drain-leaks sandbox.cache-corrupt-fails sandbox.accounting-drifts
	sandbox.coldstart-hidden sandbox.coldstart-unchecked sandbox.coldstart-swapped sandbox.coldstart-cache-unread
	sandbox.overhead-hidden sandbox.naive-unwatched sandbox.long-calls-unbounded sandbox.slices-long sandbox.depth-shallow
	sandbox.pages-halved sandbox.refused-elsewhere sandbox.refused-unnamed`)

func TestEveryDefectOfTheEngineIsKilled(t *testing.T) {
	killed := map[string]bool{}
	for _, c := range own(t) {
		for _, k := range c.Kills {
			killed[k.Defect] = true
		}
	}
	for _, d := range engineDefects {
		if !killed[d] {
			t.Errorf("no check kills %s", d)
		}
	}
	if len(engineDefects) < 50 {
		t.Errorf("%d defects", len(engineDefects))
	}
}

func newEnv(t *testing.T, addr, kase, run string) (*scenarios.Env, *log) {
	t.Helper()
	l, dialer := &log{}, net.Dialer{}
	return &scenarios.Env{
		Key: results.Key{Check: t.Name(), Case: kase}, Token: "test-1", Endpoints: target.Endpoints{scenario.Endpoint: addr},
		Dial: dialer.DialContext, Clock: results.ClockSince(time.Now()), Rand: rand.New(rand.NewPCG(3, 4)), Put: l.put,
		Claims: target.Claims{Sandbox: &target.Sandbox{RunWasm: run}, Limits: target.Limits{AnswerMillis: 1}},
	}, l
}

// liars are targets that answer every call with the same text.
var liars = map[string]struct {
	status int
	text   string
}{
	"nothing":   {200, ``},
	"text":      {200, `not found`},
	"empty":     {200, `{}`},
	"null":      {201, `null`},
	"list":      {200, `[]`},
	"refusal":   {403, `{"status":403,"step":"structure","reason":"env launch assay host_fill missing run memory table"}`},
	"trap":      {422, `{"status":422,"class":"fuel","instance":"i"}`},
	"teapot":    {503, `{"status":503}`},
	"yes-man":   {201, `{"results":["1"],"output":"TQ==","version":1,"instance":"i","fuel":1,"cpuMicros":1,"rows":[],"pauseMicros":1}`},
	"accounter": {200, `{"tenants":{"x-a":{"running":1,"cpuMicros":5}},"cache":{"dir":"/"},"results":["55"]}`},
}

// judged drives a case against a target without substance, with its control.
func judged(t *testing.T, c suites.Check, kase, name, addr, run string) {
	t.Helper()
	env, l := newEnv(t, addr, kase, run)
	controlled := false
	if c.Control != nil {
		if err := c.Control.Drive(t.Context(), env); err != nil {
			t.Errorf("%s %s#%s: control: %v", name, c.ID, kase, err)
		}
		var observed string
		if controlled, observed = c.Control.Judge(l.all); controlled {
			t.Errorf("%s %s#%s: the control succeeds: %s", name, c.ID, kase, observed)
		}
	}
	env, l = newEnv(t, addr, kase, run)
	if err := c.Drive(t.Context(), env); err != nil {
		t.Errorf("%s %s#%s: %v", name, c.ID, kase, err)
	}
	f := c.Judge(suites.Trace{Key: env.Key, Evidence: l.all})
	switch {
	case f.Status == results.Pass && c.Control == nil:
		t.Errorf("%s %s#%s passes: %s", name, c.ID, kase, f.Observed)
	case f.Status != results.Pass && !slices.Contains(c.Reasons, f.Reason) && f.Reason != suites.ReasonHostNoise:
		t.Errorf("%s %s#%s: %s, reason %q is not in the set", name, c.ID, kase, f.Status, f.Reason)
	}
	for _, e := range l.all {
		_ = c.Explain(e)
	}
}

// A target without substance passes nothing, breaks no drive and gives no reason beyond the sets.
func TestLiars(t *testing.T) {
	var seen sync.Map
	for name, lie := range liars {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(lie.status)
				_, _ = w.Write([]byte(lie.text))
			}))
			defer server.Close()
			for _, c := range own(t) {
				for _, k := range c.Keys() {
					if byRun(k.Case) || c.ID == "claims/sandbox.run" || c.ID == "sandbox/isolation/cache-private" {
						continue
					}
					seen.Store(k, true)
					judged(t, c, k.Case, name, strings.TrimPrefix(server.URL, "http://"), "")
				}
			}
		})
	}
	t.Cleanup(func() {
		n := 0
		seen.Range(func(any, any) bool { n++; return true })
		if n < 60 {
			t.Errorf("%d cases were driven", n)
		}
	})
}

func TestNobodyIsThere(t *testing.T) {
	for _, c := range own(t) {
		for _, k := range c.Keys() {
			judged(t, c, k.Case, "nobody", "127.0.0.1:1", "")
		}
	}
}

func TestCommandsWithoutSubstance(t *testing.T) {
	dir, seen := t.TempDir(), 0
	for name, text := range map[string]string{"silent": "exit 0", "failing": "echo no >&2; exit 1", "constant": "echo 3", "missing": ""} {
		path := filepath.Join(dir, name)
		if text != "" {
			targettest.Script(t, path, "#!/bin/sh\n"+text+"\n")
		}
		for _, c := range own(t) {
			for _, k := range c.Keys() {
				if byRun(k.Case) || c.ID == "claims/sandbox.run" {
					seen++
					judged(t, c, k.Case, name, "127.0.0.1:1", path+" {module} {function} {args}")
				}
			}
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

// The judges pass nothing that is not there.
func TestNoEvidence(t *testing.T) {
	for _, c := range own(t) {
		for _, k := range append(c.Keys(), results.Key{Check: c.ID, Case: "no-such-case"}, results.Key{Check: c.ID, Case: "run-no-such-case"}) {
			for _, l := range []*log{{}, ready(t)} {
				f := c.Judge(suites.Trace{Key: k, Evidence: l.all})
				if f.Status != results.Fail && f.Status != results.Inconclusive || !slices.Contains(c.Reasons, f.Reason) {
					t.Errorf("%s without evidence is %s %s: %s", k, f.Status, f.Reason, f.Observed)
				}
			}
		}
	}
}

// verdictCase is hand-made evidence and what a judge has to say of it; no reason: it passes.
type verdictCase struct {
	name, kase string
	log        *log
	reason     string
}

func judgeAll(t *testing.T, id string, cases ...verdictCase) {
	t.Helper()
	c := checkOf(t, id)
	passed := 0
	for _, k := range cases {
		f := c.Judge(suites.Trace{Key: results.Key{Check: id, Case: k.kase}, Evidence: k.log.all})
		if f.Reason != k.reason || (k.reason == "") != (f.Status == results.Pass) {
			t.Errorf("%s: %s: %s %q, want %q: %s", id, k.name, f.Status, f.Reason, k.reason, f.Observed)
		}
		if f.Status == results.Pass {
			passed++
			if len(f.Cites) == 0 || f.Expected == "" {
				t.Errorf("%s: %s: passes and cites %v for %q", id, k.name, f.Cites, f.Expected)
			}
		}
	}
	if passed == 0 || passed == len(cases) {
		t.Errorf("%s: %d of %d cases pass: this test proves little", id, passed, len(cases))
	}
}

const gone = `{"status":404}`

func refusal(status int, step, reason string) string {
	return fmt.Sprintf(`{"status":%d,"step":%q,"reason":%q}`, status, step, reason)
}

func TestRefusalJudge(t *testing.T) {
	judge := func(status int, step, reason, after string, code int) *log {
		return ready(t).call(t, "upload", status, refusal(status, step, reason)).call(t, "after", code, after)
	}
	judgeAll(t, "sandbox/abi/unknown-import-refused",
		verdictCase{"good", "unknown", judge(403, "structure", `no "env" "launch"`, gone, 404), ""},
		verdictCase{"another step", "unknown", judge(403, "instantiate", `no "env" "launch"`, gone, 404), reasonWrongStep},
		verdictCase{"no step", "unknown", judge(403, "", `no "env" "launch"`, gone, 404), reasonWrongStep},
		verdictCase{"another status", "unknown", judge(500, "structure", `no "env" "launch"`, gone, 404), reasonWrongStatus},
		verdictCase{"unnamed", "unknown", judge(403, "structure", "no", gone, 404), reasonUnnamed},
		verdictCase{"no reason", "type", judge(403, "structure", "", gone, 404), reasonUnnamed},
		verdictCase{"served", "unknown", judge(403, "structure", `no "env" "launch"`, `{"results":["1"]}`, 200), reasonServed},
		verdictCase{"taken", "unknown", ready(t).call(t, "upload", 201, `{}`), reasonTaken},
		verdictCase{"silent", "unknown", ready(t).add(t, scenario.Called, scenario.Call{Name: "upload", Broken: "cut"}), reasonNoAnswer},
		verdictCase{"unprepared", "unknown", (&log{}).call(t, "set tenant a", 500, `{}`), reasonNotSet},
	)
	reload := func(before, after string) *log {
		return ready(t).call(t, "before", 200, before).call(t, "upload", 403, refusal(403, "signature", "no")).call(t, "after", 200, after)
	}
	judgeAll(t, "sandbox/lifecycle/reload-refused",
		verdictCase{"good", "unsigned", reload(`{"results":["5"],"version":1}`, `{"results":["5"],"version":1}`), ""},
		verdictCase{"another version", "unsigned", reload(`{"results":["5"],"version":1}`, `{"results":["5"],"version":2}`), reasonNotServed},
		verdictCase{"another result", "unsigned", reload(`{"results":["5"],"version":1}`, `{"results":["6"],"version":1}`), reasonNotServed},
	)
}

func TestBurnJudge(t *testing.T) {
	const id = "sandbox/quota/cpu-recursion"
	burn := func(micros int, answer func(*log, string)) *log {
		l := ready(t)
		for n := range 3 {
			l.stats(t, fmt.Sprintf("counted %d", n), fmt.Sprintf(`"x-a":{"cpuMicros":%d}`, 1000+n*micros))
			if n < 2 {
				answer(l, fmt.Sprintf("burn %d", n))
			}
		}
		return l.result(t, "ordinary", "42")
	}
	fuel := func(l *log, name string) { l.trap(t, name, "fuel") }
	judgeAll(t, id,
		verdictCase{"good", "free", burn(50_000, fuel), ""},
		verdictCase{"twice the quota", "free", burn(100_000, fuel), ""},
		verdictCase{"more", "free", burn(100_001, fuel), reasonNotStopped},
		verdictCase{"not counted", "free", burn(0, fuel), reasonNotCounted},
		verdictCase{"deadline", "free", burn(9, func(l *log, name string) { l.trap(t, name, "deadline") }), ""},
		verdictCase{"another class", "free", burn(9, func(l *log, name string) { l.trap(t, name, "unreachable") }), reasonWrongClass},
		verdictCase{"returned", "free", burn(9, func(l *log, name string) { l.result(t, name, "1") }), reasonNotStopped},
		verdictCase{"silent", "free", burn(9, func(l *log, name string) { l.add(t, scenario.Called, scenario.Call{Name: name, Broken: "late"}) }), reasonNotStopped},
	)
	l := burn(9, fuel)
	l.all = l.all[:len(l.all)-1]
	judgeAll(t, id, verdictCase{"good", "free", burn(9, fuel), ""}, verdictCase{"no ordinary call", "free", l, reasonNotServed})
}

func TestTrapJudges(t *testing.T) {
	all := func(change func(*log, trapCase) bool) *log {
		l := ready(t)
		for _, k := range trapCases {
			if !change(l, k) {
				l.trap(t, k.function, k.class)
			}
		}
		return l.result(t, "ok", "1")
	}
	none := func(*log, trapCase) bool { return false }
	judgeAll(t, "sandbox/abi/traps-classified",
		verdictCase{"good", compilerCase, all(none), ""},
		verdictCase{"one class", interpreterCase, all(func(l *log, k trapCase) bool {
			if k.id == "stack" {
				l.trap(t, k.function, "internal")
			}
			return k.id == "stack"
		}), reasonWrongClass},
		verdictCase{"one result", compilerCase, all(func(l *log, k trapCase) bool {
			if k.id == "fill" {
				l.result(t, k.function, "0")
			}
			return k.id == "fill"
		}), reasonNoTrap},
		verdictCase{"run", "run-load", (&log{}).add(t, scenario.Ran, scenario.Execution{Function: "t_load", Exit: 134, Errors: "out of bounds"}), ""},
		verdictCase{"run of another", "run-load", (&log{}).add(t, scenario.Ran, scenario.Execution{Function: "t_store", Exit: 1}), reasonNoAnswer},
		verdictCase{"no trap", "run-load", (&log{}).add(t, scenario.Ran, scenario.Execution{Function: "t_load", Exit: 0}), reasonNoTrap},
		verdictCase{"a result", "run-load", (&log{}).add(t, scenario.Ran, scenario.Execution{Function: "t_load", Exit: 1, Output: "0"}), reasonPrinted},
		verdictCase{"hangs", "run-load", (&log{}).add(t, scenario.Ran, scenario.Execution{Function: "t_load", Exit: -1, Late: true}), reasonNoAnswer},
	)
}

// engineLog has every call of a module as it is due, in both engines, but for one.
func engineLog(t *testing.T, m corpusModule, engine string, at int, other scenario.Trial) *log {
	l := ready(t)
	for _, e := range []string{compilerCase, interpreterCase} {
		s := scenario.Series{Name: e}
		for n, k := range m.calls {
			x := scenario.Trial{What: k.text(), Status: 200, Results: []string{k.want}}
			if k.class != "" {
				x = scenario.Trial{What: k.text(), Status: statusTrap, Class: k.class}
			}
			if n == at && (e == engine || engine == "both") {
				x.Status, x.Results, x.Class = other.Status, other.Results, other.Class
			}
			s.Each = append(s.Each, x)
		}
		l.add(t, scenario.Tried, s)
	}
	return l
}

func TestEnginesJudge(t *testing.T) {
	m, _ := moduleOf(corpus, "numeric")
	wrong := scenario.Trial{Status: 200, Results: []string{"-4"}}
	judgeAll(t, "sandbox/abi/engines-agree",
		verdictCase{"good", "numeric", engineLog(t, m, "", 0, wrong), ""},
		verdictCase{"one engine", "numeric", engineLog(t, m, interpreterCase, 1, wrong), reasonDiffer},
		verdictCase{"both engines", "numeric", engineLog(t, m, "both", 1, wrong), reasonWrongResult},
		verdictCase{"no trap in both", "numeric", engineLog(t, m, "both", 4, wrong), reasonNoTrap},
		verdictCase{"another class in both", "numeric", engineLog(t, m, "both", 4, scenario.Trial{Status: 422, Class: "stack"}), reasonWrongClass},
		verdictCase{"no answer", "numeric", engineLog(t, m, "both", 4, scenario.Trial{}), reasonNoAnswer},
	)
}

func TestSame(t *testing.T) {
	good := [][2]string{{"1", "1"}, {"-3", "-3"}, {"NaN", "nan"}, {"Infinity", "inf"}, {"16777216", "1.6777216e+07"}, {"2.0", "2"}}
	bad := [][2]string{{"", "0"}, {"1", "2"}, {"9223372036854775807", "9223372036854775806"}, {"nan", "1"}, {"x", "inf"}, {"01", "1"}, {"i32:3", "3"}}
	for _, p := range good {
		if !same(p[0], p[1]) {
			t.Errorf("%q is not %q", p[0], p[1])
		}
	}
	for _, p := range bad {
		if same(p[0], p[1]) {
			t.Errorf("%q is %q", p[0], p[1])
		}
	}
	if len(good) == 0 || len(bad) == 0 {
		t.Fatal("no cases")
	}
}

// Every case of a corpus is one of a fixture that there is, and the command's calls are among those of the API.
func TestCorpus(t *testing.T) {
	calls := 0
	for _, m := range slices.Concat(corpus, rewritten) {
		if len(wasm.Module(m.guest)) == 0 || len(m.run) == 0 {
			t.Errorf("%s is empty", m.guest)
		}
		for _, k := range m.run {
			if !slices.ContainsFunc(m.calls, func(x corpusCall) bool { return cmp.Equal(x, k, cmp.AllowUnexported(corpusCall{})) }) {
				t.Errorf("%s: %s is called by the command alone", m.guest, k.text())
			}
		}
		for _, k := range m.calls {
			calls++
			if (k.want == "") == (k.class == "") {
				t.Errorf("%s: %s has want %q and class %q", m.guest, k.text(), k.want, k.class)
			}
		}
	}
	if calls < 80 {
		t.Errorf("%d calls", calls)
	}
}

func TestDepthJudge(t *testing.T) {
	deep := func(beyond string, cpu int) *log {
		l := ready(t).result(t, "fine", "500")
		if beyond == "" {
			l.result(t, "beyond", "5000")
		} else {
			l.trap(t, "beyond", beyond)
		}
		l.stats(t, "counted 0", `"x-a":{"cpuMicros":7}`).trap(t, "endless", "stack")
		return l.stats(t, "counted 1", fmt.Sprintf(`"x-a":{"cpuMicros":%d}`, 7+cpu)).result(t, "next", "2")
	}
	judgeAll(t, "sandbox/quota/stack-depth",
		verdictCase{"good", "", deep("stack", 900), ""},
		verdictCase{"too deep", "", deep("", 900), reasonTooDeep},
		verdictCase{"another class", "", deep("host-error", 900), reasonWrongClass},
		verdictCase{"costly", "", deep("stack", 60_000), reasonOverrun},
		verdictCase{"unprepared", "", &log{}, reasonNotSet},
	)
}

func TestCrowdJudge(t *testing.T) {
	made := func(most int, odd scenario.Trial) *log {
		busy, spun := scenario.Trial{Status: 429, Class: "instances"}, scenario.Trial{Status: 422, Class: "fuel"}
		l := ready(t).add(t, scenario.Tried, scenario.Series{Name: "crowd", Each: []scenario.Trial{spun, busy, busy, odd}})
		return l.stats(t, "counted", fmt.Sprintf(`"x-a":{"runningMax":%d}`, most)).result(t, "next", "42")
	}
	judgeAll(t, "sandbox/quota/instances",
		verdictCase{"good", "free", made(1, scenario.Trial{Status: 422, Class: "deadline"}), ""},
		verdictCase{"too many", "free", made(2, scenario.Trial{Status: 422, Class: "fuel"}), reasonTooMany},
		verdictCase{"not counted", "free", made(0, scenario.Trial{Status: 422, Class: "fuel"}), reasonNotCounted},
		verdictCase{"odd", "free", made(1, scenario.Trial{Status: 500}), reasonOdd},
		verdictCase{"silent", "free", made(1, scenario.Trial{}), reasonNoAnswer},
	)
}

func TestReloadJudge(t *testing.T) {
	run := func(odd scenario.Trial) *log {
		l := ready(t)
		for n := range reloads {
			l.call(t, fmt.Sprintf("reload %d", n), 201, `{}`)
		}
		s := scenario.Series{Name: "calls"}
		for n := range reloadWorkers*reloadCalls - 1 {
			v := uint64(1 + n%4)
			s.Each = append(s.Each, scenario.Trial{Status: 200, Version: v, Results: []string{versionResult(v)}})
		}
		s.Each = append(s.Each, odd)
		return l.add(t, scenario.Tried, s)
	}
	few := ready(t)
	for n := range reloads {
		few.call(t, fmt.Sprintf("reload %d", n), 201, `{}`)
	}
	judgeAll(t, "sandbox/lifecycle/reload-atomic",
		verdictCase{"good", "", run(scenario.Trial{Status: 200, Version: 9, Results: []string{"1"}}), ""},
		verdictCase{"mixed", "", run(scenario.Trial{Status: 200, Version: 9, Results: []string{"2"}}), reasonMixed},
		verdictCase{"no version", "", run(scenario.Trial{Status: 200, Results: []string{"2"}}), reasonMixed},
		verdictCase{"dropped", "", run(scenario.Trial{Status: 503}), reasonDropped},
		verdictCase{"silent", "", run(scenario.Trial{}), reasonNoAnswer},
		verdictCase{"no calls", "", few, reasonNoAnswer},
		verdictCase{"no reloads", "", ready(t), reasonNotSet},
	)
}

func TestNeighbourJudge(t *testing.T) {
	beside := func(took, pause time.Duration) *log {
		s := scenario.Series{Name: "beside", Each: []scenario.Trial{{What: spinWhat, Status: 422, Class: "fuel", Took: time.Second}}}
		for range 20 {
			s.Each = append(s.Each, scenario.Trial{What: fibWhat, Status: 200, Results: []string{"5"}, Took: took},
				scenario.Trial{What: collectWhat, Status: 200, Results: []string{fmt.Sprint(pause.Microseconds())}})
		}
		return ready(t).add(t, scenario.Tried, s)
	}
	judgeAll(t, "sandbox/isolation/neighbour-latency",
		verdictCase{"good", "", beside(2*ms, ms), ""},
		verdictCase{"frozen", "", beside(900*ms, ms), reasonFrozen},
		verdictCase{"collector", "", beside(2*ms, 300*ms), reasonCollector},
	)
	c := checkOf(t, "sandbox/isolation/neighbour-latency")
	for stall, want := range map[time.Duration]results.Status{0: results.Fail, 40 * ms: results.Fail, 200 * ms: results.Inconclusive} {
		if f := c.Judge(suites.Trace{Evidence: beside(300*ms, ms).all, Stall: stall}); f.Status != want {
			t.Errorf("stall %s: %s %s", stall, f.Status, f.Reason)
		}
	}
}

func TestBesideCrowdJudge(t *testing.T) {
	crowd := func(alone, beside time.Duration, stopped int) *log {
		s := scenario.Series{Name: "crowd"}
		for range 20 {
			s.Each = append(s.Each, scenario.Trial{What: aloneWhat, Status: 200, Results: []string{"5"}, Took: alone},
				scenario.Trial{What: besideWhat, Status: 200, Results: []string{"5"}, Took: beside})
		}
		for range stopped {
			s.Each = append(s.Each, scenario.Trial{What: "spin", Status: 422, Class: "fuel"})
		}
		return ready(t).add(t, scenario.Tried, s)
	}
	judgeAll(t, "sandbox/isolation/neighbour-crowd",
		verdictCase{"good", "", crowd(ms, 2*ms, 10), ""},
		verdictCase{"short enough", "", crowd(ms/10, 2*ms, 10), ""},
		verdictCase{"frozen", "", crowd(ms, 9*ms, 10), reasonFrozen},
		verdictCase{"nobody was hostile", "", crowd(ms, ms, 3), reasonNoBite},
	)
	if f := checkOf(t, "sandbox/isolation/neighbour-crowd").Judge(suites.Trace{Evidence: crowd(30*ms, 300*ms, 10).all}); f.Status != results.Inconclusive {
		t.Errorf("on a busy host: %s %s", f.Status, f.Reason)
	}
}

func TestColdJudges(t *testing.T) {
	measured := func(change func(*scenario.ColdStart) bool) *log {
		a := scenario.ColdStarts{Wazero: "1.2.3"}
		for _, start := range startPoints {
			for _, end := range endPoints {
				r := scenario.ColdStart{Guest: "small", Engine: compilerCase, Start: start, End: end, N: 100, P50Nanos: 100_000, P99Nanos: 200_000, ModuleBytes: 401, Threads: 1, Checked: end == firstResult}
				if start == fromBytes {
					r.P50Nanos, r.P99Nanos = 600_000, 700_000
				}
				if change(&r) {
					a.Rows = append(a.Rows, r)
				}
			}
		}
		raw, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		return ready(t).call(t, "cold", 200, string(raw))
	}
	all := func(*scenario.ColdStart) bool { return true }
	judgeAll(t, "sandbox/coldstart/four-points",
		verdictCase{"good", "", measured(all), ""},
		verdictCase{"one point", "", measured(func(r *scenario.ColdStart) bool { return r.Start != "pooled" }), reasonPoints},
		verdictCase{"no starts", "", measured(func(r *scenario.ColdStart) bool { r.Start = ""; return true }), reasonPoints},
		verdictCase{"below the median", "", measured(func(r *scenario.ColdStart) bool { r.P99Nanos = 1; return true }), reasonImpossible},
		verdictCase{"no answer", "", ready(t).call(t, "cold", 500, `{"status":500}`), reasonNoAnswer},
	)
	judgeAll(t, "sandbox/coldstart/first-result",
		verdictCase{"good", "", measured(all), ""},
		verdictCase{"unchecked", "", measured(func(r *scenario.ColdStart) bool { r.Checked = false; return true }), reasonUnchecked},
		verdictCase{"no results", "", measured(func(r *scenario.ColdStart) bool { return r.End != firstResult }), reasonPoints},
	)
	overheads := func(change func(*scenario.Overhead) bool) *log {
		a := scenario.ColdStarts{Rows: []scenario.ColdStart{{Guest: "small", Engine: compilerCase}, {Guest: "small", Engine: interpreterCase}}}
		for _, engine := range []string{compilerCase, interpreterCase} {
			o := scenario.Overhead{Guest: "small", Engine: engine, N: 5, PlainNanos: 100, FuelNanos: 120, NaiveNanos: 1000, Fuel: 1.2, Naive: 10}
			if engine == interpreterCase {
				o.NaiveNanos, o.Naive = 105, 1.05
			}
			if change(&o) {
				a.Overheads = append(a.Overheads, o)
			}
		}
		raw, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		return ready(t).call(t, "cold", 200, string(raw))
	}
	judgeAll(t, "sandbox/coldstart/naive-variant",
		verdictCase{"good", "", overheads(func(*scenario.Overhead) bool { return true }), ""},
		verdictCase{"no table", "", overheads(func(*scenario.Overhead) bool { return false }), reasonPoints},
		verdictCase{"one engine", "", overheads(func(o *scenario.Overhead) bool { return o.Engine == compilerCase }), reasonPoints},
		verdictCase{"one column", "", overheads(func(o *scenario.Overhead) bool { o.Naive = 0; return true }), reasonPoints},
		verdictCase{"no times", "", overheads(func(o *scenario.Overhead) bool { o.FuelNanos = 0; return true }), reasonPoints},
		verdictCase{"nothing watched", "", overheads(func(o *scenario.Overhead) bool { o.Naive = 1; return true }), reasonNoPrice},
	)
	judgeAll(t, "sandbox/coldstart/cache-gain",
		verdictCase{"6 times", "", measured(all), ""},
		verdictCase{"of a large module", "", measured(func(r *scenario.ColdStart) bool { r.ModuleBytes = 2 << 20; return true }), reasonNoGain},
		verdictCase{"slower", "", measured(func(r *scenario.ColdStart) bool { r.P50Nanos = 100_000; return true }), reasonNoGain},
	)
}

func TestDamageJudge(t *testing.T) {
	was, flipped, anew := scenario.DigestOf([]byte("a")), scenario.DigestOf([]byte("b")), scenario.DigestOf([]byte("c"))
	made := func(again, corrupt int, is scenario.Digest) *log {
		l := ready(t).call(t, "before", 200, `{"tenants":{},"cache":{"corrupt":1}}`).result(t, "first", "8")
		l.add(t, scenario.Damaged, scenario.Damage{Name: "flipped", File: "f", Was: was, Is: flipped})
		l.call(t, "again", again, refusal(again, "compile", "x")).result(t, "second", "8")
		l.call(t, "counted", 200, fmt.Sprintf(`{"tenants":{},"cache":{"corrupt":%d}}`, corrupt))
		return l.add(t, scenario.Damaged, scenario.Damage{Name: "reread", File: "f", Was: flipped, Is: is, Later: true})
	}
	judgeAll(t, "sandbox/lifecycle/cache-corrupt",
		verdictCase{"good", "", made(201, 2, anew), ""},
		verdictCase{"refused", "", made(403, 2, anew), reasonCorruptFails},
		verdictCase{"unnoticed", "", made(201, 1, anew), reasonCorruptUnknown},
		verdictCase{"kept", "", made(201, 2, flipped), reasonUnreplaced},
		verdictCase{"no new file", "", ready(t).call(t, "before", 200, `{"tenants":{}}`).result(t, "first", "8"), reasonNoBite},
	)
}

func TestExhaustedJudge(t *testing.T) {
	spun := func(class, next string, traps int) *log {
		l := ready(t).call(t, "spin", 422, fmt.Sprintf(`{"status":422,"class":%q,"instance":"i-1"}`, class))
		l.call(t, "next", 200, fmt.Sprintf(`{"results":["42"],"instance":%q}`, next))
		return l.stats(t, "counted", fmt.Sprintf(`"x-a":{"running":0,"traps":{"fuel":%d}}`, traps))
	}
	judgeAll(t, "sandbox/quota/fuel-exhausted",
		verdictCase{"good", "", spun("fuel", "i-2", 1), ""},
		verdictCase{"reused", "", spun("fuel", "i-1", 1), reasonReused},
		verdictCase{"another class", "", spun("unreachable", "i-2", 1), reasonWrongClass},
		verdictCase{"not counted", "", spun("fuel", "i-2", 0), reasonNotCounted},
	)
}

func TestStartJudgeIsFairToNoise(t *testing.T) {
	c := checkOf(t, "sandbox/quota/start-function")
	late := func(took time.Duration) *log {
		return ready(t).add(t, scenario.Called, scenario.Call{Name: "upload", Status: 403, Answer: json.RawMessage(refusal(403, "instantiate", "fuel")), Took: took})
	}
	for _, k := range []struct {
		took, stall time.Duration
		want        results.Status
	}{
		{100 * ms, 0, results.Pass}, {100 * ms, 50 * ms, results.Pass}, {3 * time.Second, 0, results.Fail},
		{3 * time.Second, 50 * ms, results.Fail}, {startBound + 10*ms, 50 * ms, results.Inconclusive},
	} {
		f := c.Judge(suites.Trace{Key: results.Key{Check: c.ID, Case: "endless"}, Evidence: late(k.took).all, Stall: k.stall})
		if f.Status != k.want {
			t.Errorf("%+v: %s %s", k, f.Status, f.Reason)
		}
	}
}

func TestGuests(t *testing.T) {
	if string(constant(-2)) == string(constant(3)) {
		t.Error("two constants are one module")
	}
	for n, want := range map[int64]string{0: "\x00", 63: "\x3f", 64: "\xc0\x00", -1: "\x7f", -64: "\x40", -65: "\xbf\x7f", 1000: "\xe8\x07"} {
		if got := string(signed(n)); got != want {
			t.Errorf("%d is %x, want %x", n, got, want)
		}
	}
	names := wasm.Names()
	for _, a := range attacks {
		if !slices.Contains(names, a.guest) {
			t.Errorf("there is no guest %s", a.guest)
		}
	}
}
