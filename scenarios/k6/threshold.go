package k6

import (
	"fmt"
	"time"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/results/histogram"
	"github.com/assay-bench/assay/scenarios/load/threshold"
)

// judge holds one threshold against the metric's histogram and counters. Where k6, which keeps every raw
// sample, came to the other answer, the bound lies within the histogram's 0.1 % of the value: undecided.
func (m Metric) judge(t Threshold, lasted time.Duration) (results.Status, string, string) {
	e, err := threshold.Parse(t.Expression)
	if err != nil {
		return results.Broken, ReasonUnjudgeable, err.Error()
	}
	value, empty, err := m.value(e, lasted)
	if err != nil {
		return results.Broken, ReasonUnjudgeable, err.Error()
	}
	if empty {
		return results.Inconclusive, ReasonNoSamples, fmt.Sprintf("%s has no sample, so %s says nothing", m.Name, t.Expression)
	}
	observed := fmt.Sprintf("%s of %s is %.6g%s over %d samples", e.Aggregation, m.Name, value, m.unit(), m.Count)
	if e.Aggregation == "p" {
		observed = fmt.Sprintf("p(%g) of %s is %.6g%s over %d samples", e.Percentile, m.Name, value, m.unit(), m.Count)
	}
	switch holds := e.Holds(value); {
	case holds == t.Failed:
		return results.Inconclusive, ReasonResolution, fmt.Sprintf("%s; k6 says from its raw samples that %s %s", observed, t.Expression, outcome(!t.Failed))
	case holds:
		return results.Pass, "", observed
	}
	return results.Fail, ReasonCrossed, observed
}

func outcome(holds bool) string {
	if holds {
		return "holds"
	}
	return "does not hold"
}

func (m Metric) unit() string {
	if m.Time {
		return " ms"
	}
	return ""
}

// value computes what an expression compares, in the unit of the metric.
func (m Metric) value(e threshold.Expression, lasted time.Duration) (value float64, empty bool, err error) {
	switch m.Type {
	case Counter:
		switch e.Aggregation {
		case "count":
			return m.Sum, false, nil
		case "rate":
			return m.Sum / max(lasted.Seconds(), 1e-9), false, nil
		}
	case Gauge:
		if e.Aggregation == "value" {
			return m.Last, m.Count == 0, nil
		}
	case Rate:
		if e.Aggregation == "rate" {
			return float64(m.Trues) / float64(max(m.Count, 1)), m.Count == 0, nil
		}
	case Trend:
		return m.trend(e)
	}
	return 0, false, fmt.Errorf("metric %s is a %s and has no %s", m.Name, m.Type, e.Aggregation)
}

func (m Metric) trend(e threshold.Expression) (value float64, empty bool, err error) {
	if m.Count == 0 {
		return 0, true, nil
	}
	switch e.Aggregation {
	case "avg":
		return m.Sum / float64(m.Count), false, nil
	case "min":
		return m.Min, false, nil
	case "max":
		return m.Max, false, nil
	}
	q := e.Percentile / 100
	switch e.Aggregation {
	case "med":
		q = 0.5
	case "p":
	default:
		return 0, false, fmt.Errorf("metric %s is a trend and has no %s", m.Name, e.Aggregation)
	}
	h, err := histogram.Decode([]byte(m.Histogram))
	if err != nil {
		return 0, false, fmt.Errorf("metric %s: %w", m.Name, err)
	}
	if h.Count() != m.Count {
		return 0, false, fmt.Errorf("metric %s: %d samples counted, %d in the histogram", m.Name, m.Count, h.Count())
	}
	return float64(h.Quantile(q)) / TrendScale, false, nil
}
