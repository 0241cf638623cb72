package reports

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/assay-bench/assay/results"
)

// unsealed stands where the digest of a sealed bundle would.
const unsealed = "not sealed"

// report is the model that all formats share: the verdicts joined with their plan and their
// clauses, counted, and every string clean.
type report struct {
	Run      results.Run
	Digest   string // of the bundle, or unsealed
	Killed   bool   // no verdicts were written
	Torn     bool
	Rows     []row // by area, then by case
	Tally    tally
	Outcome  outcome
	verdicts []results.Verdict // as recorded, completed by what never finished
}

// row is one verdict with all that a reader needs to understand it.
type row struct {
	results.Verdict
	Key      results.Key // as recorded, for joins; never shown
	Name     string      // the clean key
	Area     string
	Title    string
	Standard bool
	Counts   bool // may turn the run red
	Rules    []results.Requirement
	Needs    []string
}

// Known says that a failure stands on the known-failing list.
func (r row) Known() bool { return r.Status == results.Fail && r.Verdict.Expected != "" }

// Red says that the verdict alone makes the run fail.
func (r row) Red() bool { return r.Status == results.Fail && !r.Known() && r.Counts }

// Problem says that the verdict needs a reader.
func (r row) Problem() bool {
	return r.Status == results.Fail || r.Status == results.Inconclusive || r.Status == results.Broken
}

// Level is the strongest level among the clauses that place the row: the standard ones of a
// standard row, all of a house row. Without any it is MUST, the strictest reading.
func (r row) Level() string {
	best := ""
	for _, rule := range r.Rules {
		if r.Standard && rule.Basis != "standard" {
			continue
		}
		if best == "" || strength(rule.Level) < strength(best) {
			best = rule.Level
		}
	}
	return cmp.Or(best, "MUST")
}

// Basis is standard or house.
func (r row) Basis() string { return basis(r.Standard) }

func basis(standard bool) string {
	if standard {
		return "standard"
	}
	return "house"
}

// Rule is the clause that the row is listed under: the strongest of its basis.
func (r row) Rule() results.Requirement {
	for _, rule := range r.Rules {
		if rule.Level == r.Level() && (!r.Standard || rule.Basis == "standard") {
			return rule
		}
	}
	if len(r.Rules) > 0 {
		return r.Rules[0]
	}
	return results.Requirement{}
}

func strength(level string) int { return slices.Index([]string{"MUST", "SHOULD", "MAY"}, level) }

// clause names the document and the section of a requirement.
func clause(q results.Requirement) string {
	if q.Section == "" {
		return q.Document
	}
	return q.Document + " section " + q.Section
}

// tally counts verdicts by status. Known and House are failures that do not count.
type tally struct {
	Total, Executed                                           int
	Pass, Fail, Inconclusive, NotClaimed, Broken, Unproven    int
	Known, House /* failures outside the count */, HouseOpens int
}

func (t *tally) add(r row) {
	t.Total++
	switch r.Status {
	case results.Pass:
		t.Pass++
	case results.Fail:
		t.Fail++
		if r.Known() {
			t.Known++
		} else if !r.Counts {
			t.House++
		}
	case results.Inconclusive:
		t.Inconclusive++
		if !r.Counts {
			t.HouseOpens++
		}
	case results.NotClaimed:
		t.NotClaimed++
	case results.Broken:
		t.Broken++
	case results.Unproven:
		t.Unproven++
	}
	t.Executed = t.Pass + t.Fail + t.Inconclusive
}

// Red counts the failures that make the run fail.
func (t tally) Red() int { return t.Fail - t.Known - t.House }

func count(rows []row) tally {
	var t tally
	for _, r := range rows {
		t.add(r)
	}
	return t
}

// build joins a bundle into the model.
func build(b *results.Bundle) *report {
	m := &report{
		Run: scrub(b.Run), Digest: cmp.Or(clean(b.Digest, false), unsealed),
		Killed: b.Verdicts == nil, Torn: b.Torn, verdicts: complete(b),
	}
	plan := map[results.Key]results.Planned{}
	for _, p := range b.Run.Plan {
		plan[p.Key()] = p
	}
	rules := map[string]results.Requirement{}
	for _, q := range b.Run.Requirements {
		rules[q.ID] = scrub(q)
	}
	counts := counting(b.Run, plan)
	for _, v := range m.verdicts {
		p, planned := plan[v.Key()]
		r := row{
			Verdict: scrub(v), Key: v.Key(), Area: area(v.Check, p.Area), Title: clean(p.Title, false),
			Standard: p.Standard || !planned, Counts: counts(v), Needs: scrub(p.Needs),
		}
		r.Name = r.Verdict.Key().String()
		r.Why.Reproduce = cmp.Or(r.Why.Reproduce, clean(p.Reproduce, false), rerun(m.Run))
		for _, id := range p.Covers {
			if q, ok := rules[id]; ok {
				r.Rules = append(r.Rules, q)
			}
		}
		m.Rows = append(m.Rows, r)
	}
	slices.SortStableFunc(m.Rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.Area, b.Area), a.Key.Compare(b.Key))
	})
	m.Tally = count(m.Rows)
	m.Outcome = decide(m, results.ExitOf(m.verdicts, counts))
	return m
}

