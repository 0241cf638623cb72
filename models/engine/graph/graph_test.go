package graph

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/assay-bench/assay/models/engine"
	"github.com/assay-bench/assay/models/engine/graph/graphtest"
	"github.com/assay-bench/assay/models/onnx"
)

func load(tb testing.TB, file []byte) *Graph {
	tb.Helper()
	m, err := onnx.Parse(file)
	if err != nil {
		tb.Fatal(err)
	}
	g, err := Load(m)
	if err != nil {
		tb.Fatal(err)
	}
	return g
}

// TestAgainstStoredOutputs compares every operator with what ONNX Runtime gave (written by the tests of
// package ort with -update) and holds that a second run, on memory that is kept, gives the same and
// allocates nothing.
func TestAgainstStoredOutputs(t *testing.T) {
	golden, err := graphtest.ReadGolden()
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	for _, c := range graphtest.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			want, there := golden.Outputs[c.Name]
			if !there {
				t.Fatal("no stored output: run the tests of models/engine/ort with -update")
			}
			s, out := load(t, c.File()).NewSession(), c.Output()
			in, outs := c.In, []engine.Value{out}
			for range 2 {
				if err := s.Run(in, outs); err != nil {
					t.Fatal(err)
				}
				for i, x := range out.Floats {
					if d := math.Abs(float64(x - want[i])); !(d <= 1e-5*max(1, math.Abs(float64(want[i])))) {
						t.Errorf("element %d is %v, want %v", i, x, want[i])
					}
				}
			}
			if n := testing.AllocsPerRun(20, func() { _ = s.Run(in, outs) }); n != 0 {
				t.Errorf("%v allocations a run", n)
			}
		})
		for _, op := range c.Ops {
			shown[op] = true
		}
	}
	for _, op := range Operators() {
		if !shown[op] {
			t.Errorf("no case shows %s", op)
		}
	}
}

func model(nodes []onnx.Node, initializers ...onnx.Tensor) *onnx.Model {
	return &onnx.Model{IR: onnx.IRVersion, Opset: onnx.Opset, Graph: onnx.Graph{
		Name: "g", Nodes: nodes, Initializers: initializers,
		Inputs:  []onnx.Value{{Name: "x", Type: onnx.Float, Dims: []onnx.Dim{{Param: "n"}, {Size: 2}}}},
		Outputs: []onnx.Value{{Name: "y", Type: onnx.Float, Dims: []onnx.Dim{{Param: "n"}, {Param: "m"}}}},
	}}
}

func one(op string, in []string, attributes ...onnx.Attribute) []onnx.Node {
	return []onnx.Node{{Op: op, Inputs: in, Outputs: []string{"y"}, Attributes: attributes}}
}

