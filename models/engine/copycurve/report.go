package copycurve

import (
	"encoding/json"
	"fmt"
	"io"
	"text/template"
	"time"
)

// JSON writes the report as indented JSON. Times are whole nanoseconds.
func (r *Report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// Markdown writes the report as a table.
func (r *Report) Markdown(w io.Writer) error { return markdown.Execute(w, r) }

var markdown = template.Must(template.New("report").Funcs(template.FuncMap{
	"time": func(d time.Duration) string { return fmt.Sprintf("%.1f us", float64(d)/1e3) },
	"size": size, "ratio": func(x float64) string { return fmt.Sprintf("%.2f", x) },
}).Parse(`# What copies between the caller and ONNX Runtime cost

ONNX Runtime {{.Library}}, one thread, {{.Go}}, {{.Platform}}, {{.CPUs}} CPUs, seed {{.Seed}}. Each round times both ways in turn; the ratio is the median of the
rounds' ratios, with the interval at 95 %. Copying makes a tensor for each input, lets the library allocate the outputs and copies those twice (the usual
binding and its caller); without copies the library reads and writes the caller's memory. Bytes copied and allocated are of one run, at the API's edge.

| graph | batch | bytes in and out | rounds | copying | without | ratio | interval | copied | allocated | copied without | allocated without |
|---|--:|--:|--:|--:|--:|--:|---|--:|--:|--:|--:|
{{range .Points}}| {{.Graph}} | {{if .Batch}}{{.Batch}}{{else}}-{{end}} | {{size .Bytes}} | {{.Rounds}} | {{time .Copying}} | {{time .ZeroCopy}} | {{ratio .Ratio}} | {{ratio .Low}} to {{ratio .High}} | {{.CopiedBytes}} B | {{.AllocatedBytes}} B | {{.CopiedBytes0}} B | {{.Allocated0}} B |
{{end}}
The design names one point of this curve, 42.7 ms with copies and 28.3 ms without: 1.51. The perceptron in a batch of 4,096 is the point of that kind. The ratio
says how many bytes a graph moves for each unit of compute, not how good an engine is; the proof that nothing is copied is the last two columns and the tests of
the row router/onnx/zero-copy.
`))

func size(n int) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%g MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%g KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}
