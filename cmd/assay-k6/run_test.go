package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/assay-bench/assay/results"
	house "github.com/assay-bench/assay/scenarios/k6"
)

// TestExamples runs the scripts that the repository shows, against the reference stack.
func TestExamples(t *testing.T) {
	endpoints, roots, sni := stack(t)
	env := []string{
		"RPC=" + endpoints["rpc"], "TLS=" + endpoints["tls"], "ROOTS=" + roots, "SNI=" + sni,
		"TARGET=ttheader://" + endpoints["rpc"],
	}
	scripts, err := filepath.Glob("../../scenarios/k6/*.js")
	if err != nil || len(scripts) < 3 {
		t.Fatalf("%d scripts, want at least 3 (%v)", len(scripts), err)
	}
	for _, script := range scripts {
		t.Run(filepath.Base(script), func(t *testing.T) {
			path, err := filepath.Abs(script)
			if err != nil {
				t.Fatal(err)
			}
			r, b := k6File(t, env, path)
			if r.code != 0 {
				t.Fatalf("exit %d\n%s\n%s", r.code, r.out, r.errOut)
			}
			v := verdict(t, b, house.GeneratorCheck, "")
			if v.Status == results.Inconclusive && (v.Reason == house.ReasonInvalid || v.Reason == house.ReasonDropped) {
				t.Logf("this host was too noisy for a valid run: %s", v.Why.Observed)
			} else if v.Status != results.Pass {
				t.Errorf("%s %s: %s", v.Status, v.Reason, v.Why.Observed)
			}
			if v := run(t, nil, assay, "verify", "--unsigned", b.Dir); v.code != 0 {
				t.Errorf("assay verify: exit %d: %s", v.code, v.errOut)
			}
		})
	}
}

const twice = `
export const options = { vus: 2, iterations: 10, thresholds: { checks: ['rate==1'], iteration_duration: ['%s'] } };
import { check } from 'k6';
export default function () { check(1, { one: (x) => x === 1 }); }`

func TestThresholds(t *testing.T) {
	tests := []struct {
		expression string
		exit       int
		status     results.Status
		reason     string
	}{
		{"p(95)<60000", 0, results.Pass, ""},
		{"p(95)>60000", 99, results.Fail, house.ReasonCrossed},
	}
	for _, tt := range tests {
		r, b := k6(t, strings.Replace(twice, "%s", tt.expression, 1))
		if r.code != tt.exit {
			t.Errorf("%s: k6 exits %d, want %d: %s", tt.expression, r.code, tt.exit, r.errOut)
		}
		v := verdict(t, b, house.ThresholdCheck, "iteration_duration "+tt.expression)
		if v.Status != tt.status || v.Reason != tt.reason {
			t.Errorf("%s: %s %q, want %s %q (%s)", tt.expression, v.Status, v.Reason, tt.status, tt.reason, v.Why.Observed)
		}
	}
}

// TestDroppedIterations is load/k6/dropped-zero: k6 exits 99, the bundle is Inconclusive, assay exits 3.
func TestDroppedIterations(t *testing.T) {
	frozen := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		// infinite servers that freeze for the first 200 ms of every 500 ms: the schedule stall, tighter
		const period, freeze = 500 * time.Millisecond, 200 * time.Millisecond
		if at := time.Duration(time.Now().UnixNano()) % period; at < freeze {
			time.Sleep(freeze - at)
		}
		w.WriteHeader(http.StatusOK)
	}))
	defer frozen.Close()
	script := `
import http from 'k6/http';
export const options = { scenarios: { stall: { executor: 'constant-arrival-rate', rate: 500, duration: '2s', preAllocatedVUs: 20, maxVUs: 20 } }, THRESHOLDS };
export default function () { http.get('` + frozen.URL + `'); }`
	for _, thresholds := range []string{"", "thresholds: { http_req_duration: ['p(50)<60000'] }"} {
		r, b := k6(t, strings.Replace(script, "THRESHOLDS", thresholds, 1))
		if r.code != 99 || !strings.Contains(r.errOut, "dropped_iterations") {
			t.Errorf("%q: k6 exits %d: %s", thresholds, r.code, r.errOut)
		}
		v := verdict(t, b, house.GeneratorCheck, "")
		if v.Status != results.Inconclusive || v.Reason != house.ReasonDropped {
			t.Errorf("%q: %s %s: %s", thresholds, v.Status, v.Reason, v.Why.Observed)
		}
		if thresholds != "" {
			if v := verdict(t, b, house.ThresholdCheck, "http_req_duration p(50)<60000"); v.Status != results.Inconclusive {
				t.Errorf("a threshold of a run with dropped iterations is %s", v.Status)
			}
		}
		if j := run(t, nil, assay, "judge", b.Dir); j.code != int(results.ExitInconclusive) || !strings.Contains(j.out, "dropped") {
			t.Errorf("assay judge: exit %d: %s", j.code, j.out)
		}
		if j := run(t, nil, assay, "report", "--from", b.Dir); !strings.Contains(j.out, "[exit 3]") {
			t.Errorf("assay report says: %s", j.out)
		}
	}
}

