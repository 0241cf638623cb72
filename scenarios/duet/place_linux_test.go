package duet_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/assay-bench/assay/scenarios/duet"
)

// watched tells on which processors the threads of a process may run while it is asked.
type watched struct {
	*duet.Program
	mu   *sync.Mutex
	seen map[string]int
}

var allowed = regexp.MustCompile(`(?m)^Cpus_allowed_list:\s*(\S+)$`)

func (w watched) Start(ctx context.Context) (duet.Process, error) {
	p, err := w.Program.Start(ctx)
	open := p.Open
	p.Open = func(ctx context.Context, scenario string) (duet.Connection, error) {
		conn, err := open(ctx, scenario)
		return watching{conn, w, p}, err
	}
	return p, err
}

// StartThen hides that of the program.
func (w watched) StartThen(ctx context.Context, begun func()) (duet.Process, error) {
	begun()
	return w.Start(ctx)
}

type watching struct {
	duet.Connection
	w watched
	p duet.Process
}

func (c watching) Call(ctx context.Context, n int) error {
	if n == 100 {
		for _, proc := range c.p.Tree() {
			threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", proc.PID))
			for _, t := range threads {
				status, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/status", proc.PID, t.Name()))
				if m := allowed.FindSubmatch(status); err == nil && m != nil {
					c.w.mu.Lock()
					c.w.seen[string(m[1])]++
					c.w.mu.Unlock()
				}
			}
		}
	}
	return c.Connection.Call(ctx, n)
}

// By request both arms run on one and the same processor; under load, and where the policy wants it, on all.
func TestArmsShareAProcessor(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("one processor is shared anyway")
	}
	for _, tt := range []struct {
		name   string
		change func(*duet.Config)
		one    bool
		awake  bool
	}{
		{"by request", func(*duet.Config) {}, true, true},
		{"spread", func(c *duet.Config) { c.Spread = true }, false, false},
		{"limit", func(c *duet.Config) { c.Scenarios[0].Limits = []time.Duration{time.Second} }, true, false},
		{"tail", func(c *duet.Config) { c.Scenarios[0].Metrics = []string{duet.P50, duet.P99} }, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := watched{program(), &sync.Mutex{}, map[string]int{}}
			cfg := duet.Config{
				Scenarios: []duet.Scenario{{Name: "echo", Metrics: []string{duet.P50}}},
				Artefacts: [2]duet.Artefact{w, w}, Seed: 1,
			}
			tt.change(&cfg)
			r, err := duet.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			epochs, err := r.Epoch(t.Context(), duet.Duet, 1, 0)
			if err != nil {
				t.Fatal(err)
			}
			e := epochs[0]
			quota := strings.Contains(e.Place.Why, "quota") // of the host of this test
			why := e.Place.Why != "" && !quota              // tells that processors sleep on purpose, or of a failure
			if why != (tt.one && !tt.awake) || (e.Place.Processor != nil) != tt.one || e.Place.Awake != (tt.awake && !quota) {
				t.Fatalf("placed %+v", e.Place)
			}
			if len(w.seen) != 1 {
				t.Fatalf("threads may run on %v", w.seen)
			}
			if tt.one {
				if want := fmt.Sprint(*e.Place.Processor); w.seen[want] == 0 {
					t.Errorf("threads may run on %v, the epoch says %s", w.seen, want)
				}
			} else if _, ok := w.seen["0"]; ok {
				t.Errorf("threads may run on %v alone", w.seen)
			}
		})
	}
}
