package reports

import (
	"bytes"
	"cmp"
	"embed"
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/assay-bench/assay/results"
)

// webpage is one file without script and without any reference outside itself: it opens from disk,
// prints, and follows the reader's light or dark scheme.
type webpage struct{}

var _ = add(webpage{})

func (webpage) Name() string { return "html" }
func (webpage) File() string { return "report.html" }

//go:embed page/*.tmpl
var pageFiles embed.FS

var pageTemplate = template.Must(template.New("report.tmpl").Funcs(template.FuncMap{
	"clause": clause, "seconds": seconds, "percentile": percentile, "plural": plural, "ranges": ranges,
}).ParseFS(pageFiles, "page/*.tmpl"))

const (
	maxCards = 500 // problems with their traffic; the tables list every one
	traffic  = 32 << 10
)

// page is what the template sees. Every string in it is clean; the template escapes.
type page struct {
	*report
	Meaning  string
	Steps    []step
	Asides   []string
	Cards    []cardGroup
	CutCards int
	Areas    []areaView
	Figures  []figureTable
	Plots    []plotView
	// Instrument is the measured error of the load generator, where it measured anything.
	Instrument string
	Faults     []fault
	Proof      *proofView
	Rerun      string
	Facts      []fact
}

type step struct{ Text, Command string }

type fact struct{ Name, Value string }

type cardGroup struct {
	Rule  results.Requirement
	Cards []card
}

type card struct {
	row
	Anchor, Traffic, Issue string
	Also                   []results.Requirement
}

type areaView struct {
	Name            string
	Tally           tally
	Open            bool
	Standard, House []rowView
	NotClaimed      []rowView
}

type rowView struct {
	row
	Anchor string
}

func (webpage) Write(w io.Writer, b *results.Bundle) error {
	m := build(b)
	if m.IsLoad() {
		return writeLoadPage(w, m, b)
	}
	if m.IsGate() {
		return writeGatePage(w, m, b)
	}
	p := page{
		report: m, Meaning: m.meaning(), Steps: m.steps(), Asides: m.asides(), Figures: figureTables(m.Rows), Faults: faults(m, b.Evidence),
		Proof: proofOf(m.Run), Rerun: rerun(m.Run), Facts: m.facts(),
	}
	if m.timed() || len(b.Histograms) > 0 {
		p.Instrument = m.Run.Calibration.Text()
	}
	anchors := p.deal()
	for _, a := range m.areas() {
		p.Areas = append(p.Areas, m.areaView(a, anchors))
	}
	var err error
	if p.Plots, err = plots(distributions(b)); err != nil {
		return fmt.Errorf("report.html: %w", err)
	}
	var out bytes.Buffer
	if err := pageTemplate.Execute(&out, p); err != nil {
		return fmt.Errorf("report.html: %w", err)
	}
	_, err = w.Write(out.Bytes())
	return err
}

// deal makes the cards of the problems and returns the anchor of each case.
func (p *page) deal() map[results.Key]string {
	anchors := map[results.Key]string{}
	for _, g := range p.problems() {
		cards := cardGroup{Rule: g.Rule}
		for _, r := range g.Rows {
			if len(anchors) == maxCards {
				p.CutCards++
				continue
			}
			anchor := fmt.Sprintf("problem-%d", len(anchors)+1)
			anchors[r.Key] = anchor
			c := card{row: r, Anchor: anchor, Traffic: transcript(r.Exchange, traffic), Issue: p.issue(r, traffic)}
			for _, q := range r.Rules {
				if q.ID != g.Rule.ID {
					c.Also = append(c.Also, q)
				}
			}
			cards.Cards = append(cards.Cards, c)
		}
		if len(cards.Cards) > 0 {
			p.Cards = append(p.Cards, cards)
		}
	}
	return anchors
}

func (m *report) areaView(name string, anchors map[results.Key]string) areaView {
	v := areaView{Name: name}
	for _, r := range m.rows(func(r row) bool { return r.Area == name }) {
		v.Tally.add(r)
		view := rowView{r, anchors[r.Key]}
		switch {
		case r.Status == results.NotClaimed:
			v.NotClaimed = append(v.NotClaimed, view)
		case r.Standard:
			v.Standard = append(v.Standard, view)
		default:
			v.House = append(v.House, view)
		}
	}
	v.Open = v.Tally.Fail+v.Tally.Broken+v.Tally.Inconclusive > 0
	return v
}