// TestThrowingScript: k6 logs what a script throws and goes on; the bundle calls it broken.
func TestThrowingScript(t *testing.T) {
	r, b := k6(t, `
export const options = { vus: 1, iterations: 5 };
export default function () { if (__ITER == 3) throw new Error('no such thing'); }`)
	if r.code != 0 || !strings.Contains(r.errOut, "no such thing") {
		t.Errorf("k6 exits %d: %s", r.code, r.errOut)
	}
	v := verdict(t, b, house.GeneratorCheck, "")
	if v.Status != results.Broken || v.Reason != house.ReasonScript || !strings.Contains(v.Why.Observed, "1 of 5 iterations threw; the first: Error: no such thing") {
		t.Errorf("%s %s: %s", v.Status, v.Reason, v.Why.Observed)
	}
	if j := run(t, nil, assay, "judge", b.Dir); j.code != int(results.ExitHarness) {
		t.Errorf("assay judge: exit %d", j.code)
	}
	if r, b := k6(t, `throw new Error('while loading')`); r.code != 107 || b != nil {
		t.Errorf("a script that throws while it is loaded: exit %d, bundle %v", r.code, b != nil)
	}
}

// TestMisuse: a script's own mistake throws, with a message that says what to do.
func TestMisuse(t *testing.T) {
	tests := []struct{ call, want string }{
		{`rpc()`, "first argument: want an address"},
		{`rpc('127.0.0.1:1', { methode: 'Echo' })`, `options: json: unknown field \"methode\"`},
		{`rpc('127.0.0.1:1', { form: 'grpc' })`, `form: \"grpc\" is none of`},
		{`rpc('127.0.0.1:1', { timeout: 'soon' })`, "timeout: time: invalid duration"},
		{`rpc('127.0.0.1:1', { args: [{ id: 1, type: 'i16', value: 70000 }] })`, "field 1: value of type i16"},
		{`rpc('127.0.0.1:1', 'Echo')`, "want an object"},
		{`pqtls('127.0.0.1:1', { groups: ['kyber'] })`, `no group \"kyber\"`},
		{`pqtls('127.0.0.1:1', { roots: 'nothing' })`, "no certificate in PEM"},
		{`echo('127.0.0.1:1', { size: 0 })`, "size: 0 is outside"},
	}
	for _, tt := range tests {
		r, b := k6(t, `import { rpc, pqtls, echo } from 'k6/x/assay';
export default function () { `+tt.call+`; }`)
		if !strings.Contains(r.errOut, tt.want) {
			t.Errorf("%s: %s, want %q", tt.call, r.errOut, tt.want)
		}
		if v := verdict(t, b, house.GeneratorCheck, ""); v.Status != results.Broken {
			t.Errorf("%s: %s", tt.call, v.Status)
		}
	}
	if r, _ := k6(t, `import { rpc } from 'k6/x/assay'; rpc('127.0.0.1:1'); export default function () {}`); !strings.Contains(r.errOut, "init context") {
		t.Errorf("a call in the init context: %s", r.errOut)
	}
}

// TestUnreachableHost: what a server does wrong is in the answer and does not throw.
func TestUnreachableHost(t *testing.T) {
	r, b := k6(t, `import { rpc, pqtls, echo } from 'k6/x/assay';
export const options = { iterations: 3, thresholds: { rpc_req_failed: ['rate==0'] } };
export default function () {
  for (const a of [rpc('127.0.0.1:1'), pqtls('127.0.0.1:1'), echo('127.0.0.1:1')]) {
    if (a.ok || a.error.indexOf('connection refused') < 0) throw new Error('unexpected: ' + JSON.stringify(a));
  }
}`)
	if r.code != 99 {
		t.Errorf("k6 exits %d: %s", r.code, r.errOut)
	}
	if v := verdict(t, b, house.GeneratorCheck, ""); v.Status != results.Pass {
		t.Errorf("generator: %s %s: %s", v.Status, v.Reason, v.Why.Observed)
	}
	if v := verdict(t, b, house.ThresholdCheck, "rpc_req_failed rate==0"); v.Status != results.Fail {
		t.Errorf("threshold: %s: %s", v.Status, v.Why.Observed)
	}
}

// TestBundleIsNotWrittenOver, and a killed run leaves one that says so.
func TestBundleFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mine"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(t.TempDir(), "s.js")
	if err := os.WriteFile(script, []byte("export default function () {}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if r := run(t, nil, assayK6, "run", "-o", "assay="+dir, script); r.code == 0 || !strings.Contains(r.errOut, "is not empty") {
		t.Errorf("exit %d: %s", r.code, r.errOut)
	}
}

// TestTampering: a bundle whose evidence was changed, or whose plan lost a threshold, does not verify.
func TestTampering(t *testing.T) {
	_, b := k6(t, strings.Replace(twice, "%s", "p(95)>60000", 1))
	path := filepath.Join(b.Dir, results.RunFile)
	var whole map[string]any
	if err := json.Unmarshal([]byte(read(t, path)), &whole); err != nil {
		t.Fatal(err)
	}
	whole["plan"] = whole["plan"].([]any)[:1]
	raw, err := json.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	if v := run(t, nil, assay, "verify", "--unsigned", b.Dir); v.code != int(results.ExitFail) {
		t.Errorf("assay verify: exit %d: %s%s", v.code, v.out, v.errOut)
	}
}
