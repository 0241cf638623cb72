package bundle

import (
	"fmt"
	"time"

	"go.k6.io/k6/metrics"

	"github.com/assay-bench/assay/results/histogram"
	"github.com/assay-bench/assay/scenarios/k6"
)

// steps is how many quantiles of a histogram stand for its samples. k6 evaluates thresholds on its own
// sinks alone, and 10,001 evenly spaced quantiles carry p(0) to p(99.99); beyond, ask the histogram.
const steps = 10_000

// Evaluate holds a threshold in k6's syntax, with k6's own evaluator, against what was counted of a metric.
func Evaluate(m k6.Metric, expression string, lasted time.Duration) (held bool, err error) {
	ts := metrics.NewThresholds([]string{expression})
	if err := ts.Parse(); err != nil {
		return false, fmt.Errorf("threshold on %s: %w", m.Name, err)
	}
	sink, err := sinkOf(m)
	if err != nil {
		return false, err
	}
	return ts.Run(sink, max(lasted, 1))
}

// sinkOf fills one of k6's sinks from counters and histogram.
func sinkOf(m k6.Metric) (metrics.Sink, error) {
	switch m.Type {
	case k6.Counter:
		return &metrics.CounterSink{Value: m.Sum}, nil
	case k6.Gauge:
		return &metrics.GaugeSink{Value: m.Last, Min: m.Min, Max: m.Max}, nil
	case k6.Rate:
		return &metrics.RateSink{Trues: m.Trues, Total: m.Count}, nil
	case k6.Trend:
		sink := metrics.NewTrendSink()
		if m.Histogram == "" {
			return sink, nil
		}
		h, err := histogram.Decode([]byte(m.Histogram))
		if err != nil {
			return nil, fmt.Errorf("metric %s: %w", m.Name, err)
		}
		for i := range steps + 1 {
			sink.Add(metrics.Sample{Value: float64(h.Quantile(float64(i)/steps)) / k6.TrendScale})
		}
		return sink, nil
	}
	return nil, fmt.Errorf("metric %s has the unknown type %q", m.Name, m.Type)
}
