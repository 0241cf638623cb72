package reports

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/results/stats"
)

// TrendLevel is the level of the test of every change point in a trend: a chance of one in a hundred for a series in which
// nothing changed.
const TrendLevel = 0.01

// Trend is what many bundles show over time. Change points say where to look; they are no verdict.
type Trend struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"` // trend
	Method     string   `json:"method"`
	Series     []Series `json:"series"`
	Left       []string `json:"left,omitempty"` // bundles that have nothing to show, and why
}

// Series is one figure over the bundles that can be put beside each other: of one class of host, and of a gate against one
// baseline.
type Series struct {
	Name    string        `json:"name"`
	Facet   string        `json:"facet"` // class of host, and the reference
	Unit    string        `json:"unit"`  // change or seconds
	Points  []TrendPoint  `json:"points"`
	Changes []TrendChange `json:"changes"`
	Short   bool          `json:"short"` // too few bundles for any change to be found
}

// TrendPoint is one bundle in a series.
type TrendPoint struct {
	Bundle  string    `json:"bundle"`
	Target  string    `json:"target"`
	Started time.Time `json:"started"`
	Interval
}

// TrendChange is a change point.
type TrendChange struct {
	Bundle string  `json:"bundle"` // the first after the change
	Index  int     `json:"index"`
	P      float64 `json:"p"`
	Before float64 `json:"before"` // medians
	After  float64 `json:"after"`
}

// ErrNoTrend says that no bundle has a figure to show.
var ErrNoTrend = errors.New("no bundle has a figure that makes a trend")

// NewTrend orders bundles by when they began and looks for change points.
func NewTrend(bundles []*results.Bundle) (*Trend, error) {
	bundles = slices.Clone(bundles)
	slices.SortStableFunc(bundles, func(a, b *results.Bundle) int {
		return cmp.Or(a.Run.Started.Compare(b.Run.Started), cmp.Compare(a.Run.ID, b.Run.ID))
	})
	t := &Trend{APIVersion: results.APIVersion, Kind: "trend", Method: fmt.Sprintf(
		"E-divisive (Matteson and James 2014): hierarchical bisection by energy distance, permutation test with 999 permutations at level %v, segments of at least 3 bundles", TrendLevel)}
	series := map[string]*Series{}
	for _, b := range bundles {
		m := build(b)
		points := trendPoints(m, b)
		if len(points) == 0 {
			t.Left = append(t.Left, fmt.Sprintf("%.12s: no latency and no ratio in it", m.Digest))
		}
		for _, p := range points {
			key := p.Name + "\x00" + p.Facet
			s, ok := series[key]
			if !ok {
				s = &Series{Name: p.Name, Facet: p.Facet, Unit: p.Unit}
				series[key] = s
			}
			s.Points = append(s.Points, p.Points...)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(series)) {
		s := series[key]
		if err := s.find(); err != nil {
			return nil, err
		}
		t.Series = append(t.Series, *s)
	}
	if len(t.Series) == 0 {
		return nil, ErrNoTrend
	}
	return t, nil
}

// find marks the change points, on the log scale of what is a time or a ratio.
func (s *Series) find() error {
	s.Short = len(s.Points) < stats.MinSeries
	s.Changes = []TrendChange{}
	x := make([]float64, len(s.Points))
	for i, p := range s.Points {
		if x[i] = math.Log(p.Point); s.Unit == "change" {
			x[i] = math.Log1p(p.Point)
		}
	}
	found, err := stats.ChangePoints(x, TrendLevel, 1)
	if err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	back := math.Exp
	if s.Unit == "change" {
		back = math.Expm1
	}
	for _, c := range found {
		s.Changes = append(s.Changes, TrendChange{s.Points[c.At].Bundle, c.At, c.P, back(c.Before), back(c.After)})
	}
	return nil
}

// trendPoints are the figures of one bundle, each as a series of one point.
func trendPoints(m *report, b *results.Bundle) []Series {
	host := clean(hostClass(b.Run.Host), false)
	var out []Series
	add := func(name, facet, unit string, v Interval) {
		if math.IsNaN(v.Point) || math.IsInf(v.Point, 0) || unit == "seconds" && v.Point <= 0 || v.Point <= -1 {
			return
		}
		p := TrendPoint{Bundle: m.Digest, Target: named(m.Run.Target), Started: m.Run.Started.UTC(), Interval: v}
		out = append(out, Series{Name: name, Facet: facet, Unit: unit, Points: []TrendPoint{p}})
	}
	switch {
	case m.IsGate():
		v := viewGate(m, b.Evidence)
		for _, g := range v.Metrics {
			d := g.valid()
			if len(d) == 0 {
				continue
			}
			if e, err := stats.HodgesLehmann(d, shiftTail, shiftTail); err == nil {
				add(g.ID, fmt.Sprintf("%s; against baseline %.12s", host, v.Sides.Baseline.Digest), "change", bounded(e, math.Expm1))
			}
		}
	case m.IsLoad():
		v := viewLoad(m, b.Evidence)
		if last, ok := v.Last(); ok {
			q := last.Result.Quantiles["response_all"]
			add("p50 of "+clean(last.URL, false), host, "seconds", Interval{Point: float64(q.P50) / 1e9})
			add("p99 of "+clean(last.URL, false), host, "seconds", Interval{Point: float64(q.P99) / 1e9})
		}
	default:
		for _, r := range m.Rows {
			for _, f := range r.Figures {
				if f.Unit == "seconds" && (f.Name == "p50" || f.Name == "p99") {
					add(f.Name+" of "+r.Name, host, "seconds", Interval{Point: f.Value})
				}
			}
		}
	}
	return out
}
