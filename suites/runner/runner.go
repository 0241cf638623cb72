// Package runner drives the cases of a plan against one target and records what happens. It judges only
// to show progress and to decide on another attempt; the verdicts of a run are computed from the bundle.
package runner

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"github.com/assay-bench/assay/chaos"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/target"
	"github.com/assay-bench/assay/suites"
)

// Options is all that a run needs.
type Options struct {
	Suite    *suites.Suite
	Run      results.Run
	Target   target.Target
	Dialer   *scenarios.Dialer
	Recorder *results.Recorder
	Clock    results.Clock
	Save     func(name string, data []byte) error
	Fault    func(name string) (chaos.Fault, error)
	Journal  *chaos.Journal // nil: cases under faults are an error of the caller
	Null     bool           // every fault does nothing: for proving that such a run is Inconclusive
	Together bool           // exclusive cases run beside others: for targets whose verdicts can not depend on it
	Progress func(Event)
	Workers  int // cases at once; 0 means 8
	// Pace is the least time between the starts of two cases, for targets that defend themselves against
	// many odd connections; 0 means none.
	Pace     time.Duration
	Attempts int // at a case that stays undecided on a noisy host; 0 means 5

	limit, grace time.Duration // of a drive, and until one that ignores its end is given up; 0 means 20 s and 10 s
}

// Event tells that a case is done.
type Event struct {
	Planned results.Planned
	Verdict results.Verdict
	Done    int
	Total   int
	Took    time.Duration
}

// Drive runs the plan. An error means that the harness can not go on (evidence can not be written, the
// context ended); what the target does is evidence.
func Drive(ctx context.Context, o Options) error {
	if o.Workers <= 0 {
		o.Workers = 8
	}
	if o.Attempts <= 0 {
		o.Attempts = 5
	}
	if o.limit <= 0 {
		o.limit = 20 * time.Second
	}
	if o.grace <= 0 {
		o.grace = 10 * time.Second
	}
	if o.Progress == nil {
		o.Progress = func(Event) {}
	}
	r := &run{Options: o, stalls: watchStalls(o.Clock), pace: pacer{interval: o.Pace}}
	defer r.stalls.stop()
	r.super = &supervisor{o: &r.Options}
	if err := r.super.start(ctx); err != nil {
		return errors.Join(err, r.super.stop(ctx))
	}
	err := r.all(ctx)
	return errors.Join(err, r.super.stop(context.WithoutCancel(ctx)))
}

type run struct {
	Options
	super  *supervisor
	stalls *stalls
	pace   pacer

	mu   sync.Mutex
	done int
	void []job // cases during which the target died of another one's doing, perhaps
}

// job is one planned case with its check.
type job struct {
	planned results.Planned
	check   suites.Check
	spec    *chaos.Spec
}

// all drives the probes of claims, then the parallel cases in an order drawn from the seed, then the
// exclusive ones, and at last, alone, those during which the target died.
func (r *run) all(ctx context.Context) error {
	probes, parallel, exclusive, total := r.sort()
	r.done = len(r.Run.Plan) - total
	rng := rand.New(rand.NewPCG(r.Run.Seed, 0x61737361790a))
	rng.Shuffle(len(parallel), func(i, j int) { parallel[i], parallel[j] = parallel[j], parallel[i] })
	if err := r.parallel(ctx, probes); err != nil {
		return err
	}
	if err := r.parallel(ctx, parallel); err != nil {
		return err
	}
	for _, j := range append(exclusive, r.void...) {
		if err := r.one(ctx, j, true); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) sort() (probes, parallel, exclusive []job, total int) {
	for _, p := range r.Run.Plan {
		c, ok := r.Suite.Check(p.Check)
		if !ok || !c.Driven() {
			continue
		}
		total++
		j := job{planned: p, check: c}
		for _, u := range c.Under {
			if u.String() == p.Under {
				j.spec = &u
			}
		}
		switch {
		case j.check.Stops || !r.Together && (j.spec != nil || c.Cost.Exclusive):
			exclusive = append(exclusive, j)
		case r.Suite.AreaOf(c.ID) == "claims":
			probes = append(probes, j)
		default:
			parallel = append(parallel, j)
		}
	}
	return probes, parallel, exclusive, total
}

func (r *run) parallel(ctx context.Context, jobs []job) error {
	queue := make(chan job)
	errs := make(chan error, r.Workers)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	for range min(r.Workers, len(jobs)) {
		wg.Go(func() {
			for j := range queue {
				if err := r.one(ctx, j, false); err != nil {
					errs <- err
					cancel()
					return
				}
			}
		})
	}
feed:
	for _, j := range jobs {
		select {
		case queue <- j:
		case <-ctx.Done():
			break feed
		}
	}
	close(queue)
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return ctx.Err()
	}
}

