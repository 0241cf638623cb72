// Package onnx writes and reads ONNX model files: IR version 9, operator set 17, dense tensors inside the
// file. It knows the format and no operator: whoever executes a graph refuses what it does not know. Files
// of others are read as far as they need no more than that; external data, sparse tensors and subgraphs are
// named errors.
// Tried: the generated package of onnx.proto. Lost: 20,000 lines for the twelve messages in use, and no
// bounds on what a hostile file makes it allocate.
package onnx

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// The versions that are written. Files of IR versions 3 to 10 and operator sets 13 to 21 are read.
const (
	IRVersion = 9
	Opset     = 17
)

// The bounds of a file that is read. Memory is at most a small multiple of the file's size, since tensors
// are views of it.
const (
	MaxBytes  = 512 << 20 // of a file
	MaxNodes  = 1 << 12   // and initializers, inputs, outputs, metadata each
	MaxPorts  = 1 << 6    // inputs, outputs and attributes of a node
	MaxRank   = 8
	MaxString = 1 << 16 // bytes of a name or metadata value
)

// Type is an element type of TensorProto.
type Type int32

// The element types in use.
const (
	Float   Type = 1
	Int8    Type = 3
	Int64   Type = 7
	Float16 Type = 10
)

var typeNames = map[Type]string{Float: "float", Int8: "int8", Int64: "int64", Float16: "float16"}

// String returns the type's name, or its number.
func (t Type) String() string {
	if s, ok := typeNames[t]; ok {
		return s
	}
	return fmt.Sprintf("type %d", int32(t))
}

// size returns the bytes of an element, 0 for a type that is not in use.
func (t Type) size() int {
	return map[Type]int{Float: 4, Int8: 1, Int64: 8, Float16: 2}[t]
}

// Model is a ModelProto.
type Model struct {
	IR, Opset int64
	Producer  string
	Graph     Graph
	Metadata  map[string]string // metadata_props
}

// Graph is a GraphProto. Nodes are in an order in which they can run.
type Graph struct {
	Name            string
	Nodes           []Node
	Initializers    []Tensor
	Inputs, Outputs []Value
}

// Node is a NodeProto: one operator.
type Node struct {
	Op, Domain, Name string
	Inputs, Outputs  []string // an empty name is an optional one that is not there
	Attributes       []Attribute
}

// Attribute is an AttributeProto of one of the kinds below; exactly one value counts.
type Attribute struct {
	Name  string
	Kind  Kind
	Float float32
	Int   int64
	Ints  []int64
}

// Kind is the type of an attribute, as AttributeProto numbers it.
type Kind int32

// The kinds in use.
const (
	KindFloat Kind = 1
	KindInt   Kind = 2
	KindInts  Kind = 7
)

// Int returns an attribute of one integer.
func Int(name string, v int64) Attribute { return Attribute{Name: name, Kind: KindInt, Int: v} }

// Flt returns an attribute of one float.
func Flt(name string, v float32) Attribute { return Attribute{Name: name, Kind: KindFloat, Float: v} }

// Ints returns an attribute of integers.
func Ints(name string, v ...int64) Attribute { return Attribute{Name: name, Kind: KindInts, Ints: v} }

// Tensor is a TensorProto. Raw holds its elements in little-endian order; of a model that was read it is a
// view of the file.
type Tensor struct {
	Name string
	Type Type
	Dims []int64
	Raw  []byte
}

// Value is a ValueInfoProto: an input or output of the graph.
type Value struct {
	Name string
	Type Type
	Dims []Dim
}

// Dim is a dimension: a size, or, where Param is set, a name for one that is known at run time.
type Dim struct {
	Size  int64
	Param string
}

// ErrFormat is wrapped by every error of Parse and Marshal.
var ErrFormat = errors.New("not a usable ONNX model")

// ErrTooLarge is wrapped, with ErrFormat, where a file passes a bound.
var ErrTooLarge = errors.New("too large")

// Floats returns a float tensor of the dimensions.
func Floats(name string, v []float32, dims ...int64) Tensor {
	raw := make([]byte, 0, 4*len(v))
	for _, x := range v {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
	}
	return Tensor{Name: name, Type: Float, Dims: dims, Raw: raw}
}

// Halves returns a float16 tensor of the dimensions.
func Halves(name string, v []uint16, dims ...int64) Tensor {
	raw := make([]byte, 0, 2*len(v))
	for _, x := range v {
		raw = binary.LittleEndian.AppendUint16(raw, x)
	}
	return Tensor{Name: name, Type: Float16, Dims: dims, Raw: raw}
}

// Bytes returns an int8 tensor of the dimensions.
func Bytes(name string, v []int8, dims ...int64) Tensor {
	raw := make([]byte, len(v))
	for i, x := range v {
		raw[i] = byte(x)
	}
	return Tensor{Name: name, Type: Int8, Dims: dims, Raw: raw}
}

// Longs returns an int64 tensor of the dimensions.
func Longs(name string, v []int64, dims ...int64) Tensor {
	raw := make([]byte, 0, 8*len(v))
	for _, x := range v {
		raw = binary.LittleEndian.AppendUint64(raw, uint64(x))
	}
	return Tensor{Name: name, Type: Int64, Dims: dims, Raw: raw}
}

// Floats returns the elements of a float tensor.
func (t Tensor) Floats() ([]float32, error) {
	return elements(t, Float, func(b []byte) float32 { return math.Float32frombits(binary.LittleEndian.Uint32(b)) })
}

// Halves returns the elements of a float16 tensor.
func (t Tensor) Halves() ([]uint16, error) { return elements(t, Float16, binary.LittleEndian.Uint16) }

// Bytes returns the elements of an int8 tensor.
func (t Tensor) Bytes() ([]int8, error) {
	return elements(t, Int8, func(b []byte) int8 { return int8(b[0]) })
}

// Longs returns the elements of an int64 tensor.
func (t Tensor) Longs() ([]int64, error) {
	return elements(t, Int64, func(b []byte) int64 { return int64(binary.LittleEndian.Uint64(b)) })
}

func elements[E any](t Tensor, want Type, read func([]byte) E) ([]E, error) {
	if t.Type != want {
		return nil, fmt.Errorf("%w: tensor %q is %v, not %v", ErrFormat, t.Name, t.Type, want)
	}
	if err := t.check(); err != nil {
		return nil, err
	}
	step := want.size()
	out := make([]E, len(t.Raw)/step)
	for i := range out {
		out[i] = read(t.Raw[i*step:])
	}
	return out, nil
}

// check compares the elements with the dimensions.
func (t Tensor) check() error {
	size := t.Type.size()
	if size == 0 {
		return fmt.Errorf("%w: tensor %q has elements of %v, which are not in use", ErrFormat, t.Name, t.Type)
	}
	if len(t.Dims) > MaxRank {
		return fmt.Errorf("%w: tensor %q: %w: %d dimensions, at most %d", ErrFormat, t.Name, ErrTooLarge, len(t.Dims), MaxRank)
	}
	n := int64(1)
	for _, d := range t.Dims {
		if d < 0 || (d > 0 && n > MaxBytes/d) {
			return fmt.Errorf("%w: tensor %q: %w: dimensions %v", ErrFormat, t.Name, ErrTooLarge, t.Dims)
		}
		n *= d
	}
	if int64(len(t.Raw)) != n*int64(size) {
		return fmt.Errorf("%w: tensor %q: %v elements of %v take %d bytes, there are %d", ErrFormat, t.Name, t.Dims, t.Type, n*int64(size), len(t.Raw))
	}
	return nil
}
