package tower

import (
	"math"
	"math/rand/v2"

	"github.com/assay-bench/assay/models/engine"
)

// The sizes of the layers.
const (
	waves    = 16 // of Time2Vec: one line and fifteen sines
	embedded = 16 // of each context field
	hidden   = 32 // of the behaviour and the context tower
	joined   = 2*hidden + engine.Dimension
)

// Model holds the parameters of the towers and one prototype a route, the other tower. Training changes them;
// otherwise it is safe for concurrent use.
type Model struct {
	line       dense // 1 → 1: the linear element of Time2Vec
	phase      dense // 1 → waves-1: the arguments of its sines
	behaviour  dense
	table      []float32 // rows × embedded
	context    dense
	project    dense
	prototypes []float32 // routes × Dimension
	routes     int
	noTime     bool // the ablation: Time2Vec's output is zero
	sums       sums
}

// sums are AdaGrad's accumulators, one a row (an input of a dense layer, a row of a table).
type sums struct{ table, prototypes []float32 }

// dense is y = x·w + b, w has a row an input.
type dense struct {
	in, out int
	w, b    []float32
	sum     []float32 // of each row of w, then of b
}

func newDense(r *rand.Rand, in, out int) dense {
	d := dense{in: in, out: out, w: make([]float32, in*out), b: make([]float32, out), sum: make([]float32, in+1)}
	scale := math.Sqrt(2 / float64(in))
	for i := range d.w {
		d.w[i] = float32(r.NormFloat64() * scale)
	}
	return d
}

// New returns an untrained model. The same seed gives the same model.
func New(routes int, seed uint64) *Model {
	r := rand.New(rand.NewPCG(seed, 0x746f776572))
	m := &Model{
		line: newDense(r, 1, 1), phase: newDense(r, 1, waves-1), behaviour: newDense(r, waves+behaviours, hidden),
		context: newDense(r, fields*embedded, hidden), project: newDense(r, joined, engine.Dimension),
		table: normal(r, rows*embedded, 0.1), prototypes: normal(r, routes*engine.Dimension, 0.1), routes: routes,
		sums: sums{table: make([]float32, rows), prototypes: make([]float32, routes)},
	}
	for i := range m.phase.w { // from one turn a week to several a day, so that hours and weekdays are in reach
		m.phase.w[i] = float32(2 * math.Pi / 7 * math.Pow(1.4, float64(i)))
		m.phase.b[i] = float32(r.Float64() * 2 * math.Pi)
	}
	return m
}

func normal(r *rand.Rand, n int, deviation float64) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(r.NormFloat64() * deviation)
	}
	return v
}

func (d *dense) forward(x, y []float32) {
	copy(y, d.b)
	engine.Combine(y, x, d.w)
}

// pass is what a forward pass leaves for the backward pass.
type pass struct {
	in       *Input
	phases   [MaxAccesses][waves - 1]float32
	timed    [waves + behaviours]float32
	acted    [hidden]float32 // of the behaviour tower, after the activation
	looked   [fields * embedded]float32
	placed   [hidden]float32 // of the context tower, after the activation
	together [joined]float32
	out      [engine.Dimension]float32 // before normalisation
	norm     float32
	vector   [engine.Dimension]float32
}

// forward computes the vector of an input. Sums are in the order of the exported graph.
func (m *Model) forward(p *pass, in *Input) {
	p.in = in
	m.encodeTimes(p)
	copy(p.timed[waves:], in.behaviour[:])
	m.behaviour.forward(p.timed[:], p.acted[:])
	engine.ReLU.Apply(p.acted[:])
	for i, row := range in.context {
		copy(p.looked[i*embedded:(i+1)*embedded], m.table[int(row)*embedded:])
	}
	m.context.forward(p.looked[:], p.placed[:])
	engine.ReLU.Apply(p.placed[:])
	copy(p.together[:], p.acted[:])
	copy(p.together[hidden:], p.placed[:])
	copy(p.together[2*hidden:], in.text[:])
	m.project.forward(p.together[:], p.out[:])
	p.norm = float32(engine.Norm(p.out[:]))
	for i, x := range p.out {
		p.vector[i] = x / max(p.norm, 1e-12)
	}
}

// encodeTimes is Time2Vec: w·t + b and sines of w·t + b, averaged over the accesses.
func (m *Model) encodeTimes(p *pass) {
	clear(p.timed[:waves])
	if m.noTime {
		return
	}
	for i, t := range p.in.times[:p.in.n] {
		p.timed[0] += m.line.b[0] + float32(t*m.line.w[0])
		for j := range waves - 1 {
			p.phases[i][j] = m.phase.b[j] + float32(t*m.phase.w[j])
			p.timed[1+j] += float32(math.Sin(float64(p.phases[i][j])))
		}
	}
	for j := range waves {
		p.timed[j] /= float32(p.in.n)
	}
}

// Prototypes returns the routes' rows, normalised.
func (m *Model) Prototypes() (*engine.Prototypes, error) {
	data := make([]float32, len(m.prototypes))
	for r := range m.routes {
		row := m.prototypes[r*engine.Dimension:][:engine.Dimension]
		norm := max(engine.Norm(row), 1e-12)
		for i, x := range row {
			data[r*engine.Dimension+i] = float32(float64(x) / norm)
		}
	}
	return engine.NewPrototypes(engine.Dimension, data)
}