// TestBadModel proves, with the test of the same name in package onnx, router/onnx/bad-model: what is not
// executed is named when the graph is loaded.
func TestBadModel(t *testing.T) {
	x := []string{"x"}
	cases := []struct {
		name, want string
		model      *onnx.Model
		is         error
	}{
		{"operator", `node 0, Erf: not executed by the pure-Go engine: operator "Erf"`, model(one("Erf", x)), ErrUnsupported},
		{"domain", `of the domain "com.example"`, model([]onnx.Node{{Op: "Relu", Domain: "com.example", Inputs: x, Outputs: []string{"y"}}}), ErrUnsupported},
		{"attribute", `attribute "slope"`, model(one("Relu", x, onnx.Flt("slope", 1))), ErrUnsupported},
		{"kind", `attribute "axis" is of kind 1`, model(one("Concat", x, onnx.Flt("axis", 1))), onnx.ErrFormat},
		{"norm", "p 1", model(one("LpNormalization", x, onnx.Int("p", 1))), ErrUnsupported},
		{"cast", "to 7", model(one("Cast", x, onnx.Int("to", 7))), ErrUnsupported},
		{"transposed", "transA 1", model(one("Gemm", []string{"x", "x"}, onnx.Int("transA", 1))), ErrUnsupported},
		{"axes", "axes []", model(one("ReduceMean", x)), ErrUnsupported},
		{"order", `nothing gives "z" before`, model(one("Relu", []string{"z"})), onnx.ErrFormat},
		{"inputs", "1 inputs, want 2 to 2", model(one("Add", x)), onnx.ErrFormat},
		{"missing input", "want 2 to 2", model(one("Add", []string{"x", ""})), onnx.ErrFormat},
		{"outputs", "2 outputs", model([]onnx.Node{{Op: "Relu", Inputs: x, Outputs: []string{"y", "z"}}}), ErrUnsupported},
		{"name twice", `"x" is given twice`, model([]onnx.Node{{Op: "Relu", Inputs: x, Outputs: x}}), onnx.ErrFormat},
		{"no output", `output "y"`, model(nil), onnx.ErrFormat},
		{"empty tensor", `tensor "w": shape`, model(one("MatMul", []string{"x", "w"}), onnx.Floats("w", nil, 0, 2)), engine.ErrShape},
		{"output type", `"y" is of float16`, func() *onnx.Model { m := model(one("Relu", x)); m.Graph.Outputs[0].Type = onnx.Float16; return m }(), ErrUnsupported},
	}
	seen := 0
	for _, c := range cases {
		seen++
		if _, err := Load(c.model); !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: err = %v, want %q", c.name, err, c.want)
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

func TestRunRefuses(t *testing.T) {
	good := engine.Value{Dims: []int{3, 2}, Floats: make([]float32, 6)}
	cases := []struct {
		name, want string
		model      *onnx.Model
		in, out    engine.Value
	}{
		{"input", "[3 3] where [-1 2] is expected", model(one("Relu", []string{"x"})), engine.Value{Dims: []int{3, 3}, Floats: make([]float32, 9)}, good},
		{"output size", "the caller's memory holds 2 elements", model(one("Relu", []string{"x"})), good, engine.Value{Dims: []int{1, 2}, Floats: make([]float32, 2)}},
		{"output dimensions", "it is [3 2], the caller's [2 3]", model(one("Relu", []string{"x"})), good, engine.Value{Dims: []int{2, 3}, Floats: make([]float32, 6)}},
		{"product", "[3 2] by [3 3]", model(one("MatMul", []string{"x", "w"}), onnx.Floats("w", make([]float32, 9), 3, 3)), good, good},
		{"broadcast", "is 2 and 3", model(one("Add", []string{"x", "w"}), onnx.Floats("w", make([]float32, 3), 3)), good, good},
		{"concat", "beside", model(one("Concat", []string{"x", "w"}), onnx.Floats("w", make([]float32, 3), 3)), good, good},
		{"axis", "axis 2 of 2 dimensions", model(one("Softmax", []string{"x"}, onnx.Int("axis", 2))), good, good},
		{"perm", "perm [0 0]", model(one("Transpose", []string{"x"}, onnx.Ints("perm", 0, 0))), good, good},
		{"reshape", "into another number", model(one("Reshape", []string{"x", "to"}), onnx.Longs("to", []int64{4, 2}, 2)), good, good},
		{"two open", "dimension 1 of a new shape is -1", model(one("Reshape", []string{"x", "to"}), onnx.Longs("to", []int64{-1, -1}, 2)), good, good},
		{"ids", "ids of float", model(one("Gather", []string{"w", "x"}), onnx.Floats("w", make([]float32, 3), 3)), good, good},
		{"bias", "a bias of [5]", model(one("Gemm", []string{"x", "w", "b"}), onnx.Floats("w", make([]float32, 4), 2, 2), onnx.Floats("b", make([]float32, 5), 5)), good, good},
	}
	seen := 0
	for _, c := range cases {
		seen++
		g, err := Load(c.model)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		err = g.NewSession().Run([]engine.Value{c.in}, []engine.Value{c.out})
		if (!errors.Is(err, engine.ErrShape) && !errors.Is(err, ErrUnsupported)) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: err = %v, want %q", c.name, err, c.want)
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

// TestMemoryIsBounded holds that a graph cannot take more than the session's bound, however often it grows.
func TestMemoryIsBounded(t *testing.T) {
	var nodes []onnx.Node
	in := "x"
	for i := range 30 { // doubles its rows each time
		out := strings.Repeat("d", i+1)
		nodes = append(nodes, onnx.Node{Op: "Concat", Inputs: []string{in, in}, Outputs: []string{out}, Attributes: []onnx.Attribute{onnx.Int("axis", 0)}})
		in = out
	}
	g, err := Load(model(append(nodes, one("Relu", []string{in})...)))
	if err != nil {
		t.Fatal(err)
	}
	v := engine.Value{Dims: []int{1, 2}, Floats: make([]float32, 2)}
	if err := g.NewSession().Run([]engine.Value{v}, []engine.Value{v}); !errors.Is(err, engine.ErrShape) {
		t.Errorf("err = %v", err)
	}
}

// FuzzLoad runs whatever loads: errors, no panics.
func FuzzLoad(f *testing.F) {
	for _, c := range graphtest.Cases() {
		f.Add(c.File(), float32(1))
	}
	f.Fuzz(func(t *testing.T, b []byte, x float32) {
		m, err := onnx.Parse(b)
		if err != nil {
			return
		}
		g, err := Load(m)
		if err != nil {
			return
		}
		s := g.NewSession()
		if held := s.(*session).values; len(held) > 0 {
			*held[0].left = 1 << 12 // so that no run is long
		}
		values := func(ports []engine.Port) (out []engine.Value) {
			for _, p := range ports {
				v := engine.Value{Dims: slices.Clone([]int(p.Shape))}
				n := 1
				for i, d := range v.Dims {
					v.Dims[i] = min(max(d, 2), 8)
					n *= v.Dims[i]
				}
				if n > 1<<12 {
					return nil
				}
				if p.Ints {
					v.Ints = make([]int64, n)
				} else {
					v.Floats = slices.Repeat([]float32{x}, n)
				}
				out = append(out, v)
			}
			return out
		}
		_ = s.Run(values(s.Inputs()), values(s.Outputs())) // most do not fit
	})
}
