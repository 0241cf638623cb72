package runner

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/assay-bench/assay/chaos"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/target"
	"github.com/assay-bench/assay/suites"
)

// fake is a target whose process a test ends at will.
type fake struct {
	claims    target.Claims
	addrs     target.Endpoints
	startErrs []error // of each start in turn; then none
	claimsErr error

	mu      sync.Mutex
	starts  int
	exited  chan struct{}
	state   target.Exit
	stopped int
}

func newFake(features ...string) *fake {
	return &fake{claims: target.Claims{Name: "fake", Version: "1", Features: features}, addrs: target.Endpoints{"rpc": "127.0.0.1:1"}}
}

func (f *fake) Claims(context.Context) (target.Claims, error) { return f.claims, f.claimsErr }

func (f *fake) Start(context.Context) (target.Endpoints, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.starts++
	if len(f.startErrs) >= f.starts && f.startErrs[f.starts-1] != nil {
		return nil, f.startErrs[f.starts-1]
	}
	f.exited, f.state = make(chan struct{}), target.Exit{}
	return f.addrs, nil
}

func (f *fake) Stop(context.Context) error { f.stopped++; f.end(true); return nil }

// die is a crash.
func (f *fake) die() { f.end(false) }

func (f *fake) end(asked bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.exited == nil {
		return
	}
	select {
	case <-f.exited:
	default:
		f.state = target.Exit{PID: f.starts, State: "ended", Asked: asked}
		close(f.exited)
	}
}

func (f *fake) Processes() []chaos.Process { return nil }

func (f *fake) Exited() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.exited
}

func (f *fake) ExitState() target.Exit {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

// simple is a check whose judge passes when the drive has recorded a measurement.
func simple(id string, drive func(context.Context, *scenarios.Env) error) suites.Check {
	return suites.Check{
		ID: id, Title: id, Covers: []string{id}, Reasons: []string{"bad"}, Drive: drive,
		Kills: []suites.Kill{{Defect: "d", Reason: "bad"}},
		Judge: func(t suites.Trace) suites.Finding {
			for _, e := range t.Evidence {
				if e.Kind == results.Measured {
					return suites.Passing("a measurement", "one", []uint64{e.Seq})
				}
			}
			return suites.Failing("bad", "a measurement", "none", nil)
		},
	}
}

// measure is a drive that succeeds.
func measure(_ context.Context, env *scenarios.Env) error { return env.Record(results.Measured, 1) }

func exclusive(c suites.Check) suites.Check { c.Cost.Exclusive = true; return c }

// under runs a check under a fault only.
func under(c suites.Check, spec chaos.Spec) suites.Check {
	c.Under, c.Only, c.Endpoint = []chaos.Spec{spec}, true, "rpc"
	c.Kills[0].Under = spec.String()
	c.Probe = func(context.Context, *scenarios.Env, string) (time.Duration, error) { return 7, nil }
	return c
}

// rig is a run under construction.
type rig struct {
	t      *testing.T
	suite  *suites.Suite
	run    results.Run
	target *fake
	file   bytes.Buffer
	opt    Options
}

// newRig plans all checks. Those whose id begins with claims/ form the area claims.
func newRig(t *testing.T, checks ...suites.Check) *rig {
	t.Helper()
	frame, err := suites.Frame()
	if err != nil {
		t.Fatal(err)
	}
	areas := map[string]*suites.Area{"claims": {Name: "claims"}, "x": {Name: "x"}}
	for _, c := range checks {
		name := "x"
		if c.ID[:2] != "x/" {
			name = "claims"
		}
		a := areas[name]
		a.Checks = append(a.Checks, c)
		a.Requirements = append(a.Requirements, suites.Requirement{ID: c.ID, Subject: "target", Basis: "standard"})
	}
	s, err := suites.New(frame, *areas["claims"], *areas["x"])
	if err != nil {
		t.Fatal(err)
	}
	plan, err := s.Plan(suites.Selection{
		Profile: "full", Probing: true,
		Barred:    func(suites.Check, results.Key) string { return "" },
		Reproduce: suites.Pattern,
	})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, suite: s, target: newFake("rpc.framed")}
	r.run = results.Run{
		APIVersion: results.APIVersion, Kind: "run", ID: "0123456789abcdef", Seed: 1, Plan: plan.Planned, Probing: true,
		Target: results.Target{Kind: "reference"},
	}
	clock := results.ClockSince(time.Now())
	r.opt = Options{
		Suite: s, Run: r.run, Target: r.target, Dialer: scenarios.NewDialer([]string{"192.0.2.1"}, 1000),
		Recorder: results.NewRecorder(&r.file, clock), Clock: clock,
	}
	return r
}

