package sandbox

import (
	"fmt"
	"slices"
	"strings"

	"github.com/assay-bench/assay/results"
	scenario "github.com/assay-bench/assay/scenarios/sandbox"
	"github.com/assay-bench/assay/suites"
)

// story is the evidence of a case, sorted.
type story struct {
	calls   map[string]scenario.Call
	order   []string // the names of calls as they were made
	series  map[string]scenario.Series
	folders map[string]scenario.Folder
	damages map[string]scenario.Damage
	clocks  map[string]Clock
	runs    []scenario.Execution
	cites   []uint64
}

// maxCites bounds what a verdict cites; the bundle has the rest.
const maxCites = 64

// tell reads the evidence. What can not be decoded is an error of the harness, which wrote it.
func tell(evidence []results.Evidence) (*story, error) {
	s := &story{
		calls: map[string]scenario.Call{}, series: map[string]scenario.Series{}, folders: map[string]scenario.Folder{},
		damages: map[string]scenario.Damage{}, clocks: map[string]Clock{},
	}
	for _, e := range evidence {
		known, err := s.take(e)
		if err != nil {
			return nil, err
		}
		if known && len(s.cites) < maxCites {
			s.cites = append(s.cites, e.Seq)
		}
	}
	return s, nil
}

func (s *story) take(e results.Evidence) (known bool, err error) {
	switch e.Kind {
	case scenario.Called:
		return true, keep(e, s.calls, func(c scenario.Call) string {
			s.order = append(s.order, c.Name)
			return c.Name
		})
	case scenario.Tried:
		return true, keep(e, s.series, func(x scenario.Series) string { return x.Name })
	case scenario.Examined:
		return true, keep(e, s.folders, func(f scenario.Folder) string { return f.Name })
	case scenario.Damaged:
		return true, keep(e, s.damages, func(d scenario.Damage) string { return d.Name })
	case clocked:
		return true, keep(e, s.clocks, func(c Clock) string { return c.Name })
	case scenario.Ran:
		var x scenario.Execution
		err := e.Decode(&x)
		s.runs = append(s.runs, x)
		return true, err
	}
	return false, nil
}

// keep decodes evidence and puts it under its name, the first one of that name.
func keep[T any](e results.Evidence, into map[string]T, name func(T) string) error {
	var v T
	if err := e.Decode(&v); err != nil {
		return err
	}
	n := name(v)
	if _, twice := into[n]; !twice {
		into[n] = v
	}
	return nil
}

// invoked decodes the answer to a call that succeeded.
func (s *story) invoked(name string) (a scenario.Invoked, ok bool) {
	c, there := s.calls[name]
	return a, there && c.Read(&a)
}

// returned tells whether a call returned exactly these results.
func (s *story) returned(name string, want ...string) bool {
	a, ok := s.invoked(name)
	return ok && slices.Equal(a.Results, want)
}

// trap decodes the answer to a call that trapped.
func (s *story) trap(name string) (p scenario.Problem, ok bool) {
	p, ok = s.calls[name].Problem()
	return p, ok && p.Status == statusTrap && p.Class != ""
}

const (
	statusTrap    = 422
	statusRefused = 403
	statusBusy    = 429
	statusUnknown = 404
)

// silent names a call that was not answered as the API says, or one that was never made.
func (s *story) silent(names ...string) string {
	for _, n := range names {
		if c, there := s.calls[n]; !there || !c.Answered() {
			return n
		}
	}
	return ""
}

// counted reads the counters of the one tenant, or of the one with a tag, in a recorded answer.
func (s *story) counted(name, tag string) (t scenario.TenantStats, all scenario.Stats, ok bool) {
	if c, there := s.calls[name]; !there || !c.Read(&all) {
		return t, all, false
	}
	for _, id := range sortedNames(all.Tenants) {
		if strings.HasSuffix(id, "-"+tag) {
			return all.Tenants[id], all, true
		}
	}
	return t, all, false
}

// describe says in words how a call was answered.
func (s *story) describe(name string) string {
	c, there := s.calls[name]
	if !there {
		return name + " was not asked"
	}
	return name + ": " + answered(c)
}

func answered(c scenario.Call) string {
	if !c.Answered() {
		return "no answer of the API, " + c.Broken
	}
	if p, ok := c.Problem(); ok {
		text := fmt.Sprintf("status %d", p.Status)
		for _, part := range []struct{ what, text string }{{"step", p.Step}, {"reason", p.Reason}, {"class", p.Class}, {"instance", p.Instance}} {
			if part.text != "" {
				text += fmt.Sprintf(", %s %.200q", part.what, part.text)
			}
		}
		return text
	}
	text := fmt.Sprintf("status %d", c.Status)
	var in scenario.Invoked
	if c.Read(&in) && (in.Instance != "" || len(in.Results) > 0) {
		text += fmt.Sprintf(", results %.120q of version %d", strings.Join(in.Results, " "), in.Version)
	}
	return text
}

