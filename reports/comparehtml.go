package reports

import (
	"bytes"
	"fmt"
	"html/template"
	"io"
	"math"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/assay-bench/assay/results"
)

// ComparisonFormats are the formats of a comparison and of a trend.
var ComparisonFormats = []string{"markdown", "html", "json"}

// Write renders the comparison in one of ComparisonFormats.
func (c *Comparison) Write(w io.Writer, format string) error {
	switch format {
	case "json":
		return writeDocument(w, c)
	case "markdown":
		var p paper
		c.markdown(&p)
		_, err := io.WriteString(w, p.String())
		return err
	case "html":
		page := comparePage{Comparison: c}
		for i, lines := range c.plots {
			svg, err := shiftPlot(fmt.Sprintf("shift-%d", i+1), c.Shifts[i].Name, nil, lines...)
			if err != nil {
				return err
			}
			page.Shown = append(page.Shown, comparedPlot{c.Shifts[i].Name, svg, shiftRows(lines)})
		}
		return execute(w, compareTemplate, page)
	}
	return unknownFormat(format)
}

func unknownFormat(format string) error {
	return fmt.Errorf("unknown format %q: there are %s", format, strings.Join(ComparisonFormats, ", "))
}

func writeDocument(w io.Writer, v any) error {
	raw, err := results.MarshalIndent(v)
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, quiet(string(raw)))
	return err
}

func execute(w io.Writer, t *template.Template, page any) error {
	var out bytes.Buffer
	if err := t.Execute(&out, page); err != nil {
		return err
	}
	_, err := w.Write(out.Bytes())
	return err
}

var (
	compareTemplate = template.Must(template.Must(pageTemplate.Clone()).New("compare").Parse(`{{template "comparepage" .}}`))
	trendTemplate   = template.Must(template.Must(pageTemplate.Clone()).New("trend").Parse(`{{template "trendpage" .}}`))
)

type comparePage struct {
	*Comparison
	Shown []comparedPlot
}

type comparedPlot struct {
	Name string
	SVG  template.HTML
	Rows [][]string
}

// shiftRows is the table under a plot: the level, then estimate and bounds of each line.
func shiftRows(lines []shiftLine) [][]string {
	var out [][]string
	for _, p := range levels {
		cells, any := []string{percentile(p)}, false
		for _, l := range lines {
			three := []string{"–", "–", "–"}
			for _, s := range l.points {
				if s.P == p {
					three, any = []string{s.Text(), s.From(), s.To()}, true
				}
			}
			cells = append(cells, three...)
		}
		if any {
			out = append(out, cells)
		}
	}
	return out
}

// estimateHead are the columns of the table of estimates.
var estimateHead = []string{"figure", "first", "second", "change", "from", "to"}

// Head are the columns.
func (c *Comparison) Head() []string { return estimateHead }

// Rows are the estimates as text.
func (c *Comparison) Rows() [][]string {
	var out [][]string
	for _, e := range c.Estimates {
		cells := []string{e.Name, e.value(e.Values[0]), e.value(e.Values[1]), "not told", "–", "–"}
		if e.Change != nil {
			cells[3], cells[4], cells[5] = signed(e.Change.Point), orDash(e.Change.Lower, signed), orDash(e.Change.Upper, signed)
		}
		out = append(out, cells)
	}
	return out
}

func orDash(v *float64, f func(float64) string) string {
	if v == nil {
		return "–"
	}
	return f(*v)
}

// value is an estimate with its bounds in the figure's unit.
func (e ComparedFigure) value(v Interval) string {
	show := signed
	if e.Unit == "seconds" {
		show = seconds
	}
	if v.Lower == nil && v.Upper == nil {
		return show(v.Point)
	}
	return fmt.Sprintf("%s (%s to %s)", show(v.Point), orDash(v.Lower, show), orDash(v.Upper, show))
}

const maxCompared = 200 // cases that a comment names

func (c *Comparison) markdown(p *paper) {
	p.say("**assay compare: no verdict.** Why:\n")
	for _, w := range c.NoVerdict {
		p.say("- %s", prose(w))
	}
	p.say("")
	var rows [][]string
	for i, b := range c.Bundles {
		rows = append(rows, []string{[]string{"first", "second"}[i], b.Name, b.Target, b.Started, b.Host, b.Outcome, b.Digest})
	}
	markdownTable(p, []string{"", "bundle", "target", "started", "host", "outcome", "digest"}, rows)
	if len(c.Estimates) > 0 {
		p.say("")
		markdownTable(p, estimateHead, c.Rows())
		p.say("\nIntervals of changes have 95 %% over epochs or seconds of these runs; what differs between runs, hours and hosts is not in them.")
	}
	if len(c.Changed) > 0 {
		p.say("\n%s judged otherwise, %d alike:\n", are(len(c.Changed), "case"), c.Same)
		rows = nil
		for _, x := range c.Changed[:min(maxCompared, len(c.Changed))] {
			rows = append(rows, []string{x.Case, x.Was, x.Is, strings.Join(x.Rules, "; ")})
		}
		markdownTable(p, []string{"case", "was", "is", "clauses"}, rows)
		if n := len(c.Changed) - maxCompared; n > 0 {
			p.say("\nand %d more", n)
		}
	} else {
		p.say("\nNo verdict differs: %s alike.", plural(c.Same, "case"))
	}
	for i, only := range c.Only {
		if len(only) > 0 {
			p.say("\nOnly in the %s: %s", []string{"first", "second"}[i], prose(listed(only)))
		}
	}
}

// listed names the first of many.
func listed(names []string) string {
	const most = 20
	text := strings.Join(names[:min(most, len(names))], ", ")
	if n := len(names) - most; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return text
}

