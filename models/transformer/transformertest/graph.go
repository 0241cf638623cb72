// Package transformertest makes a small ONNX graph with the ports of a sentence transformer, for tests that must not
// need the real one. Its states are sums of pseudo-random numbers for each piece: equal words are near, that is all.
package transformertest

import (
	"fmt"
	"math/rand/v2"

	"github.com/assay-bench/assay/models/onnx"
)

// Pieces is the size of BERT's vocabulary.
const Pieces = 30522

const (
	inner = 16  // numbers of a piece
	width = 384 // of a state
)

// Graph returns a graph over a vocabulary of the given size.
func Graph(pieces int, seed uint64) *onnx.Model {
	r := rand.New(rand.NewPCG(seed, 0x7472616e73))
	table, up := make([]int8, pieces*inner), make([]float32, inner*width)
	for i := range table {
		table[i] = int8(r.IntN(255) - 127)
	}
	for i := range up {
		up[i] = float32(r.NormFloat64())
	}
	m := &onnx.Model{IR: onnx.IRVersion, Opset: onnx.Opset, Producer: "assay"}
	g := &m.Graph
	g.Name = "transformer"
	dims := []onnx.Dim{{Param: "batch"}, {Param: "sequence"}}
	for _, name := range []string{"input_ids", "attention_mask", "token_type_ids"} {
		g.Inputs = append(g.Inputs, onnx.Value{Name: name, Type: onnx.Int64, Dims: dims})
	}
	g.Outputs = []onnx.Value{{Name: "last_hidden_state", Type: onnx.Float, Dims: append(dims[:2:2], onnx.Dim{Size: width})}}
	g.Initializers = []onnx.Tensor{onnx.Bytes("table", table, int64(pieces), inner), onnx.Floats("up", up, inner, width), onnx.Longs("last", []int64{2}, 1)}
	g.Nodes = []onnx.Node{
		node("Gather", "narrow", "table", "input_ids"), cast("rows", "narrow"), node("MatMul", "wide", "rows", "up"),
		cast("mask", "attention_mask"), node("Unsqueeze", "masks", "mask", "last"), node("Mul", "masked", "wide", "masks"),
		cast("type", "token_type_ids"), node("Unsqueeze", "types", "type", "last"), node("Add", "last_hidden_state", "masked", "types"),
	}
	return m
}

// File returns the graph as a file.
func File(pieces int, seed uint64) []byte {
	b, err := onnx.Marshal(Graph(pieces, seed))
	if err != nil {
		panic(fmt.Sprintf("transformertest: %v", err)) // the graph is a constant
	}
	return b
}

func node(op, output string, inputs ...string) onnx.Node {
	return onnx.Node{Op: op, Name: output, Inputs: inputs, Outputs: []string{output}}
}

func cast(output, input string) onnx.Node {
	n := node("Cast", output, input)
	n.Attributes = []onnx.Attribute{onnx.Int("to", int64(onnx.Float))}
	return n
}
