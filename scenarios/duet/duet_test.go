package duet_test

import (
	"context"
	"errors"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/assay-bench/assay/results/histogram"
	"github.com/assay-bench/assay/scenarios/duet"
	"github.com/assay-bench/assay/scenarios/target"
)

// echo is the built sample service.
var echo string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "duet")
	if err != nil {
		panic(err)
	}
	echo = filepath.Join(dir, "echo")
	if out, err := exec.Command("go", "build", "-o", echo, "../../fixtures/services/cmd/echo").CombinedOutput(); err != nil {
		panic(string(out))
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

func program(flags ...string) *duet.Program {
	return &duet.Program{
		Argv: append([]string{"{out}", "-listen", "127.0.0.1:{port}", "-work", "20"}, flags...), Out: echo, Ready: "/healthz",
		Dial: (&net.Dialer{}).DialContext,
		Requests: map[string][]duet.Request{
			"echo": {{Method: http.MethodPost, Path: "/echo", Body: []byte("hello")}, {Path: "/echo"}},
		},
		Counters: duet.Counters{Path: "/debug/vars", Field: "memstats.Mallocs"},
	}
}

func run(t *testing.T, phase duet.Phase, a, b *duet.Program) duet.Epoch {
	t.Helper()
	r, err := duet.New(duet.Config{
		Scenarios: []duet.Scenario{{Name: "echo", Metrics: []string{duet.P50, duet.CPU, duet.Allocs, duet.Wire, duet.Peak, duet.Errors}}},
		Artefacts: [2]duet.Artefact{a, b}, Seed: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	epochs, err := r.Epoch(t.Context(), phase, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(epochs) != 1 {
		t.Fatalf("%d scenarios", len(epochs))
	}
	return epochs[0]
}

// A candidate that does fifty times the work, allocates more and fails now and then shows it in each figure.
func TestEpochShowsWhatDiffers(t *testing.T) {
	e := run(t, duet.Duet, program(), program("-slower", "49", "-garbage", "500", "-fail", "50"))
	a, b := e.Arms[duet.Baseline], e.Arms[duet.Candidate]
	if a.PID == b.PID || a.PID == 0 || a.Requests < 500 || a.Requests != b.Requests {
		t.Errorf("processes %d and %d, requests %d and %d", a.PID, b.PID, a.Requests, b.Requests)
	}
	for _, m := range []string{duet.P50, duet.CPU, duet.Allocs} {
		if !(e.Ratios[m] > 0.3) {
			t.Errorf("%s: %v against %v", m, a.Figures[m], b.Figures[m])
		}
		if d, ok := duet.Ratio(e.Arms, m); !ok || d != e.Ratios[m] {
			t.Errorf("%s: recorded %v, recomputed %v", m, e.Ratios[m], d)
		}
	}
	if extra := b.Figures[duet.Allocs] - a.Figures[duet.Allocs]; math.Abs(extra-500) > 100 {
		t.Errorf("500 allocations more a request are counted as %v", extra)
	}
	if a.Errors != 0 || b.Errors < b.Requests/60 || b.Errors > b.Requests/40 {
		t.Errorf("errors %d and %d of %d: one in fifty is wanted", a.Errors, b.Errors, b.Requests)
	}
	if len(e.Order) != (a.Requests+3)/4 {
		t.Errorf("%d digits of order for %d pairs", len(e.Order), a.Requests)
	}
	h, err := histogram.Decode([]byte(b.Histogram))
	if err != nil || h.Count() != int64(b.Requests) {
		t.Errorf("histogram of %d requests: %v", b.Requests, err)
	}
	if q := float64(h.Quantile(0.5)) / 1e9; math.Abs(q-b.Figures[duet.P50]) > 0.005*q {
		t.Errorf("p50 %v, by the histogram %v", b.Figures[duet.P50], q)
	}
	if wire := a.Figures[duet.Wire]; wire < 100 || wire > 1000 {
		t.Errorf("%v bytes a request", wire)
	}
}

func TestPreflightRunsTheBaselineTwice(t *testing.T) {
	e := run(t, duet.Preflight, program(), program("-refuse"))
	if e.Arms[0].PID == e.Arms[1].PID || e.Phase != duet.Preflight {
		t.Errorf("%+v", e)
	}
}

// Every epoch starts new processes and ends them, whichever arm fails.
//
// Rows: gate/epoch/fresh-process, gate/epoch/random-order.
func TestProcessesAreFreshAndEnd(t *testing.T) {
	r, err := duet.New(duet.Config{
		Scenarios: []duet.Scenario{{Name: "echo", Metrics: []string{duet.P50}}},
		Artefacts: [2]duet.Artefact{program(), program()}, Seed: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	orders := map[string]bool{}
	for n := range 3 {
		epochs, err := r.Epoch(t.Context(), duet.Duet, n+1, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range epochs[0].Arms {
			if seen[s.PID] {
				t.Errorf("process %d served two epochs", s.PID)
			}
			seen[s.PID] = true
			if alive(s.PID) {
				t.Errorf("process %d outlived its epoch", s.PID)
			}
		}
		orders[epochs[0].Order] = true
	}
	if len(orders) != 3 {
		t.Errorf("%d different orders in three epochs", len(orders))
	}
}

func alive(pid int) bool {
	p, err := os.FindProcess(pid)
	return err == nil && p.Signal(syscall.Signal(0)) == nil
}

func TestArmThatIsNotReady(t *testing.T) {
	r, err := duet.New(duet.Config{
		Scenarios: []duet.Scenario{{Name: "echo", Metrics: []string{duet.P50}}},
		Artefacts: [2]duet.Artefact{program(), program("-refuse")}, Seed: 3,
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Epoch(t.Context(), duet.Duet, 1, 0)
	var not *duet.NotReady
	if !errors.As(err, &not) || not.Arm != duet.Candidate || !errors.Is(err, target.ErrNotReady) {
		t.Errorf("%v", err)
	}
}

func TestEndedContextEndsTheEpoch(t *testing.T) {
	r, err := duet.New(duet.Config{
		Scenarios: []duet.Scenario{{Name: "echo", Metrics: []string{duet.P50}}},
		Artefacts: [2]duet.Artefact{program("-delay", "100ms"), program()}, Seed: 4,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Epoch(ctx, duet.Duet, 1, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// TestMinRequests proves gate/epoch/minimum-samples.
func TestMinRequests(t *testing.T) {
	for want, metrics := range map[int][]string{500: {duet.P50, duet.P90, duet.CPU}, 1300: {duet.P50, duet.P99}} {
		if got := duet.MinRequests(metrics); got != want {
			t.Errorf("%v: %d, want %d", metrics, got, want)
		}
	}
}
