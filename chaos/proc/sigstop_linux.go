package proc

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/assay-bench/assay/chaos"
)

// sigstop pauses by SIGSTOP to every process.
type sigstop struct{}

func (sigstop) Name() string { return "sigstop" }

func (d sigstop) Probe(ctx context.Context) chaos.Capability { return tryOut(ctx, d) }

// Plan makes one step for each process: there is no undoing of SIGSTOP as a whole.
func (sigstop) Plan(p chaos.Point, seconds float64, _ *rand.Rand) (chaos.Plan, error) {
	plan, err := planPause(p, seconds)
	for _, t := range plan.Targets {
		plan.Undo = append(plan.Undo, contStep(t))
	}
	return plan, err
}

func contStep(p chaos.Process) chaos.Step {
	return chaos.Step{Op: "proc.cont", PID: p.PID, Start: p.Start}
}

func (d sigstop) Apply(ctx context.Context, plan chaos.Plan) (chaos.Handle, error) {
	h := newPaused(ctx, plan)
	planned, stopped := map[chaos.Process]bool{}, map[chaos.Process]bool{}
	for _, t := range plan.Targets {
		planned[t] = true
	}
	err := untilStable(ctx, plan.Point.Processes, func(p chaos.Process) (bool, error) {
		if stopped[p] {
			return false, nil
		}
		stopped[p] = true
		if !planned[p] {
			if err := h.plan.Note(contStep(p)); err != nil {
				return false, err
			}
		}
		return true, p.Stop()
	})
	if err != nil {
		return nil, err
	}
	for p := range stopped {
		err := await(ctx, fmt.Sprintf("process %d to stop", p.PID), func() (bool, error) {
			return allThreadsStopped(p) == nil || !p.Alive(), nil
		})
		if err != nil {
			return nil, err
		}
	}
	return d.watch(h), nil
}

// Idle stops nothing.
func (d sigstop) Idle(ctx context.Context, plan chaos.Plan) (chaos.Handle, error) {
	return d.watch(newPaused(ctx, plan)), nil
}

func (sigstop) watch(h *paused) *paused {
	h.held = allThreadsStopped
	h.since = time.Now()
	return h
}

// allThreadsStopped reads the state of each thread; that of the process is only its first thread's.
func allThreadsStopped(p chaos.Process) error {
	if _, err := p.Stat(); err != nil {
		return err
	}
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.PID))
	if err != nil {
		return err
	}
	for _, path := range stats {
		line, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended
		}
		state := byte('?')
		if _, rest, ok := bytes.Cut(line[bytes.LastIndexByte(line, ')')+1:], []byte(" ")); ok && len(rest) > 0 {
			state = rest[0]
		}
		if state != 'T' && state != 't' && state != 'Z' && state != 'X' {
			return fmt.Errorf("process %d has a thread in state %c", p.PID, state)
		}
	}
	return nil
}
