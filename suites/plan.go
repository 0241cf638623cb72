package suites

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"sort"
	"strings"
	"time"

	"github.com/agnivade/levenshtein"

	"github.com/assay-bench/assay/results"
)

// Selection says which cases to plan.
type Selection struct {
	Patterns []string // check[#case][@fault]; check may be an area or a glob; none: all
	Profile  string   // see Profiles
	// Barred gives the reason why a case can not run on this host, or an empty string.
	Barred func(Check, results.Key) string
	// Reproduce gives the command that runs one case alone.
	Reproduce func(results.Key) string
	Probing   bool // plan the probes of the claims that the chosen checks need
}

// Plan is what a run sets out to do.
type Plan struct {
	Planned      []results.Planned
	Requirements []results.Requirement
	LeftOut      []results.LeftOut
	NotRun       []results.NotRun
	Expected     time.Duration // rough, on one worker an exclusive case and eight the others
}

// Profile picks checks by area and cost.
type Profile struct {
	Name    string
	Title   string
	Areas   []string      // none: all
	MaxTime time.Duration // of one case; 0: no bound
	Faults  bool
}

// Profiles lists the profiles; the first one is the default.
func Profiles() []Profile {
	return []Profile{
		{Name: "quick", Title: "a subset of every area, picked by cost: at most 90 s", MaxTime: 8 * time.Second, Faults: true},
		{Name: "conformance", Title: "every conformance check, no latency scenario", Areas: []string{"target", "claims", "rpc", "tls", "tpm", "sandbox", "router"}, Faults: false},
		{Name: "latency", Title: "the latency scenarios", Areas: []string{"target", "claims", "perf"}},
		{Name: "chaos", Title: "the checks that hold under faults", Faults: true},
		{Name: "full", Title: "everything", Faults: true},
	}
}

// ErrNothingRuns is wrapped when of what was asked for nothing can run on this host.
var ErrNothingRuns = errors.New("nothing of what was asked for can run here")

// ErrNoMatch is wrapped when a pattern or a profile selects nothing.
var ErrNoMatch = errors.New("matches no check")

// Plan selects the cases of a run.
func (s *Suite) Plan(sel Selection) (Plan, error) {
	profile, err := findProfile(sel.Profile)
	if err != nil {
		return Plan{}, err
	}
	patterns, err := s.parsePatterns(sel.Patterns)
	if err != nil {
		return Plan{}, err
	}
	chosen := map[results.Key]bool{}
	var plan Plan
	for _, c := range s.Checks() {
		if why := s.leftOut(c, profile, patterns); why != "" {
			plan.LeftOut = append(plan.LeftOut, results.LeftOut{Check: c.ID, Why: why})
			continue
		}
		for _, key := range c.Keys() {
			if patterns.match(key, s.AreaOf(c.ID)) && profile.takes(key, patterns) {
				chosen[key] = true
			}
		}
	}
	if len(chosen) == 0 {
		return plan, fmt.Errorf("profile %s: %w", profile.Name, ErrNoMatch)
	}
	asked := maps.Clone(chosen)
	s.addFrame(chosen, sel.Probing)
	s.fill(&plan, chosen, sel)
	if !plan.drives(s, asked) {
		return plan, fmt.Errorf("%w: %s", ErrNothingRuns, plan.whyNot())
	}
	return plan, nil
}

func (p Profile) takes(key results.Key, patterns patterns) bool {
	if len(patterns) > 0 {
		return true
	}
	if p.Name == "chaos" {
		return key.Under != ""
	}
	return p.Faults || key.Under == ""
}

func findProfile(name string) (Profile, error) {
	all := Profiles()
	if name == "" {
		return all[0], nil
	}
	var names []string
	for _, p := range all {
		if p.Name == name {
			return p, nil
		}
		names = append(names, p.Name)
	}
	return Profile{}, fmt.Errorf("no profile %q: there are %s", name, strings.Join(names, ", "))
}

func (s *Suite) leftOut(c Check, profile Profile, ps patterns) string {
	if len(ps) > 0 {
		for _, key := range c.Keys() {
			if ps.match(key, s.AreaOf(c.ID)) {
				return ""
			}
		}
		return "not among the patterns"
	}
	if len(profile.Areas) > 0 && !contains(profile.Areas, s.AreaOf(c.ID)) {
		return "area not in profile " + profile.Name
	}
	if profile.MaxTime > 0 && c.Cost.Time > profile.MaxTime {
		return fmt.Sprintf("takes %s, profile %s stops at %s", c.Cost.Time, profile.Name, profile.MaxTime)
	}
	if profile.Name == "chaos" && len(c.Under) == 0 {
		return "no fault is declared for it"
	}
	return ""
}

// addFrame adds the frame's own checks and the probes of the claims that chosen checks need.
func (s *Suite) addFrame(chosen map[results.Key]bool, probing bool) {
	needed := map[string]bool{}
	any := false
	for key := range chosen {
		c := s.checks[key.Check]
		any = any || !c.frame
		for _, f := range c.NeedsOf(key.Case) {
			needed[claimPrefix+string(f)] = true
		}
	}
	if !any {
		return
	}
	for _, c := range s.checks {
		if c.frame || (probing && needed[c.ID]) {
			for _, key := range c.Keys() {
				chosen[key] = true
			}
		}
	}
}

