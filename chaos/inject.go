package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/assay-bench/assay/results"
)

// Injection is everything that one fault needs. Rand and Grace may be left out.
type Injection struct {
	Spec    Spec
	Fault   Fault
	Driver  Driver
	Point   Point
	Journal *Journal
	Rand    *rand.Rand // of all choices; seeded by the caller
	Clock   results.Clock
	Record  func(results.Kind, any) error
	// Grace is how long after the end of the fault the watchdog waits for the harness to revert;
	// 0 means five seconds.
	Grace time.Duration
}

const (
	longest      = 10 * time.Minute // of a fault whose end nobody gave
	applyLimit   = 20 * time.Second
	revertLimit  = 20 * time.Second
	usualWitness = 5 * time.Second
	hastyWitness = time.Second // when the run was broken off
	usualGrace   = 5 * time.Second
)

// Inject takes a fault through its life around body. Plan, journal, apply, witness; then body, with
// the fault in force, concurrently with the plan's hold; then witness, revert and residue. With a
// hold the fault ends when the hold does, while body goes on to see the target recover; a hold is
// cut short only when body fails or ctx ends. Without one it ends with body.
//
// Body's context ends no later than ten minutes after the fault came into force, or with ctx. Body
// has to return then; Inject reverts without waiting for it but returns after it. What body panics
// with is raised again in the caller after the revert.
//
// It records results.Injected after Apply and before Revert, results.Reverted, and results.Residue,
// a list of strings. A witness that saw nothing is recorded as such and is no error. An error is
// that of body, or says that the harness is broken: a plan that was refused, a failing Apply, Revert
// or Record, or residue.
func Inject(ctx context.Context, in Injection, body func(ctx context.Context, h Handle) error) (err error) {
	if err := in.check(); err != nil {
		return err
	}
	l, err := in.begin(ctx)
	if err != nil {
		return err
	}
	defer func() { // also when a driver panics
		err = errors.Join(err, l.revert(ctx))
	}()
	if err := l.apply(ctx); err != nil {
		return err
	}
	took, err := l.look(ctx, l.plan.WitnessLimit)
	if err != nil {
		return err
	}
	return l.during(ctx, took, body)
}

func (in Injection) check() error {
	switch {
	case in.Fault == nil || in.Driver == nil:
		return fmt.Errorf("inject %s: fault and driver are needed", in.Spec)
	case in.Spec.Name != in.Fault.Name():
		return fmt.Errorf("inject %s: got fault %s", in.Spec, in.Fault.Name())
	case in.Journal == nil || in.Clock == nil || in.Record == nil:
		return fmt.Errorf("inject %s: journal, clock and record are needed", in.Spec)
	}
	return nil
}

// life is a fault between its journal entry and its revert.
type life struct {
	Injection
	plan     Plan
	id       int
	handle   Handle
	from     time.Duration // when Apply had returned
	off      time.Time     // when the fault has to end
	reverted bool
}

// begin plans the fault and writes its undo record.
func (in Injection) begin(ctx context.Context) (*life, error) {
	plan, err := in.Driver.Plan(in.Point, in.Spec.Magnitude, in.Rand)
	if err != nil {
		return nil, fmt.Errorf("plan %s by %s: %w", in.Spec, in.Driver.Name(), err)
	}
	plan.Fault, plan.Driver = in.Fault.Name(), in.Driver.Name()
	plan.Magnitude, plan.Point = in.Spec.Magnitude, in.Point
	if plan.WitnessLimit == 0 {
		plan.WitnessLimit = usualWitness
	}
	if in.Grace == 0 {
		in.Grace = usualGrace
	}
	if err := plan.check(); err != nil {
		return nil, fmt.Errorf("plan %s by %s: %w", in.Spec, in.Driver.Name(), err)
	}
	l := &life{Injection: in, plan: plan}
	first := record{Fault: in.Spec.String(), Driver: plan.Driver, Undo: plan.Undo}
	first.Deadline, first.Grace = hostClock()+applyLimit+l.lasts(ctx), in.Grace
	if l.id, err = in.Journal.plan(first); err != nil {
		return nil, err
	}
	l.plan.note = func(steps []Step) error { return in.Journal.note(l.id, steps) }
	return l, nil
}

// lasts is how long the fault stays from now on at most.
func (l *life) lasts(ctx context.Context) time.Duration {
	d := longest
	if l.plan.Hold > 0 {
		d = l.plan.Hold
	}
	if end, ok := ctx.Deadline(); ok {
		d = min(d, max(0, time.Until(end)))
	}
	return d
}

func (l *life) apply(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, applyLimit)
	defer cancel()
	handle, err := l.Driver.Apply(limited, l.plan)
	if err != nil {
		return fmt.Errorf("apply %s by %s: %w", l.Spec, l.plan.Driver, err)
	}
	l.handle, l.from = handle, l.Clock.Now()
	lasts := l.lasts(ctx)
	l.off = time.Now().Add(lasts)
	return l.Journal.move(l.id, record{State: stateApplied, Deadline: hostClock() + lasts, Grace: l.Grace})
}

