package reports

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/assay-bench/assay/results"
)

// conformance writes a report in the shape of Gateway API's ConformanceReport (conformance/apis/v1)
// under an apiVersion of its own. It is stricter: nothing passed is a failure, what the harness did
// not decide is counted apart, and house rows stand apart from standard ones.
type conformance struct{}

var _ = add(conformance{})

func (conformance) Name() string { return "conformance" }
func (conformance) File() string { return "conformance.yaml" }

const unspecified = "unspecified" // the target file names no such thing

// part is the result over some rows of a profile.
type part struct {
	result, reason string
	tally          tally
	rows           []row
}

func (conformance) Write(w io.Writer, b *results.Bundle) error {
	m := build(b)
	y := &blockYAML{out: &strings.Builder{}}
	m.header(y)
	var cores []part
	profiles := y.list("profiles", len(m.areas()))
	for _, a := range m.areas() {
		core := m.part(func(r row) bool { return r.Area == a && r.Standard && !optional(r) }, true)
		extended := m.part(func(r row) bool { return r.Area == a && r.Standard && optional(r) }, false)
		house := m.part(func(r row) bool { return r.Area == a && !r.Standard }, false)
		cores = append(cores, core)
		p := profiles.item()
		p.set("name", strings.ToUpper(a))
		p.set("summary", fmt.Sprintf("Core tests: %s. Extended tests: %s. House rows: %s.", core.summary(), extended.summary(), house.summary()))
		core.write(p.sub("core"))
		if len(extended.rows) > 0 {
			e := p.sub("extended")
			extended.write(e)
			e.strings("supportedFeatures", slices.Sorted(slices.Values(m.Run.Target.Features)))
			e.strings("unsupportedFeatures", m.unsupported(extended.rows))
		}
		if len(house.rows) > 0 {
			house.write(p.sub("house"))
		}
	}
	result, reason := m.total(cores)
	y.set("result", result)
	y.set("reason", reason)
	m.hollow(y)
	_, err := io.WriteString(w, y.out.String())
	return err
}

func (m *report) header(y *blockYAML) {
	t := m.Run.Target
	y.set("apiVersion", "assay.conformance/v1")
	y.set("kind", "ConformanceReport")
	i := y.sub("implementation")
	i.set("organization", unspecified)
	i.set("project", cmp.Or(t.Name, unspecified))
	i.set("url", unspecified)
	i.set("version", cmp.Or(t.Version, unspecified))
	i.strings("contact", []string{unspecified})
	y.set("date", m.Run.Started.UTC().Format(time.RFC3339))
	y.set("suiteVersion", m.Run.Suite.Version)
	y.set("suiteDigest", m.Run.Suite.Digest)
	y.set("channel", cmp.Or(m.Run.Basis, "standard"))
	y.set("mode", cmp.Or(m.Run.Profile, "default"))
	y.set("bundle", m.Digest)
	y.set("plan", m.Plan())
	y.strings("plantedDefects", t.Defects)
}

func (m *report) part(pick func(row) bool, core bool) part {
	p := part{rows: m.rows(pick)}
	p.tally = count(p.rows)
	t := p.tally
	switch open := t.Inconclusive + t.Broken + t.Unproven; {
	case len(m.Run.Target.Defects) > 0:
		p.result, p.reason = "failure", uncertifiable
	case t.Fail > 0:
		p.result, p.reason = "failure", fmt.Sprintf("%d failed", t.Fail)
	case t.Pass == 0 && t.Total > 0 && t.NotClaimed == t.Total:
		p.result, p.reason = "failure", "nothing passed: none of these features is claimed"
	case t.Pass == 0:
		p.result, p.reason = "failure", "nothing passed"
	case open > 0:
		p.result, p.reason = "partial", fmt.Sprintf("%d not decided", open)
	case core && t.NotClaimed > 0:
		p.result, p.reason = "partial", fmt.Sprintf("%d skipped", t.NotClaimed)
	case t.Pass+t.NotClaimed == t.Total:
		p.result = "success"
	default:
		p.result, p.reason = "failure", "the counts do not add up"
	}
	return p
}

func (p part) summary() string {
	if len(p.rows) == 0 {
		return "none"
	}
	return fmt.Sprintf("%s with %d passed, %d failed, %d skipped, %d not decided", p.result, p.tally.Pass, p.tally.Fail,
		p.tally.NotClaimed, p.tally.Inconclusive+p.tally.Broken+p.tally.Unproven)
}

