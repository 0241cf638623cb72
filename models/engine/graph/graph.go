// Package graph executes ONNX graphs in pure Go: the operators of the house's own models, float32, one
// thread. What it does not know it refuses when a graph is loaded, never when it runs. It opens no files.
package graph

import (
	"errors"
	"fmt"
	"slices"

	"github.com/assay-bench/assay/models/engine"
	"github.com/assay-bench/assay/models/onnx"
)

// ErrUnsupported is wrapped where a graph has an operator, attribute or type that is not executed.
var ErrUnsupported = errors.New("not executed by the pure-Go engine")

// Graph is a loaded graph: its parameters and the order of its operators. It does not change and is safe for
// concurrent use.
type Graph struct {
	inputs, outputs []engine.Port
	in, out         []int // slots
	steps           []step
	constants       map[int]tensor // by slot
	slots           int
}

// step is a node that was understood.
type step struct {
	op      string
	run     kernel
	in, out []int // slots; -1 is an optional input that is not there
}

// kernel computes a node. in are its inputs, out is its output, whose memory it takes by sized.
type kernel func(in []*tensor, out *tensor) error

// Load checks a graph and prepares it. Errors wrap onnx.ErrFormat (a name that nothing gives, a tensor that
// does not fit) or ErrUnsupported, and name the operator.
func Load(m *onnx.Model) (*Graph, error) {
	l := loader{Graph: &Graph{constants: map[int]tensor{}}, slot: map[string]int{}, opset: m.Opset}
	for i := range m.Graph.Initializers {
		if err := l.initializer(&m.Graph.Initializers[i]); err != nil {
			return nil, err
		}
	}
	for _, v := range m.Graph.Inputs {
		if err := l.input(v); err != nil {
			return nil, err
		}
	}
	for i := range m.Graph.Nodes {
		n := &m.Graph.Nodes[i]
		if err := l.node(n); err != nil {
			return nil, fmt.Errorf("node %d, %s: %w", i, n.Op, err)
		}
	}
	for _, v := range m.Graph.Outputs {
		if err := l.output(v); err != nil {
			return nil, err
		}
	}
	return l.Graph, nil
}

type loader struct {
	*Graph
	slot  map[string]int
	opset int64
}

func (l *loader) define(name string) (int, error) {
	if _, twice := l.slot[name]; twice || name == "" {
		return 0, fmt.Errorf("%w: the name %q is given twice or empty", onnx.ErrFormat, name)
	}
	l.slot[name] = l.slots
	l.slots++
	return l.slots - 1, nil
}

func (l *loader) initializer(t *onnx.Tensor) error {
	slot, err := l.define(t.Name)
	if err != nil {
		return err
	}
	c := tensor{}
	for _, d := range t.Dims {
		c.dims = append(c.dims, int(d))
	}
	if _, err := engine.Elements(c.dims); err != nil {
		return fmt.Errorf("tensor %q: %w", t.Name, err)
	}
	switch t.Type {
	case onnx.Float:
		c.f32, err = t.Floats()
	case onnx.Int64:
		c.i64, err = t.Longs()
	case onnx.Int8:
		c.i8, err = t.Bytes()
	case onnx.Float16:
		c.f16, err = t.Halves()
	}
	c.kind = t.Type
	l.constants[slot] = c
	return err
}

// input adds an input. An initializer of the same name is its default, which the pure-Go engine keeps as a
// constant: a graph whose input has a default is run with it.
func (l *loader) input(v onnx.Value) error {
	if _, constant := l.slot[v.Name]; constant {
		return nil
	}
	p, err := port(v)
	if err != nil {
		return err
	}
	slot, err := l.define(v.Name)
	l.in, l.inputs = append(l.in, slot), append(l.inputs, p)
	return err
}

func (l *loader) output(v onnx.Value) error {
	p, err := port(v)
	if err != nil {
		return err
	}
	slot, there := l.slot[v.Name]
	if !there || slices.Contains(l.out, slot) || slices.Contains(l.in, slot) || l.constants[slot].kind != 0 {
		return fmt.Errorf("%w: output %q is not what a node gives, or twice", onnx.ErrFormat, v.Name)
	}
	l.out, l.outputs = append(l.out, slot), append(l.outputs, p)
	return nil
}