// OnlyText is Only for a page.
func (c *Comparison) OnlyText() []fact {
	var out []fact
	for i, only := range c.Only {
		if len(only) > 0 {
			out = append(out, fact{[]string{"only in the first", "only in the second"}[i], listed(only)})
		}
	}
	return out
}

// Write renders the trend in one of ComparisonFormats.
func (t *Trend) Write(w io.Writer, format string) error {
	switch format {
	case "json":
		return writeDocument(w, t)
	case "markdown":
		var p paper
		t.markdown(&p)
		_, err := io.WriteString(w, p.String())
		return err
	case "html":
		page := trendPage{Trend: t}
		for i, s := range t.Series {
			svg, err := trendPlot(fmt.Sprintf("trend-%d", i+1), s)
			if err != nil {
				return err
			}
			page.Shown = append(page.Shown, trendShown{s, svg})
		}
		return execute(w, trendTemplate, page)
	}
	return unknownFormat(format)
}

type trendPage struct {
	*Trend
	Shown []trendShown
}

type trendShown struct {
	Series
	SVG template.HTML
}

// Found is how many change points there are.
func (t *Trend) Found() int {
	n := 0
	for _, s := range t.Series {
		n += len(s.Changes)
	}
	return n
}

func (s Series) text(v float64) string {
	if s.Unit == "change" {
		return signed(v)
	}
	return seconds(v)
}

// ChangeTexts says where the series moved.
func (s Series) ChangeTexts() []string {
	var out []string
	for _, c := range s.Changes {
		out = append(out, fmt.Sprintf("at bundle %d (%.12s): from %s to %s, p = %.3g", c.Index+1, c.Bundle, s.text(c.Before), s.text(c.After), c.P))
	}
	return out
}

// Lines are the points as text.
func (s Series) Lines() [][]string {
	var out [][]string
	for i, p := range s.Points {
		mark := ""
		for _, c := range s.Changes {
			if c.Index == i {
				mark = "change"
			}
		}
		out = append(out, []string{fmt.Sprint(i + 1), p.Started.Format("2006-01-02 15:04:05"), p.Target, s.text(p.Point), orDash(p.Lower, s.text), orDash(p.Upper, s.text), fmt.Sprintf("%.12s", p.Bundle), mark})
	}
	return out
}

var trendHead = []string{"bundle", "started (UTC)", "target", "value", "from", "to", "digest", ""}

// Head are the columns of Lines.
func (t *Trend) Head() []string { return trendHead }

func (t *Trend) markdown(p *paper) {
	p.say("**assay compare --trend: %s in %d series.** A finder of what to look at, no verdict.\n", plural(t.Found(), "change point"), len(t.Series))
	p.say("Method: %s.\n", t.Method)
	for _, s := range t.Series {
		p.say("\n%s, %s\n", prose(s.Name), prose(s.Facet))
		markdownTable(p, trendHead, s.Lines())
		if s.Short {
			p.say("\nToo few bundles for any change to be found.")
		}
	}
	for _, l := range t.Left {
		p.say("- left out: %s", prose(l))
	}
}

// trendPlot draws the points in order with their intervals, and a line at each change point.
func trendPlot(id string, s Series) (template.HTML, error) {
	p := plot.New()
	p.BackgroundColor = nil
	p.X.Label.Text, p.Y.Label.Text = "bundle, in order of time", "change, %"
	scale := 100.0
	if s.Unit == "seconds" {
		p.Y.Label.Text, scale = "milliseconds", 1000
	}
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = gridColor, gridColor
	p.Add(grid)
	low, high := math.Inf(1), math.Inf(-1)
	var dots plotter.XYs
	for i, q := range s.Points {
		x, y := float64(i+1), scale*q.Point
		dots = append(dots, plotter.XY{X: x, Y: y})
		low, high = min(low, y), max(high, y)
		if q.Lower == nil || q.Upper == nil {
			continue
		}
		from, to := scale**q.Lower, scale**q.Upper
		low, high = min(low, from), max(high, to)
		if err := addLine(p, draw.LineStyle{Color: solid.Color, Width: vg.Points(0.9)}, plotter.XY{X: x, Y: from}, plotter.XY{X: x, Y: to}); err != nil {
			return "", err
		}
	}
	room := max((high-low)*0.1, math.Abs(high)*0.02, 1e-6)
	low, high = low-room, high+room
	for _, c := range s.Changes {
		x := float64(c.Index) + 0.5
		if err := addLine(p, draw.LineStyle{Color: dashed.Color, Width: vg.Points(1.6), Dashes: []vg.Length{4, 3}}, plotter.XY{X: x, Y: low}, plotter.XY{X: x, Y: high}); err != nil {
			return "", err
		}
	}
	if err := addDots(p, dots, solid.Color, draw.CircleGlyph{}); err != nil {
		return "", err
	}
	p.X.Min, p.X.Max, p.X.Tick.Marker = 0.5, float64(len(s.Points))*1.03+0.5, whole{}
	p.Y.Min, p.Y.Max, p.Y.Tick.Marker = low, high, plain{}
	p.Title.Text = fmt.Sprintf("E-divisive, level %v, 999 permutations, segments of 3 or more", TrendLevel)
	p.Title.TextStyle.Color, p.Title.TextStyle.Font.Variant, p.Title.TextStyle.Font.Size = inkColor, "Sans", vg.Points(9)
	set(&p.X)
	set(&p.Y)
	return inline(p, id, s.Name+" over time")
}

func addLine(p *plot.Plot, style draw.LineStyle, points ...plotter.XY) error {
	l, err := plotter.NewLine(plotter.XYs(points))
	if err != nil {
		return err
	}
	l.LineStyle = style
	p.Add(l)
	return nil
}
