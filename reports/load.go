package reports

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/assay-bench/assay/results"
)

// kindLoad is the kind of a bundle that assay load writes.
const kindLoad = "load"

// The kinds of evidence of such a bundle.
const (
	loaded results.Kind = "load"
	curved results.Kind = "curve"
)

// measuredLoad is a load as it stands in evidence: one run, one step of a sweep, or merged runs.
type measuredLoad struct {
	URL    string     `json:"url"`
	Sends  string     `json:"sends"`
	Merged []string   `json:"merged"`
	Result loadResult `json:"result"`
}

type loadResult struct {
	Version        string                   `json:"version"`
	Start          time.Time                `json:"start"`
	Model          string                   `json:"model"`
	Label          string                   `json:"label"`
	Mode           string                   `json:"mode"`
	Ends           string                   `json:"ends"`
	Schedule       loadSchedule             `json:"schedule"`
	Segment        loadSegment              `json:"segment"`
	Host           loadHost                 `json:"host"`
	Counts         loadCounts               `json:"counts"`
	Quantiles      map[string]loadQuantiles `json:"quantiles"`
	Elapsed        int64                    `json:"elapsed_ns"`
	AchievedRate   float64                  `json:"achieved_rate"`
	Valid          bool                     `json:"valid"`
	Reasons        []string                 `json:"reasons"`
	LatenessBound  int64                    `json:"lateness_bound_ns"`
	LatenessAsked  int64                    `json:"lateness_asked_ns"`
	LatenessJudged string                   `json:"lateness_judged"`
	Overflow       int64                    `json:"overflow"`
	Stray          int64                    `json:"stray_replies"`
	Errors         map[string]int64         `json:"errors"`
	Intervals      []loadInterval           `json:"intervals"`
	Notes          []string                 `json:"notes"`
	Nodes          []loadNode               `json:"nodes"`
}

type loadSchedule struct {
	Kind     string  `json:"kind"`
	Rate     float64 `json:"rate"`
	Duration int64   `json:"duration_ns"`
	Seed     uint64  `json:"seed"`
	Burst    int     `json:"burst"`
	Random   bool    `json:"random"`
	Digest   string  `json:"digest"`
	Count    int64   `json:"count"`
	Stages   []struct {
		Rate     float64 `json:"rate"`
		Duration int64   `json:"duration_ns"`
	} `json:"stages"`
}

type loadSegment struct {
	Node int `json:"node"`
	Of   int `json:"of"`
}

type loadHost struct {
	Waited float64 `json:"waited"`
	Steal  float64 `json:"steal"`
	Known  bool    `json:"known"`
	Limit  float64 `json:"limit"`
}

type loadCounts struct {
	Scheduled int64 `json:"scheduled"`
	OK        int64 `json:"ok"`
	Error     int64 `json:"error"`
	Timeout   int64 `json:"timeout"`
	Unsent    int64 `json:"unsent"`
}

type loadQuantiles struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean_ns"`
	P50   int64   `json:"p50_ns"`
	P75   int64   `json:"p75_ns"`
	P90   int64   `json:"p90_ns"`
	P95   int64   `json:"p95_ns"`
	P99   int64   `json:"p99_ns"`
	P999  int64   `json:"p999_ns"`
	Max   int64   `json:"max_ns"`
}

type loadInterval struct {
	Start    int64 `json:"start_ns"`
	Width    int64 `json:"width_ns"`
	Count    int64 `json:"count"`
	Errors   int64 `json:"errors"`
	Timeouts int64 `json:"timeouts"`
	P50      int64 `json:"p50_ns"`
	P99      int64 `json:"p99_ns"`
}

type loadNode struct {
	Segment     loadSegment `json:"segment"`
	Start       time.Time   `json:"start"`
	Counts      loadCounts  `json:"counts"`
	Valid       bool        `json:"valid"`
	Reasons     []string    `json:"reasons"`
	LatenessP99 int64       `json:"lateness_p99_ns"`
}

type loadCurve struct {
	Knee    float64 `json:"knee"`
	Stopped string  `json:"stopped"`
}

// loadView is a load ready for any format: every string in it is clean.
type loadView struct {
	*report
	Steps   []measuredLoad // one, or those of a sweep
	Curve   *loadCurve
	Damaged []string // evidence that could not be read
}

// IsLoad says that the bundle holds a load and no run of a suite.
func (m *report) IsLoad() bool { return m.Run.Kind == kindLoad }

func viewLoad(m *report, evidence []results.Evidence) loadView {
	v := loadView{report: m}
	for _, e := range evidence {
		var err error
		switch e.Kind {
		case loaded:
			var l measuredLoad
			if err = e.Decode(&l); err == nil {
				v.Steps = append(v.Steps, scrub(l))
			}
		case curved:
			var c loadCurve
			if err = e.Decode(&c); err == nil {
				v.Curve = new(scrub(c))
			}
		}
		if err != nil {
			v.Damaged = append(v.Damaged, clean(err.Error(), false))
		}
	}
	return v
}

