package reports

import (
	"fmt"
	"io"
	"strings"

	"github.com/assay-bench/assay/results"
)

// text is the summary at the end of a run: what needs a reader first, the verdict line last.
type text struct{}

var _ = add(text{})

func (text) Name() string { return "text" }

func (text) Write(w io.Writer, b *results.Bundle) error {
	m := build(b)
	var out strings.Builder
	say := func(format string, args ...any) {
		for i, a := range args {
			if s, ok := a.(string); ok {
				args[i] = oneLine(s)
			}
		}
		fmt.Fprintf(&out, format+"\n", args...)
	}
	if m.IsLoad() {
		viewLoad(m, b.Evidence).loadText(say)
		_, err := io.WriteString(w, out.String())
		return err
	}
	for _, g := range m.problems() {
		for _, r := range g.Rows {
			m.explain(say, r)
		}
	}
	m.unfinished(say)
	for _, u := range m.Run.Unrunnable() {
		say("not run here  %s: %s", u.Summary(), u.Probe)
	}
	for _, a := range m.areas() {
		t := count(m.rows(func(r row) bool { return r.Area == a }))
		say("%-12s  %s", a, t.Line())
	}
	say("plan    %s", m.Plan())
	say("suite   %s %s", m.Run.Suite.Version, m.Run.Suite.Digest)
	say("target  %s", named(m.Run.Target))
	say("bundle  %s", m.Digest)
	say("%s", m.verdictLine())
	_, err := io.WriteString(w, out.String())
	return err
}

func (m *report) explain(say func(string, ...any), r row) {
	aside := ""
	switch {
	case r.Known():
		aside = " (known failing: " + r.Verdict.Expected + ")"
	case !r.Counts:
		aside = " (house rule, does not count)"
	}
	say("%-12s  %s: %s%s", r.Status.String(), r.Name, r.Reason, aside)
	if q := r.Rule(); q.ID != "" {
		say("  clause      %s %s, %s: %s", q.Level, q.ID, clause(q), q.Statement)
	}
	if r.Why.Expected != "" {
		say("  expected    %s", r.Why.Expected)
	}
	if r.Why.Observed != "" {
		say("  observed    %s", r.Why.Observed)
	}
	if len(r.Cites) > 0 {
		say("  evidence    %s", ranges(r.Cites))
	}
	say("  reproduce   %s", r.Why.Reproduce)
}

// unfinished lists what never came to a verdict; of a killed run that may be all, so it is cut.
func (m *report) unfinished(say func(string, ...any)) {
	const most = 20
	rows := m.rows(func(r row) bool { return r.Status == results.Unproven })
	for i, r := range rows {
		if i == most {
			say("unproven      and %d more", len(rows)-most)
			return
		}
		say("unproven      %s: %s", r.Name, r.Reason)
	}
}

// Line prints the counts that are not zero; pass is always there.
func (t tally) Line() string {
	parts := []string{fmt.Sprintf("%d pass", t.Pass)}
	for _, c := range t.Chips()[1:] {
		if c.Count > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", c.Count, c.Label))
		}
	}
	return strings.Join(parts, ", ")
}

// chip is a count with its name.
type chip struct {
	Label, Class string
	Count        int
}

// Chips lists every count, failures outside the count apart from those that count.
func (t tally) Chips() []chip {
	return []chip{
		{"pass", "pass", t.Pass},
		{"fail", "fail", t.Red()},
		{"known failing", "outside", t.Known},
		{"house fail", "outside", t.House},
		{"inconclusive", "inconclusive", t.Inconclusive},
		{"broken", "broken", t.Broken},
		{"unproven", "unproven", t.Unproven},
		{"not claimed", "not-claimed", t.NotClaimed},
	}
}
