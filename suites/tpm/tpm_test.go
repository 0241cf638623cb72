package tpm

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	scenario "github.com/assay-bench/assay/scenarios/tpm"
	wire "github.com/assay-bench/assay/scenarios/wire/tls"
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

// call adds a call with its request and answer.
func (l *log) call(t *testing.T, name, path string, request, answer any) *log {
	t.Helper()
	q, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	a, err := json.Marshal(answer)
	if err != nil {
		t.Fatal(err)
	}
	return l.add(t, scenario.Called, scenario.Call{Name: name, Path: path, Request: q, Answer: a})
}

func (l *log) opened(t *testing.T) *log {
	return l.call(t, "open", "/open", scenario.OpenRequest{Deadline: 2000}, scenario.Opened{Session: "1", Backend: "socket"})
}

func (l *log) stored(t *testing.T, name string, response string) *log {
	return l.call(t, name, "/store", map[string]any{"response": []byte(response)}, map[string]any{})
}

func (l *log) got(t *testing.T, name, source, response, code string) *log {
	g := scenario.Got{Source: source, Response: []byte(response)}
	if code != "" {
		g.Error = &scenario.Failure{Code: code}
	}
	return l.call(t, name, "/get", map[string]any{}, g)
}

func allChecks(t *testing.T) []suites.Check {
	t.Helper()
	area, err := Area()
	if err != nil {
		t.Fatal(err)
	}
	claims, err := Claims()
	if err != nil {
		t.Fatal(err)
	}
	s, err := suites.New(claims, area)
	if err != nil {
		t.Fatal(err)
	}
	return s.Checks()
}

func checkOf(t *testing.T, id string) suites.Check {
	t.Helper()
	all := allChecks(t)
	i := slices.IndexFunc(all, func(c suites.Check) bool { return c.ID == id })
	if i < 0 {
		t.Fatalf("no check %s", id)
	}
	return all[i]
}

func TestEveryRowIsCovered(t *testing.T) {
	area, err := Area()
	if err != nil {
		t.Fatal(err)
	}
	covered := map[string]bool{}
	for _, c := range allChecks(t) {
		for _, id := range c.Covers {
			covered[id] = true
		}
		if c.Control == nil && !strings.HasPrefix(c.ID, "claims/") {
			t.Errorf("%s has no positive control", c.ID)
		}
	}
	if len(area.Requirements) == 0 {
		t.Fatal("no rows")
	}
	for _, r := range area.Requirements {
		if !covered[r.ID] {
			t.Errorf("%s is not covered", r.ID)
		}
	}
}

func newEnv(t *testing.T, addr, kase string) (*scenarios.Env, *log) {
	t.Helper()
	l := &log{}
	var dialer net.Dialer
	return &scenarios.Env{
		Key: results.Key{Check: t.Name(), Case: kase}, Token: "test", Endpoints: map[string]string{scenario.Endpoint: addr},
		Dial: dialer.DialContext, Clock: results.ClockSince(time.Now()), Rand: rand.New(rand.NewPCG(1, 2)), Put: l.put,
	}, l
}

// casesOf lists the ids of a check's cases, one empty id where it has none.
func casesOf(c suites.Check) (out []string) {
	for _, k := range c.Cases {
		out = append(out, k.ID)
	}
	if len(out) == 0 {
		out = []string{""}
	}
	return out
}

// liars are targets that answer every call with the same text.
var liars = map[string]string{
	"nothing":   ``,
	"text":      `not found`,
	"empty":     `{}`,
	"null":      `null`,
	"list":      `[]`,
	"refusal":   `{"error":{"code":"tpm_unavailable","text":"no"}}`,
	"yes-man":   `{"session":"1","backend":"x","ok":true,"source":"cache","response":"AAAA","blob":"AAAA","data":"AAAA","attest":"AAAA","signature":"AAAA","key":"AAAA","tls":"192.0.2.1:443","id":"leaf"}`,
	"no-source": `{"session":"1","attest":"/1RDR4AYAAA=","tls":"127.0.0.1:1","leaf":"x","source":"none"}`,
}

// A target without substance passes nothing, breaks no drive and takes no case over its time.
func TestLiars(t *testing.T) {
	if why := scenario.Here(); why != "" {
		t.Fatal(why)
	}
	seen := 0
	for name, text := range liars {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) }))
		addr := strings.TrimPrefix(server.URL, "http://")
		for _, c := range allChecks(t) {
			for _, kase := range casesOf(c) {
				seen++
				env, l := newEnv(t, addr, kase)
				if c.Control != nil {
					if err := c.Control.Drive(t.Context(), env); err != nil {
						t.Errorf("%s %s#%s: control: %v", name, c.ID, kase, err)
					}
					if ok, observed := c.Control.Judge(l.all); ok && c.ID != "tpm/seal/envelope" {
						t.Errorf("%s %s#%s: the control succeeds: %s", name, c.ID, kase, observed)
					}
				}
				env, l = newEnv(t, addr, kase)
				if err := c.Drive(t.Context(), env); err != nil {
					t.Errorf("%s %s#%s: %v", name, c.ID, kase, err)
				}
				f := c.Judge(suites.Trace{Key: env.Key, Evidence: l.all})
				// these ask for no more than an answer, or for no plaintext: the control is what fails
				modest := name == "yes-man" && c.ID == "tpm/seal/backend-labelled" || kase == "tpm-absent"
				if f.Status != results.Fail && !modest {
					t.Errorf("%s %s#%s: %v %s: %s", name, c.ID, kase, f.Status, f.Reason, f.Observed)
				}
				if f.Status == results.Fail && !slices.Contains(c.Reasons, f.Reason) {
					t.Errorf("%s %s#%s: reason %q is not in the set", name, c.ID, kase, f.Reason)
				}
			}
		}
		server.Close()
	}
	if seen == 0 {
		t.Fatal("nothing was driven")
	}
}

