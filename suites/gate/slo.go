package gate

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/results/stats"
	"github.com/assay-bench/assay/scenarios/duet"
	"github.com/assay-bench/assay/scenarios/load/threshold"
)

// Constants of absolute checks (gate.md section 3.10).
const (
	sloEpochs     = 20
	sloConfidence = 0.99
	maxThresholds = 20 // a scenario
)

// bound is one absolute check: at most a share of the candidate's requests may be over a limit, or fail.
type bound struct {
	metric, text string
	limit        time.Duration // 0: failed requests are what is counted
	share        float64       // that may be: 0.01 of p(99)
}

// name is the case of the check in the bundle.
func (b bound) name() string { return b.metric + ": " + b.text }

// bounds reads the thresholds of a scenario, in the order of their metrics. What a bound on shares of requests can not say
// is refused.
func (s Scenario) bounds() ([]bound, error) {
	var out []bound
	for _, metric := range slices.Sorted(maps.Keys(s.Thresholds)) {
		if len(s.Thresholds[metric]) == 0 {
			return nil, fmt.Errorf("%s has no expression", metric)
		}
		for _, text := range s.Thresholds[metric] {
			b, err := parseBound(metric, text)
			if err != nil {
				return nil, err
			}
			if slices.Contains(out, b) {
				return nil, fmt.Errorf("%s is there twice", b.name())
			}
			out = append(out, b)
		}
	}
	if len(out) > maxThresholds {
		return nil, fmt.Errorf("%d expressions, at most %d", len(out), maxThresholds)
	}
	return out, nil
}

func parseBound(metric, text string) (bound, error) {
	e, err := threshold.Parse(text)
	if err != nil {
		return bound{}, err
	}
	if err := (threshold.Set{metric: {{Expression: e}}}).Check(); err != nil {
		return bound{}, err
	}
	b := bound{metric: metric, text: text}
	latency := threshold.Latency(metric)
	if e.Operator != "<" && e.Operator != "<=" || !latency && !threshold.Failures(metric) {
		return b, fmt.Errorf("%s: %s: the gate bounds shares of requests from above: latencies as p(99)<25 and failures as rate<0.01", metric, text)
	}
	if !latency {
		b.share = e.Bound
	} else {
		if e.Aggregation == "med" {
			e.Aggregation, e.Percentile = "p", 50
		}
		if e.Aggregation != "p" {
			return b, fmt.Errorf("%s: %s: only percentiles have a bound that counts epochs", metric, text)
		}
		b.share = 1 - e.Percentile/100
		b.limit = time.Duration(math.Round(min(e.Bound, maxLimit.Seconds()*1e3) * 1e6))
		if b.limit <= 0 {
			return b, fmt.Errorf("%s: %s: want a time above 0 ms", metric, text)
		}
	}
	if !(b.share > 0 && b.share < 1) {
		return b, fmt.Errorf("%s: %s: no number of epochs can show that no request, or any, is over: want a share between 0 and 1", metric, text)
	}
	return b, nil
}

const maxLimit = time.Hour

// slo is what was seen of one check: the candidate's share in each valid epoch.
type slo struct {
	bound
	shares   []float64
	requests int
	over     int
}

// observe adds a valid epoch.
func (s *slo) observe(e duet.Epoch) {
	arm := e.Arms[duet.Candidate]
	n := arm.Errors
	if s.limit > 0 {
		n = arm.Over[s.limit.String()]
	}
	s.shares = append(s.shares, float64(n)/float64(max(arm.Requests, 1)))
	s.requests, s.over = s.requests+arm.Requests, s.over+n
}

// fewest is the least number of requests that could show the bound if they were independent.
func (s *slo) fewest() int {
	n, err := stats.SamplesForQuantile(1-s.share, sloConfidence)
	if err != nil {
		return math.MaxInt // the share was checked
	}
	return n
}

// verdict judges the check with the epoch as the unit.
func (s *slo) verdict(v results.Verdict) results.Verdict {
	what := fmt.Sprintf("requests slower than %v", s.limit)
	if s.limit == 0 {
		what = "failed requests"
	}
	v.Why.Expected = fmt.Sprintf("%s: at most %s of the %s, on this run and this host", s.name(), percent(s.share), what)
	if len(s.shares) < sloEpochs || s.requests < s.fewest() {
		return finding(v, results.Inconclusive, reasonFewEpochs, fmt.Sprintf(
			"%d of %d requests in %d epochs: at least %d epochs and %d requests are wanted, however many requests an epoch has",
			s.over, s.requests, len(s.shares), sloEpochs, s.fewest()))
	}
	lower, upper, err := stats.ShareBounds(s.shares, sloConfidence)
	if err != nil {
		return finding(v, results.Broken, reasonReplay, err.Error())
	}
	v.Figures = []results.Figure{
		{Name: "share", Value: float64(s.over) / float64(s.requests), Unit: "ratio"},
		{Name: "share at least", Value: lower, Unit: "ratio"}, {Name: "share at most", Value: upper, Unit: "ratio"},
		{Name: "allowed", Value: s.share, Unit: "ratio"},
		{Name: "epochs", Value: float64(len(s.shares))}, {Name: "requests", Value: float64(s.requests)},
	}
	observed := fmt.Sprintf("%d of %d %s; %s to %s of all, 99 %% either way, over %d epochs", s.over, s.requests, what, percent(lower), percent(upper), len(s.shares))
	switch {
	case upper <= s.share:
		return finding(v, results.Pass, "", observed)
	case lower > s.share:
		return finding(v, results.Fail, reasonThreshold, observed)
	}
	return finding(v, results.Inconclusive, reasonUndecided, observed)
}

// checkOver compares the counts over a limit with the recorded histogram, which knows them within one bucket.
func checkOver(e duet.Epoch) error {
	for _, arm := range duet.Arms {
		side := e.Arms[arm]
		if len(side.Over) == 0 {
			continue
		}
		h, err := decodeHistogram(side)
		if err != nil {
			return fmt.Errorf("epoch %d of %s, %s: %w", e.Number, e.Scenario, arm, err)
		}
		for _, text := range slices.Sorted(maps.Keys(side.Over)) {
			n := side.Over[text]
			limit, err := time.ParseDuration(text)
			least, most := h.Above(int64(limit))
			if err != nil || int64(n) < least || int64(n) > most {
				return fmt.Errorf("epoch %d of %s, %s: %d requests above %s are recorded, the histogram has %d to %d", e.Number, e.Scenario, arm, n, text, least, most)
			}
		}
	}
	return nil
}

func (p Policy) slos() map[string][]*slo {
	out := map[string][]*slo{}
	for _, s := range p.Scenarios {
		bounds, _ := s.bounds() // validated
		slices.SortStableFunc(bounds, func(a, b bound) int { return cmp.Compare(a.name(), b.name()) })
		for _, b := range bounds {
			out[s.Name] = append(out[s.Name], &slo{bound: b})
		}
	}
	return out
}
