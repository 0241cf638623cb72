package proc

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/assay-bench/assay/chaos"
)

func pauseDrivers() []chaos.Driver {
	return []chaos.Driver{freezer{version: 2}, freezer{version: 1}, sigstop{}}
}

const (
	shortest  = 0.25 // seconds; below, the two looks of the witness would be the fault
	longest   = 300  // seconds
	pollEvery = 2 * time.Millisecond
	lookLimit = 2 * time.Second // one look takes about 0.1 s
)

// planPause is what all drivers share: the targets and the hold.
func planPause(p chaos.Point, seconds float64) (chaos.Plan, error) {
	if !(seconds >= shortest && seconds <= longest) {
		return chaos.Plan{}, fmt.Errorf("pause of %g s: not within %g and %d s", seconds, shortest, longest)
	}
	if len(p.Processes) == 0 {
		return chaos.Plan{}, errors.New("pause: the point has no processes")
	}
	targets, err := trees(p.Processes)
	if err != nil {
		return chaos.Plan{}, err
	}
	for _, t := range targets {
		if st, err := t.Stat(); err == nil && (st.State == 'T' || st.State == 't') {
			return chaos.Plan{}, fmt.Errorf("pause: process %d is stopped already", t.PID)
		}
	}
	return chaos.Plan{
		Magnitude: seconds, Unit: "s", Point: p, Targets: targets,
		Hold:         time.Duration(math.Round(seconds * float64(time.Second))),
		WitnessLimit: lookLimit,
	}, nil
}

// trees lists the processes and all of their descendants, each once. A root that has gone is an
// error: the fault would hit less than was asked.
func trees(roots []chaos.Process) ([]chaos.Process, error) {
	var out []chaos.Process
	seen := map[chaos.Process]bool{}
	for _, root := range roots {
		tree, err := root.Tree()
		if err != nil {
			return nil, err
		}
		for _, p := range tree {
			if !seen[p] {
				seen[p] = true
				out = append(out, p)
			}
		}
	}
	return out, nil
}

// untilStable calls do with the tree until one round has found nothing new to do.
func untilStable(ctx context.Context, roots []chaos.Process, do func(chaos.Process) (done bool, err error)) error {
	for ctx.Err() == nil {
		tree, err := trees(roots)
		if err != nil {
			return err
		}
		fresh := false
		for _, p := range tree {
			done, err := do(p)
			if err != nil && !errors.Is(err, chaos.ErrVanished) {
				return err
			}
			fresh = fresh || done
		}
		if !fresh {
			return nil
		}
	}
	return fmt.Errorf("process tree does not become stable: %w", ctx.Err())
}

// await polls until ok.
func await(ctx context.Context, what string, ok func() (bool, error)) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if yes, err := ok(); yes || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited for %s: %w", what, ctx.Err())
		case <-tick.C:
		}
	}
}
