package gate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"gonum.org/v1/gonum/stat/distuv"

	"github.com/assay-bench/assay/results/stats"
	"github.com/assay-bench/assay/scenarios/duet"
)

// Fit is what a budget of time made of a policy. It is recorded, so that a replay takes the same course.
type Fit struct {
	Budget   time.Duration  `json:"budget"`
	Most     int            `json:"mostEpochs"`         // looks beyond it are left out
	Requests map[string]int `json:"requests,omitempty"` // fewest an arm and epoch, by scenario, where it is not the usual
	Advisory []string       `json:"advisory,omitempty"` // metrics that no longer gate
	GaveUp   []string       `json:"gaveUp,omitempty"`   // in words
}

// leastRequests is the fewest requests an arm and epoch that a budget leaves; quantiles may need more.
const leastRequests = 100

// metrics applies the fit. A nil one changes nothing.
func (f *Fit) metrics(all []Metric) []Metric {
	if f == nil {
		return all
	}
	for i := range all {
		if slices.Contains(f.Advisory, all[i].ID()) {
			all[i].Gating = false
		}
		all[i].Looks = looksWithin(all[i].Looks, f.Most)
	}
	return all
}

func looksWithin(looks []int, most int) []int {
	var kept []int
	for _, l := range looks {
		if l <= most {
			kept = append(kept, l)
		}
	}
	return kept
}

// scenarios applies the fit to what is driven.
func (f *Fit) scenarios(all []duet.Scenario) []duet.Scenario {
	if f == nil {
		return all
	}
	for i := range all {
		if n := f.Requests[all[i].Name]; n > 0 {
			all[i].Fewest = n
		}
	}
	return all
}

// enough refuses a valid epoch with fewer requests than its metrics want.
func (c *Course) enough(e duet.Epoch) error {
	if e.Void != "" {
		return nil
	}
	for _, s := range c.driven {
		if s.Name != e.Scenario {
			continue
		}
		for _, arm := range duet.Arms {
			if n := e.Arms[arm].Requests; n < s.Least() {
				return fmt.Errorf("epoch %d of %s counts with %d requests of the %s, at least %d are wanted", e.Number, e.Scenario, n, arm, s.Least())
			}
		}
		return nil
	}
	return fmt.Errorf("epoch %d is of %q, which the policy does not have", e.Number, e.Scenario)
}

// Probe is how long an epoch takes, and of what that time is made.
type Probe struct {
	Overhead  time.Duration            // starts, warm-ups and ends, and turns of fixed length
	Pair      map[string]time.Duration // by scenario by request: one request to each side
	Scenarios []duet.Scenario
}

// probes is how many epochs tell.
const probes = 2

// Probe runs two epochs of the baseline against itself, to see how long they take. Nothing of them is judged. folder is
// for the undo log.
func (s Session) Probe(ctx context.Context, folder string) (out Probe, err error) {
	p, err := ParsePolicy(s.Policy)
	if err != nil {
		return out, err
	}
	out = Probe{Pair: map[string]time.Duration{}, Scenarios: p.Measured()}
	err = s.with(p, folder, func(runs *duet.Runner) error {
		for n := range probes {
			begin := time.Now()
			epochs, err := runs.Epoch(ctx, duet.Preflight, n+1, 0)
			if err != nil {
				return err
			}
			out.add(epochs, time.Since(begin))
		}
		return nil
	})
	return out, err
}

