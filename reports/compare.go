package reports

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/results/histogram"
	"github.com/assay-bench/assay/results/stats"
)

// Comparison is what two bundles show beside each other. It has no verdict: what only runs side by side can tell is not told
// from stored results.
type Comparison struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"` // comparison
	Of         string            `json:"of"`   // kind of both bundles
	Bundles    [2]ComparedBundle `json:"bundles"`
	NoVerdict  []string          `json:"noVerdict"` // why, never empty
	Estimates  []ComparedFigure  `json:"estimates"`
	Changed    []ChangedCase     `json:"changed"` // cases whose verdict differs
	Only       [2][]string       `json:"only"`    // cases of one bundle alone
	Same       int               `json:"same"`    // cases with equal verdicts
	Shifts     []ComparedShift   `json:"shifts"`  // between two gates: the shift function of each; else that from A to B
	plots      [][]shiftLine
}

// ComparedBundle identifies one side.
type ComparedBundle struct {
	Name    string `json:"name"` // what the user wrote
	Digest  string `json:"digest"`
	Target  string `json:"target"`
	Started string `json:"started"`
	Host    string `json:"host"`
	Outcome string `json:"outcome"`
}

// ComparedFigure is one estimate in both bundles, and how far they are apart; nil is unknown or unbounded.
type ComparedFigure struct {
	Name   string      `json:"name"`
	Unit   string      `json:"unit"`
	Values [2]Interval `json:"values"`
	// Change is relative, from the first to the second. Its interval has 95 %, by Bonferroni from two of 97.5 %, over epochs or
	// seconds of the runs: what differs between runs, hours and hosts is not in it.
	Change *Interval `json:"change,omitempty"`
}

// Interval is an estimate with its bounds.
type Interval struct {
	Point float64  `json:"point"`
	Lower *float64 `json:"lower,omitempty"`
	Upper *float64 `json:"upper,omitempty"`
}

// ChangedCase is a case that was judged otherwise.
type ChangedCase struct {
	Case  string   `json:"case"`
	Was   string   `json:"was"`
	Is    string   `json:"is"`
	Rules []string `json:"rules,omitempty"` // clauses that it covers
}

// ComparedShift is a shift function for the table under its plot.
type ComparedShift struct {
	Name   string         `json:"name"`
	Points [][]shiftTable `json:"points"` // one list, or one a bundle
}

// shiftTable is a shiftPoint with relative changes, for tools.
type shiftTable struct {
	P      float64  `json:"p"`
	Change Interval `json:"change"`
}

// ErrKinds says that two bundles have nothing in common.
var ErrKinds = errors.New("bundles of two kinds have nothing to compare")

// compareTail is each tail of one interval that goes into a difference.
const compareTail = 0.0125

// Compare puts two bundles beside each other; names are how the user calls them. Errors wrap ErrKinds, or are of evidence
// that can not be used.
func Compare(a, b *results.Bundle, names [2]string) (*Comparison, error) {
	if a.Run.Kind != b.Run.Kind {
		return nil, fmt.Errorf("%w: %s is of kind %q, %s of kind %q", ErrKinds, names[0], a.Run.Kind, names[1], b.Run.Kind)
	}
	bundles := [2]*results.Bundle{a, b}
	c := &Comparison{APIVersion: results.APIVersion, Kind: "comparison", Of: a.Run.Kind}
	var models [2]*report
	for i, x := range bundles {
		models[i] = build(x)
		c.Bundles[i] = ComparedBundle{
			Name: clean(names[i], false), Digest: models[i].Digest, Target: named(models[i].Run.Target),
			Started: models[i].Run.Started.UTC().Format("2006-01-02 15:04:05 UTC"), Host: hostClass(models[i].Run.Host), Outcome: models[i].Outcome.Word,
		}
	}
	c.NoVerdict = noVerdict(bundles)
	var err error
	switch {
	case models[0].IsGate():
		err = c.gates(models, bundles)
	case models[0].IsLoad():
		err = c.loads(models, bundles)
	default:
		c.cases(models)
		err = c.suites(bundles)
	}
	return c, err
}

// hostClass names the hosts between which a ratio may be compared at all.
func hostClass(h results.Host) string {
	return fmt.Sprintf("%s, %d cores, %s", cmp.Or(h.CPU, "unknown processor"), h.Cores, h.Kernel)
}

