package suites

import (
	"fmt"
	"maps"
	"slices"

	"github.com/assay-bench/assay/results"
)

// CheckPlan compares the plan of a recorded run with this suite: a plan that was shortened, that calls a
// standard's row our own, or that needs what its check does not need, would give other verdicts from the
// same evidence. The seed, the target and the known-failing reasons are the run's own and are not compared.
func (s *Suite) CheckPlan(run results.Run, evidence []results.Evidence) error {
	planned := map[results.Key]bool{FrameKey: true}
	rows := map[string]bool{}
	for _, p := range run.Plan {
		key := p.Key()
		if planned[key] {
			return fmt.Errorf("run.json plans %s twice", key)
		}
		planned[key] = true
		c, ok := s.Check(p.Check)
		if !ok || !hasKey(c, key) {
			return fmt.Errorf("run.json plans %s, which this suite does not have", key)
		}
		want := s.planned(c, key, Selection{Reproduce: func(results.Key) string { return p.Reproduce }})
		want.Expected = p.Expected
		if !same(p, want) {
			return fmt.Errorf("run.json plans %s otherwise than the suite declares it", key)
		}
		for _, id := range c.Covers {
			rows[id] = true
		}
	}
	for _, r := range run.Requirements {
		if row, ok := s.requirements[r.ID]; !ok || row.Copy() != r || !rows[r.ID] {
			return fmt.Errorf("run.json copies requirement %s otherwise than the catalogue has it", r.ID)
		}
		delete(rows, r.ID)
	}
	for _, id := range slices.Sorted(maps.Keys(rows)) {
		return fmt.Errorf("run.json lacks requirement %s", id)
	}
	for _, e := range evidence {
		if !planned[e.Key()] {
			return fmt.Errorf("evidence %d is of %s, which run.json does not plan", e.Seq, e.Key())
		}
	}
	return nil
}

func hasKey(c Check, key results.Key) bool {
	for _, k := range c.Keys() {
		if k == key {
			return true
		}
	}
	return false
}

// same compares two planned cases by their JSON, in which an empty list is no list.
func same(a, b results.Planned) bool {
	x, xerr := results.Marshal(a)
	y, yerr := results.Marshal(b)
	return xerr == nil && yerr == nil && string(x) == string(y)
}
