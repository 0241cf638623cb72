package proc

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/assay-bench/assay/chaos"
)

const probeLimit = 2 * time.Second

// tryOut pauses a throw-away child with the driver, from plan to residue.
func tryOut(ctx context.Context, d chaos.Driver) chaos.Capability {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	began := time.Now()
	detail, err := pauseChild(ctx, d)
	c := chaos.Capability{Driver: d.Name(), Available: err == nil, Took: time.Since(began), Detail: detail}
	if err != nil {
		c.Detail = err.Error()
	}
	return c
}

func pauseChild(ctx context.Context, d chaos.Driver) (detail string, err error) {
	// The kernel kills the child when the thread that started it ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	child := exec.Command("cat")
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := child.StdinPipe() // cat waits for it, and ends with it
	if err != nil {
		return "", err
	}
	if err := child.Start(); err != nil {
		return "", fmt.Errorf("throw-away child: %w", err)
	}
	defer func() {
		in.Close()
		if err != nil { // it may still be stopped
			_ = child.Process.Kill()
		}
		err = errors.Join(err, waitFor(child, err != nil))
	}()
	p, err := chaos.FindProcess(child.Process.Pid)
	if err != nil {
		return "", err
	}
	return pauseOnce(ctx, d, p)
}

func waitFor(child *exec.Cmd, killed bool) error {
	err := child.Wait()
	if killed {
		return nil
	}
	return err
}

func pauseOnce(ctx context.Context, d chaos.Driver, p chaos.Process) (string, error) {
	plan, err := d.Plan(chaos.Point{Processes: []chaos.Process{p}, RunID: "probe"}, 1, nil)
	if err != nil {
		return "", err
	}
	h, err := d.Apply(ctx, plan)
	if err != nil {
		return "", errors.Join(err, plan.Rollback(context.WithoutCancel(ctx)))
	}
	ev, err := h.Witness(ctx)
	if err := errors.Join(err, h.Revert(context.WithoutCancel(ctx))); err != nil {
		return "", err
	}
	var seen chaos.Injected
	if err := ev.Decode(&seen); err != nil {
		return "", err
	}
	if !seen.Witnessed {
		return "", errors.New("not witnessed: " + seen.Detail)
	}
	if i, ok := h.(chaos.Inspector); ok {
		if left := i.Residue(ctx); len(left) > 0 {
			return "", errors.New("left behind: " + strings.Join(left, ", "))
		}
	}
	return where(plan), nil
}

// where says what was used.
func where(plan chaos.Plan) string {
	for _, s := range plan.Undo {
		if s.To != "" {
			return "below " + s.To
		}
	}
	return "SIGSTOP, SIGCONT"
}
