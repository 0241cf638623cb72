package router

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios/backends"
	scenario "github.com/assay-bench/assay/scenarios/router"
	"github.com/assay-bench/assay/scenarios/target"
	"github.com/assay-bench/assay/suites"
)

// vendor is a router of another kind than the reference: it counts words that a text shares with the examples.
// It reads what it is told of upstreams from a file at each request, so that the hook configure is cp.
type vendor struct{ file string }

func (v vendor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var routing scenario.Routing
	raw, err := os.ReadFile(v.file)
	if err != nil || json.Unmarshal(raw, &routing) != nil {
		v.fail(w, http.StatusServiceUnavailable, "not configured")
		return
	}
	if r.Method == http.MethodGet {
		data := []any{map[string]any{"id": routing.Model, "object": "model", "created": 0, "owned_by": "vendor"}}
		v.answer(w, http.StatusOK, map[string]any{"object": "list", "data": data})
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 8<<20))
	if err != nil {
		v.fail(w, http.StatusRequestEntityTooLarge, "too long")
		return
	}
	members, err := member(body)
	var q scenario.Ask
	if err != nil || json.Unmarshal(body, &q) != nil || q.Model == "" || len(q.Messages) == 0 {
		v.fail(w, http.StatusBadRequest, "no request")
		return
	}
	up, ok := pick(routing, q)
	if !ok {
		v.fail(w, http.StatusNotFound, "no such model")
		return
	}
	members["model"] = up.Model
	v.forward(w, r, up, members)
}

// pick finds the upstream with the most words in common, or that of a named model.
func pick(routing scenario.Routing, q scenario.Ask) (best scenario.Upstream, ok bool) {
	most, words := -1, map[string]bool{}
	for _, word := range strings.Fields(strings.ToLower(q.Messages[len(q.Messages)-1].Content)) {
		words[word] = true
	}
	for _, u := range routing.Upstreams {
		if u.Model == q.Model {
			return u, true
		}
		for _, e := range u.Examples {
			n := 0
			for _, word := range strings.Fields(strings.ToLower(e)) {
				n += one(words[word])
			}
			if n > most {
				most, best = n, u
			}
		}
	}
	return best, q.Model == routing.Model
}

func (v vendor) forward(w http.ResponseWriter, r *http.Request, up scenario.Upstream, members map[string]any) {
	raw, err := json.Marshal(members)
	if err != nil {
		v.fail(w, http.StatusBadRequest, err.Error())
		return
	}
	request, err := http.NewRequestWithContext(r.Context(), http.MethodPost, up.URL+"/chat/completions", bytes.NewReader(raw))
	if err != nil {
		v.fail(w, http.StatusBadGateway, err.Error())
		return
	}
	request.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	request.Header.Set("Baggage", "model_version=vendor")
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		v.fail(w, http.StatusBadGateway, err.Error())
		return
	}
	defer func() { _ = response.Body.Close() }()
	w.Header().Set("Content-Type", response.Header.Get("Content-Type"))
	w.WriteHeader(response.StatusCode)
	buffer, control := make([]byte, 4096), http.NewResponseController(w)
	for {
		n, err := response.Body.Read(buffer)
		_, _ = w.Write(buffer[:n])
		_ = control.Flush()
		if err == io.EOF {
			return
		}
		if err != nil {
			panic(http.ErrAbortHandler)
		}
	}
}

func (v vendor) answer(w http.ResponseWriter, status int, x any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(x) // a client that goes away is no error here
}

func (v vendor) fail(w http.ResponseWriter, status int, text string) {
	v.answer(w, status, map[string]any{"error": map[string]any{"message": text, "type": "invalid_request_error", "param": nil, "code": nil}})
}

// The chat checks judge a router that is not ours: told of upstreams by its hook, or before it was started.
func TestChatChecksOnAnotherRouter(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "told.json")
	server := httptest.NewServer(vendor{file})
	defer server.Close()
	addr := strings.TrimPrefix(server.URL, "http://")

	static, err := backends.Start(t.Context(), backends.Options{OpenAI: upstreamsOf, Only: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := static.Stop(); err != nil {
			t.Error(err)
		}
	}()
	var there []string
	for i := range upstreamsOf {
		there = append(there, static.Endpoints()[named("openai-%d", i+1)])
	}
	known, err := scenario.NewRouting("auto", there)
	if err != nil {
		t.Fatal(err)
	}
	for name, router := range map[string]*target.Router{
		"hook":   {Configure: "cp {upstreams} " + file, Folder: dir},
		"static": {Upstreams: there},
	} {
		passed := 0
		if name == "static" {
			raw, err := json.Marshal(known)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, raw, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range checks {
			if !strings.HasPrefix(c.ID, "router/openai/") {
				continue
			}
			for _, k := range c.Keys() {
				env, l := newEnv(t, addr, k.Case)
				env.Claims.Router, env.Claims.Features = router, []string{string(features.RouterOpenAI)}
				if err := c.Drive(t.Context(), env); err != nil {
					t.Fatal(err)
				}
				f := c.Judge(suites.Trace{Key: k, Evidence: l.all})
				passed += one(f.Status == results.Pass)
				if f.Status != results.Pass {
					t.Errorf("%s: %s is %s %s: %s", name, k, f.Status, f.Reason, f.Observed)
				}
			}
		}
		if passed < 40 {
			t.Errorf("%s: %d cases passed", name, passed)
		}
	}
}

// What the target can not be told of is a failure of its own, with a reason that says what to do.
func TestChatChecksOnARouterThatIsToldNothing(t *testing.T) {
	for name, router := range map[string]*target.Router{
		"nothing":    nil,
		"too few":    {Upstreams: []string{"127.0.0.1:1"}},
		"not there":  {Upstreams: []string{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"}},
		"failing":    {Configure: "false {upstreams}"},
		"no program": {Configure: "./no-such-program {upstreams}"},
	} {
		env, l := newEnv(t, "127.0.0.1:1", "plain")
		env.Claims.Router, env.Claims.Features = router, []string{string(features.RouterOpenAI)}
		c := checks[0]
		for _, x := range checks {
			if x.ID == "router/openai/one-upstream" {
				c = x
			}
		}
		if err := c.Drive(t.Context(), env); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if f := c.Judge(suites.Trace{Key: env.Key, Evidence: l.all}); f.Reason != reasonNotConfigured || f.Observed == "" {
			t.Errorf("%s: %s %s %q", name, f.Status, f.Reason, f.Observed)
		}
	}
}
