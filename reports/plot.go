package reports

import (
	"bytes"
	"fmt"
	"html"
	"html/template"
	"image/color"
	"math"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The plot is drawn in marker colours, each replaced by a property of the page's style, so that one
// picture serves the light and the dark page. None is black: the SVG writer leaves black out.
var (
	inkColor  = color.NRGBA{R: 0x01, G: 0x01, B: 0x01, A: 0xff}
	gridColor = color.NRGBA{R: 0x02, G: 0x02, B: 0x02, A: 0xff}
	markers   = strings.NewReplacer(replacements()...)
)

// replacements are the properties that stand for the marker colours: ink, grid, two curves, their bands, and for heat maps
// either curve's colour in rising strength.
func replacements() []string {
	out := []string{"#010101", "var(--soft)", "#020202", "var(--line)", "#030303", "var(--curve-a)", "#040404", "var(--curve-b)"}
	mix := func(marker, curve string, percent int) {
		out = append(out, marker, fmt.Sprintf("color-mix(in srgb,var(--%s) %d%%,var(--card))", curve, percent))
	}
	mix("#050505", "curve-a", 22)
	mix("#060606", "curve-b", 22)
	for level := 1; level <= heatInks; level++ {
		mix(fmt.Sprintf("#10%02X10", level), "curve-a", 100*level/heatInks)
		mix(fmt.Sprintf("#11%02X10", level), "curve-b", 100*level/heatInks)
	}
	return out
}

// line is how a kind of curve is drawn; line style and colour both tell them apart.
var line = map[string]draw.LineStyle{
	"response": {Color: color.NRGBA{R: 3, G: 3, B: 3, A: 0xff}, Width: vg.Points(1.8)},
	"lateness": {Color: color.NRGBA{R: 4, G: 4, B: 4, A: 0xff}, Width: vg.Points(1.4), Dashes: []vg.Length{4, 3}},
}

// floor is the shortest time that is drawn, in seconds: a logarithm has no zero.
const floor = 1e-6

// percentilePlot draws curves over x = log10(1/(1-p)) as one inline SVG; id makes its ids unique on
// the page. Band: none, since one epoch has no spread between epochs.
func percentilePlot(id, title string, curves []curve) (template.HTML, error) {
	p := plot.New()
	p.BackgroundColor = nil
	p.X.Label.Text, p.Y.Label.Text = "percentile", "time (log scale)"
	p.Y.Scale = plot.LogScale{}
	low, high, right := math.Inf(1), 0.0, 0.0
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = gridColor, gridColor
	p.Add(grid)
	for _, c := range curves {
		xys := make(plotter.XYs, len(c.Points))
		for i, q := range c.Points {
			xys[i] = plotter.XY{X: nines(q.P), Y: max(q.Value, floor)}
			low, high, right = min(low, xys[i].Y), max(high, xys[i].Y), max(right, xys[i].X)
		}
		l, points, err := plotter.NewLinePoints(xys)
		if err != nil {
			return "", fmt.Errorf("plot %s: %w", title, err)
		}
		l.LineStyle = line[c.Kind]
		points.GlyphStyle = draw.GlyphStyle{Color: l.Color, Radius: vg.Points(1.9), Shape: draw.CircleGlyph{}}
		p.Add(l, points)
	}
	p.X.Min, p.X.Max, p.X.Tick.Marker = 0, right*1.02, plot.ConstantTicks(percentTicks())
	p.Y.Min, p.Y.Max = below(low), above(high)
	p.Y.Tick.Marker = plot.ConstantTicks(timeTicks(p.Y.Min, p.Y.Max))
	set(&p.X)
	set(&p.Y)
	return inline(p, id, title)
}

// set gives an axis the page's ink and a font that most systems have in a like width.
func set(a *plot.Axis) {
	a.Color, a.Tick.Color = inkColor, inkColor
	a.Label.TextStyle.Color, a.Tick.Label.Color = inkColor, inkColor
	a.Label.TextStyle.Font.Variant, a.Tick.Label.Font.Variant = "Sans", "Sans"
	a.Label.TextStyle.Font.Size, a.Tick.Label.Font.Size = vg.Points(10), vg.Points(10)
	a.Label.Padding = vg.Points(5)
}

// inline writes the plot without XML prolog and comment, with a title and ids, and in the page's
// colours.
func inline(p *plot.Plot, id, title string) (template.HTML, error) {
	const width, height = 400, 235 // points
	canvas := vgsvg.New(width, height)
	p.Draw(draw.New(canvas))
	var buf bytes.Buffer
	if _, err := canvas.WriteTo(&buf); err != nil {
		return "", fmt.Errorf("plot %s: %w", title, err)
	}
	_, body, ok := strings.Cut(buf.String(), `xlink">`)
	if !ok {
		return "", fmt.Errorf("plot %s: the SVG has no head", title)
	}
	head := fmt.Sprintf(`<svg id="%s" role="img" aria-labelledby="%s-title" viewBox="0 0 %d %d">`+"\n"+`<title id="%s-title">%s</title>`,
		id, id, width, height, id, html.EscapeString(title))
	return template.HTML(head + markers.Replace(body)), nil
}

// nines is the x of a quantile: 1 at p90, 2 at p99.
func nines(p float64) float64 { return math.Log10(1 / (1 - p)) }

func percentTicks() []plot.Tick {
	var out []plot.Tick
	for _, p := range []float64{0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999} {
		out = append(out, plot.Tick{Value: nines(p), Label: percentile(p)})
	}
	return out
}

func percentile(p float64) string {
	return "p" + strconv.FormatFloat(math.Round(p*1e7)/1e5, 'f', -1, 64)
}

// below and above are the next times of the form 1, 2 or 5 times a power of ten.
func below(s float64) float64 {
	ticks := nice(s/10, s)
	return ticks[len(ticks)-1]
}

func above(s float64) float64 {
	for _, t := range nice(s, s*10) {
		if t > s {
			return t
		}
	}
	return s * 10
}

// nice lists the times 1, 2, 5 × 10^k seconds between two times, with a hair of tolerance.
func nice(from, to float64) []float64 {
	const hair = 1e-9
	var out []float64
	for k := int(math.Floor(math.Log10(from))) - 1; k <= int(math.Ceil(math.Log10(to))); k++ {
		for _, m := range []float64{1, 2, 5} {
			if t := m * math.Pow10(k); t >= from*(1-hair) && t <= to*(1+hair) {
				out = append(out, t)
			}
		}
	}
	return out
}

// timeTicks labels every nice time of a short axis, and powers of ten of a long one.
func timeTicks(from, to float64) []plot.Tick {
	long := to/from > 150
	var out []plot.Tick
	for _, t := range nice(from, to) {
		tick := plot.Tick{Value: t, Label: seconds(t)}
		if _, frac := math.Modf(math.Abs(math.Log10(t)) + 1e-9); long && frac > 1e-6 {
			tick.Label = ""
		}
		out = append(out, tick)
	}
	return out
}
