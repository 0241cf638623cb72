package gate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios/duet"
	"github.com/assay-bench/assay/scenarios/duet/gobench"
)

// BenchKind is that of a run of assay gate bench.
const BenchKind = "gate-bench"

// Bounds on a plan of benchmarks.
const (
	maxBenchPolicy = 1 << 20
	maxBenchmarks  = 2000
)

// BenchPolicy is the policy.yaml of a run on Go benchmarks, written as JSON: what is run, and how much worse it may get.
type BenchPolicy struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`      // GateBench
	Filter     string            `json:"bench"`     // as go test's -bench
	Benchtime  string            `json:"benchtime"` // as go test's
	Procs      int               `json:"procs"`
	Margins    map[string]Margin `json:"metrics"` // by unit
	Benchmarks []Bench           `json:"benchmarks"`
}

// Margin says how much worse a unit may get, relative.
type Margin struct {
	Fail float64 `json:"failAbove"`
	Pass float64 `json:"passBelow"`
}

// Bench is a benchmark that both sides have.
type Bench struct {
	Package string   `json:"package"`
	Name    string   `json:"name"`  // without Benchmark: Parse/small
	Units   []string `json:"units"` // those that both sides show
}

// ID names a benchmark over all packages.
func (b Bench) ID() string { return b.Package + "." + b.Name }

// Function is the top-level benchmark, which a process runs whole.
func (b Bench) Function() BenchFunction { return BenchFunction{b.Package, gobench.Function(b.Name)} }

// BenchFunction is what one process of an epoch runs.
type BenchFunction struct {
	Package string `json:"package"`
	Name    string `json:"function"`
}

func (f BenchFunction) String() string { return f.Package + "." + f.Name }

// ErrNoBenchmark says that nothing can be compared.
var ErrNoBenchmark = errors.New("no benchmark on both sides")

// ParseBenchPolicy reads the policy of a bundle.
func ParseBenchPolicy(raw []byte) (p BenchPolicy, err error) {
	if len(raw) > maxBenchPolicy {
		return p, fmt.Errorf("%d bytes of policy, at most %d", len(raw), maxBenchPolicy)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil {
		return p, err
	}
	return p, p.validate()
}

func (p BenchPolicy) validate() error {
	switch n := len(p.Benchmarks); {
	case p.APIVersion != results.APIVersion || p.Kind != "GateBench":
		return fmt.Errorf("apiVersion %q and kind %q: want %s and GateBench", p.APIVersion, p.Kind, results.APIVersion)
	case n == 0:
		return ErrNoBenchmark
	case n > maxBenchmarks:
		return fmt.Errorf("%d benchmarks, at most %d: name fewer with --bench", n, maxBenchmarks)
	case p.Procs < 1:
		return fmt.Errorf("procs is %d, want 1 or more", p.Procs)
	}
	seen := map[string]bool{}
	for _, b := range p.Benchmarks {
		if seen[b.ID()] || b.Package == "" || b.Name == "" {
			return fmt.Errorf("benchmark %q: without a name, or there twice", b.ID())
		}
		seen[b.ID()] = true
	}
	if len(p.Metrics()) == 0 {
		return ErrNoMetric
	}
	return nil
}

// UsualMargins are those of gate bench: as for processor time and allocations of a service.
func UsualMargins() map[string]Margin {
	return map[string]Margin{gobench.Time: {0.02, 0.05}, gobench.Bytes: {0.02, 0.05}, gobench.Allocs: {0.02, 0.05}}
}

// Metrics is one a benchmark and unit; all of them gate, and share the family's level.
func (p BenchPolicy) Metrics() []Metric {
	var out []Metric
	for _, b := range p.Benchmarks {
		for _, unit := range slices.Sorted(slices.Values(b.Units)) {
			if m, ok := p.Margins[unit]; ok {
				out = append(out, Metric{Scenario: b.ID(), Name: unit, Fail: m.Fail, Pass: m.Pass, Looks: shortLooks(), Gating: true})
			}
		}
	}
	return out
}

// CommonBenchmarks pairs what both sides showed when each benchmark ran once: units by name, by package. Benchmarks of one
// side alone are named apart.
func CommonBenchmarks(sides [2]map[string]map[string]gobench.Result) (both []Bench, only [2][]string) {
	for arm, side := range sides {
		other := sides[1-arm]
		for _, pkg := range slices.Sorted(maps.Keys(side)) {
			for _, name := range slices.Sorted(maps.Keys(side[pkg])) {
				b := Bench{Package: pkg, Name: name}
				there, ok := other[pkg][name]
				if !ok {
					only[arm] = append(only[arm], b.ID())
					continue
				}
				if arm != 0 {
					continue
				}
				for _, unit := range slices.Sorted(maps.Keys(side[pkg][name].Figures)) {
					if _, ok := there.Figures[unit]; ok {
						b.Units = append(b.Units, unit)
					}
				}
				both = append(both, b)
			}
		}
	}
	return both, only
}

// benchRatio is the statistic of an epoch. Counts may be 0: two zeros are equal, and where one side has none both are
// counted from one, so that the first allocation of a function is seen. Times of 0 have no ratio.
func benchRatio(sides [2]duet.Side, unit string) (d float64, ok bool) {
	a, ok1 := sides[duet.Baseline].Figures[unit]
	b, ok2 := sides[duet.Candidate].Figures[unit]
	if !ok1 || !ok2 || a < 0 || b < 0 {
		return 0, false
	}
	if unit != gobench.Time && min(a, b) == 0 {
		a, b = a+1, b+1
	}
	if a == 0 || b == 0 {
		return 0, false
	}
	return math.Log(b / a), true
}

// BenchPlan lists the metrics as cases of the bundle.
func BenchPlan(p BenchPolicy, reproduce func(Bench) string) []results.Planned {
	commands := map[string]string{}
	for _, b := range p.Benchmarks {
		commands[b.ID()] = reproduce(b)
	}
	var out []results.Planned
	for _, m := range p.Metrics() {
		out = append(out, results.Planned{
			Check: scenarioKey(m.Scenario).Check, Case: m.Name, Area: "gate", Decides: true,
			Title: m.Name + " of " + m.Scenario, Covers: []string{}, Reproduce: commands[m.Scenario],
		})
	}
	return out
}

// CheckBenchPlan compares a bundle's plan with its policy.
func CheckBenchPlan(run results.Run, policy []byte) error {
	p, err := ParseBenchPolicy(policy)
	if err != nil {
		return fmt.Errorf("policy.yaml: %w", err)
	}
	want := BenchPlan(p, func(Bench) string { return "" })
	same := slices.EqualFunc(run.Plan, want, func(a, b results.Planned) bool { return a.Key() == b.Key() && a.Decides == b.Decides })
	if !same {
		return errors.New("run.json plans other metrics than policy.yaml has")
	}
	return nil
}
