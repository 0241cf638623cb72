package router

import (
	"sync"
	"time"

	"github.com/assay-bench/assay/models/drift"
	"github.com/assay-bench/assay/models/tower"
	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/router/table"
)

// driftWindow is how many requests are compared with the examples.
const driftWindow = 1024

// window is the last requests of a router. The zero value is ready.
type window struct {
	mu   sync.Mutex
	last *drift.Window
}

func (w *window) see(o drift.Observation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last == nil {
		w.last = drift.NewWindow(driftWindow)
	}
	w.last.See(o)
}

func (w *window) compare(s *drift.Snapshot) drift.Report {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last == nil {
		return drift.NewWindow(driftWindow).Compare(s)
	}
	return w.last.Compare(s)
}

// observed is a request as drift sees it.
func (q *DecideRequest) observed() drift.Observation {
	var o drift.Observation
	if q.Text != nil {
		o.Text = *q.Text
	}
	if f := q.Request; f != nil {
		o.Latency = time.Duration(f.LatencyMillis * float64(time.Millisecond))
		o.Code, o.Device = f.ErrorCode, int(tower.DeviceOf(f.UserAgent))
	}
	return o
}

// snapshot is what the examples of policies look like.
func snapshot(policies []*table.Policy) drift.Snapshot {
	var of []drift.Observation
	for _, p := range policies {
		for _, text := range p.Learned.Examples {
			of = append(of, drift.Observation{Text: text})
		}
	}
	return drift.Take("examples of the policies", of...)
}

// Drift measures the last requests against the examples of the live policies.
func (r *Router) Drift() Drift {
	reference := snapshot(r.live.Load().version.Policies)
	report := r.seen.compare(&reference)
	d := Drift{
		Threshold: report.Threshold, Minimum: drift.Minimum, N: int(report.Observations), Alert: report.Alert,
		Reference: int(reference.Counts.Observations),
	}
	for _, of := range report.Of {
		switch {
		case of.Name == "tokens":
			d.Tokens = of.Nats
		case of.Compared:
			d.Features = max(d.Features, of.Nats)
		}
	}
	switch {
	case r.service.cfg.Defects.On(defect.RouterDriftSilent):
		d.Alert = false
	case r.service.cfg.Defects.On(defect.RouterDriftAlways):
		d.Alert = true
	}
	return d
}
