package backends_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios/backends"
)

// chats keeps what upstreams with the chat API witness.
type chats struct {
	mu  sync.Mutex
	got []backends.ChatArrival
}

func (c *chats) put(from results.Source, kind results.Kind, data any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a, ok := data.(backends.ChatArrival); ok && from == results.FromUpstream && kind == backends.ChatArrivedKind {
		c.got = append(c.got, a)
	}
	return nil
}

// arrivals waits until n were witnessed: an upstream writes them down when it is done with them, which may be after
// the client is.
func (c *chats) arrivals(t *testing.T, n int) []backends.ChatArrival {
	t.Helper()
	for until := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		c.mu.Lock()
		got := slices.Clone(c.got)
		c.mu.Unlock()
		if len(got) >= n || time.Now().After(until) {
			if len(got) != n {
				t.Fatalf("%d arrivals, want %d", len(got), n)
			}
			return got
		}
	}
}

func startChats(t *testing.T, n int) (map[string]string, *chats) {
	t.Helper()
	c := &chats{}
	b, err := backends.Start(context.Background(), backends.Options{OpenAI: n, Only: true, Put: c.put})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Stop(); err != nil {
			t.Error(err)
		}
	})
	return b.Endpoints(), c
}

func post(t *testing.T, addr, body string) (int, string, error) {
	t.Helper()
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Post("http://"+addr+"/v1/chat/completions", "application/json", strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = r.Body.Close() }()
	raw, err := io.ReadAll(r.Body)
	return r.StatusCode, string(raw), err
}

func control(t *testing.T, method, url string) string {
	t.Helper()
	q, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	raw, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode >= 300 {
		t.Fatalf("%s %s: %d %v %s", method, url, r.StatusCode, err, raw)
	}
	return string(raw)
}

const ask = `{"model":"m","messages":[{"role":"user","content":"hello"}],"extra":{"kept":true}}`

func TestChatUpstreamsSayWhoTheyAre(t *testing.T) {
	addrs, seen := startChats(t, 3)
	if len(addrs) != 3 {
		t.Fatalf("%d upstreams", len(addrs))
	}
	said := map[string]bool{}
	for name, addr := range addrs {
		status, first, err := post(t, addr, ask)
		_, second, _ := post(t, addr, ask)
		var c struct {
			Object  string
			Choices []struct{ Message struct{ Content string } }
		}
		if err != nil || status != 200 || first != second || json.Unmarshal([]byte(first), &c) != nil || len(c.Choices) != 1 {
			t.Fatalf("%s: %d %v %s", name, status, err, first)
		}
		if !strings.HasPrefix(c.Choices[0].Message.Content, name+" answers ") || c.Object != "chat.completion" {
			t.Errorf("%s says %q", name, c.Choices[0].Message.Content)
		}
		said[c.Choices[0].Message.Content] = true
		if models := control(t, http.MethodGet, "http://"+addr+"/v1/models"); !strings.Contains(models, backends.OpenAIModel(name)) {
			t.Errorf("%s: models %s", name, models)
		}
	}
	got := seen.arrivals(t, 9)
	if len(said) != 3 {
		t.Errorf("%d texts", len(said))
	}
	for _, a := range got {
		if raw, whole := a.Body.Whole(); a.Path == "/v1/chat/completions" && (!whole || string(raw) != ask || a.Model != "m") {
			t.Errorf("witnessed %q of model %q", raw, a.Model)
		}
	}
}

func TestChatUpstreamStreams(t *testing.T) {
	addrs, seen := startChats(t, 1)
	_, body, err := post(t, addrs["openai-1"], strings.Replace(ask, `"model"`, `"stream":true,"model"`, 1))
	if err != nil || !strings.HasSuffix(body, "\n\ndata: [DONE]\n\n") || strings.Count(body, "data: ") != 6 {
		t.Errorf("%v: %s", err, body)
	}
	if a := seen.arrivals(t, 1)[0]; !a.Stream || a.Sent != len(body) {
		t.Errorf("%+v, %d bytes came", a, len(body))
	}
}

func TestChatUpstreamFaults(t *testing.T) {
	addrs, seen := startChats(t, 1)
	addr, n := addrs["openai-1"], 0
	for _, f := range backends.Faults() {
		control(t, http.MethodPut, "http://"+addr+"/assay/fault/"+string(f))
		began := time.Now()
		status, body, err := post(t, addr, ask)
		n++
		ok := map[backends.Fault]bool{
			backends.FaultSlow:    err == nil && status == 200 && time.Since(began) >= backends.SlowBy,
			backends.FaultError:   status == 500 && strings.Contains(body, `"error":{`),
			backends.FaultLimit:   status == 429 && strings.Contains(body, `"error":{`),
			backends.FaultCut:     err != nil && status == 200 && body != "",
			backends.FaultGarbage: err == nil && status == 200 && !json.Valid([]byte(body)),
			backends.FaultPause:   err == nil && status == 200,
			backends.FaultRefuse:  err != nil && status == 0,
		}[f]
		if !ok {
			t.Errorf("%s: %d %v %q", f, status, err, body)
		}
		if a := seen.arrivals(t, n)[n-1]; a.Fault != f || a.Status != status && f != backends.FaultRefuse {
			t.Errorf("%s is witnessed as %+v", f, a)
		}
	}
	control(t, http.MethodDelete, "http://"+addr+"/assay/fault")
	if status, _, err := post(t, addr, ask); status != 200 || err != nil {
		t.Errorf("after the faults: %d %v", status, err)
	}
	var told backends.Told
	raw := control(t, http.MethodGet, "http://"+addr+"/assay/arrivals?after=3")
	if err := json.Unmarshal([]byte(raw), &told); err != nil || told.Last != n+1 || len(told.Arrived) != n-2 || told.Arrived[0].N != 4 {
		t.Errorf("%v: %s", err, raw)
	}
}

func TestChatUpstreamRefusesWhatIsNoRequest(t *testing.T) {
	addrs, seen := startChats(t, 1)
	for i, bad := range []string{"", "{", `[1]`, `{"model":5}`, strings.Repeat("x", 5<<20)} {
		status, body, err := post(t, addrs["openai-1"], bad)
		if err == nil && (status != 400 || !strings.Contains(body, `"invalid_request_error"`)) {
			t.Errorf("case %d: %d %s", i, status, body)
		}
	}
	seen.arrivals(t, 5)
	if _, err := backends.Start(t.Context(), backends.Options{OpenAI: backends.MaxOpenAI + 1}); err == nil {
		t.Error("too many upstreams were started")
	}
}
