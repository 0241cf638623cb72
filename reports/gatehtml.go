package reports

import (
	"bytes"
	"fmt"
	"html/template"
	"image/color"
	"io"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/assay-bench/assay/results"
)

// gatePage is what the template of a gate sees.
type gatePage struct {
	gateView
	Facts []fact
	Env   []fact
	Head  []string
	Plots []gatePlot
	Again string
	Rates string
	Times []scenarioPlots
}

// gatePlot is the picture of a metric's epochs.
type gatePlot struct {
	gateMetric
	SVG template.HTML
}

var gateTemplate = template.Must(template.Must(pageTemplate.Clone()).New("gate").Parse(`{{template "gatepage" .}}`))

func writeGatePage(w io.Writer, m *report, b *results.Bundle) error {
	p := gatePage{gateView: viewGate(m, b.Evidence), Env: m.environment(), Head: gateHead}
	p.Facts = p.gateFacts()[1:] // the error rates stand above
	if len(p.Rows) > 0 {
		p.Again = p.Rows[0].Why.Reproduce
	}
	p.Rates = p.Sides.Rates
	var err error
	if p.Times, err = p.drawScenarios(); err != nil {
		return fmt.Errorf("report.html: %w", err)
	}
	for i, g := range p.Metrics {
		svg, err := epochPlot(fmt.Sprintf("epochs-%d", i+1), g)
		if err != nil {
			return fmt.Errorf("report.html: %w", err)
		}
		if svg != "" {
			p.Plots = append(p.Plots, gatePlot{g, svg})
		}
	}
	var out bytes.Buffer
	if err := gateTemplate.Execute(&out, p); err != nil {
		return fmt.Errorf("report.html: %w", err)
	}
	_, err = w.Write(out.Bytes())
	return err
}

// epochPlot draws the change of each epoch in time order, the two margins and the estimate.
func epochPlot(id string, g gateMetric) (template.HTML, error) {
	var valid, void plotter.XYs
	for _, d := range g.Dots {
		at := plotter.XY{X: float64(d.Epoch), Y: 100 * d.Change}
		if d.Void != "" {
			void = append(void, at)
		} else {
			valid = append(valid, at)
		}
	}
	if len(valid) == 0 {
		return "", nil
	}
	p := plot.New()
	p.BackgroundColor = nil
	p.X.Label.Text, p.Y.Label.Text = "epoch", "change, %"
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = gridColor, gridColor
	p.Add(grid)
	low, high := bounds(valid, void)
	right := float64(g.Dots[len(g.Dots)-1].Epoch)
	for _, level := range []struct {
		figure string
		style  draw.LineStyle
	}{{"fail above", marker}, {"pass below", dashed}, {"change", solid}} {
		v, ok := g.Values[level.figure]
		if !ok {
			continue
		}
		low, high = min(low, 100*v), max(high, 100*v)
		l, err := plotter.NewLine(plotter.XYs{{X: 0, Y: 100 * v}, {X: right + 1, Y: 100 * v}})
		if err != nil {
			return "", err
		}
		l.LineStyle = level.style
		p.Add(l)
	}
	if err := addDots(p, valid, solid.Color, draw.CircleGlyph{}); err != nil {
		return "", err
	}
	if err := addDots(p, void, inkColor, draw.CrossGlyph{}); err != nil {
		return "", err
	}
	room := max((high-low)*0.08, 0.1)
	p.Y.Min, p.Y.Max, p.X.Min, p.X.Max = math.Min(low, 0)-room, high+room, 0, right+1
	p.X.Tick.Marker, p.Y.Tick.Marker = plain{}, plain{}
	set(&p.X)
	set(&p.Y)
	return inline(p, id, "Change of "+g.ID+" by epoch")
}

func addDots(p *plot.Plot, xys plotter.XYs, ink color.Color, shape draw.GlyphDrawer) error {
	if len(xys) == 0 {
		return nil
	}
	s, err := plotter.NewScatter(xys)
	if err != nil {
		return err
	}
	s.GlyphStyle = draw.GlyphStyle{Color: ink, Radius: vg.Points(2.2), Shape: shape}
	p.Add(s)
	return nil
}
