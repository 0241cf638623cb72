package stats

import (
	"fmt"

	"gonum.org/v1/gonum/stat/distuv"
)

// ClopperPearson returns exact bounds on a probability of which x of n trials showed the event (Clopper and Pearson
// 1934), each one-sided at confidence: together they are a two-sided interval at 2·confidence−1. n and x need not
// be whole: a sample of clusters is shrunk by its DesignEffect. Errors: n ≤ 0, x outside 0 to n.
func ClopperPearson(x, n, confidence float64) (lower, upper float64, err error) {
	if !(n > 0) || !(x >= 0 && x <= n) {
		return 0, 0, fmt.Errorf("%w: %v of %v trials", ErrSample, x, n)
	}
	if err := probability("confidence", confidence); err != nil {
		return 0, 0, err
	}
	upper = 1
	if x > 0 {
		lower = distuv.Beta{Alpha: x, Beta: n - x + 1}.Quantile(1 - confidence)
	}
	if x < n {
		upper = distuv.Beta{Alpha: x + 1, Beta: n - x}.Quantile(confidence)
	}
	return lower, upper, nil
}

// DesignEffect returns by how much the variance of the pooled share of events exceeds that of independent trials, because trials of
// one cluster resemble each other (Kish 1965): the between-cluster variance of the shares over the binomial one. It
// is at least 1, and 1 where nothing or everything was an event. events[i] of trials[i] are those of cluster i.
func DesignEffect(events, trials []float64) (float64, error) {
	if len(events) != len(trials) || len(events) < 2 {
		return 0, fmt.Errorf("%w: %d clusters of events and %d of trials, want the same number, at least 2", ErrSample, len(events), len(trials))
	}
	x, n := 0.0, 0.0
	for i := range events {
		if !(trials[i] > 0) || !(events[i] >= 0 && events[i] <= trials[i]) {
			return 0, fmt.Errorf("%w: cluster %d has %v of %v trials", ErrSample, i, events[i], trials[i])
		}
		x, n = x+events[i], n+trials[i]
	}
	p := x / n
	if p == 0 || p == 1 {
		return 1, nil
	}
	residual := 0.0 // of the ratio estimator x/n over clusters
	for i := range events {
		e := events[i] - p*trials[i]
		residual += e * e
	}
	k := float64(len(events))
	return max(1, k/(k-1)*residual/(n*p*(1-p))), nil
}
