package onnx

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"slices"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// ReadFile reads a model file of at most MaxBytes. Errors wrap ErrFormat, or are those of the file system.
func ReadFile(path string) (*Model, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > MaxBytes || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w: %w: want a regular file of at most %d bytes", path, ErrFormat, ErrTooLarge, MaxBytes)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	m, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// Parse reads a model. Its tensors are views of b, which must not change any more. Errors wrap ErrFormat and
// say where in the message they are; those of a passed bound wrap ErrTooLarge too.
func Parse(b []byte) (*Model, error) {
	if len(b) > MaxBytes {
		return nil, fmt.Errorf("%w: %w: %d bytes, at most %d", ErrFormat, ErrTooLarge, len(b), MaxBytes)
	}
	m := &Model{Metadata: map[string]string{}}
	if err := m.read(b); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return m, nil
}

// Ports returns the inputs and outputs of a model, and reads nothing else of it: a file may hold operators and tensors
// that Parse refuses. Errors wrap ErrFormat.
func Ports(b []byte) (in, out []Value, err error) {
	if len(b) > MaxBytes {
		return nil, nil, fmt.Errorf("%w: %w: %d bytes, at most %d", ErrFormat, ErrTooLarge, len(b), MaxBytes)
	}
	graph := func(b []byte) error {
		return fields(b, "graph", func(f field) (err error) {
			switch f.number {
			case 11:
				err = appendTo(&in, "inputs", MaxPorts, f, (*Value).read)
			case 12:
				err = appendTo(&out, "outputs", MaxPorts, f, (*Value).read)
			}
			return err
		})
	}
	err = fields(b, "model", func(f field) error {
		if f.number == 7 {
			return f.message(graph)
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return in, out, nil
}

func (m *Model) read(b []byte) error {
	return fields(b, "model", func(f field) (err error) {
		switch f.number {
		case 1:
			m.IR, err = f.int()
		case 2:
			m.Producer, err = f.text()
		case 7:
			err = f.message(m.Graph.read)
		case 8:
			err = f.message(m.readOpset)
		case 14:
			err = f.message(m.readMetadata)
		case 25:
			err = fmt.Errorf("functions are not in use")
		}
		return err
	})
}

// readOpset keeps the version of the standard operators. Others are refused where an operator uses them.
func (m *Model) readOpset(b []byte) error {
	var domain string
	var version int64
	err := fields(b, "opset", func(f field) (err error) {
		switch f.number {
		case 1:
			domain, err = f.text()
		case 2:
			version, err = f.int()
		}
		return err
	})
	if err == nil && (domain == "" || domain == "ai.onnx") {
		m.Opset = version
	}
	return err
}

func (m *Model) readMetadata(b []byte) error {
	var key, value string
	err := fields(b, "metadata", func(f field) (err error) {
		switch f.number {
		case 1:
			key, err = f.text()
		case 2:
			value, err = f.text()
		}
		return err
	})
	if err != nil {
		return err
	}
	if _, twice := m.Metadata[key]; twice {
		return fmt.Errorf("metadata %q is there twice", key)
	}
	m.Metadata[key] = value
	return bounded("metadata", len(m.Metadata), MaxNodes)
}

func (m *Model) check() error {
	switch {
	case m.IR < 3 || m.IR > 10:
		return fmt.Errorf("IR version %d, want 3 to 10", m.IR)
	case m.Opset < 13 || m.Opset > 21:
		return fmt.Errorf("operator set %d, want 13 to 21", m.Opset)
	case len(m.Graph.Outputs) == 0:
		return fmt.Errorf("graph %q has no outputs", m.Graph.Name)
	}
	seen := map[string]bool{}
	for _, t := range m.Graph.Initializers {
		if seen[t.Name] {
			return fmt.Errorf("initializer %q is there twice", t.Name)
		}
		seen[t.Name] = true
		if err := t.check(); err != nil {
			return err
		}
	}
	return nil
}

func (g *Graph) read(b []byte) error {
	return fields(b, "graph", func(f field) (err error) {
		switch f.number {
		case 1:
			err = appendTo(&g.Nodes, "nodes", MaxNodes, f, (*Node).read)
		case 2:
			g.Name, err = f.text()
		case 5:
			err = appendTo(&g.Initializers, "initializers", MaxNodes, f, (*Tensor).read)
		case 11:
			err = appendTo(&g.Inputs, "inputs", MaxNodes, f, (*Value).read)
		case 12:
			err = appendTo(&g.Outputs, "outputs", MaxNodes, f, (*Value).read)
		case 15:
			err = fmt.Errorf("sparse initializers are not in use")
		}
		return err
	})
}

func (n *Node) read(b []byte) error {
	return fields(b, "node", func(f field) (err error) {
		switch f.number {
		case 1:
			err = appendText(&n.Inputs, "inputs", f)
		case 2:
			err = appendText(&n.Outputs, "outputs", f)
		case 3:
			n.Name, err = f.text()
		case 4:
			n.Op, err = f.text()
		case 5:
			err = appendTo(&n.Attributes, "attributes", MaxPorts, f, (*Attribute).read)
		case 7:
			n.Domain, err = f.text()
		}
		if err != nil && n.Op != "" {
			err = fmt.Errorf("%s: %w", n.Op, err)
		}
		return err
	})
}

func (a *Attribute) read(b []byte) error {
	return fields(b, "attribute", func(f field) (err error) {
		switch f.number {
		case 1:
			a.Name, err = f.text()
		case 2:
			a.Float, err = f.float()
		case 3:
			a.Int, err = f.int()
		case 8:
			a.Ints, err = f.ints(a.Ints, MaxPorts)
		case 6, 11:
			err = fmt.Errorf("attribute %q: subgraphs are not in use", a.Name)
		case 20:
			var k int64
			k, err = f.int()
			a.Kind = Kind(k)
		}
		return err
	})
}

func (t *Tensor) read(b []byte) error {
	var typed []byte // the elements, where a producer stored them in a typed field
	err := fields(b, "tensor", func(f field) (err error) {
		switch f.number {
		case 1:
			t.Dims, err = f.ints(t.Dims, MaxRank)
		case 2:
			var v int64
			v, err = f.int()
			t.Type = Type(v)
		case 4:
			typed, err = f.appendFloats(typed)
		case 7:
			typed, err = f.appendLongs(typed)
		case 8:
			t.Name, err = f.text()
		case 9:
			t.Raw, err = f.bytes()
		case 13, 14:
			err = fmt.Errorf("tensor %q: data outside of the file is not in use", t.Name)
		case 3, 5, 6, 10, 11:
			err = fmt.Errorf("tensor %q: field %d is not in use: store the elements as raw data", t.Name, f.number)
		}
		return err
	})
	if err == nil && t.Raw == nil {
		t.Raw = typed
	}
	return err
}

func (v *Value) read(b []byte) error {
	shape := func(b []byte) error {
		return fields(b, "shape", func(f field) error {
			if f.number != 1 {
				return nil
			}
			return appendTo(&v.Dims, "dimensions", MaxRank, f, (*Dim).read)
		})
	}
	tensor := func(b []byte) error {
		return fields(b, "tensor type", func(f field) (err error) {
			switch f.number {
			case 1:
				var t int64
				t, err = f.int()
				v.Type = Type(t)
			case 2:
				err = f.message(shape)
			}
			return err
		})
	}
	return fields(b, "value", func(f field) (err error) {
		switch f.number {
		case 1:
			v.Name, err = f.text()
		case 2:
			err = f.message(func(b []byte) error {
				return fields(b, "type", func(f field) error {
					if f.number != 1 {
						return fmt.Errorf("value %q is no tensor", v.Name)
					}
					return f.message(tensor)
				})
			})
		}
		return err
	})
}

func (d *Dim) read(b []byte) error {
	return fields(b, "dimension", func(f field) (err error) {
		switch f.number {
		case 1:
			d.Size, err = f.int()
		case 2:
			d.Param, err = f.text()
		}
		return err
	})
}

// field is one field of a message: a number, or bytes.
type field struct {
	number protowire.Number
	wire   protowire.Type
	value  uint64
	body   []byte
}

// fields calls each for every field of a message, in order.
func fields(b []byte, what string, each func(field) error) error {
	all := len(b)
	for len(b) > 0 {
		at := all - len(b)
		f, n, err := next(b)
		if err == nil {
			err = each(f)
		}
		if err != nil {
			return fmt.Errorf("%s, byte %d: %w", what, at, err)
		}
		b = b[n:]
	}
	return nil
}

func next(b []byte) (f field, length int, err error) {
	number, wire, tag := protowire.ConsumeTag(b)
	if tag < 0 {
		return f, 0, protowire.ParseError(tag)
	}
	f = field{number: number, wire: wire}
	var n int
	switch wire {
	case protowire.VarintType:
		f.value, n = protowire.ConsumeVarint(b[tag:])
	case protowire.Fixed32Type:
		var v uint32
		v, n = protowire.ConsumeFixed32(b[tag:])
		f.value = uint64(v)
	case protowire.Fixed64Type:
		f.value, n = protowire.ConsumeFixed64(b[tag:])
	case protowire.BytesType:
		f.body, n = protowire.ConsumeBytes(b[tag:])
	default:
		return f, 0, fmt.Errorf("field %d has wire type %d, which is not in use", number, wire)
	}
	if n < 0 {
		return f, 0, fmt.Errorf("field %d: %w", number, protowire.ParseError(n))
	}
	return f, tag + n, nil
}

func (f field) want(wire protowire.Type) error {
	if f.wire != wire {
		return fmt.Errorf("field %d has wire type %d, want %d", f.number, f.wire, wire)
	}
	return nil
}

func (f field) int() (int64, error) { return int64(f.value), f.want(protowire.VarintType) }

func (f field) float() (float32, error) {
	return math.Float32frombits(uint32(f.value)), f.want(protowire.Fixed32Type)
}

func (f field) bytes() ([]byte, error) { return f.body, f.want(protowire.BytesType) }

func (f field) text() (string, error) {
	if err := bounded(fmt.Sprintf("bytes of field %d", f.number), len(f.body), MaxString); err != nil {
		return "", err
	}
	if !utf8.Valid(f.body) {
		return "", fmt.Errorf("field %d is no UTF-8", f.number)
	}
	return string(f.body), f.want(protowire.BytesType)
}

func (f field) message(read func([]byte) error) error {
	if err := f.want(protowire.BytesType); err != nil {
		return err
	}
	return read(f.body)
}

// ints appends a repeated int64, packed or not.
func (f field) ints(to []int64, most int) ([]int64, error) {
	if f.wire != protowire.BytesType {
		v, err := f.int()
		if err != nil {
			return nil, err
		}
		to = append(to, v)
		return to, bounded("integers", len(to), most)
	}
	for b := f.body; len(b) > 0; {
		v, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		to, b = append(to, int64(v)), b[n:]
		if err := bounded("integers", len(to), most); err != nil {
			return nil, err
		}
	}
	return to, nil
}

// appendFloats appends float_data, packed or not, as raw data.
func (f field) appendFloats(raw []byte) ([]byte, error) {
	if f.wire == protowire.BytesType {
		return append(raw, f.body...), nil
	}
	return binary.LittleEndian.AppendUint32(raw, uint32(f.value)), f.want(protowire.Fixed32Type)
}

// appendLongs appends int64_data as raw data. A packed number takes at least a byte, so memory is at most
// eight times the file.
func (f field) appendLongs(raw []byte) ([]byte, error) {
	v, err := f.ints(nil, MaxBytes)
	for _, x := range v {
		raw = binary.LittleEndian.AppendUint64(raw, uint64(x))
	}
	return raw, err
}

func bounded(what string, n, most int) error {
	if n > most {
		return fmt.Errorf("%w: %d %s, at most %d", ErrTooLarge, n, what, most)
	}
	return nil
}

func appendTo[E any](to *[]E, what string, most int, f field, read func(*E, []byte) error) error {
	var e E
	if err := f.message(func(b []byte) error { return read(&e, b) }); err != nil {
		return err
	}
	*to = append(*to, e)
	return bounded(what, len(*to), most)
}

func appendText(to *[]string, what string, f field) error {
	s, err := f.text()
	if err != nil {
		return err
	}
	*to = append(*to, s)
	return bounded(what, len(*to), MaxPorts)
}

// Initializer returns the initializer of that name.
func (g *Graph) Initializer(name string) (Tensor, bool) {
	i := slices.IndexFunc(g.Initializers, func(t Tensor) bool { return t.Name == name })
	if i < 0 {
		return Tensor{}, false
	}
	return g.Initializers[i], true
}
