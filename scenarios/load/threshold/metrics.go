package threshold

import (
	"cmp"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/assay-bench/assay/results/histogram"
)

// Observations are the measured values that thresholds speak of, of one run or of several merged ones.
type Observations struct {
	Response, Service, Lateness *histogram.Histogram // of all requests: ok, errors and timeouts
	Requests                    int64                // sent
	Failed                      int64                // errors, timeouts and unsent
	Unsent                      int64
	Lasted                      time.Duration // what rates per second divide by
}

// kind of a metric in k6's words: what aggregations it has.
type kind string

const (
	trend   kind = "trend"   // avg, min, max, med, p(N); milliseconds
	ratio   kind = "rate"    // rate: 0 to 1
	counter kind = "counter" // count; rate per second
)

// metrics by their names in k6, each under the name of this engine too. Response counts from the
// intended start, so that a k6 threshold on http_req_duration is held against no easier figure here.
var metrics = map[string]string{
	"response": "response", "assay_response": "response",
	"http_req_duration": "response", "grpc_req_duration": "response", "iteration_duration": "response",
	"service": "service", "assay_service": "service",
	"lateness": "lateness", "assay_lateness": "lateness",
	"failed": "failed", "assay_failed": "failed", "http_req_failed": "failed", "checks": "passed",
	"requests": "requests", "assay_requests": "requests", "http_reqs": "requests", "iterations": "requests",
	"dropped_iterations": "unsent", "unsent": "unsent", "assay_unsent": "unsent",
}

func kindOf(metric string) kind {
	switch metric {
	case "failed", "passed":
		return ratio
	case "requests", "unsent":
		return counter
	}
	return trend
}

// base strips the tags of a submetric: http_req_duration{scenario:x}.
func base(name string) string {
	bare, _, _ := strings.Cut(name, "{")
	return bare
}

// value computes what an expression compares.
func (o Observations) value(name string, e Expression) (float64, error) {
	metric, known := metrics[base(name)]
	if !known {
		return 0, fmt.Errorf("%w: unknown metric %q: there are response, service, lateness, failed, requests and unsent, and k6's http_req_duration, http_req_failed, http_reqs, iterations, dropped_iterations",
			ErrSyntax, name)
	}
	switch kind := kindOf(metric); {
	case kind == trend && e.Aggregation != "count" && e.Aggregation != "rate" && e.Aggregation != "value":
		return o.trend(metric, e), nil
	case kind == ratio && e.Aggregation == "rate":
		return o.ratio(metric), nil
	case kind == counter && e.Aggregation == "count":
		return float64(o.counted(metric)), nil
	case kind == counter && e.Aggregation == "rate":
		return float64(o.counted(metric)) / max(o.Lasted.Seconds(), 1e-9), nil
	default:
		return 0, fmt.Errorf("%w: metric %s is a %s, it has no %s", ErrSyntax, name, kind, e.Aggregation)
	}
}

func (o Observations) trend(metric string, e Expression) float64 {
	h := map[string]*histogram.Histogram{"response": o.Response, "service": o.Service, "lateness": o.Lateness}[metric]
	if h == nil || h.Count() == 0 {
		return math.NaN() // nothing was observed: no threshold on it holds
	}
	const ms = 1e6
	switch e.Aggregation {
	case "avg":
		return h.Mean() / ms
	case "min":
		return float64(h.Quantile(0)) / ms
	case "max":
		return float64(h.Max()) / ms
	case "med":
		return float64(h.Quantile(0.5)) / ms
	}
	return float64(h.Quantile(e.Percentile/100)) / ms
}

// ratio is a share of all arrivals; without any, no threshold holds.
func (o Observations) ratio(metric string) float64 {
	all := o.Requests + o.Unsent
	if all == 0 {
		return math.NaN()
	}
	failed := float64(o.Failed) / float64(all)
	if metric == "passed" {
		return 1 - failed
	}
	return failed
}

func (o Observations) counted(metric string) int64 {
	if metric == "unsent" {
		return o.Unsent
	}
	return o.Requests
}

func unit(name, aggregation string) string {
	switch kind := kindOf(cmp.Or(metrics[base(name)], name)); {
	case kind == trend:
		return "ms"
	case kind == counter && aggregation == "rate":
		return "per second"
	}
	return ""
}

// Latency tells whether a metric is a latency of the target.
func Latency(name string) bool {
	metric := metrics[base(name)]
	return metric == "response" || metric == "service"
}

// Failures tells whether a metric is the share of failed requests.
func Failures(name string) bool { return metrics[base(name)] == "failed" }
