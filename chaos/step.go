package chaos

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Step is one typed piece of undoing, never shell text. Op says which fields count:
//
//	proc.cont PID START     send SIGCONT
//	proc.kill PID START     SIGKILL the process, its descendants and its process group
//	cgroup.thaw PATH        thaw, version 1 or 2
//	cgroup.empty PATH TO    move every process back to the cgroup TO
//	cgroup.rmdir PATH       remove
//
// Every step is idempotent and a target that has gone is no error.
type Step struct {
	Op    string `json:"op"`
	PID   int    `json:"pid,omitempty"`
	Start uint64 `json:"start,omitempty"`
	Path  string `json:"path,omitempty"`
	To    string `json:"to,omitempty"`
}

func (s Step) String() string {
	out := []string{s.Op}
	if s.PID != 0 {
		out = append(out, fmt.Sprint(s.PID), fmt.Sprint(s.Start))
	}
	for _, path := range []string{s.Path, s.To} {
		if path != "" {
			out = append(out, path)
		}
	}
	return strings.Join(out, " ")
}

func (s Step) process() Process { return Process{s.PID, s.Start} }

// run undoes one thing.
func (s Step) run(ctx context.Context) error {
	switch s.Op {
	case "proc.cont":
		return tolerateVanished(s.process().Continue())
	case "proc.kill":
		return tolerateVanished(s.process().killAll(ctx))
	case "cgroup.thaw":
		return cgroupThaw(ctx, s.Path)
	case "cgroup.empty":
		return cgroupEmpty(s.Path, s.To)
	case "cgroup.rmdir":
		return cgroupRemove(ctx, s.Path)
	}
	return fmt.Errorf("unknown undo step %q", s.Op)
}

// left names what the step should have undone and did not; empty when all is well.
func (s Step) left() string {
	switch s.Op {
	case "proc.cont":
		if st, err := s.process().Stat(); err == nil && (st.State == 'T' || st.State == 't') {
			return fmt.Sprintf("process %d is still stopped", s.PID)
		}
	case "proc.kill":
		if s.process().Alive() {
			return fmt.Sprintf("process %d is still alive", s.PID)
		}
	case "cgroup.rmdir":
		if exists(s.Path) {
			return "cgroup " + s.Path + " is still there"
		}
	}
	return ""
}

// undo runs the steps in reverse, all of them whatever happens.
func undo(ctx context.Context, steps []Step) error {
	var errs []error
	for i := len(steps) - 1; i >= 0; i-- {
		if err := steps[i].run(ctx); err != nil {
			errs = append(errs, fmt.Errorf("undo %s: %w", steps[i], err))
		}
	}
	return errors.Join(errs...)
}

func leftBy(steps []Step) []string {
	var out []string
	for _, s := range steps {
		if l := s.left(); l != "" {
			out = append(out, l)
		}
	}
	return out
}

func tolerateVanished(err error) error {
	if errors.Is(err, ErrVanished) {
		return nil
	}
	return err
}
