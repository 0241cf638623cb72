package sandbox

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/mldsa"
	"encoding/json"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/target"
	"github.com/assay-bench/assay/scenarios/target/targettest"
)

// log is evidence as the runner records it.
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

// calls decodes the recorded calls.
func (l *log) calls(t *testing.T) (out []Call) {
	t.Helper()
	for _, e := range l.all {
		var c Call
		if e.Kind != Called {
			continue
		}
		if err := e.Decode(&c); err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

func newEnv(addr string) (*scenarios.Env, *log) {
	l, dialer := &log{}, net.Dialer{}
	return &scenarios.Env{
		Token: "test", Endpoints: target.Endpoints{Endpoint: addr}, Clock: results.ClockSince(time.Now()), Dial: dialer.DialContext,
		Rand: rand.New(rand.NewPCG(1, 2)), Put: l.put, Claims: target.Claims{Limits: target.Limits{AnswerMillis: 500}},
	}, l
}

// serving answers every request of a test.
func serving(t *testing.T, h http.HandlerFunc) (*API, *scenarios.Env, *log) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	env, l := newEnv(strings.TrimPrefix(s.URL, "http://"))
	a := NewAPI(env)
	t.Cleanup(a.Close)
	return a, env, l
}

func TestUploadIsRecordedByDigest(t *testing.T) {
	module := bytes.Repeat([]byte{7}, 1<<20)
	var got Upload
	a, _, l := serving(t, func(w http.ResponseWriter, r *http.Request) {
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write([]byte(`{"version":3,"digest":"d","fuelSites":2}`))
	})
	c, err := a.Upload(t.Context(), "up", Upload{Tenant: "t", Module: "m", Wasm: module, Version: 3, ABI: "plain"})
	var p Published
	if err != nil || !c.Read(&p) || p.Version != 3 || p.FuelSites != 2 {
		t.Errorf("%+v, %v", c, err)
	}
	if !bytes.Equal(got.Wasm, module) || got.Version != 3 {
		t.Errorf("the target was sent %d bytes of version %d", len(got.Wasm), got.Version)
	}
	all := l.calls(t)
	if len(all) != 1 || all[0].Name != "up" || len(all[0].Request) > 400 {
		t.Fatalf("recorded: %+v", all)
	}
	var told struct{ Wasm Digest }
	if err := json.Unmarshal(all[0].Request, &told); err != nil || told.Wasm != DigestOf(module) {
		t.Errorf("recorded %s, %v", all[0].Request, err)
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	cases := []struct {
		name    string
		handler http.HandlerFunc
		broken  string
		status  int
	}{
		{"text", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) }, "not JSON", 200},
		{"endless", func(w http.ResponseWriter, _ *http.Request) {
			for range 5 {
				_, _ = w.Write(bytes.Repeat([]byte("0"), 1<<20))
			}
		}, "more than", 200},
		{"cut off", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF", 0},
		{"empty", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, "", 204},
		{"elsewhere", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
		}, "", 302},
	}
	for _, k := range cases {
		a, _, l := serving(t, k.handler)
		c, err := a.Invoke(t.Context(), "x", "t", "m", Invocation{Function: "f"})
		if err != nil || !strings.Contains(c.Broken, k.broken) || (k.broken == "") != (c.Broken == "") || c.Status != k.status {
			t.Errorf("%s: %+v, %v", k.name, c, err)
		}
		if len(l.calls(t)) != 1 {
			t.Errorf("%s: %d calls are recorded", k.name, len(l.calls(t)))
		}
	}
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
	env, _ := newEnv("127.0.0.1:1")
	if c, err := NewAPI(env).Collect(t.Context(), ""); err != nil || c.Answered() {
		t.Errorf("nobody: %+v, %v", c, err)
	}
	env.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, scenarios.ErrNotAllowed }
	if _, err := NewAPI(env).Collect(t.Context(), ""); err == nil {
		t.Error("an address that is not allowed is no error")
	}
}

// A target that does not answer is waited for once.
func TestMute(t *testing.T) {
	hold := make(chan struct{})
	var asked atomic.Int32
	a, env, l := serving(t, func(http.ResponseWriter, *http.Request) {
		asked.Add(1)
		<-hold
	})
	defer close(hold)
	env.Claims.Limits.AnswerMillis = 1
	for range 3 {
		if _, err := a.Stats(t.Context(), "stats"); err != nil {
			t.Fatal(err)
		}
	}
	all := l.calls(t)
	if asked.Load() != 1 || len(all) != 3 || all[2].Answered() || all[2].Took > all[0].Took {
		t.Errorf("asked %d times, %+v", asked.Load(), all)
	}
}

