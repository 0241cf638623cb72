package prove_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/chaos"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/suites"
	"github.com/assay-bench/assay/suites/prove"
)

func check(id string, kills ...suites.Kill) suites.Check {
	return suites.Check{
		ID: id, Title: id, Covers: []string{id}, Reasons: []string{"bad", "late"}, Kills: kills,
		Drive: func(context.Context, *scenarios.Env) error { return nil },
		Judge: func(suites.Trace) suites.Finding { return suites.Finding{} },
	}
}

// tiny is a suite with both sentinels, a check with cases and a fault, and one of the stack.
func tiny(t *testing.T) *suites.Suite {
	t.Helper()
	rpc := check("rpc/wire/four-transports", suites.Kill{Defect: "rpc.form", Reason: "bad", Case: "framed"})
	rpc.Cases = []suites.Case{{ID: "framed"}, {ID: "buffered"}}
	grpc := check("rpc/wire/grpc-interop", suites.Kill{Defect: "grpc.loses", Reason: "bad"})
	grpc.Cases = []suites.Case{{ID: "empty_unary"}}
	seq := check("rpc/wire/seq",
		suites.Kill{Defect: "rpc.seq", Reason: "bad", Case: "a"},
		suites.Kill{Defect: "rpc.slow", Reason: "late", Case: "b", Under: "proc/pause=0.4"})
	seq.Cases = []suites.Case{{ID: "a"}, {ID: "b"}}
	seq.Under, seq.Endpoint = []chaos.Spec{{Name: "proc/pause", Magnitude: 0.4}}, "rpc"
	seq.Probe = func(context.Context, *scenarios.Env, string) (time.Duration, error) { return 0, nil }
	stack := check("rpc/wire/ready", suites.Kill{Defect: "stack.never-ready", Reason: "late"})
	a := suites.Area{Name: "rpc", Checks: []suites.Check{rpc, grpc, seq, stack}}
	for _, c := range a.Checks {
		a.Requirements = append(a.Requirements, suites.Requirement{ID: c.ID, Subject: "target", Basis: "standard"})
	}
	a.Requirements = append(a.Requirements,
		suites.Requirement{ID: "rpc/uncovered", Subject: "target"}, suites.Requirement{ID: "rpc/ours", Subject: "harness"})
	s, err := suites.New(a)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var known = []string{"rpc.form", "grpc.loses", "rpc.seq", "rpc.slow", "stack.never-ready"}

var sentinels = []prove.Sentinel{{Face: "rpc", Case: "rpc/wire/four-transports#framed"}, {Face: "grpc", Case: "rpc/wire/grpc-interop#empty_unary"}}

// lab answers trials as a sound harness would, but for what a test changes.
type lab struct {
	t      *testing.T
	suite  *suites.Suite
	change func(prove.Trial, *results.Bundle)

	mu      sync.Mutex
	trials  []prove.Trial
	bundles map[string]*results.Bundle
}

func (l *lab) options() prove.Options {
	return prove.Options{Sentinels: sentinels, Suite: l.suite, Known: known, Hollow: []string{"mute", "garbage"}, Workers: 2, Conduct: l.conduct}
}

func (l *lab) conduct(_ context.Context, trial prove.Trial) (*results.Bundle, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trials = append(l.trials, trial)
	plan, err := l.suite.Plan(suites.Selection{
		Patterns: trial.Patterns, Profile: "full",
		Barred:    func(suites.Check, results.Key) string { return "" },
		Reproduce: suites.Pattern,
	})
	if err != nil {
		return nil, err
	}
	b := &results.Bundle{Run: results.Run{Plan: plan.Planned}, Verdicts: &results.Verdicts{}}
	for _, p := range plan.Planned {
		b.Verdicts.Verdicts = append(b.Verdicts.Verdicts, l.verdict(trial, p.Key()))
	}
	if l.change != nil {
		l.change(trial, b)
	}
	if l.bundles == nil {
		l.bundles = map[string]*results.Bundle{}
	}
	l.bundles[trial.Name] = b
	return b, nil
}

func (l *lab) verdict(trial prove.Trial, key results.Key) results.Verdict {
	v := results.Verdict{Check: key.Check, Case: key.Case, Under: key.Under, Status: results.Pass}
	switch {
	case trial.Hollow != "":
		v.Status, v.Reason = results.Fail, "bad"
	case trial.Null && key.Under != "":
		v.Status, v.Reason = results.Inconclusive, suites.ReasonNotWitnessed
	}
	c, _ := l.suite.Check(key.Check)
	for _, k := range c.Kills {
		if slices.Contains(trial.Defects, k.Defect) && (k.Case == "" || k.Case == key.Case) && k.Under == key.Under {
			v.Status, v.Reason = results.Fail, k.Reason
		}
	}
	return v
}

// of tells whether a trial is the named one, or that one again.
func of(name string, trial prove.Trial) bool {
	return trial.Name == name || strings.HasPrefix(trial.Name, name+"-again-")
}

// only keeps a change to the trial of exactly that name.
func only(name string, change func(prove.Trial, *results.Bundle)) func(prove.Trial, *results.Bundle) {
	return func(trial prove.Trial, b *results.Bundle) {
		if trial.Name == name {
			change(trial, b)
		}
	}
}

// set changes the verdict on one case of one trial, also when that is repeated.
func set(name, pattern string, status results.Status, reason string) func(prove.Trial, *results.Bundle) {
	return func(trial prove.Trial, b *results.Bundle) {
		if !of(name, trial) {
			return
		}
		for i := range b.Verdicts.Verdicts {
			if v := &b.Verdicts.Verdicts[i]; suites.Pattern(v.Key()) == pattern {
				v.Status, v.Reason = status, reason
				return
			}
		}
		panic(name + " has no " + pattern)
	}
}

// drop removes the verdicts on a check from one trial.
func drop(name, check string) func(prove.Trial, *results.Bundle) {
	return func(trial prove.Trial, b *results.Bundle) {
		if of(name, trial) {
			b.Verdicts.Verdicts = slices.DeleteFunc(b.Verdicts.Verdicts, func(v results.Verdict) bool { return v.Check == check || check == "" })
		}
	}
}

func run(t *testing.T, change func(prove.Trial, *results.Bundle)) (*lab, *results.Bundle, *results.Proof) {
	t.Helper()
	l := &lab{t: t, suite: tiny(t), change: change}
	clean, proof, err := prove.Run(t.Context(), l.options())
	if err != nil {
		t.Fatal(err)
	}
	return l, clean, proof
}

func TestProven(t *testing.T) {
	l, clean, p := run(t, nil)
	if len(p.Survivors) != 0 {
		t.Errorf("survivors %q", p.Survivors)
	}
	if clean == nil || len(clean.Verdicts.Verdicts) != 8 {
		t.Errorf("the clean reference's bundle is %+v", clean)
	}
	want := []results.ProvedKill{
		{Defect: "grpc.loses", Check: "rpc/wire/grpc-interop", Reason: "bad", Observed: "fail bad", Killed: true},
		{Defect: "rpc.form", Check: "rpc/wire/four-transports", Case: "framed", Reason: "bad", Observed: "fail bad", Killed: true},
		{Defect: "rpc.seq", Check: "rpc/wire/seq", Case: "a", Reason: "bad", Observed: "fail bad", Killed: true},
		{Defect: "rpc.slow", Check: "rpc/wire/seq", Case: "b", Under: "proc/pause=0.4", Reason: "late", Observed: "fail late", Killed: true},
		{Defect: "stack.never-ready", Check: "rpc/wire/ready", Reason: "late", Observed: "fail late", Killed: true},
	}
	if diff := cmp.Diff(want, p.Defects); diff != "" {
		t.Errorf("matrix (-want +got):\n%s", diff)
	}
	if p.Requirements != 5 || p.Covered != 4 || p.Proven != 4 {
		t.Errorf("%d requirements, %d covered, %d proven", p.Requirements, p.Covered, p.Proven)
	}
	for _, h := range p.Hollow {
		if h.Executed != 8 || h.Counts["fail"] != 8 || len(h.Counts) != 1 {
			t.Errorf("hollow %+v", h)
		}
	}
	if len(p.Hollow) != 2 || len(p.Faults) != 2 || p.SuiteDigest != l.suite.Digest() {
		t.Errorf("%d hollow targets, %d null faults, digest %s", len(p.Hollow), len(p.Faults), p.SuiteDigest)
	}
}

func TestTrials(t *testing.T) {
	l, _, _ := run(t, nil)
	byName := map[string]prove.Trial{}
	for _, tr := range l.trials {
		byName[tr.Name] = tr
	}
	rpc, grpc := "rpc/wire/four-transports#framed", "rpc/wire/grpc-interop#empty_unary"
	want := map[string]prove.Trial{
		"clean":          {Name: "clean", Probing: true},
		"hollow-mute":    {Name: "hollow-mute", Hollow: "mute"},
		"hollow-garbage": {Name: "hollow-garbage", Hollow: "garbage"},
		"null-faults": {Name: "null-faults", Null: true, Patterns: []string{
			"rpc/wire/seq#a@proc/pause=0.4", "rpc/wire/seq#b@proc/pause=0.4",
		}},
		"defect-grpc.loses":        {Name: "defect-grpc.loses", Defects: []string{"grpc.loses"}, Patterns: []string{"rpc/wire/grpc-interop", rpc}},
		"defect-rpc.form":          {Name: "defect-rpc.form", Defects: []string{"rpc.form"}, Patterns: []string{rpc, grpc}},
		"defect-rpc.seq":           {Name: "defect-rpc.seq", Defects: []string{"rpc.seq"}, Patterns: []string{"rpc/wire/seq#a", grpc}},
		"defect-rpc.slow":          {Name: "defect-rpc.slow", Defects: []string{"rpc.slow"}, Patterns: []string{"rpc/wire/seq#b@proc/pause=0.4", grpc}},
		"defect-stack.never-ready": {Name: "defect-stack.never-ready", Defects: []string{"stack.never-ready"}, Patterns: []string{"rpc/wire/ready", rpc, grpc}},
	}
	if diff := cmp.Diff(want, byName); diff != "" {
		t.Errorf("trials (-want +got):\n%s", diff)
	}
}

// TestNoisyHostLeavesOpen keeps what the host was too noisy to say apart from what survived.
func TestNoisyHostLeavesOpen(t *testing.T) {
	_, _, p := run(t, set("clean", "rpc/wire/ready", results.Inconclusive, suites.ReasonHostNoise))
	if len(p.Survivors) != 0 || len(p.Open) != 1 || !strings.Contains(p.Open[0], "rpc/wire/ready is inconclusive host-noise") {
		t.Errorf("survivors %q, open %q", p.Survivors, p.Open)
	}
}

func TestSurvivors(t *testing.T) {
	const under = "rpc/wire/seq#b@proc/pause=0.4"
	tests := []struct {
		name   string
		change func(prove.Trial, *results.Bundle)
		says   string
		killed string // the defect that is not killed; empty: all are
	}{
		{"passes", set("defect-rpc.seq", "rpc/wire/seq#a", results.Pass, ""), "rpc.seq survives rpc/wire/seq (bad), seen: pass", "rpc.seq"},
		{"wrong reason", set("defect-rpc.seq", "rpc/wire/seq#a", results.Fail, "late"), "rpc.seq survives rpc/wire/seq (bad), seen: fail late", "rpc.seq"},
		{"right reason, wrong status", set("defect-rpc.seq", "rpc/wire/seq#a", results.Inconclusive, "bad"), "seen: inconclusive bad", "rpc.seq"},
		{"broken", set("defect-rpc.seq", "rpc/wire/seq#a", results.Broken, "harness-error"), "seen: broken harness-error", "rpc.seq"},
		{"not judged", drop("defect-rpc.seq", "rpc/wire/seq"), "rpc.seq survives rpc/wire/seq (bad), seen: no verdict", "rpc.seq"},
		{"not under the fault", set("defect-rpc.slow", under, results.Pass, ""), "rpc.slow survives", "rpc.slow"},
		{"under a fault, but not in fair weather", func(tr prove.Trial, b *results.Bundle) {
			if of("defect-rpc.seq", tr) {
				set("defect-rpc.seq", "rpc/wire/seq#a", results.Pass, "")(tr, b)
				b.Verdicts.Verdicts = append(b.Verdicts.Verdicts, results.Verdict{
					Check: "rpc/wire/seq", Case: "a", Under: "proc/pause=0.4", Status: results.Fail, Reason: "bad",
				})
			}
		}, "rpc.seq survives rpc/wire/seq (bad), seen: pass", "rpc.seq"},
		{"in another case", func(tr prove.Trial, b *results.Bundle) {
			if of("defect-rpc.seq", tr) {
				set("defect-rpc.seq", "rpc/wire/seq#a", results.Pass, "")(tr, b)
				b.Verdicts.Verdicts = append(b.Verdicts.Verdicts, results.Verdict{
					Check: "rpc/wire/seq", Case: "b", Status: results.Fail, Reason: "bad",
				})
			}
		}, "rpc.seq survives rpc/wire/seq (bad), seen: pass", "rpc.seq"},
		{"not run here", func(tr prove.Trial, b *results.Bundle) {
			if of("defect-rpc.slow", tr) {
				b.Verdicts.Verdicts, b.Run.NotRun = nil, []results.NotRun{{Check: "rpc/wire/seq", Probe: "no driver"}}
			}
		}, "seen: not run: no driver", "rpc.slow"},
		{"bad sentinel", set("defect-rpc.seq", "rpc/wire/grpc-interop#empty_unary", results.Fail, "bad"),
			"sentinel rpc/wire/grpc-interop#empty_unary is fail bad", "rpc.seq"},
		{"inconclusive sentinel", set("defect-grpc.loses", "rpc/wire/four-transports#framed", results.Inconclusive, "x"),
			"sentinel rpc/wire/four-transports#framed is inconclusive x", "grpc.loses"},
		{"sentinel did not run", drop("defect-rpc.seq", "rpc/wire/grpc-interop"), "sentinel rpc/wire/grpc-interop#empty_unary did not run", "rpc.seq"},
		{"hollow pass", set("hollow-mute", under, results.Pass, ""), "hollow target mute: rpc/wire/seq#b under proc/pause=0.4 is pass", ""},
		{"hollow broken", set("hollow-mute", "rpc/wire/ready", results.Broken, "x"), "hollow target mute: rpc/wire/ready is broken", ""},
		{"hollow unproven", set("hollow-mute", "rpc/wire/ready", results.Unproven, "x"), "rpc/wire/ready is unproven", ""},
		{"hollow not claimed", set("hollow-garbage", "rpc/wire/ready", results.NotClaimed, ""), "hollow target garbage: rpc/wire/ready is not-claimed", ""},
		{"hollow executed nothing", drop("hollow-mute", ""), "hollow target mute: nothing was executed", ""},
		{"null fault passes", set("null-faults", under, results.Pass, ""), "a fault that does nothing: rpc/wire/seq#b under proc/pause=0.4 is pass", ""},
		{"null fault fails", set("null-faults", under, results.Fail, "late"), "a fault that does nothing", ""},
		{"null fault inconclusive for another reason", set("null-faults", under, results.Inconclusive, "host-noise"), "is inconclusive host-noise", ""},
		{"null faults did not run", drop("null-faults", ""), "a fault that does nothing: nothing was executed", ""},
		{"clean reference fails", set("clean", under, results.Fail, "late"), "clean reference: rpc/wire/seq#b under proc/pause=0.4 is fail late", ""},
		{"clean reference inconclusive", set("clean", "rpc/wire/ready", results.Inconclusive, "x"), "clean reference: rpc/wire/ready is inconclusive x", ""},
		{"clean reference not claimed", set("clean", "rpc/wire/ready", results.NotClaimed, ""), "clean reference: rpc/wire/ready is not-claimed", ""},
		{"clean reference executed nothing", drop("clean", ""), "clean reference: nothing was executed", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, p := run(t, tt.change)
			if len(p.Survivors) != 1 || !strings.Contains(p.Survivors[0], tt.says) {
				t.Errorf("survivors %q, want one that says %q", p.Survivors, tt.says)
			}
			for _, k := range p.Defects {
				if k.Killed != (k.Defect != tt.killed) {
					t.Errorf("%s: killed = %t (%s)", k.Defect, k.Killed, k.Observed)
				}
			}
			for _, k := range p.Defects {
				if k.Defect == tt.killed && (k.Missed != 3 || k.Trials != 3) {
					t.Errorf("%s: missed in %d of %d trials, want 3 of 3", k.Defect, k.Missed, k.Trials)
				}
			}
			if len(p.Defects) != len(known) {
				t.Errorf("%d cells for %d kills", len(p.Defects), len(known))
			}
		})
	}
}