// Label words a row's status: a failure that does not count says so.
func (r row) Label() string {
	switch {
	case r.Known():
		return "known failing"
	case r.Status == results.Fail && !r.Counts:
		return "house fail"
	case r.Status == results.NotClaimed:
		return "not claimed"
	}
	return r.Status.String()
}

// Class is the style of a row's status.
func (r row) Class() string {
	if r.Status == results.Fail && !r.Red() {
		return "outside"
	}
	return r.Status.String()
}

// steps says what to do next, the most urgent first.
func (m *report) steps() []step {
	t := m.Tally
	var out []step
	add := func(when bool, text, command string) {
		if when {
			out = append(out, step{text, command})
		}
	}
	first := func(pick func(row) bool) string {
		for _, g := range m.problems() {
			for _, r := range g.Rows {
				if pick(r) {
					return r.Why.Reproduce
				}
			}
		}
		return ""
	}
	add(t.Red() > 0, "Start with the first failure below: each one quotes its clause, shows the traffic, and can be repeated alone.", first(row.Red))
	add(t.Broken > 0, "Broken checks are faults of assay or of this machine, never of the target. Repeat one; if it breaks again, report it to assay with its text.",
		first(func(r row) bool { return r.Status == results.Broken }))
	add(m.Killed && t.Unproven > 0, "The run left evidence but no verdicts. Judge what was recorded:", "assay judge DIR")
	add(!m.Killed && t.Unproven > 0, "Unproven checks did not finish. Repeat the run, with more time if it was cut short.", rerun(m.Run))
	add(t.Inconclusive > 0, "Inconclusive checks saw too little to decide. Repeat them on a quieter machine.",
		first(func(r row) bool { return r.Status == results.Inconclusive }))
	add(t.Executed == 0 && t.Broken+t.Unproven == 0, "Nothing was planned that could be executed. Look at the plan below and run again.", rerun(m.Run))
	add(len(m.Run.Target.Defects) > 0, "This stack carries planted defects. Run again without them before showing the result to anyone.", "")
	add(m.Outcome.Class == "pass", "Keep the whole bundle beside this page: anyone can judge its evidence again.", "assay judge DIR")
	return out
}

// meaning says in plain words what the outcome is, for a reader who sees assay for the first time.
func (m *report) meaning() string {
	switch m.Outcome.Class {
	case "fail":
		if m.Run.Kind == "prove" {
			return "The checks can not be trusted as they are: some let a planted defect through, or passed where nothing is implemented."
		}
		return "At least one clause that binds this target was broken where assay could see it."
	case "pass":
		if m.Run.Kind == "prove" {
			return "Each check turned red when its defect was planted, so a green result of this suite means something."
		}
		return "Within this plan the target did what the quoted clauses demand. It is no statement about anything that was left out."
	case "inconclusive":
		return "Nothing that counts failed, and yet this is no success that can be shown to anyone: read on for what is open."
	}
	return "This is neither a success nor a failure of the target: the run did not get far enough to say either."
}

// asides lists what was not tested, so that nobody takes silence for success.
func (m *report) asides() []string {
	var out []string
	if n := len(m.Run.LeftOut); n > 0 {
		out = append(out, fmt.Sprintf("Left out by the profile or the patterns, hence not tested: %s.", plural(n, "check")))
	}
	if n := len(m.Run.NotRun); n > 0 {
		out = append(out, fmt.Sprintf("Not possible on this machine, hence without a verdict: %s.", plural(n, "case")))
	}
	if n := m.Tally.NotClaimed; n > 0 {
		out = append(out, fmt.Sprintf("Not claimed by the target, hence neither success nor failure: %s.", plural(n, "case")))
	}
	return out
}

