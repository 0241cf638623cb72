package gate

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/results/seal"
	"github.com/assay-bench/assay/results/stats"
	"github.com/assay-bench/assay/scenarios/duet"
)

// Through is how a stored result takes part in a run: not at all, as advice, or with a say. A stored result has one only through a
// reference that was run side by side both times (gate.md section 5): what is compared is a ratio of ratios.
type Through string

// The ways.
const (
	NotThrough Through = ""
	Advisory   Through = "advisory"
	Gating     Through = "gating"
)

// Bounds on the epochs of a ratio of ratios.
const (
	fewestStored = 12
	mostStored   = 60
)

// Stored is a run of the gate whose baseline was a reference, as evidence of a later run against the same reference.
type Stored struct {
	Policy    string               `json:"policy"`    // SHA-256 of policy.yaml
	HostClass string               `json:"hostClass"` // of the host that ran it
	Tool      string               `json:"tool"`
	Started   time.Time            `json:"started"`
	Reference ArtefactRef          `json:"reference"` // its baseline
	Measured  ArtefactRef          `json:"measured"`  // its candidate
	Ratios    map[string][]float64 `json:"ratios"`    // of the duet's valid epochs, by metric, positive for the worse
}

// ReadStored reads a bundle of the gate. Errors wrap duet.ErrNotComparable: it is none, it was edited, or its epochs do not add up.
func ReadStored(dir string) (Stored, error) {
	refuse := func(err error) (Stored, error) {
		return Stored{}, fmt.Errorf("%w: %s: %w", duet.ErrNotComparable, dir, err)
	}
	b, err := results.Open(dir)
	if err != nil {
		return refuse(err)
	}
	if b.Run.Kind != Kind {
		return refuse(fmt.Errorf("a bundle of kind %q, not of the gate", b.Run.Kind))
	}
	p, err := ParsePolicy(b.Policy)
	if err != nil {
		return refuse(err)
	}
	sides, err := sidesOf(b.Evidence)
	if err != nil {
		return refuse(err)
	}
	if sides.Options.Through != NotThrough {
		return refuse(errors.New("it is a ratio of ratios itself: give the run that its stored result came from"))
	}
	s := Stored{
		Policy: digestOf(b.Policy), HostClass: HostClass(b.Run.Host), Tool: toolOf(b.Run.Tool), Started: b.Run.Started,
		Reference: sides.Baseline, Measured: sides.Cand, Ratios: map[string][]float64{},
	}
	for _, e := range b.Evidence {
		if e.Kind != results.Measured || !strings.HasPrefix(e.Check, runKey.Check+"/") {
			continue
		}
		var epoch duet.Epoch
		if err := e.Decode(&epoch); err != nil {
			return refuse(err)
		}
		if err := consistent(epoch); err != nil {
			return refuse(err)
		}
		s.add(p, epoch)
	}
	return s, nil
}

func (s *Stored) add(p Policy, e duet.Epoch) {
	if e.Phase != duet.Duet || e.Void != "" {
		return
	}
	for _, m := range p.Metrics() {
		if d, ok := m.of(e); ok && m.Scenario == e.Scenario {
			s.Ratios[m.ID()] = append(s.Ratios[m.ID()], d)
		}
	}
}

