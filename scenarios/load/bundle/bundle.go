// Package bundle is what a run of assay load leaves in a bundle, and how that is judged. The thresholds
// that the user set are the only opinions; a result that calls itself INVALID is Inconclusive before any of
// them is looked at. It sends nothing and prints nothing.
//
// A load has no suite. Its plan has a row on the generator, one on the target, and one for each threshold;
// the digest in run.json is that of this package's sources.
package bundle

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/results/histogram"
	"github.com/assay-bench/assay/scenarios/load"
	"github.com/assay-bench/assay/scenarios/load/threshold"
)

// Kind is the kind of such a run in run.json.
const Kind = "load"

// Version is the version of these rules.
const Version = "1"

// The rows of the plan.
const (
	GeneratorCheck = "load/generator" // the measurement is VALID
	AnsweredCheck  = "load/answered"  // the target granted a request
	ThresholdCheck = "load/threshold" // one case a threshold: its metric, a blank, its expression
)

// The kinds of evidence.
const (
	Loaded results.Kind = "load"  // a Load
	Curved results.Kind = "curve" // a Curve
)

// Load is the data of Loaded evidence: one run, one step of a sweep, or several merged runs.
type Load struct {
	URL        string            `json:"url,omitempty"`
	Sends      string            `json:"sends,omitempty"` // in words
	Thresholds threshold.Set     `json:"thresholds,omitempty"`
	Merged     []string          `json:"merged,omitempty"`
	Result     *load.Result      `json:"result"`
	Texts      map[string]string `json:"distributions"` // ResponseAll, Service and Lateness, as histogram.Encode writes them
}

// judged are the distributions that thresholds speak of.
var judged = []string{load.ResponseAll, load.Service, load.Lateness}

// NewLoad puts a result into evidence.
func NewLoad(r *load.Result, set threshold.Set) Load {
	l := Load{Result: r, Thresholds: set, Texts: map[string]string{}}
	for _, name := range judged {
		l.Texts[name] = string(r.Histograms[name])
	}
	return l
}

// Curve is the data of Curved evidence: what the steps of a sweep show together.
type Curve struct {
	Knee    float64 `json:"knee"`    // rate of the step at the knee, per second; 0: none is to be seen
	Stopped string  `json:"stopped"` // why the sweep ended
}

//go:embed *.go
var sources embed.FS

