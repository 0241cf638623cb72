// Package graphtest holds small graphs, at least one for each operator, that every executor must agree on,
// and the outputs that ONNX Runtime gave for them.
package graphtest

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"math/rand/v2"

	"github.com/assay-bench/assay/models/engine"
	"github.com/assay-bench/assay/models/onnx"
)

// Case is a graph with inputs.
type Case struct {
	Name  string
	Ops   []string // the operators it shows
	Model *onnx.Model
	In    []engine.Value
	Out   []int // dimensions of its output
}

// File returns the graph as a file.
func (c Case) File() []byte {
	b, err := onnx.Marshal(c.Model)
	if err != nil {
		panic(fmt.Sprintf("%s: %v", c.Name, err)) // the cases are constants
	}
	return b
}

// Output returns memory for the output.
func (c Case) Output() engine.Value {
	n, err := engine.Elements(c.Out)
	if err != nil {
		panic(fmt.Sprintf("%s: %v", c.Name, err))
	}
	return engine.Value{Dims: c.Out, Floats: make([]float32, n)}
}

//go:embed golden.json
var golden []byte

// Golden is what ONNX Runtime gave: its version, and the output of each case by name.
type Golden struct {
	Version string               `json:"onnxruntime"`
	Outputs map[string][]float32 `json:"outputs"`
}

// ReadGolden returns the stored outputs.
func ReadGolden() (Golden, error) {
	var g Golden
	err := json.Unmarshal(golden, &g)
	return g, err
}

// maker makes cases with values that depend on the seed alone.
type maker struct {
	*rand.Rand
	cases []Case
}

func (m *maker) floats(n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(m.NormFloat64())
	}
	return v
}

func (m *maker) input(dims ...int) engine.Value {
	n := 1
	for _, d := range dims {
		n *= d
	}
	return engine.Value{Dims: dims, Floats: m.floats(n)}
}

func (m *maker) weights(name string, dims ...int64) onnx.Tensor {
	n := int64(1)
	for _, d := range dims {
		n *= d
	}
	return onnx.Floats(name, m.floats(int(n)), dims...)
}

// add adds a case. Inputs are named x0, x1, …; the output is y. Every dimension of the ports is open.
func (m *maker) add(name string, out []int, in []engine.Value, initializers []onnx.Tensor, nodes ...onnx.Node) {
	c := Case{Name: name, In: in, Out: out, Model: &onnx.Model{IR: onnx.IRVersion, Opset: onnx.Opset, Producer: "assay"}}
	g := &c.Model.Graph
	g.Name, g.Nodes, g.Initializers = name, nodes, initializers
	for i, v := range in {
		p := onnx.Value{Name: fmt.Sprintf("x%d", i), Type: onnx.Float, Dims: open(fmt.Sprintf("x%d", i), len(v.Dims))}
		if v.Ints != nil {
			p.Type = onnx.Int64
		}
		g.Inputs = append(g.Inputs, p)
	}
	g.Outputs = []onnx.Value{{Name: "y", Type: onnx.Float, Dims: open("y", len(out))}}
	for _, n := range nodes {
		c.Ops = append(c.Ops, n.Op)
	}
	m.cases = append(m.cases, c)
}

func open(name string, rank int) []onnx.Dim {
	dims := make([]onnx.Dim, rank)
	for i := range dims {
		dims[i].Param = fmt.Sprintf("%s_%d", name, i)
	}
	return dims
}

func node(op, out string, in []string, attributes ...onnx.Attribute) onnx.Node {
	return onnx.Node{Op: op, Name: out, Inputs: in, Outputs: []string{out}, Attributes: attributes}
}

// Cases returns the graphs.
func Cases() []Case {
	m := &maker{Rand: rand.New(rand.NewPCG(23, 29))}
	m.elementwise()
	m.products()
	m.rows()
	m.shapes()
	return m.cases
}

func (m *maker) elementwise() {
	x := []string{"x0"}
	for _, op := range []string{"Relu", "Sin", "Identity"} {
		m.add(op, []int{3, 5}, []engine.Value{m.input(3, 5)}, nil, node(op, "y", x))
	}
	m.add("Sqrt", []int{4}, []engine.Value{{Dims: []int{4}, Floats: []float32{0, 1, 2, 1e-30}}}, nil, node("Sqrt", "y", x))
	for _, op := range []string{"Add", "Sub", "Mul", "Div"} {
		m.add(op, []int{3, 5}, []engine.Value{m.input(3, 5), m.input(3, 5)}, nil, node(op, "y", []string{"x0", "x1"}))
	}
	m.add("Add broadcasts", []int{2, 3, 5}, []engine.Value{m.input(2, 1, 5), m.input(3, 1)}, nil, node("Add", "y", []string{"x0", "x1"}))
	m.add("Mul by a scalar", []int{3, 5}, []engine.Value{m.input(3, 5)}, []onnx.Tensor{m.weights("s")}, node("Mul", "y", []string{"x0", "s"}))
	m.add("Cast", []int{3}, []engine.Value{{Dims: []int{3}, Ints: []int64{-1, 0, 1 << 30}}}, nil, node("Cast", "y", x, onnx.Int("to", int64(onnx.Float))))
}

