package face

import (
	"bytes"
	"crypto/ed25519"
	"crypto/mldsa"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/assay-bench/assay/fixtures/wasm"
	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/sandbox"
)

// customer is a tenant of a face, with its keys.
type customer struct {
	t       testing.TB
	f       *Face
	name    string
	ed25519 ed25519.PrivateKey
	mldsa65 *mldsa.PrivateKey
}

func newCustomer(t testing.TB, f *Face, name, tier string) *customer {
	t.Helper()
	seed := bytes.Repeat([]byte{7}, ed25519.SeedSize)
	second, err := mldsa.NewPrivateKey(mldsa.MLDSA65(), seed)
	if err != nil {
		t.Fatal(err)
	}
	c := &customer{t, f, name, ed25519.NewKeyFromSeed(seed), second}
	keys := object{"ed25519": []byte(c.ed25519.Public().(ed25519.PublicKey)), "mldsa65": c.mldsa65.PublicKey().Bytes()}
	if status, got := call(t, f, "PUT", "/tenants/"+name, object{"tier": tier, "keys": keys}); status != 200 {
		t.Fatalf("tenant %s: %d %v", name, status, got)
	}
	return c
}

func (c *customer) signed(module string, version uint64, code []byte) object {
	c.t.Helper()
	message := sandbox.SignedBytes(c.name, module, version, code)
	second, err := c.mldsa65.Sign(nil, message, &mldsa.Options{})
	if err != nil {
		c.t.Fatal(err)
	}
	return object{"wasm": code, "version": version,
		"signatures": object{"ed25519": ed25519.Sign(c.ed25519, message), "mldsa65": second}}
}

func (c *customer) upload(module string, version uint64, code []byte, more object) (int, object) {
	c.t.Helper()
	body := c.signed(module, version, code)
	for k, v := range more {
		body[k] = v
	}
	return call(c.t, c.f, "PUT", c.path(module), body)
}

func (c *customer) path(module string) string { return "/tenants/" + c.name + "/modules/" + module }

func (c *customer) published(module string, version uint64, code []byte, more object) {
	c.t.Helper()
	if status, got := c.upload(module, version, code, more); status != 201 || got["version"] != float64(version) {
		c.t.Fatalf("publish %s: %d %v", module, status, got)
	}
}

func (c *customer) invoke(module, function string, more object) (int, object) {
	c.t.Helper()
	body := object{"function": function}
	for k, v := range more {
		body[k] = v
	}
	return call(c.t, c.f, "POST", c.path(module)+"/invoke", body)
}

