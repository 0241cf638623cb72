package pqtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Stats are the counters of a server since its start.
type Stats struct {
	Handshakes map[string]int64 // finished, by name of the group
	Retries    int64            // finished after a HelloRetryRequest
	Resumed    map[string]int64 // finished by a ticket, by class
	Failed     map[string]int64 // not finished, by code
	Downgrades int64            // finished with a classical group though the server has others
	Rejected   int64            // closed at accept by the connection limit
}

// counters count twice: for Stats and for Prometheus.
type counters struct {
	mu    sync.Mutex
	stats Stats

	handshakes *prometheus.CounterVec
	resumed    *prometheus.CounterVec
	failed     *prometheus.CounterVec
	retries    prometheus.Counter
	downgrades prometheus.Counter
	rejected   prometheus.Counter
	open       prometheus.Gauge
}

// newCounters registers the counters with the name of the port as a label.
func newCounters(port string, reg prometheus.Registerer) (*counters, error) {
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Name: "assay_tls_" + name, Help: help}
	}
	c := &counters{
		stats:      Stats{Handshakes: map[string]int64{}, Resumed: map[string]int64{}, Failed: map[string]int64{}},
		handshakes: prometheus.NewCounterVec(counter("handshakes_total", "Finished handshakes."), []string{"group"}),
		resumed:    prometheus.NewCounterVec(counter("resumed_total", "Handshakes that resumed a session."), []string{"class"}),
		failed:     prometheus.NewCounterVec(counter("handshakes_failed_total", "Handshakes that did not finish."), []string{"code"}),
		retries:    prometheus.NewCounter(counter("retries_total", "Finished handshakes with a HelloRetryRequest.")),
		downgrades: prometheus.NewCounter(counter("downgrades_total", "Handshakes that reached a classical group only.")),
		rejected:   prometheus.NewCounter(counter("connections_rejected_total", "Connections closed by the connection limit.")),
		open:       prometheus.NewGauge(prometheus.GaugeOpts{Name: "assay_tls_connections_open", Help: "Connections open now."}),
	}
	reg = prometheus.WrapRegistererWith(prometheus.Labels{"port": port}, reg)
	for _, m := range []prometheus.Collector{c.handshakes, c.resumed, c.failed, c.retries, c.downgrades, c.rejected, c.open} {
		if err := reg.Register(m); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// reached is what a handshake came to.
type reached struct {
	group          tls.CurveID
	retry, resumed bool
	downgrade      bool
}

func (c *counters) finished(r reached) {
	group, class := GroupName(r.group), ClassOf(r.group).String()
	c.handshakes.WithLabelValues(group).Inc()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.Handshakes[group]++
	if r.retry {
		c.stats.Retries++
		c.retries.Inc()
	}
	if r.resumed {
		c.stats.Resumed[class]++
		c.resumed.WithLabelValues(class).Inc()
	}
	if r.downgrade {
		c.stats.Downgrades++
		c.downgrades.Inc()
	}
}

func (c *counters) failure(code string) {
	c.failed.WithLabelValues(code).Inc()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.Failed[code]++
}

func (c *counters) reject() {
	c.rejected.Inc()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.Rejected++
}

func (c *counters) snapshot() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Handshakes, s.Resumed, s.Failed = maps.Clone(s.Handshakes), maps.Clone(s.Resumed), maps.Clone(s.Failed)
	return s
}

// failureCode names why a handshake failed: the plaintext alert that was sent, or else what is known of
// the error. The set of codes is closed.
func failureCode(c *helloConn, err error) string {
	if name, ok := c.sent(); ok {
		return name
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		return "remote_alert"
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "verify"
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "verify"
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "deadline"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return "closed"
	}
	return "protocol"
}
