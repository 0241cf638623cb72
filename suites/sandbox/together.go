package sandbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	scenario "github.com/assay-bench/assay/scenarios/sandbox"
)

// together makes n calls of a module at once, one each, and records them as a series.
func (b *bench) together(ctx context.Context, name string, n int, what func(i int) (tenant string, in scenario.Invocation), module string) error {
	began := b.env.Clock.Now()
	g := gathering{each: make([][]scenario.Trial, n)}
	for i := range n {
		g.all.Go(func() {
			tenant, in := what(i)
			at := b.env.Elapsed(began)
			c, err := b.api.Invoke(ctx, "", tenant, module, in)
			g.keep(i, scenario.TrialOf(fmt.Sprintf("%d %s", i, in.Function), at, c), err)
		})
	}
	return g.record(b, name, began)
}

// gathering collects the trials of several goroutines, a list each.
type gathering struct {
	all  sync.WaitGroup
	mu   sync.Mutex
	each [][]scenario.Trial
	errs []error
}

func (g *gathering) keep(i int, t scenario.Trial, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil {
		g.errs = append(g.errs, err)
		return
	}
	g.each[i] = append(g.each[i], t)
}

// record waits for all and records what they did under a name.
func (g *gathering) record(b *bench, name string, began time.Duration) error {
	g.all.Wait()
	if err := errors.Join(g.errs...); err != nil {
		return err
	}
	x := scenario.Series{Name: name, Took: b.env.Elapsed(began)}
	for _, some := range g.each {
		x.Each = append(x.Each, some...)
	}
	for _, t := range x.Each {
		b.dead = b.dead || t.Status == 0
	}
	if err := scenario.RecordSeries(b.env, x); err != nil {
		return err
	}
	if b.dead {
		return errDead
	}
	return nil
}