// Shift runs n epochs of the duet and returns how much a metric moved in the median one, as a relative change. Nothing of
// them is judged. folder is for the undo log. Errors: an epoch without a ratio.
func (s Session) Shift(ctx context.Context, folder, metric string, n int) (change float64, err error) {
	p, err := ParsePolicy(s.Policy)
	if err != nil {
		return 0, err
	}
	var ratios []float64
	err = s.with(p, folder, func(runs *duet.Runner) error {
		for i := range n {
			epochs, err := runs.Epoch(ctx, duet.Duet, i+1, 0)
			if err != nil {
				return err
			}
			d, ok := epochs[0].Ratios[metric]
			if !ok {
				return fmt.Errorf("an epoch shows no %s", metric)
			}
			ratios = append(ratios, d)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	slices.Sort(ratios)
	return math.Expm1(stats.Quantile(0.5, ratios)), nil
}

// add takes the slower of the epochs seen.
func (p *Probe) add(epochs []duet.Epoch, took time.Duration) {
	for _, e := range epochs {
		if e.Mode != duet.ByRequest {
			continue // its turns are as long as the policy says
		}
		sent := e.Arms[0].Took + e.Arms[1].Took
		took -= sent
		pair := sent / time.Duration(max(1, e.Arms[0].Requests))
		p.Pair[e.Scenario] = max(p.Pair[e.Scenario], pair)
	}
	p.Overhead = max(p.Overhead, took)
}

// epoch is how long one takes with the fewest requests of a fit.
func (p Probe) epoch(f *Fit) time.Duration {
	total := p.Overhead
	for _, s := range f.scenarios(slices.Clone(p.Scenarios)) {
		pair, known := p.Pair[s.Name]
		if !known {
			continue
		}
		pairs := s.Requests
		if pairs == 0 {
			pairs = max(s.Least(), int(duet.Traffic/max(pair, 1)))
		}
		total += time.Duration(pairs) * pair
	}
	return total
}

// Forecast is what a plan takes.
type Forecast struct {
	Epoch       time.Duration
	Before      int // epochs of the pre-flight
	First, Last int // looks
	Fewest      int // requests an arm and epoch
}

// Least and Most are the times of the shortest and the longest course.
func (f Forecast) Least() time.Duration { return time.Duration(f.Before+f.First) * f.Epoch }

// Most is the time of the longest course.
func (f Forecast) Most() time.Duration { return time.Duration(f.Before+f.Last) * f.Epoch }

// Foresee tells how long a policy takes under options.
func Foresee(p Policy, o Options, probe Probe) (Forecast, error) {
	c, err := NewCourse(p, o)
	if err != nil {
		return Forecast{}, err
	}
	out := Forecast{Epoch: probe.epoch(o.Fit), Before: c.before, First: math.MaxInt}
	least := 0
	for _, m := range c.metrics {
		if !m.Gating {
			continue
		}
		table, err := levels(m.Looks, c.seq.share())
		if err != nil {
			return out, err
		}
		least, out.Last = max(least, table[0].Units), max(out.Last, table[len(table)-1].Units)
	}
	for _, s := range p.Scenarios {
		if len(c.slos[s.Name]) > 0 {
			least, out.Last = max(least, sloEpochs), max(out.Last, sloEpochs)
		}
	}
	out.First, out.Fewest = least, math.MaxInt
	for _, s := range c.driven {
		out.Fewest = min(out.Fewest, s.Least())
	}
	return out, nil
}

// ErrBudget is wrapped where not even the least plan fits.
var ErrBudget = errors.New("the budget is too small")

// FitBudget makes the largest plan that fits into a time: all of it; else fewer looks; else without gating p99, which takes
// most; else with fewer requests an epoch. What was given up is said. Errors wrap ErrBudget, and say what the least plan takes.
func FitBudget(p Policy, o Options, probe Probe, budget time.Duration) (*Fit, Forecast, error) {
	f := &Fit{Budget: budget, Most: math.MaxInt32, Requests: map[string]int{}}
	o.Fit = f
	for _, give := range []func(Policy, Probe, *Fit) bool{nothing, tails, requests} {
		if !give(p, probe, f) {
			continue
		}
		full, err := Foresee(p, o, probe)
		if err != nil {
			return nil, full, err
		}
		if full.Least() > budget {
			continue
		}
		if full.Most() > budget {
			f.Most = int(budget/full.Epoch) - full.Before
			if err := f.keepLooks(p, o, &full); err != nil {
				return nil, full, err
			}
			f.GaveUp = append(f.GaveUp, fmt.Sprintf("looks after epoch %d: a change between the margins may stay undecided", full.Last))
		}
		return f, full, nil
	}
	least, err := Foresee(p, o, probe)
	if err != nil {
		return nil, least, err
	}
	return nil, least, fmt.Errorf("%w: the least plan takes %v (%d epochs of %v, twelve and more of them the pre-flight), the budget is %v: say --budget %v, or judge fewer scenarios",
		ErrBudget, least.Least().Round(time.Second), least.Before+least.First, least.Epoch.Round(10*time.Millisecond), budget, (least.Least() + 5*time.Second).Round(5*time.Second))
}

// keepLooks applies f.Most. The levels change with the looks: Foresee again, until both agree.
func (f *Fit) keepLooks(p Policy, o Options, full *Forecast) error {
	f.Most = max(f.Most, full.First)
	again, err := Foresee(p, o, Probe{Scenarios: p.Measured()})
	if err != nil {
		return err
	}
	full.First, full.Last = again.First, again.Last
	return nil
}

func nothing(Policy, Probe, *Fit) bool { return true }

// tails stops gating the metrics with long plans.
func tails(p Policy, probe Probe, f *Fit) bool {
	rest := map[string][]string{} // metrics that still gate, by scenario
	for _, m := range p.Metrics() {
		if m.Gating && m.Name == duet.P99 {
			f.Advisory = append(f.Advisory, m.ID())
		} else if m.Gating {
			rest[m.Scenario] = append(rest[m.Scenario], m.Name)
		}
	}
	if len(f.Advisory) == 0 || len(rest) == 0 {
		f.Advisory = nil
		return false
	}
	for _, s := range probe.Scenarios {
		if _, known := probe.Pair[s.Name]; known && s.Requests == 0 {
			f.Requests[s.Name] = duet.MinRequests(rest[s.Name])
		}
	}
	f.GaveUp = append(f.GaveUp, strings.Join(f.Advisory, ", ")+": seen, and no longer gating")
	return true
}

// requests sends as few an epoch as quantiles leave, and as many as the time allows.
func requests(p Policy, probe Probe, f *Fit) bool {
	before := f.scenarios(slices.Clone(probe.Scenarios))
	fewer := false
	for _, s := range before {
		if _, known := probe.Pair[s.Name]; !known || s.Requests > 0 {
			continue
		}
		var gating []string
		for _, m := range f.metrics(p.Metrics()) {
			if m.Scenario == s.Name && m.Gating {
				gating = append(gating, m.Name)
			}
		}
		if n := max(leastRequests, duet.TailRequests(gating)); n < s.Least() {
			f.Requests[s.Name], fewer = n, true
		}
	}
	if !fewer {
		return false
	}
	f.more(p, probe, before)
	for _, s := range before {
		if n := f.Requests[s.Name]; n > 0 && n < s.Least() {
			f.GaveUp = append(f.GaveUp, fmt.Sprintf("%s: %d requests a side and epoch in place of %d: noisier epochs", s.Name, n, s.Least()))
		}
	}
	return true
}

// wantedLook is how many epochs of the duet a plan with fewer requests should leave room for.
const wantedLook = 20

// more spends what the budget leaves after the wanted look on requests.
func (f *Fit) more(p Policy, probe Probe, before []duet.Scenario) {
	full, err := Foresee(p, Options{Fit: f}, probe)
	if err != nil {
		return // the caller foresees again, and says so
	}
	spare := f.Budget/time.Duration(full.Before+max(full.First, wantedLook)) - full.Epoch
	var each time.Duration
	for name := range f.Requests {
		each += probe.Pair[name]
	}
	if spare <= 0 || each <= 0 {
		return
	}
	for _, s := range before {
		if n := f.Requests[s.Name]; n > 0 {
			f.Requests[s.Name] = min(s.Least(), n+int(spare/each))
		}
	}
}

// Detectable is the smallest change for the worse of a metric that its longest plan finds with 95 % power where an epoch's noise
// is of a given size, times the factor for bursts (gate.md section 3.11). of gating metrics share the level.
func (m Metric) Detectable(noise float64, of int) float64 {
	if len(m.Looks) == 0 {
		return math.Inf(1)
	}
	z := distuv.UnitNormal.Quantile(1-FamilyLevel/float64(max(1, of))) + distuv.UnitNormal.Quantile(1-MissLevel)
	k := float64(m.Looks[len(m.Looks)-1])
	fail, _ := m.margins()
	return m.Relative(fail + 1.75*z*noise*math.Sqrt(math.Pi/3/k))
}
