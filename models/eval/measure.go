package eval

import (
	"cmp"
	"math"
	"slices"

	"github.com/assay-bench/assay/models/dataset"
)

// Decision is what a router said to a text: the class it would answer and the score that an abstention goes by,
// higher is surer.
type Decision struct {
	Text          string
	Truth, Answer int
	Score         float64
	Confidence    float64 // estimated probability that Answer is right
}

func (d Decision) right() bool { return d.Truth == d.Answer }

// Rate is a share of N trials with its 95 % Wilson interval.
type Rate struct {
	K, N      int
	Low, High float64
}

// Share returns K/N, 0 for no trials.
func (r Rate) Share() float64 {
	if r.N == 0 {
		return 0
	}
	return float64(r.K) / float64(r.N)
}

// NewRate computes the score interval of Wilson (1927) at 95 %.
func NewRate(k, n int) Rate {
	if n == 0 {
		return Rate{High: 1}
	}
	const z = 1.959963984540054
	p, m := float64(k)/float64(n), float64(n)
	centre := (p + z*z/(2*m)) / (1 + z*z/m)
	half := z / (1 + z*z/m) * math.Sqrt(p*(1-p)/m+z*z/(4*m*m))
	return Rate{K: k, N: n, Low: max(0, centre-half), High: min(1, centre+half)}
}

func rateOf(ds []Decision, hit func(Decision) bool) Rate {
	k := 0
	for _, d := range ds {
		if hit(d) {
			k++
		}
	}
	return NewRate(k, len(ds))
}

// Accuracy is the share of right answers among the decisions on texts in scope, without abstention.
func Accuracy(ds []Decision) Rate {
	return rateOf(inScope(ds), Decision.right)
}

func inScope(ds []Decision) []Decision {
	return slices.DeleteFunc(slices.Clone(ds), func(d Decision) bool { return d.Truth == dataset.Out })
}

func outOfScope(ds []Decision) []Decision {
	return slices.DeleteFunc(slices.Clone(ds), func(d Decision) bool { return d.Truth != dataset.Out })
}

// Threshold is a score below which a router abstains, and where it comes from.
type Threshold struct {
	Split    string  `json:"split"`
	Quantile float64 `json:"quantile"`
	Value    float64 `json:"value"`
}

// NewThreshold takes the q quantile of the scores of texts in scope: the share q of them is refused.
func NewThreshold(split string, ds []Decision, q float64) Threshold {
	in := inScope(ds)
	if len(in) == 0 {
		return Threshold{Split: split, Quantile: q, Value: math.Inf(-1)}
	}
	scores := make([]float64, len(in))
	for i, d := range in {
		scores[i] = d.Score
	}
	slices.Sort(scores)
	return Threshold{Split: split, Quantile: q, Value: scores[min(int(q*float64(len(scores))), len(scores)-1)]}
}

// Abstention is what a threshold does: Recall is the share of out-of-scope texts that it refuses, FalseRejection
// that of texts in scope, Kept the accuracy on the texts in scope that it lets through.
type Abstention struct {
	Recall, FalseRejection, Kept Rate
}

// Abstain applies a threshold.
func Abstain(ds []Decision, t Threshold) Abstention {
	refused := func(d Decision) bool { return d.Score < t.Value }
	return Abstention{
		Recall:         rateOf(outOfScope(ds), refused),
		FalseRejection: rateOf(inScope(ds), refused),
		Kept:           rateOf(slices.DeleteFunc(inScope(ds), refused), Decision.right),
	}
}

// confusion is a class that was answered in place of another, with an example.
type confusion struct {
	Truth, Answer, Count int
	Example              string
}

// confusions returns the wrong answers in scope by pair of classes, the most frequent first.
func confusions(ds []Decision) []confusion {
	at := map[[2]int]int{}
	var out []confusion
	for _, d := range inScope(ds) {
		if d.right() {
			continue
		}
		key := [2]int{d.Truth, d.Answer}
		if _, ok := at[key]; !ok {
			at[key] = len(out)
			out = append(out, confusion{Truth: d.Truth, Answer: d.Answer, Example: d.Text})
		}
		out[at[key]].Count++
	}
	slices.SortStableFunc(out, func(a, b confusion) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Truth, b.Truth), cmp.Compare(a.Answer, b.Answer))
	})
	return out
}

// Point is a point of a risk-coverage curve: among the share Coverage of texts with the highest scores, the share
// Risk is answered wrongly. An answer to an out-of-scope text is wrong.
type Point struct {
	Coverage float64 `json:"coverage"`
	Risk     float64 `json:"risk"`
}

// RiskCoverage returns n points of growing coverage up to 1 (fewer for fewer texts) and the area under the full
// curve (AURC, Geifman et al. 2019; lower is better).
func RiskCoverage(ds []Decision, n int) (curve []Point, area float64) {
	sorted := slices.Clone(ds)
	slices.SortStableFunc(sorted, func(a, b Decision) int { return cmp.Compare(b.Score, a.Score) })
	wrong, next := 0, 1
	for i, d := range sorted {
		if !d.right() {
			wrong++
		}
		risk := float64(wrong) / float64(i+1)
		area += risk / float64(len(sorted))
		if (i+1)*n >= next*len(sorted) {
			curve = append(curve, Point{float64(i+1) / float64(len(sorted)), risk})
			next = (i+1)*n/len(sorted) + 1
		}
	}
	return curve, area
}

// Bin is the texts whose confidence lies in one part of [0, 1].
type Bin struct {
	N                    int
	Confidence, Accuracy float64 // means
}

// calibrate returns bins of equal width over the decisions in scope and the expected calibration error (Naeini et
// al. 2015): the mean distance of confidence and accuracy.
func calibrate(ds []Decision, bins int) (out []Bin, ece float64) {
	out = make([]Bin, bins)
	in := inScope(ds)
	for _, d := range in {
		b := &out[min(int(d.Confidence*float64(bins)), bins-1)]
		b.N++
		b.Confidence += d.Confidence
		if d.right() {
			b.Accuracy++
		}
	}
	for i := range out {
		if n := float64(out[i].N); n > 0 {
			out[i].Confidence, out[i].Accuracy = out[i].Confidence/n, out[i].Accuracy/n
			ece += n / float64(len(in)) * math.Abs(out[i].Confidence-out[i].Accuracy)
		}
	}
	return out, ece
}

// meanSpread returns mean and sample standard deviation.
func meanSpread(xs []float64) (mean, spread float64) {
	for _, x := range xs {
		mean += x / float64(len(xs))
	}
	for _, x := range xs {
		spread += (x - mean) * (x - mean)
	}
	if len(xs) > 1 {
		spread = math.Sqrt(spread / float64(len(xs)-1))
	}
	return mean, spread
}