func (p part) write(y *blockYAML) {
	y.set("result", p.result)
	if p.reason != "" {
		y.set("reason", p.reason)
	}
	s := y.sub("statistics")
	s.number("Passed", p.tally.Pass)
	s.number("Skipped", p.tally.NotClaimed)
	s.number("Failed", p.tally.Fail)
	s.number("Inconclusive", p.tally.Inconclusive)
	s.number("Broken", p.tally.Broken)
	s.number("Unproven", p.tally.Unproven)
	for _, list := range []struct {
		name   string
		status results.Status
	}{
		{"skippedTests", results.NotClaimed}, {"failedTests", results.Fail}, {"inconclusiveTests", results.Inconclusive},
		{"brokenTests", results.Broken}, {"unprovenTests", results.Unproven},
	} {
		var names []string
		for _, r := range p.rows {
			if r.Status == list.status {
				names = append(names, r.Name)
			}
		}
		if len(names) > 0 {
			y.strings(list.name, names)
		}
	}
}

// optional says that a standard recommends or permits the row; everything else belongs to the core.
func optional(r row) bool { return r.Level() == "SHOULD" || r.Level() == "MAY" }

// unsupported lists what the skipped rows would have needed and the target does not claim.
func (m *report) unsupported(rows []row) []string {
	missing := map[string]bool{}
	for _, r := range rows {
		for _, f := range r.Needs {
			if r.Status == results.NotClaimed && !slices.Contains(m.Run.Target.Features, f) {
				missing[f] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(missing))
}

// total is the worst result of the cores; without one nothing was shown.
func (m *report) total(cores []part) (result, reason string) {
	counted := map[string]int{}
	for _, c := range cores {
		counted[c.result]++
	}
	n := len(cores)
	switch {
	case len(m.Run.Target.Defects) > 0:
		return "failure", uncertifiable
	case n == 0 || m.Tally.Pass == 0:
		return "failure", "nothing passed"
	case counted["failure"] > 0:
		return "failure", fmt.Sprintf("the core of %d of %s failed", counted["failure"], plural(n, "profile"))
	case counted["success"] == n:
		return "success", fmt.Sprintf("the core of all of %s succeeded", plural(n, "profile"))
	}
	return "partial", fmt.Sprintf("the core of %d of %s is partial", counted["partial"], plural(n, "profile"))
}

// hollow prints what targets that implement nothing scored, so that a success can be weighed.
func (m *report) hollow(y *blockYAML) {
	if m.Run.Proof == nil {
		y.set("proof", "none given for this suite: run assay prove")
		return
	}
	y.set("proof", fmt.Sprintf("%d kills by %d planted defects tried, %d missed", len(m.Run.Proof.Defects), planted(*m.Run.Proof), survived(*m.Run.Proof)))
	list := y.list("hollowTargets", len(m.Run.Proof.Hollow))
	for _, h := range m.Run.Proof.Hollow {
		i := list.item()
		i.set("target", h.Target)
		i.number("executed", h.Executed)
		i.number("passed", h.Counts[results.Pass.String()])
	}
}

// blockYAML writes block YAML in which every string is a JSON string, so that none of 1.10, no and
// 2026-01-01 changes its type in a reader.
type blockYAML struct {
	out    *strings.Builder
	indent string
	first  string // stands in place of the indent of the next line: the dash of a list item
}

func (y *blockYAML) line(s string) {
	y.out.WriteString(cmp.Or(y.first, y.indent) + s + "\n")
	y.first = ""
}

func (y *blockYAML) set(key, value string)    { y.line(key + ": " + quote(value)) }
func (y *blockYAML) number(key string, n int) { y.line(fmt.Sprintf("%s: %d", key, n)) }
func (y *blockYAML) nested(indent string) *blockYAML {
	return &blockYAML{out: y.out, indent: y.indent + indent}
}

func (y *blockYAML) sub(key string) *blockYAML {
	y.line(key + ":")
	return y.nested("  ")
}

// list begins a list of n maps; each item is written through item.
func (y *blockYAML) list(key string, n int) *blockYAML {
	if n == 0 {
		y.line(key + ": []")
	} else {
		y.line(key + ":")
	}
	return y.nested("")
}

func (y *blockYAML) item() *blockYAML {
	i := y.nested("  ")
	i.first = y.indent + "- "
	return i
}

func (y *blockYAML) strings(key string, all []string) {
	if len(all) == 0 {
		y.line(key + ": []")
		return
	}
	y.line(key + ":")
	for _, s := range all {
		y.line("- " + quote(s))
	}
}

// quote writes a string as JSON, with all that is not plain ASCII as it is: clean has been here.
func quote(s string) string {
	raw, err := results.Marshal(s)
	if err != nil {
		return `""`
	}
	return string(raw)
}