// fill copies everything a report needs into the plan, in a fixed order.
func (s *Suite) fill(plan *Plan, chosen map[results.Key]bool, sel Selection) {
	rows := map[string]bool{}
	for _, c := range s.Checks() {
		for _, key := range c.Keys() {
			if !chosen[key] {
				continue
			}
			if why := sel.Barred(c, key); why != "" {
				plan.NotRun = append(plan.NotRun, results.NotRun{Check: key.Check, Case: key.Case, Under: key.Under, Probe: why})
				continue
			}
			plan.Planned = append(plan.Planned, s.planned(c, key, sel))
			plan.Expected += expected(c)
			for _, id := range c.Covers {
				rows[id] = true
			}
		}
	}
	for _, r := range s.Requirements() {
		if rows[r.ID] {
			plan.Requirements = append(plan.Requirements, r.Copy())
		}
	}
}

func (s *Suite) planned(c Check, key results.Key, sel Selection) results.Planned {
	p := results.Planned{
		Check: key.Check, Case: key.Case, Under: key.Under, Area: s.AreaOf(c.ID), Title: c.caseTitle(key.Case),
		Covers: c.Covers, Standard: s.Standard(c), Decides: s.Decides(c), Reproduce: sel.Reproduce(key),
	}
	for _, f := range c.NeedsOf(key.Case) {
		p.Needs = append(p.Needs, string(f))
	}
	return p
}

// expected is a case's share of the run's time.
func expected(c Check) time.Duration {
	if c.Cost.Exclusive {
		return c.Cost.Time
	}
	return c.Cost.Time / 8
}

// drives tells whether a case that was asked for, and not only what the frame adds, drives the target.
func (p Plan) drives(s *Suite, asked map[results.Key]bool) bool {
	for _, x := range p.Planned {
		if c, ok := s.Check(x.Check); ok && !c.frame && asked[x.Key()] {
			return true
		}
	}
	return false
}

// whyNot gives the first reason for which a case can not run.
func (p Plan) whyNot() string {
	for _, n := range p.NotRun {
		return n.Check + ": " + n.Probe
	}
	return "only the frame's own checks are left"
}

// pattern is check[#case][@fault].
type pattern struct {
	check, kase, under string
	hasCase, hasUnder  bool
	text               string
}

type patterns []pattern

func (s *Suite) parsePatterns(texts []string) (patterns, error) {
	var out patterns
	for _, text := range texts {
		p := pattern{text: text, check: text}
		p.check, p.under, p.hasUnder = strings.Cut(p.check, "@")
		p.check, p.kase, p.hasCase = strings.Cut(p.check, "#")
		if _, err := path.Match(p.check, "x"); err != nil {
			return nil, fmt.Errorf("pattern %q: %w", text, err)
		}
		hit := false
		for _, c := range s.Checks() {
			for _, key := range c.Keys() {
				hit = hit || p.match(key, s.AreaOf(c.ID))
			}
		}
		if !hit {
			return nil, fmt.Errorf("%q %w%s", text, ErrNoMatch, s.nearest(p))
		}
		out = append(out, p)
	}
	return out, nil
}

func (p pattern) match(key results.Key, area string) bool {
	byName := p.check == area || p.check == key.Check || strings.HasPrefix(key.Check, strings.TrimSuffix(p.check, "/")+"/")
	if !byName {
		ok, err := path.Match(p.check, key.Check)
		byName = ok && err == nil
	}
	if !byName || (p.hasCase && p.kase != key.Case) {
		return false
	}
	if p.hasUnder {
		name, _, _ := strings.Cut(key.Under, "=")
		return p.under == key.Under || p.under == name
	}
	return !p.hasCase || key.Under == "" // a case by name means fair weather
}

func (ps patterns) match(key results.Key, area string) bool {
	if len(ps) == 0 {
		return true
	}
	for _, p := range ps {
		if p.match(key, area) {
			return true
		}
	}
	return false
}

// Pattern writes a key in the syntax that patterns use.
func Pattern(key results.Key) string {
	out := key.Check
	if key.Case != "" {
		out += "#" + key.Case
	}
	if key.Under != "" {
		out += "@" + key.Under
	}
	return out
}

// nearest suggests up to three ids.
func (s *Suite) nearest(p pattern) string {
	if c, ok := s.Check(p.check); ok {
		var keys []string
		for _, k := range c.Keys() {
			keys = append(keys, Pattern(k))
		}
		return "; the check has " + strings.Join(keys, ", ")
	}
	ids := make([]string, 0, len(s.checks))
	for _, c := range s.Checks() {
		ids = append(ids, c.ID)
	}
	return Suggest(p.check, ids)
}

// Suggest names the up to three candidates nearest to a word, as the end of an error message.
func Suggest(word string, candidates []string) string {
	type scored struct {
		text string
		d    int
	}
	var all []scored
	for _, c := range candidates {
		all = append(all, scored{c, levenshtein.ComputeDistance(word[:min(len(word), 128)], c)})
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].d < all[j].d })
	var near []string
	for _, x := range all[:min(3, len(all))] {
		near = append(near, x.text)
	}
	if len(near) == 0 {
		return ""
	}
	return "; nearest: " + strings.Join(near, ", ")
}

func contains(list []string, x string) bool {
	for _, y := range list {
		if x == y {
			return true
		}
	}
	return false
}
