package reports

import (
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/assay-bench/assay/results"
)

// markdown is the step summary and the pull request comment: the verdict first, at most 60 kB, what
// is least urgent cut first and the cut stated.
type markdown struct{}

var _ = add(markdown{})

func (markdown) Name() string { return "markdown" }
func (markdown) File() string { return "report.md" }

const (
	maxMarkdown = 60_000 // bytes; a comment may have 65,536 characters
	tailRoom    = 2_000  // bytes kept for the end and for the statements of what was cut
	issueRoom   = 24_000 // bytes that whole failures may take before they become one line each
	rowRoom     = 48_000 // bytes at which the lines of failures stop
)

func (markdown) Write(w io.Writer, b *results.Bundle) error {
	m := build(b)
	p := &paper{}
	if m.IsGate() {
		viewGate(m, b.Evidence).gateMarkdown(p)
		_, err := io.WriteString(w, p.String())
		return err
	}
	if m.IsLoad() {
		viewLoad(m, b.Evidence).loadMarkdown(p)
		_, err := io.WriteString(w, p.String())
		return err
	}
	m.headMarkdown(p)
	m.problemsMarkdown(p)
	m.figuresMarkdown(p)
	p.details("Unproven", "check", m.names(results.Unproven))
	p.details("Not run here", "check: what the probe said", m.notRun())
	p.details("Not claimed", "check", m.names(results.NotClaimed))
	p.details("Left out of the plan", "check: why", m.leftOut())
	p.details("Passed", "check", m.names(results.Pass))
	m.tailMarkdown(p)
	_, err := io.WriteString(w, p.String())
	return err
}

// paper is Markdown with a budget: what does not fit is refused, and the caller says so.
type paper struct{ strings.Builder }

// fits says whether n more bytes stay below a limit.
func (p *paper) fits(n, limit int) bool { return p.Len()+n <= limit }

