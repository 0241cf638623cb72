package suites_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/suites"
)

const goodCatalogue = `area: x
requirements:
  - id: x/a
    level: MUST
    basis: standard
    subject: target
    document: RFC 1
    section: "2"
    statement: It holds.
    observe: look
    severity: high
    needs: [pid]
  - id: x/b
    level: MAY
    basis: house
    subject: harness
    document: rules
    statement: It may hold.
    observe: look
`

func TestReadCatalogue(t *testing.T) {
	got, err := suites.ReadCatalogue("x", []byte(goodCatalogue))
	if err != nil {
		t.Fatal(err)
	}
	want := []suites.Requirement{
		{ID: "x/a", Level: "MUST", Basis: "standard", Subject: "target", Document: "RFC 1", Section: "2", Statement: "It holds.", Observe: "look", Severity: "high", Needs: []string{"pid"}},
		{ID: "x/b", Level: "MAY", Basis: "house", Subject: "harness", Document: "rules", Statement: "It may hold.", Observe: "look"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	copied := results.Requirement{
		ID: "x/a", Level: "MUST", Basis: "standard", Subject: "target", Document: "RFC 1", Section: "2", Statement: "It holds.",
		Severity: "high", Digest: got[0].Digest(),
	}
	if diff := cmp.Diff(copied, got[0].Copy()); diff != "" {
		t.Errorf("copy (-want +got):\n%s", diff)
	}
}

func TestCatalogueIsStrict(t *testing.T) {
	edit := func(old, new string) string { return strings.Replace(goodCatalogue, old, new, 1) }
	tests := []struct{ name, text, says string }{
		{"unknown field", edit("    section:", "    clause:"), "clause"},
		{"unknown field at the top", "version: 1\n" + goodCatalogue, "version"},
		{"bad level", edit("level: MAY", "level: SHALL"), `row 2 (x/b): level is "SHALL"`},
		{"level in lower case", edit("level: MUST", "level: must"), `row 1 (x/a): level is "must"`},
		{"bad basis", edit("basis: house", "basis: opinion"), `row 2 (x/b): basis is "opinion"`},
		{"bad subject", edit("subject: target", "subject: us"), `row 1 (x/a): subject is "us"`},
		{"no statement", edit("    statement: It may hold.\n", ""), "row 2 (x/b): id, statement, document and observe"},
		{"no observe", edit("    observe: look\n", ""), "row 1 (x/a)"},
		{"no document", edit("    document: rules\n", ""), "row 2 (x/b)"},
		{"no id", edit("  - id: x/b\n    level", "  - level"), "row 2 ()"},
		{"another area", edit("area: x", "area: y"), `says area: "y"`},
		{"empty", "area: x\nrequirements: []\n", "is empty"},
		{"nothing", "", "catalogue of x"},
		{"no YAML", "\x00{", "catalogue of x"},
	}
	for _, tt := range tests {
		_, err := suites.ReadCatalogue("x", []byte(tt.text))
		if err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: error %v, want one that says %q", tt.name, err, tt.says)
		}
	}
}

func TestRequirementDigest(t *testing.T) {
	seen := map[string]string{row("x/a").Digest(): "the row itself"}
	for name, change := range map[string]func(*suites.Requirement){
		"id":        func(r *suites.Requirement) { r.ID = "x/b" },
		"level":     func(r *suites.Requirement) { r.Level = "SHOULD" },
		"basis":     func(r *suites.Requirement) { r.Basis = "house" },
		"statement": func(r *suites.Requirement) { r.Statement += " " },
		"section":   func(r *suites.Requirement) { r.Section = "1" },
		"observe":   func(r *suites.Requirement) { r.Observe = "listen" },
	} {
		r := row("x/a")
		change(&r)
		if other, dup := seen[r.Digest()]; dup {
			t.Errorf("a change of %s has the digest of %s", name, other)
		}
		seen[r.Digest()] = name
	}
}

func FuzzReadCatalogue(f *testing.F) {
	f.Add([]byte(goodCatalogue))
	f.Add([]byte("area: x\nrequirements: [{id: &a [*a]}]"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		rows, err := suites.ReadCatalogue("x", raw)
		if err == nil && len(rows) == 0 {
			t.Error("an empty catalogue was read")
		}
		for _, r := range rows {
			if r.ID == "" || r.Level == "" || r.Statement == "" {
				t.Errorf("row %+v was read", r)
			}
		}
	})
}