// TestMissedIsTriedAgain repeats the trial of a defect that was missed, alone, and keeps count of it.
func TestMissedIsTriedAgain(t *testing.T) {
	const seq, first, second = "rpc/wire/seq#a", "defect-rpc.seq", "defect-rpc.seq-again-1"
	pass := set(first, seq, results.Pass, "")
	tests := []struct {
		name   string
		change func(prove.Trial, *results.Bundle)
		trials int
		cell   results.ProvedKill
	}{
		{"killed at once", nil, 1, results.ProvedKill{Observed: "fail bad", Killed: true}},
		{"killed the second time", only(first, pass), 2, results.ProvedKill{Observed: "fail bad", Killed: true, Missed: 1, Trials: 2}},
		{"killed the third time", func(tr prove.Trial, b *results.Bundle) {
			only(first, pass)(tr, b)
			only(second, pass)(tr, b)
		}, 3, results.ProvedKill{Observed: "fail bad", Killed: true, Missed: 2, Trials: 3}},
		{"a bad sentinel, then a good one", only(first, set(first, "rpc/wire/grpc-interop#empty_unary", results.Fail, "bad")), 2,
			results.ProvedKill{Observed: "fail bad", Killed: true, Missed: 1, Trials: 2}},
		{"never", pass, 3, results.ProvedKill{Observed: "pass", Missed: 3, Trials: 3}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, _, p := run(t, tt.change)
			tt.cell.Defect, tt.cell.Check, tt.cell.Case, tt.cell.Reason = "rpc.seq", "rpc/wire/seq", "a", "bad"
			if !slices.Contains(p.Defects, tt.cell) {
				t.Errorf("the matrix %+v lacks %+v", p.Defects, tt.cell)
			}
			if (len(p.Survivors) == 0) != tt.cell.Killed {
				t.Errorf("survivors %q", p.Survivors)
			}
			trials := 0
			for _, tr := range l.trials {
				if of(first, tr) {
					trials++
				}
			}
			if trials != tt.trials {
				t.Errorf("%d trials, want %d", trials, tt.trials)
			}
			again, err := prove.Assemble(l.options(), l.bundles)
			if err != nil || !cmp.Equal(again, p) {
				t.Errorf("the bundles come to another proof: %v\n%s", err, cmp.Diff(p, again))
			}
		})
	}
}

