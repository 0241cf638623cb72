package router

import (
	"time"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/router/table"
)

// weighing is the shares of a table's policies for a minute and an epoch of the backends' health.
type weighing struct {
	minute int64
	epoch  uint64
	shares []float64
}

// weigh returns the share of each policy at a time; they sum to 1. The shares of now are kept: they change
// with the minute, where there are windows, and with what is observed of backends.
func (r *Router) weigh(l *live, a *arm, at time.Time) []float64 {
	minute, epoch := int64(0), uint64(0)
	if len(l.settings.Windows) > 0 {
		minute = at.Unix() / 60
	}
	if *l.settings.Adaptive {
		epoch = r.backends.Epoch()
	}
	if w := a.shares.Load(); w != nil && w.minute == minute && w.epoch == epoch {
		return w.shares
	}
	w := &weighing{minute, epoch, r.shares(l.settings, a.table, at)}
	a.shares.Store(w)
	return w.shares
}

func (r *Router) shares(s Settings, t *table.Table, at time.Time) []float64 {
	defects := r.service.cfg.Defects
	var health map[string]float64
	if *s.Adaptive && r.backends.Len() > 0 && !defects.On(defect.RouterHealthIgnored) {
		health = r.backends.Health()
	}
	var factors map[string]float64
	for _, w := range s.Windows {
		if w.holds(at) && !defects.On(defect.RouterWindowIgnored) {
			factors = w.Factors
			break
		}
	}
	shares, sum := make([]float64, len(t.Policies())), 0.0
	for i, p := range t.Policies() {
		shares[i] = p.Weight * factor(factors, p.ID) * healthOf(p, health)
		sum += shares[i]
	}
	if defects.On(defect.RouterWeightsUnnormalised) {
		return shares
	}
	for i := range shares {
		if sum == 0 { // every window factor is 0: nothing is preferred
			shares[i] = 1 / float64(len(shares))
			continue
		}
		shares[i] /= sum
	}
	return shares
}

func factor(factors map[string]float64, policy string) float64 {
	if f, ok := factors[policy]; ok {
		return f
	}
	return 1
}

// healthOf is that of the policy's best backend; a policy without backends is well.
func healthOf(p *table.Policy, health map[string]float64) float64 {
	best, known := 0.0, false
	for _, name := range p.Route.Backends {
		if h, ok := health[name]; ok {
			best, known = max(best, h), true
		}
	}
	if !known {
		return 1
	}
	return best
}

// Weights returns the share of each policy at a time.
func (r *Router) Weights(at time.Time) Weights {
	if at.IsZero() {
		at = r.service.cfg.Now()
	}
	l := r.live.Load()
	w := Weights{At: at.UTC(), Weights: map[string]float64{}}
	for i, share := range r.shares(l.settings, l.stable.table, at) {
		w.Weights[l.stable.table.Policies()[i].ID] = share
	}
	return w
}
