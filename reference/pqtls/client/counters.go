package client

import (
	"maps"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/assay-bench/assay/reference/pqtls"
)

// ByClass is a number for each class of groups.
type ByClass struct {
	PQ        int `json:"pq"`
	Classical int `json:"classical"`
}

func (n *ByClass) add(class pqtls.Class) {
	if class == pqtls.PQ {
		n.PQ++
		return
	}
	n.Classical++
}

// Counters are what a client did since it was made or reset.
type Counters struct {
	Handshakes    map[string]int `json:"handshakes"`    // completed, by group
	Retries       int            `json:"retries"`       // handshakes with a HelloRetryRequest
	Fallbacks     int            `json:"fallbacks"`     // handshakes that offered a post-quantum group and reached none
	Resumed       ByClass        `json:"resumed"`       // handshakes that resumed a session
	Reused        ByClass        `json:"reused"`        // dials that were served by an idle connection
	Requests      ByClass        `json:"requests"`      // completed exchanges
	PolicyRefused int            `json:"policyRefused"` // dials that failed since only a class was in reach that the policy forbids
	IdleClosed    int            `json:"idleClosed"`    // by the idle timeout or the number of idle connections
	AgeClosed     int            `json:"ageClosed"`     // by age
	ErrorClosed   int            `json:"errorClosed"`   // by an error, the peer's end, or unread data
	Idle          int            `json:"idle"`          // connections in the pool now
	Open          int            `json:"open"`          // connections open now
}

// closing is the reason of an end.
type closing uint8

const (
	closedQuietly closing = iota // the client's own end, or a reset
	closedIdle
	closedAge
	closedError
)

// String is the label of the metric.
func (c closing) String() string { return [...]string{"done", "idle", "age", "error"}[c] }

type counts struct{ Counters }

func newCounts() counts { return counts{Counters{Handshakes: make(map[string]int)}} }

func (n *counts) closed(why closing) {
	switch why {
	case closedIdle:
		n.IdleClosed++
	case closedAge:
		n.AgeClosed++
	case closedError:
		n.ErrorClosed++
	}
}

// handshake counts a completed handshake n times.
func (n *counts) handshake(st state, fallback bool, times int) {
	for range times {
		n.Handshakes[pqtls.GroupName(st.group)]++
		if st.retry {
			n.Retries++
		}
		if fallback {
			n.Fallbacks++
		}
		if st.resumed {
			n.Resumed.add(st.class)
		}
	}
}

// count changes the counters under the lock.
func (p *pool) count(change func(*counts)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.counts)
}

func (p *pool) snapshot() Counters {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.counts.Counters
	n.Handshakes = maps.Clone(n.Handshakes)
	n.Idle, n.Open = p.idleCount(), len(p.open)
	return n
}

// metrics are the counters for an operator; a reset of the pool does not touch them.
type metrics struct {
	handshakes *prometheus.CounterVec
	retries    prometheus.Counter
	fallbacks  *prometheus.CounterVec
	refused    prometheus.Counter
	dials      *prometheus.CounterVec
	closed     *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		handshakes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "assay_tls_client_handshakes_total", Help: "Completed handshakes."}, []string{"group", "resumed"}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "assay_tls_client_retries_total", Help: "Handshakes with a HelloRetryRequest."}),
		fallbacks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "assay_tls_client_fallbacks_total", Help: "Handshakes that offered a post-quantum group and reached none."}, []string{"policy"}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "assay_tls_client_policy_refused_total", Help: "Dials that the policy failed."}),
		dials: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "assay_tls_client_dials_total", Help: "Dials by outcome; reused ones came from the pool."}, []string{"outcome"}),
		closed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "assay_tls_client_closed_total", Help: "Pooled connections closed, by reason."}, []string{"reason"}),
	}
	for _, c := range []prometheus.Collector{m.handshakes, m.retries, m.fallbacks, m.refused, m.dials, m.closed} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