func TestNoisyCleanReferenceIsLeftOpen(t *testing.T) {
	for _, reason := range []string{suites.ReasonHostNoise, suites.ReasonNotWitnessed} {
		_, _, p := run(t, set("clean", "rpc/wire/ready", results.Inconclusive, reason))
		if len(p.Survivors) != 0 || len(p.Open) != 1 || !strings.Contains(p.Open[0], "rpc/wire/ready is inconclusive "+reason) {
			t.Errorf("%s: survivors %q, open %q", reason, p.Survivors, p.Open)
		}
	}
	if _, _, p := run(t, nil); len(p.Open) != 0 {
		t.Errorf("nothing was noisy, open %q", p.Open)
	}
}

func TestCleanReferenceGoesFirstAndAlone(t *testing.T) {
	l := &lab{t: t, suite: tiny(t)}
	o := l.options()
	var first sync.Once
	o.Conduct = func(ctx context.Context, tr prove.Trial) (*results.Bundle, error) {
		b, err := l.conduct(ctx, tr)
		first.Do(func() {
			if tr.Name != "clean" {
				t.Errorf("trial %s goes first", tr.Name)
			}
			time.Sleep(20 * time.Millisecond) // time for another one to begin
			l.mu.Lock()
			defer l.mu.Unlock()
			if len(l.trials) != 1 {
				t.Errorf("%d trials run beside the clean one", len(l.trials)-1)
			}
		})
		return b, err
	}
	if _, _, err := prove.Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}