// Digest identifies the rules: SHA-256 over the sources of this package, tests apart.
func Digest() string {
	sum := sha256.New()
	entries, err := sources.ReadDir(".")
	if err != nil {
		panic(err) // it is embedded
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		raw, err := sources.ReadFile(e.Name())
		if err != nil {
			panic(err) // it was just listed
		}
		fmt.Fprintf(sum, "%s %d\n%s", e.Name(), len(raw), raw)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// Plan gives run.json its rows. reproduce is the command that makes such a run again.
func Plan(run *results.Run, set threshold.Set, reproduce string) {
	row := func(check, name, title string) results.Planned {
		return results.Planned{
			Check: check, Case: name, Area: Kind, Title: title, Covers: []string{check}, Decides: true, Reproduce: reproduce,
		}
	}
	run.Plan = []results.Planned{
		row(GeneratorCheck, "", "the measurement is valid"), row(AnsweredCheck, "", "the target grants requests"),
	}
	run.Requirements = []results.Requirement{
		results.HouseRequirement(AnsweredCheck, "assay load rules", "The target grants at least one of the requests that it is sent.", "target"),
		results.HouseRequirement(GeneratorCheck, "assay load rules",
			"Every arrival is accounted for and was sent in time: the generator's own measurement is VALID.", "harness"),
	}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		for _, r := range set[name] {
			run.Plan = append(run.Plan, row(ThresholdCheck, caseOf(name, r.String()), "the threshold "+r.String()+" on "+name+" holds"))
		}
	}
	if len(set) > 0 {
		run.Requirements = append(run.Requirements,
			results.HouseRequirement(ThresholdCheck, "the user's thresholds", "The thresholds that the user set hold for the whole run.", "target"))
	}
}

func caseOf(metric, expression string) string { return metric + " " + expression }

// CheckPlan compares the plan of a recorded run with the thresholds in its evidence: one that was taken out
// of the plan would give another exit code.
func CheckPlan(run results.Run, evidence []results.Evidence) error {
	loads, err := Read(evidence)
	if err != nil {
		return err
	}
	var want results.Run
	var set threshold.Set
	for _, l := range loads {
		set = l.Thresholds
	}
	reproduce := ""
	if len(run.Plan) > 0 {
		reproduce = run.Plan[0].Reproduce
	}
	Plan(&want, set, reproduce)
	for _, pair := range [][2]any{{run.Plan, want.Plan}, {run.Requirements, want.Requirements}} {
		have, herr := results.Marshal(pair[0])
		asked, aerr := results.Marshal(pair[1])
		if herr != nil || aerr != nil || string(have) != string(asked) {
			return errors.New("run.json plans otherwise than the thresholds in the evidence ask for")
		}
	}
	return nil
}

// Recorded is a load with the number of its evidence.
type Recorded struct {
	Load
	Seq uint64
}

// Read collects the loads of a run, in order.
func Read(evidence []results.Evidence) ([]Recorded, error) {
	var list []Recorded
	for _, e := range evidence {
		if e.Kind != Loaded {
			continue
		}
		r := Recorded{Seq: e.Seq}
		if err := e.Decode(&r.Load); err != nil {
			return nil, err
		}
		if r.Result == nil {
			return nil, fmt.Errorf("evidence %d holds no result", e.Seq)
		}
		list = append(list, r)
	}
	return list, nil
}

// observations are what thresholds are held against.
func (l Load) observations() (threshold.Observations, error) {
	c := l.Result.Counts
	o := threshold.Observations{
		Requests: c.OK + c.Error + c.Timeout, Failed: c.Error + c.Timeout + c.Unsent, Unsent: c.Unsent,
		Lasted: time.Duration(l.Result.Elapsed),
	}
	for _, d := range []struct {
		name string
		into **histogram.Histogram
	}{{load.ResponseAll, &o.Response}, {load.Service, &o.Service}, {load.Lateness, &o.Lateness}} {
		h, err := histogram.Decode([]byte(l.Texts[d.name]))
		if err != nil {
			return o, fmt.Errorf("distribution %s: %w", d.name, err)
		}
		*d.into = h
	}
	return o, nil
}

// Held tells whether the result is VALID and every threshold holds.
func (l Load) Held() (bool, error) {
	o, err := l.observations()
	if err != nil || !l.Result.Valid || l.Result.Counts.OK == 0 {
		return false, err
	}
	verdicts, err := l.Thresholds.Judge(o)
	for _, v := range verdicts {
		if !v.Held {
			return false, err
		}
	}
	return err == nil, err
}

// Knee returns the index of the step at which latency leaves the line from the first step to the last the
// furthest: the greatest distance between share of the rate and share of the latency (Satopää et al.,
// "Finding a Kneedle in a Haystack", 2011, for a convex curve). ok is false for fewer than three steps and
// for a curve that never bends upwards.
func Knee(rates []float64, latency []int64) (at int, ok bool) {
	n := len(rates)
	if n < 3 || len(latency) != n || rates[n-1] <= rates[0] || latency[n-1] <= latency[0] {
		return 0, false
	}
	best := 0.0
	for i := range rates {
		x := (rates[i] - rates[0]) / (rates[n-1] - rates[0])
		y := float64(latency[i]-latency[0]) / float64(latency[n-1]-latency[0])
		if d := x - y; d > best {
			best, at = d, i
		}
	}
	const flat = 0.1 // a straight line has no knee
	return at, best > flat
}

// LatencyBound returns a hundredth of the smallest latency that a set of thresholds asks for: what the
// generator's lateness is held against. 0: no threshold bounds a latency from above.
func LatencyBound(set threshold.Set) time.Duration {
	smallest := math.Inf(1)
	for name, rules := range set {
		for _, r := range rules {
			if threshold.Latency(name) && strings.HasPrefix(r.Operator, "<") && r.Bound > 0 {
				smallest = min(smallest, r.Bound)
			}
		}
	}
	if math.IsInf(smallest, 1) {
		return 0
	}
	return max(time.Duration(min(smallest/100, 3.6e6)*float64(time.Millisecond)), 1)
}
