package engine

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// linear4x3 is W[i][j] = (i+1)(j+1)/10, b[j] = j.
func linear4x3() Model {
	w, b := make([][]float32, 4), []float32{0, 1, 2}
	for i := range w {
		for j := range 3 {
			w[i] = append(w[i], float32((i+1)*(j+1))/10)
		}
	}
	return NewLinear("linear-4x3", w, b)
}

func TestLinear(t *testing.T) {
	out, err := linear4x3().Run(t.Context(), []Tensor{{Dims: []int{1, 4}, Data: []float32{1, 2, 3, 4}}})
	if err != nil {
		t.Fatal(err)
	}
	want := []Tensor{{Dims: []int{1, 3}, Data: []float32{3, 7, 11}}}
	if diff := cmp.Diff(want, out, cmpopts.EquateApprox(0, 1e-6)); diff != "" {
		t.Error(diff)
	}
}

func TestMLP(t *testing.T) {
	m, err := NewMLP("m",
		Layer{Weights: [][]float32{{1, -1}, {2, -2}}, Bias: []float32{0, 1}, Activation: ReLU},
		Layer{Weights: [][]float32{{1, 0}, {0, 1}}, Activation: Softmax})
	if err != nil {
		t.Fatal(err)
	}
	out, err := m.Run(t.Context(), []Tensor{{Dims: []int{1, 2}, Data: []float32{0.5, 0.25}}})
	if err != nil {
		t.Fatal(err)
	}
	p := float32(math.E / (math.E + 1)) // the hidden layer gives 1 and 0
	if diff := cmp.Diff([]float32{p, 1 - p}, out[0].Data, cmpopts.EquateApprox(0, 1e-6)); diff != "" {
		t.Error(diff)
	}
	if got := m.(Sized).ParameterBytes(); got != 4*(4+2+4+2) {
		t.Errorf("parameter bytes = %d", got)
	}
}

func TestSoftmaxOfLargeValues(t *testing.T) {
	y := []float32{1e30, -1e30, 1e30}
	softmax(y)
	if diff := cmp.Diff([]float32{0.5, 0, 0.5}, y); diff != "" {
		t.Error(diff)
	}
}

