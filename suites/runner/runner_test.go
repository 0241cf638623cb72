package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/chaos"
	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/target"
	"github.com/assay-bench/assay/suites"
)

func TestDrivesAll(t *testing.T) {
	var checks []suites.Check
	for i := range 20 {
		checks = append(checks, simple(fmt.Sprintf("x/c%02d", i), measure))
	}
	checks = append(checks, exclusive(simple("x/alone", measure)), simple("claims/rpc.framed", measure))
	r := newRig(t, checks...)
	var done []int
	r.opt.Progress = func(e Event) {
		done = append(done, e.Done)
		if e.Total != len(r.run.Plan) || e.Verdict.Status != results.Pass || e.Took < 0 {
			t.Errorf("event %+v", e)
		}
	}
	got := r.drive()
	if len(got) != len(checks)+2 {
		t.Errorf("%d verdicts for %d checks", len(got), len(checks))
	}
	for id, v := range got {
		if v.Status != results.Pass {
			t.Errorf("%s is %s %s", id, v.Status, v.Reason)
		}
	}
	want := make([]int, len(checks)) // the frame's two were done before the first
	for i := range want {
		want[i] = i + 3
	}
	if diff := cmp.Diff(want, done); diff != "" {
		t.Errorf("progress (-want +got):\n%s", diff)
	}
	if r.target.starts != 1 || r.target.stopped != 1 {
		t.Errorf("%d starts, %d stops", r.target.starts, r.target.stopped)
	}
}

func TestOrderIsDrawnFromTheSeed(t *testing.T) {
	order := func(seed uint64) []string {
		var mu sync.Mutex
		var out []string
		note := func(ctx context.Context, env *scenarios.Env) error {
			mu.Lock()
			out = append(out, env.Key.Check)
			mu.Unlock()
			return measure(ctx, env)
		}
		var checks []suites.Check
		for i := range 12 {
			checks = append(checks, simple(fmt.Sprintf("x/c%02d", i), note))
		}
		checks = append(checks, exclusive(simple("x/a-alone", note)), simple("claims/z", note))
		r := newRig(t, checks...)
		r.opt.Workers, r.opt.Run.Seed = 1, seed
		r.drive()
		return out
	}
	one := order(1)
	if len(one) != 14 || one[0] != "claims/z" || one[13] != "x/a-alone" {
		t.Errorf("order %q: probes come first, exclusive cases last", one)
	}
	if slices.IsSorted(one[1:13]) {
		t.Errorf("order %q is not shuffled", one)
	}
	if diff := cmp.Diff(one, order(1)); diff != "" {
		t.Errorf("the same seed gives another order (-first +second):\n%s", diff)
	}
	if cmp.Equal(one, order(2)) {
		t.Error("another seed gives the same order")
	}
}

func TestEnvOfACase(t *testing.T) {
	type seen struct {
		Token string
		Rand  uint64
	}
	envs := func(seed uint64) map[string]seen {
		var mu sync.Mutex
		out := map[string]seen{}
		note := func(ctx context.Context, env *scenarios.Env) error {
			mu.Lock()
			defer mu.Unlock()
			out[env.Key.Check] = seen{env.Token, env.Rand.Uint64()}
			if env.Endpoints["rpc"] != "127.0.0.1:1" || !env.Claims.Has("rpc.framed") {
				t.Errorf("endpoints %v, claims %+v", env.Endpoints, env.Claims)
			}
			return measure(ctx, env)
		}
		r := newRig(t, simple("x/a", note), simple("x/b", note))
		r.opt.Run.Seed = seed
		r.drive()
		return out
	}
	one := envs(1)
	if one["x/a"] == one["x/b"] || one["x/a"].Token == one["x/b"].Token || one["x/a"].Rand == one["x/b"].Rand {
		t.Errorf("two cases share token or randomness: %+v", one)
	}
	if diff := cmp.Diff(one, envs(1)); diff != "" {
		t.Errorf("the same seed replays other choices (-first +second):\n%s", diff)
	}
	if cmp.Equal(one, envs(2)) {
		t.Error("another seed replays the same choices")
	}
}