func (p *paper) say(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

// details writes a collapsed list, as much of it as fits, and how many lines were cut.
func (p *paper) details(title, what string, lines []string) {
	const frame = 400 // bytes of the summary, the end and the statement of the cut
	if len(lines) == 0 {
		return
	}
	end := maxMarkdown - tailRoom
	if !p.fits(frame, end) {
		if p.fits(frame, end+tailRoom/2) {
			p.say("%s: all %d lines cut.\n", title, len(lines))
		}
		return
	}
	p.say("<details><summary>%s (%d)</summary>\n", title, len(lines))
	for i, l := range lines {
		if !p.fits(len(l)+frame, end) {
			p.say("- cut: %d of %d lines not shown (%s)", len(lines)-i, len(lines), what)
			break
		}
		p.say("- %s", l)
	}
	p.say("\n</details>\n")
}

func (m *report) headMarkdown(p *paper) {
	p.say("**assay: %s.** %s\n", m.Outcome.Word, m.Outcome.Sentence)
	if len(m.Run.Target.Defects) > 0 {
		p.say("**%s**\n", uncertifiable)
	}
	p.say("Target %s, suite %s. Plan: %s.\n", short(named(m.Run.Target)), short(m.Run.Suite.Version), prose(m.Plan()))
	if len(m.Rows) > 0 {
		p.say("| area | rows | pass | fail | known or house fail | inconclusive | broken | unproven | not claimed |")
		p.say("|---|---|--:|--:|--:|--:|--:|--:|--:|")
	}
	const most = 40
	for i, a := range m.areas() {
		if i == most {
			p.say("\n%d further areas cut.", len(m.areas())-most)
			break
		}
		for _, standard := range []bool{true, false} {
			t := count(m.rows(func(r row) bool { return r.Area == a && r.Standard == standard }))
			if t.Total > 0 {
				p.say("| %s | %s | %d | %d | %d | %d | %d | %d | %d |", cell(short(a)), basis(standard),
					t.Pass, t.Red(), t.Known+t.House, t.Inconclusive, t.Broken, t.Unproven, t.NotClaimed)
			}
		}
	}
	p.say("")
}

// short is a code span for a table or a heading: long strings are cut once more.
func short(s string) string {
	const most = 120
	runes := []rune(s)
	if len(runes) > most {
		s = string(runes[:most]) + "…"
	}
	return code(s)
}

// problemsMarkdown writes whole failures while there is room, then a line each, then their number.
func (m *report) problemsMarkdown(p *paper) {
	var rows []row
	for _, g := range m.problems() {
		rows = append(rows, g.Rows...)
	}
	if len(rows) == 0 {
		return
	}
	p.say("### What needs attention\n")
	i := 0
	for ; i < len(rows); i++ {
		part := m.problemMarkdown(rows[i])
		if !p.fits(len(part), issueRoom) {
			break
		}
		p.WriteString(part)
	}
	if i == len(rows) {
		return
	}
	p.say("| status | check | reason | reproduce |\n|---|---|---|---|")
	for ; i < len(rows); i++ {
		r := rows[i]
		l := fmt.Sprintf("| %s | %s | %s | %s |", r.Status, cell(short(r.Name)), cell(short(r.Reason)), cell(short(r.Why.Reproduce)))
		if !p.fits(len(l), rowRoom) {
			break
		}
		p.say("%s", l)
	}
	if i < len(rows) {
		p.say("\nCut: %d of %d rows that need attention are not shown; report.html has them all.", len(rows)-i, len(rows))
	}
	p.say("")
}

// problemMarkdown keeps clause and command in sight and collapses what can be pasted.
func (m *report) problemMarkdown(r row) string {
	const traffic = 4 << 10 // bytes
	head := r.Status.String()
	switch {
	case r.Known():
		head = "known failing"
	case r.Status == results.Fail && !r.Counts:
		head = "house fail, does not count"
	}
	text := fmt.Sprintf("**%s** %s %s\n\n", head, code(r.Name), code(r.Reason))
	if q := r.Rule(); q.ID != "" {
		text += fmt.Sprintf("%s, %s: %s\n\n", prose(q.Level), prose(clause(q)), prose(q.Statement))
	}
	return text + fmt.Sprintf("Reproduce: %s\n\n<details><summary>Ready to paste into an issue</summary>\n\n%s\n</details>\n\n",
		code(r.Why.Reproduce), m.issue(r, traffic))
}

func (m *report) figuresMarkdown(p *paper) {
	const most = 30
	tables := figureTables(m.Rows)
	if len(tables) == 0 || !p.fits(1_000, rowRoom) {
		return
	}
	p.say("### Measured\n")
	if m.timed() {
		p.say("%s\n", prose(m.Run.Calibration.Text()))
	}
	shown := 0
	for _, t := range tables {
		head := "| case | " + strings.Join(mapped(t.Names, func(s string) string { return cell(short(s)) }), " | ") + " | verdict |"
		if shown == most || !p.fits(len(head)+200, rowRoom) {
			break
		}
		p.say("%s\n|---|%s---|", head, strings.Repeat("--:|", len(t.Names)))
		for _, l := range t.Lines {
			text := "| " + cell(short(l.Name)) + " | " + strings.Join(mapped(l.Values, func(s string) string { return cell(prose(s)) }), " | ") + " | " + l.Status.String() + " |"
			if !p.fits(len(text)+200, rowRoom) {
				break
			}
			p.say("%s", text)
			shown++
		}
		p.say("")
	}
	if total := len(m.rows(func(r row) bool { return len(r.Figures) > 0 })); shown < total {
		p.say("Cut: %d of %d measured cases are not shown.\n", total-shown, total)
	}
}

func mapped(all []string, f func(string) string) []string {
	out := slices.Clone(all)
	for i, s := range out {
		out[i] = f(s)
	}
	return out
}

func (m *report) names(s results.Status) []string {
	var out []string
	for _, r := range m.rows(func(r row) bool { return r.Status == s }) {
		out = append(out, code(r.Name))
	}
	return out
}

func (m *report) notRun() []string {
	var out []string
	for _, n := range m.Run.NotRun {
		out = append(out, code(results.Key{Check: n.Check, Case: n.Case, Under: n.Under}.String())+": "+code(n.Probe))
	}
	return out
}

func (m *report) leftOut() []string {
	var out []string
	for _, l := range m.Run.LeftOut {
		out = append(out, code(l.Check)+": "+code(l.Why))
	}
	return out
}

func (m *report) tailMarkdown(p *paper) {
	p.say("Run again: %s. Judge the evidence: `assay judge DIR`. Full report: `report.html` in the bundle.\n", short(rerun(m.Run)))
	p.say("Bundle %s, %s.\n", short(m.Digest), short("assay "+m.Run.Tool.Version+" "+m.Run.Tool.Arch))
	m.markMarkdown(p)
}

// markMarkdown ends the text with the marker that a later comment on the same target is found by.
func (m *report) markMarkdown(p *paper) {
	key := sha256.Sum256([]byte(m.Run.Target.Name + "\x00" + m.Run.Profile))
	p.say("<!-- assay-report %x -->", key[:6])
}
