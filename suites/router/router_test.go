package router

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	scenario "github.com/assay-bench/assay/scenarios/router"
	"github.com/assay-bench/assay/scenarios/target"
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
func (l *log) call(t *testing.T, name string, status int, answer any) *log {
	t.Helper()
	raw, err := results.Marshal(answer)
	if err != nil {
		t.Fatal(err)
	}
	return l.add(t, scenario.Called, scenario.Call{Name: name, Status: status, Answer: raw, Took: time.Millisecond})
}

func all(t *testing.T) []suites.Check {
	t.Helper()
	out := slices.Concat(claims, checks)
	if len(out) < 70 {
		t.Fatalf("%d checks: this test proves little", len(out))
	}
	return out
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
		if r.Subject == "target" && len(s.CheckedBy(r.ID)) == 0 {
			t.Errorf("%s is not covered", r.ID)
		}
	}
	if rows != 46+44+5 {
		t.Errorf("%d rows, want 46 of the specification, 44 more and 5 of the features", rows)
	}
	for _, c := range all(t) {
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

// What a vendor's router is judged by over the chat API needs no API of ours.
func TestChatChecksNeedTheChatAPIAlone(t *testing.T) {
	seen := 0
	for _, c := range all(t) {
		if !strings.HasPrefix(c.ID, "router/openai/") {
			continue
		}
		seen++
		for _, k := range c.Keys() {
			if got := c.NeedsOf(k.Case); !slices.Equal(got, []features.Feature{features.RouterOpenAI}) {
				t.Errorf("%s needs %v", k, got)
			}
		}
		if !c.Cost.Exclusive {
			t.Errorf("%s is not exclusive: a hook configures the whole router", c.ID)
		}
	}
	if seen < 20 {
		t.Errorf("%d checks", seen)
	}
}

func newEnv(t *testing.T, addr, kase string) (*scenarios.Env, *log) {
	t.Helper()
	l, dialer := &log{}, net.Dialer{}
	return &scenarios.Env{
		Key: results.Key{Check: t.Name(), Case: kase}, Token: "test-1",
		Endpoints: target.Endpoints{scenario.Endpoint: addr, scenario.ChatEndpoint: addr, scenario.GRPCEndpoint: addr},
		Dial:      dialer.DialContext, Clock: results.ClockSince(time.Now()), Rand: rand.New(rand.NewPCG(3, 4)), Put: l.put,
		Claims: target.Claims{Features: []string{string(features.RouterAPI), string(features.RouterOpenAI)}, Limits: target.Limits{AnswerMillis: 1}},
	}, l
}

// liars are targets that answer every call with the same text.
var liars = map[string]struct {
	status int
	text   string
}{
	"nothing": {200, ``},
	"text":    {200, `not found`},
	"empty":   {200, `{}`},
	"null":    {201, `null`},
	"list":    {200, `[]`},
	"refusal": {403, `{"type":"about:blank","title":"no","status":403,"reason":"metadata","detail":"no"}`},
	"chat":    {200, `{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"openai-1 answers"}}]}`},
	"teapot":  {503, `{"status":503}`},
	"yes-man": {200, `{"version":1,"digest":"d","policy":"invoices","decisions":[{"policy":"ant"}],"embeddings":[{"vector":[1]}],"votes":[{"policy":"a","sum":1,"weight":1}],"results":[{"applied":true}],"rows":[{"row":"x#0","vector":[1,0]}]}`},
}

// judged drives a case against a target without substance, with its control.
func judged(t *testing.T, c suites.Check, kase, name, addr string) {
	t.Helper()
	env, l := newEnv(t, addr, kase)
	if c.Control != nil {
		if err := c.Control.Drive(t.Context(), env); err != nil {
			t.Errorf("%s %s#%s: control: %v", name, c.ID, kase, err)
		}
		if ok, observed := c.Control.Judge(l.all); ok {
			t.Errorf("%s %s#%s: the control succeeds: %s", name, c.ID, kase, observed)
		}
	}
	env, l = newEnv(t, addr, kase)
	if err := c.Drive(t.Context(), env); err != nil {
		t.Errorf("%s %s#%s: %v", name, c.ID, kase, err)
	}
	f := c.Judge(suites.Trace{Key: env.Key, Evidence: l.all})
	switch {
	case f.Status == results.Pass && c.Control == nil:
		t.Errorf("%s %s#%s passes: %s", name, c.ID, kase, f.Observed)
	case f.Status != results.Pass && !slices.Contains(c.Reasons, f.Reason) && f.Reason != suites.ReasonHostNoise:
		t.Errorf("%s %s#%s: %s, reason %q is not in the set (%s)", name, c.ID, kase, f.Status, f.Reason, f.Observed)
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
			for _, c := range all(t) {
				for _, k := range c.Keys() {
					seen.Store(k, true)
					judged(t, c, k.Case, name, strings.TrimPrefix(server.URL, "http://"))
				}
			}
		})
	}
	t.Cleanup(func() {
		n := 0
		seen.Range(func(any, any) bool { n++; return true })
		if n < 140 {
			t.Errorf("%d cases were driven", n)
		}
	})
}

