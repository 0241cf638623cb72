package engine

import (
	"context"
	"fmt"
	"math"
	"slices"
)

// Activation is what a layer does to the sum of its inputs.
type Activation uint8

// The activations. Softmax takes the whole row; the largest element is subtracted first, so that finite
// inputs never overflow.
const (
	Identity Activation = iota
	ReLU
	Softmax
)

var activations = [...]string{Identity: "identity", ReLU: "relu", Softmax: "softmax"}

// String returns the activation's name, as Decode takes it.
func (a Activation) String() string {
	if int(a) < len(activations) {
		return activations[a]
	}
	return fmt.Sprintf("activation(%d)", uint8(a))
}

// Layer is a dense layer: activation(x·Weights + Bias). Weights[i][j] leads from input i to output j.
type Layer struct {
	Weights    [][]float32
	Bias       []float32 // one an output; nil is all zero
	Activation Activation
}

// NewMLP returns a network of dense layers, from the first to the last. Its input is [1, inputs of the first
// layer], its output [1, outputs of the last]. The layers are copied. Errors name the layer: no layers or more
// than MaxLayers, no or ragged weights, a bias of another length, a layer that does not fit the one before it,
// more than MaxElements weights in all, an unknown activation.
func NewMLP(name string, layers ...Layer) (Model, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if len(layers) == 0 || len(layers) > MaxLayers {
		return nil, fmt.Errorf("%s: %d layers, 1 to %d", name, len(layers), MaxLayers)
	}
	net := &mlp{name: name}
	weights := 0
	for i, l := range layers {
		d, err := newDense(l, MaxElements-weights)
		if err != nil {
			return nil, fmt.Errorf("%s: layer %d: %w", name, i, err)
		}
		if i > 0 && net.layers[i-1].out != d.in {
			return nil, fmt.Errorf("%s: layer %d: %w: takes %d inputs, layer %d gives %d", name, i, ErrShape, d.in, i-1, net.layers[i-1].out)
		}
		weights += len(d.weights)
		net.layers = append(net.layers, d)
	}
	net.inputs = []Shape{{1, net.layers[0].in}}
	net.outputs = []Shape{{1, net.layers[len(layers)-1].out}}
	return net, nil
}

// NewLinear returns y = x·w + b as a model. Weights that do not fit together make a model that no Registry
// takes and whose Run returns the error.
func NewLinear(name string, w [][]float32, b []float32) Model {
	m, err := NewMLP(name, Layer{Weights: w, Bias: b})
	if err != nil {
		return broken{name: name, err: err}
	}
	return m
}

// dense is a Layer with its weights in one row-major slice.
type dense struct {
	in, out    int
	weights    []float32
	bias       []float32
	activation Activation
}

func newDense(l Layer, left int) (dense, error) {
	d := dense{in: len(l.Weights), activation: l.Activation}
	if int(l.Activation) >= len(activations) {
		return dense{}, fmt.Errorf("unknown %v", l.Activation)
	}
	if d.in == 0 || len(l.Weights[0]) == 0 {
		return dense{}, fmt.Errorf("%w: no weights", ErrShape)
	}
	d.out = len(l.Weights[0])
	if d.in > left/d.out {
		return dense{}, fmt.Errorf("%w: %d by %d weights, %d left of %d", ErrShape, d.in, d.out, left, MaxElements)
	}
	if l.Bias != nil && len(l.Bias) != d.out {
		return dense{}, fmt.Errorf("%w: %d biases, %d outputs", ErrShape, len(l.Bias), d.out)
	}
	for i, row := range l.Weights { // before the copy, so that a ragged matrix costs nothing
		if len(row) != d.out {
			return dense{}, fmt.Errorf("%w: row %d has %d weights, row 0 has %d", ErrShape, i, len(row), d.out)
		}
	}
	d.weights = slices.Concat(l.Weights...)
	d.bias = make([]float32, d.out)
	copy(d.bias, l.Bias)
	return d, nil
}

// apply writes the layer's output for x. It sums in float32, input by input: the order is fixed, so that the
// same inputs give the same bits on every run.
func (d *dense) apply(x []float32) []float32 {
	y := slices.Clone(d.bias)
	Combine(y, x, d.weights)
	d.activation.Apply(y)
	return y
}

// Apply replaces a row by the activation of it.
func (a Activation) Apply(y []float32) {
	switch a {
	case ReLU:
		for i, v := range y {
			if v < 0 {
				y[i] = 0
			}
		}
	case Softmax:
		softmax(y)
	}
}

func softmax(y []float32) {
	top, sum := slices.Max(y), 0.0
	for i, v := range y {
		e := math.Exp(float64(v - top))
		y[i], sum = float32(e), sum+e
	}
	for i := range y {
		y[i] = float32(float64(y[i]) / sum)
	}
}

type mlp struct {
	name            string
	layers          []dense
	inputs, outputs []Shape
}

func (m *mlp) Name() string     { return m.name }
func (m *mlp) Inputs() []Shape  { return m.inputs }
func (m *mlp) Outputs() []Shape { return m.outputs }

// ParameterBytes returns the size of all weights and biases.
func (m *mlp) ParameterBytes() int64 {
	n := 0
	for i := range m.layers {
		n += len(m.layers[i].weights) + len(m.layers[i].bias)
	}
	return 4 * int64(n)
}

func (m *mlp) Run(ctx context.Context, in []Tensor) ([]Tensor, error) {
	if err := CheckInputs(m, in); err != nil {
		return nil, err
	}
	x := in[0].Data
	for i := range m.layers {
		if err := ctx.Err(); err != nil { // a layer is bounded, so between layers is often enough
			return nil, fmt.Errorf("model %s: layer %d: %w", m.name, i, err)
		}
		x = m.layers[i].apply(x)
	}
	return []Tensor{{Dims: []int{1, len(x)}, Data: x}}, nil
}

// broken is a model that could not be made.
type broken struct {
	name string
	err  error
}

func (b broken) Name() string     { return b.name }
func (b broken) Inputs() []Shape  { return nil }
func (b broken) Outputs() []Shape { return nil }

func (b broken) Run(context.Context, []Tensor) ([]Tensor, error) { return nil, b.err }
