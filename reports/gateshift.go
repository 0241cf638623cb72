package reports

import (
	"cmp"
	"fmt"
	"html/template"
	"image/color"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/assay-bench/assay/results/histogram"
	"github.com/assay-bench/assay/results/stats"
)

// shiftTail is each tail of the interval of a shift function: 99 % in all.
const shiftTail = 0.005

// gateScenario is what the epochs of one scenario show of whole distributions.
type gateScenario struct {
	Name   string
	Epochs []gateTimes
	ratios map[float64][]float64 // log-ratios of valid epochs by level
}

// gateTimes is one epoch of both sides.
type gateTimes struct {
	Number    int
	Void      string
	Quantiles [4]float64    // p50 and p99 of the baseline, then of the candidate, in seconds
	shares    [2][]timeBand // of requests
}

// timeBand is a share of an epoch's requests and how long those took.
type timeBand struct{ At, Share float64 }

// gateDistributions collects the histograms of epochs.
type gateDistributions struct{ scenarios []gateScenario }

func (g *gateDistributions) add(e gateEpoch) error {
	if e.Phase != "duet" || e.Arms[0].Histogram == "" || e.Arms[1].Histogram == "" {
		return nil
	}
	var h [2]*histogram.Histogram
	for arm := range h {
		var err error
		if h[arm], err = histogram.Decode([]byte(e.Arms[arm].Histogram)); err != nil {
			return fmt.Errorf("epoch %d of %s: %w", e.Number, e.Scenario, err)
		}
	}
	name := clean(e.Scenario, false)
	i := slices.IndexFunc(g.scenarios, func(s gateScenario) bool { return s.Name == name })
	if i < 0 {
		i = len(g.scenarios)
		g.scenarios = append(g.scenarios, gateScenario{Name: name, ratios: map[float64][]float64{}})
	}
	s := &g.scenarios[i]
	t := gateTimes{Number: e.Number, Void: clean(e.Void, false)}
	for arm, one := range h {
		t.Quantiles[2*arm], t.Quantiles[2*arm+1] = float64(one.Quantile(0.5))/1e9, float64(one.Quantile(0.99))/1e9
		t.shares[arm] = bandsOf(one)
	}
	s.Epochs = append(s.Epochs, t)
	if e.Void != "" {
		return nil
	}
	for _, p := range levels {
		a, b := h[0].Quantile(p), h[1].Quantile(p)
		if a > 0 && b > 0 && (1-p)*float64(min(h[0].Count(), h[1].Count())) >= beyond {
			s.ratios[p] = append(s.ratios[p], math.Log(float64(b)/float64(a)))
		}
	}
	return nil
}

// bandsOf cuts a histogram into hundredths of its requests, the last one into thousandths.
func bandsOf(h *histogram.Histogram) []timeBand {
	var out []timeBand
	for i := range 99 {
		out = append(out, timeBand{float64(h.Quantile((float64(i)+0.5)/100)) / 1e9, 0.01})
	}
	for i := range 10 {
		out = append(out, timeBand{float64(h.Quantile(0.99+(float64(i)+0.5)/1000)) / 1e9, 0.001})
	}
	return out
}

// shiftPoint is the shift function at one level, as log-ratios.
type shiftPoint struct {
	P float64 `json:"p"`
	stats.Estimate
	Epochs int `json:"epochs"`
}

// Text, From and To are the relative changes.
func (s shiftPoint) Text() string { return signed(math.Expm1(s.Point)) }

// From is the lower end of the interval.
func (s shiftPoint) From() string { return bound(s.Lower) }

// To is the upper end.
func (s shiftPoint) To() string { return bound(s.Upper) }

func bound(d float64) string {
	if math.IsInf(d, 0) {
		return "unbounded"
	}
	return signed(math.Expm1(d))
}

// shift is the shift function of a scenario: the estimate over epochs at each level.
func (s gateScenario) shift() ([]shiftPoint, error) {
	var out []shiftPoint
	for _, p := range levels {
		d := s.ratios[p]
		if len(d) == 0 {
			continue
		}
		e, err := stats.HodgesLehmann(d, shiftTail, shiftTail)
		if err != nil {
			return nil, err
		}
		out = append(out, shiftPoint{p, e, len(d)})
	}
	return out, nil
}

// scenarioPlots are the pictures of a scenario.
type scenarioPlots struct {
	gateScenario
	Points      []shiftPoint
	Shift, Heat template.HTML
}