func TestNobodyIsThere(t *testing.T) {
	for _, c := range all(t) {
		for _, k := range c.Keys() {
			judged(t, c, k.Case, "nobody", "127.0.0.1:1")
		}
	}
}

// Evidence that nobody wrote passes nothing.
func TestJudgesWithoutEvidence(t *testing.T) {
	for _, c := range all(t) {
		for _, k := range c.Keys() {
			if f := c.Judge(suites.Trace{Key: k}); f.Status == results.Pass {
				t.Errorf("%s passes without evidence", k)
			}
		}
	}
}

// decision is one that the rows of votePolicies give for axis(0,1) and k 3.
func decision() (scenario.Decision, scenario.Version) {
	v := scenario.Version{Version: 2, Digest: "d"}
	for _, id := range sortedKeys(votePolicies()) {
		p := votePolicies()[id]
		for i, x := range p.Vectors {
			v.Rows = append(v.Rows, scenario.Row{Row: fmt.Sprintf("%s#%d", id, i), Policy: id, Weight: p.Weight, Vector: x})
		}
	}
	d := scenario.Decision{Version: 2, VersionDigest: "d"}
	rows := nearest(axis(0, 1), v.Rows, 3)
	for _, r := range rows {
		d.Neighbours = append(d.Neighbours, scenario.Neighbour{Row: r.Row.Row, Policy: r.Policy, Cosine: r.cosine, Weight: r.Weight})
	}
	d.Votes = vote(rows, shares(v.Rows))
	d.Policy, d.TopCosine, d.Margin = d.Votes[0].Policy, rows[0].cosine, margin(d.Votes)
	return d, v
}

func TestRecomputed(t *testing.T) {
	d, v := decision()
	// by hand: b gets 0.25 × (0.8 + 0.7), a 0.25 × 0.9; the margin is (0.375 − 0.225) / 0.6
	if d.Policy != "b" || !near(d.Votes[0].Sum, 0.375) || !near(d.Votes[1].Sum, 0.225) || !near(d.Margin, 0.25) {
		t.Fatalf("%+v, margin %v", d.Votes, d.Margin)
	}
	if reason, observed := recomputed(d, v, axis(0, 1), 3); reason != "" {
		t.Fatalf("%s: %s", reason, observed)
	}
	seen := 0
	for want, bend := range map[string]func(*scenario.Decision){
		reasonWrongPolicy: func(d *scenario.Decision) { d.Policy = "a" },
		reasonWrongSum:    func(d *scenario.Decision) { d.Votes[0].Sum += 0.01 },
		reasonWrongOrder:  func(d *scenario.Decision) { slices.Reverse(d.Neighbours) },
		reasonMissing:     func(d *scenario.Decision) { d.Neighbours = d.Neighbours[:2] },
	} {
		seen++
		bent, _ := decision()
		bend(&bent)
		if reason, observed := recomputed(bent, v, axis(0, 1), 3); reason != want {
			t.Errorf("%s, want %s: %s", reason, want, observed)
		}
	}
	if seen != 4 {
		t.Errorf("%d cases", seen)
	}
}

func TestStep(t *testing.T) {
	p, u := axis(0, 1), axis(5, 1)
	toward, away := step(p, u, 1, eta, clipNorm), step(p, u, -1, eta, clipNorm)
	if moved := degrees(p, toward); !near(moved, 0.2031) && (moved < 0.15 || moved > 0.2865) {
		t.Errorf("%.4f degrees", moved)
	}
	if degrees(toward, u) >= 90 || degrees(away, u) <= 90 {
		t.Errorf("%.4f and %.4f degrees off the vector", degrees(toward, u), degrees(away, u))
	}
	if free := degrees(p, step(p, u, 1, eta, 2)); free < 2 {
		t.Errorf("without a clip %.4f degrees", free)
	}
}

func TestHealthShares(t *testing.T) {
	got, sum := healthShares(), 0.0
	for _, p := range sortedKeys(got) {
		sum += got[p]
	}
	if !near(sum, 1) || got["b"] >= got["c"] || got["c"] >= got["a"] { // b is slow, c fails now and then
		t.Errorf("%v", got)
	}
}

func TestRiskCoverage(t *testing.T) {
	var sure []Judged
	for i := range 100 {
		sure = append(sure, Judged{Right: "a", Policy: []string{"a", "b"}[one(i >= 60)], Top: 1 - float64(i)/100})
	}
	risk, coverage := riskCoverage(sure)
	if len(risk) != riskPoints || risk[0] != 0 || !near(risk[riskPoints-1], 0.4) || !slices.IsSorted(coverage) || mean(risk) >= 0.4 {
		t.Errorf("risk %v over coverage %v", risk, coverage)
	}
	for i := range sure {
		sure[i].Top = 1 - sure[i].Top
	}
	if risk, _ := riskCoverage(sure); mean(risk) <= 0.4 {
		t.Errorf("an inverted order has area %v", mean(risk))
	}
}

