package reports

import (
	"testing"

	"github.com/assay-bench/assay/results"
	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

// conformanceReport is the file's shape, written down a second time for strict decoding.
type conformanceReport struct {
	APIVersion     string `yaml:"apiVersion"`
	Kind           string
	Implementation struct {
		Organization, Project, URL, Version string
		Contact                             []string
	}
	Date           string
	SuiteVersion   string `yaml:"suiteVersion"`
	SuiteDigest    string `yaml:"suiteDigest"`
	Channel, Mode  string
	Bundle, Plan   string
	PlantedDefects []string `yaml:"plantedDefects"`
	Profiles       []conformanceProfile
	Result, Reason string
	Proof          string
	HollowTargets  []struct {
		Target           string
		Executed, Passed int
	} `yaml:"hollowTargets"`
}

type conformanceProfile struct {
	Name, Summary         string
	Core, Extended, House *conformancePart
}

type conformancePart struct {
	Result, Reason string
	Statistics     struct {
		Passed       int `yaml:"Passed"`
		Skipped      int `yaml:"Skipped"`
		Failed       int `yaml:"Failed"`
		Inconclusive int `yaml:"Inconclusive"`
		Broken       int `yaml:"Broken"`
		Unproven     int `yaml:"Unproven"`
	}
	SkippedTests        []string `yaml:"skippedTests"`
	FailedTests         []string `yaml:"failedTests"`
	InconclusiveTests   []string `yaml:"inconclusiveTests"`
	BrokenTests         []string `yaml:"brokenTests"`
	UnprovenTests       []string `yaml:"unprovenTests"`
	SupportedFeatures   []string `yaml:"supportedFeatures"`
	UnsupportedFeatures []string `yaml:"unsupportedFeatures"`
}

func conform(t *testing.T, b *results.Bundle) conformanceReport {
	t.Helper()
	var c conformanceReport
	if err := yaml.UnmarshalWithOptions([]byte(render(t, conformance{}, b)), &c, yaml.DisallowUnknownField()); err != nil {
		t.Fatal(err)
	}
	for _, s := range append([]string{c.Implementation.Organization, c.Implementation.Project, c.Implementation.URL, c.Implementation.Version}, c.Implementation.Contact...) {
		if s == "" {
			t.Errorf("implementation has an empty field: %+v", c.Implementation)
		}
	}
	if c.APIVersion != "assay.conformance/v1" || c.Kind != "ConformanceReport" {
		t.Errorf("apiVersion %q, kind %q", c.APIVersion, c.Kind)
	}
	return c
}

func TestConformanceShape(t *testing.T) {
	c := conform(t, mixed())
	if c.Implementation.Version != "1.10" {
		t.Errorf("version %q: a reader made a number of it", c.Implementation.Version)
	}
	if len(c.Profiles) != 2 || c.Profiles[1].Name != "RPC" {
		t.Fatalf("profiles: %+v", c.Profiles)
	}
	rpc := c.Profiles[1]
	if rpc.Core.Result != "failure" || rpc.Extended == nil || rpc.House == nil {
		t.Fatalf("rpc: %+v", rpc)
	}
	if diff := cmp.Diff([]string{"rpc/ttheader/seq-echo#binary", "rpc/wire/settings-first"}, rpc.Core.FailedTests); diff != "" {
		t.Errorf("failed (-want +got):\n%s", diff)
	}
	s := rpc.Core.Statistics
	if s.Passed != 1 || s.Failed != 2 || s.Broken != 1 || s.Unproven != 1 || s.Skipped != 0 {
		t.Errorf("core statistics: %+v", s)
	}
	if diff := cmp.Diff([]string{"rpc.streaming"}, rpc.Extended.UnsupportedFeatures); diff != "" {
		t.Errorf("unsupported (-want +got):\n%s", diff)
	}
	if len(c.HollowTargets) != 2 || c.HollowTargets[0].Passed != 0 || c.HollowTargets[0].Executed != 41 {
		t.Errorf("hollow targets: %+v", c.HollowTargets)
	}
}

func TestConformanceResults(t *testing.T) {
	core := func(status results.Status, more ...results.Status) *results.Bundle {
		b := &results.Bundle{Run: run(), Verdicts: &results.Verdicts{}}
		for i, s := range append([]results.Status{status}, more...) {
			r := rows()[3]
			r.check += string(rune('a' + i))
			r.verdict = results.Verdict{Status: s, Reason: "r", Cites: []uint64{1}}
			r.add(b)
		}
		return b
	}
	planted := core(results.Pass)
	planted.Run.Target.Defects = []string{"rpc.seq-zero"}
	for _, c := range []struct {
		name   string
		bundle *results.Bundle
		want   string
	}{
		{"pass", core(results.Pass), "success"},
		{"skipped a MUST", core(results.Pass, results.NotClaimed), "partial"},
		{"inconclusive", core(results.Pass, results.Inconclusive), "partial"},
		{"broken", core(results.Pass, results.Broken), "partial"},
		{"unproven", core(results.Pass, results.Unproven), "partial"},
		{"fail", core(results.Pass, results.Fail), "failure"},
		{"only skipped", core(results.NotClaimed), "failure"},
		{"only broken", core(results.Broken), "failure"},
		{"planted", planted, "failure"},
		{"empty", empty(), "failure"},
		{"killed", killed(), "failure"},
	} {
		got := conform(t, c.bundle)
		if got.Result != c.want || got.Reason == "" {
			t.Errorf("%s: result %q (%q), want %q with a reason", c.name, got.Result, got.Reason, c.want)
		}
		for _, p := range got.Profiles {
			if p.Core.Result == "failure" && p.Core.Reason == "" {
				t.Errorf("%s: a failure without a reason", c.name)
			}
			if p.Core.Statistics.Passed == 0 && p.Core.Result != "failure" {
				t.Errorf("%s: %s with nothing passed", c.name, p.Core.Result)
			}
		}
	}
}

func TestConformanceHostile(t *testing.T) {
	seen := 0
	for i, a := range append(attacks(), "no", "2026-01-01", "1.10", "- a: b", "# c", "&x *y !!z", "a: b\n- c") {
		got := conform(t, hostile(a))
		seen++
		if want := clean(a, false); got.Implementation.Project != want {
			t.Errorf("attack %d: project %.80q, want %.80q", i, got.Implementation.Project, want)
		}
	}
	if seen == 0 {
		t.Fatal("no attack")
	}
}
