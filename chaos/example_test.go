//go:build linux

package chaos_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/assay-bench/assay/chaos"
	"github.com/assay-bench/assay/results"
)

// crowd is a fault in one file: it fills the run's directory with so many files. In the tree it
// would be chaos/fs/crowd.go, with a line in chaos/catalogue.
type crowd struct{}

func (crowd) Name() string            { return "fs/crowd" }
func (crowd) Drivers() []chaos.Driver { return []chaos.Driver{crowdDriver{}} }

type crowdDriver struct{}

func (crowdDriver) Name() string { return "files" }

// Probe does it in a place that is thrown away.
func (d crowdDriver) Probe(context.Context) chaos.Capability {
	dir, err := os.MkdirTemp("", "assay-probe-")
	if err != nil {
		return chaos.Capability{Driver: d.Name(), Detail: err.Error()}
	}
	err = os.WriteFile(filepath.Join(dir, "crowd-0"), nil, 0o600)
	_ = os.RemoveAll(dir)
	return chaos.Capability{Driver: d.Name(), Available: err == nil, Detail: fmt.Sprint(err)}
}

// Plan changes nothing. What outlives the harness needs undo steps; a file in the run's own
// directory may stay, so there are none here.
func (crowdDriver) Plan(p chaos.Point, files float64, _ *rand.Rand) (chaos.Plan, error) {
	if !(files >= 1 && files <= 1000) {
		return chaos.Plan{}, fmt.Errorf("crowd of %g files: not within 1 and 1000", files)
	}
	return chaos.Plan{Unit: "1", Point: p}, nil
}

func (crowdDriver) Apply(_ context.Context, p chaos.Plan) (chaos.Handle, error) {
	for i := range int(p.Magnitude) {
		if err := os.WriteFile(filepath.Join(p.Point.Dir, fmt.Sprintf("crowd-%d", i)), nil, 0o600); err != nil {
			return nil, err
		}
	}
	return crowded{p}, nil
}

type crowded struct{ plan chaos.Plan }

func (h crowded) files() ([]string, error) {
	return filepath.Glob(filepath.Join(h.plan.Point.Dir, "crowd-*"))
}

// Witness counts what is there; it does not repeat what Apply said.
func (h crowded) Witness(context.Context) (results.Evidence, error) {
	files, err := h.files()
	if err != nil {
		return results.Evidence{}, err
	}
	n := float64(len(files))
	return h.plan.Evidence(n, n == h.plan.Magnitude, "")
}

// Revert is idempotent.
func (h crowded) Revert(context.Context) error {
	files, err := h.files()
	for _, f := range files {
		if e := os.Remove(f); e != nil && !os.IsNotExist(e) {
			err = e
		}
	}
	return err
}

// A fault is a type with a name and a driver, and goes through its life by Inject.
func Example() {
	dir, err := os.MkdirTemp("", "assay-example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	journal, err := chaos.CreateJournal(filepath.Join(dir, "journal.jsonl"))
	if err != nil {
		fmt.Println(err)
		return
	}
	spec, err := chaos.ParseSpec("fs/crowd=3")
	if err != nil {
		fmt.Println(err)
		return
	}
	err = chaos.Inject(context.Background(), chaos.Injection{
		Spec: spec, Fault: crowd{}, Driver: crowd{}.Drivers()[0],
		Point:   chaos.Point{RunID: "example", Dir: dir},
		Journal: journal, Clock: results.ClockSince(time.Now()),
		Record: func(kind results.Kind, data any) error {
			if seen, ok := data.(chaos.Injected); ok {
				fmt.Println(kind, seen.Observed, "of", seen.Asked, seen.Witnessed)
			} else {
				fmt.Println(kind)
			}
			return nil
		},
	}, func(context.Context, chaos.Handle) error {
		fmt.Println("the scenario runs")
		return nil
	})
	fmt.Println(err, journal.Close())
	// Output:
	// injected 3 of 3 true
	// the scenario runs
	// injected 3 of 3 true
	// reverted
	// residue
	// <nil> <nil>
}