// TestLifeOfAModule goes through every call on a module, with the engine of the reference behind.
func TestLifeOfAModule(t *testing.T) {
	before := runtime.NumGoroutine()
	f := startReal(t)
	c := newCustomer(t, f, "acme", "pro")
	fib := object{"exports": []object{{"name": "fib", "params": []string{"i32"}, "results": []string{"i64"}}},
		"canary": object{"function": "fib", "args": []string{"10"}, "results": []string{"55"}}}
	c.published("fib", 1, wasm.Module("fib"), fib)
	status, got := c.invoke("fib", "fib", object{"args": []string{"20"}})
	if status != 200 || fmt.Sprint(got["results"]) != "[6765]" || got["version"] != 1.0 || got["fuel"].(float64) < 1 {
		t.Errorf("fib: %d %v", status, got)
	}
	fib["engine"] = "interpreter"
	c.published("fib", 2, wasm.Module("fib"), fib)
	if status, got = c.invoke("fib", "fib", object{"args": []string{"20"}}); fmt.Sprint(got["results"]) != "[6765]" || got["version"] != 2.0 {
		t.Errorf("interpreter: %d %v", status, got)
	}
	c.published("echo", 1, wasm.Module("echo-c"), object{"abi": "buffer"})
	if status, got = c.invoke("echo", "upper", object{"input": []byte("shout")}); status != 200 || got["output"] != "U0hPVVQ=" {
		t.Errorf("upper: %d %v", status, got)
	}
	c.published("traps", 1, wasm.Module("traps"), nil)
	if status, got = c.invoke("traps", "t_div_zero", nil); status != 422 || got["class"] != "divide-by-zero" || got["instance"] == "" {
		t.Errorf("trap: %d %v", status, got)
	}
	c.published("spin", 1, wasm.Module("spin"), nil)
	if status, got = c.invoke("spin", "spin", nil); status != 422 || got["class"] != "fuel" {
		t.Errorf("spin: %d %v", status, got)
	}
	cases := []struct {
		name   string
		status int
		got    object
		detail string
	}{}
	ask := func(name string, want int, detail string, status int, got object) {
		cases = append(cases, struct {
			name   string
			status int
			got    object
			detail string
		}{name, want, got, detail})
		if text, _ := got["detail"].(string); status != want || !strings.Contains(text, detail) {
			t.Errorf("%s: %d %v, want %d", name, status, got, want)
		}
	}
	again := func(name string, want int, detail, method, path string, body any) {
		status, got := call(t, f, method, path, body)
		ask(name, want, detail, status, got)
	}
	status, got = c.invoke("fib", "nope", nil)
	ask("no function", 404, "nope", status, got)
	status, got = c.invoke("fib", "fib", nil)
	ask("no arguments", 400, "arguments", status, got)
	status, got = c.invoke("none", "fib", nil)
	ask("no module", 404, "none", status, got)
	again("no tenant", 404, "nobody", "POST", "/tenants/nobody/modules/fib/invoke", object{"function": "fib"})
	again("delete", 204, "", "DELETE", c.path("traps"), nil)
	again("delete again", 404, "traps", "DELETE", c.path("traps"), nil)
	again("upload of nobody", 404, "nobody", "PUT", "/tenants/nobody/modules/m", object{"version": 1})
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
	_, stats := call(t, f, "GET", "/stats", nil)
	acme := stats["tenants"].(object)["acme"].(object)
	if acme["traps"].(object)["divide-by-zero"] != 1.0 || acme["calls"].(float64) < 4 || stats["engine"] != "wazero v1.12.0" {
		t.Errorf("stats: %v", stats)
	}
	if cache := stats["cache"].(object); cache["mode"] != "0700" || !strings.HasPrefix(cache["dir"].(string), f.core.folder) {
		t.Errorf("cache: %v in %s", cache, f.core.folder)
	}
	_, audit := call(t, f, "GET", "/audit?since=1", nil)
	if events := audit["events"].([]any); len(events) == 0 || events[0].(object)["seq"] != 2.0 {
		t.Errorf("audit: %v", events)
	}
	f.Close()
	noneLeft(t, before)
}