func TestHarnessErrorsAreBroken(t *testing.T) {
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	withControl := simple("x/control-errs", measure)
	withControl.Control = &suites.Control{
		Drive: func(context.Context, *scenarios.Env) error { return errors.New("no golden file") },
		Judge: func([]results.Evidence) (bool, string) { return true, "" },
	}
	r := newRig(t,
		simple("x/panics", func(ctx context.Context, env *scenarios.Env) error {
			panic("assignment to entry in nil map")
		}),
		simple("x/errs", func(ctx context.Context, env *scenarios.Env) error {
			return errors.Join(measure(ctx, env), errors.New("no such file"))
		}),
		simple("x/heeds-its-end", func(ctx context.Context, env *scenarios.Env) error {
			<-ctx.Done()
			return ctx.Err()
		}),
		simple("x/ignores-its-end", func(ctx context.Context, env *scenarios.Env) error {
			<-release
			return nil
		}),
		withControl,
		simple("x/fine", measure),
	)
	r.opt.limit, r.opt.grace = 20*time.Millisecond, 20*time.Millisecond
	got := r.drive()
	says := map[string]string{
		"x/panics": "assignment to entry in nil map", "x/errs": "no such file", "x/heeds-its-end": "deadline exceeded",
		"x/ignores-its-end": "did not return within", "x/control-errs": "control: no golden file",
	}
	for id, text := range says {
		expect(t, got, id, results.Broken, suites.ReasonHarness)
		if !strings.Contains(got[id].Why.Observed, text) {
			t.Errorf("%s: %q does not say %q", id, got[id].Why.Observed, text)
		}
	}
	if !strings.Contains(got["x/panics"].Why.Observed, "runner_test.go") {
		t.Errorf("a panic's stack is not there: %s", got["x/panics"].Why.Observed)
	}
	expect(t, got, "x/fine", results.Pass, "")
}

func TestControlDecidesWhetherToDrive(t *testing.T) {
	control := func(kind results.Kind, drove *bool) suites.Check {
		c := simple("x/c", func(ctx context.Context, env *scenarios.Env) error {
			*drove = true
			return measure(ctx, env)
		})
		c.Control = &suites.Control{
			Drive: func(_ context.Context, env *scenarios.Env) error { return env.Record(kind, nil) },
			Judge: func(es []results.Evidence) (bool, string) {
				return len(es) == 1 && es[0].Kind == results.Received, "seen"
			},
		}
		return c
	}
	var drove bool
	expect(t, newRig(t, control(results.Received, &drove)).drive(), "x/c", results.Pass, "")
	if !drove {
		t.Error("after a good control the case was not driven")
	}
	drove = false
	expect(t, newRig(t, control(results.Silent, &drove)).drive(), "x/c", results.Fail, suites.ReasonControl)
	if drove {
		t.Error("after a failed control the case was driven")
	}
}

func TestNoiseIsTriedAgain(t *testing.T) {
	noisy := func(bad int, drives *int) suites.Check {
		c := simple("x/noisy", func(_ context.Context, env *scenarios.Env) error {
			*drives++
			return env.Record(results.Measured, *drives)
		})
		c.Judge = func(t suites.Trace) suites.Finding {
			var n int
			if err := t.Evidence[0].Decode(&n); err != nil || len(t.Evidence) != 3 { // Measured, Stalled, Ended
				return suites.Finding{Observed: "evidence of another attempt"}
			}
			if n <= bad {
				return suites.TooNoisy("", "", []uint64{t.Evidence[0].Seq})
			}
			return suites.Passing("", "", []uint64{t.Evidence[0].Seq})
		}
		return c
	}
	var drives int
	r := newRig(t, noisy(2, &drives))
	expect(t, r.drive(), "x/noisy", results.Pass, "")
	if n := r.count(results.Attempted, results.Key{Check: "x/noisy"}); drives != 3 || n != 2 {
		t.Errorf("%d drives, %d new attempts recorded", drives, n)
	}
	drives = 0
	r = newRig(t, noisy(99, &drives))
	r.opt.Attempts = 5
	expect(t, r.drive(), "x/noisy", results.Inconclusive, suites.ReasonHostNoise)
	if drives != 5 {
		t.Errorf("%d drives, want as many as there are attempts", drives)
	}
}

