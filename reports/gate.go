package reports

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/assay-bench/assay/results"
)

// The kinds of bundle that assay gate writes: of a service, and of Go benchmarks.
const (
	kindGate  = "gate"
	kindBench = "gate-bench"
)

// gateSides is what was compared, as it stands in evidence.
type gateSides struct {
	Baseline  gateSide `json:"baseline"`
	Candidate gateSide `json:"candidate"`
	Builds    struct {
		Listed []string `json:"listed"`
	} `json:"builds"`
	Options struct {
		Floors map[string]float64 `json:"floors"`
	} `json:"options"`
	Rates     string   `json:"errorRates"`
	Identical []string `json:"identical"` // packages of benchmarks
}

type gateSide struct {
	Given    string `json:"given"`
	Revision string `json:"revision"`
	Digest   string `json:"digest"`
}

// Text names a side by what the user wrote, its commit and its digest.
func (s gateSide) Text() string {
	parts := []string{s.Given}
	if s.Revision != "" {
		parts = append(parts, "commit "+s.Revision)
	}
	return strings.Join(append(parts, "SHA-256 "+s.Digest), ", ")
}

// gateEpoch is one epoch of one scenario.
type gateEpoch struct {
	Phase    string             `json:"phase"`
	Number   int                `json:"epoch"`
	Scenario string             `json:"scenario"`
	Ratios   map[string]float64 `json:"ratios"`
	Void     string             `json:"void"`
	Place    gatePlace          `json:"place"`
	Arms     [2]struct {
		Histogram string `json:"histogram"`
	} `json:"arms"`
}

// gatePlace is where both sides of an epoch ran.
type gatePlace struct {
	Processor *int   `json:"processor"`
	Awake     bool   `json:"awake"`
	Why       string `json:"why"`
}

// maxPlaces bounds how many different ones are told.
const maxPlaces = 8

// Text says it in words; empty: wherever the scheduler put them.
func (p gatePlace) Text() string {
	var said []string
	if p.Processor != nil {
		said = append(said, fmt.Sprintf("both sides on processor %d", *p.Processor))
	}
	if p.Awake {
		said = append(said, "kept awake")
	}
	if p.Why != "" {
		said = append(said, p.Why)
	}
	return strings.Join(said, ", ")
}

// gateView is a run of the gate in words.
type gateView struct {
	*report
	Sides   gateSides
	Metrics []gateMetric
	Epochs  int            // of the duet
	Before  int            // of the pre-flight
	Places  map[string]int // epochs by where both sides ran
	Damaged []string
	// Scenarios are those whose epochs have histograms, with their shift functions.
	Scenarios []gateScenario
	Profiles  []gateProfile
}

// gateMetric is a metric with its verdict and the epochs behind it.
type gateMetric struct {
	row
	ID     string
	Gates  bool
	Values map[string]float64 // the verdict's figures
	Dots   []gateDot
}

// gateDot is the change that one epoch showed.
type gateDot struct {
	Epoch  int
	Change float64 // relative
	Void   string
}

// IsGate says that the bundle holds a run of the gate.
func (m *report) IsGate() bool { return m.Run.Kind == kindGate || m.Run.Kind == kindBench }

func viewGate(m *report, evidence []results.Evidence) gateView {
	v := gateView{report: m, Places: map[string]int{}}
	dots := map[string][]gateDot{}
	numbers := map[string]int{}
	var distributed gateDistributions
	for _, e := range evidence {
		var err error
		switch {
		case e.Kind == results.Started && e.Check == "gate":
			if err = e.Decode(&v.Sides); err == nil {
				v.Sides = scrub(v.Sides)
			}
		case e.Kind == profiled:
			err = v.addProfile(e)
		case e.Kind == results.Measured && strings.HasPrefix(e.Check, "gate/"):
			var epoch gateEpoch
			if err = e.Decode(&epoch); err != nil {
				break
			}
			err = distributed.add(epoch)
			if text := clean(epoch.Place.Text(), false); text != "" && (v.Places[text] > 0 || len(v.Places) < maxPlaces) {
				v.Places[text]++
			}
			numbers[epoch.Phase] = max(numbers[epoch.Phase], epoch.Number)
			if epoch.Phase != "duet" {
				break
			}
			for metric, d := range epoch.Ratios {
				id := e.Check + "#" + metric
				dots[id] = append(dots[id], gateDot{epoch.Number, math.Expm1(d), clean(epoch.Void, false)})
			}
		}
		if err != nil {
			v.Damaged = append(v.Damaged, clean(err.Error(), false))
		}
	}
	v.Epochs, v.Before = numbers["duet"], numbers["preflight"]
	v.Scenarios = distributed.scenarios
	for _, r := range m.Rows {
		g := gateMetric{row: r, ID: strings.TrimPrefix(r.Check, "gate/") + "/" + r.Case, Values: map[string]float64{}, Dots: dots[r.Key.Check+"#"+r.Key.Case]}
		if p, ok := m.planned(r.Key); ok {
			g.Gates = p.Decides
		}
		for _, f := range r.Figures {
			g.Values[f.Name] = f.Value
		}
		v.Metrics = append(v.Metrics, g)
	}
	return v
}

