package thrift

import (
	"encoding/binary"
	"math"
)

// strictVersion marks a strict message; the low byte carries the type.
const strictVersion = 0x80010000

// Writer appends values to Bytes. Nothing is checked: a vector may need a wrong count or an unknown type.
// The zero value is ready to use.
type Writer struct {
	Bytes []byte
}

// Message begins a strict message.
func (w *Writer) Message(name string, t MessageType, seq int32) {
	w.u32(strictVersion | uint32(t))
	w.String(name)
	w.I32(seq)
}

// OldMessage begins a message in the form without a version, which a strict peer must refuse.
func (w *Writer) OldMessage(name string, t MessageType, seq int32) {
	w.String(name)
	w.Byte(byte(t))
	w.I32(seq)
}

// Field begins a field; its value follows.
func (w *Writer) Field(t Type, id int16) {
	w.Byte(byte(t))
	w.I16(id)
}

// Stop ends a struct.
func (w *Writer) Stop() { w.Byte(byte(Stop)) }

// List begins a list or a set of n elements. n is written as given.
func (w *Writer) List(elem Type, n int32) {
	w.Byte(byte(elem))
	w.I32(n)
}

// Map begins a map of n pairs. n is written as given.
func (w *Writer) Map(key, elem Type, n int32) {
	w.Byte(byte(key))
	w.Byte(byte(elem))
	w.I32(n)
}

// String appends a length and the bytes.
func (w *Writer) String(s string) {
	w.u32(uint32(len(s)))
	w.Bytes = append(w.Bytes, s...)
}

// Bool appends one byte, 1 or 0.
func (w *Writer) Bool(b bool) {
	if b {
		w.Byte(1)
		return
	}
	w.Byte(0)
}

// Byte appends one byte.
func (w *Writer) Byte(b byte) { w.Bytes = append(w.Bytes, b) }

// I16 appends two bytes.
func (w *Writer) I16(v int16) { w.Bytes = binary.BigEndian.AppendUint16(w.Bytes, uint16(v)) }

// I32 appends four bytes.
func (w *Writer) I32(v int32) { w.u32(uint32(v)) }

// I64 appends eight bytes.
func (w *Writer) I64(v int64) { w.Bytes = binary.BigEndian.AppendUint64(w.Bytes, uint64(v)) }

// Double appends eight bytes.
func (w *Writer) Double(v float64) {
	w.Bytes = binary.BigEndian.AppendUint64(w.Bytes, math.Float64bits(v))
}

// Struct appends the fields and the stop byte.
func (w *Writer) Struct(s Struct) {
	for _, f := range s {
		w.Field(f.Value.Type, f.ID)
		w.Value(f.Value)
	}
	w.Stop()
}

// Value appends a decoded value, so that what was read can be written back. Counts are those of Items.
func (w *Writer) Value(v Value) {
	switch v.Type {
	case Bool, Byte:
		w.Byte(byte(v.Num))
	case Double:
		w.Double(v.Float)
	case I16:
		w.I16(int16(v.Num))
	case I32:
		w.I32(int32(v.Num))
	case I64:
		w.I64(v.Num)
	case String:
		w.String(v.Text)
	case Object:
		w.Struct(v.Fields)
	case List, Set:
		w.List(v.Elem, int32(len(v.Items)))
		w.values(v.Items)
	case Map:
		w.Map(v.Key, v.Elem, int32(len(v.Items)/2))
		w.values(v.Items)
	}
}

func (w *Writer) values(items []Value) {
	for _, v := range items {
		w.Value(v)
	}
}

func (w *Writer) u32(v uint32) { w.Bytes = binary.BigEndian.AppendUint32(w.Bytes, v) }
