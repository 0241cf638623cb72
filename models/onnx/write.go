package onnx

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// Marshal returns the model as a file. The same model gives the same bytes: fields in the order of their
// numbers, metadata sorted by key. Errors wrap ErrFormat: a tensor whose elements do not fit its dimensions.
func Marshal(m *Model) ([]byte, error) {
	for _, t := range m.Graph.Initializers {
		if err := t.check(); err != nil {
			return nil, err
		}
	}
	var b message
	b.int(1, m.IR)
	b.text(2, m.Producer)
	b.sub(7, func(g *message) { g.graph(&m.Graph) })
	b.sub(8, func(o *message) {
		o.text(1, "")
		o.int(2, m.Opset)
	})
	for _, k := range slices.Sorted(maps.Keys(m.Metadata)) {
		b.sub(14, func(p *message) {
			p.text(1, k)
			p.text(2, m.Metadata[k])
		})
	}
	if len(b) > MaxBytes {
		return nil, fmt.Errorf("%w: %w: %d bytes, at most %d", ErrFormat, ErrTooLarge, len(b), MaxBytes)
	}
	return b, nil
}

// message is a protobuf message that grows.
type message []byte

func (b *message) int(field protowire.Number, v int64) {
	*b = protowire.AppendVarint(protowire.AppendTag(*b, field, protowire.VarintType), uint64(v))
}

func (b *message) text(field protowire.Number, s string) {
	*b = protowire.AppendString(protowire.AppendTag(*b, field, protowire.BytesType), s)
}

func (b *message) bytes(field protowire.Number, raw []byte) {
	*b = protowire.AppendBytes(protowire.AppendTag(*b, field, protowire.BytesType), raw)
}

func (b *message) sub(field protowire.Number, fill func(*message)) {
	var m message
	fill(&m)
	b.bytes(field, m)
}

func (b *message) graph(g *Graph) {
	for _, n := range g.Nodes {
		b.sub(1, func(m *message) { m.node(n) })
	}
	b.text(2, g.Name)
	for _, t := range g.Initializers {
		b.sub(5, func(m *message) {
			for _, d := range t.Dims {
				m.int(1, d)
			}
			m.int(2, int64(t.Type))
			m.text(8, t.Name)
			m.bytes(9, t.Raw)
		})
	}
	for _, v := range g.Inputs {
		b.sub(11, func(m *message) { m.value(v) })
	}
	for _, v := range g.Outputs {
		b.sub(12, func(m *message) { m.value(v) })
	}
}

func (b *message) node(n Node) {
	for _, s := range n.Inputs {
		b.text(1, s)
	}
	for _, s := range n.Outputs {
		b.text(2, s)
	}
	b.text(3, n.Name)
	b.text(4, n.Op)
	for _, a := range n.Attributes {
		b.sub(5, func(m *message) { m.attribute(a) })
	}
	if n.Domain != "" {
		b.text(7, n.Domain)
	}
}

func (b *message) attribute(a Attribute) {
	b.text(1, a.Name)
	switch a.Kind {
	case KindFloat:
		*b = protowire.AppendFixed32(protowire.AppendTag(*b, 2, protowire.Fixed32Type), math.Float32bits(a.Float))
	case KindInt:
		b.int(3, a.Int)
	case KindInts:
		for _, v := range a.Ints {
			b.int(8, v)
		}
	}
	b.int(20, int64(a.Kind))
}

func (b *message) value(v Value) {
	b.text(1, v.Name)
	b.sub(2, func(t *message) {
		t.sub(1, func(t *message) {
			t.int(1, int64(v.Type))
			t.sub(2, func(shape *message) {
				for _, d := range v.Dims {
					shape.sub(1, func(m *message) {
						if d.Param != "" {
							m.text(2, d.Param)
						} else {
							m.int(1, d.Size)
						}
					})
				}
			})
		})
	})
}