func TestOtherOutcomesAreNotTriedAgain(t *testing.T) {
	drives := 0
	r := newRig(t, simple("x/fails", func(context.Context, *scenarios.Env) error { drives++; return nil }))
	expect(t, r.drive(), "x/fails", results.Fail, "bad")
	if drives != 1 {
		t.Errorf("a failure was driven %d times", drives)
	}
}

func TestTargetThatDies(t *testing.T) {
	var r *rig
	var killed, suffered, active atomic.Int32
	victimRuns := make(chan struct{})
	killer := simple("x/kills", func(ctx context.Context, env *scenarios.Env) error {
		active.Add(1)
		defer active.Add(-1)
		if killed.Add(1) == 1 {
			<-victimRuns
		}
		r.target.die()
		return measure(ctx, env)
	})
	victim := simple("x/victim", func(ctx context.Context, env *scenarios.Env) error {
		if active.Add(1); suffered.Load() > 0 && active.Load() != 1 {
			t.Error("the case is not driven alone again")
		}
		defer active.Add(-1)
		if suffered.Add(1) == 1 {
			exited := r.target.Exited()
			close(victimRuns)
			<-exited
			return nil // it saw nothing of the target
		}
		return measure(ctx, env)
	})
	r = newRig(t, killer, victim, exclusive(simple("x/later", measure)))
	r.opt.Workers = 2
	got := r.drive()
	expect(t, got, "x/victim", results.Pass, "")
	expect(t, got, "x/kills", results.Pass, "")
	expect(t, got, "x/later", results.Pass, "")
	expect(t, got, "target/stays-up", results.Fail, "exited")
	expect(t, got, "target/ready", results.Pass, "")
	if killed.Load() != 2 || suffered.Load() != 2 {
		t.Errorf("driven %d and %d times, want each again alone", killed.Load(), suffered.Load())
	}
	if n := r.count(results.Attempted, results.Key{Check: "x/victim"}); n != 1 {
		t.Errorf("%d new attempts at the victim recorded", n)
	}
	if n := r.count(results.Exited, suites.FrameKey); n != r.target.starts {
		t.Errorf("%d ends recorded of %d processes", n, r.target.starts)
	}
}

func TestRestartsAreBounded(t *testing.T) {
	var r *rig
	var checks []suites.Check
	for i := range maxRestarts + 10 {
		checks = append(checks, simple(fmt.Sprintf("x/c%02d", i), func(context.Context, *scenarios.Env) error {
			r.target.die()
			return nil
		}))
	}
	r = newRig(t, checks...)
	got := r.drive()
	if r.target.starts < 2 || r.target.starts > 1+maxRestarts {
		t.Errorf("%d starts", r.target.starts)
	}
	for id, v := range got {
		if v.Status == results.Pass && id != "target/ready" || v.Status == results.Unproven {
			t.Errorf("%s is %s", id, v.Status)
		}
	}
}

func TestTargetThatDoesNotComeBack(t *testing.T) {
	var r *rig
	r = newRig(t,
		simple("claims/first", measure),
		simple("x/kills", func(ctx context.Context, env *scenarios.Env) error {
			r.target.die()
			return measure(ctx, env)
		}),
		exclusive(simple("x/later", measure)),
	)
	r.target.startErrs = []error{nil, &target.NotReady{Reason: "timeout", Detail: "port in use"}}
	got := r.drive()
	expect(t, got, "claims/first", results.Pass, "")
	expect(t, got, "x/kills", results.Fail, suites.ReasonNotReady)
	expect(t, got, "x/later", results.Fail, suites.ReasonNotReady)
}

func TestTargetThatIsNotReady(t *testing.T) {
	drove := false
	r := newRig(t, simple("x/a", func(context.Context, *scenarios.Env) error { drove = true; return nil }))
	r.target.startErrs = []error{fmt.Errorf("start: %w", &target.NotReady{Reason: "garbage", Detail: "it said hello"})}
	got := r.drive()
	expect(t, got, "x/a", results.Fail, suites.ReasonNotReady)
	expect(t, got, "target/ready", results.Fail, "garbage")
	if drove || r.target.stopped != 1 {
		t.Errorf("driven: %t, stopped %d times", drove, r.target.stopped)
	}
}