func (m *maker) products() {
	x := m.input(3, 37)
	m.add("MatMul", []int{3, 6}, []engine.Value{x}, []onnx.Tensor{m.weights("w", 37, 6)}, node("MatMul", "y", []string{"x0", "w"}))
	m.add("MatMul of rank 3", []int{2, 3, 4}, []engine.Value{m.input(2, 3, 7)}, []onnx.Tensor{m.weights("w", 7, 4)}, node("MatMul", "y", []string{"x0", "w"}))
	m.add("Gemm", []int{3, 6}, []engine.Value{x}, []onnx.Tensor{m.weights("w", 37, 6), m.weights("b", 6)}, node("Gemm", "y", []string{"x0", "w", "b"}))
	m.add("Gemm transposed", []int{3, 6}, []engine.Value{x}, []onnx.Tensor{m.weights("w", 6, 37), m.weights("b", 3, 1)},
		node("Gemm", "y", []string{"x0", "w", "b"}, onnx.Int("transB", 1), onnx.Flt("alpha", 0.5), onnx.Flt("beta", 2)))
	m.add("perceptron", []int{2, 8}, []engine.Value{m.input(2, 16)},
		[]onnx.Tensor{m.weights("w", 16, 32), m.weights("b", 32), m.weights("s", 32), m.weights("o", 32), m.weights("v", 32, 8)},
		node("Gemm", "h", []string{"x0", "w", "b"}), node("Relu", "r", []string{"h"}),
		node("LayerNormalization", "n", []string{"r", "s", "o"}, onnx.Int("axis", -1)),
		node("MatMul", "p", []string{"n", "v"}), node("LpNormalization", "y", []string{"p"}, onnx.Int("axis", -1), onnx.Int("p", 2)))
}

func (m *maker) rows() {
	x := []string{"x0"}
	in := m.input(4, 9)
	m.add("LayerNormalization", []int{4, 9}, []engine.Value{in}, []onnx.Tensor{m.weights("s", 9)}, node("LayerNormalization", "y", []string{"x0", "s"}, onnx.Flt("epsilon", 1e-3)))
	m.add("LpNormalization", []int{4, 9}, []engine.Value{in}, nil, node("LpNormalization", "y", x))
	m.add("LpNormalization of zero", []int{1, 3}, []engine.Value{{Dims: []int{1, 3}, Floats: make([]float32, 3)}}, nil, node("LpNormalization", "y", x))
	m.add("Softmax", []int{4, 9}, []engine.Value{in}, nil, node("Softmax", "y", x))
	m.add("Softmax of large values", []int{1, 3}, []engine.Value{{Dims: []int{1, 3}, Floats: []float32{1e30, -1e30, 1e30}}}, nil, node("Softmax", "y", x))
	cube := m.input(2, 3, 4)
	m.add("ReduceMean", []int{2, 1, 4}, []engine.Value{cube}, nil, node("ReduceMean", "y", x, onnx.Ints("axes", 1)))
	m.add("ReduceMean dropped", []int{2, 3}, []engine.Value{cube}, nil, node("ReduceMean", "y", x, onnx.Ints("axes", -1), onnx.Int("keepdims", 0)))
	ids := engine.Value{Dims: []int{2, 2}, Ints: []int64{3, 0, -1, 2}}
	m.add("Gather", []int{2, 2, 5}, []engine.Value{ids}, []onnx.Tensor{m.weights("e", 4, 5)}, node("Gather", "y", []string{"e", "x0"}))
	halves, bytes := make([]uint16, 20), make([]int8, 20)
	for i := range halves {
		halves[i], bytes[i] = uint16(m.IntN(0x7c00))|uint16(m.IntN(2))<<15, int8(m.IntN(256)-128)
	}
	wide := []onnx.Node{node("Gather", "g", []string{"e", "x0"}), node("Cast", "y", []string{"g"}, onnx.Int("to", int64(onnx.Float)))}
	m.add("Gather float16", []int{2, 2, 5}, []engine.Value{ids}, []onnx.Tensor{onnx.Halves("e", halves, 4, 5)}, wide...)
	m.add("Gather int8", []int{2, 2, 5}, []engine.Value{ids}, []onnx.Tensor{onnx.Bytes("e", bytes, 4, 5)}, wide...)
}

func (m *maker) shapes() {
	cube := m.input(2, 3, 4)
	m.add("Concat", []int{2, 8, 4}, []engine.Value{cube, m.input(2, 5, 4)}, nil, node("Concat", "y", []string{"x0", "x1"}, onnx.Int("axis", 1)))
	m.add("Reshape", []int{2, 12}, []engine.Value{cube}, []onnx.Tensor{onnx.Longs("to", []int64{0, -1}, 2)}, node("Reshape", "y", []string{"x0", "to"}))
	m.add("Transpose", []int{4, 2, 3}, []engine.Value{cube}, nil, node("Transpose", "y", []string{"x0"}, onnx.Ints("perm", 2, 0, 1)))
	m.add("Transpose reversed", []int{4, 3, 2}, []engine.Value{cube}, nil, node("Transpose", "y", []string{"x0"}))
	m.add("time", []int{1, 8}, []engine.Value{m.input(5, 1)}, // Time2Vec: a linear part and sines, averaged
		[]onnx.Tensor{m.weights("w", 1, 1), m.weights("b", 1), m.weights("f", 1, 7), m.weights("p", 7)},
		node("Gemm", "line", []string{"x0", "w", "b"}), node("Gemm", "phase", []string{"x0", "f", "p"}), node("Sin", "wave", []string{"phase"}),
		node("Concat", "t", []string{"line", "wave"}, onnx.Int("axis", 1)), node("ReduceMean", "y", []string{"t"}, onnx.Ints("axes", 0)))
}