// counting is Run.Counts with the plan looked up by key: the plain one searches the whole plan for
// each verdict.
func counting(run results.Run, plan map[results.Key]results.Planned) func(results.Verdict) bool {
	return func(v results.Verdict) bool {
		run.Plan = nil
		if p, ok := plan[v.Key()]; ok {
			run.Plan = []results.Planned{p}
		}
		return run.Counts(v.Key())
	}
}

// complete returns the recorded verdicts and an Unproven one for each planned case without. Cases
// that this host can not run have no verdict.
func complete(b *results.Bundle) []results.Verdict {
	var all []results.Verdict
	have := map[results.Key]bool{}
	if b.Verdicts != nil {
		all = slices.Clone(b.Verdicts.Verdicts)
	}
	for _, v := range all {
		have[v.Key()] = true
	}
	for _, n := range b.Run.NotRun {
		have[results.Key{Check: n.Check, Case: n.Case, Under: n.Under}] = true
	}
	for _, p := range b.Run.Plan {
		if !have[p.Key()] {
			have[p.Key()] = true
			all = append(all, results.Verdict{
				Check: p.Check, Case: p.Case, Under: p.Under, Status: results.Unproven, Reason: "no-verdict",
				Why: results.Why{
					Expected: "a verdict on every planned case", Observed: "the run left none for this one",
					Reproduce: p.Reproduce,
				},
			})
		}
	}
	slices.SortStableFunc(all, func(a, b results.Verdict) int { return a.Key().Compare(b.Key()) })
	return all
}

// area is the planned one, or the first part of the check's id for verdicts of the frame.
func area(check, planned string) string {
	if planned != "" {
		return clean(planned, false)
	}
	first, _, _ := strings.Cut(check, "/")
	return clean(cmp.Or(first, "frame"), false)
}

// areas returns the names in order.
func (m *report) areas() []string {
	var names []string
	for _, r := range m.Rows {
		names = append(names, r.Area)
	}
	return slices.Compact(names)
}

// rows returns the rows that a condition picks.
func (m *report) rows(pick func(row) bool) []row {
	var out []row
	for _, r := range m.Rows {
		if pick(r) {
			out = append(out, r)
		}
	}
	return out
}

// group is the problems of one requirement.
type group struct {
	Rule results.Requirement
	Rows []row
}

// problems groups all that needs a reader by requirement: failures that count first, then what the
// harness broke, what stayed open, and failures outside the count.
func (m *report) problems() []group {
	rank := func(r row) int {
		switch {
		case r.Red():
			return 0
		case r.Status == results.Broken:
			return 1
		case r.Status == results.Inconclusive:
			return 2
		case r.Known():
			return 4
		}
		return 3
	}
	rows := m.rows(row.Problem)
	slices.SortStableFunc(rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Rule().ID, b.Rule().ID))
	})
	var out []group
	at := map[string]int{}
	for _, r := range rows {
		q := r.Rule()
		i, ok := at[q.ID]
		if !ok {
			i = len(out)
			at[q.ID], out = i, append(out, group{Rule: q})
		}
		out[i].Rows = append(out[i].Rows, r)
	}
	return out
}

// rerun is the command that repeats the run.
func rerun(run results.Run) string {
	if (run.Kind == "k6" || run.Kind == "load") && len(run.Plan) > 0 {
		return run.Plan[0].Reproduce // one command makes all rows of such a run
	}
	args := []string{"assay", "run"}
	if len(run.Patterns) > 0 {
		args = append(args, run.Patterns...)
	} else if run.Profile != "" {
		args = append(args, run.Profile)
	}
	if run.Target.Kind != "reference" && run.Target.File != "" {
		args = append(args, "--target", run.Target.File)
	}
	if run.Basis == "all" {
		args = append(args, "--basis", "all")
	}
	args = append(args, "--seed", fmt.Sprint(run.Seed))
	for i, a := range args {
		args[i] = shell(a)
	}
	return strings.Join(args, " ")
}

// Plan says in one line what the run set out to do.
func (m *report) Plan() string {
	standard := 0
	for _, p := range m.Run.Plan {
		if p.Standard {
			standard++
		}
	}
	return fmt.Sprintf("%d planned (%d standard, %d house), %d left out, %d not runnable here, profile %s, seed %d",
		len(m.Run.Plan), standard, len(m.Run.Plan)-standard, len(m.Run.LeftOut), len(m.Run.NotRun),
		cmp.Or(m.Run.Profile, "none"), m.Run.Seed)
}

// spans returns how long each case was driven: from its first evidence to its last.
func spans(all []results.Evidence) map[results.Key]time.Duration {
	first := map[results.Key]time.Duration{}
	span := map[results.Key]time.Duration{}
	for _, e := range all {
		if _, ok := first[e.Key()]; !ok {
			first[e.Key()] = e.At
		}
		span[e.Key()] = max(e.At-first[e.Key()], 0)
	}
	return span
}
