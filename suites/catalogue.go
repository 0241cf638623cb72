package suites

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/goccy/go-yaml"

	"github.com/assay-bench/assay/results"
)

// Requirement is a row of an area's catalogue, the only place of level and clause.
type Requirement struct {
	ID        string   `yaml:"id" json:"id"`
	Level     string   `yaml:"level" json:"level"`     // MUST, SHOULD, MAY
	Basis     string   `yaml:"basis" json:"basis"`     // standard or house
	Subject   string   `yaml:"subject" json:"subject"` // target, or harness (a Go test proves it)
	Document  string   `yaml:"document" json:"document"`
	Section   string   `yaml:"section,omitempty" json:"section,omitempty"`
	Statement string   `yaml:"statement" json:"statement"`
	Observe   string   `yaml:"observe" json:"observe"` // how a black-box test sees it
	Severity  string   `yaml:"severity,omitempty" json:"severity,omitempty"`
	Needs     []string `yaml:"needs,omitempty" json:"needs,omitempty"`
}

// catalogueFile is the shape of an area's catalogue.yaml.
type catalogueFile struct {
	Area         string        `yaml:"area"`
	Requirements []Requirement `yaml:"requirements"`
}

// ReadCatalogue parses and checks an area's catalogue. Errors name the row.
func ReadCatalogue(area string, raw []byte) ([]Requirement, error) {
	var f catalogueFile
	if err := yaml.UnmarshalWithOptions(raw, &f, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("catalogue of %s: %w", area, err)
	}
	if f.Area != area {
		return nil, fmt.Errorf("catalogue of %s says area: %q", area, f.Area)
	}
	if len(f.Requirements) == 0 {
		return nil, fmt.Errorf("catalogue of %s is empty", area)
	}
	for i, r := range f.Requirements {
		if err := r.validate(); err != nil {
			return nil, fmt.Errorf("catalogue of %s, row %d (%s): %w", area, i+1, r.ID, err)
		}
	}
	return f.Requirements, nil
}

func (r Requirement) validate() error {
	oneOf := func(field, value string, allowed ...string) error {
		for _, a := range allowed {
			if value == a {
				return nil
			}
		}
		return fmt.Errorf("%s is %q, want one of %v", field, value, allowed)
	}
	if r.ID == "" || r.Statement == "" || r.Document == "" || r.Observe == "" {
		return fmt.Errorf("id, statement, document and observe must be given")
	}
	if err := oneOf("level", r.Level, "MUST", "SHOULD", "MAY"); err != nil {
		return err
	}
	if err := oneOf("basis", r.Basis, "standard", "house"); err != nil {
		return err
	}
	return oneOf("subject", r.Subject, "target", "harness")
}

// Digest identifies the row's text: a change of wording is visible.
func (r Requirement) Digest() string {
	raw, err := results.Marshal(r)
	if err != nil {
		panic(err) // strings only: can not happen
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:8])
}

// Copy returns the row as bundles carry it.
func (r Requirement) Copy() results.Requirement {
	return results.Requirement{
		ID: r.ID, Level: r.Level, Basis: r.Basis, Subject: r.Subject, Document: r.Document,
		Section: r.Section, Statement: r.Statement, Severity: r.Severity, Digest: r.Digest(),
	}
}