// Sweep tells that the rate was stepped.
func (v loadView) Sweep() bool { return v.Curve != nil }

// Last is the load that stands for the run: the only one, or the step with the highest rate.
func (v loadView) Last() (measuredLoad, bool) {
	if len(v.Steps) == 0 {
		return measuredLoad{}, false
	}
	return v.Steps[len(v.Steps)-1], true
}

// Account is the sum that must hold.
func (c loadCounts) Account() string {
	return fmt.Sprintf("%d scheduled = %d ok + %d error + %d timeout + %d unsent", c.Scheduled, c.OK, c.Error, c.Timeout, c.Unsent)
}

// Lost counts what was not granted.
func (c loadCounts) Lost() int64 { return c.Error + c.Timeout + c.Unsent }

// Validity says whether the measurement can be trusted, and why not.
func (r loadResult) Validity() string {
	if r.Valid {
		return "VALID"
	}
	var why []string
	for _, reason := range r.Reasons {
		why = append(why, reason+" ("+cmp.Or(invalidities[reason], "unknown")+")")
	}
	return "INVALID: " + strings.Join(why, "; ")
}

// invalidities words the reasons of the engine.
var invalidities = map[string]string{
	"accounting":  "sums do not agree",
	"unsent":      "arrivals were not sent",
	"lateness":    "the generator sent later than the bound allows",
	"overflow":    "values were outside the histograms",
	"server":      "the server missed its own schedule",
	"clock":       "the generators may have started apart",
	"host":        "this machine kept the generator from running",
	"interrupted": "the run was ended before its end",
}

// Lateness says how late the generator was, and how late it may be.
func (r loadResult) Lateness() string {
	if r.LatenessJudged == "" {
		return ""
	}
	bound := fmt.Sprintf("%s, a hundredth of the latency that is judged", nanos(r.LatenessBound))
	if r.LatenessAsked == 0 {
		bound = fmt.Sprintf("%s, a hundredth of the p99 response: --threshold or --latency-bound says which latency matters", nanos(r.LatenessBound))
	}
	return fmt.Sprintf("%s p99 %s, bound %s", strings.ReplaceAll(r.LatenessJudged, "_", " "),
		nanos(r.Quantiles[r.LatenessJudged].P99), bound)
}

// Arrivals words the schedule.
func (r loadResult) Arrivals() string {
	s := r.Schedule
	lasts := time.Duration(s.Duration).Round(time.Millisecond).String()
	if r.Model == "closed" {
		return fmt.Sprintf("%s for %s: %s", r.Mode, lasts, r.Label)
	}
	text := fmt.Sprintf("%s, %s per second for %s", s.Kind, round(s.Rate), lasts)
	switch {
	case s.Kind == "trace":
		text = "replay of a trace for " + lasts
	case len(s.Stages) > 0:
		text = fmt.Sprintf("%s from %s per second for %s", s.Kind, round(s.Rate), lasts)
		for _, g := range s.Stages {
			text += fmt.Sprintf(", to %s within %s", round(g.Rate), time.Duration(g.Duration))
		}
		if s.Random {
			text += ", at random"
		}
	case s.Burst > 0:
		text += fmt.Sprintf(", %d at once", s.Burst)
	}
	if r.Segment.Of > 1 {
		text += fmt.Sprintf(", segment %d of %d", r.Segment.Node, r.Segment.Of)
	}
	return fmt.Sprintf("%s: %s in all, seed %d", text, plural(int(s.Count), "arrival"), s.Seed)
}

// latencyRow is a line of the latency table.
type latencyRow struct {
	Name, Meaning string
	Values        []string
}

// latencyHead names the columns of the latency table.
var latencyHead = []string{"p50", "p75", "p90", "p95", "p99", "p99.9", "max", "mean", "samples"}

// Latency lists the distributions of a result.
func (r loadResult) Latency() []latencyRow {
	var out []latencyRow
	for _, d := range []struct{ key, name, meaning string }{
		{"response_all", "response", "from the intended start; errors and timeouts too"},
		{"response_ok", "response, ok only", "from the intended start"},
		{"service", "service", "from the actual start"},
		{"lateness", "lateness", "of the start: queue and generator"},
		{"pacer_lateness", "pacer lateness", "of the generator alone"},
		{"unsent_wait", "unsent", "how long they had waited"},
	} {
		q := r.Quantiles[d.key]
		if q.Count == 0 || (d.key == "response_ok" && q.Count == r.Quantiles["response_all"].Count) {
			continue
		}
		out = append(out, latencyRow{d.name, d.meaning, q.values()})
	}
	return out
}

