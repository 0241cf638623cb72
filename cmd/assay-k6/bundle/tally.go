package bundle

import (
	"math"
	"slices"
	"strings"

	"go.k6.io/k6/metrics"

	"github.com/assay-bench/assay/results/histogram"
	"github.com/assay-bench/assay/scenarios/k6"
	"github.com/assay-bench/assay/scenarios/load"
)

// curves are the histograms of the engine that reports draw, by the names that reports know.
var curves = map[string]string{
	load.ResponseOK: "response", load.ResponseAll: "all", load.Service: "service", load.Lateness: "lateness",
}

// tally counts the samples of every metric, in memory that does not grow with them.
type tally struct {
	byMetric map[*metrics.Metric]*counted
	all      map[string]*counted
	wanted   map[string][]submetric // of thresholds on tags, by metric
}

// submetric is the part of a metric that a threshold on tags speaks of.
type submetric struct {
	name string
	tags map[string]string
}

// counted is one metric under way.
type counted struct {
	k6.Metric
	h    *histogram.Histogram
	subs []submetric
}

func newTally() *tally {
	return &tally{byMetric: map[*metrics.Metric]*counted{}, all: map[string]*counted{}, wanted: map[string][]submetric{}}
}

// want notes that a threshold speaks of a submetric.
func (t *tally) want(name string) {
	base, criteria, tagged := strings.Cut(name, "{")
	if !tagged {
		return
	}
	s := submetric{name: name, tags: map[string]string{}}
	for _, pair := range strings.Split(strings.TrimSuffix(criteria, "}"), ",") {
		key, value, _ := strings.Cut(pair, ":")
		clean := func(s string) string { return strings.Trim(strings.TrimSpace(s), `"'`) }
		if key != "" {
			s.tags[clean(key)] = clean(value)
		}
	}
	t.wanted[base] = append(t.wanted[base], s)
}

func (t *tally) add(s metrics.Sample) {
	c := t.byMetric[s.Metric]
	if c == nil {
		c = t.open(s.Metric, s.Metric.Name)
		c.subs = t.wanted[s.Metric.Name]
		t.byMetric[s.Metric] = c
	}
	c.add(s.Value)
	for _, sub := range c.subs {
		if sub.matches(s.Tags) {
			t.open(s.Metric, sub.name).add(s.Value)
		}
	}
}

func (s submetric) matches(tags *metrics.TagSet) bool {
	for key, want := range s.tags {
		if got, ok := tags.Get(key); got != want || (!ok && want != "") {
			return false
		}
	}
	return true
}

// open returns what is counted under a name, made when needed.
func (t *tally) open(m *metrics.Metric, name string) *counted {
	c := t.all[name]
	if c == nil {
		c = &counted{Metric: k6.Metric{Name: name, Type: m.Type.String(), Time: m.Contains == metrics.Time}}
		t.all[name] = c
	}
	return c
}

func (c *counted) add(v float64) {
	if c.Count == 0 || v < c.Min {
		c.Min = v
	}
	if c.Count == 0 || v > c.Max {
		c.Max = v
	}
	c.Count++
	c.Sum += v
	c.Last = v
	switch c.Type {
	case k6.Rate:
		if v != 0 {
			c.Trues++
		}
	case k6.Trend:
		if c.h == nil {
			c.h = histogram.New()
		}
		c.h.Record(units(v))
	}
}

// units converts a trend's value to those of its histogram, out of range where it is: that is counted.
func units(v float64) int64 {
	switch u := math.Round(v * k6.TrendScale); {
	case u != u:
		return -1
	case u > float64(histogram.Highest):
		return histogram.Highest + 1
	default:
		return int64(max(u, -1))
	}
}

// metrics returns everything that was counted, by name, histograms encoded.
func (t *tally) metrics() ([]k6.Metric, error) {
	var out []k6.Metric
	for _, c := range t.all {
		if c.h != nil {
			raw, err := c.h.Encode()
			if err != nil {
				return nil, err
			}
			c.Histogram, c.Overflow = string(raw), c.h.Overflow()
		}
		out = append(out, c.Metric)
	}
	slices.SortFunc(out, func(a, b k6.Metric) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}
