package cost

import (
	"math"
	"slices"
	"time"
)

// Row is what the samples of a cell say.
type Row struct {
	Exchange string        `json:"exchange"`
	Chain    string        `json:"chain"`
	Resumed  bool          `json:"resumed"`
	N        int           `json:"n"`
	CPU      time.Duration `json:"cpuNanos"` // p50 of both ends together
	Client   time.Duration `json:"clientCpuNanos"`
	Server   time.Duration `json:"serverCpuNanos"`
	Mean     time.Duration `json:"wallMeanNanos"`
	P50      time.Duration `json:"wallP50Nanos"`
	P99      time.Duration `json:"wallP99Nanos,omitempty"` // only of at least 2,000 samples
	Up       int           `json:"bytesUp"`                // p50, with one byte of application data
	Down     int           `json:"bytesDown"`
	Flights  int           `json:"flights"`
	Retries  int           `json:"retries"`
	Ratio    *Ratio        `json:"cpuRatio,omitempty"`  // to the base
	Wall     *Ratio        `json:"wallRatio,omitempty"` // to the base
}

// Ratio is the median of the ratios of neighbours, with the order-statistic interval at 95 % or more.
type Ratio struct {
	To     string  `json:"to"`
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

const enoughForP99 = 2000

// Summarise makes one row a cell, in the order of the cells.
func Summarise(cells []Cell, samples map[string][]Sample) []Row {
	var out []Row
	for _, c := range cells {
		xs := samples[c.Key()]
		if len(xs) == 0 {
			continue
		}
		r := Row{
			Exchange: c.Exchange, Chain: c.Chain, Resumed: c.Resumed, N: len(xs), Flights: xs[len(xs)-1].Flights,
			CPU: mid(xs, Sample.CPU), Client: mid(xs, func(s Sample) time.Duration { return s.Client }),
			Server: mid(xs, func(s Sample) time.Duration { return s.Server }),
			P50:    mid(xs, func(s Sample) time.Duration { return s.Wall }),
			Up:     mid(xs, func(s Sample) int { return s.Up }), Down: mid(xs, func(s Sample) int { return s.Down }),
		}
		var sum time.Duration
		for _, s := range xs {
			sum += s.Wall
			if s.Retried {
				r.Retries++
			}
		}
		r.Mean = sum / time.Duration(len(xs))
		if len(xs) >= enoughForP99 {
			r.P99 = sorted(xs, func(s Sample) time.Duration { return s.Wall })[int(math.Ceil(0.99*float64(len(xs))))-1]
		}
		if base := samples[c.Base]; c.Base != c.Key() && len(base) == len(xs) {
			r.Ratio = ratioOf(c.Base, xs, base, Sample.CPU)
			r.Wall = ratioOf(c.Base, xs, base, func(s Sample) time.Duration { return s.Wall })
		}
		out = append(out, r)
	}
	return out
}

// RatioOf compares two cells that were measured in the same rounds.
func RatioOf(samples map[string][]Sample, of, to string) *Ratio {
	a, b := samples[of], samples[to]
	if len(a) == 0 || len(a) != len(b) {
		return nil
	}
	return ratioOf(to, a, b, Sample.CPU)
}

func ratioOf(to string, a, b []Sample, of func(Sample) time.Duration) *Ratio {
	var rs []float64
	for i := range a {
		if d := of(b[i]); d > 0 {
			rs = append(rs, float64(of(a[i]))/float64(d))
		}
	}
	if len(rs) == 0 {
		return nil
	}
	slices.Sort(rs)
	k := medianRank(len(rs))
	return &Ratio{To: to, Median: (rs[(len(rs)-1)/2] + rs[len(rs)/2]) / 2, Low: rs[k], High: rs[len(rs)-1-k]}
}

// medianRank is the largest k for which the k-th smallest and k-th largest of n values (from 0) enclose the
// median with a probability of at least 95 %: 2·P(Bin(n, ½) ≤ k) ≤ 0.05. Of fewer than six it is 0, and
// the interval is all that was seen.
func medianRank(n int) int {
	p := math.Exp2(-float64(n)) // P(X = 0); of large n it underflows to 0, and the normal form is used
	if n > 1000 {
		return max(0, int(float64(n)/2-1.96*math.Sqrt(float64(n))/2)-1)
	}
	sum, k := 0.0, 0
	for i := 0; i < n; i++ {
		sum += p
		if 2*sum > 0.05 {
			break
		}
		k = i
		p *= float64(n-i) / float64(i+1)
	}
	return k
}

func sorted[T int | time.Duration](xs []Sample, of func(Sample) T) []T {
	out := make([]T, len(xs))
	for i, s := range xs {
		out[i] = of(s)
	}
	slices.Sort(out)
	return out
}

func mid[T int | time.Duration](xs []Sample, of func(Sample) T) T { return sorted(xs, of)[len(xs)/2] }
