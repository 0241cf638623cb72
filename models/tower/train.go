package tower

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/assay-bench/assay/models/engine"
)

// Example is a request with the route that it belongs to.
type Example struct {
	Input Input
	Route int
}

// Training says how a model is trained. The same examples and seed give the same model on one architecture.
type Training struct {
	Seed   uint64
	Epochs int     // 0 means 8
	Rate   float32 // of AdaGrad, falling linearly to nothing; 0 means 0.05
	Scale  float32 // of the cosines under the softmax; 0 means 12
	NoTime bool    // the ablation: access times have no effect
}

// Train returns a model of the routes 0 to routes-1. Errors wrap ErrRequest: no examples, a route outside.
func Train(examples []Example, routes int, t Training) (*Model, error) {
	if len(examples) == 0 || routes < 2 {
		return nil, fmt.Errorf("%w: %d examples of %d routes to train from", ErrRequest, len(examples), routes)
	}
	for i, e := range examples {
		if e.Route < 0 || e.Route >= routes {
			return nil, fmt.Errorf("%w: example %d is of route %d, there are %d", ErrRequest, i, e.Route, routes)
		}
	}
	if t.Epochs == 0 {
		t.Epochs = 8
	}
	if t.Rate == 0 {
		t.Rate = 0.05
	}
	if t.Scale == 0 {
		t.Scale = 12
	}
	m, r := New(routes, t.Seed), rand.New(rand.NewPCG(t.Seed, 0x747261696e))
	m.noTime = t.NoTime
	s := &step{Model: m, scale: t.Scale, cosines: make([]float32, routes)}
	steps := float32(t.Epochs * len(examples))
	for done := 0; done < t.Epochs*len(examples); {
		for _, i := range r.Perm(len(examples)) {
			s.rate = t.Rate * (1 - float32(done)/steps)
			s.learn(&examples[i])
			done++
		}
	}
	return m, nil
}

// step is one example's forward and backward pass, with its scratch.
type step struct {
	*Model
	pass
	scale, rate float32
	cosines     []float32
	unit        [engine.Dimension]float32 // of a prototype
	back        gradients
}

// gradients are of the loss by the value of the same name of pass.
type gradients struct {
	timed    [waves + behaviours]float32
	acted    [hidden]float32
	looked   [fields * embedded]float32
	placed   [hidden]float32
	together [joined]float32
	out      [engine.Dimension]float32
	vector   [engine.Dimension]float32
}

// learn moves the parameters against the gradient of the cross-entropy of softmax(scale × cosine).
func (s *step) learn(e *Example) {
	s.forward(&s.pass, &e.Input)
	s.loss(e.Route)
	s.backward()
}

// loss returns the cross-entropy, writes its gradient by the vector and moves the prototypes.
func (s *step) loss(route int) float64 {
	norms := s.similarities()
	top := s.cosines[0]
	for _, c := range s.cosines {
		top = max(top, c)
	}
	sum := 0.0
	for _, c := range s.cosines {
		sum += math.Exp(float64(s.scale * (c - top)))
	}
	clear(s.back.vector[:])
	for r, c := range s.cosines {
		g := float32(math.Exp(float64(s.scale*(c-top))) / sum)
		if r == route {
			g--
		}
		s.pull(r, s.scale*g, c, norms[r])
	}
	return math.Log(sum) - float64(s.scale*(s.cosines[route]-top))
}

func (s *step) similarities() []float64 {
	norms := make([]float64, s.routes)
	for r := range s.routes {
		row := s.prototypes[r*engine.Dimension:][:engine.Dimension]
		norms[r] = max(engine.Norm(row), 1e-12)
		s.cosines[r] = float32(float64(engine.Dot(s.vector[:], row)) / norms[r])
	}
	return norms
}

