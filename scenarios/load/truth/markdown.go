package truth

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
)

// Markdown writes the calibration as a table a tool, in percent.
func (r *Report) Markdown(w io.Writer) error {
	var b strings.Builder
	s := r.Summary()
	fmt.Fprintf(&b, "# Truth of reported latencies\n\n%s, %s, begun %s.\n\n", r.Host, r.Version, r.Started.Format(time.RFC3339))
	fmt.Fprintf(&b, "%s\n\n", s)
	if r.FromSend {
		b.WriteString("**Planted defect: latencies were taken from the send, not from the intended start.**\n\n")
	}
	if r.Awake {
		b.WriteString("In a real-time class, with processors kept awake.\n\n")
	}
	b.WriteString("Error of the reported value against the truth at the intended arrivals, in percent: the median repetition, and in brackets the cleanest. " +
		"Starved cells are held against the truth for that many workers. A dash: not scored (on a jump of the truth, too few samples, or no longer than the stack of the protocol). " +
		"Void: repetitions in which the generator or the server was not in time.\n")
	for _, tool := range r.tools() {
		fmt.Fprintf(&b, "\n## %s\n\n| cell | mean | p50 | p75 | p90 | p95 | p99 | p99.9 | lost | samples | valid | void | bound |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|\n", tool)
		for _, t := range r.Cells {
			if t.Cell.Tool == tool {
				t.line(&b)
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// tools lists the tools in the order of their first cell.
func (r *Report) tools() (list []string) {
	for _, t := range r.Cells {
		if !slices.Contains(list, t.Cell.Tool) {
			list = append(list, t.Cell.Tool)
		}
	}
	return list
}

// line writes one row.
func (t Trial) line(b *strings.Builder) {
	v := t.Verdict
	fmt.Fprintf(b, "| %s ", strings.TrimPrefix(t.Cell.Name(), t.Cell.Tool+"/"))
	for i := range len(Levels()) + 1 {
		if v.Valid == 0 || !t.shown(i) {
			b.WriteString("| – ")
			continue
		}
		fmt.Fprintf(b, "| %s (%s) ", percent(v.ByLevel[i]), percent(v.Best[i]))
	}
	fmt.Fprintf(b, "| %d | %.0f | %d | %d | %s |\n", v.Lost, t.Cell.samples(), v.Valid, v.Voided, t.outcome())
}

// shown tells whether a valid repetition scores the level.
func (t Trial) shown(i int) bool {
	for k := range t.Reps {
		if r := &t.Reps[k]; r.Valid {
			return t.Cell.class(r, i) != unscored
		}
	}
	return false
}

func (t Trial) outcome() string {
	switch {
	case t.Cell.Tool != Assay && t.Verdict.Valid == 0:
		for _, r := range t.Reps {
			if r.Problem != "" {
				return strings.NewReplacer("|", "/", "\n", " ").Replace(r.Problem)
			}
		}
		return "no valid repetition"
	case t.Cell.Tool != Assay:
		return "none"
	case len(t.Verdict.Broken) > 0:
		return strings.Join(t.Verdict.Broken, "; ")
	case !t.Verdict.Decided:
		return "undecided"
	}
	return "holds"
}

func percent(share float64) string {
	if math.Abs(share) >= 0.1 {
		return fmt.Sprintf("%+.0f", 100*share)
	}
	return fmt.Sprintf("%+.1f", 100*share)
}

// Summary is a calibration in a few figures.
type Summary struct {
	Ample     float64 // largest truth error of assay's unstarved cells, median repetition
	Starved   float64 // of starved cells, against the truth for their workers
	Cells     int     // of assay
	Decided   int     // with enough valid repetitions
	Broken    []string
	Undecided []string
}

// Summary sums assay's own cells up.
func (r *Report) Summary() Summary {
	s := Summary{Ample: math.NaN(), Starved: math.NaN()}
	for _, t := range r.Cells {
		if t.Cell.Tool != Assay {
			continue
		}
		s.Cells++
		for _, broken := range t.Verdict.Broken {
			s.Broken = append(s.Broken, t.Cell.Name()+": "+broken)
		}
		if !t.Verdict.Decided {
			s.Undecided = append(s.Undecided, t.Cell.Name())
			continue
		}
		s.Decided++
		worst := &s.Ample
		if t.Cell.Workers > 0 {
			worst = &s.Starved
		}
		if !(t.Verdict.Median <= *worst) {
			*worst = t.Verdict.Median
		}
	}
	return s
}

// String is one line.
func (s Summary) String() string {
	figure := func(v float64) string {
		if math.IsNaN(v) {
			return "not measured"
		}
		return fmt.Sprintf("%.2f %%", 100*v)
	}
	return fmt.Sprintf("Truth error at the median repetition: %s unstarved (bound %.0f %%), %s starved against the truth for that many workers (bound %.0f %%); %d of %d cells decided, %d bounds broken.",
		figure(s.Ample), 100*boundAmple, figure(s.Starved), 100*boundStarved, s.Decided, s.Cells, len(s.Broken))
}

// Figure returns nil for what was not measured.
func Figure(v float64) *float64 {
	if math.IsNaN(v) {
		return nil
	}
	return &v
}
