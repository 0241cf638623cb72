// Package obs counts what the RPC faces do. It decides nothing.
package obs

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Outcomes of a call, as label values. gRPC calls use the names of their status codes.
const (
	OutcomeOK        = "ok"
	OutcomeDeclared  = "declared-exception"
	OutcomeError     = "error"
	OutcomePanic     = "panic"
	OutcomeRefused   = "refused"
	OutcomeUnmatched = "unknown" // no such method or service
)

// Metrics are the counters of one server. All methods may be called concurrently.
type Metrics struct {
	open     prometheus.Gauge
	accepted *prometheus.CounterVec
	rejected prometheus.Counter
	errors   *prometheus.CounterVec
	inflight prometheus.Gauge
	calls    *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	panics   prometheus.Counter
}

// New registers the counters with reg.
func New(reg prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		open: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "assay_rpc_connections_open", Help: "Connections open now, of every face."}),
		accepted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "assay_rpc_connections_total", Help: "Connections by the protocol of their first call."}, []string{"protocol"}),
		rejected: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "assay_rpc_connections_rejected_total", Help: "Connections closed at accept by the connection limit."}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "assay_rpc_protocol_errors_total", Help: "Refused bytes and broken connections by reason."}, []string{"reason"}),
		inflight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "assay_rpc_calls_in_flight", Help: "Calls in a handler now."}),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "assay_rpc_calls_total", Help: "Finished calls."}, []string{"form", "method", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "assay_rpc_call_seconds", Help: "Time in the handler.",
			Buckets: prometheus.ExponentialBuckets(50e-6, 4, 10)}, []string{"method"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "assay_rpc_panics_total", Help: "Contained panics of handlers and decoders."}),
	}
	for _, c := range []prometheus.Collector{m.open, m.accepted, m.rejected, m.errors, m.inflight, m.calls, m.seconds, m.panics} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Opened counts a connection in; Closed counts it out.
func (m *Metrics) Opened() { m.open.Inc() }

// Closed counts a connection out.
func (m *Metrics) Closed() { m.open.Dec() }

// Rejected counts a connection refused by the connection limit.
func (m *Metrics) Rejected() { m.rejected.Inc() }

// Spoke counts a connection's protocol, once it is known.
func (m *Metrics) Spoke(protocol string) { m.accepted.WithLabelValues(protocol).Inc() }

// ProtocolError counts refused bytes.
func (m *Metrics) ProtocolError(reason string) { m.errors.WithLabelValues(reason).Inc() }

// Panicked counts a contained panic.
func (m *Metrics) Panicked() { m.panics.Inc() }

// Begin counts a call in. Pass what it returns to Finish.
func (m *Metrics) Begin() time.Time {
	m.inflight.Inc()
	return time.Now()
}

// Finish counts a call out. Method must come from a closed set.
func (m *Metrics) Finish(began time.Time, form, method, outcome string) {
	m.inflight.Dec()
	m.calls.WithLabelValues(form, method, outcome).Inc()
	m.seconds.WithLabelValues(method).Observe(time.Since(began).Seconds())
}