func TestUnprovenRequirementsAreCounted(t *testing.T) {
	_, _, p := run(t, set("defect-grpc.loses", "rpc/wire/grpc-interop#empty_unary", results.Pass, ""))
	if p.Covered != 4 || p.Proven != 3 {
		t.Errorf("%d covered, %d proven, want 4 and 3", p.Covered, p.Proven)
	}
}

func TestMatrixHasHoles(t *testing.T) {
	for name, tt := range map[string]struct {
		known []string
		says  string
	}{
		"kill of an unknown defect": {known[1:], "check rpc/wire/four-transports kills rpc.form, which the reference can not plant"},
		"unnamed defect":            {append(slices.Clone(known), "rpc.nobody"), "planted defect rpc.nobody: no check names it"},
	} {
		l := &lab{t: t, suite: tiny(t)}
		o := l.options()
		o.Known = tt.known
		if _, _, err := prove.Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: error %v, want one that says %q", name, err, tt.says)
		}
		if len(l.trials) != 0 {
			t.Errorf("%s: %d trials were conducted", name, len(l.trials))
		}
	}
}

func TestOnly(t *testing.T) {
	l := &lab{t: t, suite: tiny(t)}
	o := l.options()
	o.Only = []string{"rpc.seq"}
	clean, p, err := prove.Run(t.Context(), o)
	if err != nil || clean != nil || len(l.trials) != 1 || len(p.Defects) != 1 || !p.Defects[0].Killed || len(p.Survivors) != 0 {
		t.Errorf("clean %v, %d trials, proof %+v, %v", clean, len(l.trials), p, err)
	}
	o.Only = []string{"rpc.sec"}
	if _, _, err := prove.Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), `no check kills "rpc.sec"; nearest: rpc.seq`) {
		t.Errorf("an unknown defect: %v", err)
	}
}

func TestConductFails(t *testing.T) {
	l := &lab{t: t, suite: tiny(t)}
	boom := errors.New("boom")
	o := l.options()
	o.Conduct = func(ctx context.Context, tr prove.Trial) (*results.Bundle, error) {
		if tr.Name == "hollow-mute" {
			return nil, boom
		}
		return l.conduct(ctx, tr)
	}
	if _, _, err := prove.Run(t.Context(), o); !errors.Is(err, boom) || !strings.Contains(err.Error(), "trial hollow-mute") {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := prove.Run(ctx, l.options()); !errors.Is(err, context.Canceled) {
		t.Errorf("a proof that was broken off: %v", err)
	}
}

func TestProgress(t *testing.T) {
	l := &lab{t: t, suite: tiny(t)}
	o := l.options()
	o.Workers = 0
	seen := map[string]bool{}
	o.Progress = func(name string, done, total int, took time.Duration) {
		seen[name] = true
		if done != len(seen) || total != 9 || took < 0 {
			t.Errorf("%s: %d of %d after %s", name, done, total, took)
		}
	}
	if _, _, err := prove.Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 9 {
		t.Errorf("%d trials were told of", len(seen))
	}
}
