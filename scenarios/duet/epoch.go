// Package duet measures two artefacts side by side: in each epoch a fresh process of both, their requests
// interleaved pair by pair, one in flight. It records what it measured and has no opinion: suites/gate decides.
package duet

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/assay-bench/assay/results/histogram"
	"github.com/assay-bench/assay/results/stats"
)

// Instrument names the way in which epochs are measured. Error rates that were measured with one say nothing of another:
// it changes with whatever can change the noise of an epoch. 2: one processor for both arms, kept awake, warm-up in turns.
const Instrument = "duet/2"

// Arm says which of the two a figure is of.
type Arm uint8

// The arms. In a pre-flight both are the baseline.
const (
	Baseline Arm = iota
	Candidate
)

// Arms are both, in the order of every pair of figures.
var Arms = [2]Arm{Baseline, Candidate}

func (a Arm) String() string { return [...]string{"baseline", "candidate"}[a] }

// MarshalText writes the arm's name.
func (a Arm) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads an arm's name.
func (a *Arm) UnmarshalText(text []byte) error {
	for _, arm := range Arms {
		if arm.String() == string(text) {
			*a = arm
			return nil
		}
	}
	return fmt.Errorf("unknown arm %q: want baseline or candidate", text)
}

// Phase tells pre-flight epochs, in which both arms are the baseline, from the duet.
type Phase string

// The phases of a run.
const (
	Preflight Phase = "preflight"
	Duet      Phase = "duet"
)

// Epoch is what one epoch showed of one scenario: the data of a Measured piece of evidence.
type Epoch struct {
	Phase    Phase  `json:"phase"`
	Number   int    `json:"epoch"` // from 1 in each phase
	Scenario string `json:"scenario"`
	Mode     Mode   `json:"mode,omitempty"` // empty: by request
	First    Arm    `json:"first"`          // the process that was started first
	// Order is, by request, a hex digit for four pairs: bit set where the candidate came first. By slice and by block it
	// is the arm of each turn: A the baseline, B the candidate.
	Order string    `json:"order"`
	Arms  [2]Side   `json:"arms"`
	Place Placement `json:"place"`
	// Ratios are ln(candidate/baseline) by metric, the epoch's statistic. A figure that is not above 0 in both
	// arms has none.
	Ratios map[string]float64 `json:"ratios"`
	Lag    time.Duration      `json:"lagP99"`         // from one answer to the next request; by slice, how late requests were sent
	Void   string             `json:"void,omitempty"` // why the epoch does not count; never for its latency
	VoidBy *Arm               `json:"voidBy,omitempty"`
}

// Placement is where both arms ran.
type Placement struct {
	Processor *int   `json:"processor,omitempty"` // by request: the one that both shared
	Awake     bool   `json:"awake,omitempty"`     // it and the generator's were kept from sleeping
	Why       string `json:"why,omitempty"`       // what could not be done
}

// Side is one arm of an epoch.
type Side struct {
	PID       int           `json:"pid"`
	Started   time.Time     `json:"started"`
	Ready     time.Duration `json:"ready"` // from the start of the process
	Warmup    Warmup        `json:"warmup"`
	Requests  int           `json:"requests"`
	Errors    int           `json:"errors"`
	Good      int           `json:"good,omitempty"` // right answers within Scenario.Within
	Took      time.Duration `json:"took"`           // all requests together; by slice and block, all turns
	Figures   Figures       `json:"figures"`
	Histogram string        `json:"histogram"` // of the requests' latency
	// Over is how many requests took longer than each of Scenario.Limits, by the limit as time.Duration writes it.
	Over map[string]int `json:"over,omitempty"`
}

// Figures are by metric: latencies in seconds, cpu in seconds a request, allocs and wire bytes a request, peak bytes,
// throughput and goodput in answers a second.
type Figures map[string]float64

// The metrics that an epoch can show.
const (
	P50    = "p50"
	P90    = "p90"
	P99    = "p99"
	Mean   = "mean"
	CPU    = "cpu"
	Allocs = "allocs"
	Peak   = "peak"
	Wire   = "wire"
	Errors = "errors" // share of requests; near 0, so that it has a difference and no ratio
	// Throughput is right answers a second with a number of requests always in flight; Goodput counts those alone that
	// came within a latency.
	Throughput = "throughput"
	Goodput    = "goodput"
)

// quantiles are the metrics that are quantiles of an epoch's latencies.
var quantiles = map[string]float64{P50: 0.5, P90: 0.9, P99: 0.99}

// Warmup is how an arm was warmed up, in turns with the other one.
type Warmup struct {
	Requests  int           `json:"requests"`
	Took      time.Duration `json:"took"` // of both
	Converged bool          `json:"converged"`
}

// MinRequests is the least number of requests an arm that an epoch must have for a quantile: 500, and for tails 13
// beyond it (gate.md section 2).
func MinRequests(metrics []string) int { return max(usualRequests, TailRequests(metrics)) }

const usualRequests = 500

// TailRequests is the part of MinRequests that the quantiles themselves need: 13 requests beyond each.
func TailRequests(metrics []string) int {
	n := 1
	for _, m := range metrics {
		if p, ok := quantiles[m]; ok {
			n = max(n, int(math.Ceil(13/(1-p)-1e-9)))
		}
	}
	return n
}

// Latencies summarises the latencies of an arm in an epoch, in nanoseconds, and sorts them.
func (f Figures) latencies(ns []float64) {
	slices.Sort(ns)
	sum := 0.0
	for _, v := range ns {
		sum += v
	}
	f[Mean] = sum / float64(len(ns)) / 1e9
	for name, p := range quantiles {
		f[name] = stats.Quantile(p, ns) / 1e9
	}
}

// encodeHistogram returns the latencies as an HDR histogram.
func encodeHistogram(ns []float64) (string, error) {
	h := histogram.New()
	for _, v := range ns {
		h.Record(int64(v))
	}
	text, err := h.Encode()
	return string(text), err
}

// Ratio computes the statistic of an epoch from both arms' figures; ok is false where one of them is not above 0.
func Ratio(sides [2]Side, metric string) (d float64, ok bool) {
	a, b := sides[Baseline].Figures[metric], sides[Candidate].Figures[metric]
	if !(a > 0) || !(b > 0) {
		return 0, false
	}
	return math.Log(b / a), true
}

// Difference computes the statistic of a share near 0 in an epoch: the candidate's less the baseline's (gate.md section
// 3.9). ok is false where an arm has no request, or the metric is not one of these.
func Difference(sides [2]Side, metric string) (d float64, ok bool) {
	a, b := sides[Baseline], sides[Candidate]
	if metric != Errors || a.Requests == 0 || b.Requests == 0 {
		return 0, false
	}
	return float64(b.Errors)/float64(b.Requests) - float64(a.Errors)/float64(a.Requests), true
}

// order draws which arm comes first in each of n pairs, and notes it.
func order(random *rand.Rand, n int) (first []Arm, digits string) {
	first = make([]Arm, n)
	hex := make([]byte, 0, (n+3)/4)
	for i := 0; i < n; i += 4 {
		bits := random.Uint64()
		digit := 0
		for j := i; j < min(i+4, n); j++ {
			if bits>>(j-i)&1 == 1 {
				first[j] = Candidate
				digit |= 1 << (j - i)
			}
		}
		hex = append(hex, "0123456789abcdef"[digit])
	}
	return first, string(hex)
}