func (q loadQuantiles) values() []string {
	var out []string
	for i, n := range []int64{q.P50, q.P75, q.P90, q.P95, q.P99, q.P999, q.Max} {
		// A level shows where at least ten samples lie beyond it: what fewer show is noise.
		if p := []float64{0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0}[i]; p > 0 && float64(q.Count)*(1-p)+1e-6 < beyond {
			out = append(out, "–")
			continue
		}
		out = append(out, nanos(n))
	}
	return append(out, seconds(q.Mean/1e9), fmt.Sprint(q.Count))
}

func nanos(n int64) string { return seconds(float64(n) / 1e9) }

// kindCount is how often an error came.
type kindCount struct {
	Kind  string
	Count int64
}

// Kinds lists the errors, the most frequent first.
func (r loadResult) Kinds() []kindCount {
	var out []kindCount
	for _, k := range slices.Sorted(maps.Keys(r.Errors)) {
		out = append(out, kindCount{k, r.Errors[k]})
	}
	slices.SortStableFunc(out, func(a, b kindCount) int { return cmp.Compare(b.Count, a.Count) })
	return out
}

// stepHead names the columns of the table of a sweep.
var stepHead = []string{"rate", "granted", "p50", "p90", "p99", "max", "not granted", "lateness p99", "measurement"}

// Trusted counts the steps whose measurement is VALID.
func (v loadView) Trusted() (n int) {
	for _, s := range v.Steps {
		if s.Result.Valid {
			n++
		}
	}
	return n
}

// StepRows lists the steps of a sweep; every one stands for itself.
func (v loadView) StepRows() [][]string {
	var out [][]string
	for _, s := range v.Steps {
		q := s.Result.Quantiles["response_all"]
		rate := round(s.Result.Schedule.Rate) + "/s"
		if s.Result.Schedule.Rate == v.Curve.Knee {
			rate += " (knee)"
		}
		validity := "VALID"
		if !s.Result.Valid {
			validity = "INVALID: " + strings.Join(s.Result.Reasons, ", ")
		}
		out = append(out, []string{
			rate, round(s.Result.AchievedRate) + "/s", nanos(q.P50), nanos(q.P90), nanos(q.P99), nanos(q.Max),
			fmt.Sprint(s.Result.Counts.Lost()), nanos(s.Result.Quantiles["lateness"].P99), validity,
		})
	}
	return out
}

// KneeText says where the curve bends.
func (v loadView) KneeText() string {
	if v.Curve.Knee == 0 {
		return "No knee is to be seen: the steps are too few, or latency does not bend upwards."
	}
	return fmt.Sprintf("The knee lies at %s per second: beyond it p99 rises faster than the rate.", round(v.Curve.Knee))
}

// thresholdRows are the rows of the user's thresholds.
func (m *report) thresholdRows() []row {
	return m.rows(func(r row) bool { return r.Key.Check == kindLoad+"/threshold" })
}

// loadFacts is what a reader must know about a load.
func (v loadView) loadFacts() []fact {
	l, ok := v.Last()
	if !ok {
		return nil
	}
	r := l.Result
	if v.Sweep() {
		return slices.DeleteFunc([]fact{
			{"sent", l.Sends}, {"each step", nanos(r.Schedule.Duration)}, {"instrument", v.Run.Calibration.Text()},
		}, func(f fact) bool { return f.Value == "" })
	}
	out := []fact{
		{"sent", l.Sends}, {"schedule", r.Arrivals()}, {"account", r.Counts.Account()},
		{"granted", fmt.Sprintf("%s per second over %s", round(r.AchievedRate), nanos(r.Elapsed))},
		{"measurement", r.Validity()}, {"sent late", r.Lateness()}, {"a reply ends", endsText[r.Ends]}, {"instrument", v.Run.Calibration.Text()},
	}
	if len(l.Merged) > 0 {
		out = append(out, fact{"merged", strings.Join(l.Merged, ", ")})
	}
	if r.Host.Known {
		out = append(out, fact{"host", fmt.Sprintf("the generator waited %s %% of its time for a processor, %s %% were stolen",
			round(100*r.Host.Waited), round(100*r.Host.Steal))})
	}
	if r.Stray+r.Overflow > 0 {
		out = append(out, fact{"odd", fmt.Sprintf("%d replies that nobody waited for, %d values clamped", r.Stray, r.Overflow)})
	}
	for _, n := range r.Notes {
		out = append(out, fact{"note", n})
	}
	return slices.DeleteFunc(out, func(f fact) bool { return f.Value == "" })
}

// endsText says what dates a reply.
var endsText = map[string]string{
	"kernel": "when the kernel has taken in its last byte",
	"read":   "when the load generator has read it: waking its reader is in the latency",
	"mixed":  "when the kernel has taken in its last byte, where it tells; else when it was read",
}

// ofSuites are facts of a run that say nothing of a load.
var ofSuites = []string{"kind and role", "claims", "claims probed", "plan", "rows that decide", "run", "bundle"}

// environment is where a load ran.
func (m *report) environment() []fact {
	return slices.DeleteFunc(m.facts(), func(f fact) bool { return slices.Contains(ofSuites, f.Name) })
}
