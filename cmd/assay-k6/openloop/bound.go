package openloop

import (
	"time"

	"go.k6.io/k6/metrics"

	"github.com/assay-bench/assay/scenarios/load/bundle"
	"github.com/assay-bench/assay/scenarios/load/threshold"
)

// latenessBound is what the pacer's lateness is held against, by the same rule as in assay load. Metrics of
// other scenarios are passed over: the engine is not late for them.
func latenessBound(thresholds map[string]metrics.Thresholds) time.Duration {
	set := threshold.Set{}
	for _, name := range []string{"assay_response", "assay_service", "iteration_duration"} {
		for _, t := range thresholds[name].Thresholds {
			e, err := threshold.Parse(t.Source)
			if err != nil {
				continue // k6 has refused it already
			}
			set[name] = append(set[name], threshold.Rule{Expression: e})
		}
	}
	return bundle.LatencyBound(set)
}