// look records one look of the witness and returns how long it took.
func (l *life) look(ctx context.Context, limit time.Duration) (time.Duration, error) {
	began := time.Now()
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	seen := l.witness(limited)
	seen.From, seen.To = l.from, l.Clock.Now()
	if err := l.Record(results.Injected, seen); err != nil {
		return 0, err
	}
	if !seen.Witnessed {
		return time.Since(began), nil
	}
	return time.Since(began), l.Journal.move(l.id, record{State: stateWitnessed})
}

// witness asks the handle; whatever goes wrong means that nothing was seen.
func (l *life) witness(ctx context.Context) Injected {
	var seen Injected
	ev, err := l.handle.Witness(ctx)
	if err == nil {
		err = ev.Decode(&seen)
	}
	if err != nil {
		seen = Injected{Detail: "witness: " + err.Error()}
	}
	seen.Fault, seen.Driver, seen.Unit, seen.Asked = l.plan.Fault, l.plan.Driver, l.plan.Unit, l.plan.Magnitude
	return seen
}

// during runs body until the fault has to end, looks once more and reverts. The last look begins as
// long before the end of a hold as the first one took, so that the hold is not lengthened by it.
func (l *life) during(ctx context.Context, took time.Duration, body func(context.Context, Handle) error) error {
	inside, cancel := l.bodyContext(ctx)
	defer cancel()
	finished := start(func() error { return body(inside, l.handle) })
	left := time.Until(l.off)
	if l.plan.Hold > 0 {
		left -= min(took, l.plan.Hold/2)
	}
	broken := l.wait(ctx, finished, left)
	limit := l.plan.WitnessLimit
	if broken {
		limit = min(limit, hastyWitness)
	}
	_, err := l.look(ctx, limit)
	if err == nil && !broken && l.plan.Hold > 0 {
		l.wait(ctx, finished, time.Until(l.off))
	}
	err = errors.Join(err, l.revert(ctx))
	if err != nil {
		cancel() // the harness is broken; body has nothing left to see
	}
	<-finished.done
	finished.raise()
	return errors.Join(finished.err, err)
}

// bodyContext is bounded by the fault's end only when the fault is to last as long as body.
func (l *life) bodyContext(ctx context.Context) (context.Context, context.CancelFunc) {
	if l.plan.Hold > 0 {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, l.off)
}

// wait returns when the time has come to end the fault, and whether it came because of trouble.
func (l *life) wait(ctx context.Context, body *running, left time.Duration) bool {
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return true
	case <-timer.C:
		return false
	case <-body.done:
	}
	if l.plan.Hold == 0 || body.err != nil || body.panicked != nil {
		return body.panicked != nil
	}
	select { // the hold outlasts body
	case <-ctx.Done():
		return true
	case <-timer.C:
		return false
	}
}

// revert undoes the fault, once, and records it and what is left. It runs whatever became of ctx.
func (l *life) revert(ctx context.Context) error {
	if l.reverted {
		return nil
	}
	l.reverted = true
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revertLimit)
	defer cancel()
	began := l.Clock.Now()
	if err := l.undo(ctx); err != nil {
		return fmt.Errorf("revert %s by %s: %w", l.Spec, l.plan.Driver, err)
	}
	now := l.Clock.Now()
	done := Reverted{Fault: l.plan.Fault, Driver: l.plan.Driver, At: now, Took: now - began}
	err := errors.Join(
		l.Journal.move(l.id, record{State: stateReverted, By: "harness"}),
		l.Record(results.Reverted, done))
	return errors.Join(err, l.residue(ctx))
}

// undo lets the handle revert, and the journal's steps when there is no handle or it fails.
func (l *life) undo(ctx context.Context) error {
	var err error
	if l.handle != nil {
		if err = l.handle.Revert(ctx); err == nil {
			return nil
		}
	}
	return errors.Join(err, undo(ctx, l.Journal.steps(l.id)))
}

// residue records what is left, and calls the fault clean when nothing is.
func (l *life) residue(ctx context.Context) error {
	left := append([]string{}, leftBy(l.Journal.steps(l.id))...)
	if inspector, ok := l.handle.(Inspector); ok {
		left = append(left, inspector.Residue(ctx)...)
	}
	if err := l.Record(results.Residue, left); err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("%s by %s left behind: %q", l.Spec, l.plan.Driver, left)
	}
	return l.Journal.move(l.id, record{State: stateClean})
}

// running is a body in its goroutine. The fields may be read when done is closed.
type running struct {
	done     chan struct{}
	err      error
	panicked *bodyPanic
}

// bodyPanic carries a panic of body, with its stack, to the goroutine that called Inject.
type bodyPanic struct {
	value any
	stack []byte
}

func (p *bodyPanic) Error() string { return fmt.Sprintf("body panicked: %v\n\n%s", p.value, p.stack) }

func (p *bodyPanic) Unwrap() error {
	err, _ := p.value.(error)
	return err
}

func start(body func() error) *running {
	r := &running{done: make(chan struct{})}
	go func() {
		defer close(r.done)
		returned := false
		defer func() {
			if v := recover(); v != nil {
				r.panicked = &bodyPanic{v, debug.Stack()}
			} else if !returned {
				r.err = errors.New("body ended its goroutine")
			}
		}()
		r.err = body()
		returned = true
	}()
	return r
}

func (r *running) raise() {
	if r.panicked != nil {
		panic(r.panicked)
	}
}
