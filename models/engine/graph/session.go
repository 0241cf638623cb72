package graph

import (
	"fmt"
	"slices"

	"github.com/assay-bench/assay/models/engine"
	"github.com/assay-bench/assay/models/onnx"
)

// tensor is a value of a run. Its memory is the caller's, the graph's, or kept from run to run.
type tensor struct {
	kind onnx.Type // 0 is none
	dims []int
	f32  []float32
	i64  []int64
	i8   []int8
	f16  []uint16
	own  []float32 // memory of f32 that is kept
	to   []float32 // memory of the caller that f32 must end in
	left *int      // elements that the session may still take
}

// maxHeld bounds the elements that the intermediate results of a session take: 256 MiB.
const maxHeld = 1 << 26

// elements returns the product of the dimensions.
func (t *tensor) elements() int {
	n := 1
	for _, d := range t.dims {
		n *= d
	}
	return n
}

// sized makes t a float32 tensor of the dimensions with undefined elements.
func (t *tensor) sized(dims ...int) error {
	n, err := engine.Elements(dims)
	if err != nil {
		return err
	}
	t.kind, t.dims = onnx.Float, append(t.dims[:0], dims...)
	if t.to != nil {
		if len(t.to) != n {
			return fmt.Errorf("%w: the output is %v, the caller's memory holds %d elements", engine.ErrShape, t.dims, len(t.to))
		}
		t.f32 = t.to
		return nil
	}
	if cap(t.own) < n {
		if *t.left -= n - cap(t.own); *t.left < 0 {
			return fmt.Errorf("%w: intermediate results of more than %d elements", engine.ErrShape, maxHeld)
		}
		t.own = make([]float32, n)
	}
	t.f32 = t.own[:n]
	return nil
}

// view makes t another shape of the same elements: a copy only where they must end in the caller's memory.
func (t *tensor) view(of *tensor, dims []int) error {
	if t.to != nil {
		if err := t.sized(dims...); err != nil {
			return err
		}
		if of.kind != onnx.Float {
			return fmt.Errorf("%w: an output of %v", ErrUnsupported, of.kind)
		}
		copy(t.f32, of.f32)
		return nil
	}
	t.kind, t.dims = of.kind, append(t.dims[:0], dims...)
	t.f32, t.i64, t.i8, t.f16 = of.f32, of.i64, of.i8, of.f16
	return nil
}

// session is one goroutine's state of a graph.
type session struct {
	*Graph
	values []tensor
	args   [][]*tensor // of each step
}

// NewSession returns the state of one goroutine; the parameters are shared.
func (g *Graph) NewSession() engine.Session {
	s := &session{Graph: g, values: make([]tensor, g.slots)}
	for slot, c := range g.constants {
		s.values[slot] = c
	}
	left := maxHeld
	for i := range s.values {
		s.values[i].left = &left
	}
	for _, st := range g.steps {
		args := make([]*tensor, len(st.in))
		for i, slot := range st.in {
			if slot >= 0 {
				args[i] = &s.values[slot]
			}
		}
		s.args = append(s.args, args)
	}
	return s
}

func (s *session) Inputs() []engine.Port  { return s.inputs }
func (s *session) Outputs() []engine.Port { return s.outputs }
func (s *session) Name() string           { return engine.PureGo }
func (s *session) Close() error           { return nil }

func (s *session) Run(in, out []engine.Value) error {
	if err := engine.CheckValues("input", s.inputs, in); err != nil {
		return err
	}
	if err := engine.CheckValues("output", s.outputs, out); err != nil {
		return err
	}
	for i, v := range in {
		t := &s.values[s.in[i]]
		t.kind, t.dims, t.f32, t.i64 = onnx.Float, append(t.dims[:0], v.Dims...), v.Floats, v.Ints
		if v.Ints != nil {
			t.kind = onnx.Int64
		}
	}
	for i, v := range out {
		if v.Floats == nil {
			return fmt.Errorf("%w: an int64 output", ErrUnsupported)
		}
		s.values[s.out[i]].to = v.Floats
	}
	for i := range s.steps {
		st := &s.steps[i]
		if err := st.run(s.args[i], &s.values[st.out[0]]); err != nil {
			return fmt.Errorf("node %d, %s: %w", i, st.op, err)
		}
	}
	for i, v := range out {
		if got := s.values[s.out[i]].dims; !slices.Equal(got, v.Dims) {
			return fmt.Errorf("output %q: %w: it is %v, the caller's %v", s.outputs[i].Name, engine.ErrShape, got, v.Dims)
		}
	}
	return nil
}
