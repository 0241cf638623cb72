package suites

import (
	"fmt"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/assay-bench/assay/results"
)

// KnownFailing is a must-fail list: a case on it stays Fail but does not turn the run red; one that
// passes does, because its entry is stale.
type KnownFailing struct {
	APIVersion string       `yaml:"apiVersion"`
	Kind       string       `yaml:"kind"`
	Entries    []KnownEntry `yaml:"entries"`
}

// KnownEntry names cases by pattern (check[#case][@fault]), why they fail and until when that is
// accepted.
type KnownEntry struct {
	Check   string `yaml:"check"`
	Reason  string `yaml:"reason"`
	Expires string `yaml:"expires"` // YYYY-MM-DD, the last day on which the entry holds
}

// ReadKnownFailing parses a list. An entry without reason or expiry is refused.
func ReadKnownFailing(name string, raw []byte) (KnownFailing, error) {
	var k KnownFailing
	if err := yaml.UnmarshalWithOptions(raw, &k, yaml.Strict()); err != nil {
		return k, fmt.Errorf("%s: %w", name, err)
	}
	if k.APIVersion != results.APIVersion || k.Kind != "KnownFailing" {
		return k, fmt.Errorf("%s: want apiVersion: %s and kind: KnownFailing, got %q and %q", name, results.APIVersion, k.APIVersion, k.Kind)
	}
	for i, e := range k.Entries {
		if e.Check == "" || e.Reason == "" || e.Expires == "" {
			return k, fmt.Errorf("%s: entry %d (%s): check, reason and expires must all be given", name, i+1, e.Check)
		}
		if _, err := time.Parse(time.DateOnly, e.Expires); err != nil {
			return k, fmt.Errorf("%s: entry %d (%s): expires: %w", name, i+1, e.Check, err)
		}
	}
	return k, nil
}

// Apply marks the planned cases that are expected to fail. An entry that matches no case of the suite,
// and one that has expired, are errors.
func (k KnownFailing) Apply(s *Suite, plan *Plan, now time.Time) error {
	for _, e := range k.Entries {
		ps, err := s.parsePatterns([]string{e.Check})
		if err != nil {
			return fmt.Errorf("known-failing entry: %w", err)
		}
		if e.Expires < now.UTC().Format(time.DateOnly) {
			return fmt.Errorf("known-failing entry %s expired on %s: fix what it names, or renew it with a reason", e.Check, e.Expires)
		}
		for i, p := range plan.Planned {
			if ps.match(p.Key(), p.Area) {
				plan.Planned[i].Expected = e.Reason
			}
		}
	}
	return nil
}