func (p *gatePage) drawScenarios() ([]scenarioPlots, error) {
	var out []scenarioPlots
	for i, s := range p.Scenarios {
		v := scenarioPlots{gateScenario: s}
		var err error
		if v.Points, err = s.shift(); err != nil {
			return nil, err
		}
		margins := map[string]float64{}
		for _, g := range p.Metrics {
			if g.ID == s.Name+"/p50" {
				margins = g.Values
			}
		}
		if v.Shift, err = shiftPlot(fmt.Sprintf("shift-%d", i+1), "Shift function of "+s.Name, margins, shiftLine{v.Points, solid, bandColor}); err != nil {
			return nil, err
		}
		if v.Heat, err = heatPlot(fmt.Sprintf("heat-%d", i+1), s); err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// bandColor and otherBand are markers that the page's style replaces by translucent colours of the curves.
var (
	bandColor = color.NRGBA{R: 0x05, G: 0x05, B: 0x05, A: 0xff}
	otherBand = color.NRGBA{R: 0x06, G: 0x06, B: 0x06, A: 0xff}
)

// shiftLine is one shift function with the style of its line and the ink of its band.
type shiftLine struct {
	points []shiftPoint
	style  draw.LineStyle
	band   color.Color
}

// shiftPlot draws shift functions over the percentile axis, with bands and the margins of the median.
func shiftPlot(id, title string, margins map[string]float64, lines ...shiftLine) (template.HTML, error) {
	p := plot.New()
	p.BackgroundColor = nil
	p.X.Label.Text, p.Y.Label.Text = "percentile", "change, %"
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = gridColor, gridColor
	low, high, right := 0.0, 0.0, 0.0
	most := 0
	for _, l := range lines {
		most = max(most, len(l.points))
		band, centre := shiftPaths(l.points)
		if len(centre) == 0 {
			continue
		}
		for _, xy := range append(slices.Clone(band), centre...) {
			low, high, right = min(low, xy.Y), max(high, xy.Y), max(right, xy.X)
		}
		if len(band) > 2 {
			area, err := plotter.NewPolygon(band)
			if err != nil {
				return "", err
			}
			area.Color, area.LineStyle.Width = l.band, 0
			p.Add(area)
		}
	}
	if most < 2 {
		return "", nil
	}
	p.Add(grid)
	for _, m := range []struct {
		figure string
		style  draw.LineStyle
	}{{"fail above", marker}, {"pass below", dashed}} {
		v, ok := margins[m.figure]
		if !ok {
			continue
		}
		low, high = min(low, 100*v), max(high, 100*v)
		l, err := plotter.NewLine(plotter.XYs{{X: 0, Y: 100 * v}, {X: right * 1.06, Y: 100 * v}})
		if err != nil {
			return "", err
		}
		l.LineStyle = m.style
		p.Add(l)
	}
	for _, line := range lines {
		_, centre := shiftPaths(line.points)
		if len(centre) == 0 {
			continue
		}
		l, points, err := plotter.NewLinePoints(centre)
		if err != nil {
			return "", err
		}
		l.LineStyle = line.style
		points.GlyphStyle = draw.GlyphStyle{Color: line.style.Color, Radius: vg.Points(1.9), Shape: draw.CircleGlyph{}}
		p.Add(l, points)
	}
	room := max((high-low)*0.08, 0.1)
	p.Y.Min, p.Y.Max, p.Y.Tick.Marker = low-room, high+room, plain{}
	p.X.Min, p.X.Max, p.X.Tick.Marker = 0, right*1.06, plot.ConstantTicks(percentTicks()) // room for the last label
	set(&p.X)
	set(&p.Y)
	return inline(p, id, title)
}

// shiftPaths are the outline of the band, where it is bounded, and the line of the estimates, in percent.
func shiftPaths(points []shiftPoint) (band, centre plotter.XYs) {
	var below plotter.XYs
	for _, s := range points {
		x := nines(s.P)
		centre = append(centre, plotter.XY{X: x, Y: 100 * math.Expm1(s.Point)})
		if !math.IsInf(s.Lower, 0) && !math.IsInf(s.Upper, 0) {
			band = append(band, plotter.XY{X: x, Y: 100 * math.Expm1(s.Upper)})
			below = append(below, plotter.XY{X: x, Y: 100 * math.Expm1(s.Lower)})
		}
	}
	slices.Reverse(below)
	return append(band, below...), centre
}

// Steps of a heat map: rows of equal width in the logarithm of time, and levels of ink.
const (
	heatRows  = 26
	heatInks  = 6
	heatLeast = 0.0005 // share of requests that is drawn at all
)

// heatPlot draws the latencies of both sides over the epochs, the candidate above the baseline.
func heatPlot(id string, s gateScenario) (template.HTML, error) {
	low, high := math.Inf(1), 0.0
	for _, e := range s.Epochs {
		for _, side := range e.shares {
			for _, b := range side {
				if b.At > 0 && b.Share > 1e-4 {
					low, high = min(low, b.At), max(high, b.At)
				}
			}
		}
	}
	if len(s.Epochs) < 2 || !(high > 0) {
		return "", nil
	}
	from, to := math.Log10(below(low)), math.Log10(above(high))
	p := plot.New()
	p.BackgroundColor = nil
	p.X.Label.Text, p.Y.Label.Text = "epoch", "baseline, candidate"
	cells := heatCells(s, from, to)
	most := 0.0
	for _, c := range cells {
		most = max(most, c.share)
	}
	for _, c := range cells {
		if c.share < heatLeast {
			continue
		}
		ink := 1 + int(float64(heatInks-1)*math.Sqrt(c.share/most)) // the root shows what is rare
		area, err := plotter.NewPolygon(plotter.XYs{{X: c.x, Y: c.y}, {X: c.x + 1, Y: c.y}, {X: c.x + 1, Y: c.y + c.height}, {X: c.x, Y: c.y + c.height}})
		if err != nil {
			return "", err
		}
		area.Color, area.LineStyle.Width = heatInk(c.arm, min(heatInks, ink)), 0
		p.Add(area)
	}
	span := to - from
	gap := span * 0.08
	var ticks []plot.Tick
	for arm := range 2 {
		for _, t := range timeTicks(math.Pow(10, from), math.Pow(10, to)) {
			ticks = append(ticks, plot.Tick{Value: math.Log10(t.Value) - from + float64(arm)*(span+gap), Label: t.Label})
		}
	}
	p.Y.Min, p.Y.Max, p.Y.Tick.Marker = 0, 2*span+gap, plot.ConstantTicks(thin(ticks, 2*span+gap))
	first, last := s.Epochs[0].Number, s.Epochs[len(s.Epochs)-1].Number
	p.X.Min, p.X.Max, p.X.Tick.Marker = float64(first)-0.5, float64(last)+0.5+float64(last)/20, whole{}
	set(&p.X)
	set(&p.Y)
	return inline(p, id, "Latency of "+s.Name+" by epoch, baseline below, candidate above")
}

// thin takes labels away that would touch the one before.
func thin(ticks []plot.Tick, span float64) []plot.Tick {
	slices.SortStableFunc(ticks, func(a, b plot.Tick) int { return cmp.Compare(a.Value, b.Value) })
	last := math.Inf(-1)
	for i := range ticks {
		if ticks[i].Label == "" {
			continue
		}
		if ticks[i].Value-last < span/14 {
			ticks[i].Label = ""
			continue
		}
		last = ticks[i].Value
	}
	return ticks
}

// whole labels whole numbers alone.
type whole struct{}

func (whole) Ticks(from, to float64) []plot.Tick {
	ticks := plain{}.Ticks(from, to)
	for i := range ticks {
		if ticks[i].Value != math.Trunc(ticks[i].Value) {
			ticks[i].Label = ""
		}
	}
	return ticks
}

// heatCell is a rectangle of the heat map.
type heatCell struct {
	arm                 int
	x, y, height, share float64
}

func heatCells(s gateScenario, from, to float64) []heatCell {
	span := to - from
	height := span / heatRows
	var out []heatCell
	for _, e := range s.Epochs {
		for arm, side := range e.shares {
			var rows [heatRows]float64
			for _, b := range side {
				if b.At > 0 {
					row := int((math.Log10(b.At) - from) / height)
					rows[max(0, min(heatRows-1, row))] += b.Share
				}
			}
			for i, share := range rows {
				out = append(out, heatCell{arm, float64(e.Number) - 0.5, float64(arm)*span*1.08 + float64(i)*height, height, share})
			}
		}
	}
	return out
}

// heatInk is a marker for a level of ink of a side; the page's style replaces it by the side's colour in that strength.
func heatInk(arm, level int) color.Color {
	return color.NRGBA{R: 0x10 + uint8(arm), G: uint8(level), B: 0x10, A: 0xff}
}
