package coldstart

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
	"text/template"
	"time"
)

// Report is everything that is measured, with what is needed to read it.
type Report struct {
	Wazero     string      `json:"wazero"`
	Go         string      `json:"go"`
	Platform   string      `json:"platform"`
	CPUs       int         `json:"cpus"`
	Seed       uint64      `json:"seed"`
	Notes      []string    `json:"notes,omitempty"` // on the guests, of who measured
	Rows       []Row       `json:"rows"`
	Gains      []Gain      `json:"gains"`
	Bursts     []Row       `json:"bursts"`
	Overheads  []Overhead  `json:"overheads"`
	Footprints []Footprint `json:"footprints"`
	Claims     []Claim     `json:"claims"`
}

// Run measures everything, one after the other: Measure, Bursts, Overheads and Footprints. Errors are theirs.
func Run(ctx context.Context, o Options) (Report, error) {
	r := Report{
		Wazero: wazeroVersion(), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		CPUs: runtime.NumCPU(), Seed: o.Seed, Claims: Claims(),
	}
	var err error
	if r.Rows, err = Measure(ctx, o); err != nil {
		return Report{}, err
	}
	r.Gains = Gains(r.Rows)
	if r.Bursts, err = Bursts(ctx, o); err != nil {
		return Report{}, err
	}
	if r.Overheads, err = Overheads(ctx, o); err != nil {
		return Report{}, err
	}
	if r.Footprints, err = Footprints(ctx, o); err != nil {
		return Report{}, err
	}
	return r, nil
}

// wazeroVersion is the version that the program was built with. Test binaries do not always say.
func wazeroVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if d.Path == "github.com/tetratelabs/wazero" {
				return strings.TrimPrefix(d.Version, "v")
			}
		}
	}
	return "unknown"
}

// JSON writes the report as indented JSON. Times are whole nanoseconds.
func (r Report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// Markdown writes the report as tables. A column that was not measured shows a dash.
func (r Report) Markdown(w io.Writer) error { return markdown.Execute(w, r) }

var markdown = template.Must(template.New("report").Funcs(template.FuncMap{
	"time": nanos, "ratio": ratio, "bytes": size, "cell": escape, "nearest": nearest, "rate": rate,
}).Parse(`# Cold starts

wazero {{.Wazero}}, {{.Go}}, {{.Platform}}, {{.CPUs}} CPUs, seed {{.Seed}}. The rewritten form of each guest is measured, on a runtime whose host modules exist already.
A sample whose answer is wrong is void and is in no figure. The 99th percentile needs 100 samples.
{{range .Notes}}
{{.}}
{{end}}
| guest | built | engine | start | end | n | void | p50 | p99 | instances/s | module | threads | checked | note |
|---|---|---|---|---|--:|--:|--:|--:|--:|--:|--:|---|---|
{{range .Rows}}{{template "row" .}}{{end}}
## From compiled, by threads

| guest | built | engine | start | end | n | void | p50 | p99 | instances/s | module | threads | checked | note |
|---|---|---|---|---|--:|--:|--:|--:|--:|--:|--:|---|---|
{{range .Bursts}}{{template "row" .}}{{end}}
## Warm disk cache over compiling

| guest | engine | from bytes | from disk | ratio |
|---|---|--:|--:|--:|
{{range .Gains}}| {{cell .Guest}} | {{.Engine}} | {{time .FromBytes}} | {{time .FromDisk}} | {{ratio .Ratio}} |
{{end}}
## Being able to stop a guest: fuel, and close-on-done (naive)

A call on a warm instance; ratios are medians of rounds in which all three forms ran.

| guest | built | engine | n | void | plain | fuel | naive | fuel ratio | naive ratio | note |
|---|---|---|--:|--:|--:|--:|--:|--:|--:|---|
{{range .Overheads}}| {{cell .Guest}} | {{cell .Built}} | {{.Engine}} | {{.N}} | {{.Void}} | {{time .PlainNanos}} | {{time .FuelNanos}} | {{time .NaiveNanos}} | {{ratio .Fuel}} | {{ratio .Naive}} | {{cell .Note}} |
{{end}}
## Memory of an instance

| guest | engine | instances | linear | heap | resident | note |
|---|---|--:|--:|--:|--:|---|
{{range .Footprints}}| {{cell .Guest}} | {{.Engine}} | {{.Instances}} | {{bytes .LinearBytes}} | {{bytes .HeapBytes}} | {{bytes .ResidentBytes}} | {{cell .Note}} |
{{end}}
## Beside published figures

Compiler, one thread, medians. The last column says why the two are not the same thing.

| system | published | what it is | nearest points here | measured here | difference in definition |
|---|---|---|---|---|---|
{{range .Claims}}| {{cell .System}} | {{cell .Figure}} | {{cell .Is}} | {{if .Start}}{{.Start}} to {{.End}}{{else}}none{{end}} | {{cell (nearest $.Rows .)}} | {{cell .Difference}} |
{{end}}{{define "row"}}| {{cell .Guest}} | {{cell .Built}} | {{.Engine}} | {{.Start}} | {{.End}} | {{.N}} | {{.Void}} | {{time .P50Nanos}} | {{time .P99Nanos}} | {{rate .PerSecond}} | {{.ModuleBytes}} B | {{.Threads}} | {{if .Checked}}yes{{else}}no{{end}} | {{cell .Note}} |
{{end}}`))

// nearest lists the medians that a claim is set beside.
func nearest(rows []Row, c Claim) string {
	var found []string
	for _, r := range rows {
		if c.Start != "" && r.Start == c.Start && r.End == c.End && r.Engine == Compiler && r.N > 0 {
			found = append(found, r.Guest+" "+nanos(r.P50Nanos))
		}
	}
	if len(found) == 0 {
		return "-"
	}
	return strings.Join(found, "; ")
}

func nanos(n int64) string {
	switch {
	case n == 0:
		return "-"
	case n < int64(time.Microsecond):
		return fmt.Sprintf("%d ns", n)
	case n < int64(time.Millisecond):
		return fmt.Sprintf("%.1f us", float64(n)/1e3)
	case n < int64(time.Second):
		return fmt.Sprintf("%.2f ms", float64(n)/1e6)
	}
	return fmt.Sprintf("%.2f s", float64(n)/1e9)
}

func ratio(r float64) string {
	if r == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2fx", r)
}

func rate(r float64) string {
	if r == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f", r)
}

func size(n int64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f KiB", float64(n)/1024)
}

// escape keeps a text inside its cell.
func escape(s string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "\r", " ").Replace(s)
}
