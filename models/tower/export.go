package tower

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/assay-bench/assay/models/engine"
	"github.com/assay-bench/assay/models/engine/graph"
	"github.com/assay-bench/assay/models/engine/ort"
	"github.com/assay-bench/assay/models/onnx"
)

// The metadata that say which input a graph takes.
const (
	kindKey, kind           = "assay.kind", "router-tower"
	featuresKey, featuresV1 = "assay.features", "1"
)

// Export returns the towers as a sealed graph:
//
//	times float [n, 1], behaviour float [1, 3], context int64 [5], text float [1, 128] → embedding float [1, 128]
//
// metadata says which text encoder the text vectors come from; keys that begin with "assay." are the graph's.
func (m *Model) Export(metadata map[string]string) (*onnx.Model, error) {
	out := &onnx.Model{IR: onnx.IRVersion, Opset: onnx.Opset, Producer: "assay", Metadata: maps.Clone(metadata)}
	if out.Metadata == nil {
		out.Metadata = map[string]string{}
	}
	out.Metadata[kindKey], out.Metadata[featuresKey] = kind, featuresV1
	g := &out.Graph
	g.Name = kind
	fixed := func(name string, t onnx.Type, dims ...int64) onnx.Value {
		v := onnx.Value{Name: name, Type: t}
		for _, d := range dims {
			v.Dims = append(v.Dims, onnx.Dim{Size: d})
		}
		return v
	}
	g.Inputs = []onnx.Value{
		{Name: "times", Type: onnx.Float, Dims: []onnx.Dim{{Param: "n"}, {Size: 1}}},
		fixed("behaviour", onnx.Float, 1, behaviours), fixed("context", onnx.Int64, fields), fixed("text", onnx.Float, 1, engine.Dimension),
	}
	g.Outputs = []onnx.Value{fixed("embedding", onnx.Float, 1, engine.Dimension)}
	m.addTimes(g)
	add(g, "Concat", "timed", []string{"time", "behaviour"}, onnx.Int("axis", 1))
	m.behaviour.export(g, "acted", "timed", true)
	g.Initializers = append(g.Initializers, onnx.Floats("table", m.table, rows, embedded), onnx.Longs("flat", []int64{1, fields * embedded}, 2))
	add(g, "Gather", "looked", []string{"table", "context"})
	add(g, "Reshape", "placed-in", []string{"looked", "flat"})
	m.context.export(g, "placed", "placed-in", true)
	add(g, "Concat", "together", []string{"acted", "placed", "text"}, onnx.Int("axis", 1))
	m.project.export(g, "out", "together", false)
	add(g, "LpNormalization", "embedding", []string{"out"}, onnx.Int("axis", -1), onnx.Int("p", 2))
	return out, onnx.Seal(out)
}

// addTimes adds Time2Vec and its mean: "time" [1, waves].
func (m *Model) addTimes(g *onnx.Graph) {
	line, phase := m.line, m.phase
	if m.noTime { // zero weights, and sines of zero
		line, phase = dense{in: 1, out: 1, w: make([]float32, 1), b: make([]float32, 1)}, dense{in: 1, out: waves - 1, w: make([]float32, waves-1), b: make([]float32, waves-1)}
	}
	line.export(g, "line", "times", false)
	phase.export(g, "phase", "times", false)
	add(g, "Sin", "wave", []string{"phase"})
	add(g, "Concat", "all-times", []string{"line", "wave"}, onnx.Int("axis", 1))
	add(g, "ReduceMean", "time", []string{"all-times"}, onnx.Ints("axes", 0), onnx.Int("keepdims", 1))
}

func (d *dense) export(g *onnx.Graph, name, from string, relu bool) {
	g.Initializers = append(g.Initializers,
		onnx.Floats(name+".w", d.w, int64(d.in), int64(d.out)), onnx.Floats(name+".b", d.b, int64(d.out)))
	to := name
	if relu {
		to += ".sum"
	}
	add(g, "Gemm", to, []string{from, name + ".w", name + ".b"})
	if relu {
		add(g, "Relu", name, []string{to})
	}
}

func add(g *onnx.Graph, op, out string, in []string, attributes ...onnx.Attribute) {
	g.Nodes = append(g.Nodes, onnx.Node{Op: op, Name: out, Inputs: in, Outputs: []string{out}, Attributes: attributes})
}