// pull adds the gradient of one cosine by the vector and moves its prototype: d cos / d p = (v − cos·p̂) / |p|.
func (s *step) pull(r int, g, cosine float32, norm float64) {
	row := s.prototypes[r*engine.Dimension:][:engine.Dimension]
	squares := float32(0)
	for i, x := range row {
		p := float32(float64(x) / norm)
		s.back.vector[i] += g * p
		s.unit[i] = g * (s.vector[i] - cosine*p) / float32(norm)
		squares += s.unit[i] * s.unit[i]
	}
	rate := adagrad(&s.sums.prototypes[r], squares/engine.Dimension, s.rate)
	for i := range row {
		row[i] -= rate * s.unit[i]
	}
}

// adagrad adds a mean square to an accumulator and returns the rate that is left.
func adagrad(sum *float32, square, rate float32) float32 {
	*sum += square
	return rate / (float32(math.Sqrt(float64(*sum))) + 1e-8)
}

// backward carries the gradient through the towers, the last layer first.
func (s *step) backward() {
	along := engine.Dot(s.back.vector[:], s.vector[:]) // through the normalisation: (I − v·vᵀ) / |out|
	for i, g := range s.back.vector {
		s.back.out[i] = (g - along*s.vector[i]) / max(s.norm, 1e-12)
	}
	s.project.backward(s.together[:], s.back.out[:], s.back.together[:], s.rate)
	copy(s.back.acted[:], s.back.together[:hidden])
	copy(s.back.placed[:], s.back.together[hidden:])
	gate(s.back.acted[:], s.acted[:])
	gate(s.back.placed[:], s.placed[:])
	s.context.backward(s.looked[:], s.back.placed[:], s.back.looked[:], s.rate)
	for i, row := range s.in.context {
		moveRow(s.table[int(row)*embedded:][:embedded], s.back.looked[i*embedded:(i+1)*embedded], &s.sums.table[row], s.rate)
	}
	s.behaviour.backward(s.timed[:], s.back.acted[:], s.back.timed[:], s.rate)
	if !s.noTime {
		s.backwardTimes()
	}
}

// gate is the gradient through a ReLU.
func gate(g, y []float32) {
	for i, v := range y {
		if v <= 0 {
			g[i] = 0
		}
	}
}

// backward writes the gradient by x to dx and moves the layer.
func (d *dense) backward(x, dy, dx []float32, rate float32) {
	squares := engine.Dot(dy, dy) / float32(d.out)
	for i, v := range x {
		row := d.w[i*d.out : (i+1)*d.out]
		dx[i] = engine.Dot(row, dy)
		if v == 0 {
			continue
		}
		left := adagrad(&d.sum[i], v*v*squares, rate) * v
		for j, g := range dy {
			row[j] -= left * g
		}
	}
	moveRow(d.b, dy, &d.sum[d.in], rate)
}

func moveRow(row, g []float32, sum *float32, rate float32) {
	left := adagrad(sum, engine.Dot(g, g)/float32(len(g)), rate)
	for i, x := range g {
		row[i] -= left * x
	}
}

// backwardTimes carries the gradient into Time2Vec's weights: d sin(w·t + b) = cos(w·t + b)·(t dw + db).
func (s *step) backwardTimes() {
	var dw, db [waves]float32
	n := float32(s.in.n)
	for i, t := range s.in.times[:s.in.n] {
		g := s.back.timed[0] / n
		dw[0], db[0] = dw[0]+g*t, db[0]+g
		for j := range waves - 1 {
			g := s.back.timed[1+j] / n * float32(math.Cos(float64(s.phases[i][j])))
			dw[1+j], db[1+j] = dw[1+j]+g*t, db[1+j]+g
		}
	}
	const slow = 0.1 // a frequency that moves fast never settles: its phase moves with every day
	moveRow(s.line.w, dw[:1], &s.line.sum[0], s.rate)
	moveRow(s.line.b, db[:1], &s.line.sum[1], s.rate)
	moveRow(s.phase.w, dw[1:], &s.phase.sum[0], slow*s.rate)
	moveRow(s.phase.b, db[1:], &s.phase.sum[1], s.rate)
}
