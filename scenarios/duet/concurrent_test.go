package duet_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/assay-bench/assay/chaos"
	"github.com/assay-bench/assay/results/histogram"
	"github.com/assay-bench/assay/scenarios/duet"
)

// guarded is an artefact of this process whose servers know when more is in flight than may be.
type guarded struct {
	other  *guarded
	flying atomic.Int32
	most   atomic.Int32 // at once, of both arms
	both   atomic.Bool  // an arm was asked while the other one had requests in flight
	answer http.HandlerFunc
}

func (g *guarded) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := g.flying.Add(1)
	defer g.flying.Add(-1)
	others := g.other.flying.Load()
	if others > 0 {
		g.both.Store(true)
	}
	for sum := n + others; ; {
		seen := g.most.Load()
		if sum <= seen || g.most.CompareAndSwap(seen, sum) {
			break
		}
	}
	if g.answer != nil {
		g.answer(w, r)
	}
}

func (g *guarded) Start(context.Context) (duet.Process, error) {
	server := httptest.NewServer(g)
	return duet.Process{
		Tree: func() []chaos.Process { return nil },
		Open: func(context.Context, string) (duet.Connection, error) {
			return &plain{client: &http.Client{Transport: &http.Transport{}}, url: server.URL}, nil
		},
		Stop: func(context.Context) error { server.Close(); return nil },
	}, nil
}

func (g *guarded) Allocs(context.Context, duet.Process) (float64, bool, error) { return 0, false, nil }

// plain is a connection by net/http.
type plain struct {
	client *http.Client
	url    string
}

func (p *plain) Call(ctx context.Context, _ int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, nil)
	if err != nil {
		return err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != http.StatusOK {
		err = http.ErrNotSupported
	}
	if closing := resp.Body.Close(); err == nil {
		err = closing
	}
	return err
}

func (p *plain) Wire() int64 { return 0 }

func (p *plain) Close() error { p.client.CloseIdleConnections(); return nil }

func pair() (*guarded, *guarded) {
	a, b := &guarded{}, &guarded{}
	a.other, b.other = b, a
	return a, b
}

