package reports

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/results/histogram"
)

// distribution is what one scenario measured: a curve for each kind of time.
type distribution struct {
	Scenario string  `json:"scenario"`
	Curves   []curve `json:"curves"`
	Damaged  string  `json:"damaged,omitempty"` // why a histogram could not be read
}

// curve is one histogram at fixed levels.
type curve struct {
	Kind   string  `json:"kind"` // response, service, lateness, all
	Count  int64   `json:"count"`
	Max    float64 `json:"maxSeconds"`
	Points []point `json:"points"`
}

// point is one quantile.
type point struct {
	P     float64 `json:"p"`
	Value float64 `json:"seconds"`
}

// levels are the quantiles of tables and plots. A level is shown only where at least ten samples
// lie beyond it: what fewer show is noise.
var levels = []float64{
	0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99, 0.995, 0.9975, 0.999, 0.9995, 0.9999, 0.99995, 0.99999,
}

const beyond = 10

// kinds orders the curves of a scenario.
var kinds = []string{"response", "service", "lateness", "all"}

// distributions reads the histograms of a bundle, by scenario. Files are named
// <check with - for />--<case>--<kind>.hdr.
func distributions(b *results.Bundle) []distribution {
	names := map[string]string{}
	for _, p := range b.Run.Plan {
		stem := strings.ReplaceAll(p.Check, "/", "-") + "--" + p.Case
		names[stem] = results.Key{Check: p.Check, Case: p.Case}.String()
	}
	var out []distribution
	at := map[string]int{}
	for _, file := range slices.Sorted(maps.Keys(b.Histograms)) {
		stem, kind := split(file)
		name := clean(cmp.Or(names[stem], names[stem+"--"], strings.TrimSuffix(stem, "--")), false)
		i, ok := at[name]
		if !ok {
			i = len(out)
			at[name], out = i, append(out, distribution{Scenario: name, Curves: []curve{}})
		}
		d := &out[i]
		h, err := histogram.Decode(b.Histograms[file])
		if err != nil {
			d.Damaged = clean(file+": "+err.Error(), false)
			continue
		}
		d.Curves = append(d.Curves, trace(clean(kind, false), h))
	}
	for _, d := range out {
		slices.SortStableFunc(d.Curves, func(a, b curve) int {
			return cmp.Compare(order(a.Kind), order(b.Kind))
		})
	}
	return out
}

func order(kind string) int {
	if i := slices.Index(kinds, kind); i >= 0 {
		return i
	}
	return len(kinds)
}

func split(file string) (stem, kind string) {
	file = strings.TrimSuffix(file, ".hdr")
	if i := strings.LastIndex(file, "--"); i >= 0 {
		return file[:i], file[i+2:]
	}
	return file, "all"
}

func trace(kind string, h *histogram.Histogram) curve {
	c := curve{Kind: kind, Count: h.Count(), Max: float64(h.Max()) / 1e9}
	for _, p := range levels {
		// The small addend keeps 1000 × (1 - 0.99) from being a hair below ten.
		if float64(c.Count)*min(p, 1-p)+1e-6 >= beyond {
			c.Points = append(c.Points, point{P: p, Value: float64(h.Quantile(p)) / 1e9})
		}
	}
	return c
}

// drawn are the curves of the percentile plot: the response beside the lateness of the generator,
// which bounds how far the response can be trusted.
func (d distribution) drawn() []curve {
	var out []curve
	for _, c := range d.Curves {
		if (c.Kind == "response" || c.Kind == "lateness") && len(c.Points) > 1 {
			out = append(out, c)
		}
	}
	return out
}