// drive runs the plan and judges what was recorded.
func (r *rig) drive() map[string]results.Verdict {
	r.t.Helper()
	if err := Drive(r.t.Context(), r.opt); err != nil {
		r.t.Fatal(err)
	}
	return r.judge()
}

func (r *rig) judge() map[string]results.Verdict {
	r.t.Helper()
	all, torn, err := results.ReadEvidence(bytes.NewReader(r.file.Bytes()))
	if err != nil || torn {
		r.t.Fatalf("evidence: torn %t, %v", torn, err)
	}
	out := map[string]results.Verdict{}
	for _, v := range Verdicts(r.suite, r.run, all).Verdicts {
		if err := v.Validate(uint64(len(all))); err != nil {
			r.t.Error(err)
		}
		out[suites.Pattern(v.Key())] = v
	}
	if len(out) == 0 {
		r.t.Fatal("no verdict: this test proves nothing")
	}
	return out
}

func (r *rig) count(kind results.Kind, key results.Key) int {
	n := 0
	for _, e := range r.opt.Recorder.Of(key) {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

func expect(t *testing.T, got map[string]results.Verdict, id string, status results.Status, reason string) {
	t.Helper()
	v, ok := got[id]
	if !ok || v.Status != status || v.Reason != reason {
		t.Errorf("%s is %s %q (%s), want %s %q", id, v.Status, v.Reason, v.Why.Observed, status, reason)
	}
}

// fault is a fault that does nothing but what a test says.
type fault struct {
	available bool
	witnessed bool
	route     string
	idled     *bool
}

func (f fault) Name() string { return "net/fake" }
func (f fault) Drivers() []chaos.Driver {
	return []chaos.Driver{driver{f, "first", false}, driver{f, "second", f.available}}
}

type driver struct {
	f         fault
	name      string
	available bool
}

func (d driver) Name() string { return d.name }
func (d driver) Probe(context.Context) chaos.Capability {
	return chaos.Capability{Driver: d.name, Available: d.available, Detail: "probe of " + d.name}
}

func (d driver) Plan(chaos.Point, float64, *rand.Rand) (chaos.Plan, error) {
	return chaos.Plan{Unit: "s"}, nil
}
func (d driver) Apply(_ context.Context, p chaos.Plan) (chaos.Handle, error) {
	return handle{d.f, p}, nil
}
func (d driver) Idle(_ context.Context, p chaos.Plan) (chaos.Handle, error) {
	*d.f.idled = true
	return handle{fault{}, p}, nil
}

type handle struct {
	f fault
	p chaos.Plan
}

func (h handle) Witness(ctx context.Context) (results.Evidence, error) {
	took, err := h.p.Point.Probe(ctx, h.p.Point.Endpoints["rpc"])
	if err != nil || took != 7 {
		return results.Evidence{}, errors.Join(err, errors.New("the probe is not the check's"))
	}
	return h.p.Evidence(h.p.Magnitude, h.f.witnessed, "")
}
func (h handle) Revert(context.Context) error { return nil }
func (h handle) Route(string) (string, bool)  { return h.f.route, h.f.route != "" }

// faults makes the rig know one fault.
func (r *rig) faults(f fault) {
	r.t.Helper()
	j, err := chaos.CreateJournal(filepath.Join(r.t.TempDir(), "journal.jsonl"))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if err := j.Close(); err != nil {
			r.t.Error(err)
		}
	})
	r.opt.Journal = j
	r.opt.Fault = func(string) (chaos.Fault, error) { return f, nil }
}
