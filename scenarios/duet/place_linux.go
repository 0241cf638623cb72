package duet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/assay-bench/assay/chaos"
	"github.com/assay-bench/assay/scenarios/host"
)

// maxSettles is how often threads that were made meanwhile are looked for.
const maxSettles = 20

// place lets every thread of the processes run on the processors of set alone; what they start later inherits that.
func place(tree []chaos.Process, set unix.CPUSet) error {
	for range maxSettles {
		moved := 0
		for _, p := range tree {
			n, err := placeThreads(p.PID, set)
			if err != nil {
				return err
			}
			moved += n
		}
		if moved == 0 {
			return nil
		}
	}
	return fmt.Errorf("threads are made faster than they can be placed")
}

func placeThreads(pid int, set unix.CPUSet) (moved int, err error) {
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil // it has ended, which is seen elsewhere
	}
	if err != nil {
		return 0, err
	}
	for _, t := range threads {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			return 0, fmt.Errorf("thread %q of process %d: %w", t.Name(), pid, err)
		}
		var now unix.CPUSet
		err = unix.SchedGetaffinity(tid, &now)
		if err == nil && now != set {
			moved++
			err = unix.SchedSetaffinity(tid, &set)
		}
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return 0, fmt.Errorf("place thread %d of process %d: %w", tid, pid, err)
		}
	}
	return moved, nil
}

// choice is where processes may run.
type choice struct {
	all, arms, generator unix.CPUSet
	cpus                 []int // of the arms, and of the generator where there is a second one
}

// allowed are the processors that this process began with: while an epoch runs it has fewer.
var allowed = sync.OnceValues(func() (set unix.CPUSet, err error) {
	err = unix.SchedGetaffinity(0, &set)
	return set, err
})

// choose takes the last processor that this process has for the arms, since the first takes most interrupts, and the one before
// for the generator.
func choose() (c choice, err error) {
	if c.all, err = allowed(); err != nil {
		return c, fmt.Errorf("ask for the processors of this process: %w", err)
	}
	for i, left := 0, c.all.Count(); left > 0; i++ {
		if c.all.IsSet(i) {
			left--
			c.cpus = append([]int{i}, c.cpus...)
		}
	}
	c.cpus = c.cpus[:min(2, len(c.cpus))]
	c.arms.Set(c.cpus[0])
	c.generator.Set(c.cpus[len(c.cpus)-1])
	return c, nil
}

// Why processors are let sleep.
const (
	quotaText = "not kept awake: a control group has a quota of processor time"
	tailText  = "not kept awake: it would cost the slowest requests"
)

// tailed tells of a scenario that judges its slowest requests, or holds requests against a limit. What keeps a processor awake gets a slice of the scheduler now
// and then: one request in a hundred waited for 1 to 5 ms, and p99 of unchanged code scattered by 60 % from epoch to epoch
// in place of 8.
func tailed(s Scenario) bool {
	return slices.Contains(s.Metrics, P99) || slices.Contains(s.Metrics, Mean) || len(s.Limits) > 0
}

// settle places both sides for a scenario. undo takes back what concerns this process.
func (r *Runner) settle(s Scenario, both *[2]started) (where Placement, undo func()) {
	undo = func() {}
	c, err := choose()
	if err != nil {
		return Placement{Why: err.Error()}, undo
	}
	if s.Mode != ByRequest || r.cfg.Spread {
		if err := placeBoth(both, c.all); err != nil {
			return Placement{Why: err.Error()}, undo
		}
		return Placement{}, undo
	}
	if err := placeBoth(both, c.arms); err != nil { // rather both spread than one
		_ = placeBoth(both, c.all)
		return Placement{Why: err.Error()}, undo
	}
	where.Processor = &c.cpus[0]
	var spins host.Awake
	switch {
	case tailed(s):
		where.Why = tailText
	case host.Limited():
		where.Why = quotaText
		return where, undo
	default:
		spins, err = host.KeepAwake(c.cpus)
		where.Awake = err == nil
	}
	self := []chaos.Process{{PID: os.Getpid()}}
	undo = func() {
		spins.Stop()
		_ = place(self, c.all) // as it was before
	}
	if err == nil {
		err = place(self, c.generator)
	}
	if err != nil {
		undo()
		where.Awake, where.Why = false, err.Error()
		return where, func() {}
	}
	return where, undo
}

func placeBoth(both *[2]started, set unix.CPUSet) error {
	for _, b := range both {
		if b.process.Tree == nil {
			return errors.New("the processes of a side are not known")
		}
		if err := place(b.process.Tree(), set); err != nil {
			return err
		}
	}
	return nil
}
