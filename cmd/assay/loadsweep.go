package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/assay-bench/assay/scenarios/load"
	"github.com/assay-bench/assay/scenarios/load/bundle"
)

const maxSteps = 100

// parseSweep reads FROM..TOxFACTOR and FROM..TO+STEP into rates.
func parseSweep(text string) ([]float64, error) {
	bad := fmt.Errorf("--sweep %.60q: want FROM..TOxFACTOR such as 100..6400x2, or FROM..TO+STEP such as 100..1000+100", text)
	from, rest, ok := strings.Cut(text, "..")
	at := strings.IndexAny(rest, "x+")
	if !ok || at < 0 {
		return nil, bad
	}
	var n [3]float64
	for i, part := range []string{from, rest[:at], rest[at+1:]} {
		v, err := strconv.ParseFloat(part, 64)
		if err != nil || !(v > 0) || math.IsInf(v, 0) {
			return nil, bad
		}
		n[i] = v
	}
	next := func(r float64) float64 { return r + n[2] }
	if rest[at] == 'x' {
		next = func(r float64) float64 { return r * n[2] }
	}
	var rates []float64
	for r := n[0]; r <= n[1]*(1+1e-9); r = next(r) {
		if len(rates) == maxSteps || next(r) <= r {
			return nil, fmt.Errorf("--sweep %.60q: more than %d steps, or none that rises", text, maxSteps)
		}
		rates = append(rates, r)
	}
	if len(rates) == 0 {
		return nil, bad
	}
	return rates, nil
}

// sweepLoad raises the rate step by step until a step is INVALID, has errors, or breaks a threshold. Every
// step stands for itself: nothing is averaged over them.
func (a *app) sweepLoad(ctx context.Context, job loadJob, b *loadBundle) error {
	var rates []float64
	var p99 []int64
	curve := bundle.Curve{Stopped: "the highest rate was reached"}
	for _, rate := range job.steps {
		step := job
		step.schedule.Rate = rate
		fmt.Fprintf(a.err, "step %d of at most %d: %g per second\n", len(rates)+1, len(job.steps), rate)
		l, err := a.oneLoad(ctx, step)
		if err != nil {
			return err
		}
		if err := b.add(fmt.Sprintf("load-%g", rate), l); err != nil {
			return err
		}
		held, err := l.Held()
		if err != nil {
			return err
		}
		if why := stopped(l, held); why != "" {
			curve.Stopped = fmt.Sprintf("at %g per second %s", rate, why)
			break
		}
		rates, p99 = append(rates, rate), append(p99, l.Result.Quantiles[load.ResponseAll].P99)
	}
	if at, ok := bundle.Knee(rates, p99); ok {
		curve.Knee = rates[at]
	}
	return errors.Join(b.put(bundle.Curved, curve), ctx.Err())
}

// stopped says why a step is the last.
func stopped(l bundle.Load, held bool) string {
	c := l.Result.Counts
	switch {
	case !l.Result.Valid:
		return fmt.Sprintf("the result is INVALID: %v", l.Result.Reasons)
	case c.Error+c.Timeout > 0:
		return fmt.Sprintf("there were %d errors and %d timeouts", c.Error, c.Timeout)
	case !held:
		return "a threshold broke"
	}
	return ""
}