func TestNobodyIsThere(t *testing.T) {
	for _, c := range allChecks(t) {
		env, l := newEnv(t, "127.0.0.1:1", casesOf(c)[0])
		if err := c.Drive(context.Background(), env); err != nil {
			t.Errorf("%s: %v", c.ID, err)
		}
		if f := c.Judge(suites.Trace{Key: env.Key, Evidence: l.all}); f.Status != results.Fail {
			t.Errorf("%s: %v", c.ID, f)
		}
	}
}

// policy builds the evidence of an episode of tpm/seal/pcr-policy whose entry gave these answers.
func policy(t *testing.T, during, code, again, after string) *log {
	l := (&log{}).opened(t).stored(t, "store", "one").got(t, "before", "cache", "one", "")
	l.add(t, scenario.Marked, scenario.Mark{Name: "harmed"}).got(t, "during", during, "one", code)
	l.add(t, scenario.Marked, scenario.Mark{Name: "asked"}).got(t, "during again", again, "", code)
	return l.stored(t, "store again", "two").got(t, "after", after, "two", "")
}

func TestEpisodeJudge(t *testing.T) {
	c := checkOf(t, "tpm/seal/pcr-policy")
	cases := []struct {
		name   string
		log    *log
		status results.Status
		reason string
	}{
		{"good", policy(t, "none", "TPM_RC_POLICY_FAIL", "none", "cache"), results.Pass, ""},
		{"from the responder", policy(t, "responder", "pcr_changed", "none", "cache"), results.Pass, ""},
		{"served", policy(t, "cache", "", "none", "cache"), results.Fail, reasonServed},
		{"served later", policy(t, "none", "TPM_RC_POLICY_FAIL", "cache", "cache"), results.Fail, reasonServed},
		{"wrong name", policy(t, "none", "entry_absent", "none", "cache"), results.Fail, reasonWrongCode},
		{"no name", policy(t, "none", "", "none", "cache"), results.Fail, reasonWrongCode},
		{"not rebuilt", policy(t, "none", "TPM_RC_POLICY_FAIL", "none", "none"), results.Fail, reasonNotRebuilt},
		{"nothing", &log{}, results.Fail, reasonNoSession},
		{"only opened", (&log{}).opened(t), results.Fail, reasonNotStored},
		{"altered", (&log{}).opened(t).stored(t, "store", "one").got(t, "before", "cache", "other", ""), results.Fail, reasonAltered},
	}
	for _, x := range cases {
		f := c.Judge(suites.Trace{Key: results.Key{Check: c.ID, Case: "pcr2"}, Evidence: x.log.all})
		if f.Status != x.status || f.Reason != x.reason {
			t.Errorf("%s: %v %s: %s", x.name, f.Status, f.Reason, f.Observed)
		}
		if f.Status == results.Pass && len(f.Cites) == 0 {
			t.Errorf("%s: passes and cites nothing", x.name)
		}
	}
}

// A deadline of the TPM that passed while the harness stalled says nothing of the target.
func TestStallsExcuseDeadlines(t *testing.T) {
	c := checkOf(t, "tpm/seal/pcr-policy")
	l := policy(t, "none", codeDeadline, "none", "cache")
	for stall, want := range map[time.Duration]results.Status{0: results.Fail, 300 * time.Millisecond: results.Fail, time.Second: results.Inconclusive} {
		f := c.Judge(suites.Trace{Key: results.Key{Check: c.ID, Case: "pcr0"}, Evidence: l.all, Stall: stall})
		if f.Status != want {
			t.Errorf("stall %s: %v %s", stall, f.Status, f.Reason)
		}
	}
}

func TestLockoutCountsCommands(t *testing.T) {
	c := checkOf(t, "tpm/fault/lockout")
	for n, want := range map[int]string{1: "", 2: "", 3: reasonRetried} {
		l := (&log{}).opened(t).stored(t, "store", "one").got(t, "before", "cache", "one", "")
		l.add(t, scenario.Marked, scenario.Mark{Name: "harmed", Counts: map[string]int{"Load TPM_RC_LOCKOUT": 1}}).got(t, "during", "none", "", "TPM_RC_LOCKOUT")
		l.add(t, scenario.Marked, scenario.Mark{Name: "asked", Counts: map[string]int{"Load TPM_RC_LOCKOUT": 1 + n, "FlushContext TPM_RC_LOCKOUT": 5}})
		l.stored(t, "store again", "two").got(t, "after", "cache", "two", "")
		if f := c.Judge(suites.Trace{Key: results.Key{Check: c.ID, Case: "injected"}, Evidence: l.all}); f.Reason != want {
			t.Errorf("%d commands: %q, want %q: %s", n, f.Reason, want, f.Observed)
		}
	}
}

