package coldstart

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Bursts measures how many fresh instances a second come to a checked first result from the compiled form,
// at each number of threads: Options.Samples instances in all, on that many goroutines at once. PerSecond is
// over the wall time of the whole burst. Errors are those of Measure.
func Bursts(ctx context.Context, o Options) ([]Row, error) {
	guests, err := o.fill()
	if err != nil {
		return nil, err
	}
	var rows []Row
	for _, g := range guests {
		for _, e := range o.Engines {
			some, err := o.bursts(ctx, g, e)
			if err != nil {
				return nil, fmt.Errorf("guest %s: %s: burst: %w", g.Name, e, err)
			}
			rows = append(rows, some...)
		}
	}
	return rows, nil
}

func (o *Options) bursts(ctx context.Context, g *prepared, e Engine) (rows []Row, err error) {
	w, err := o.heat(ctx, g, e, "")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.stage.close(context.Background())) }()
	for _, threads := range o.Threads {
		if threads < 1 {
			return nil, fmt.Errorf("%d threads", threads)
		}
		row, err := w.burst(ctx, threads, g.samples(o.Samples))
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// burst shares n samples among goroutines. Each has a cell of its own, joined afterwards.
func (w *warm) burst(ctx context.Context, threads, n int) (Row, error) {
	cells, failures := make([]cell, threads), make([]error, threads)
	var done sync.WaitGroup
	began := time.Now()
	for i := range cells {
		cells[i] = cell{warm: w, start: FromCompiled, end: FirstResult, checked: true, want: n / threads}
		if i < n%threads {
			cells[i].want++
		}
		done.Go(func() { failures[i] = cells[i].fill(ctx) })
	}
	done.Wait()
	wall := time.Since(began)
	if err := errors.Join(failures...); err != nil {
		return Row{}, err
	}
	all := &cells[0]
	for i := range cells[1:] {
		c := &cells[1+i]
		all.samples, all.void = append(all.samples, c.samples...), all.void+c.void
		if all.why == "" {
			all.why = c.why
		}
	}
	row := all.row()
	row.Threads = threads
	if row.N > 0 {
		row.PerSecond = float64(row.N) / max(wall, 1).Seconds()
	}
	return row, nil
}

func (c *cell) fill(ctx context.Context) error {
	for range c.want {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.instantiating(ctx); err != nil {
			return err
		}
	}
	return nil
}
