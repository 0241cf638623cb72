package gate

import (
	"math"
	"slices"

	"github.com/assay-bench/assay/results/stats"
	"github.com/assay-bench/assay/scenarios/duet"
)

// Figures are the estimates of a metric, as log-ratios that are positive for the worse.
type Figures struct {
	// AtStop uses the epochs up to the stop. Its interval inverts the tests of that look: Regression exactly where Lower is
	// above the fail margin, Passed exactly where Upper is below the pass margin. After an early stop the point is biased
	// outwards.
	AtStop stats.Estimate
	Final  float64 // the point from all epochs
	All    int     // how many those are
	// Seen is the smallest change for the worse that this run would have called a regression, if noise stays as it was;
	// SeenAtEnd is the same for the full plan, whose last look has a higher level and more epochs. A change below the pass
	// margin may not come to it: it is passed before, one of the margin itself in 5 runs of 100 at most.
	Seen, SeenAtEnd float64
}

// Estimate returns the figures of a metric that has at least one epoch; ok is false where there is none.
func (s *Sequence) Estimate(id string, seed uint64) (f Figures, ok bool, err error) {
	i := slices.IndexFunc(s.states, func(st *state) bool { return st.Metric.ID() == id })
	if i < 0 || len(s.states[i].d) == 0 {
		return Figures{}, false, nil
	}
	st := s.states[i]
	stop := stopOf(st)
	if st.Metric.Absolute {
		return s.estimateRate(st, stop, seed)
	}
	// Where no look was reached, the levels are those of the first one, which the sample is too small for: no bounds.
	worse, better := levelOr(st.Worse.Level, FamilyLevel), levelOr(st.Better.Level, MissLevel)
	if f.AtStop, err = stats.HodgesLehmann(st.d[:stop], worse, better); err != nil {
		return f, false, err
	}
	all, err := stats.HodgesLehmann(st.d, worse, better)
	if err != nil {
		return f, false, err
	}
	f.Final, f.All = all.Point, len(st.d)
	if f.Seen, err = s.seen(st, stop, worse, seed); err != nil {
		return f, false, err
	}
	f.SeenAtEnd, err = s.atEnd(st, f.Seen, func(units int, level float64) (float64, error) { return s.seen(st, units, level, seed) })
	return f, err == nil, err
}

// atEnd is what the last look finds, at its own level; without a look, what the stop does.
func (s *Sequence) atEnd(st *state, atStop float64, seen func(units int, level float64) (float64, error)) (float64, error) {
	if len(st.Metric.Looks) == 0 {
		return atStop, nil
	}
	share, last := st.Share, slices.Max(st.Metric.Looks)
	if share == 0 {
		share = s.share()
	}
	level, err := levelAt(last, st.Metric.Looks, share)
	if err != nil {
		return 0, err
	}
	return seen(last, levelOr(level, FamilyLevel))
}

func levelOr(level, other float64) float64 {
	if level > 0 {
		return level
	}
	return other
}

// seen adds what the test can find to the margin that it is held against.
func (s *Sequence) seen(st *state, units int, level float64, seed uint64) (float64, error) {
	theta, err := stats.DetectableEffect(st.d, units, level, seed)
	if err != nil || math.IsInf(theta, 1) {
		return theta, err
	}
	fail, _ := st.Metric.margins()
	return fail + theta, nil
}

// estimateRate is Estimate of a share near 0: the mean difference, with the exact bounds of the excess.
func (s *Sequence) estimateRate(st *state, stop int, seed uint64) (f Figures, ok bool, err error) {
	b, err := st.tally.bounds(stop)
	if err != nil {
		return f, false, err
	}
	f.AtStop = stats.Estimate{Point: sum(st.d[:stop]) / float64(stop), Lower: b.ExcessLow, Upper: b.Excess}
	f.Final, f.All = sum(st.d)/float64(len(st.d)), len(st.d)
	level := levelOr(st.Worse.Level, FamilyLevel)
	requests := b.Trials[duet.Candidate] / float64(stop)
	seen := func(units int, level float64) (float64, error) {
		theta, err := stats.DetectableShare(st.d, units, requests, level, seed)
		return st.Metric.Fail + theta, err
	}
	if f.Seen, err = seen(stop, level); err != nil {
		return f, false, err
	}
	f.SeenAtEnd, err = s.atEnd(st, f.Seen, seen)
	return f, err == nil, err
}