// Encoder encodes requests by an exported graph, for one goroutine. In steady state it allocates nothing.
type Encoder struct {
	session engine.Session
	in, out []engine.Value
	input   *Input // an allocation without pointers, which ONNX Runtime may read
}

// NewEncoder returns an encoder on ONNX Runtime, or, where library is nil, in pure Go. Errors wrap
// onnx.ErrVersion where the graph is no tower of these features or its metadata are not what is wanted,
// onnx.ErrEdited where its seal is broken, and those of the engine.
func NewEncoder(m *onnx.Model, library *ort.Library, want map[string]string) (*Encoder, error) {
	for _, w := range []map[string]string{{kindKey: kind, featuresKey: featuresV1}, want} {
		if err := m.CheckMetadata(w); err != nil {
			return nil, err
		}
	}
	if err := onnx.CheckSeal(m); err != nil {
		return nil, err
	}
	session, err := sessionOf(m, library)
	if err != nil {
		return nil, err
	}
	if err := checkPorts(session); err != nil {
		return nil, errors.Join(err, session.Close())
	}
	e := &Encoder{session: session, input: &Input{}}
	e.in = []engine.Value{
		{Dims: []int{1, 1}}, {Dims: []int{1, behaviours}, Floats: e.input.behaviour[:]},
		{Dims: []int{fields}, Ints: e.input.context[:]}, {Dims: []int{1, engine.Dimension}, Floats: e.input.text[:]},
	}
	e.out = []engine.Value{{Dims: []int{1, engine.Dimension}}}
	return e, nil
}

// checkPorts refuses a graph that takes or gives something else.
func checkPorts(s engine.Session) error {
	want := []engine.Port{
		{Name: "times", Shape: engine.Shape{engine.Any, 1}}, {Name: "behaviour", Shape: engine.Shape{1, behaviours}},
		{Name: "context", Shape: engine.Shape{fields}, Ints: true}, {Name: "text", Shape: engine.Shape{1, engine.Dimension}},
		{Name: "embedding", Shape: engine.Shape{1, engine.Dimension}},
	}
	got := slices.Concat(s.Inputs(), s.Outputs())
	if !slices.EqualFunc(got, want, func(a, b engine.Port) bool {
		return a.Name == b.Name && a.Ints == b.Ints && slices.Equal(a.Shape, b.Shape)
	}) {
		return fmt.Errorf("%w: the graph's inputs and outputs are %v, want %v", onnx.ErrVersion, got, want)
	}
	return nil
}

func sessionOf(m *onnx.Model, library *ort.Library) (engine.Session, error) {
	if library == nil {
		g, err := graph.Load(m)
		if err != nil {
			return nil, err
		}
		return g.NewSession(), nil
	}
	file, err := onnx.Marshal(m)
	if err != nil {
		return nil, err
	}
	return library.NewSession(file, ort.Options{Want: map[string]string{kindKey: kind}})
}

// Name returns the executor's name.
func (e *Encoder) Name() string { return e.session.Name() }

// Close frees the session.
func (e *Encoder) Close() error { return e.session.Close() }

// Session returns what executes the graph, to ask what it copies.
func (e *Encoder) Session() engine.Session { return e.session }

// Text returns the memory that the graph reads the text's vector from. Who writes the vector there, and hands it to
// Encode, has it copied nowhere.
func (e *Encoder) Text() []float32 { return e.input.text[:] }

// Encode writes the vector of a request, of norm 1, to dst. text is the vector of its text, or nil. Errors
// are those of Input.Set, or wrap engine.ErrShape or engine.ErrNoDirection.
func (e *Encoder) Encode(r *Request, text, dst []float32) error {
	if err := e.input.Set(r, text); err != nil {
		return err
	}
	return e.run(dst)
}

func (e *Encoder) run(dst []float32) error {
	if len(dst) != engine.Dimension {
		return fmt.Errorf("%w: %d numbers for the vector, want %d", engine.ErrShape, len(dst), engine.Dimension)
	}
	e.in[0].Dims[0], e.in[0].Floats = e.input.n, e.input.times[:e.input.n]
	e.out[0].Floats = dst
	if err := e.session.Run(e.in, e.out); err != nil {
		return err
	}
	return engine.CheckUnit(dst)
}
