package suites

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"sort"
	"strings"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/results"
)

// Version is the version of the suites; CHANGELOG.md lists what each changed in verdicts.
const Version = "0.3.0"

// Area is a folder of suites: a catalogue and the checks on it.
type Area struct {
	Name         string
	Requirements []Requirement
	Checks       []Check
	Sources      fs.FS // the Go files of the area: judges are part of what the digest stands for
}

// Suite is all areas, validated.
type Suite struct {
	areas        []Area
	checks       map[string]Check
	areaOf       map[string]string
	requirements map[string]Requirement
	digest       string
}

var slug = regexp.MustCompile(`^[a-z0-9]+(?:[/.-][a-z0-9]+)*$`)

// New validates the areas and puts them together. An unknown requirement, a duplicate id, a check
// without kills, reasons, judge or drive: each is refused, all at once.
func New(areas ...Area) (*Suite, error) {
	s := &Suite{
		areas: areas, checks: map[string]Check{}, areaOf: map[string]string{}, requirements: map[string]Requirement{},
	}
	var errs []error
	for _, a := range areas {
		for _, r := range a.Requirements {
			if _, dup := s.requirements[r.ID]; dup {
				errs = append(errs, fmt.Errorf("requirement %s stands twice", r.ID))
			}
			s.requirements[r.ID] = r
		}
	}
	for _, a := range areas {
		for _, c := range a.Checks {
			if _, dup := s.checks[c.ID]; dup {
				errs = append(errs, fmt.Errorf("check %s stands twice", c.ID))
			}
			s.checks[c.ID], s.areaOf[c.ID] = c, a.Name
			errs = append(errs, s.validate(c)...)
		}
	}
	if len(s.checks) == 0 {
		errs = append(errs, errors.New("a suite without checks proves nothing"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, s.seal()
}

func (s *Suite) validate(c Check) (errs []error) {
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("check %s: "+format, append([]any{c.ID}, args...)...))
	}
	if !slug.MatchString(c.ID) {
		bad("the id is no slug")
	}
	if c.Title == "" || c.Judge == nil || (c.Drive == nil && !c.frame) {
		bad("title, drive and judge must be given")
	}
	if len(c.Covers) == 0 {
		bad("covers no requirement")
	}
	for _, id := range c.Covers {
		if r, ok := s.requirements[id]; !ok {
			bad("covers unknown requirement %s", id)
		} else if r.Subject != "target" {
			bad("covers %s, whose subject is the harness", id)
		}
	}
	for _, k := range c.cases() {
		for _, f := range c.NeedsOf(k.ID) {
			if _, ok := features.Find(string(f)); !ok {
				bad("needs unknown feature %s", f)
			}
		}
	}
	if len(c.Under) > 0 && (c.Probe == nil || c.Endpoint == "") {
		bad("runs under faults and has no endpoint and probe for their witness")
	}
	if c.Stops && (c.Locality != OwnedHost || !c.Cost.Exclusive) {
		bad("ends the target: it must be exclusive and need a target that the harness started")
	}
	if c.Only && len(c.Under) == 0 {
		bad("runs only under faults and names none")
	}
	errs = append(errs, c.validateKills()...)
	return errs
}

func (c Check) validateKills() (errs []error) {
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("check %s: "+format, append([]any{c.ID}, args...)...))
	}
	reasons := map[string]bool{}
	for _, r := range c.Reasons {
		if frameReason(r) || reasons[r] {
			bad("reason %s stands twice or belongs to the frame", r)
		}
		reasons[r] = true
	}
	known := map[string]bool{}
	seen := map[string]bool{}
	for _, k := range c.cases() {
		if seen[k.ID] {
			bad("case %q stands twice", k.ID)
		}
		seen[k.ID] = true
	}
	for _, k := range c.Keys() {
		known[k.Case+"@"+k.Under] = true
		known["@"+k.Under] = true // a kill without a case means any
	}
	if len(c.Kills) == 0 {
		bad("names no planted defect that it kills: a check that can not fail is a defect")
	}
	for _, k := range c.Kills {
		switch {
		case k.Defect == "":
			bad("a kill names no defect")
		case !reasons[k.Reason]:
			bad("the kill of %s has reason %q, which is not in the check's set", k.Defect, k.Reason)
		case !known[k.Case+"@"+k.Under]:
			bad("the kill of %s names case %q under %q, which does not exist", k.Defect, k.Case, k.Under)
		}
	}
	return errs
}

