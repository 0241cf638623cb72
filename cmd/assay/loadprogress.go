package main

import (
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/assay-bench/assay/scenarios/load"
)

// loadDisplay shows a load under way: a bar on a terminal, a line now and then elsewhere.
type loadDisplay struct {
	w     io.Writer
	box   *mpb.Progress
	bar   *mpb.Bar
	every time.Duration // between lines
	last  load.Progress
	shown time.Duration
	line  atomic.Pointer[string] // read by the bar's own goroutine
}

// lines is about how many lines a load writes where there is no terminal.
const lines = 20

func (a *app) loadProgress(length time.Duration) *loadDisplay {
	d := &loadDisplay{w: a.err, every: max(length/lines, time.Second)}
	d.line.Store(new(string))
	if isTerminal(a.err) && os.Getenv("CI") == "" {
		d.box = mpb.New(mpb.WithOutput(a.err), mpb.WithWidth(24))
		d.bar = d.box.AddBar(max(length.Milliseconds(), 1), mpb.BarRemoveOnComplete(),
			mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return *d.line.Load() })))
	}
	return d
}

// report is called once a second.
func (d *loadDisplay) report(p load.Progress) {
	done := p.OK + p.Errors + p.Timeouts
	before := d.last.OK + d.last.Errors + d.last.Timeouts
	rate := float64(done-before) / max((p.Elapsed-d.last.Elapsed).Seconds(), 1e-3)
	d.last = p
	line := fmt.Sprintf("  %s  %.0f/s  p50 %s  p99 %s  %d errors  %d timeouts", p.Elapsed.Round(time.Second), rate,
		p.P50.Round(time.Microsecond), p.P99.Round(time.Microsecond), p.Errors, p.Timeouts)
	if d.bar != nil {
		d.line.Store(&line)
		d.bar.SetCurrent(p.Elapsed.Milliseconds())
		return
	}
	if p.Elapsed-d.shown >= d.every-d.every/10 {
		d.shown = p.Elapsed
		fmt.Fprintln(d.w, line[2:])
	}
}

func (d *loadDisplay) end() {
	if d.bar != nil {
		d.bar.Abort(true)
		d.box.Wait()
	}
}