func port(v onnx.Value) (engine.Port, error) {
	p := engine.Port{Name: v.Name, Ints: v.Type == onnx.Int64, Shape: make(engine.Shape, 0, len(v.Dims))}
	if v.Type != onnx.Int64 && v.Type != onnx.Float {
		return p, fmt.Errorf("%w: %q is of %v", ErrUnsupported, v.Name, v.Type)
	}
	for _, d := range v.Dims {
		size := int(d.Size)
		if d.Param != "" || size < 1 {
			size = engine.Any
		}
		p.Shape = append(p.Shape, size)
	}
	return p, nil
}

func (l *loader) node(n *onnx.Node) error {
	if n.Domain != "" && n.Domain != "ai.onnx" {
		return fmt.Errorf("%w: operator %q of the domain %q", ErrUnsupported, n.Op, n.Domain)
	}
	o, known := operators[n.Op]
	if !known {
		return fmt.Errorf("%w: operator %q", ErrUnsupported, n.Op)
	}
	s := step{op: n.Op}
	for _, name := range n.Inputs {
		slot, there := l.slot[name]
		if name == "" {
			slot, there = -1, true
		}
		if !there {
			return fmt.Errorf("%w: nothing gives %q before", onnx.ErrFormat, name)
		}
		s.in = append(s.in, slot)
	}
	if len(s.in) < o.least || len(s.in) > o.most || slices.Contains(s.in[:o.least], -1) {
		return fmt.Errorf("%w: %d inputs, want %d to %d", onnx.ErrFormat, len(s.in), o.least, o.most)
	}
	a := attributes{node: n, opset: l.opset, used: map[string]bool{}}
	for _, slot := range s.in {
		a.constants = append(a.constants, l.constants[slot]) // none for a slot that is no constant
	}
	var err error
	if s.run, err = o.prepare(&a); err == nil {
		err = a.done()
	}
	if err != nil {
		return err
	}
	if len(n.Outputs) != 1 {
		return fmt.Errorf("%w: %d outputs, only the first is computed", ErrUnsupported, len(n.Outputs))
	}
	slot, err := l.define(n.Outputs[0])
	s.out = []int{slot}
	l.steps = append(l.steps, s)
	return err
}

// attributes are what an operator reads of its node. What it does not read is refused.
type attributes struct {
	node      *onnx.Node
	opset     int64
	constants []tensor // of the inputs; kind 0 is none
	used      map[string]bool
	err       error
}

func (a *attributes) find(name string, kind onnx.Kind) (onnx.Attribute, bool) {
	a.used[name] = true
	for _, at := range a.node.Attributes {
		if at.Name == name {
			if at.Kind != kind {
				a.err = errors.Join(a.err, fmt.Errorf("%w: attribute %q is of kind %d, want %d", onnx.ErrFormat, name, at.Kind, kind))
			}
			return at, true
		}
	}
	return onnx.Attribute{}, false
}

func (a *attributes) int(name string, otherwise int64) int64 {
	if at, there := a.find(name, onnx.KindInt); there {
		return at.Int
	}
	return otherwise
}

func (a *attributes) float(name string, otherwise float32) float32 {
	if at, there := a.find(name, onnx.KindFloat); there {
		return at.Float
	}
	return otherwise
}

func (a *attributes) ints(name string) []int64 {
	at, _ := a.find(name, onnx.KindInts)
	return at.Ints
}

// only refuses a value that is not executed.
func (a *attributes) only(name string, value, want int64) {
	if value != want {
		a.err = errors.Join(a.err, fmt.Errorf("%w: %s %d", ErrUnsupported, name, value))
	}
}

func (a *attributes) done() error {
	for _, at := range a.node.Attributes {
		if !a.used[at.Name] {
			return fmt.Errorf("%w: attribute %q", ErrUnsupported, at.Name)
		}
	}
	return a.err
}
