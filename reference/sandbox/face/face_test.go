package face

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/sandbox"
	"github.com/assay-bench/assay/reference/sandbox/proxywasm"
)

const patience = time.Minute

// fake is a box whose answers a test chooses.
type fake struct {
	err    error // of every call
	tenant sandbox.Tenant
	upload sandbox.Upload
	call   sandbox.Call
	at     []string // names that the last call came with
	answer sandbox.Answer
	stream func(ctx context.Context, in io.Reader, out io.Writer) error
	block  chan struct{} // if not nil, Invoke says that it runs, and waits for the end of its context
	closed atomic.Int32
}

func (f *fake) SetTenant(id string, t sandbox.Tenant) error {
	f.at, f.tenant = []string{id}, t
	return f.err
}

func (f *fake) Upload(_ context.Context, tenant, module string, u sandbox.Upload) (sandbox.Published, error) {
	f.at, f.upload = []string{tenant, module}, u
	return sandbox.Published{Version: u.Version, Digest: "d", FuelSites: 3, CompiledFromCache: true}, f.err
}

func (f *fake) Admit(_ context.Context, tenant, module string, u sandbox.Upload) (*sandbox.Admitted, error) {
	f.at, f.upload = []string{tenant, module}, u
	return nil, f.err
}

func (f *fake) Invoke(ctx context.Context, tenant, module string, c sandbox.Call) (sandbox.Answer, error) {
	f.at, f.call = []string{tenant, module}, c
	if f.block != nil {
		close(f.block)
		<-ctx.Done()
		return sandbox.Answer{}, ctx.Err()
	}
	return f.answer, f.err
}

func (f *fake) Stream(ctx context.Context, tenant, module, function string, in io.Reader, out io.Writer) error {
	f.at = []string{tenant, module, function}
	if f.err != nil {
		return f.err
	}
	return f.stream(ctx, in, out)
}

func (f *fake) RemoveTenant(tenant string) error {
	if tenant == "nobody" {
		return sandbox.ErrUnknown
	}
	return nil
}

func (f *fake) Remove(tenant, module string) error {
	f.at = []string{tenant, module}
	return f.err
}

func (f *fake) Stats() sandbox.Stats { return sandbox.Stats{Engine: "fake"} }

func (f *fake) Audit(since uint64) []sandbox.Event { return []sandbox.Event{{Seq: since + 1}} }

func (f *fake) Close(context.Context) error {
	f.closed.Add(1)
	return nil
}