func TestRunRefuses(t *testing.T) {
	huge := 1 << 40
	cases := []struct {
		name string
		in   []Tensor
		want string
	}{
		{"no inputs", nil, "0 inputs, it has 1"},
		{"two inputs", make([]Tensor, 2), "2 inputs, it has 1"},
		{"short data", []Tensor{{Dims: []int{1, 4}, Data: make([]float32, 3)}}, "holds 4 elements, the data 3"},
		{"another shape", []Tensor{{Dims: []int{4}, Data: make([]float32, 4)}}, "[4] where [1 4] is expected"},
		{"zero dimension", []Tensor{{Dims: []int{0, 4}}}, "dimension 0 is 0"},
		{"negative dimension", []Tensor{{Dims: []int{1, -4}}}, "dimension 1 is -4"},
		{"overflow", []Tensor{{Dims: []int{huge, huge, huge}}}, "more than"},
		{"rank", []Tensor{{Dims: make([]int, 9)}}, "9 dimensions"},
	}
	seen := 0
	for _, c := range cases {
		seen++
		t.Run(c.name, func(t *testing.T) {
			_, err := linear4x3().Run(t.Context(), c.in)
			if !errors.Is(err, ErrShape) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "linear-4x3") {
				t.Errorf("err = %v, want %q", err, c.want)
			}
		})
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := linear4x3().Run(ctx, []Tensor{{Dims: []int{1, 4}, Data: make([]float32, 4)}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
}

func TestNetworksRefused(t *testing.T) {
	one := [][]float32{{1}}
	cases := []struct {
		name   string
		id     string
		layers []Layer
		want   string
	}{
		{"no layers", "m", nil, "0 layers"},
		{"too many layers", "m", make([]Layer, MaxLayers+1), "257 layers"},
		{"no name", "", []Layer{{Weights: one}}, "name of 0 bytes"},
		{"no weights", "m", []Layer{{}}, "no weights"},
		{"empty row", "m", []Layer{{Weights: [][]float32{{}}}}, "no weights"},
		{"ragged", "m", []Layer{{Weights: [][]float32{{1, 2}, {3}}}}, "row 1 has 1 weights"},
		{"bias", "m", []Layer{{Weights: one, Bias: []float32{1, 2}}}, "2 biases"},
		{"layers apart", "m", []Layer{{Weights: one}, {Weights: [][]float32{{1}, {2}}}}, "layer 1: shape: takes 2 inputs, layer 0 gives 1"},
		{"activation", "m", []Layer{{Weights: one, Activation: 9}}, "unknown activation(9)"},
		{"size", "m", []Layer{{Weights: shared(1<<13, 1<<12)}}, "weights, "},
	}
	seen := 0
	for _, c := range cases {
		seen++
		t.Run(c.name, func(t *testing.T) {
			if _, err := NewMLP(c.id, c.layers...); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("err = %v, want %q", err, c.want)
			}
		})
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

// shared returns a matrix whose rows are one slice.
func shared(rows, columns int) [][]float32 {
	row, w := make([]float32, columns), make([][]float32, rows)
	for i := range w {
		w[i] = row
	}
	return w
}

func TestBrokenLinear(t *testing.T) {
	m := NewLinear("bad", [][]float32{{1}, {1, 2}}, nil)
	if _, err := m.Run(t.Context(), nil); !errors.Is(err, ErrShape) {
		t.Errorf("run: %v", err)
	}
	if _, err := NewRegistry(m); !errors.Is(err, ErrShape) {
		t.Errorf("registry: %v", err)
	}
}

func TestRegistry(t *testing.T) {
	r, err := NewRegistry(linear4x3(), NewLinear("a", [][]float32{{1}}, nil))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "linear-4x3"}, r.Names()); diff != "" {
		t.Error(diff)
	}
	if m, ok := r.Find("linear-4x3"); !ok || m.Name() != "linear-4x3" {
		t.Errorf("found %v, %v", m, ok)
	}
	if _, ok := r.Find("b"); ok {
		t.Error("found b")
	}
	if _, err := NewRegistry(linear4x3(), linear4x3()); err == nil {
		t.Error("a name was taken twice")
	}
	var none *Registry
	if _, ok := none.Find("a"); ok || none.Names() != nil {
		t.Error("a nil registry holds something")
	}
}

func TestShapeFits(t *testing.T) {
	s := Shape{Any, 4}
	for _, dims := range [][]int{{1, 4}, {7, 4}} {
		if !s.Fits(dims) {
			t.Errorf("%v does not fit %v", dims, s)
		}
	}
	for _, dims := range [][]int{nil, {4}, {0, 4}, {-1, 4}, {1, 5}, {1, 4, 1}} {
		if s.Fits(dims) {
			t.Errorf("%v fits %v", dims, s)
		}
	}
}

const document = `{"name":"m","layers":[{"weights":[[1,2],[3,4]],"bias":[0,1],"activation":"relu"}]}`

func TestDecode(t *testing.T) {
	m, err := Decode([]byte(document))
	if err != nil {
		t.Fatal(err)
	}
	out, err := m.Run(t.Context(), []Tensor{{Dims: []int{1, 2}, Data: []float32{1, 1}}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]float32{4, 7}, out[0].Data); diff != "" {
		t.Error(diff)
	}
	cases := map[string]string{
		"":              "offset 0",
		"\x00asm":       "offset 0",
		`{"nam":"m"}`:   "unknown field",
		document + "{}": "more than one value",
		`{"name":"m"}`:  "0 layers",
		`{"name":"m","layers":[{"weights":[[1]],"activation":"tanh"}]}`: `unknown activation "tanh"`,
		strings.Repeat(" ", MaxModelBytes+1):                            "at most",
	}
	for doc, want := range cases {
		if _, err := Decode([]byte(doc)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: err = %v, want %q", doc, err, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(document), float32(1))
	f.Add([]byte(`{"name":"m","layers":[{"weights":[[1e38,2],[3]]}]}`), float32(3))
	f.Fuzz(func(t *testing.T, b []byte, x float32) {
		m, err := Decode(b)
		if err != nil {
			return
		}
		in := Tensor{Dims: m.Inputs()[0]}
		for range m.Inputs()[0][1] {
			in.Data = append(in.Data, x)
		}
		out, err := m.Run(t.Context(), []Tensor{in})
		if err != nil {
			t.Fatalf("a decoded model does not run: %v", err)
		}
		if err := out[0].Check(); err != nil || !m.Outputs()[0].Fits(out[0].Dims) {
			t.Fatalf("output %v of shape %v: %v", out[0].Dims, m.Outputs()[0], err)
		}
	})
}
