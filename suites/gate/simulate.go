package gate

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
)

// Simulation replays the rule on epochs that were recorded of unchanged code.
type Simulation struct {
	Metrics []Metric // the rule; the epochs have log-ratios of these
	Trials  int
	Seed    uint64
	// Block is how many successive epochs are drawn together, so that what lasts longer than an epoch (a busy neighbour)
	// lasts in the simulation too.
	Block int
}

// DefaultBlock is how many epochs a block has.
const DefaultBlock = 6

// leastEpochs is what a simulation needs: with fewer the same few stand in every trial.
const leastEpochs = 100

// Simulated are the rates at one planted change.
type Simulated struct {
	Change  string             `json:"change"`  // unchanged, fail margin or pass margin
	Any     Rate               `json:"any"`     // trials in which any metric was called a regression
	Metrics map[string]Rate    `json:"metrics"` // by metric id
	Epochs  map[string]float64 `json:"epochs"`  // mean, at the stop
	Pool    int                `json:"pool"`    // recorded epochs
}

// Changes that a simulation plants, in every metric at once.
const (
	NoChange = "unchanged"
	AtFail   = "at the fail margin"
	AtPass   = "at the pass margin"
)

// Run simulates unchanged code, code at its fail margins and code at its pass margins. Errors: too few recorded epochs.
func (s Simulation) Run(recorded []Trial) ([]Simulated, error) {
	pool := s.pool(recorded)
	if len(pool) < leastEpochs {
		return nil, fmt.Errorf("%d recorded epochs of unchanged code with every metric of the rule, want %d; more: assay calibrate gate, or --from a folder of bundles", len(pool), leastEpochs)
	}
	if s.Trials < 1 || s.Block < 1 || s.Block > len(pool) {
		return nil, fmt.Errorf("%d trials in blocks of %d epochs out of %d", s.Trials, s.Block, len(pool))
	}
	var out []Simulated
	for i, change := range []string{NoChange, AtFail, AtPass} {
		shift := map[string]float64{}
		for _, m := range s.Metrics {
			fail, pass := m.margins()
			shift[m.ID()] = []float64{0, fail, pass}[i]
		}
		random := rand.New(rand.NewPCG(s.Seed, uint64(i)))
		one, err := s.at(change, shift, pool, random)
		if err != nil {
			return nil, err
		}
		out = append(out, one)
	}
	return out, nil
}

// pool are the recorded epochs that have every metric of the rule, in the order of time.
func (s Simulation) pool(recorded []Trial) []step {
	var out []step
	for _, t := range recorded {
		if t.Kind != SameBuild && t.Kind != Before {
			continue
		}
		for _, d := range t.steps() {
			if !slices.ContainsFunc(s.Metrics, func(m Metric) bool { _, ok := d[m.ID()]; return !ok }) {
				out = append(out, d)
			}
		}
	}
	return out
}

// at runs all trials of one change.
func (s Simulation) at(change string, shift map[string]float64, pool []step, random *rand.Rand) (Simulated, error) {
	out := Simulated{Change: change, Metrics: map[string]Rate{}, Epochs: map[string]float64{}, Pool: len(pool)}
	counted := &census{counts: map[cell]*Rate{}, builds: map[string]bool{}}
	for range s.Trials {
		t, err := s.trial(shift, pool, random)
		if err != nil {
			return out, err
		}
		counted.add(t)
		for id, n := range t.Epochs {
			out.Epochs[id] += float64(n) / float64(s.Trials)
		}
	}
	for _, r := range counted.counts {
		r.Trials = s.Trials // what was not decided was no alarm, and nothing found
	}
	rates, err := counted.rates()
	for _, r := range rates {
		if r.Metric == "" {
			out.Any = r
		} else {
			out.Metrics[r.Metric] = r
		}
	}
	return out, err
}

// trial draws blocks of epochs, each epoch with the arms as they were or swapped, plants the change and plays the rule to its
// end. Swapping is what the null says: both arms are one program, started in an order that was drawn.
func (s Simulation) trial(shift map[string]float64, pool []step, random *rand.Rand) (Trial, error) {
	seq, err := NewSequence(s.Metrics)
	if err != nil {
		return Trial{}, err
	}
	for at, left := 0, 0; !seq.decided(); left-- {
		if left == 0 {
			at, left = random.IntN(len(pool)), s.Block
		}
		sign := float64(1 - 2*random.IntN(2))
		d := step{}
		for id, by := range shift {
			d[id] = sign*pool[at%len(pool)][id] + by
		}
		at++
		if err := seq.Observe(d); err != nil {
			return Trial{}, err
		}
	}
	t := seq.trial()
	t.End = Complete
	return t, nil
}

// Rule is the rule of most recorded pairs of unchanged code: what a simulation plays where nothing else is said. Ties are
// broken by the metrics' names.
func Rule(recorded []Trial) ([]Metric, error) {
	counts, rules := map[string]int{}, map[string][]Metric{}
	for _, t := range recorded {
		if len(t.Metrics) > 0 && (t.Kind == SameBuild || t.Kind == Before) {
			key := fmt.Sprint(t.Metrics)
			counts[key] += len(t.steps())
			rules[key] = t.Metrics
		}
	}
	best, most := "", math.MinInt
	for _, key := range slices.Sorted(maps.Keys(counts)) {
		if counts[key] > most {
			best, most = key, counts[key]
		}
	}
	if best == "" {
		return nil, errors.New("no recorded epoch of unchanged code: run assay calibrate gate first, or give bundles with --from")
	}
	return rules[best], nil
}