func epoch(t *testing.T, s duet.Scenario, a, b duet.Artefact, limit time.Duration) duet.Epoch {
	t.Helper()
	s.Name = "s"
	r, err := duet.New(duet.Config{Scenarios: []duet.Scenario{s}, Artefacts: [2]duet.Artefact{a, b}, Seed: 5, Timeout: 2 * time.Second, Warmup: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	epochs, err := r.Epoch(t.Context(), duet.Duet, 1, limit)
	if err != nil {
		t.Fatal(err)
	}
	return epochs[0]
}

// By request one request is in flight, of both arms together; by slice and by block many are, of one arm.
//
// Rows: gate/epoch/one-arm-loaded.
func TestArmsAreNotLoadedAtOnce(t *testing.T) {
	slow := func(w http.ResponseWriter, _ *http.Request) { time.Sleep(2 * time.Millisecond) }
	for name, c := range map[string]struct {
		scenario duet.Scenario
		crowd    bool
	}{
		"request": {duet.Scenario{Metrics: []string{duet.P50}, Requests: 100, Fewest: 100}, false},
		"slice":   {duet.Scenario{Metrics: []string{duet.P50}, Mode: duet.BySlice, Rate: 2000, Users: 8, Span: 100 * time.Millisecond, Fewest: 100}, true},
		"block":   {duet.Scenario{Metrics: []string{duet.Throughput}, Mode: duet.ByBlock, Users: 8, Span: 100 * time.Millisecond}, true},
	} {
		a, b := pair()
		a.answer, b.answer = slow, slow
		e := epoch(t, c.scenario, a, b, 0)
		if a.both.Load() || b.both.Load() {
			t.Errorf("%s: both arms had requests in flight", name)
		}
		if most := max(a.most.Load(), b.most.Load()); (most > 1) != c.crowd {
			t.Errorf("%s: %d requests in flight at once", name, most)
		}
		for _, arm := range duet.Arms {
			if e.Arms[arm].Requests < 30 {
				t.Errorf("%s: %d requests of the %s", name, e.Arms[arm].Requests, arm)
			}
		}
	}
}

// TestTurns holds what an epoch of slices and one of blocks records.
func TestTurns(t *testing.T) {
	slices := duet.Scenario{
		Metrics: []string{duet.P50, duet.Errors, duet.Goodput}, Mode: duet.BySlice, Rate: 1000, Users: 4, Span: 100 * time.Millisecond,
		Within: time.Minute, Limits: []time.Duration{time.Nanosecond, time.Hour}, Fewest: 500,
	}
	a, b := pair()
	e := epoch(t, slices, a, b, 0)
	// 500 requests an arm at 1,000 a second in slices of 100 ms are two rounds of eight.
	if e.Mode != duet.BySlice || len(e.Order) != 16 {
		t.Errorf("mode %q, order %q", e.Mode, e.Order)
	}
	for i := 0; i < len(e.Order); i += 8 {
		if round := e.Order[i : i+8]; round != "ABBABAAB" && round != "BAABABBA" {
			t.Errorf("round %q cancels no drift", round)
		}
	}
	if e.Void != "" && e.Void != duet.VoidLag { // a busy host may be late
		t.Errorf("void: %s", e.Void)
	}
	for _, arm := range duet.Arms {
		s := e.Arms[arm]
		h, err := histogram.Decode([]byte(s.Histogram))
		if err != nil || s.Requests != 800 || h.Count() != 800 {
			t.Errorf("%s: %d requests, in the histogram %v, %v", arm, s.Requests, h, err)
		}
		if s.Over["1ns"] != 800 || s.Over["1h0m0s"] != 0 || s.Good != s.Requests-s.Errors {
			t.Errorf("%s: over %v, in time %d of %d", arm, s.Over, s.Good, s.Requests)
		}
	}

	blocks := duet.Scenario{Metrics: []string{duet.Throughput}, Mode: duet.ByBlock, Users: 4, Span: 150 * time.Millisecond}
	a, b = pair()
	b.answer = func(http.ResponseWriter, *http.Request) { time.Sleep(20 * time.Millisecond) }
	e = epoch(t, blocks, a, b, 0)
	if e.Order != "ABBA" && e.Order != "BAAB" || e.Void != "" {
		t.Errorf("order %q, void %q", e.Order, e.Void)
	}
	if d := e.Ratios[duet.Throughput]; !(d < -0.3) {
		t.Errorf("20 ms more a request change throughput by %v: %v and %v a second", d, e.Arms[0].Figures[duet.Throughput], e.Arms[1].Figures[duet.Throughput])
	}
}

// A candidate that answers nothing right under load can not be measured, which is its own fault; one that answers nothing at all runs
// into the cap.
func TestMuteCandidate(t *testing.T) {
	blocks := duet.Scenario{Metrics: []string{duet.Throughput}, Mode: duet.ByBlock, Users: 2, Span: 100 * time.Millisecond}
	a, b := pair()
	b.answer = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }
	e := epoch(t, blocks, a, b, 0)
	if e.Void != duet.VoidCapped || e.VoidBy == nil || *e.VoidBy != duet.Candidate || e.Arms[1].Errors != e.Arms[1].Requests {
		t.Errorf("void %q by %v, %d of %d failed", e.Void, e.VoidBy, e.Arms[1].Errors, e.Arms[1].Requests)
	}
	a, b = pair()
	b.answer = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	e = epoch(t, blocks, a, b, 3*time.Second) // the two seconds that a request may take, twice
	if e.Void != duet.VoidCapped || 4*e.Arms[0].Took >= e.Arms[0].Took+e.Arms[1].Took {
		t.Errorf("void %q, took %v and %v", e.Void, e.Arms[0].Took, e.Arms[1].Took)
	}
}

// The real client of the duet under load, and the programs that it starts.
func TestSlicesOfAProgram(t *testing.T) {
	r, err := duet.New(duet.Config{
		Scenarios: []duet.Scenario{{Name: "echo", Metrics: []string{duet.P50, duet.CPU, duet.Wire}, Mode: duet.BySlice, Rate: 1000, Users: 4, Span: 80 * time.Millisecond, Fewest: 100}},
		Artefacts: [2]duet.Artefact{program(), program("-delay", "20ms")}, Seed: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	epochs, err := r.Epoch(t.Context(), duet.Duet, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	e := epochs[0]
	if !(e.Ratios[duet.P50] > 0.3) || !(e.Arms[0].Figures[duet.Wire] > 100) || e.Arms[0].Errors > 0 {
		t.Errorf("ratios %v, %v bytes a request, %d errors", e.Ratios, e.Arms[0].Figures[duet.Wire], e.Arms[0].Errors)
	}
}

func TestScenariosThatCanNotBeDriven(t *testing.T) {
	good := duet.Scenario{Mode: duet.BySlice, Rate: 1000, Users: 1, Span: time.Second}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for says, change := range map[string]func(*duet.Scenario){
		"unknown": func(s *duet.Scenario) { s.Mode = "burst" }, "users": func(s *duet.Scenario) { s.Users = 0 },
		"length": func(s *duet.Scenario) { s.Span = 0 }, "rate": func(s *duet.Scenario) { s.Rate = 0 },
		"rounds": func(s *duet.Scenario) { s.Rate = 0.001 },
	} {
		s := good
		change(&s)
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}
