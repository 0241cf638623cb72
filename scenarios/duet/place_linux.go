package duet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/assay-bench/assay/chaos"
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

// quotaText says why processors are let sleep.
const quotaText = "not kept awake: a control group has a quota of processor time"

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
	if limited() {
		where.Why = quotaText
		return where, undo
	}
	self := []chaos.Process{{PID: os.Getpid()}}
	spins, err := keepAwake(c.cpus)
	if err == nil {
		err = place(self, c.generator)
	}
	undo = func() {
		spins.stop()
		_ = place(self, c.all) // as it was before
	}
	if err != nil {
		where.Why = err.Error()
		undo()
		return where, func() {}
	}
	where.Awake = true
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
