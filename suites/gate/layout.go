package gate

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/assay-bench/assay/results/stats"
	"github.com/assay-bench/assay/scenarios/duet"
)

// Constants of the floor of the fail margin (gate.md section 8).
const (
	leastFloor   = 0.01 // whatever was measured
	usualFloor   = 0.02 // without a calibration
	leastLayouts = 5    // link orders that a measured floor takes
	shiftLevel   = 0.01 // two-sided, at which a link order has moved a metric at all: 0.05 over five of them
)

// Shift is what one link order did to one metric.
type Shift struct {
	Variant string  `json:"variant"`
	Metric  string  `json:"metric"` // its name, without the scenario
	Change  float64 `json:"change"` // relative, of all epochs
	Lower   float64 `json:"lower"`  // of the 99 % interval
	Upper   float64 `json:"upper"`
	Epochs  int     `json:"epochs"`
}

// shown tells whether the change is beyond chance.
func (s Shift) shown() bool { return s.Lower > 0 || s.Upper < 0 }

// fine tells whether a change as large as the floor would have been seen.
func (s Shift) fine() bool { return s.shown() || s.Upper-s.Lower < 2*leastFloor }

// shifts pools the epochs of each link order.
func shifts(layouts []Trial) ([]Shift, error) {
	type of struct{ variant, id string }
	d, metrics := map[of][]float64{}, map[string]Metric{}
	for _, t := range layouts {
		for _, m := range t.Metrics {
			k := of{t.Variant, m.ID()}
			d[k], metrics[m.ID()] = append(d[k], t.Ratios[m.ID()]...), m
		}
	}
	var out []Shift
	for _, k := range slices.SortedFunc(maps.Keys(d), func(a, b of) int { return cmp.Or(cmp.Compare(a.variant, b.variant), cmp.Compare(a.id, b.id)) }) {
		if len(d[k]) == 0 {
			continue
		}
		e, err := stats.HodgesLehmann(d[k], shiftLevel/2, shiftLevel/2)
		if err != nil {
			return nil, fmt.Errorf("link order %s, %s: %w", k.variant, k.id, err)
		}
		m := metrics[k.id]
		ends := []float64{m.Relative(e.Lower), m.Relative(e.Upper)}
		out = append(out, Shift{k.variant, m.Name, m.Relative(e.Point), slices.Min(ends), slices.Max(ends), len(d[k])})
	}
	return out, nil
}

// Floor is the least fail margin of a metric: the largest shift beyond chance that a link order made, at least 1 %. Where
// noise has not let five link orders be measured to within 1 % it is at least 2 %.
func (c Calibration) Floor(metric string) float64 {
	orders, floor := map[string]bool{}, leastFloor
	for _, s := range c.Shifts {
		if s.Metric != metric {
			continue
		}
		orders[s.Variant] = orders[s.Variant] || s.fine()
		if s.shown() {
			floor = max(floor, math.Abs(s.Change))
		}
	}
	maps.DeleteFunc(orders, func(_ string, fine bool) bool { return !fine })
	if len(orders) < leastLayouts {
		return max(usualFloor, floor)
	}
	return floor
}

// mostFloor is more than any link order does.
const mostFloor = 0.10

func checkFloors(floors map[string]float64) error {
	for _, name := range slices.Sorted(maps.Keys(floors)) {
		if f := floors[name]; !(f > 0 && f <= mostFloor) {
			return fmt.Errorf("a floor of %v for %.40q, want above 0 and at most %v", f, name, mostFloor)
		}
	}
	return nil
}

// Floors are those above what is usual, rounded up to 0.1 %; nil: none is.
func (c Calibration) Floors() map[string]float64 {
	var out map[string]float64
	for _, s := range c.Shifts {
		floor := c.Floor(s.Metric)
		if floor <= usualFloor || floor > mostFloor || slices.Contains(untouched, s.Metric) {
			continue
		}
		if out == nil {
			out = map[string]float64{}
		}
		out[s.Metric] = math.Ceil(1000*floor) / 1000
	}
	return out
}

// untouched are metrics that no link order moves.
var untouched = []string{duet.Allocs, duet.Wire, duet.Peak}

// CheckMargins refuses gating metrics whose fail margin is one that unchanged code can exceed by the order alone in which
// it was linked. The zero calibration is that of a host on which none was made.
func (c Calibration) CheckMargins(metrics []Metric) error {
	var errs []error
	for _, m := range metrics {
		if floor := c.Floor(m.Name); m.Gating && m.Fail < floor && !slices.Contains(untouched, m.Name) {
			errs = append(errs, fmt.Errorf("metric %s: failAbove %s is below the floor of %s, which link orders alone reach; raise it%s",
				m.ID(), percent(m.Fail), strings.TrimSpace(percent(floor)), c.advice(m.Name)))
		}
	}
	return errors.Join(errs...)
}

// advice says what could lower a floor.
func (c Calibration) advice(metric string) string {
	if c.Floor(metric) == usualFloor {
		return ", or measure the floor with: assay calibrate gate --layouts 10"
	}
	return ""
}