// startFake starts a face in front of a box.
func startFake(t testing.TB, b box, defects ...defect.Name) *Face {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	f := newFace(ctx, cancel, withDefaults(Config{Defects: defect.Of(defects...)}))
	f.core.open = func() (box, string, error) { return b, "", nil }
	if err := f.start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// startReal starts the face of the reference.
func startReal(t testing.TB, defects ...defect.Name) *Face {
	t.Helper()
	f, err := Start(context.Background(), Config{Defects: defect.Of(defects...)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

type object = map[string]any

// call makes a request of the API. A body that is no string is sent as JSON. The answer must be JSON, an
// error a problem.
func call(t testing.TB, f *Face, method, path string, body any) (int, object) {
	t.Helper()
	return callWith(t, &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}, f, method, path, body)
}

func callWith(t testing.TB, client *http.Client, f *Face, method, path string, body any) (int, object) {
	t.Helper()
	text, ok := body.(string)
	if !ok && body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		text = string(encoded)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+f.Addresses().API+path, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp.StatusCode, decoded(t, resp, got)
}

func decoded(t testing.TB, resp *http.Response, body []byte) object {
	t.Helper()
	if resp.StatusCode == http.StatusNoContent {
		return nil
	}
	want := "application/json"
	if resp.StatusCode >= 400 {
		want = "application/problem+json"
	}
	if got := resp.Header.Get("Content-Type"); got != want {
		t.Errorf("status %d with content type %q, want %q", resp.StatusCode, got, want)
	}
	var o object
	if err := json.Unmarshal(body, &o); err != nil {
		t.Fatalf("answer %.200q: %v", body, err)
	}
	if resp.StatusCode >= 400 && (o["status"] != float64(resp.StatusCode) || o["type"] != "about:blank" || o["title"] != http.StatusText(resp.StatusCode)) {
		t.Errorf("status %d, problem %v", resp.StatusCode, o)
	}
	return o
}

func TestCalls(t *testing.T) {
	b := &fake{answer: sandbox.Answer{Results: []string{"3"}, Output: []byte("out"), Version: 2, Instance: "i", Fuel: 5, CPUMicros: 6, MemoryPages: 7, Pooled: true}}
	f := startFake(t, b)
	key := make([]byte, ed25519.PublicKeySize)
	cases := []struct {
		name, method, path string
		body               any
		status             int
		want               object // members of the answer
		at                 []string
	}{
		{"tenant", "PUT", "/tenants/t-1", object{"tier": "free", "keys": object{"ed25519": key}}, 200, object{"tenant": "t-1", "tier": "free"}, []string{"t-1"}},
		{"publish", "PUT", "/tenants/t/modules/m.x", object{"wasm": []byte("w"), "version": 7, "signatures": object{"ed25519": []byte("s")}}, 201,
			object{"version": 7.0, "digest": "d", "fuelSites": 3.0, "compiledFromCache": true}, []string{"t", "m.x"}},
		{"invoke", "POST", "/tenants/t/modules/m/invoke", object{"function": "f", "args": []string{"1"}, "input": []byte("in")}, 200,
			object{"results": []any{"3"}, "output": "b3V0", "version": 2.0, "instance": "i", "fuel": 5.0, "cpuMicros": 6.0, "memoryPages": 7.0, "pooled": true},
			[]string{"t", "m"}},
		{"remove", "DELETE", "/tenants/t/modules/m", nil, 204, nil, []string{"t", "m"}},
		{"stats", "GET", "/stats", nil, 200, object{"engine": "fake"}, nil},
		{"audit", "GET", "/audit", nil, 200, nil, nil},
		{"audit since", "GET", "/audit?since=41", nil, 200, nil, nil},
		{"gc", "POST", "/gc", nil, 200, nil, nil},
		{"proxy", "GET", "/proxy", nil, 200, object{"loaded": false, "version": 0.0, "log": []any{}}, nil},
	}
	seen := 0
	for _, c := range cases {
		seen++
		b.at = nil
		status, got := call(t, f, c.method, c.path, c.body)
		if status != c.status {
			t.Errorf("%s: status %d %v, want %d", c.name, status, got, c.status)
			continue
		}
		for k, v := range c.want {
			if diff := cmp.Diff(v, got[k]); diff != "" {
				t.Errorf("%s: %s: %s", c.name, k, diff)
			}
		}
		if diff := cmp.Diff(c.at, b.at); diff != "" {
			t.Errorf("%s: names: %s", c.name, diff)
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
	if diff := cmp.Diff(sandbox.Call{Function: "f", Args: []string{"1"}, Input: []byte("in")}, b.call); diff != "" {
		t.Error(diff)
	}
	want := sandbox.Upload{Wasm: []byte("w"), Version: 7, ABI: sandbox.Plain, Engine: sandbox.Compiler, Signatures: sandbox.Signatures{Ed25519: []byte("s")}}
	if diff := cmp.Diff(want, b.upload); diff != "" {
		t.Error(diff)
	}
	if _, got := call(t, f, "GET", "/audit?since=41", nil); got["events"].([]any)[0].(object)["seq"] != 42.0 {
		t.Errorf("since: %v", got)
	}
}

func TestErrors(t *testing.T) {
	b := new(fake)
	f := startFake(t, b)
	cases := []struct {
		err    error
		status int
		want   object
	}{
		{&sandbox.Refusal{Step: "structure", Reason: "too many"}, 403, object{"step": "structure", "reason": "too many"}},
		{&proxywasm.Refusal{Reason: "no marker"}, 403, object{"step": "proxy", "reason": "no marker"}},
		{&sandbox.Trap{Class: "fuel", Text: "fuel exhausted", Instance: "i7"}, 422, object{"class": "fuel", "instance": "i7"}},
		{&sandbox.Busy{Tenant: "t", Running: 3}, 429, object{"class": "instances"}},
		{sandbox.ErrUnknown, 404, nil},
		{sandbox.ErrArguments, 400, nil},
		{sandbox.ErrTenant, 409, nil},
		{sandbox.ErrClosed, 503, nil},
		{context.DeadlineExceeded, 503, nil},
		{errors.New("disk full \xff\x00"), 500, object{"detail": "disk full \uFFFD\x00"}},
	}
	seen := 0
	for _, c := range cases {
		for _, path := range []string{"/invoke", "/stream?function=f"} {
			seen++
			b.err = c.err
			body := any(object{"function": "f"})
			status, got := call(t, f, "POST", "/tenants/t/modules/m"+path, body)
			if status != c.status {
				t.Errorf("%s: %v: status %d, want %d", path, c.err, status, c.status)
			}
			for k, v := range c.want {
				if got[k] != v {
					t.Errorf("%s: %v: %s is %v, want %v", path, c.err, k, got[k], v)
				}
			}
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

func TestBadRequests(t *testing.T) {
	f := startFake(t, &fake{stream: func(context.Context, io.Reader, io.Writer) error { return nil }})
	const module = "/tenants/t/modules/m"
	key := make([]byte, ed25519.PublicKeySize)
	keys := object{"ed25519": key}
	filter := func(edit object) object {
		o := object{"tenant": "t", "wasm": []byte("w"), "version": 1, "upstream": "127.0.0.1:1"}
		for k, v := range edit {
			o[k] = v
		}
		return o
	}
	cases := []struct {
		name, method, path string
		body               any
		status             int
		detail             string
	}{
		{"no body", "PUT", "/tenants/t", "", 400, "not a JSON object"},
		{"null", "PUT", "/tenants/t", "null", 400, "not a JSON object"},
		{"list", "PUT", "/tenants/t", "[]", 400, "not a JSON object"},
		{"half", "PUT", "/tenants/t", `{"tier":`, 400, "body"},
		{"two values", "PUT", "/tenants/t", `{"tier":"free"}{}`, 400, "body"},
		{"unknown member", "PUT", "/tenants/t", `{"tier":"free","x":1}`, 400, "unknown"},
		{"repeated member", "PUT", "/tenants/t", `{"tier":"free","tier":"pro"}`, 400, "duplicate"},
		{"other case", "PUT", "/tenants/t", `{"Tier":"free"}`, 400, "unknown"},
		{"not UTF-8", "PUT", "/tenants/t", "{\"tier\":\"\xff\"}", 400, "UTF-8"},
		{"not base64", "PUT", "/tenants/t", `{"tier":"free","keys":{"ed25519":"*"}}`, 400, "base64"},
		{"no tier", "PUT", "/tenants/t", object{"keys": keys}, 400, "tier"},
		{"other tier", "PUT", "/tenants/t", object{"tier": "huge", "keys": keys}, 400, "tier"},
		{"short key", "PUT", "/tenants/t", object{"tier": "free", "keys": object{"ed25519": key[1:]}}, 400, "ed25519"},
		{"short ML-DSA key", "PUT", "/tenants/t", object{"tier": "free", "keys": object{"mldsa65": key}}, 400, "mldsa65"},
		{"name with a line feed", "PUT", "/tenants/a%0Ab", object{"tier": "free", "keys": keys}, 400, "tenant"},
		{"name with a slash", "PUT", "/tenants/a%2Fb", object{"tier": "free", "keys": keys}, 400, "tenant"},
		{"long name", "PUT", "/tenants/" + strings.Repeat("n", 65), object{"tier": "free", "keys": keys}, 400, "tenant"},
		{"module's name", "PUT", "/tenants/t/modules/a%20b", object{"version": 1}, 400, "module"},
		{"abi", "PUT", module, object{"version": 1, "abi": "cobol"}, 400, "abi"},
		{"engine", "PUT", module, object{"version": 1, "engine": "steam"}, 400, "engine"},
		{"negative version", "PUT", module, `{"version":-1}`, 400, "body"},
		{"fraction", "PUT", module, `{"version":1.5}`, 400, "body"},
		{"delete with a bad name", "DELETE", "/tenants/t/modules/%00", nil, 400, "module"},
		{"no function", "POST", module + "/invoke", "{}", 400, "function"},
		{"args are numbers", "POST", module + "/invoke", `{"function":"f","args":[1]}`, 400, "body"},
		{"invoke a bad name", "POST", "/tenants/%7F/modules/m/invoke", `{"function":"f"}`, 400, "tenant"},
		{"stream without function", "POST", module + "/stream", "x", 400, "function"},
		{"stream of a bad name", "POST", "/tenants/t/modules/%C3%A9/stream?function=f", "x", 400, "module"},
		{"since", "GET", "/audit?since=-1", nil, 400, "since"},
		{"no samples", "POST", "/coldstart", "{}", 400, "samples"},
		{"many samples", "POST", "/coldstart", `{"samples":1001}`, 400, "samples"},
		{"filter without tenant", "PUT", "/proxy/filter", filter(object{"tenant": ""}), 400, "tenant"},
		{"filter version", "PUT", "/proxy/filter", filter(object{"version": "1"}), 400, "body"},
		{"upstream elsewhere", "PUT", "/proxy/filter", filter(object{"upstream": "192.0.2.1:80"}), 400, "upstream"},
		{"upstream's name", "PUT", "/proxy/filter", filter(object{"upstream": "example.com:80"}), 400, "upstream"},
		{"upstream without port", "PUT", "/proxy/filter", filter(object{"upstream": "127.0.0.1:0"}), 400, "upstream"},
		{"no such path", "GET", "/nothing", nil, 404, "resource"},
		{"root", "GET", "/", nil, 404, "resource"},
		{"method", "POST", "/stats", nil, 405, "method"},
		{"other method", "PATCH", module, nil, 405, "method"},
	}
	seen := 0
	for _, c := range cases {
		seen++
		status, got := call(t, f, c.method, c.path, c.body)
		detail, _ := got["detail"].(string)
		if status != c.status || !strings.Contains(detail, c.detail) {
			t.Errorf("%s: %d %q, want %d and %q", c.name, status, detail, c.status, c.detail)
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

func TestMethodsAllowed(t *testing.T) {
	f := startFake(t, new(fake))
	resp, err := http.Post("http://"+f.Addresses().API+"/tenants/t/modules/m", "application/json", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if got := resp.Header.Get("Allow"); resp.StatusCode != http.StatusMethodNotAllowed || got != "DELETE, PUT" {
		t.Errorf("%d, Allow %q", resp.StatusCode, got)
	}
}

// endless is a JSON object that does not end.
type endless struct{ begun bool }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'A'
	}
	if !e.begun && len(p) >= 9 {
		e.begun = true
		copy(p, `{"wasm":"`)
	}
	return len(p), nil
}

// TestTooLarge: a body without end is refused with its step, whether its length is said or not, and the
// API serves on.
func TestTooLarge(t *testing.T) {
	f := startFake(t, new(fake))
	seen := 0
	for _, length := range []int64{-1, maxBody + 1} {
		for _, path := range []string{"/tenants/t/modules/m", "/proxy/filter"} {
			seen++
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+f.Addresses().API+path, io.LimitReader(new(endless), maxBody+1))
			if err != nil {
				t.Fatal(err)
			}
			req.ContentLength = length
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if got := decoded(t, resp, body); resp.StatusCode != 413 || got["step"] != "size" {
				t.Errorf("%s, length %d: %d %v", path, length, resp.StatusCode, got)
			}
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
	if n := len(f.large); n != 0 {
		t.Errorf("%d places are held", n)
	}
	if status, _ := call(t, f, "GET", "/stats", nil); status != 200 {
		t.Errorf("afterwards: %d", status)
	}
}

// TestPlaces: with every place for a large body taken, small requests are served, and a large one waits
// until its client gives up.
func TestPlaces(t *testing.T) {
	f := startFake(t, new(fake))
	for range maxLarge {
		f.large <- struct{}{}
	}
	if status, _ := call(t, f, "POST", "/tenants/t/modules/m/invoke", object{"function": "f"}); status != 200 {
		t.Errorf("small: %d", status)
	}
	if _, err := f.turn(canceled()); err == nil {
		t.Error("there was a place")
	}
	<-f.large
	if status, got := call(t, f, "PUT", "/tenants/t/modules/m", object{"version": 1, "wasm": make([]byte, smallBody)}); status != 201 {
		t.Errorf("large: %d %v", status, got)
	}
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func TestDefects(t *testing.T) {
	refusing := &fake{err: &sandbox.Refusal{Step: "size", Reason: "r"}}
	status, got := call(t, startFake(t, refusing, defect.SandboxRefusedAs500), "POST", "/tenants/t/modules/m/invoke", object{"function": "f"})
	if status != 500 || got["step"] != "size" {
		t.Errorf("refused as 500: %d %v", status, got)
	}
	gone := startFake(t, new(fake), defect.SandboxAbsent)
	seen := 0
	for _, r := range gone.routes() {
		seen++
		req, err := http.NewRequestWithContext(t.Context(), r.method, "http://"+gone.Addresses().API+filled(r.path), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != 404 {
			t.Errorf("absent: %s %s: %d", r.method, r.path, resp.StatusCode)
		}
	}
	if seen == 0 {
		t.Fatal("no routes")
	}
	resp, err := http.Get("http://" + startFake(t, new(fake), defect.SandboxProxyAbsent).Addresses().Proxy)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != 502 {
		t.Errorf("proxy absent: %d", resp.StatusCode)
	}
}

// filled puts names into the wildcards of a path.
func filled(path string) string {
	return strings.NewReplacer("{tenant}", "t", "{module}", "m").Replace(path)
}

// TestMadeWhenAsked: a start makes no sandbox, the first request makes one, an error of that stays.
func TestMadeWhenAsked(t *testing.T) {
	var made atomic.Int32
	ctx, cancel := context.WithCancel(context.Background())
	f := newFace(ctx, cancel, withDefaults(Config{}))
	f.core.open = func() (box, string, error) {
		made.Add(1)
		return nil, "", errors.New("no memory")
	}
	if err := f.start(ctx); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n := made.Load(); n != 0 {
		t.Errorf("made %d at the start", n)
	}
	for range 2 {
		if status, got := call(t, f, "GET", "/stats", nil); status != 500 || got["detail"] != "no memory" {
			t.Errorf("%d %v", status, got)
		}
	}
	if n := made.Load(); n != 1 {
		t.Errorf("made %d times", n)
	}
}

// TestCloseCutsOff: a call that would not end is cut off, and nothing is left of the face.
func TestCloseCutsOff(t *testing.T) {
	before := runtime.NumGoroutine()
	b := &fake{block: make(chan struct{})}
	f := startFake(t, b)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Post("http://"+f.Addresses().API+"/tenants/t/modules/m/invoke", "application/json", strings.NewReader(`{"function":"f"}`))
		if err == nil {
			_ = resp.Body.Close()
		}
	}()
	<-b.block
	short, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if err := f.Shutdown(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("shutdown: %v", err)
	}
	<-ended
	f.Close()
	if n := b.closed.Load(); n != 1 {
		t.Errorf("the sandbox was closed %d times", n)
	}
	if f.enter() {
		t.Error("a request enters a closed face")
	}
	noneLeft(t, before)
}

func TestShutdownDrains(t *testing.T) {
	f := startFake(t, new(fake))
	if status, _ := call(t, f, "GET", "/stats", nil); status != 200 {
		t.Fatal(status)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := f.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	select {
	case err := <-f.Failed():
		t.Errorf("failed: %v", err)
	default:
	}
}

// noneLeft waits until no more goroutines run than before.
func noneLeft(t *testing.T, before int) {
	t.Helper()
	for end := time.Now().Add(patience); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			stacks := make([]byte, 1<<16)
			t.Fatalf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), stacks[:runtime.Stack(stacks, true)])
		}
	}
}

// TestFolder: the private folder is its owner's alone and goes with the face; a named one stays.
func TestFolder(t *testing.T) {
	named := filepath.Join(t.TempDir(), "cache")
	seen := 0
	for _, dir := range []string{"", named} {
		seen++
		f, err := Start(t.Context(), Config{Dir: dir, Registerer: prometheus.NewRegistry()})
		if err != nil {
			t.Fatal(err)
		}
		if status, got := call(t, f, "GET", "/stats", nil); status != 200 {
			t.Fatalf("%d %v", status, got)
		}
		folder := f.core.folder
		f.Close()
		if dir != "" {
			if _, err := os.Stat(dir); folder != "" || err != nil {
				t.Errorf("the named folder: %q, %v", folder, err)
			}
			continue
		}
		if _, err := os.Stat(folder); folder == "" || !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the private folder %q: %v", folder, err)
		}
	}
	if seen == 0 {
		t.Fatal("no folders")
	}
}
