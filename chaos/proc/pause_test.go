//go:build linux

package proc_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/assay-bench/assay/chaos"
	"github.com/assay-bench/assay/chaos/internal/victim"
	"github.com/assay-bench/assay/chaos/proc"
	"github.com/assay-bench/assay/results"
)

func TestMain(m *testing.M) {
	victim.Main()
	os.Exit(m.Run())
}

// log keeps what an injection recorded.
type log struct {
	injected []chaos.Injected
	reverted int
	residue  [][]string
}

func (l *log) record(kind results.Kind, data any) error {
	switch kind {
	case results.Injected:
		l.injected = append(l.injected, data.(chaos.Injected))
	case results.Reverted:
		l.reverted++
	case results.Residue:
		l.residue = append(l.residue, data.([]string))
	}
	return nil
}

// injection prepares a pause of v; the journal must end clean.
func injection(t *testing.T, d chaos.Driver, p chaos.Point, seconds float64) (chaos.Injection, *log) {
	t.Helper()
	j, err := chaos.CreateJournal(filepath.Join(t.TempDir(), "journal.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	l := &log{}
	return chaos.Injection{
		Spec: chaos.Spec{Name: "proc/pause", Magnitude: seconds}, Fault: proc.Pause(), Driver: d,
		Point: p, Journal: j, Clock: results.ClockSince(time.Now()), Record: l.record,
	}, l
}

func drivers(t *testing.T) []chaos.Driver {
	t.Helper()
	var out []chaos.Driver
	for _, d := range proc.Pause().Drivers() {
		c := d.Probe(context.Background())
		t.Logf("%+v", c)
		if c.Driver != d.Name() || c.Detail == "" || c.Took <= 0 {
			t.Errorf("capability %+v of driver %s", c, d.Name())
		}
		if c.Available {
			out = append(out, d)
		}
	}
	if len(out) == 0 {
		t.Fatal("no driver is available")
	}
	if last := out[len(out)-1].Name(); last != "sigstop" {
		t.Fatalf("sigstop works on every Linux, got %s as last", last)
	}
	return out
}

func cgroups(t *testing.T, pid int) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cgroup"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestPauseTree: chaos/fault/pause-tree. A grandchild's counter stands still, then goes on.
func TestPauseTree(t *testing.T) {
	for _, d := range drivers(t) {
		t.Run(d.Name(), func(t *testing.T) {
			v := victim.Start(t)
			before := cgroups(t, v.Child.PID)
			in, l := injection(t, d, v.Point("run-0123456789"), 0.6)
			var first, second uint64
			err := chaos.Inject(context.Background(), in, func(ctx context.Context, _ chaos.Handle) error {
				first = v.Count()
				short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
				defer cancel()
				if _, err := victim.Probe(short, v.Addr); err == nil {
					t.Error("a paused target answered")
				}
				second = v.Count()
				// The hold ends while the body goes on: the target answers again.
				_, err := victim.Probe(ctx, v.Addr)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if first == 0 || first != second {
				t.Errorf("the child counted from %d to %d while it was paused", first, second)
			}
			waitUntil(t, "the child counts again", func() bool { return v.Count() > second })
			if after := cgroups(t, v.Child.PID); after != before {
				t.Errorf("cgroups before %q, after %q", before, after)
			}
			checkLog(t, l, in, true)
			if o := l.injected[1].Observed; o < 0.5 {
				t.Errorf("observed %g s of 0.6 s", o)
			}
		})
	}
}

func checkLog(t *testing.T, l *log, in chaos.Injection, witnessed bool) {
	t.Helper()
	if len(l.injected) != 2 || l.reverted != 1 || len(l.residue) != 1 {
		t.Fatalf("recorded %+v", l)
	}
	if len(l.residue[0]) != 0 || l.residue[0] == nil {
		t.Errorf("residue %#v", l.residue[0])
	}
	for i, seen := range l.injected {
		if seen.Witnessed != witnessed {
			t.Errorf("look %d: witnessed %v: %s", i, seen.Witnessed, seen.Detail)
		}
		if seen.Fault != "proc/pause" || seen.Driver != in.Driver.Name() || seen.Unit != "s" || seen.Asked != in.Spec.Magnitude {
			t.Errorf("look %d: %+v", i, seen)
		}
		if seen.From <= 0 || seen.To <= seen.From {
			t.Errorf("look %d: from %v to %v", i, seen.From, seen.To)
		}
	}
}

func waitUntil(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited 5 s until %s", what)
		}
	}
}

// TestNullIsNotWitnessed: chaos/fault/witness-required and witness-independent.
func TestNullIsNotWitnessed(t *testing.T) {
	for _, d := range drivers(t) {
		t.Run(d.Name(), func(t *testing.T) {
			v := victim.Start(t)
			in, l := injection(t, chaos.Null(d), v.Point("run"), 0.25)
			err := chaos.Inject(context.Background(), in, func(context.Context, chaos.Handle) error { return nil })
			if err != nil {
				t.Fatal(err)
			}
			checkLog(t, l, in, false)
		})
	}
}

// TestEveryWitnessIsNeeded drops one of the three witnesses at a time.
func TestEveryWitnessIsNeeded(t *testing.T) {
	answering := func(context.Context, string) (time.Duration, error) { return time.Millisecond, nil }
	refusing := func(context.Context, string) (time.Duration, error) { return 0, errors.New("refused") }
	cases := []struct {
		name, want string
		probe      func(context.Context, string) (time.Duration, error)
	}{
		{"a target that answers all the same", "answered", answering},
		{"a probe that never worked", "before the fault either", refusing},
	}
	seen := 0
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			seen++
			v := victim.Start(t)
			p := v.Point("run")
			p.Probe = c.probe
			in, l := injection(t, drivers(t)[0], p, 0.25)
			if err := chaos.Inject(context.Background(), in, func(context.Context, chaos.Handle) error { return nil }); err != nil {
				t.Fatal(err)
			}
			if got := l.injected[0]; got.Witnessed || !strings.Contains(got.Detail, c.want) {
				t.Errorf("%+v", got)
			}
		})
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

func TestRevertTwiceAndOnVanished(t *testing.T) {
	for _, d := range drivers(t) {
		t.Run(d.Name(), func(t *testing.T) {
			v := victim.Start(t)
			plan, err := d.Plan(v.Point("run"), 1, nil)
			if err != nil {
				t.Fatal(err)
			}
			h, err := d.Apply(context.Background(), plan)
			if err != nil {
				t.Fatal(err)
			}
			if err := h.Revert(context.Background()); err != nil {
				t.Error(err)
			}
			if err := h.Revert(context.Background()); err != nil {
				t.Error("second:", err)
			}
			h, err = d.Apply(context.Background(), plan)
			if err != nil {
				t.Fatal(err)
			}
			// A process that version 1 has frozen dies when it is thawed, so there is no waiting here.
			if err := errors.Join(v.Child.Kill(), v.Process.Kill()); err != nil {
				t.Fatal(err)
			}
			if err := h.Revert(context.Background()); err != nil {
				t.Error("vanished:", err)
			}
			if left := h.(chaos.Inspector).Residue(context.Background()); len(left) != 0 {
				t.Errorf("residue %q", left)
			}
		})
	}
}

// TestPlanRefuses: chaos/fault/blast-radius among others; nothing is journaled.
func TestPlanRefuses(t *testing.T) {
	v := victim.Start(t)
	self, err := chaos.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	gone := v.Process
	gone.Start++
	cases := []struct {
		name    string
		p       chaos.Point
		seconds float64
		is      error
	}{
		{"nothing", chaos.Point{}, 1, nil},
		{"too short", v.Point("run"), 0.1, nil},
		{"too long", v.Point("run"), 1e9, nil},
		{"another process of that number", chaos.Point{Processes: []chaos.Process{gone}}, 1, chaos.ErrVanished},
		{"the harness itself", chaos.Point{Processes: []chaos.Process{self}}, 1, chaos.ErrBlastRadius},
	}
	seen := 0
	for _, d := range drivers(t) {
		for _, c := range cases {
			seen++
			in, l := injection(t, d, c.p, c.seconds)
			err := chaos.Inject(context.Background(), in, func(context.Context, chaos.Handle) error {
				t.Errorf("%s: body ran", c.name)
				return nil
			})
			if err == nil || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%s by %s: %v", c.name, d.Name(), err)
			}
			if len(l.injected)+l.reverted != 0 {
				t.Errorf("%s: recorded %+v", c.name, l)
			}
			if text, err := os.ReadFile(in.Journal.Path()); err != nil || len(text) != 0 {
				t.Errorf("%s: journal %q, %v", c.name, text, err)
			}
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}