func TestHarnessCannotStart(t *testing.T) {
	tests := map[string]func(*fake){
		"no program": func(f *fake) { f.startErrs = []error{errors.New("no fork")} },
		"no claims":  func(f *fake) { f.claimsErr = errors.New("no file") },
	}
	for name, change := range tests {
		drove := false
		r := newRig(t, simple("x/a", func(context.Context, *scenarios.Env) error { drove = true; return nil }))
		change(r.target)
		if err := Drive(t.Context(), r.opt); err == nil || drove {
			t.Errorf("%s: error %v, driven: %t", name, err, drove)
		}
		if r.target.stopped != 1 {
			t.Errorf("%s: the target was stopped %d times", name, r.target.stopped)
		}
	}
}

// TestForeignEndpoints refuses addresses that a target made up, before anything is dialled.
func TestForeignEndpoints(t *testing.T) {
	for _, addr := range []string{"10.1.2.3:80", "nonsense"} {
		drove := false
		r := newRig(t, simple("x/a", func(context.Context, *scenarios.Env) error { drove = true; return nil }))
		r.target.addrs = target.Endpoints{"rpc": addr}
		got := r.drive()
		expect(t, got, "target/ready", results.Fail, "garbage")
		expect(t, got, "x/a", results.Fail, suites.ReasonNotReady)
		if drove || r.target.stopped != 1 {
			t.Errorf("%s: driven: %t, stopped %d times", addr, drove, r.target.stopped)
		}
	}
}

func TestUnclaimedIsNotDriven(t *testing.T) {
	drove := false
	c := simple("x/a", func(context.Context, *scenarios.Env) error { drove = true; return nil })
	c.Needs = []features.Feature{features.GRPCInterop}
	expect(t, newRig(t, c).drive(), "x/a", results.NotClaimed, "")
	if drove {
		t.Error("a case was driven whose feature is not claimed")
	}
}