// TestRefusals: each step that an upload can show over HTTP, with its status and reason, and the old
// version serves on.
func TestRefusals(t *testing.T) {
	f := startReal(t)
	c := newCustomer(t, f, "acme", "free")
	code := wasm.Module("fib")
	c.published("m", 5, code, nil)
	unsigned := object{"signatures": object{}}
	altered := func(b []byte) []byte { return append(bytes.Clone(b), 0) }
	cases := []struct {
		name    string
		version uint64
		code    []byte
		more    object
		step    string
	}{
		{"no module", 6, nil, nil, ""},
		{"unsigned", 6, code, unsigned, "signature"},
		{"of another name", 6, code, object{"signatures": c.signed("other", 6, code)["signatures"]}, "signature"},
		{"altered", 6, altered(code), object{"signatures": c.signed("m", 6, code)["signatures"]}, "signature"},
		{"same version", 5, code, nil, "version"},
		{"version 0", 0, code, nil, "version"},
		{"table bomb", 6, wasm.Module("table-bomb"), nil, "structure"},
		{"too many pages", 6, wasm.Module("memory-initial-17"), nil, "structure"},
		{"not a module", 6, []byte("hello"), nil, "structure"},
		{"unknown import", 6, wasm.Module("unknown-import"), nil, "structure"},
		{"forged fuel", 6, wasm.Module("forged-fuel"), nil, "validation"},
		{"endless start", 6, wasm.Module("start-endless"), nil, "instantiate"},
		{"canary", 6, code, object{"canary": object{"function": "fib", "args": []string{"10"}, "results": []string{"54"}}}, "canary"},
		{"export", 6, code, object{"exports": []object{{"name": "missing"}}}, "structure"},
		{"9 MiB", 6, make([]byte, 9<<20), unsigned, "size"},
	}
	seen := 0
	for _, k := range cases {
		seen++
		status, got := c.upload("m", k.version, k.code, k.more)
		if status != 403 || (k.step != "" && got["step"] != k.step) || got["reason"] == nil {
			t.Errorf("%s: %d %v, want step %s", k.name, status, got, k.step)
		}
		if status, got := c.invoke("m", "fib", object{"args": []string{"10"}}); status != 200 || got["version"] != 5.0 {
			t.Errorf("%s: afterwards %d %v", k.name, status, got)
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

func TestRealStream(t *testing.T) {
	f := startReal(t)
	c := newCustomer(t, f, "acme", "enterprise")
	c.published("echo", 1, wasm.Module("echo-c"), object{"abi": "buffer"})
	stream := func(module, function string, body []byte) (*http.Response, []byte) {
		t.Helper()
		resp, err := http.Post("http://"+f.Addresses().API+c.path(module)+"/stream?function="+function, "application/octet-stream", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		got, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, got
	}
	body := bytes.Repeat([]byte("shout "), 100_000)
	resp, got := stream("echo", "upper", body)
	if resp.StatusCode != 200 || !bytes.Equal(got, bytes.ToUpper(body)) || resp.Trailer.Get(streamField) != "complete" {
		t.Errorf("upper: %d, %d bytes, trailer %q", resp.StatusCode, len(got), resp.Trailer.Get(streamField))
	}
	resp, got = stream("echo", "fail", body)
	if p := decoded(t, resp, got); resp.StatusCode != 422 || p["class"] != "guest-error" {
		t.Errorf("fail: %d %v", resp.StatusCode, p)
	}
	resp, got = stream("none", "upper", body)
	if resp.StatusCode != 404 {
		t.Errorf("no module: %d %s", resp.StatusCode, got)
	}
}

// TestFilter loads filters and sends requests through them.
func TestFilter(t *testing.T) {
	before := runtime.NumGoroutine()
	var asked atomic.Int32
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = io.WriteString(w, "upstream")
	}))
	defer upstream.Close()
	f := startReal(t)
	c := newCustomer(t, f, "acme", "enterprise")
	load := func(guest string, version uint64) (int, object) {
		body := c.signed(filterName, version, wasm.Module(guest))
		body["tenant"], body["upstream"] = "acme", strings.TrimPrefix(upstream.URL, "http://")
		return call(t, f, "PUT", "/proxy/filter", body)
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	get := func() (int, string) {
		t.Helper()
		resp, err := client.Get("http://" + f.Addresses().Proxy + "/")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	if status, _ := get(); status != 503 {
		t.Errorf("without a filter: %d", status)
	}
	if status, got := load("proxy-no-marker", 1); status != 403 || got["step"] != "proxy" || got["reason"] == "" {
		t.Errorf("no marker: %d %v", status, got)
	}
	if _, got := call(t, f, "GET", "/proxy", nil); got["loaded"] != false {
		t.Errorf("after a refusal: %v", got)
	}
	if status, got := load("proxy-log-order", 1); status != 201 || got["version"] != 1.0 { // the refused one left no version behind
		t.Fatalf("load: %d %v", status, got)
	}
	if status, body := get(); status != 200 || body != "upstream" || asked.Load() != 1 {
		t.Errorf("through the filter: %d %q, upstream asked %d times", status, body, asked.Load())
	}
	_, state := call(t, f, "GET", "/proxy", nil)
	if lines := state["log"].([]any); state["loaded"] != true || state["version"] != 1.0 || len(lines) == 0 {
		t.Errorf("state: %v", state)
	}
	if status, got := load("proxy-log-order", 1); status != 403 || got["step"] != "version" {
		t.Errorf("the version again: %d %v", status, got)
	}
	if status, got := load("proxy-config-false", 2); status != 403 || got["step"] != "proxy" {
		t.Errorf("configuration refused: %d %v", status, got)
	}
	if status, _ := get(); status != 200 {
		t.Errorf("the old filter after a refusal: %d", status)
	}
	if status, got := load("fib", 2); status != 403 {
		t.Errorf("no filter at all: %d %v", status, got)
	}
	upstream.Close()
	f.Close()
	noneLeft(t, before)
}

func TestColdstart(t *testing.T) {
	f := startReal(t)
	status, got := call(t, f, "POST", "/coldstart", object{"samples": 2})
	rows, _ := got["rows"].([]any)
	if status != 200 || got["wazero"] != sandbox.WazeroVersion {
		t.Fatalf("%d %v", status, got)
	}
	points := map[string]bool{}
	for _, row := range rows {
		r := row.(object)
		points[fmt.Sprint(r["engine"], r["start"], r["end"])] = true
		if r["n"].(float64) < 2 || r["checked"] != true {
			t.Errorf("row %v", r)
		}
	}
	if len(points) != 16 {
		t.Errorf("%d pairs of points, want 16", len(points))
	}
	overheads, _ := got["overheads"].([]any)
	if len(overheads) != 2 {
		t.Errorf("%d rows of overheads, want one for each engine", len(overheads))
	}
	f.measuring.Lock()
	defer f.measuring.Unlock()
	if status, _ := call(t, f, "POST", "/coldstart", object{"samples": 2}); status != 429 {
		t.Errorf("beside another measurement: %d", status)
	}
}

// TestNN: the model that guests load by name gives what its description says.
func TestNN(t *testing.T) {
	f := startReal(t)
	c := newCustomer(t, f, "acme", "enterprise")
	c.published("nn", 1, wasm.Module("nn"), nil)
	if status, got := c.invoke("nn", "roundtrip", nil); status != 200 || fmt.Sprint(got["results"]) != "[0]" {
		t.Errorf("roundtrip: %d %v", status, got)
	}
	models, err := models()
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := models.Find("linear-4x3"); !ok {
		t.Error("no linear-4x3")
	}
}

func TestRefusedAs500(t *testing.T) {
	c := newCustomer(t, startReal(t, defect.SandboxRefusedAs500), "acme", "free")
	if status, got := c.upload("m", 1, wasm.Module("fib"), object{"signatures": object{}}); status != 500 {
		t.Errorf("%d %v", status, got)
	}
}

// TestRandomBodies: no body makes the API fail, or answer in another form.
func TestRandomBodies(t *testing.T) {
	f := startReal(t)
	c := newCustomer(t, f, "t", "free")
	c.published("m", 1, wasm.Module("echo-c"), object{"abi": "buffer"})
	client := &http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	random := rand.New(rand.NewPCG(1, 2))
	var bodied []route
	for _, r := range f.routes() {
		if r.method != http.MethodGet && r.method != http.MethodDelete && r.path != "/coldstart" && r.path != "/gc" {
			bodied = append(bodied, r)
		}
	}
	kinds := map[int]int{}
	for i := range 1000 {
		r := bodied[i%len(bodied)]
		path := filled(r.path)
		if strings.HasSuffix(path, "/stream") {
			continue // bytes are what it is for
		}
		status, got := callWith(t, client, f, r.method, path, randomBody(random))
		kinds[status]++
		if status >= 500 {
			t.Errorf("%s %s: %d %v", r.method, path, status, got)
		}
	}
	if kinds[400] == 0 || kinds[403] == 0 || kinds[200]+kinds[201] == 0 {
		t.Errorf("statuses %v: the bodies are all alike", kinds)
	}
}

// randomBody is JSON of the API's members with values at random, with noise in one of four.
func randomBody(r *rand.Rand) string {
	noise := make([]byte, r.IntN(64))
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	coded := base64.StdEncoding.EncodeToString(noise)
	values := []string{`"free"`, `"` + coded + `"`, "1", "-1", "1e9", "null", "{}", "[]", `["1"]`, `"echo"`, `{"ed25519":"` + coded + `"}`,
		fmt.Sprint(r.Uint64()), `"127.0.0.1:1"`, `"t"`, "true", `[{"name":"echo","params":["i32"]}]`}
	members := [][]string{{"tier", "keys"}, {"wasm", "version", "abi", "engine", "exports", "signatures", "canary"},
		{"function", "args", "input"}, {"tenant", "wasm", "version", "upstream", "signatures", "configuration"}}[r.IntN(4)]
	plausible := map[string]string{"tier": values[0], "keys": `{}`, "function": `"echo"`, "version": "2", "wasm": values[1],
		"tenant": `"t"`, "upstream": values[12], "input": values[1]}
	var text []string
	for _, m := range members {
		value, ok := plausible[m]
		if !ok && r.IntN(2) == 0 {
			continue
		}
		if !ok || r.IntN(4) == 0 {
			value = values[r.IntN(len(values))]
		}
		text = append(text, `"`+m+`":`+value)
	}
	body := []byte("{" + strings.Join(text, ",") + "}")
	if r.IntN(4) == 0 {
		at := r.IntN(len(body))
		body[at] = byte(r.Uint32())
	}
	return string(body)
}

func TestTooManyTenants(t *testing.T) {
	f := startReal(t)
	for i := range sandbox.MaxTenants + 1 {
		want := 200
		if i == sandbox.MaxTenants {
			want = 409
		}
		if status, got := call(t, f, "PUT", fmt.Sprintf("/tenants/t%d", i), object{"tier": "free"}); status != want {
			t.Errorf("tenant %d: %d %v, want %d", i, status, got, want)
		}
	}
}