func (m *report) planned(key results.Key) (results.Planned, bool) {
	for _, p := range m.Run.Plan {
		if p.Key() == key {
			return p, true
		}
	}
	return results.Planned{}, false
}

// percentOf prints a figure as a change; one that is not there is unbounded or unknown.
func (g gateMetric) percentOf(name string) string {
	v, ok := g.Values[name]
	if !ok {
		return "–"
	}
	return signed(v)
}

func signed(v float64) string { return fmt.Sprintf("%+.2f %%", 100*v) }

// gateHead are the columns of the table of metrics.
var gateHead = []string{"metric", "change", "from", "to", "fails above", "passes below", "would have been found", "epochs", "verdict"}

// Cells are the row of a metric in that table, all but the verdict.
func (g gateMetric) Cells() []string {
	return []string{
		g.ID, g.percentOf("change"), g.percentOf("lower"), g.percentOf("upper"),
		g.percentOf("fail above"), g.percentOf("pass below"), g.percentOf("detectable"), fmt.Sprintf("%.0f", g.Values["epochs"]),
	}
}

// Word is the verdict of a metric.
func (g gateMetric) Word() string {
	word := map[results.Status]string{results.Pass: "pass", results.Fail: "regression"}[g.Status]
	if word == "" {
		word = g.Label()
	}
	if g.Reason != "" && g.Reason != "regression" {
		word += ": " + g.Reason
	}
	switch {
	case g.Known():
		word += ", accepted: " + g.Verdict.Expected
	case !g.Gates:
		word += " (advisory)"
	}
	return word
}

// gateFacts are what the head of every view says, the error rates first.
func (v gateView) gateFacts() []fact {
	facts := []fact{
		{"error rates of this gate", v.Sides.Rates},
		{"baseline", v.Sides.Baseline.Text()},
		{"candidate", v.Sides.Candidate.Text()},
		{"epochs", fmt.Sprintf("%d, after a pre-flight of %d with the baseline against itself; fresh processes of both sides in each", v.Epochs, v.Before)},
		{"seed", fmt.Sprint(v.Run.Seed)},
	}
	for _, text := range slices.Sorted(maps.Keys(v.Places)) {
		facts = append(facts, fact{"placed", fmt.Sprintf("%s (%d of the epochs)", text, v.Places[text])})
	}
	for _, name := range slices.Sorted(maps.Keys(v.Sides.Options.Floors)) {
		facts = append(facts, fact{"least fail margin of " + clean(name, false), signed(v.Sides.Options.Floors[name]) + ", which link orders alone reach on this host"})
	}
	if n := len(v.Sides.Identical); n > 0 {
		facts = append(facts, fact{"the same bytes on both sides", listed(v.Sides.Identical)})
	}
	for _, u := range v.Run.Unrunnable() {
		facts = append(facts, fact{"not judged", u.Summary() + ": " + u.Probe})
	}
	for _, d := range v.Sides.Builds.Listed {
		facts = append(facts, fact{"the builds differ", d})
	}
	return facts
}

// gateMarkdown is the comment on a pull request.
func (v gateView) gateMarkdown(p *paper) {
	p.say("**assay gate: %s.** %s\n", v.Outcome.Word, v.Outcome.Sentence)
	var rows [][]string
	for _, g := range v.Metrics {
		rows = append(rows, append(g.Cells(), g.Word()))
	}
	markdownTable(p, gateHead, rows)
	for _, f := range v.gateFacts() {
		p.say("- %s: %s", f.Name, prose(f.Value))
	}
	v.profileMarkdown(p)
	for _, d := range v.Damaged {
		p.say("- damaged: %s", prose(d))
	}
	if len(v.Rows) > 0 {
		p.say("\nAgain: %s\n", short(v.Rows[0].Why.Reproduce))
	}
	p.say("Bundle %s, %s.\n", short(v.Digest), short("assay "+v.Run.Tool.Version+" "+v.Run.Tool.Arch))
}

// Text is the change of an epoch.
func (d gateDot) Text() string { return signed(d.Change) }