func TestEvents(t *testing.T) {
	for _, c := range []struct {
		name, text string
		n          int
		done       bool
	}{
		{"whole", "data: {\"a\":1}\n\ndata: {\"b\":2}\n\ndata: [DONE]\n\n", 2, true},
		{"windows", "data: {}\r\n\r\ndata: [DONE]\r\n\r\n", 1, true},
		{"comment", ": hello\n\ndata:{}\n\n", 1, false},
		{"after the end", "data: [DONE]\n\ndata: {}\n\n", 1, false},
		{"two lines", "data: {\ndata: }\n\n", 1, false},
		{"nothing", "", 0, false},
	} {
		data, done := events([]byte(c.text))
		if len(data) != c.n || done != c.done {
			t.Errorf("%s: %q, done %v", c.name, data, done)
		}
	}
}

func FuzzEvents(f *testing.F) {
	for _, s := range []string{"data: {}\n\n", "data: [DONE]\n\n", ":\r\n\r\n", "data:\n\n\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		data, done := events(raw)
		for _, d := range data {
			if d == "[DONE]" {
				t.Error("the end is among the events")
			}
		}
		if done && !strings.Contains(string(raw), "[DONE]") {
			t.Error("done without an end")
		}
	})
}

func TestJudgeAudited(t *testing.T) {
	version := func(n int64, rows map[string][]float64) scenario.Version {
		v := scenario.Version{Version: n, Digest: fmt.Sprint(n)}
		for _, id := range sortedKeys(rows) {
			v.Rows = append(v.Rows, scenario.Row{Row: id + "#0", Policy: id, Weight: 1, Vector: rows[id]})
		}
		return v
	}
	before := map[string][]float64{"x": axis(0, 1), "y": axis(1, 1), "z": axis(2, 1)}
	build := func(bend func(*scenario.Log)) *log {
		after := map[string][]float64{"x": before["x"], "y": before["y"], "z": before["z"]}
		var trail scenario.Log
		var answer scenario.FeedbackAnswer
		for i, e := range auditedEvents {
			applied := e.source != ""
			answer.Results = append(answer.Results, scenario.FeedbackResult{Seq: int64(i + 1), Applied: applied})
			trail.Events = append(trail.Events, scenario.LogEvent{Seq: int64(i + 1), Kind: "feedback", Source: e.source, Policy: e.policy, Outcome: e.outcome,
				Applied: applied, Vector: e.vector, Eta: eta, Clip: clipNorm, Row: e.policy + "#0"})
			if applied {
				after[e.policy] = step(after[e.policy], e.vector, map[string]float64{scenario.Confirmed: 1, scenario.Rejected: -1}[e.outcome], eta, clipNorm)
			}
		}
		if bend != nil {
			bend(&trail)
		}
		return (&log{}).call(t, "before", 200, version(1, before)).call(t, "before again", 200, version(1, before)).call(t, "after", 200, version(2, after)).
			call(t, "log", 200, trail).call(t, "feedback", 200, answer)
	}
	for want, bend := range map[string]func(*scenario.Log){
		"":               nil,
		reasonUnlogged:   func(l *scenario.Log) { l.Events = l.Events[1:] },
		reasonIncomplete: func(l *scenario.Log) { l.Events[0].Vector = nil },
		reasonNoReplay:   func(l *scenario.Log) { l.Events[0].Eta = 0.2 },
	} {
		s, err := tell(build(bend).all)
		if err != nil {
			t.Fatal(err)
		}
		if reason, observed := judgeAudited(s); reason != want {
			t.Errorf("%q, want %q: %s", reason, want, observed)
		}
	}
}

// A stall of the target shows in the latency of those that waited for it: it counts from the intended time.
// Proves router/perf/open-loop.
func TestServerCountsFromTheIntendedTime(t *testing.T) {
	var n, stalled sync.Map
	gate := make(chan struct{}, 1) // one at a time: who comes during the stall waits
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		gate <- struct{}{}
		defer func() { <-gate }()
		if _, twice := n.LoadOrStore("first", true); !twice {
			stalled.Store("yes", true)
			timer := time.NewTimer(400 * time.Millisecond)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-r.Context().Done():
			}
		}
		_, _ = w.Write([]byte(`{"policy":"x"}`))
	}))
	defer server.Close()
	env, l := newEnv(t, strings.TrimPrefix(server.URL, "http://"), "")
	b := &bench{scenario.NewAPI(env), env}
	if err := b.server(context.Background(), []string{"hello"}); err != nil {
		t.Fatal(err)
	}
	var all []scenario.Played
	for _, e := range l.all {
		var x scenario.Played
		if e.Kind != played {
			continue
		}
		if err := json.Unmarshal(e.Data, &x); err != nil {
			t.Fatal(err)
		}
		all = append(all, x)
	}
	if len(all) < 2 {
		t.Fatalf("%d attempts after a stall of the first", len(all))
	}
	x := all[0]
	// 150 a second for 1.5 s: about sixty arrive within the stall, more than a hundredth
	if _, ok := stalled.Load("yes"); !ok || x.P99 < 300*time.Millisecond || x.P50 > x.P99 {
		t.Errorf("p50 %s, p99 %s of %d", x.P50, x.P99, x.N)
	}
}