func TestProblem(t *testing.T) {
	const refusal = `{"type":"about:blank","title":"Forbidden","status":403,"step":"size","reason":"r"}`
	for text, ok := range map[string]bool{refusal: true, `{"status":200}`: false, `{}`: false, `[]`: false, ``: false, `{"status":"403"}`: false} {
		a, _, _ := serving(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(text))
		})
		c, err := a.Remove(t.Context(), "", "t", "m")
		if err != nil {
			t.Fatal(err)
		}
		if p, got := c.Problem(); got != ok || ok && (p.Step != "size" || p.Reason != "r") {
			t.Errorf("%q: %+v, %t", text, p, got)
		}
	}
}

// Other cases' tenants are nobody's business.
func TestStatsOfOwnTenants(t *testing.T) {
	a, _, l := serving(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"tenants":{"mine":{"calls":3,"traps":{"fuel":1}},"else":{"calls":9}},"cache":{"dir":"/d","mode":"0700","corrupt":2},"engine":"e v1"}`))
	})
	if _, err := a.SetTenant(t.Context(), "set", "mine", Free, Keys{Ed25519: []byte("k")}); err != nil {
		t.Fatal(err)
	}
	s, err := a.Stats(t.Context(), "stats")
	if err != nil || s.Tenants["mine"].Calls != 3 || s.Cache.Corrupt != 2 || s.Tenants["mine"].Traps["fuel"] != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	all := l.calls(t)
	if len(all) != 2 || strings.Contains(string(all[1].Answer), "else") || !strings.Contains(string(all[1].Answer), "mine") {
		t.Errorf("recorded %+v", all)
	}
}

func TestSign(t *testing.T) {
	s, err := NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	message := SignedBytes("t", "m", 12, []byte("code"))
	const want = "assay-sandbox/1\nt\nm\n12\n5694d08a2e53ffcae0c3103e5ad6f6076abd960eb1f8a56577040bc1028f702b\n"
	if string(message) != want {
		t.Errorf("%q", message)
	}
	sig, err := s.Sign(message)
	if err != nil || !ed25519.Verify(s.Keys().Ed25519, message, sig.Ed25519) {
		t.Errorf("the signature of Ed25519 does not hold: %v", err)
	}
	key, err := mldsa.NewPublicKey(mldsa.MLDSA65(), s.Keys().MLDSA65)
	if err != nil {
		t.Fatal(err)
	}
	if err := mldsa.Verify(key, message, sig.MLDSA65, nil); err != nil {
		t.Error(err)
	}
	if mldsa.Verify(key, message[1:], sig.MLDSA65, nil) == nil {
		t.Error("another message has the same signature")
	}
}

func script(t *testing.T, text string) string {
	t.Helper()
	return targettest.Script(t, filepath.Join(t.TempDir(), "run.sh"), "#!/bin/sh\n"+text)
}

func TestRun(t *testing.T) {
	t.Parallel()
	env, l := newEnv("")
	env.Claims.Sandbox = &target.Sandbox{RunWasm: script(t, `cat "$1"; echo; echo "$2 $3"; echo oops >&2; exit $4`) + " {module} {function} {args}"}
	got, err := Run(t.Context(), env, []byte("bytes"), "add", "-1", "0")
	want := Execution{Module: DigestOf([]byte("bytes")), Function: "add", Args: []string{"-1", "0"}, State: "exit status 0", Output: "bytes\nadd -1", Errors: "oops"}
	got.Took = 0
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if got.Call() != "add(-1, 0)" || !slices.Equal(got.Results(), []string{"bytes", "add -1"}) {
		t.Errorf("%s = %q", got.Call(), got.Results())
	}
	if got, err := Run(t.Context(), env, nil, "f", "x", "3"); err != nil || got.Exit != 3 {
		t.Errorf("%+v, %v", got, err)
	}
	for _, s := range []*target.Sandbox{nil, {}, {RunWasm: "/does/not/exist {module} {function} {args}"}} {
		env.Claims.Sandbox = s
		if got, err := Run(t.Context(), env, nil, "f"); err != nil || got.Broken == "" || got.Results() != nil {
			t.Errorf("%+v, %v", got, err)
		}
	}
	all, cites, err := Executions(l.all)
	if err != nil || len(all) != 5 || len(cites) != 5 {
		t.Errorf("%d runs are recorded, %v", len(all), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	env.Claims.Sandbox = &target.Sandbox{RunWasm: "sleep 60"}
	if _, err := Run(ctx, env, nil, "f"); err == nil {
		t.Error("a run whose case has ended is evidence")
	}
}

func TestFolder(t *testing.T) {
	env, l := newEnv("")
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "sub", "code")
	if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("12345"), 0o640); err != nil {
		t.Fatal(err)
	}
	files, err := Examine(env, "look", dir)
	if err != nil || len(files) != 1 || files[file] != DigestOf([]byte("12345")) {
		t.Errorf("%v, %v", files, err)
	}
	var f Folder
	if err := l.all[0].Decode(&f); err != nil || f.Mode != 0o700 || f.Files != 1 || f.Owner != os.Getuid() || !f.Private() {
		t.Errorf("%+v, %v", f, err)
	}
	is, err := Flip(env, "flip", file)
	if err != nil || is == files[file] {
		t.Errorf("%v, %v", is, err)
	}
	if raw, err := os.ReadFile(file); err != nil || DigestOf(raw) != is || string(raw[:2]) != "12" {
		t.Errorf("%q, %v", raw, err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := Reread(env, "reread", file, is); err != nil {
		t.Error(err)
	}
	var d Damage
	if err := l.all[2].Decode(&d); err != nil || d.Gone == "" || !d.Later {
		t.Errorf("%+v, %v", d, err)
	}
	open := t.TempDir()
	if err := os.Chmod(open, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(open, "x"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if files, err := Examine(env, "open", open); err != nil || len(files) != 0 {
		t.Errorf("%v, %v: a folder that others may enter is read", files, err)
	}
	for _, bad := range []string{"", "relative", filepath.Join(dir, "missing"), "/dev/null"} {
		if files, err := Examine(env, "bad", bad); err != nil || len(files) != 0 {
			t.Errorf("%s: %v, %v", bad, files, err)
		}
		if err := l.all[len(l.all)-1].Decode(&f); err != nil || f.Broken == "" {
			t.Errorf("%s: %+v, %v", bad, f, err)
		}
	}
}

func TestTrialOf(t *testing.T) {
	good := Call{Status: 200, Answer: json.RawMessage(`{"results":["1","2"],"output":"QUI=","version":4,"instance":"i","fuel":7}`), Took: 3}
	want := Trial{What: "w", At: 1, Took: 3, Status: 200, Version: 4, Results: []string{"1", "2"}, Output: DigestOf([]byte("AB")), Instance: "i", Fuel: 7}
	if diff := cmp.Diff(want, TrialOf("w", 1, good)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	trap := Call{Status: 422, Answer: json.RawMessage(`{"status":422,"class":"fuel","instance":"i"}`)}
	if got := TrialOf("", 0, trap); got.Class != "fuel" || got.Instance != "i" || got.Status != 422 {
		t.Errorf("%+v", got)
	}
	if got := TrialOf("", 0, Call{Status: 200, Broken: "cut"}); got.Status != 0 || got.Broken != "cut" {
		t.Errorf("%+v", got)
	}
}

// Whatever a target answers, it can be recorded and read again.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{``, `{}`, `{"tenants":{"a":{}}}`, `{"tenants":[]}`, `{"status":422,"class":"x"}`, `{"results":["1"],"output":"QQ=="}`, "\xff", `{"results":null,"mode":7}`} {
		f.Add([]byte(s), 200)
	}
	f.Fuzz(func(t *testing.T, raw []byte, status int) {
		env, l := newEnv("")
		a := NewAPI(env)
		c := Call{Name: "n", Status: status}
		var s Stats
		c.take(raw, &s)
		c.Answer = clipped(a.own(c.Answer))
		if err := env.Record(Called, c); err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		var again Call
		if err := l.all[0].Decode(&again); err != nil {
			t.Fatal(err)
		}
		trial := TrialOf("x", 0, again)
		if _, err := results.Marshal(trial); err != nil {
			t.Fatal(err)
		}
		_, _ = again.Problem()
	})
}