// noVerdict lists why nothing is decided: what the rules of the gate refuse.
func noVerdict(b [2]*results.Bundle) []string {
	out := []string{"both are stored results, and numbers of one machine at two times differ by more than most regressions; assay gate runs the two builds side by side"}
	x, y := b[0].Run, b[1].Run
	for _, d := range []struct {
		what string
		a, b string
	}{
		{"classes of host", hostClass(x.Host), hostClass(y.Host)},
		{"suites", x.Suite.Version + " " + x.Suite.Digest, y.Suite.Version + " " + y.Suite.Digest},
		{"versions of assay", x.Tool.Version + " " + x.Tool.Revision, y.Tool.Version + " " + y.Tool.Revision},
		{"architectures", x.Tool.OS + "/" + x.Tool.Arch, y.Tool.OS + "/" + y.Tool.Arch},
	} {
		if d.a != d.b {
			out = append(out, fmt.Sprintf("different %s: %s; %s", d.what, clean(d.a, false), clean(d.b, false)))
		}
	}
	if !bytes.Equal(b[0].Policy, b[1].Policy) {
		out = append(out, "different policies: margins or requests are not the same")
	}
	for i, x := range b {
		if x.Digest == "" || x.Verdicts == nil {
			out = append(out, fmt.Sprintf("bundle %d is not sealed", i+1))
		}
	}
	return out
}

func bounded(e stats.Estimate, f func(float64) float64) Interval {
	out := Interval{Point: f(e.Point)}
	if !math.IsInf(e.Lower, 0) {
		v := f(e.Lower)
		out.Lower = &v
	}
	if !math.IsInf(e.Upper, 0) {
		v := f(e.Upper)
		out.Upper = &v
	}
	return out
}

// between is the difference of two estimates on the log scale.
func between(a, b stats.Estimate) *Interval {
	out := bounded(stats.Estimate{Point: b.Point - a.Point, Lower: b.Lower - a.Upper, Upper: b.Upper - a.Lower}, math.Expm1)
	return &out
}

// gates compares each metric's ratio of candidate to baseline. The ratio of ratios is told only where both baselines are the
// same artefact, on one class of host, under one policy.
func (c *Comparison) gates(models [2]*report, b [2]*results.Bundle) error {
	views := [2]gateView{viewGate(models[0], b[0].Evidence), viewGate(models[1], b[1].Evidence)}
	reference := views[0].Sides.Baseline.Digest
	comparable := reference != "" && reference == views[1].Sides.Baseline.Digest && c.Bundles[0].Host == c.Bundles[1].Host && bytes.Equal(b[0].Policy, b[1].Policy)
	if reference != views[1].Sides.Baseline.Digest {
		c.NoVerdict = append(c.NoVerdict, "different baselines: the two ratios have no common reference")
	}
	for _, x := range views[0].Metrics {
		i := slices.IndexFunc(views[1].Metrics, func(y gateMetric) bool { return y.ID == x.ID })
		if i < 0 {
			continue
		}
		var e [2]stats.Estimate
		ok := true
		for side, m := range [2]gateMetric{x, views[1].Metrics[i]} {
			d := m.valid()
			if ok = ok && len(d) > 0; !ok {
				break
			}
			var err error
			if e[side], err = stats.HodgesLehmann(d, compareTail, compareTail); err != nil {
				return err
			}
		}
		if !ok {
			continue
		}
		f := ComparedFigure{Name: x.ID, Unit: "candidate against baseline", Values: [2]Interval{bounded(e[0], math.Expm1), bounded(e[1], math.Expm1)}}
		if comparable {
			f.Change = between(e[0], e[1])
		}
		c.Estimates = append(c.Estimates, f)
	}
	c.cases(models)
	for _, s := range views[0].Scenarios {
		i := slices.IndexFunc(views[1].Scenarios, func(o gateScenario) bool { return o.Name == s.Name })
		if i < 0 {
			continue
		}
		first, err := s.shift()
		if err != nil {
			return err
		}
		second, err := views[1].Scenarios[i].shift()
		if err != nil {
			return err
		}
		c.addShift(s.Name+", candidate against baseline in each bundle", shiftLine{first, solid, bandColor}, shiftLine{second, dashed, otherBand})
	}
	return nil
}

// valid are the log-ratios of the epochs that count.
func (g gateMetric) valid() (d []float64) {
	for _, dot := range g.Dots {
		if dot.Void == "" {
			d = append(d, math.Log1p(dot.Change))
		}
	}
	return d
}

func (c *Comparison) addShift(name string, lines ...shiftLine) {
	s := ComparedShift{Name: name}
	for _, l := range lines {
		points := []shiftTable{}
		for _, p := range l.points {
			points = append(points, shiftTable{p.P, bounded(p.Estimate, math.Expm1)})
		}
		s.Points = append(s.Points, points)
	}
	c.Shifts, c.plots = append(c.Shifts, s), append(c.plots, lines)
}