func TestNoBiteIsInconclusive(t *testing.T) {
	c := checkOf(t, "tpm/fault/pcr-race")
	l := policy(t, "cache", "", "cache", "cache")
	f := c.Judge(suites.Trace{Key: results.Key{Check: c.ID, Case: "pcr2"}, Evidence: l.all})
	if f.Status != results.Inconclusive || f.Reason != reasonNoBite {
		t.Errorf("%v %s", f.Status, f.Reason)
	}
}

func TestTamperWrong(t *testing.T) {
	cases := map[scenario.Trial]string{
		{ID: "first", Source: "cache", Of: "first"}:      "",
		{ID: "first", Source: "none", Code: "x"}:         "",
		{ID: "first", Source: "cache", Of: "other"}:      reasonMixedUp,
		{ID: "first", Source: "cache", Of: "neither"}:    reasonServed,
		{ID: "first", Source: "none"}:                    reasonUnnamed,
		{ID: "first", Source: "", Broken: true}:          reasonNoSession,
		{ID: "first", Source: "responder", Code: "gone"}: "",
	}
	for x, want := range cases {
		if got := tamperWrong(x); got != want {
			t.Errorf("%+v: %q, want %q", x, got, want)
		}
	}
}

func TestStapled(t *testing.T) {
	l := (&log{}).stored(t, "store", "kept")
	l.add(t, scenario.Responded, scenario.Answered{N: 1, Status: "good", SHA256: scenario.Digest([]byte("answered"))})
	shake := func(name string, o wire.Outcome) {
		l.add(t, "handshake", map[string]any{"name": name, "outcome": o})
	}
	flight := func(staple string) *wire.FlightSeen {
		return &wire.FlightSeen{FinishedValid: true, Staple: []byte(staple)}
	}
	shake("kept", wire.Outcome{Ending: wire.Completed, Flight: flight("kept")})
	shake("answered", wire.Outcome{Ending: wire.Silent, Stage: "application", Flight: flight("answered")})
	shake("strange", wire.Outcome{Ending: wire.Completed, Flight: flight("strange")})
	shake("bare", wire.Outcome{Ending: wire.Completed, Flight: flight("")})
	shake("silent", wire.Outcome{Ending: wire.Silent, Stage: "flight", Flight: flight("kept")})
	shake("refused", wire.Outcome{Ending: wire.Refused})
	s, err := tell(l.all)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]origin{
		"kept": fromStore, "answered": fromResponder, "strange": fromElsewhere, "bare": noStaple,
		"silent": noHandshake, "refused": noHandshake, "never": noHandshake,
	}
	got := map[string]origin{}
	for name := range want {
		got[name] = s.stapled(name, "store")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTroubleJudge(t *testing.T) {
	c := checkOf(t, "tpm/fault/fallback")
	build := func(staple, code string) *log {
		l := (&log{}).opened(t).add(t, scenario.Looked, scenario.Look{Name: lookCertificate, N: 1}).stored(t, "store", "kept")
		l.add(t, scenario.Responded, scenario.Answered{N: 1, Status: "good", SHA256: scenario.Digest([]byte("fresh"))})
		for name, text := range map[string]string{"before": "kept", "during": staple, "after": "fresh"} {
			l.add(t, "handshake", map[string]any{"name": name, "outcome": wire.Outcome{
				Ending: wire.Completed, Flight: &wire.FlightSeen{FinishedValid: true, Staple: []byte(text)}}})
		}
		l.call(t, "counted", "/status", nil, scenario.Status{Errors: map[string]int{"entry_absent": 1}})
		return l.call(t, "told", "/status", nil, scenario.Status{Errors: map[string]int{"entry_absent": 1, code: 1}})
	}
	cases := []struct{ kase, staple, code, want string }{
		{"expired", "fresh", "entry_expired", ""},
		{"expired", "kept", "entry_expired", reasonStale},
		{"expired", "else", "entry_expired", reasonStale},
		{"expired", "", "entry_expired", reasonUnstapled},
		{"expired", "fresh", "entry_tampered", reasonWrongCode},
		{"reset", "kept", "x", ""},
		{"reset", "fresh", "x", ""},
		{"sessions-exhausted", "fresh", "x", reasonWrongCode},
		{"sessions-exhausted", "fresh", "TPM_RC_SESSION_MEMORY", ""},
	}
	for _, x := range cases {
		f := c.Judge(suites.Trace{Key: results.Key{Check: c.ID, Case: x.kase}, Evidence: build(x.staple, x.code).all})
		if f.Reason != x.want || (x.want == "") != (f.Status == results.Pass) {
			t.Errorf("%+v: %v %s: %s", x, f.Status, f.Reason, f.Observed)
		}
	}
}
