package load

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Nodes on their own share one schedule: together they send every id once, no
// matter how many they are and how their shares differ.
func TestNodesPlayOneSchedule(t *testing.T) {
	t.Parallel() // mostly waiting
	const n = 500
	divisions := [][]int{{5, 3, 2}, {1, 9}}
	for nodes := 1; nodes <= 7; nodes++ {
		divisions = append(divisions, slices.Repeat([]int{1}, nodes))
	}
	for _, shares := range divisions {
		t.Run(fmt.Sprint(shares), func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			seen := make([]int, n)
			s := serve(t, func(_ int, id uint64, send reply) bool {
				mu.Lock()
				seen[id]++
				mu.Unlock()
				send(id, flagOK)
				return true
			})
			results := make([]*Result, len(shares))
			var running sync.WaitGroup
			for node := range shares {
				running.Go(func() {
					var err error
					results[node], err = Run(t.Context(), constant(1000, n*time.Millisecond), s.mux(2), Options{
						Segment: Segment{Node: node + 1, Of: len(shares), Shares: shares}, LatenessBound: time.Hour, HostLimit: 1,
					})
					if err != nil {
						t.Error(err)
					}
				})
			}
			if running.Wait(); t.Failed() {
				return
			}
			if slices.Min(seen) != 1 || slices.Max(seen) != 1 {
				t.Errorf("ids were seen %d to %d times, want once", slices.Min(seen), slices.Max(seen))
			}
			merged, err := Merge(results...)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(Counts{Scheduled: n, OK: n}, merged.Counts); d != "" || !merged.Valid {
				t.Errorf("valid %v %v, counts (-want +got):\n%s", merged.Valid, merged.Reasons, d)
			}
		})
	}
}

// load/segment/common-start: three nodes are told one time, one of them by a
// clock that is ahead; none sends before it, and all intend the same.
func TestCommonStart(t *testing.T) {
	t.Parallel() // mostly waiting
	const nodes = 3
	ahead := 150 * time.Millisecond
	start := time.Now().Add(5 * time.Second) // a busy machine takes its time to get ready
	var mu sync.Mutex
	first := make([]time.Time, nodes)
	s := serve(t, func(_ int, id uint64, send reply) bool {
		mu.Lock()
		if i := id % nodes; first[i].IsZero() {
			first[i] = time.Now()
		}
		mu.Unlock()
		send(id, flagOK)
		return true
	})
	results := make([]*Result, nodes)
	var running sync.WaitGroup
	for node := range nodes {
		running.Go(func() {
			opt := Options{Segment: Segment{Node: node + 1, Of: nodes}, StartAt: start, LatenessBound: time.Hour, HostLimit: 1}
			if node == 2 {
				// Its clock shows the common time so much too early.
				opt.StartAt = start.Add(-ahead)
				opt.Clock = Clock{Offset: ahead, Bound: time.Microsecond, Known: true, Source: "test"}
			}
			r, err := Run(t.Context(), constant(300, 300*time.Millisecond), s.mux(1), opt)
			if err != nil {
				t.Error(err)
				return
			}
			r.Start, results[node] = start, r
		})
	}
	if running.Wait(); t.Failed() {
		return
	}
	for node, at := range first {
		if at.Before(start) {
			t.Errorf("node %d sent %v before the start", node+1, start.Sub(at))
		}
		if r := results[node]; r.Clock.Source == "" || r.Host.Boot == "" {
			t.Errorf("node %d: clock %+v, host %+v", node+1, r.Clock, r.Host)
		}
	}
	merged, err := Merge(results...)
	if err != nil || !merged.Valid || merged.Clock.Bound != 0 {
		t.Errorf("clock %+v, error %v", merged.Clock, err)
	}
	_, err = Run(t.Context(), constant(1, time.Second), s.mux(1), Options{StartAt: time.Now().Add(-time.Second)})
	if err == nil || !strings.Contains(err.Error(), "past") {
		t.Errorf("a start that is past: %v", err)
	}
}

// load/schedule/independent: a server that stands still changes nothing of what
// is intended, and holds no arrival back.
func TestResponsesDoNotChangeTheSchedule(t *testing.T) {
	s := Schedule{Kind: Poisson, Rate: 400, Duration: 600 * time.Millisecond, Seed: 3}
	calm := play(t, t.Context(), s, serve(t, echo).mux(2), Options{LatenessBound: time.Hour})
	still := play(t, t.Context(), s, serve(t, frozen(0, time.Second)).mux(2), Options{LatenessBound: time.Hour})
	if d := cmp.Diff(calm.Schedule, still.Schedule); d != "" {
		t.Errorf("schedule (-calm +still):\n%s", d)
	}
	wantCounts(t, still, calm.Counts)
	// Had the pacer waited for the server, half of it would have been late.
	if late, response := still.Quantiles[PacerLateness].P50, still.Quantiles[ResponseAll].P50; late > response/4 {
		t.Errorf("p50 of the pacer's lateness is %d, of the response %d", late, response)
	}
}

// slow is a transport whose hand-over takes time that the pacer does not have.
type slow struct{ nothing }

func (s *slow) hand(j, _ int64, _ bool) int64 {
	for until := s.e.opt.now() + int64(3*time.Millisecond); s.e.opt.now() < until; {
	}
	return s.nothing.hand(j, 1, true)
}

// viaFunc makes a Via of a function.
type viaFunc func(e *engine) transport

func (viaFunc) mode() string { return "test" }

func (f viaFunc) open(_ context.Context, e *engine) (transport, error) { return f(e), nil }

// load/gate/validity: a generator that falls behind its schedule says so.
func TestLateGeneratorIsInvalid(t *testing.T) {
	via := viaFunc(func(e *engine) transport { return &slow{nothing{e: e, r: e.recorder()}} })
	r := play(t, t.Context(), constant(2000, 100*time.Millisecond), via, Options{LatenessBound: 20 * time.Millisecond})
	wantCounts(t, r, Counts{Scheduled: 200, OK: 200})
	if d := cmp.Diff([]Reason{ReasonLateness}, r.Reasons); d != "" || r.Valid {
		t.Errorf("valid %v, reasons (-want +got):\n%s", r.Valid, d)
	}
}

func TestInvalidate(t *testing.T) {
	r := &Result{Valid: true, Reasons: []Reason{}}
	r.Invalidate(ReasonServer)
	r.Invalidate(ReasonLateness, ReasonServer)
	if d := cmp.Diff([]Reason{ReasonLateness, ReasonServer}, r.Reasons); d != "" || r.Valid {
		t.Errorf("valid %v, reasons (-want +got):\n%s", r.Valid, d)
	}
}
