package gate

import (
	"fmt"
	"math"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/results/stats"
	"github.com/assay-bench/assay/scenarios/duet"
)

// Constants of rates near 0 (gate.md section 3.9).
const (
	rateConfidence = 0.99
	// flipSeed draws the patterns of signs beyond 20 epochs. It is the same in every run: what is random must be the
	// data, not the judge.
	flipSeed = 0x5f11
	// flipFloor is the smallest p-value of 99,999 drawn patterns.
	flipFloor = 1e-5
)

// tally is the events of both arms by epoch.
type tally struct{ events, trials [2][]float64 }

// Tally is how many of the requests of one epoch failed, by arm.
type Tally struct{ Events, Trials [2]int }

// TallyOf reads an epoch.
func TallyOf(e duet.Epoch) (t Tally) {
	for _, arm := range duet.Arms {
		t.Events[arm], t.Trials[arm] = e.Arms[arm].Errors, e.Arms[arm].Requests
	}
	return t
}

func (t *tally) add(o Tally) {
	for _, arm := range duet.Arms {
		t.events[arm] = append(t.events[arm], float64(o.Events[arm]))
		t.trials[arm] = append(t.trials[arm], float64(o.Trials[arm]))
	}
}

// RateBounds are what is known of a share near 0 at the stop.
type RateBounds struct {
	Events, Trials [2]float64
	Effect         float64 // of the candidate's clustering: n is divided by it
	Upper          float64 // of the candidate's share, 99 %
	ExcessLow      float64 // of the candidate's share over the baseline's
	Excess         float64 // the same, from above
	BadEpochs      float64 // share of epochs with an error that as many clean ones still allow, 99 %; 0 where one had errors
}

// bounds computes exact bounds with n shrunk by the design effect. The bound of the excess takes the baseline's own share at
// its lower bound, which is 0 where the baseline made no error: what the baseline does as well is no reason to be red.
func (t *tally) bounds(k int) (b RateBounds, err error) {
	var low, high [2]float64
	for _, arm := range duet.Arms {
		events, trials := t.events[arm][:k], t.trials[arm][:k]
		x, n := sum(events), sum(trials)
		effect := 1.0
		if k > 1 {
			if effect, err = stats.DesignEffect(events, trials); err != nil {
				return b, err
			}
		}
		if low[arm], high[arm], err = stats.ClopperPearson(x/effect, n/effect, rateConfidence); err != nil {
			return b, err
		}
		b.Events[arm], b.Trials[arm] = x, n
		if arm == duet.Candidate {
			b.Effect = effect
		}
	}
	b.Upper = high[duet.Candidate]
	b.Excess, b.ExcessLow = high[duet.Candidate]-low[duet.Baseline], low[duet.Candidate]-high[duet.Baseline]
	if b.Events[duet.Candidate] == 0 {
		b.BadEpochs = 1 - math.Pow(1-rateConfidence, 1/float64(k))
	}
	return b, nil
}

func sum(x []float64) (s float64) {
	for _, v := range x {
		s += v
	}
	return s
}

// flipAt is the sign-flip test of the moved differences at the look that they have come to. A look whose level no pattern
// can reach does not reject.
func flipAt(d []float64, looks []int, level float64, move func(float64) float64) (Test, error) {
	at, err := levelAt(len(d), looks, level)
	if err != nil || at == 0 {
		return Test{P: 1}, err
	}
	p, err := stats.SignFlip(moved(d, move), flipSeed)
	return Test{P: p, Level: at}, err
}

// lookRate tests a share near 0: both directions by sign flips, and a pass only where the exact bound of the excess lies
// within the margin too.
func (s *Sequence) lookRate(st *state) (err error) {
	margin := st.Metric.Fail
	if st.Worse, err = flipAt(st.d, st.Metric.Looks, st.Share, func(v float64) float64 { return v - margin }); err != nil {
		return err
	}
	if st.Better, err = flipAt(st.d, st.Metric.Looks, MissLevel, func(v float64) float64 { return margin - v }); err != nil {
		return err
	}
	b, err := st.tally.bounds(len(st.d))
	st.within = b.Excess <= margin
	return err
}

// checkReachable refuses a family so large that no look of a rate could reject (gate.md section 4, trap 3).
func checkReachable(m Metric, level float64) error {
	table, err := levels(m.Looks, level)
	if err != nil {
		return err
	}
	for _, l := range table {
		floor := flipFloor
		if l.Units <= 16 {
			floor = math.Ldexp(1, -l.Units)
		}
		if l.Level > floor {
			return nil
		}
	}
	return fmt.Errorf("%w: no look has a level above %v, which 99,999 patterns of signs can not go below", stats.ErrSample, flipFloor)
}

// Rates returns the bounds of a share near 0 at the stop; ok is false for other metrics, and before the first epoch.
func (s *Sequence) Rates(id string) (b RateBounds, ok bool, err error) {
	for _, st := range s.states {
		if st.Metric.ID() != id || !st.Metric.Absolute || len(st.d) == 0 {
			continue
		}
		b, err = st.tally.bounds(stopOf(st))
		return b, err == nil, err
	}
	return b, false, nil
}

func stopOf(st *state) int {
	if st.stop == 0 {
		return len(st.d)
	}
	return st.stop
}

// text says what is known of the share, in one sentence.
func (b RateBounds) text(margin float64, units int) string {
	a, c := duet.Baseline, duet.Candidate
	text := fmt.Sprintf("%.0f of %.0f requests failed, of the baseline's %.0f of %.0f; with 99 %% confidence at most %s of the candidate's fail",
		b.Events[c], b.Trials[c], b.Events[a], b.Trials[a], percent(b.Upper))
	if b.Effect > 1 {
		text += fmt.Sprintf(" (errors come together: %.0f requests count as %.0f)", b.Trials[c], b.Trials[c]/b.Effect)
	}
	if b.Events[c] == 0 {
		text += fmt.Sprintf(" if errors do not come together, and up to %s of epochs may have some", percent(b.BadEpochs))
	}
	if b.Excess > margin && b.Events[c] <= b.Trials[c]*margin {
		text += fmt.Sprintf("; %d epochs are too few to show a margin of %s", units, percent(margin))
	}
	return text
}

// figures are what reports print of a share near 0.
func (b RateBounds) figures() []results.Figure {
	return []results.Figure{
		{Name: "errors", Value: b.Events[duet.Candidate]}, {Name: "errors of the baseline", Value: b.Events[duet.Baseline]},
		{Name: "requests", Value: b.Trials[duet.Candidate]}, {Name: "design effect", Value: b.Effect},
		{Name: "share at most", Value: b.Upper, Unit: "ratio"}, {Name: "epochs with errors at most", Value: b.BadEpochs, Unit: "ratio"},
	}
}
