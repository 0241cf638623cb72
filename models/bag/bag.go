// Package bag is the router's model as an ONNX graph: a bag of features summed over an embedding table,
// normalised, and compared with prototypes. It trains nothing and executes nothing.
//
//	rows      = Gather(table, ids)               [n, 128]
//	embedding = LpNormalization(weights · rows)  [1, 128]
//	scores    = embedding · prototypesᵀ          [1, policies]
//
// The prototypes are an input, because a router that learns changes them; a snapshot of them may be its
// default. A table of int8 is widened after the Gather, its scales go into the weights.
package bag

import (
	"errors"
	"fmt"
	"maps"
	"strconv"

	"github.com/assay-bench/assay/models/engine"
	"github.com/assay-bench/assay/models/onnx"
)

// The inputs and outputs of the graph.
const (
	IDs        = "ids"        // int64 [n]
	Weights    = "weights"    // float [1, n]
	Prototypes = "prototypes" // float [policies, dimension]
	Embedding  = "embedding"  // float [1, dimension]
	Scores     = "scores"     // float [1, policies]
)

const (
	table     = "table"
	scale     = "scale"
	kindKey   = "assay.kind"
	kind      = "router-bag"
	rowsKey   = "assay.rows"
	dimKey    = "assay.dimension"
	formatKey = "assay.format"
	format    = "1"
)

// Model is what the graph holds. Metadata says which hash, tokenizer, idf table and number of buckets the
// ids and weights come from: whoever makes them compares it (onnx.Model.CheckMetadata) before the first run.
type Model struct {
	Table      *engine.Table
	Prototypes *engine.Prototypes // a snapshot; nil is none
	Metadata   map[string]string
}

// Export returns the model as a sealed graph. Its keys of metadata begin with "assay."; the caller's do not.
func (m Model) Export() (*onnx.Model, error) {
	rows, dim := int64(m.Table.Rows()), int64(m.Table.Dim())
	out := &onnx.Model{IR: onnx.IRVersion, Opset: onnx.Opset, Producer: "assay", Metadata: maps.Clone(m.Metadata)}
	if out.Metadata == nil {
		out.Metadata = map[string]string{}
	}
	out.Metadata[kindKey], out.Metadata[formatKey] = kind, format
	out.Metadata[rowsKey], out.Metadata[dimKey] = strconv.FormatInt(rows, 10), strconv.FormatInt(dim, 10)
	g := &out.Graph
	g.Name = kind
	width, policies := onnx.Dim{Size: dim}, onnx.Dim{Param: "policies"}
	g.Inputs = []onnx.Value{
		{Name: IDs, Type: onnx.Int64, Dims: []onnx.Dim{{Param: "n"}}},
		{Name: Weights, Type: onnx.Float, Dims: []onnx.Dim{{Size: 1}, {Param: "n"}}},
		{Name: Prototypes, Type: onnx.Float, Dims: []onnx.Dim{policies, width}},
	}
	g.Outputs = []onnx.Value{
		{Name: Embedding, Type: onnx.Float, Dims: []onnx.Dim{{Size: 1}, width}},
		{Name: Scores, Type: onnx.Float, Dims: []onnx.Dim{{Size: 1}, policies}},
	}
	m.gather(g, rows, dim)
	g.Nodes = append(g.Nodes,
		node("MatMul", "sum", []string{"scaled", "rows"}),
		node("LpNormalization", Embedding, []string{"sum"}, onnx.Int("axis", -1), onnx.Int("p", 2)),
		node("Gemm", Scores, []string{Embedding, Prototypes}, onnx.Int("transB", 1)))
	if m.Prototypes != nil {
		g.Initializers = append(g.Initializers, onnx.Floats(Prototypes, m.Prototypes.Data(), int64(m.Prototypes.Rows()), dim))
	}
	return out, onnx.Seal(out)
}

// gather adds the table and what makes float rows and scaled weights of it.
func (m Model) gather(g *onnx.Graph, rows, dim int64) {
	f32, f16, i8, scales := m.Table.Storage()
	widen := []onnx.Node{node("Gather", "narrow", []string{table, IDs}), node("Cast", "rows", []string{"narrow"}, onnx.Int("to", int64(onnx.Float)))}
	asIs := node("Identity", "scaled", []string{Weights})
	switch {
	case f32 != nil:
		g.Initializers = append(g.Initializers, onnx.Floats(table, f32, rows, dim))
		g.Nodes = append(g.Nodes, node("Gather", "rows", []string{table, IDs}), asIs)
	case f16 != nil:
		g.Initializers = append(g.Initializers, onnx.Halves(table, f16, rows, dim))
		g.Nodes = append(append(g.Nodes, widen...), asIs)
	default:
		g.Initializers = append(g.Initializers, onnx.Bytes(table, i8, rows, dim), onnx.Floats(scale, scales, rows))
		g.Nodes = append(append(g.Nodes, widen...),
			node("Gather", "scales", []string{scale, IDs}), node("Mul", "scaled", []string{Weights, "scales"}))
	}
}

func node(op, output string, inputs []string, attributes ...onnx.Attribute) onnx.Node {
	return onnx.Node{Op: op, Name: output, Inputs: inputs, Outputs: []string{output}, Attributes: attributes}
}

// Import returns what an exported graph holds. Errors wrap onnx.ErrEdited where the seal is broken,
// onnx.ErrVersion where it is another kind of model, and onnx.ErrFormat or engine.ErrShape where tensors are
// missing or do not fit.
func Import(o *onnx.Model) (Model, error) {
	if err := o.CheckMetadata(map[string]string{kindKey: kind, formatKey: format}); err != nil {
		return Model{}, err
	}
	if err := onnx.CheckSeal(o); err != nil {
		return Model{}, err
	}
	m := Model{Metadata: maps.Clone(o.Metadata)}
	var err error
	if m.Table, err = importTable(&o.Graph); err != nil {
		return Model{}, err
	}
	if p, there := o.Graph.Initializer(Prototypes); there {
		data, err := p.Floats()
		if err != nil {
			return Model{}, err
		}
		if m.Prototypes, err = engine.NewPrototypes(m.Table.Dim(), data); err != nil {
			return Model{}, err
		}
	}
	rows, dim := strconv.Itoa(m.Table.Rows()), strconv.Itoa(m.Table.Dim())
	return m, o.CheckMetadata(map[string]string{rowsKey: rows, dimKey: dim})
}

func importTable(g *onnx.Graph) (*engine.Table, error) {
	t, there := g.Initializer(table)
	if !there || len(t.Dims) != 2 {
		return nil, fmt.Errorf("%w: no initializer %q of two dimensions", onnx.ErrFormat, table)
	}
	dim := int(t.Dims[1])
	switch t.Type {
	case onnx.Float:
		data, err := t.Floats()
		return made(err, func() (*engine.Table, error) { return engine.NewTable(dim, data) })
	case onnx.Float16:
		data, err := t.Halves()
		return made(err, func() (*engine.Table, error) { return engine.NewTable16(dim, data) })
	}
	data, err := t.Bytes()
	s, _ := g.Initializer(scale)
	scales, wrong := s.Floats()
	return made(errors.Join(err, wrong), func() (*engine.Table, error) { return engine.NewTable8(dim, data, scales) })
}

func made(err error, table func() (*engine.Table, error)) (*engine.Table, error) {
	if err != nil {
		return nil, err
	}
	return table()
}