func digestOf(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

func toolOf(t results.Tool) string {
	return strings.Join([]string{t.Name, t.Version, t.Revision, t.Go, t.OS, t.Arch}, " ")
}

// Comparable tells why a ratio of ratios would mean nothing: another class of host (a ratio is not the same on every
// processor), another reference, policy or load generator. Errors wrap duet.ErrNotComparable.
func (s Stored) Comparable(host results.Host, tool results.Tool, policy []byte, reference string) error {
	for _, c := range []struct{ what, then, now string }{
		{"host class", s.HostClass, HostClass(host)},
		{"reference", s.Reference.Digest, reference},
		{"policy", s.Policy, digestOf(policy)},
		{"load generator", s.Tool, toolOf(tool)},
	} {
		if c.then != c.now {
			return fmt.Errorf("%w: the %s was %s and is %s: a ratio of ratios is one only where they are the same", duet.ErrNotComparable, c.what, c.then, c.now)
		}
	}
	if s.Epochs() < fewestStored {
		return fmt.Errorf("%w: the stored result has %d valid epochs, at least %d are wanted: run it again with --force", duet.ErrNotComparable, s.Epochs(), fewestStored)
	}
	return nil
}

// CheckSeal tells whether the stored bundle was changed since it was written.
func CheckSeal(dir string) error {
	if _, err := seal.Check(dir); err != nil {
		return fmt.Errorf("%w: %s: %w", duet.ErrNotComparable, dir, err)
	}
	return nil
}

// Epochs is how many the new run needs: as many as the stored one has of every metric, up to 60.
func (s Stored) Epochs() int {
	n := mostStored
	if len(s.Ratios) == 0 {
		n = 0
	}
	for _, d := range s.Ratios {
		n = min(n, len(d))
	}
	return n
}

// ratioOfRatios is the verdict on a metric against a stored result. Epochs of then and now are paired in their order: under no change
// their differences are as likely positive as negative, so that the signed-rank test stays exact.
func (j *judge) ratioOfRatios(v results.Verdict, m Metric) results.Verdict {
	now := j.course.seq.observed(m.ID())
	then := j.stored.Ratios[m.ID()]
	k := min(len(now), len(then))
	if k < fewestStored {
		return finding(v, results.Inconclusive, reasonFewEpochs, fmt.Sprintf("%d epochs in both runs, at least %d are wanted", k, fewestStored))
	}
	y := make([]float64, k)
	for i := range y {
		y[i] = now[i] - then[i]
	}
	worse, better, err := bothWays(m, y)
	if err != nil {
		return finding(v, results.Broken, reasonReplay, err.Error())
	}
	level := FamilyLevel / float64(max(1, j.course.wouldGate()))
	estimate, err := stats.HodgesLehmann(y, level, MissLevel)
	if err != nil {
		return finding(v, results.Broken, reasonReplay, err.Error())
	}
	v.Figures = throughFigures(m, estimate, k, worse, better, level)
	observed := fmt.Sprintf("%s (%s to %s) against the stored result of %s, through the reference, over %d epochs",
		change(m, estimate.Point), change(m, estimate.Lower), change(m, estimate.Upper), j.stored.Started.Format(time.DateOnly), k)
	switch {
	case worse < level:
		return finding(v, results.Fail, reasonRegression, observed)
	case better < MissLevel:
		return finding(v, results.Pass, "", observed)
	}
	return finding(v, results.Inconclusive, reasonUndecided, observed)
}

// bothWays tests that y is above the fail margin, and below the pass margin.
func bothWays(m Metric, y []float64) (worse, better float64, err error) {
	fail, pass := m.margins()
	up, down := moved(y, func(v float64) float64 { return v - fail }), moved(y, func(v float64) float64 { return pass - v })
	if m.Absolute {
		if worse, err = stats.SignFlip(up, flipSeed); err != nil {
			return 0, 0, err
		}
		better, err = stats.SignFlip(down, flipSeed)
		return worse, better, err
	}
	u, err := stats.TestSignedRank(up)
	if err != nil {
		return 0, 0, err
	}
	d, err := stats.TestSignedRank(down)
	return u.P, d.P, err
}

func throughFigures(m Metric, e stats.Estimate, k int, worse, better, level float64) []results.Figure {
	out := []results.Figure{
		{Name: "change", Value: m.Relative(e.Point), Unit: "ratio"}, {Name: "epochs", Value: float64(k)},
		{Name: "fail above", Value: m.Fail, Unit: "ratio"}, {Name: "pass below", Value: m.Pass, Unit: "ratio"},
		{Name: "p worse", Value: worse}, {Name: "level worse", Value: level}, {Name: "p better", Value: better}, {Name: "level better", Value: MissLevel},
	}
	for _, b := range []struct {
		name string
		v    float64
	}{{"lower", e.Lower}, {"upper", e.Upper}} {
		if !math.IsInf(b.v, 0) {
			out = append(out, results.Figure{Name: b.name, Value: m.Relative(b.v), Unit: "ratio"})
		}
	}
	return out
}

// exitOf is the exit code of a run. Where nothing decides because all is advice, what was judged is a pass with a warning.
func exitOf(v results.Verdicts, run results.Run, c *Course) results.Exit {
	exit := results.ExitOf(v.Verdicts, func(x results.Verdict) bool { return run.Counts(x.Key()) })
	if c.End() == BaselineNotReady {
		return results.ExitUsage
	}
	advice := c.options.Through == Advisory && v.Executed > 0
	if advice && exit == results.ExitHarness && v.Count(results.Broken)+v.Count(results.Unproven) == 0 {
		return results.ExitPass
	}
	return exit
}
