package gate

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/results/seal"
)

// Unchanged returns what a bundle of the gate holds of pairs of unchanged code: its pre-flight, and its duet where both
// sides were one program. Policies and evidence that can not be read are errors.
func Unchanged(b *results.Bundle) ([]Trial, error) {
	judged, err := Judge(b.Policy, b.Run, b.Evidence)
	if err != nil {
		return nil, err
	}
	for _, v := range judged.Verdicts {
		if v.Reason == reasonReplay {
			return nil, errors.New(v.Why.Observed)
		}
	}
	sides, err := sidesOf(b.Evidence)
	if err != nil {
		return nil, err
	}
	about := func(t Trial, kind TrialKind) Trial {
		t.Kind, t.Source, t.Seed, t.At = kind, b.Run.ID, b.Run.Seed, b.Run.Started
		t.HostClass, t.Version, t.Instrument = HostClass(b.Run.Host), b.Run.Tool.Version, sides.Instrument
		return t
	}
	var out []Trial
	if before := judged.Course.before; before > 0 && judged.Course.preRun == before {
		if t := judged.Course.preflightTrial(); len(t.Metrics) > 0 {
			out = append(out, about(t, Before))
		}
	}
	if sides.Baseline.Digest != "" && sides.Baseline.Digest == sides.Cand.Digest && judged.Course.number > 0 {
		out = append(out, about(judged.Course.Trial(), SameBuild))
	}
	return out, nil
}

// preflightTrial is the pre-flight as a line of a calibration: it decides nothing by itself. Shares near 0 are left out:
// their test wants the counts, which a line does not hold.
func (c *Course) preflightTrial() Trial {
	t := Trial{Ratios: map[string][]float64{}}
	for _, m := range c.metrics {
		if m.Gating && !m.Absolute {
			t.Metrics = append(t.Metrics, m)
			t.Ratios[m.ID()] = c.preflight(m)
		}
	}
	return t
}

// chain makes pairs of pre-flights. A single one ends before most looks, and with three gating metrics before the
// first at which an alarm is possible at all; counted as a pair it would be a trial that can not fail. So pre-flights
// of one rule (metrics, margins, looks) go through it one after the other, in the order of time: a pair begins with the
// first epoch after the last pair and ends where every metric is decided. What is left over at the end is no pair.
func chain(before []Trial) (pairs []Trial, err error) {
	slices.SortStableFunc(before, func(a, b Trial) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Source, b.Source)) })
	open := map[string]*Sequence{}
	for _, t := range before {
		rule := fmt.Sprint(t.Metrics)
		for _, d := range t.steps() {
			s := open[rule]
			if s == nil {
				if s, err = NewSequence(t.Metrics); err != nil {
					return nil, fmt.Errorf("pre-flight of %s: %w", t.Source, err)
				}
				open[rule] = s
			}
			if err := s.Observe(d); err != nil {
				return nil, fmt.Errorf("pre-flight of %s: %w", t.Source, err)
			}
			if !s.decided() {
				continue
			}
			pair := s.trial()
			pair.Kind, pair.End, pair.At, pair.HostClass, pair.Version, pair.Instrument, pair.Source = Before, Complete, t.At, t.HostClass, t.Version, t.Instrument, t.Source
			pairs, open[rule] = append(pairs, pair), nil
		}
	}
	return pairs, nil
}

// Gathered is what was found below a folder.
type Gathered struct {
	Trials  []Trial
	Bundles int
	Skipped []error // bundles that could not be read, each with its folder
}

// Gather reads every bundle of the gate below a folder. Those whose files do not fit their seal, or whose evidence
// its own figures, are skipped and named.
func Gather(dir string) (g Gathered, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() || d.Name() != results.RunFile {
			return nil
		}
		folder := filepath.Dir(path)
		trials, is, err := sealed(folder)
		switch {
		case err != nil:
			g.Skipped = append(g.Skipped, fmt.Errorf("%s: %w", folder, err))
		case is:
			g.Bundles++
			g.Trials = append(g.Trials, trials...)
		}
		return nil
	})
	if err == nil && g.Bundles == 0 {
		return g, errors.Join(fmt.Errorf("no bundle of the gate below %s", dir), errors.Join(g.Skipped...))
	}
	return g, err
}

// sealed reads one bundle, if it is one of the gate.
func sealed(folder string) (trials []Trial, is bool, err error) {
	b, err := results.Open(folder)
	if err != nil || b.Run.Kind != Kind {
		return nil, false, err
	}
	if _, err := seal.Check(folder); err != nil {
		return nil, false, err
	}
	trials, err = Unchanged(b)
	return trials, true, err
}

// News are the trials whose run is not among those known.
func News(known, found []Trial) []Trial {
	have := map[string]bool{}
	for _, t := range known {
		if t.Source != "" {
			have[string(t.Kind)+t.Source] = true
		}
	}
	var out []Trial
	for _, t := range found {
		if key := string(t.Kind) + t.Source; !have[key] {
			have[key] = true
			out = append(out, t)
		}
	}
	return out
}
