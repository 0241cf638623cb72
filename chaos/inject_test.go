//go:build linux

package chaos_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/chaos"
	"github.com/assay-bench/assay/chaos/internal/victim"
	"github.com/assay-bench/assay/chaos/proc"
	"github.com/assay-bench/assay/results"
)

func TestMain(m *testing.M) {
	victim.Main()
	if len(os.Args) > 2 {
		var err error
		switch os.Args[1] {
		case "watchdog":
			err = chaos.Watch(os.Stdin, os.Args[2])
		case "harness":
			err = harness(os.Args[2], os.Args[3])
		default:
			os.Exit(m.Run())
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// fake is a fault and driver of which a test says what each step does.
type fake struct {
	undo    []chaos.Step
	targets []chaos.Process
	hold    time.Duration
	apply   func(chaos.Plan) error
	witness func() (float64, bool, error)
	revert  func() error
	residue []string
}

func (f *fake) Name() string                           { return "test/fake" }
func (f *fake) Drivers() []chaos.Driver                { return []chaos.Driver{f} }
func (f *fake) Probe(context.Context) chaos.Capability { return chaos.Capability{Driver: "fake"} }
func (f *fake) Plan(_ chaos.Point, _ float64, _ *rand.Rand) (chaos.Plan, error) {
	return chaos.Plan{Unit: "1", Undo: f.undo, Hold: f.hold, Targets: f.targets}, nil
}

func (f *fake) Apply(_ context.Context, p chaos.Plan) (chaos.Handle, error) {
	if f.apply != nil {
		if err := f.apply(p); err != nil {
			return nil, err
		}
	}
	return &fakeHandle{f, p}, nil
}

type fakeHandle struct {
	f *fake
	p chaos.Plan
}

func (h *fakeHandle) Witness(context.Context) (results.Evidence, error) {
	if h.f.witness == nil {
		return h.p.Evidence(h.p.Magnitude, true, "")
	}
	observed, ok, err := h.f.witness()
	if err != nil {
		return results.Evidence{}, err
	}
	return h.p.Evidence(observed, ok, "")
}

func (h *fakeHandle) Revert(ctx context.Context) error {
	if h.f.revert != nil {
		return h.f.revert()
	}
	return h.p.Rollback(ctx)
}

func (h *fakeHandle) Residue(context.Context) []string { return h.f.residue }

// trace is what an injection recorded, and the states in its journal.
type trace struct {
	kinds   []results.Kind
	looks   []chaos.Injected
	residue []string
	journal *chaos.Journal
	failOn  results.Kind
}

func (tr *trace) record(kind results.Kind, data any) error {
	tr.kinds = append(tr.kinds, kind)
	switch d := data.(type) {
	case chaos.Injected:
		tr.looks = append(tr.looks, d)
	case []string:
		tr.residue = d
	}
	if kind == tr.failOn {
		return errors.New("disk is full")
	}
	return nil
}

func (tr *trace) states(t *testing.T) []string { return states(t, tr.journal.Path()) }

func states(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(text)) {
		var r struct{ State, By string }
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		if r.By == "replay" {
			r.State += " by replay"
		}
		out = append(out, r.State)
	}
	return out
}

func injection(t *testing.T, f *fake, p chaos.Point) (chaos.Injection, *trace) {
	t.Helper()
	j, err := chaos.CreateJournal(filepath.Join(t.TempDir(), "journal.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	tr := &trace{journal: j}
	return chaos.Injection{
		Spec: chaos.Spec{Name: "test/fake", Magnitude: 3}, Fault: f, Driver: f, Point: p, Journal: j,
		Clock: results.ClockSince(time.Now()), Record: tr.record,
	}, tr
}

var (
	allKinds  = []results.Kind{results.Injected, results.Injected, results.Reverted, results.Residue}
	allStates = []string{"planned", "applied", "witnessed", "witnessed", "reverted", "clean"}
)

func nothing(context.Context, chaos.Handle) error { return nil }

func TestInjectLife(t *testing.T) {
	var onDisk []string
	f := &fake{}
	in, tr := injection(t, f, chaos.Point{})
	f.apply = func(chaos.Plan) error { onDisk = tr.states(t); return nil }
	if err := chaos.Inject(t.Context(), in, nothing); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"planned"}, onDisk); d != "" {
		t.Error("journal at apply:", d)
	}
	if d := cmp.Diff(allKinds, tr.kinds); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(allStates, tr.states(t)); d != "" {
		t.Error(d)
	}
	if tr.residue == nil || len(tr.residue) != 0 {
		t.Errorf("residue %#v", tr.residue)
	}
	if l := tr.looks[0]; l.Asked != 3 || l.Observed != 3 || !l.Witnessed || l.Driver != "test/fake" || l.From <= 0 || l.To < l.From {
		t.Errorf("%+v", l)
	}
	if err := in.Journal.Close(); err != nil {
		t.Fatal(err)
	}
	if err := chaos.Replay(in.Journal.Path()); err != nil {
		t.Error("replay of a clean journal:", err)
	}
}

// A witness that fails or sees nothing is evidence, not an error.
func TestInjectNotWitnessed(t *testing.T) {
	seen := 0
	for name, witness := range map[string]func() (float64, bool, error){
		"saw nothing": func() (float64, bool, error) { return 0, false, nil },
		"failed":      func() (float64, bool, error) { return 0, false, errors.New("blind") },
	} {
		seen++
		in, tr := injection(t, &fake{witness: witness}, chaos.Point{})
		if err := chaos.Inject(t.Context(), in, nothing); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(tr.looks) != 2 || tr.looks[0].Witnessed || tr.looks[1].Witnessed {
			t.Errorf("%s: %+v", name, tr.looks)
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

// Whatever breaks, the fault is undone: here a process that was stopped goes on.
func TestInjectAlwaysReverts(t *testing.T) {
	broken := errors.New("broken")
	cases := []struct {
		name string
		set  func(f *fake, tr *trace)
		body func(context.Context, chaos.Handle) error
		want string
	}{
		{"apply fails half way", func(f *fake, _ *trace) {
			apply := f.apply
			f.apply = func(p chaos.Plan) error { return errors.Join(apply(p), broken) }
		}, nothing, "broken"},
		{"apply panics", func(f *fake, _ *trace) {
			apply := f.apply
			f.apply = func(p chaos.Plan) error { _ = apply(p); panic(broken) }
		}, nothing, "broken"},
		{"witness panics", func(f *fake, _ *trace) {
			f.witness = func() (float64, bool, error) { panic(broken) }
		}, nothing, "broken"},
		{"revert fails, the journal's steps do it", func(f *fake, _ *trace) {
			f.revert = func() error { return broken }
		}, nothing, "broken"},
		{"record fails", func(_ *fake, tr *trace) { tr.failOn = results.Injected }, nothing, "disk is full"},
		{"body fails", nil, func(context.Context, chaos.Handle) error { return broken }, "broken"},
		{"body panics", nil, func(context.Context, chaos.Handle) error { panic(broken) }, "broken"},
		{"body ends its goroutine", nil, func(context.Context, chaos.Handle) error {
			runtime.Goexit()
			return nil
		}, "body ended its goroutine"},
		{"residue", func(f *fake, _ *trace) { f.residue = []string{"a leftover rule"} }, nothing, "a leftover rule"},
	}
	seen := 0
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			seen++
			v := victim.Start(t)
			f := &fake{
				targets: []chaos.Process{v.Process},
				undo:    []chaos.Step{{Op: "proc.cont", PID: v.Process.PID, Start: v.Process.Start}},
				apply:   func(chaos.Plan) error { return stopped(v.Process) },
			}
			in, tr := injection(t, f, v.Point("run"))
			if c.set != nil {
				c.set(f, tr)
			}
			err := recovered(func() error { return chaos.Inject(t.Context(), in, c.body) })
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v", err)
			}
			if st, err := v.Stat(); err != nil || st.State == 'T' {
				t.Errorf("state %c, %v", st.State, err)
			}
		})
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

// recovered turns a panic into an error.
func recovered(do func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	return do()
}

// stopped stops a process and waits for it.
func stopped(p chaos.Process) error {
	if err := p.Stop(); err != nil {
		return err
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		if st, err := p.Stat(); err != nil || st.State == 'T' {
			return err
		}
		if time.Now().After(end) {
			return errors.New("does not stop")
		}
	}
}

func TestInjectCancelled(t *testing.T) {
	for _, hold := range []time.Duration{0, time.Hour} {
		in, tr := injection(t, &fake{hold: hold}, chaos.Point{})
		ctx, cancel := context.WithCancel(t.Context())
		err := chaos.Inject(ctx, in, func(ctx context.Context, _ chaos.Handle) error {
			cancel()
			<-ctx.Done()
			return ctx.Err()
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("hold %v: %v", hold, err)
		}
		if d := cmp.Diff(allStates, tr.states(t)); d != "" {
			t.Errorf("hold %v: %s", hold, d)
		}
	}
}

// A hold ends while body goes on, and outlasts a body that is done.
func TestInjectHold(t *testing.T) {
	const hold = 100 * time.Millisecond
	reverted := make(chan struct{})
	f := &fake{hold: hold, revert: func() error { close(reverted); return nil }}
	in, _ := injection(t, f, chaos.Point{})
	if err := chaos.Inject(t.Context(), in, func(context.Context, chaos.Handle) error { <-reverted; return nil }); err != nil {
		t.Fatal(err)
	}
	in, tr := injection(t, &fake{hold: hold}, chaos.Point{})
	if err := chaos.Inject(t.Context(), in, nothing); err != nil {
		t.Fatal(err)
	}
	// The last look may begin before the end of the hold by what the first one took, the revert not.
	if now := in.Clock.Now(); now-tr.looks[0].From < hold {
		t.Errorf("hold of %v over after %v", hold, now-tr.looks[0].From)
	}
}

// chaos/fault/blast-radius: refused in the plan, nothing journaled.
func TestBlastRadius(t *testing.T) {
	inside, outside := victim.Start(t), victim.Start(t)
	step := func(p chaos.Process) []chaos.Step {
		return []chaos.Step{{Op: "proc.cont", PID: p.PID, Start: p.Start}}
	}
	reused := inside.Process
	reused.Start++
	seen := 0
	for name, f := range map[string]*fake{
		"target":         {targets: []chaos.Process{outside.Process}},
		"step":           {undo: step(outside.Process)},
		"reused number":  {undo: step(reused)},
		"the whole host": {targets: []chaos.Process{{PID: 1}}},
	} {
		seen++
		in, tr := injection(t, f, inside.Point("run"))
		f.apply = func(chaos.Plan) error { t.Errorf("%s: applied", name); return nil }
		if err := chaos.Inject(t.Context(), in, nothing); !errors.Is(err, chaos.ErrBlastRadius) {
			t.Errorf("%s: %v", name, err)
		}
		if got := tr.states(t); len(got) != 0 {
			t.Errorf("%s: journal %q", name, got)
		}
	}
	// A step that only Apply finds out is held to the same, a descendant is inside.
	f := &fake{apply: func(p chaos.Plan) error {
		if err := p.Note(step(inside.Child)...); err != nil {
			t.Error(err)
		}
		return p.Note(step(outside.Child)...)
	}}
	in, tr := injection(t, f, inside.Point("run"))
	if err := chaos.Inject(t.Context(), in, nothing); !errors.Is(err, chaos.ErrBlastRadius) {
		t.Error(err)
	}
	if d := cmp.Diff([]string{"planned", "planned", "reverted", "clean"}, tr.states(t)); d != "" {
		t.Error(d)
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

// chaos/fault/undo-idempotent: replay by itself, twice, with a torn line, and on a vanished target.
func TestReplay(t *testing.T) {
	v := victim.Start(t)
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	j, err := chaos.CreateJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := chaos.CreateJournal(path); err == nil {
		t.Error("a journal was overwritten")
	}
	if err := errors.Join(j.Own(v.Process), stopped(v.Child)); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err == nil {
		t.Error("an unclean journal was closed without an error")
	}
	appendText(t, path, `{"state":"planned","id":2,"undo":[{"op":"proc.k`)
	for range 2 {
		if err := chaos.Replay(path); err != nil {
			t.Fatal(err)
		}
		if v.Alive() || v.Child.Alive() {
			t.Error("alive after replay")
		}
		if d := cmp.Diff([]string{"planned", "reverted by replay", "clean by replay"}, states(t, path)); d != "" {
			t.Error(d)
		}
	}
}

func TestReplayPIDReuse(t *testing.T) {
	v := victim.Start(t)
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	j, err := chaos.CreateJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	earlier := chaos.Process{PID: v.Process.PID, Start: v.Process.Start - 1}
	if err := j.Own(earlier); err != nil {
		t.Fatal(err)
	}
	if err := chaos.Replay(path); err != nil {
		t.Fatal(err)
	}
	if !v.Alive() || !v.Child.Alive() {
		t.Error("a later process of the same number was killed")
	}
	if err := errors.Join(j.Disown(earlier), j.Close()); err != nil {
		t.Error(err)
	}
	if err := j.Disown(earlier); err == nil {
		t.Error("disowned twice")
	}
}

func appendText(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// harness is the body of a process that is to die: it owns a victim, has a watchdog and holds a
// pause by the given driver for ever.
func harness(dir, driver string) error {
	journal, err := chaos.CreateJournal(filepath.Join(dir, "journal.jsonl"))
	if err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	if _, err := chaos.StartWatchdog(exe, []string{"watchdog", journal.Path()}, journal.Path()); err != nil {
		return err
	}
	runtime.GC() // nothing refers to the watchdog; it must go on all the same
	v, err := victim.Spawn(dir)
	if err != nil {
		return err
	}
	if err := journal.Own(v.Process); err != nil {
		return err
	}
	for _, d := range proc.Pause().Drivers() {
		if d.Name() != driver {
			continue
		}
		return chaos.Inject(context.Background(), chaos.Injection{
			Spec: chaos.Spec{Name: "proc/pause", Magnitude: 1.5}, Fault: proc.Pause(), Driver: d, Point: v.Point("run"),
			Journal: journal, Clock: results.ClockSince(time.Now()), Grace: 100 * time.Millisecond,
			Record: func(results.Kind, any) error { return nil },
		}, func(context.Context, chaos.Handle) error {
			if err := json.NewEncoder(os.Stdout).Encode([]any{v.Process, v.Child, v.Addr}); err != nil {
				return err
			}
			select {}
		})
	}
	return fmt.Errorf("no driver %s", driver)
}

// doomed is a harness that has a fault in force.
type doomed struct {
	cmd           *exec.Cmd
	victim, child chaos.Process
	addr, journal string
}

func startDoomed(t *testing.T, driver string) *doomed {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	d := &doomed{cmd: exec.Command(exe, "harness", dir, driver), journal: filepath.Join(dir, "journal.jsonl")}
	d.cmd.Stderr = os.Stderr
	out, err := d.cmd.StdoutPipe()
	if err == nil {
		err = d.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = d.cmd.Process.Kill()
		_ = d.cmd.Wait()
		_ = chaos.Replay(d.journal)
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if err := json.Unmarshal(line, &[]any{&d.victim, &d.child, &d.addr}); err != nil {
		t.Fatalf("harness said %q: %v", line, err)
	}
	return d
}

func available(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, d := range proc.Pause().Drivers() {
		if d.Probe(t.Context()).Available {
			out = append(out, d.Name())
		}
	}
	if len(out) == 0 {
		t.Fatal("no driver is available")
	}
	return out
}

func within(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v for: %s", limit, what)
		}
	}
}

func ends(t *testing.T, path, with string) bool {
	all := states(t, path)
	return len(all) > 0 && all[len(all)-1] == with
}

// chaos/fault/watchdog-reverts: the harness is killed with its target, and the target's child,
// frozen. Both are gone within seconds, and nothing is left.
func TestWatchdogAfterKill(t *testing.T) {
	for _, driver := range available(t) {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			d := startDoomed(t, driver)
			if err := d.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			within(t, 5*time.Second, "victim and child to be killed", func() bool {
				return !d.victim.Alive() && !d.child.Alive()
			})
			within(t, 5*time.Second, "the journal to be clean", func() bool { return ends(t, d.journal, "clean by replay") })
			for _, path := range cgroupsIn(t, d.journal) {
				if _, err := os.Stat(path); err == nil {
					t.Errorf("cgroup %s is left", path)
				}
			}
			if err := chaos.Replay(d.journal); err != nil {
				t.Error(err)
			}
		})
	}
}

// chaos/fault/watchdog-reverts: the harness hangs; the target goes on after t_off and grace.
func TestWatchdogAfterStop(t *testing.T) {
	for _, driver := range available(t) {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			d := startDoomed(t, driver)
			if err := d.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			if _, err := victim.Probe(timeout(t, 50*time.Millisecond), d.addr); err == nil {
				t.Fatal("the target is not paused")
			}
			if _, err := victim.Probe(timeout(t, 8*time.Second), d.addr); err != nil {
				t.Fatal("the target stays paused:", err)
			}
			within(t, 5*time.Second, "the revert to be on record", func() bool { return ends(t, d.journal, "clean by replay") })
			if !d.victim.Alive() || !d.child.Alive() {
				t.Error("owned processes were killed although the harness lives")
			}
		})
	}
}

func timeout(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func cgroupsIn(t *testing.T, journal string) []string {
	t.Helper()
	text, err := os.ReadFile(journal)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(text)) {
		var r struct{ Undo []chaos.Step }
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		for _, s := range r.Undo {
			if s.Path != "" {
				out = append(out, s.Path)
			}
		}
	}
	return out
}

// A watchdog that is let go of by a clean harness ends at once and changes nothing.
func TestWatchdogClose(t *testing.T) {
	j, err := chaos.CreateJournal(filepath.Join(t.TempDir(), "journal.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w, err := chaos.StartWatchdog(exe, []string{"watchdog", j.Path()}, j.Path())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(j.Close(), w.Close()); err != nil {
		t.Error(err)
	}
	if d := cmp.Diff([]string{"clean"}, states(t, j.Path())); d != "" {
		t.Error(d)
	}
	if _, err := chaos.StartWatchdog(exe, nil, j.Path()+".none"); err == nil {
		t.Error("a watchdog of no journal was started")
	}
	if err := chaos.Watch(strings.NewReader(""), j.Path()+".none"); err != nil {
		t.Error(err)
	}
}

func TestNullNeedsIdle(t *testing.T) {
	f := &fake{}
	in, _ := injection(t, f, chaos.Point{})
	in.Driver = chaos.Null(f)
	if err := chaos.Inject(t.Context(), in, nothing); err == nil || !strings.Contains(err.Error(), "idle") {
		t.Error(err)
	}
}
