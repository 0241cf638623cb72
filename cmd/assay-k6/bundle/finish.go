package bundle

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.k6.io/k6/errext"
	"go.k6.io/k6/metrics"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/results/seal"
	"github.com/assay-bench/assay/scenarios/k6"
)

// StopWithTestError writes what was counted, judges and seals. k6 has evaluated its thresholds by now.
func (o *Output) StopWithTestError(testErr error) error {
	if o.dir == "" {
		return nil
	}
	lasted := time.Since(o.began)
	err := errors.Join(o.refused, o.measured(lasted), o.record(results.FromHost, results.Ended, o.end(testErr, lasted)))
	if err = errors.Join(err, o.writer.Close()); err != nil {
		return fmt.Errorf("the bundle %s is not complete: %w", o.dir, err)
	}
	v := k6.Verdicts(o.run, o.recorder.All())
	if err := o.writer.WriteVerdicts(v, uint64(len(o.recorder.All()))); err != nil {
		return err
	}
	if err := seal.Write(o.dir, k6.Digest(), v.Executed); err != nil {
		return err
	}
	o.say(v)
	return nil
}

// measured records every metric, those with a threshold and no sample too.
func (o *Output) measured(lasted time.Duration) error {
	all, err := o.tally.metrics()
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for i := range all {
		seen[all[i].Name] = true
	}
	for name, ts := range o.thresholds {
		if !seen[name] && len(ts.Thresholds) > 0 {
			all = append(all, k6.Metric{Name: name, Type: emptyType(ts)})
		}
	}
	slices.SortFunc(all, func(a, b k6.Metric) int { return strings.Compare(a.Name, b.Name) })
	for _, m := range all {
		if m.Histogram != "" && !strings.HasPrefix(m.Name, engineMetrics) {
			// k6's times begin when a request is sent: service, not response
			if err := o.save(m.Name+"--service", []byte(m.Histogram)); err != nil {
				return err
			}
		}
		if m.Thresholds, err = o.judged(m, lasted); err != nil {
			return err
		}
		if err := o.record(results.FromScenario, k6.MetricSeen, m); err != nil {
			return err
		}
	}
	return nil
}

// engineMetrics begin the names of metrics whose histograms the engine itself has, before k6 saw them.
const engineMetrics = "assay_"

// judged lists the thresholds on a metric in the order of their expressions.
func (o *Output) judged(m k6.Metric, lasted time.Duration) ([]k6.Threshold, error) {
	var out []k6.Threshold
	for _, t := range o.thresholds[m.Name].Thresholds {
		failed, err := crossed(m, t, lasted)
		if err != nil {
			return nil, err
		}
		out = append(out, k6.Threshold{Expression: t.Source, Failed: failed, Guard: o.ours(m.Name)})
	}
	slices.SortFunc(out, func(a, b k6.Threshold) int { return strings.Compare(a.Expression, b.Expression) })
	return out, nil
}

// crossed is k6's own verdict from its raw samples. For trends it is taken from the run; what k6 divides by
// the test's duration it would find in another second than this output does, so counters are evaluated here.
func crossed(m k6.Metric, t *metrics.Threshold, lasted time.Duration) (bool, error) {
	if m.Type != k6.Counter {
		return t.LastFailed, nil
	}
	held, err := Evaluate(m, t.Source, lasted)
	return !held, err
}

// emptyType guesses the type of a metric without samples from what is asked of it; the judge looks at
// nothing else of it.
func emptyType(ts metrics.Thresholds) string {
	switch e := ts.Thresholds[0].Source; {
	case strings.HasPrefix(e, "count"):
		return k6.Counter
	case strings.HasPrefix(e, "value"):
		return k6.Gauge
	case strings.HasPrefix(e, "rate"):
		return k6.Rate
	}
	return k6.Trend
}

func (o *Output) end(testErr error, lasted time.Duration) k6.End {
	e := k6.End{Duration: lasted}
	e.Exceptions, e.First = o.thrown.sum()
	if testErr != nil {
		e.Error, e.ExitCode = testErr.Error(), -1
		var coded errext.HasExitCode
		if errors.As(testErr, &coded) {
			e.ExitCode = int(coded.ExitCode())
		}
	}
	return e
}

// say tells the user where the bundle is and what it says.
func (o *Output) say(v results.Verdicts) {
	worst := v.Verdicts[0]
	for _, x := range v.Verdicts {
		if x.Status != results.Pass && (worst.Status == results.Pass || x.Status == results.Fail) {
			worst = x
		}
	}
	text := fmt.Sprintf("assay: bundle %s: %d of %d rows pass", o.dir, v.Count(results.Pass), len(v.Verdicts))
	if worst.Status == results.Pass {
		o.logger.Info(text)
		return
	}
	o.logger.Warnf("%s; %s is %s (%s): %s; assay judge exits %d", text, worst.Key(), worst.Status, worst.Reason, worst.Why.Observed, v.Exit)
}
