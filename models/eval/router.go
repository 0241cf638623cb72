// Package eval measures text routers: accuracy, which texts were wrong, calibration, abstention and baselines. What
// depends on a choice (a threshold, a scale) takes it from the validation split; the test split is read once, after
// everything is fixed. The package trains nothing.
package eval

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/blas/gonum"

	"github.com/assay-bench/assay/models/dataset"
	"github.com/assay-bench/assay/models/encode"
)

// Prototypes is a router of one row a class: it answers the class whose row has the largest cosine with the text,
// the first of equal ones.
type Prototypes struct {
	Encoder encode.Encoder
	Rows    [][]float32 // of norm 1; nil for a class without any known text
}

// NewPrototypes makes each class's row the mean of the vectors of its examples. Examples out of scope are not used.
func NewPrototypes(e encode.Encoder, classes int, examples []dataset.Example) (*Prototypes, error) {
	p := &Prototypes{e, make([][]float32, classes)}
	session, v := e.NewSession(), make([]float32, encode.Dimensions)
	for _, x := range examples {
		if x.Class == dataset.Out {
			continue
		}
		known, err := session.Encode(v, x.Text)
		if err != nil {
			return nil, err
		}
		if known == 0 {
			continue
		}
		if p.Rows[x.Class] == nil {
			p.Rows[x.Class] = make([]float32, encode.Dimensions)
		}
		for j, f := range v {
			p.Rows[x.Class][j] += f
		}
	}
	for i, row := range p.Rows {
		if row != nil && !encode.Normalize(row) {
			return nil, fmt.Errorf("class %d: its examples cancel out", i)
		}
	}
	return p, nil
}

// unknown is the score of a text without known features: below every cosine.
const unknown = -2

// Decide answers every example. Confidence is the softmax of scale × cosine; scale 0 leaves it 0.
func (p *Prototypes) Decide(examples []dataset.Example, scale float64) ([]Decision, error) {
	session, v := p.Encoder.NewSession(), make([]float32, encode.Dimensions)
	cosines := make([]float64, len(p.Rows))
	out := make([]Decision, 0, len(examples))
	for _, x := range examples {
		known, err := session.Encode(v, x.Text)
		if err != nil {
			return nil, err
		}
		d := Decision{Text: x.Text, Truth: x.Class, Score: unknown}
		if known > 0 {
			p.cosines(cosines, v)
			d.Answer = argmax(cosines)
			d.Score = cosines[d.Answer]
			d.Confidence = confidence(cosines, d.Score, scale)
		}
		out = append(out, d)
	}
	return out, nil
}

func (p *Prototypes) cosines(dst []float64, v []float32) {
	for i, row := range p.Rows {
		dst[i] = unknown
		if row != nil {
			dst[i] = float64(dot(v, row))
		}
	}
}

func confidence(cosines []float64, top, scale float64) float64 {
	if scale == 0 {
		return 0
	}
	var sum float64
	for _, c := range cosines {
		sum += math.Exp(scale * (c - top))
	}
	return 1 / sum
}

var blas gonum.Implementation

func dot(a, b []float32) float32 { return blas.Sdot(len(a), a, 1, b, 1) }

func argmax(xs []float64) int {
	best := 0
	for i, x := range xs {
		if x > xs[best] {
			best = i
		}
	}
	return best
}

// FitScale returns the scale of a grid whose confidences have the smallest log loss on examples in scope: take those
// of the validation split.
func (p *Prototypes) FitScale(examples []dataset.Example) (float64, error) {
	session, v := p.Encoder.NewSession(), make([]float32, encode.Dimensions)
	cosines := make([]float64, len(p.Rows))
	grid := []float64{4, 6, 8, 10, 12, 15, 18, 22, 26, 32, 40, 50, 65, 80}
	loss := make([]float64, len(grid))
	for _, x := range dataset.InScope(examples) {
		known, err := session.Encode(v, x.Text)
		if err != nil {
			return 0, err
		}
		if known == 0 {
			continue
		}
		p.cosines(cosines, v)
		for i, scale := range grid {
			loss[i] -= math.Log(max(confidence(cosines, cosines[x.Class], scale), 1e-12))
		}
	}
	best := 0
	for i := range loss {
		if loss[i] < loss[best] {
			best = i
		}
	}
	return grid[best], nil
}

// nearest is the plain k-nearest-neighbours router over all training texts: each of the k nearest votes with its
// cosine, ties go to the lower class.
func nearest(e encode.Encoder, train, examples []dataset.Example, classes, k int) ([]Decision, error) {
	session := e.NewSession()
	var rows []float32
	var of []int
	v := make([]float32, encode.Dimensions)
	for _, x := range dataset.InScope(train) {
		known, err := session.Encode(v, x.Text)
		if err != nil {
			return nil, err
		}
		if known > 0 {
			rows, of = append(rows, v...), append(of, x.Class)
		}
	}
	var out []Decision
	for _, x := range examples {
		known, err := session.Encode(v, x.Text)
		if err != nil {
			return nil, err
		}
		d := Decision{Text: x.Text, Truth: x.Class, Score: unknown}
		if known > 0 {
			d.Answer, d.Score = vote(v, rows, of, classes, k)
		}
		out = append(out, d)
	}
	return out, nil
}

// vote returns the class of the k nearest rows and the largest cosine.
func vote(v, rows []float32, of []int, classes, k int) (class int, top float64) {
	type near struct {
		cosine float32
		row    int
	}
	best := make([]near, 0, k+1)
	for i := range of {
		c := dot(v, rows[i*encode.Dimensions:][:encode.Dimensions])
		if len(best) == k && c <= best[k-1].cosine {
			continue
		}
		at, _ := slices.BinarySearchFunc(best, c, func(n near, c float32) int {
			if n.cosine >= c {
				return -1
			}
			return 1
		})
		best = slices.Insert(best, at, near{c, i})[:min(len(best)+1, k)]
	}
	votes := make([]float64, classes)
	for _, n := range best {
		votes[of[n.row]] += float64(max(n.cosine, 0))
	}
	return argmax(votes), float64(best[0].cosine)
}

// constant is the router that always answers the most frequent class of train (Zero of RouterBench).
func constant(train, examples []dataset.Example) []Decision {
	count := map[int]int{}
	best := 0
	for _, x := range dataset.InScope(train) {
		count[x.Class]++
	}
	for class, n := range count {
		if n > count[best] || n == count[best] && class < best {
			best = class
		}
	}
	return answer(examples, func(dataset.Example) int { return best })
}

// randomly answers a class by seed; Oracle answers what is right. They bound every other router.
func randomly(examples []dataset.Example, classes int, seed uint64) []Decision {
	random := rand.New(rand.NewPCG(seed, 1))
	return answer(examples, func(dataset.Example) int { return random.IntN(classes) })
}

// oracle answers what is right.
func oracle(examples []dataset.Example) []Decision {
	return answer(examples, func(x dataset.Example) int { return x.Class })
}

func answer(examples []dataset.Example, class func(dataset.Example) int) []Decision {
	out := make([]Decision, len(examples))
	for i, x := range examples {
		out[i] = Decision{Text: x.Text, Truth: x.Class, Answer: class(x), Score: 1}
	}
	return out
}
