package proc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/assay-bench/assay/chaos"
)

// freezer pauses by a cgroup. For each cgroup that the target is in, a child of it is made, so that
// all limits go on to hold, and the processes are moved there and frozen.
type freezer struct{ version int }

func (d freezer) Name() string { return "freezer-v" + strconv.Itoa(d.version) }

func (d freezer) Probe(ctx context.Context) chaos.Capability { return tryOut(ctx, d) }

// Plan names the cgroups to come. Their undo steps need no list of processes: the kernel keeps it,
// and whatever is forked while frozen is in it.
func (d freezer) Plan(p chaos.Point, seconds float64, _ *rand.Rand) (chaos.Plan, error) {
	plan, err := planPause(p, seconds)
	if err != nil {
		return plan, err
	}
	h, err := findHierarchy(d.version)
	if err != nil {
		return plan, err
	}
	seen := map[string]bool{}
	for _, t := range plan.Targets {
		home, err := h.of(t.PID)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it has just ended
		}
		if err != nil {
			return plan, err
		}
		if seen[home] {
			continue
		}
		seen[home] = true
		cell := cellIn(home, plan.Point)
		if _, err := os.Lstat(cell); err == nil {
			return plan, fmt.Errorf("pause: cgroup %s is there already", cell)
		}
		plan.Undo = append(plan.Undo, undoCell(cell, home)...)
	}
	return plan, nil
}

// cellIn names the cgroup below home in which the processes of home are frozen.
func cellIn(home string, p chaos.Point) string {
	return filepath.Join(home, fmt.Sprintf("assay-%s-pause-%d", run8(p.RunID), p.Processes[0].PID))
}

// run8 is what of the run's id goes into names.
func run8(id string) string {
	keep := func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}
	id = strings.Map(keep, strings.ToLower(id))
	return id[:min(8, len(id))]
}

// undoCell thaws, moves the processes home and removes, in reverse.
func undoCell(cell, home string) []chaos.Step {
	return []chaos.Step{
		{Op: "cgroup.rmdir", Path: cell},
		{Op: "cgroup.empty", Path: cell, To: home},
		{Op: "cgroup.thaw", Path: cell},
	}
}

func (d freezer) Apply(ctx context.Context, plan chaos.Plan) (chaos.Handle, error) {
	c, err := d.cells(ctx, plan)
	if err != nil {
		return nil, err
	}
	roots := plan.Point.Processes
	if err := untilStable(ctx, roots, c.admit); err != nil {
		return nil, err
	}
	for _, cell := range c.homes {
		if err := c.freeze(cell); err != nil {
			return nil, err
		}
	}
	// What was forked by a process on its way in is still outside; in a frozen cgroup it freezes.
	if err := untilStable(ctx, roots, c.admit); err != nil {
		return nil, err
	}
	for _, cell := range c.homes {
		if err := await(ctx, cell+" to freeze", func() (bool, error) { return c.frozen(cell) }); err != nil {
			return nil, err
		}
	}
	return c.handle(), nil
}

// Idle makes no cgroup.
func (d freezer) Idle(ctx context.Context, plan chaos.Plan) (chaos.Handle, error) {
	c, err := d.cells(ctx, plan)
	if err != nil {
		return nil, err
	}
	return c.handle(), nil
}

// cells are the cgroups of one pause.
type cells struct {
	hierarchy
	watch  *paused
	homes  map[string]string        // cgroup before -> cgroup of the pause
	before map[chaos.Process]string // where the targets were
}

func (d freezer) cells(ctx context.Context, plan chaos.Plan) (*cells, error) {
	h, err := findHierarchy(d.version)
	if err != nil {
		return nil, err
	}
	c := &cells{h, newPaused(ctx, plan), map[string]string{}, map[chaos.Process]string{}}
	for _, t := range plan.Targets {
		if home, err := h.of(t.PID); err == nil {
			c.before[t] = home
		}
	}
	return c, nil
}

// admit moves a process into the cell of its cgroup, unless it is in one.
func (c *cells) admit(p chaos.Process) (bool, error) {
	home, err := c.of(p.PID)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if c.isCell(home) {
		return false, nil
	}
	cell, err := c.cellFor(home)
	if err != nil {
		return false, err
	}
	err = os.WriteFile(filepath.Join(cell, "cgroup.procs"), []byte(strconv.Itoa(p.PID)), 0)
	if errors.Is(err, syscall.ESRCH) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("move process %d: %w", p.PID, err)
	}
	return true, nil
}

func (c *cells) isCell(dir string) bool {
	for _, cell := range c.homes {
		if dir == cell {
			return true
		}
	}
	return false
}

// cellFor makes the cell of a cgroup. Its undo steps are on disk before it is there.
func (c *cells) cellFor(home string) (string, error) {
	if cell, ok := c.homes[home]; ok {
		return cell, nil
	}
	cell := cellIn(home, c.watch.plan.Point)
	if !c.planned(cell) {
		if err := c.watch.plan.Note(undoCell(cell, home)...); err != nil {
			return "", err
		}
	}
	if err := os.Mkdir(cell, 0o755); err != nil {
		return "", err
	}
	c.homes[home] = cell
	return cell, nil
}

func (c *cells) planned(cell string) bool {
	for _, s := range c.watch.plan.Undo {
		if s.Path == cell {
			return true
		}
	}
	return false
}

func (c *cells) handle() *paused {
	c.watch.held = c.holds
	c.watch.back = c.notBack
	c.watch.since = time.Now()
	return c.watch
}

// holds reads back where the process is and whether that is frozen. The name of the cgroup is made
// anew: what Apply remembers is no evidence.
func (c *cells) holds(p chaos.Process) error {
	dir, err := c.of(p.PID)
	if err != nil {
		return tolerateGone(p, err)
	}
	if want := cellIn(filepath.Dir(dir), c.watch.plan.Point); dir != want {
		return fmt.Errorf("process %d is in cgroup %s, not in that of the pause", p.PID, dir)
	}
	frozen, err := c.frozen(dir)
	if err != nil {
		return err
	}
	if !frozen {
		return fmt.Errorf("process %d is in cgroup %s, which is not frozen", p.PID, dir)
	}
	return nil
}

func tolerateGone(p chaos.Process, err error) error {
	if !p.Alive() {
		return nil
	}
	return err
}

// notBack names surviving targets that are not in the cgroup they were in.
func (c *cells) notBack() []string {
	var out []string
	for p, home := range c.before {
		if dir, err := c.of(p.PID); err == nil && dir != home && p.Alive() {
			out = append(out, fmt.Sprintf("process %d is in cgroup %s, not in %s", p.PID, dir, home))
		}
	}
	return out
}
