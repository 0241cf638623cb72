package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sort"
	"sync"
	"time"

	"github.com/assay-bench/assay/chaos"
	"github.com/assay-bench/assay/results"
)

const (
	cpuWindow   = 60 * time.Millisecond  // processor time must not advance over it; six clock ticks
	silence     = 100 * time.Millisecond // how long a probe waits for the answer that must not come
	answerLimit = 2 * time.Second        // how long it waits before the fault
	late        = 500 * time.Millisecond // by which a pause may be longer than asked, and 2 %
	early       = 5 * time.Millisecond   // before the end of silence that counts as its end
)

// paused is a tree that stands still, or that should.
type paused struct {
	plan  chaos.Plan
	since time.Time
	deaf  error // why the probes proved nothing even before the fault
	// held returns an error that says why a process does not read as stopped.
	held func(chaos.Process) error
	// back names what is not as it was before the fault.
	back func() []string
}

// newPaused asks the probes before the fault: an answer that stays away says something only if it
// came before.
func newPaused(ctx context.Context, plan chaos.Plan) *paused {
	h := &paused{plan: plan}
	for _, a := range ask(ctx, plan.Point, answerLimit) {
		if a.err != nil {
			h.deaf = fmt.Errorf("probe of %s got no answer before the fault either: %w", a.endpoint, a.err)
		}
	}
	return h
}

// Witness looks at the processes and at the target, never at what Apply did.
func (h *paused) Witness(ctx context.Context) (results.Evidence, error) {
	if err := h.still(ctx); err != nil {
		return h.plan.Evidence(0, false, err.Error())
	}
	took := time.Since(h.since)
	detail := fmt.Sprintf("%d processes", len(h.living()))
	if limit := h.plan.Hold + h.plan.Hold/50 + late; took > limit {
		return h.plan.Evidence(took.Seconds(), false, fmt.Sprintf("%s, longer than %v", detail, limit))
	}
	return h.plan.Evidence(took.Seconds(), true, detail)
}

// still returns an error that says what moved.
func (h *paused) still(ctx context.Context) error {
	tree := h.living()
	if len(tree) == 0 {
		return errors.New("no process is left")
	}
	for _, p := range tree {
		if err := h.held(p); err != nil && !errors.Is(err, chaos.ErrVanished) {
			return err
		}
	}
	before := cpu(tree)
	var answers []answer
	var asked sync.WaitGroup
	asked.Go(func() { answers = ask(ctx, h.plan.Point, silence) })
	window := time.NewTimer(cpuWindow)
	defer window.Stop()
	select {
	case <-ctx.Done():
	case <-window.C:
	}
	asked.Wait()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("witness broken off: %w", err)
	}
	if ran := cpu(tree) - before; ran != 0 {
		return fmt.Errorf("the tree ran for %d clock ticks", ran)
	}
	return errors.Join(h.deaf, silent(answers))
}

// living lists the planned targets that are alive and whatever is below them now.
func (h *paused) living() []chaos.Process {
	var out []chaos.Process
	for _, t := range h.plan.Targets {
		if t.Alive() {
			out = append(out, t)
		}
	}
	all, err := trees(out)
	if err != nil { // one has just gone
		return out
	}
	return all
}

// cpu sums the processor time of the processes in clock ticks; one that has gone counts as zero.
func cpu(tree []chaos.Process) int64 {
	var sum int64
	for _, p := range tree {
		if st, err := p.Stat(); err == nil {
			sum += int64(st.CPU)
		}
	}
	return sum
}

// answer is what one probe met.
type answer struct {
	endpoint string
	err      error
	waited   time.Duration
}

// ask probes all endpoints at once.
func ask(ctx context.Context, p chaos.Point, limit time.Duration) []answer {
	if p.Probe == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var out []answer
	for name := range p.Endpoints {
		out = append(out, answer{endpoint: name})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].endpoint < out[j].endpoint })
	var all sync.WaitGroup
	for i := range out {
		all.Go(func() {
			began := time.Now()
			_, out[i].err = p.Probe(ctx, p.Endpoints[out[i].endpoint])
			out[i].waited = time.Since(began)
		})
	}
	all.Wait()
	return out
}

// silent returns an error when a probe was answered, or refused: a pause is a hang.
func silent(answers []answer) error {
	for _, a := range answers {
		if a.err == nil {
			return fmt.Errorf("%s answered a probe", a.endpoint)
		}
		if a.waited < silence-early && !errors.Is(a.err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("%s refused a probe, which is not a hang: %w", a.endpoint, a.err)
		}
	}
	return nil
}

// Revert runs the undo steps of the plan.
func (h *paused) Revert(ctx context.Context) error { return h.plan.Rollback(ctx) }

// Residue names what is not as it was.
func (h *paused) Residue(context.Context) []string {
	if h.back == nil {
		return nil
	}
	return h.back()
}
