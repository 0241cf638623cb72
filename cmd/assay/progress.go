package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/suites"
	"github.com/assay-bench/assay/suites/runner"
)

// display shows how a run goes on: a bar with the time left on a terminal, one line a case elsewhere.
type display struct {
	w   io.Writer
	mu  sync.Mutex
	box *mpb.Progress
	bar *mpb.Bar
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func (a *app) progress(run results.Run, expected time.Duration) *display {
	d := &display{w: a.err}
	if isTerminal(a.err) && os.Getenv("CI") == "" {
		d.box = mpb.New(mpb.WithOutput(a.err), mpb.WithWidth(48))
		d.bar = d.box.AddBar(int64(len(run.Plan)), mpb.BarRemoveOnComplete(),
			mpb.PrependDecorators(decor.CountersNoUnit("%d / %d ")),
			mpb.AppendDecorators(decor.Percentage(), decor.Any(timeLeft(expected))))
	}
	return d
}

// timeLeft counts down from what the plan's checks say that they take: most cases are done at once and a
// few wait for seconds, so that the pace so far says nothing.
func timeLeft(expected time.Duration) func(decor.Statistics) string {
	began := time.Now()
	return func(decor.Statistics) string {
		left := (expected - time.Since(began)).Round(time.Second)
		if left <= 0 {
			return "  nearly done"
		}
		return "  about " + left.String() + " left"
	}
}

// event shows one finished case; on a terminal only what is not green gets a line.
func (d *display) event(e runner.Event) {
	line := fmt.Sprintf("%-12s %s %s", e.Verdict.Status, suites.Pattern(e.Planned.Key()), e.Took.Round(time.Millisecond))
	if e.Verdict.Reason != "" {
		line += " (" + e.Verdict.Reason + ")"
	}
	line = oneLine(line)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bar == nil {
		fmt.Fprintln(d.w, line)
		return
	}
	if e.Verdict.Status != results.Pass && e.Verdict.Status != results.NotClaimed {
		fmt.Fprintln(d.box, line)
	}
	d.bar.SetCurrent(int64(e.Done))
}

func (d *display) end() {
	if d.bar != nil {
		d.bar.Abort(true)
		d.box.Wait()
	}
}

// proveProgress shows finished trials.
func (a *app) proveProgress() func(string, int, int, time.Duration) {
	return func(name string, done, total int, took time.Duration) {
		if isTerminal(a.err) && os.Getenv("CI") == "" {
			fmt.Fprintf(a.err, "\r\x1b[K%d / %d  %s", done, total, name)
			if done == total {
				fmt.Fprint(a.err, "\r\x1b[K")
			}
			return
		}
		fmt.Fprintf(a.err, "trial %d/%d %s %s\n", done, total, name, took.Round(time.Millisecond))
	}
}

// printPlan says what is about to happen, before it does.
func (a *app) printPlan(run results.Run, plan suites.Plan) {
	faults := map[string]bool{}
	checks := map[string]bool{}
	for _, p := range plan.Planned {
		checks[p.Check] = true
		if p.Under != "" {
			faults[p.Under] = true
		}
	}
	fmt.Fprintf(a.err, "target: %s (%s)\n", oneLine(run.Target.Name), run.Target.Kind)
	fmt.Fprintf(a.err, "plan: profile %s, %s in %s, %s, about %s, seed %d\n", run.Profile, plural(len(checks), "check"),
		plural(len(plan.Planned), "case"), plural(len(faults), "fault"), plan.Expected.Round(time.Second), run.Seed)
	if len(plan.LeftOut) > 0 {
		reasons := map[string]int{}
		for _, l := range plan.LeftOut {
			reasons[l.Why]++
		}
		var parts []string
		for _, why := range sortedKeys(reasons) {
			parts = append(parts, fmt.Sprintf("%d (%s)", reasons[why], why))
		}
		fmt.Fprintf(a.err, "left out: %s\n", strings.Join(parts, ", "))
	}
	for _, u := range run.Unrunnable() {
		fmt.Fprintf(a.err, "not run here: %s: %s: %s\n", plural(len(u.Cases), "case"), oneLine(u.Probe), u.Summary())
	}
}