// cases lists the verdicts that differ.
func (c *Comparison) cases(models [2]*report) {
	rows := map[results.Key]row{}
	for _, r := range models[0].Rows {
		rows[r.Key] = r
	}
	for _, r := range models[1].Rows {
		was, ok := rows[r.Key]
		delete(rows, r.Key)
		switch {
		case !ok:
			c.Only[1] = append(c.Only[1], r.Name)
		case was.Status == r.Status && was.Reason == r.Reason:
			c.Same++
		default:
			changed := ChangedCase{Case: r.Name, Was: statusOf(was), Is: statusOf(r)}
			for _, q := range r.Rules {
				changed.Rules = append(changed.Rules, clause(q))
			}
			c.Changed = append(c.Changed, changed)
		}
	}
	for _, r := range models[0].Rows {
		if _, left := rows[r.Key]; left {
			c.Only[0] = append(c.Only[0], r.Name)
		}
	}
}

func statusOf(r row) string {
	if r.Reason == "" {
		return r.Label()
	}
	return r.Label() + ": " + r.Reason
}

// suites compares the latencies of scenarios that both runs measured.
func (c *Comparison) suites(b [2]*results.Bundle) error {
	for _, file := range slices.Sorted(maps.Keys(b[0].Histograms)) {
		raw := b[0].Histograms[file]
		if _, kind := split(file); kind != "response" || b[1].Histograms[file] == nil {
			continue
		}
		name := strings.TrimSuffix(file, ".hdr")
		if err := c.histograms(clean(name, false), raw, b[1].Histograms[file]); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}

// histograms compares the quantiles of two histograms. They have no interval: requests of one run depend on each other, so
// that bounds from counts alone cover next to nothing.
func (c *Comparison) histograms(name string, a, b []byte) error {
	var h [2]*histogram.Histogram
	for i, raw := range [2][]byte{a, b} {
		var err error
		if h[i], err = histogram.Decode(raw); err != nil {
			return err
		}
	}
	var points []shiftPoint
	for _, p := range levels {
		x, y := float64(h[0].Quantile(p)), float64(h[1].Quantile(p))
		if !(x > 0) || !(y > 0) || (1-p)*float64(min(h[0].Count(), h[1].Count())) < beyond {
			continue
		}
		d := math.Log(y / x)
		points = append(points, shiftPoint{P: p, Estimate: stats.Estimate{Point: d, Lower: math.Inf(-1), Upper: math.Inf(1)}})
		if p == 0.5 || p == 0.9 || p == 0.99 {
			c.Estimates = append(c.Estimates, ComparedFigure{
				Name: name + " " + percentile(p), Unit: "seconds", Values: [2]Interval{{Point: x / 1e9}, {Point: y / 1e9}}, Change: &Interval{Point: math.Expm1(d)},
			})
		}
	}
	c.addShift(name+", second bundle against the first", shiftLine{points, solid, bandColor})
	return nil
}

// loads compares two loads: quantiles of all requests, and p50 and p99 of a typical second with intervals over seconds.
func (c *Comparison) loads(models [2]*report, b [2]*results.Bundle) error {
	var main [2]measuredLoad
	for i := range models {
		v := viewLoad(models[i], b[i].Evidence)
		last, ok := v.Last()
		if !ok {
			return fmt.Errorf("%s has no load that was measured", c.Bundles[i].Name)
		}
		main[i] = last
	}
	if main[0].Result.Schedule.Digest != main[1].Result.Schedule.Digest {
		c.NoVerdict = append(c.NoVerdict, "different schedules of arrivals")
	}
	for i, m := range main {
		if !m.Result.Valid {
			c.NoVerdict = append(c.NoVerdict, fmt.Sprintf("bundle %d is not valid: its generator or host was late", i+1))
		}
	}
	for _, q := range []struct {
		name string
		of   func(loadInterval) int64
	}{{"p50", func(v loadInterval) int64 { return v.P50 }}, {"p99", func(v loadInterval) int64 { return v.P99 }}} {
		var e [2]stats.Estimate
		ok := true
		for i, m := range main {
			var d []float64
			for _, v := range m.Result.Intervals {
				if v.Count > 0 && q.of(v) > 0 {
					d = append(d, math.Log(float64(q.of(v))/1e9))
				}
			}
			if ok = ok && len(d) > 0; !ok {
				break
			}
			var err error
			if e[i], err = stats.HodgesLehmann(d, compareTail, compareTail); err != nil {
				return err
			}
		}
		if ok {
			c.Estimates = append(c.Estimates, ComparedFigure{
				Name: q.name + " of a typical interval", Unit: "seconds", Values: [2]Interval{bounded(e[0], math.Exp), bounded(e[1], math.Exp)}, Change: between(e[0], e[1]),
			})
		}
	}
	c.cases(models)
	for _, file := range slices.Sorted(maps.Keys(b[0].Histograms)) {
		if other := b[1].Histograms[file]; other != nil && strings.Contains(file, "response") {
			if err := c.histograms(clean(strings.TrimSuffix(file, ".hdr"), false), b[0].Histograms[file], other); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
		}
	}
	return nil
}