func frameReason(r string) bool {
	switch r {
	case ReasonControl, ReasonClaimAbsent, ReasonNotReady, ReasonNotWitnessed, ReasonResidue,
		ReasonHostNoise, ReasonHarness, ReasonUnfinished, ReasonJudge, ReasonStale:
		return true
	}
	return false
}

// seal computes the digest over all declarations.
func (s *Suite) seal() error {
	type declared struct {
		ID       string
		Covers   []string
		Needs    []features.Feature
		Cases    []Case
		Under    []string
		Reasons  []string
		Kills    []Kill
		Cost     Cost
		Locality Locality
	}
	var all struct {
		Version      string
		Requirements []Requirement
		Checks       []declared
		Sources      []string
	}
	all.Version = Version
	var err error
	if all.Sources, err = s.sources(); err != nil {
		return err
	}
	all.Requirements = s.Requirements()
	for _, c := range s.Checks() {
		d := declared{c.ID, c.Covers, c.Needs, c.Cases, nil, c.Reasons, c.Kills, c.Cost, c.Locality}
		for _, u := range c.Under {
			d.Under = append(d.Under, u.String())
		}
		all.Checks = append(all.Checks, d)
	}
	raw, err := results.Marshal(all)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(raw)
	s.digest = hex.EncodeToString(sum[:])
	return nil
}

// sources digests the Go files of every area, tests apart.
func (s *Suite) sources() (out []string, err error) {
	for _, a := range s.areas {
		if a.Sources == nil {
			continue
		}
		names, err := fs.Glob(a.Sources, "*.go")
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			raw, err := fs.ReadFile(a.Sources, name)
			if err != nil {
				return nil, err
			}
			out = append(out, fmt.Sprintf("%s/%s %x", a.Name, name, sha256.Sum256(raw)))
		}
	}
	return out, nil
}

// Digest is the SHA-256 over catalogues, check declarations and the sources of the judges, in hex.
func (s *Suite) Digest() string { return s.digest }

// Checks lists all checks by id.
func (s *Suite) Checks() []Check {
	out := make([]Check, 0, len(s.checks))
	for _, c := range s.checks {
		out = append(out, c)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ID < out[j].ID })
	return out
}

// Check finds a check by id.
func (s *Suite) Check(id string) (Check, bool) {
	c, ok := s.checks[id]
	return c, ok
}

// AreaOf names the area of a check.
func (s *Suite) AreaOf(id string) string { return s.areaOf[id] }

// Requirements lists all rows by id.
func (s *Suite) Requirements() []Requirement {
	out := make([]Requirement, 0, len(s.requirements))
	for _, r := range s.requirements {
		out = append(out, r)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ID < out[j].ID })
	return out
}

// Requirement finds a row by id.
func (s *Suite) Requirement(id string) (Requirement, bool) {
	r, ok := s.requirements[id]
	return r, ok
}

// CheckedBy lists the checks that cover a requirement.
func (s *Suite) CheckedBy(requirement string) []string {
	var out []string
	for _, c := range s.Checks() {
		for _, id := range c.Covers {
			if id == requirement {
				out = append(out, c.ID)
			}
		}
	}
	return out
}

// Decides tells whether a check decides the exit code for any target: it covers a MUST of a standard, or
// is about the target being there and being what it claims.
func (s *Suite) Decides(c Check) bool {
	if area := s.AreaOf(c.ID); area == "target" || area == "claims" {
		return true
	}
	for _, id := range c.Covers {
		if r := s.requirements[id]; r.Basis == "standard" && r.Level == "MUST" {
			return true
		}
	}
	return false
}

// Standard tells whether a check covers at least one row that a standard demands.
func (s *Suite) Standard(c Check) bool {
	for _, id := range c.Covers {
		if s.requirements[id].Basis == "standard" {
			return true
		}
	}
	return false
}