// one drives a case, again where the host's noise made it unjudgeable.
func (r *run) one(ctx context.Context, j job, alone bool) error {
	began := r.Clock.Now()
	var verdict results.Verdict
	for attempt := 1; ; attempt++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.super.ensure(ctx); err != nil {
			return err
		}
		generation := r.super.generation()
		if attempt > 1 || r.attempted(j.planned.Key()) {
			if err := r.put(j.planned.Key())(results.FromHost, results.Attempted, map[string]int{"attempt": attempt}); err != nil {
				return err
			}
		}
		if err := r.attempt(ctx, j); err != nil {
			return err
		}
		verdict = r.Suite.JudgeCase(r.Run, j.planned, r.Recorder.All())
		if verdict.Status == results.Fail || verdict.Status == results.Broken {
			r.super.settle(ctx) // a process that crashed over this case may need a moment to be gone
		}
		if !alone && r.super.died(generation) {
			r.mu.Lock()
			r.void = append(r.void, j)
			r.mu.Unlock()
			return nil
		}
		if !r.undecided(verdict) || attempt >= r.Attempts {
			break
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done++
	r.Progress(Event{j.planned, verdict, r.done, len(r.Run.Plan), r.Clock.Now() - began})
	return nil
}

// undecided tells whether another attempt may decide a case: the host was too noisy, or a fault was not
// seen by its witness. Where every fault is one that does nothing, that it is not seen is the answer.
func (r *run) undecided(v results.Verdict) bool {
	return v.Reason == suites.ReasonHostNoise || (v.Reason == suites.ReasonNotWitnessed && !r.Null)
}

func (r *run) attempted(key results.Key) bool { return len(r.Recorder.Of(key)) > 0 }

// attempt drives a case once and records its end. A case that the end of the run cut short has none: what
// it saw of the target until then says nothing.
func (r *run) attempt(ctx context.Context, j job) error {
	key := j.planned.Key()
	put := r.put(key)
	if !r.claimed(j.planned) || !r.super.ready() {
		return put(results.FromHost, results.Ended, nil)
	}
	if err := r.pace.wait(ctx); err != nil {
		return err
	}
	began := r.Clock.Now()
	inside, cancel := context.WithTimeout(ctx, r.limit+4*j.check.Cost.Time)
	defer cancel()
	env := r.env(key, put)
	if j.check.Stops {
		defer r.stopping(ctx, env)()
	}
	err := guard(inside, r.grace, func() error { return r.phases(inside, j, env) })
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		if perr := put(results.FromHost, results.Errored, suites.Failure{Reason: "drive", Detail: err.Error()}); perr != nil {
			return perr
		}
	}
	if err := put(results.FromHost, results.Stalled, suites.Stall{Longest: r.stalls.since(began)}); err != nil {
		return err
	}
	return put(results.FromHost, results.Ended, nil)
}

// stopping gives a case the means to end the target. The returned function sees to it that the target
// has ended, so that the next case gets a fresh process, also when the drive failed early.
func (r *run) stopping(ctx context.Context, env *scenarios.Env) (ended func()) {
	stopped := make(chan struct{})
	env.Terminate = sync.OnceFunc(func() {
		go func() {
			defer close(stopped)
			// a target that survives is found by the next start, or by the journal
			_ = r.Target.Stop(context.WithoutCancel(ctx))
		}()
	})
	return func() {
		env.Terminate()
		<-stopped
	}
}

// phases runs the control, then the drive, under a fault where one is planned.
func (r *run) phases(ctx context.Context, j job, env *scenarios.Env) error {
	if c := j.check.Control; c != nil {
		if err := c.Drive(ctx, env); err != nil {
			return fmt.Errorf("control: %w", err)
		}
		control := r.Recorder.Of(env.Key)
		if err := env.Put(results.FromHost, suites.Controlled, nil); err != nil {
			return err
		}
		if ok, _ := c.Judge(suites.LastAttempt(control)); !ok {
			return nil
		}
	}
	if j.spec == nil {
		return j.check.Drive(ctx, env)
	}
	return r.underFault(ctx, j, env)
}

// guard turns a panic of a drive, or one that does not return within grace after its end, into an error.
func guard(ctx context.Context, grace time.Duration, f func() error) error {
	done := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			}
		}()
		done <- f()
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	hard := time.NewTimer(grace)
	defer hard.Stop()
	select {
	case err := <-done:
		return err
	case <-hard.C:
		return fmt.Errorf("the drive did not return within %s of its end (%w)", grace, ctx.Err())
	}
}

func (r *run) claimed(p results.Planned) bool {
	for _, f := range p.Needs {
		if !r.super.claims().Has(f) {
			return false
		}
	}
	return true
}

func (r *run) put(key results.Key) func(results.Source, results.Kind, any) error {
	return func(from results.Source, kind results.Kind, data any) error {
		_, err := r.Recorder.Record(key, from, kind, data)
		return err
	}
}

func (r *run) env(key results.Key, put func(results.Source, results.Kind, any) error) *scenarios.Env {
	rng := rand.New(rand.NewPCG(r.Run.Seed, hash(key.String())))
	return &scenarios.Env{
		Key: key, Token: fmt.Sprintf("%s-%08x", r.Run.ID[:8], rng.Uint32()),
		Endpoints: r.super.endpoints(), Claims: r.super.claims(), Processes: r.super.processes(),
		Dial: r.Dialer.DialContext, Clock: r.Clock, Rand: rng, Save: r.Save, Put: put,
	}
}

// hash is FNV-1a: it spreads keys over seeds, nothing more.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}
