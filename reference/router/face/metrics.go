package face

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/assay-bench/assay/reference/router"
)

// collector reads the counters of every router when it is asked. Nothing is counted twice, and a process that
// routes nothing has no metrics of routers.
type collector struct{ service func() *router.Service }

var (
	metricLabels = []string{"router", "model_version"}

	decisionsMetric   = prometheus.NewDesc("assay_router_decisions_total", "Decisions.", metricLabels, nil)
	engineMetric      = prometheus.NewDesc("assay_router_engine_calls_total", "Texts that reached an engine.", append(metricLabels, "engine"), nil)
	abstainedMetric   = prometheus.NewDesc("assay_router_abstentions_total", "Decisions that abstained.", append(metricLabels, "reason"), nil)
	fallbacksMetric   = prometheus.NewDesc("assay_router_fallbacks_total", "Abstentions that went to the fallback policy.", metricLabels, nil)
	feedbackMetric    = prometheus.NewDesc("assay_router_feedback_total", "Events of feedback, applied or by the reason of their refusal.", append(metricLabels, "result"), nil)
	rollbacksMetric   = prometheus.NewDesc("assay_router_guard_rollbacks_total", "Batches of feedback that the guard set rolled back.", metricLabels, nil)
	cacheMetric       = prometheus.NewDesc("assay_router_cache_total", "Look-ups of the cache of vectors.", append(metricLabels, "result"), nil)
	divergenceMetric  = prometheus.NewDesc("assay_router_drift_nats", "Divergence of the last texts from the examples.", append(metricLabels, "of"), nil)
	driftAlertsMetric = prometheus.NewDesc("assay_router_drift_alert", "1 while the divergence is above its threshold.", metricLabels, nil)
)

func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{decisionsMetric, engineMetric, abstainedMetric, fallbacksMetric, feedbackMetric, rollbacksMetric, cacheMetric, divergenceMetric, driftAlertsMetric} {
		ch <- d
	}
}

func (c collector) Collect(ch chan<- prometheus.Metric) {
	s := c.service()
	if s == nil {
		return
	}
	for _, r := range s.Routers() {
		state, stats, drift := r.State(), r.Stats(), r.Drift()
		send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, more ...string) {
			labels := append([]string{state.Router, state.Model.Digest}, more...)
			ch <- prometheus.MustNewConstMetric(d, kind, v, labels...)
		}
		send(decisionsMetric, prometheus.CounterValue, float64(stats.Decisions))
		send(engineMetric, prometheus.CounterValue, float64(stats.EngineCalls), state.Model.Engine)
		send(fallbacksMetric, prometheus.CounterValue, float64(stats.Fallbacks))
		send(rollbacksMetric, prometheus.CounterValue, float64(stats.Rollbacks))
		send(cacheMetric, prometheus.CounterValue, float64(stats.Cache.Hits), "hit")
		send(cacheMetric, prometheus.CounterValue, float64(stats.Cache.Misses), "miss")
		for reason, n := range stats.Abstained {
			send(abstainedMetric, prometheus.CounterValue, float64(n), reason)
		}
		for result, n := range stats.Feedback {
			send(feedbackMetric, prometheus.CounterValue, float64(n), result)
		}
		send(divergenceMetric, prometheus.GaugeValue, drift.Tokens, "tokens")
		send(divergenceMetric, prometheus.GaugeValue, drift.Features, "features")
		alert := 0.0
		if drift.Alert {
			alert = 1
		}
		send(driftAlertsMetric, prometheus.GaugeValue, alert)
	}
}