// tale describes calls one after the other, all of them where none are named.
func (s *story) tale(names ...string) string {
	if len(names) == 0 {
		names = s.order
	}
	var parts []string
	for _, n := range names {
		if _, there := s.calls[n]; there {
			parts = append(parts, s.describe(n))
		}
	}
	if len(parts) == 0 {
		return "nothing was asked"
	}
	return strings.Join(parts, "; ")
}

func (s *story) pass(observed string) suites.Finding { return suites.Passing("", observed, s.cites) }

func (s *story) fail(reason, observed string) suites.Finding {
	return suites.Failing(reason, "", observed, s.cites)
}

// unsure is for a case in which what it is about did not happen.
func (s *story) unsure(observed string) suites.Finding {
	return suites.Finding{Status: results.Inconclusive, Reason: reasonNoBite, Observed: observed, Cites: s.cites}
}

func (s *story) noisy(observed string) suites.Finding { return suites.TooNoisy("", observed, s.cites) }

// verdict passes without a reason, and fails with one.
func (s *story) verdict(reason, observed string) suites.Finding {
	if reason == "" {
		return s.pass(observed)
	}
	return s.fail(reason, observed)
}

// unprepared describes a call of the preparation that failed, or tells that there was none.
func (s *story) unprepared() string {
	prepared := 0
	for _, n := range s.order {
		if !strings.HasPrefix(n, setup) {
			continue
		}
		prepared++
		if !s.calls[n].Good() {
			return s.describe(n)
		}
	}
	if prepared == 0 {
		return "nothing was set up"
	}
	return ""
}

// judging makes a judge of a function that is asked only where the preparation succeeded.
func judging(want string, f func(suites.Trace, *story) suites.Finding) func(suites.Trace) suites.Finding {
	return told(want, func(t suites.Trace, s *story) suites.Finding {
		if why := s.unprepared(); why != "" {
			return s.fail(reasonNotSet, why)
		}
		return f(t, s)
	})
}

// judgingRuns makes a judge of cases of the command run-wasm.
func judgingRuns(want string, f func(suites.Trace, *story) suites.Finding) func(suites.Trace) suites.Finding {
	return told(want, func(t suites.Trace, s *story) suites.Finding {
		if len(s.runs) == 0 {
			return s.fail(reasonNoAnswer, "nothing was run")
		}
		for _, r := range s.runs {
			if r.Broken != "" || r.Late {
				return s.fail(reasonNoAnswer, describeRun(r))
			}
		}
		return f(t, s)
	})
}

// either makes the judge of a check with both kinds of cases.
func either(api, run func(suites.Trace) suites.Finding) func(suites.Trace) suites.Finding {
	return func(t suites.Trace) suites.Finding {
		if byRun(t.Key.Case) {
			return run(t)
		}
		return api(t)
	}
}

func told(want string, f func(suites.Trace, *story) suites.Finding) func(suites.Trace) suites.Finding {
	return func(t suites.Trace) suites.Finding {
		s, err := tell(t.Evidence)
		if err != nil {
			return suites.Finding{Observed: err.Error()} // not in the set of reasons: Broken
		}
		out := f(t, s)
		out.Expected = want
		return out
	}
}

func describeRun(r scenario.Execution) string {
	switch {
	case r.Broken != "":
		return r.Call() + ": " + r.Broken
	case r.Late:
		return r.Call() + " did not end in time"
	}
	text := fmt.Sprintf("%s: %s, printed %.120q", r.Call(), r.State, r.Output)
	if r.Exit != 0 {
		text += fmt.Sprintf(", said %.200q", r.Errors)
	}
	return text
}

func (s *story) runTale() string {
	var parts []string
	for _, r := range s.runs {
		parts = append(parts, describeRun(r))
	}
	if len(parts) == 0 {
		return "nothing was run"
	}
	return strings.Join(parts, "; ")
}

// explain says in a line what a piece of evidence is.
func explain(e results.Evidence) string {
	switch e.Kind {
	case scenario.Called:
		var c scenario.Call
		if e.Decode(&c) == nil {
			return fmt.Sprintf("%s %s: %s", c.Method, c.Path, answered(c))
		}
	case scenario.Ran:
		var r scenario.Execution
		if e.Decode(&r) == nil {
			return describeRun(r)
		}
	case scenario.Tried:
		var x scenario.Series
		if e.Decode(&x) == nil {
			return fmt.Sprintf("%s: %d calls", x.Name, len(x.Each))
		}
	}
	return ""
}