// meeting lets n drives wait for each other.
func meeting(n int) func(context.Context, *scenarios.Env) error {
	var wg sync.WaitGroup
	wg.Add(n)
	return func(ctx context.Context, env *scenarios.Env) error {
		wg.Done()
		all := make(chan struct{})
		go func() { wg.Wait(); close(all) }()
		select {
		case <-all:
			return measure(ctx, env)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func TestExclusiveCasesRunAlone(t *testing.T) {
	var active atomic.Int32
	count := func(drive func(context.Context, *scenarios.Env) error, alone bool) func(context.Context, *scenarios.Env) error {
		return func(ctx context.Context, env *scenarios.Env) error {
			if n := active.Add(1); alone && n != 1 {
				t.Errorf("%s runs beside %d others", env.Key, n-1)
			}
			defer active.Add(-1)
			return drive(ctx, env)
		}
	}
	together := meeting(2) // the others really do run at once
	struck := make(chan struct{})
	linger := func(ctx context.Context, env *scenarios.Env) error {
		select { // time for one that should wait to begin
		case <-struck:
		case <-time.After(50 * time.Millisecond):
		}
		return measure(ctx, env)
	}
	r := newRig(t,
		simple("x/a", count(together, false)), simple("x/b", count(together, false)), simple("x/c", count(linger, false)),
		exclusive(simple("x/d", count(measure, true))), exclusive(simple("x/e", count(measure, true))),
		under(simple("x/f", count(func(ctx context.Context, env *scenarios.Env) error {
			close(struck)
			return measure(ctx, env)
		}, true)), chaos.Spec{Name: "net/fake", Magnitude: 1}),
	)
	r.faults(fault{available: true, witnessed: true})
	for id, v := range r.drive() {
		if v.Status != results.Pass {
			t.Errorf("%s is %s %s", id, v.Status, v.Reason)
		}
	}
}

func TestTogetherRunsExclusiveCasesBesideOthers(t *testing.T) {
	together := meeting(2)
	r := newRig(t, simple("x/a", together), exclusive(simple("x/b", together)))
	r.opt.Together = true
	for id, v := range r.drive() {
		if v.Status != results.Pass {
			t.Errorf("%s is %s %s", id, v.Status, v.Reason)
		}
	}
}

func TestCancelLeavesWhatCanBeJudged(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := newRig(t,
		simple("claims/done", measure),
		simple("x/errs", func(ctx context.Context, env *scenarios.Env) error {
			<-ctx.Done()
			return ctx.Err()
		}),
		simple("x/records", func(ctx context.Context, env *scenarios.Env) error {
			cancel()
			<-ctx.Done()
			return nil // as if the target had been silent
		}),
		exclusive(simple("x/later", measure)),
	)
	if err := Drive(ctx, r.opt); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	got := r.judge()
	expect(t, got, "claims/done", results.Pass, "")
	for _, id := range []string{"x/errs", "x/records", "x/later"} {
		expect(t, got, id, results.Unproven, suites.ReasonUnfinished)
	}
	expect(t, got, "target/stays-up", results.Pass, "")
	if r.target.stopped != 1 {
		t.Errorf("the target was stopped %d times", r.target.stopped)
	}
}

// full is a disk that takes n writes.
type full struct{ left atomic.Int32 }

var errFull = errors.New("no space left on device")

func (f *full) Write(b []byte) (int, error) {
	if f.left.Add(-1) < 0 {
		return 0, errFull
	}
	return len(b), nil
}

func TestEvidenceThatCanNotBeWrittenStopsTheRun(t *testing.T) {
	const n = 40
	for _, takes := range []int32{0, 1, 2, 5, 17} {
		var drives atomic.Int32
		var checks []suites.Check
		for i := range n {
			checks = append(checks, simple(fmt.Sprintf("x/c%02d", i), func(ctx context.Context, env *scenarios.Env) error {
				drives.Add(1)
				return measure(ctx, env)
			}))
		}
		r := newRig(t, checks...)
		w := &full{}
		w.left.Store(takes)
		r.opt.Recorder = results.NewRecorder(w, r.opt.Clock)
		r.opt.Workers = 2
		if err := Drive(t.Context(), r.opt); !errors.Is(err, errFull) {
			t.Errorf("after %d writes: error %v", takes, err)
		}
		if d := drives.Load(); d > takes/3+2 {
			t.Errorf("after %d writes %d cases were driven", takes, d)
		}
		if r.target.stopped != 1 {
			t.Errorf("after %d writes the target was stopped %d times", takes, r.target.stopped)
		}
	}
}

func TestUnderFault(t *testing.T) {
	const outside = "192.0.2.1:9" // RFC 5737: documentation
	dial := func(ctx context.Context, env *scenarios.Env) error {
		ctx, cancel := context.WithCancel(ctx)
		cancel() // no packet leaves: what counts is whether the dialer allows it
		_, err := env.Dial(ctx, "tcp", outside)
		return env.Record(results.Dialed, map[string]any{"allowed": !errors.Is(err, scenarios.ErrNotAllowed), "rpc": env.Endpoints["rpc"]})
	}
	judge := func(t suites.Trace) suites.Finding {
		for _, e := range t.Evidence {
			if e.Kind == results.Dialed {
				return suites.Passing("", string(e.Data), []uint64{e.Seq})
			}
		}
		return suites.Failing("bad", "", "", nil)
	}
	spec := chaos.Spec{Name: "net/fake", Magnitude: 0.5}
	calm, faulted := simple("x/calm", dial), under(simple("x/faulted", dial), spec)
	calm.Judge, faulted.Judge = judge, judge
	r := newRig(t, calm, faulted)
	r.faults(fault{available: true, witnessed: true, route: "127.0.0.1:2"})
	got := r.drive()
	const key = "x/faulted@net/fake=0.5"
	expect(t, got, "x/calm", results.Pass, "")
	expect(t, got, key, results.Pass, "")
	if want := `{"allowed":true,"rpc":"127.0.0.1:1"}`; got["x/calm"].Why.Observed != want {
		t.Errorf("in fair weather %s, want %s", got["x/calm"].Why.Observed, want)
	}
	if want := `{"allowed":false,"rpc":"127.0.0.1:2"}`; got[key].Why.Observed != want {
		t.Errorf("under the fault %s, want %s", got[key].Why.Observed, want)
	}
	if err := r.opt.Dialer.Check(outside); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.opt.Dialer.DialContext(ctx, "tcp", outside); errors.Is(err, scenarios.ErrNotAllowed) {
		t.Error("the dialer is still armed after the fault")
	}
	for kind, want := range map[results.Kind]int{results.Injected: 2, results.Reverted: 1, results.Residue: 1} {
		if n := r.count(kind, results.Key{Check: "x/faulted", Under: spec.String()}); n != want {
			t.Errorf("%d times %s, want %d", n, kind, want)
		}
	}
}

func TestUnderFaultGoneWrong(t *testing.T) {
	spec := chaos.Spec{Name: "net/fake", Magnitude: 0.5}
	const key = "x/f@net/fake=0.5"
	faulted := func(change func(*rig)) map[string]results.Verdict {
		r := newRig(t, under(simple("x/f", measure), spec))
		change(r)
		return r.drive()
	}
	expect(t, faulted(func(r *rig) { r.faults(fault{available: true}) }), key, results.Inconclusive, suites.ReasonNotWitnessed)
	idled := false
	expect(t, faulted(func(r *rig) {
		r.faults(fault{available: true, witnessed: true, idled: &idled})
		r.opt.Null = true
	}), key, results.Inconclusive, suites.ReasonNotWitnessed)
	if !idled {
		t.Error("with Null the real driver was applied")
	}
	got := faulted(func(r *rig) { r.faults(fault{}) })
	expect(t, got, key, results.Broken, suites.ReasonHarness)
	if why := got[key].Why.Observed; !strings.Contains(why, "probe of first") || !strings.Contains(why, "probe of second") {
		t.Errorf("%q lacks the texts of the probes", why)
	}
	expect(t, faulted(func(r *rig) {
		r.opt.Fault = func(string) (chaos.Fault, error) { return fault{available: true}, nil }
	}), key, results.Broken, suites.ReasonHarness)
	expect(t, faulted(func(r *rig) {
		r.opt.Fault = func(string) (chaos.Fault, error) { return nil, errors.New("no such fault") }
	}), key, results.Broken, suites.ReasonHarness)
	r := newRig(t, under(simple("x/f", func(context.Context, *scenarios.Env) error { panic("in the storm") }), spec))
	r.faults(fault{available: true, witnessed: true})
	expect(t, r.drive(), key, results.Broken, suites.ReasonHarness)
}

// ticks is a clock that a test sets.
type ticks struct{ now time.Duration }

func (c *ticks) Now() time.Duration { return c.now }

func TestStalls(t *testing.T) {
	const ms = time.Millisecond
	clock := &ticks{}
	s := &stalls{clock: clock}
	at := func(now time.Duration) { clock.now = now; s.note(now) }
	at(5 * ms)
	at(10*ms + ms/2)
	if got := s.since(0); got != 0 {
		t.Errorf("ticks in time count as a stall of %s", got)
	}
	at(60*ms + ms/2) // 50 ms in place of 5
	at(65 * ms)
	at(80 * ms) // 15 ms
	for began, want := range map[time.Duration]time.Duration{0: 45 * ms, 55 * ms: 45 * ms, 61 * ms: 10 * ms, 80 * ms: 10 * ms, 81 * ms: 0} {
		if got := s.since(began); got != want {
			t.Errorf("since %s: %s, want %s", began, got, want)
		}
	}
	clock.now = 200 * ms // no tick came since 80 ms
	if got := s.since(90 * ms); got != 115*ms {
		t.Errorf("a stall that goes on counts as %s, want 115ms", got)
	}
}

func TestStallsAreBounded(t *testing.T) {
	clock := &ticks{}
	s := &stalls{clock: clock}
	for i := range 3 * maxGaps {
		clock.now = time.Duration(i) * time.Second
		s.note(clock.now)
	}
	if len(s.gaps) > maxGaps || s.since(clock.now) != time.Second-stallTick {
		t.Errorf("%d gaps are kept, the newest is %s", len(s.gaps), s.since(clock.now))
	}
}

func TestStallsAreWatched(t *testing.T) {
	s := watchStalls(results.ClockSince(time.Now()))
	s.mu.Lock() // the watcher can not note its ticks
	time.Sleep(10 * stallTick)
	s.mu.Unlock()
	if got := s.since(0); got < stallTick {
		t.Errorf("a stall of %s was seen as %s", 10*stallTick, got)
	}
	s.stop()
}
