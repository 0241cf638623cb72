package reports

import (
	"bytes"
	"fmt"
	"html/template"
	"io"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/assay-bench/assay/results"
)

// loadPage is what the template of a load sees.
type loadPage struct {
	loadView
	Main       measuredLoad
	Facts      []fact
	Env        []fact
	Head       []string
	StepHead   []string
	Thresholds []row
	Over       template.HTML // latency over time
	Rate       template.HTML // ends over time
	CurveSVG   template.HTML // latency over rate
	Plots      []plotView
	Again      string
}

func writeLoadPage(w io.Writer, m *report, b *results.Bundle) error {
	p := loadPage{loadView: viewLoad(m, b.Evidence), Env: m.environment(), Head: latencyHead, StepHead: stepHead, Thresholds: m.thresholdRows()}
	p.Facts = p.loadFacts()
	if len(p.Rows) > 0 {
		p.Again = p.Rows[0].Why.Reproduce
	}
	var err error
	if p.Plots, err = plots(distributions(b)); err != nil {
		return fmt.Errorf("report.html: %w", err)
	}
	p.Main, _ = p.Last()
	if err := p.draw(); err != nil {
		return fmt.Errorf("report.html: %w", err)
	}
	var out bytes.Buffer
	if err := loadTemplate.Execute(&out, p); err != nil {
		return fmt.Errorf("report.html: %w", err)
	}
	_, err = w.Write(out.Bytes())
	return err
}

// loadTemplate is the page of a load, in the style of every report.
var loadTemplate = template.Must(template.Must(pageTemplate.Clone()).New("load").Parse(`{{template "loadpage" .}}`))

// draw makes the pictures of the page.
func (p *loadPage) draw() (err error) {
	if p.Sweep() {
		p.CurveSVG, err = p.drawCurve()
		return err
	}
	intervals := p.Main.Result.Intervals
	if len(intervals) < 2 {
		return nil
	}
	var p50, p99, rate, lost plotter.XYs
	for _, v := range intervals {
		at, width := float64(v.Start)/1e9, float64(v.Width)/1e9
		if width <= 0 {
			continue
		}
		rate = append(rate, plotter.XY{X: at, Y: float64(v.Count) / width})
		lost = append(lost, plotter.XY{X: at, Y: float64(v.Errors+v.Timeouts) / width})
		if v.Count > 0 {
			p50 = append(p50, plotter.XY{X: at, Y: float64(v.P50) / 1e9})
			p99 = append(p99, plotter.XY{X: at, Y: float64(v.P99) / 1e9})
		}
	}
	if p.Over, err = linePlot("response-plot", "Response over time", "seconds since the start", true, series{p99, solid}, series{p50, dashed}); err != nil {
		return err
	}
	p.Rate, err = linePlot("rate-plot", "Ends per second over time", "seconds since the start", false, series{rate, solid}, series{lost, dashed})
	return err
}

func (p *loadPage) drawCurve() (template.HTML, error) {
	var p50, p99 plotter.XYs
	for _, s := range p.Steps {
		q := s.Result.Quantiles["response_all"]
		if q.Count > 0 {
			p50 = append(p50, plotter.XY{X: s.Result.Schedule.Rate, Y: float64(q.P50) / 1e9})
			p99 = append(p99, plotter.XY{X: s.Result.Schedule.Rate, Y: float64(q.P99) / 1e9})
		}
	}
	if len(p99) < 2 {
		return "", nil
	}
	all := []series{{p99, solid}, {p50, dashed}}
	if p.Curve.Knee > 0 {
		low, high := bounds(p50, p99)
		all = append(all, series{plotter.XYs{{X: p.Curve.Knee, Y: below(max(low, floor))}, {X: p.Curve.Knee, Y: above(max(high, floor))}}, marker})
	}
	return linePlot("curve-plot", "Response over the rate", "arrivals per second", true, all...)
}

// series is a line of a plot.
type series struct {
	points plotter.XYs
	style  draw.LineStyle
}

var (
	solid  = line["response"]
	dashed = line["lateness"]
	marker = draw.LineStyle{Color: inkColor, Width: vg.Points(0.8), Dashes: []vg.Length{1.5, 2}}
)

// bounds returns the lowest and the highest value of lines.
func bounds(all ...plotter.XYs) (low, high float64) {
	low = math.Inf(1)
	for _, xys := range all {
		for _, p := range xys {
			low, high = min(low, p.Y), max(high, p.Y)
		}
	}
	return low, high
}

// linePlot draws lines; times go on a logarithmic axis, counts on a linear one from 0.
func linePlot(id, title, xLabel string, times bool, all ...series) (template.HTML, error) {
	p := plot.New()
	p.BackgroundColor = nil
	p.X.Label.Text, p.Y.Label.Text = xLabel, "per second"
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = gridColor, gridColor
	p.Add(grid)
	var lines []plotter.XYs
	for _, s := range all {
		if times {
			for i := range s.points {
				s.points[i].Y = max(s.points[i].Y, floor)
			}
		}
		if len(s.points) == 0 {
			continue
		}
		l, err := plotter.NewLine(s.points)
		if err != nil {
			return "", fmt.Errorf("plot %s: %w", title, err)
		}
		l.LineStyle = s.style
		p.Add(l)
		lines = append(lines, s.points)
	}
	if len(lines) == 0 {
		return "", nil
	}
	low, high := bounds(lines...)
	if times {
		p.Y.Label.Text, p.Y.Scale = "response (log scale)", plot.LogScale{}
		p.Y.Min, p.Y.Max = below(low), above(high)
		p.Y.Tick.Marker = plot.ConstantTicks(timeTicks(p.Y.Min, p.Y.Max))
	} else {
		p.Y.Min, p.Y.Max, p.Y.Tick.Marker = 0, max(high*1.1, 1), plain{}
	}
	p.X.Tick.Marker = plain{}
	p.X.Max += (p.X.Max - p.X.Min) / 25 // room for the last label
	set(&p.X)
	set(&p.Y)
	return inline(p, id, title)
}

// plain labels ticks without superfluous digits.
type plain struct{}

func (plain) Ticks(from, to float64) []plot.Tick {
	ticks := plot.DefaultTicks{}.Ticks(from, to)
	for i := range ticks {
		if ticks[i].Label != "" {
			ticks[i].Label = round(ticks[i].Value)
		}
	}
	return ticks
}