// facts lists environment and plan.
func (m *report) facts() []fact {
	r := m.Run
	var out []fact
	add := func(name, value string) {
		if value != "" {
			out = append(out, fact{name, value})
		}
	}
	add("target", named(r.Target))
	add("kind and role", strings.Trim(r.Target.Kind+", "+r.Target.Role, ", "))
	add("target file", r.Target.File)
	add("target digest", r.Target.Digest)
	add("claims", cmp.Or(strings.Join(r.Target.Features, ", "), "none"))
	add("planted defects", strings.Join(r.Target.Defects, ", "))
	for _, name := range slices.Sorted(maps.Keys(r.Target.Endpoints)) {
		add("endpoint "+name, r.Target.Endpoints[name])
	}
	add("plan", m.Plan())
	add("patterns", strings.Join(r.Patterns, " "))
	add("rows that decide", r.Basis)
	if r.Probing {
		add("claims probed", "yes")
	} else {
		add("claims probed", "no")
	}
	add("started", r.Started.UTC().Format("2006-01-02 15:04:05 UTC"))
	add("suite", strings.TrimSpace(r.Suite.Version+" "+r.Suite.Digest))
	add("assay", strings.TrimSpace(r.Tool.Version+" "+r.Tool.Revision))
	add("built for", strings.Trim(r.Tool.OS+"/"+r.Tool.Arch+", "+r.Tool.Go, "/, "))
	add("processor", fmt.Sprintf("%s, %d cores", cmp.Or(r.Host.CPU, "unknown"), r.Host.Cores))
	add("memory", fmt.Sprintf("%s GiB", round(float64(r.Host.Memory)/(1<<30))))
	add("kernel", r.Host.Kernel)
	add("cgroup", r.Host.Cgroup)
	add("allowed hosts", strings.Join(r.AllowHosts, ", "))
	add("run", r.ID)
	add("bundle", m.Digest)
	return out
}

// plotView is a distribution ready for the page.
type plotView struct {
	distribution
	ID      string
	SVG     template.HTML // our own drawing: the only markup that is not escaped
	Drawn   []curve
	Lines   []plotLine
	Damaged string
}

// plotLine is a line of the table under a plot: one level, a value a curve.
type plotLine struct {
	P      float64
	Values []string
}

func plots(all []distribution) ([]plotView, error) {
	var out []plotView
	for i, d := range all {
		v := plotView{distribution: d, ID: fmt.Sprintf("plot-%d", i+1), Drawn: d.drawn(), Damaged: d.Damaged}
		if len(v.Drawn) > 0 {
			svg, err := percentilePlot(v.ID, "Percentiles of "+d.Scenario, v.Drawn)
			if err != nil {
				return nil, err
			}
			v.SVG = svg
		}
		for _, p := range levels {
			if l, ok := d.at(p); ok {
				v.Lines = append(v.Lines, l)
			}
		}
		out = append(out, v)
	}
	return out, nil
}

// at is the values of all curves at one level; ok where any curve has it.
func (d distribution) at(p float64) (plotLine, bool) {
	l, ok := plotLine{P: p}, false
	for _, c := range d.Curves {
		value := "–"
		if i := slices.IndexFunc(c.Points, func(q point) bool { return q.P == p }); i >= 0 {
			value, ok = seconds(c.Points[i].Value), true
		}
		l.Values = append(l.Values, value)
	}
	return l, ok
}

// proofView is the proof of the suite with its scores spelled out.
type proofView struct {
	results.Proof
	Missed  int  // kills
	Planted int  // defects
	Other   bool // it proves another suite than the one that judged this run
	Scores  []score
}

type score struct {
	Target   string
	Executed int
	Counts   string
}

func proofOf(run results.Run) *proofView {
	if run.Proof == nil {
		return nil
	}
	v := &proofView{Proof: *run.Proof, Missed: survived(*run.Proof), Planted: planted(*run.Proof), Other: run.Proof.SuiteDigest != run.Suite.Digest}
	for _, h := range run.Proof.Hollow {
		var parts []string
		for _, k := range slices.Sorted(maps.Keys(h.Counts)) {
			parts = append(parts, fmt.Sprintf("%d %s", h.Counts[k], k))
		}
		v.Scores = append(v.Scores, score{h.Target, h.Executed, strings.Join(parts, ", ")})
	}
	return v
}
