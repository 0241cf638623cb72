package reports

import (
	"fmt"
	"strings"
)

// loadText is the summary of a load on a terminal, the verdict line last.
func (v loadView) loadText(say func(string, ...any)) {
	say("%-12s %s", "load", named(v.Run.Target))
	for _, f := range v.loadFacts() {
		say("%-12s %s", f.Name, f.Value)
	}
	if v.Sweep() {
		textTable(say, stepHead, v.StepRows())
		say("%s Ended because %s.", v.KneeText(), v.Curve.Stopped)
	} else if l, ok := v.Last(); ok {
		var rows [][]string
		for _, r := range l.Result.Latency() {
			rows = append(rows, append([]string{r.Name}, r.Values...))
		}
		textTable(say, append([]string{""}, latencyHead...), rows)
		for _, n := range l.Result.Nodes {
			say("%-12s %d of %d: %s, lateness p99 %s, %s", "node", n.Segment.Node, n.Segment.Of, n.Counts.Account(), nanos(n.LatenessP99), n.validity())
		}
		for _, k := range l.Result.Kinds() {
			say("%-12s %d × %s", "error", k.Count, k.Kind)
		}
	}
	for _, r := range v.thresholdRows() {
		say("%-12s %s: %s", r.Label(), r.Why.Expected, r.Why.Observed)
	}
	for _, d := range v.Damaged {
		say("%-12s %s", "damaged", d)
	}
	say("%s", v.verdictLine())
}

func (n loadNode) validity() string {
	if n.Valid {
		return "VALID"
	}
	return "INVALID: " + strings.Join(n.Reasons, ", ")
}

// LatenessSeconds is the lateness in seconds.
func (n loadNode) LatenessSeconds() float64 { return float64(n.LatenessP99) / 1e9 }

// textTable writes aligned columns: the first to the left, numbers to the right.
func textTable(say func(string, ...any), head []string, rows [][]string) {
	width := make([]int, len(head))
	for _, row := range append([][]string{head}, rows...) {
		for i, cell := range row {
			width[i] = max(width[i], len([]rune(cell)))
		}
	}
	for _, row := range append([][]string{head}, rows...) {
		var b strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", width[i]-len([]rune(cell)))
			if i == 0 {
				b.WriteString(cell + pad)
				continue
			}
			b.WriteString("  " + pad + cell)
		}
		say("%s", strings.TrimRight(b.String(), " "))
	}
}

// loadMarkdown is the summary of a load for a pull request.
func (v loadView) loadMarkdown(p *paper) {
	p.say("**assay load: %s.** %s\n", v.Outcome.Word, v.Outcome.Sentence)
	p.say("Target %s.\n", short(named(v.Run.Target)))
	for _, f := range v.loadFacts() {
		p.say("- %s: %s", f.Name, prose(f.Value))
	}
	p.say("")
	v.loadTables(p)
	if rows := v.thresholdRows(); len(rows) > 0 {
		p.say("| threshold | observed | verdict |\n|---|---|---|")
		for _, r := range rows {
			p.say("| %s | %s | %s |", cell(short(r.Why.Expected)), cell(prose(r.Why.Observed)), r.Label())
		}
		p.say("")
	}
	for _, d := range v.Damaged {
		p.say("Damaged: %s\n", prose(d))
	}
	if len(v.Rows) > 0 {
		p.say("Again: %s\n", short(v.Rows[0].Why.Reproduce))
	}
	p.say("Bundle %s, %s.\n", short(v.Digest), short("assay "+v.Run.Tool.Version+" "+v.Run.Tool.Arch))
	v.markMarkdown(p)
}

func (v loadView) loadTables(p *paper) {
	if v.Sweep() {
		markdownTable(p, stepHead, v.StepRows())
		p.say("%s Ended because %s.\n", prose(v.KneeText()), prose(v.Curve.Stopped))
		return
	}
	l, ok := v.Last()
	if !ok {
		return
	}
	var rows [][]string
	for _, r := range l.Result.Latency() {
		rows = append(rows, append([]string{r.Name}, r.Values...))
	}
	markdownTable(p, append([]string{"latency"}, latencyHead...), rows)
	if kinds := l.Result.Kinds(); len(kinds) > 0 {
		rows = nil
		for _, k := range kinds {
			rows = append(rows, []string{k.Kind, fmt.Sprint(k.Count)})
		}
		markdownTable(p, []string{"error", "count"}, rows)
	}
	if len(l.Result.Nodes) > 0 {
		rows = nil
		for _, n := range l.Result.Nodes {
			rows = append(rows, []string{fmt.Sprintf("%d of %d", n.Segment.Node, n.Segment.Of), n.Counts.Account(), nanos(n.LatenessP99), n.validity()})
		}
		markdownTable(p, []string{"generator", "account", "lateness p99", "measurement"}, rows)
	}
}

func markdownTable(p *paper, head []string, rows [][]string) {
	p.say("| %s |\n|---|%s", strings.Join(head, " | "), strings.Repeat("--:|", len(head)-1))
	for _, row := range rows {
		p.say("| %s |", strings.Join(mapped(row, func(s string) string { return cell(prose(s)) }), " | "))
	}
	p.say("")
}
