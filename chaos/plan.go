package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/assay-bench/assay/results"
)

// ErrBlastRadius says that a plan reaches beyond the processes it was given. Nothing was journaled.
var ErrBlastRadius = errors.New("outside the blast radius")

// Point is where a fault may strike: the blast radius, and how to look at the target.
type Point struct {
	// Processes are the target's; a fault may reach them and their descendants, nothing else.
	Processes []Process
	// Endpoints are the target's addresses (host:port) by name.
	Endpoints map[string]string
	// Probe makes one small exchange with the target on an address: one round trip after the
	// connection is there. It returns the time of the exchange and ends when ctx does. The harness
	// provides it and dials as it always dials. It may be nil.
	Probe func(ctx context.Context, addr string) (time.Duration, error)
	// RunID names everything that is created; Dir is the run's own directory.
	RunID, Dir string
}

// Plan is a fault thought through but not begun.
type Plan struct {
	Fault, Driver string // set by Inject
	Magnitude     float64
	Unit          string // of Magnitude: "s", "1", "B/s"
	Point         Point
	Targets       []Process // all that the fault touches
	// Undo are the steps that undo the fault, in the order in which the fault makes them necessary;
	// they are run in reverse.
	Undo []Step
	// Hold is how long the fault stays; 0 means until the scenario ends.
	Hold time.Duration
	// WitnessLimit bounds one look of the witness; 0 means five seconds.
	WitnessLimit time.Duration

	note func([]Step) error
}

// Note adds undo steps that only Apply could find out, such as a process forked since Plan. It
// returns when they are on disk; only then may Apply do what they undo.
func (p *Plan) Note(steps ...Step) error {
	if err := p.confined(steps); err != nil {
		return err
	}
	if p.note != nil {
		if err := p.note(steps); err != nil {
			return err
		}
	}
	p.Undo = append(p.Undo[:len(p.Undo):len(p.Undo)], steps...)
	return nil
}

// Rollback runs the undo steps in reverse. It tries all of them, is idempotent and tolerates targets
// that have gone.
func (p Plan) Rollback(ctx context.Context) error { return undo(ctx, p.Undo) }

// Evidence makes the evidence that Handle.Witness returns. Observed is in the plan's unit.
func (p Plan) Evidence(observed float64, witnessed bool, detail string) (results.Evidence, error) {
	data, err := results.Marshal(Injected{
		Fault: p.Fault, Driver: p.Driver, Unit: p.Unit, Asked: p.Magnitude,
		Observed: observed, Witnessed: witnessed, Detail: detail,
	})
	if err != nil {
		return results.Evidence{}, fmt.Errorf("witness of %s: %w", p.Fault, err)
	}
	return results.Evidence{Source: results.FromFault, Kind: results.Injected, Data: data}, nil
}

// check refuses a plan whose targets or steps lie outside its point.
func (p *Plan) check() error {
	var targets []Step
	for _, t := range p.Targets {
		targets = append(targets, Step{Op: "target", PID: t.PID, Start: t.Start})
	}
	return p.confined(append(targets, p.Undo...))
}

// confined refuses steps at processes that are neither in the point nor descendants of those, or
// whose tree holds this process itself: a harness that pauses itself pauses for ever.
func (p *Plan) confined(steps []Step) error {
	allowed := map[Process]bool{}
	for _, s := range steps {
		if s.PID == 0 {
			continue
		}
		if len(allowed) == 0 {
			if err := p.Point.reach(allowed); err != nil {
				return err
			}
		}
		if !allowed[Process{s.PID, s.Start}] {
			return fmt.Errorf("%s: process %d: %w", s.Op, s.PID, ErrBlastRadius)
		}
	}
	return nil
}

// reach fills in the processes of the point and their descendants.
func (p Point) reach(into map[Process]bool) error {
	for _, root := range p.Processes {
		tree, err := root.Tree()
		if err != nil {
			return err
		}
		for _, t := range tree {
			if t.PID == os.Getpid() || t.PID <= 1 {
				return fmt.Errorf("process %d: holds the harness itself: %w", root.PID, ErrBlastRadius)
			}
			into[t] = true
		}
	}
	return nil
}
