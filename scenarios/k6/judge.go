package k6

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/assay-bench/assay/results"
)

// Version is the version of these rules.
const Version = "1"

//go:embed *.go
var sources embed.FS

// Digest identifies the rules: SHA-256 over the sources of this package, tests apart.
func Digest() string {
	sum := sha256.New()
	names, err := fs.Glob(sources, "*.go")
	if err != nil {
		panic(err) // the pattern is a constant
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		raw, err := sources.ReadFile(name)
		if err != nil {
			panic(err) // it was just listed
		}
		fmt.Fprintf(sum, "%s %d\n%s", name, len(raw), raw)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// The reasons of verdicts on the generator and on thresholds.
const (
	ReasonScript      = "script-error"   // Broken: the script threw, or k6 itself failed
	ReasonNoLoad      = "no-load"        // Fail: the target could not be reached at all
	ReasonNothing     = "nothing-ran"    // Broken: not one iteration
	ReasonDropped     = "dropped"        // Inconclusive: iterations were never started
	ReasonInvalid     = "invalid"        // Inconclusive: the open-loop engine calls its own result INVALID
	ReasonOverflow    = "overflow"       // Inconclusive: samples beyond the histograms
	ReasonInterrupted = "interrupted"    // Inconclusive: the run was ended before its end
	ReasonGenerator   = "generator"      // Inconclusive: a threshold of a run that is not valid
	ReasonNoSamples   = "no-samples"     // Inconclusive: a threshold on a metric that was never measured
	ReasonResolution  = "resolution"     // Inconclusive: raw samples and histogram fall on two sides of the bound
	ReasonCrossed     = "crossed"        // Fail: the threshold does not hold
	ReasonUnfinished  = "not-finished"   // Unproven: the run was killed
	ReasonUnreadable  = "unreadable"     // Broken: the evidence is not what this package writes
	ReasonUnjudgeable = "not-understood" // Broken: the expression is not one of k6's
)

// Plan gives run.json its rows: the generator first, then the thresholds in the order of metric and
// expression. reproduce is the command that makes such a run again.
func Plan(run *results.Run, script string, thresholds map[string][]string, reproduce string) {
	row := func(check, name, title string) results.Planned {
		return results.Planned{
			Check: check, Case: name, Area: Kind, Title: title, Covers: []string{check}, Decides: true, Reproduce: reproduce,
		}
	}
	run.Plan = []results.Planned{row(GeneratorCheck, "", "every iteration is started in time, runs and ends")}
	run.Requirements = []results.Requirement{results.HouseRequirement(GeneratorCheck, "assay load rules",
		"Every scheduled iteration was started, none threw, and the generator's own measurement is valid.", "harness")}
	for _, name := range sorted(thresholds) {
		for _, expression := range slices.Sorted(slices.Values(thresholds[name])) {
			run.Plan = append(run.Plan, row(ThresholdCheck, caseOf(name, expression), "the threshold "+expression+" on "+name+" holds"))
		}
	}
	if len(run.Plan) > 1 {
		run.Requirements = append(run.Requirements, results.HouseRequirement(ThresholdCheck, script, "The thresholds that the script sets hold.", "target"))
	}
}

func caseOf(metric, expression string) string { return metric + " " + expression }

func sorted[V any](m map[string]V) []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Verdicts judges a run into the content of verdicts.json. It is a pure function of its arguments.
func Verdicts(run results.Run, evidence []results.Evidence) results.Verdicts {
	r := read(evidence)
	v := results.Verdicts{APIVersion: results.APIVersion, SuiteDigest: Digest()}
	generator := r.generator()
	for _, p := range run.Plan {
		x := generator
		if p.Check != GeneratorCheck {
			x = r.threshold(p.Case, generator.Status)
		}
		x.Check, x.Case, x.Why.Reproduce = p.Check, p.Case, p.Reproduce
		if x.Status == results.Pass || x.Status == results.Fail || x.Status == results.Inconclusive {
			v.Executed++
		}
		v.Verdicts = append(v.Verdicts, x)
	}
	v.Exit = results.ExitOf(v.Verdicts, func(results.Verdict) bool { return true })
	return v
}

// CheckPlan compares the plan of a recorded run with what its evidence says was asked for: a threshold that
// was taken out of the plan, or a row that this package does not have, would give other verdicts.
func CheckPlan(run results.Run, evidence []results.Evidence) error {
	r := read(evidence)
	thresholds := map[string][]string{}
	for _, m := range r.metrics {
		for _, t := range m.Thresholds {
			if !t.Guard {
				thresholds[m.Name] = append(thresholds[m.Name], t.Expression)
			}
		}
	}
	var want results.Run
	var script, reproduce string
	if len(run.Plan) > 0 {
		reproduce = run.Plan[0].Reproduce
	}
	for _, q := range run.Requirements {
		if q.ID == ThresholdCheck {
			script = q.Document
		}
	}
	Plan(&want, script, thresholds, reproduce)
	for _, pair := range [][2]any{{run.Plan, want.Plan}, {run.Requirements, want.Requirements}} {
		have, herr := results.Marshal(pair[0])
		asked, aerr := results.Marshal(pair[1])
		if herr != nil || aerr != nil || string(have) != string(asked) {
			return fmt.Errorf("run.json plans otherwise than the thresholds in the evidence ask for")
		}
	}
	return nil
}
