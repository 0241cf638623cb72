package thrift

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Bounds of the reader. Frames are bounded by the caller; these bound what a frame may make of itself.
const (
	MaxDepth  = 128     // structs and containers inside one another, the outermost struct included
	MaxValues = 1 << 20 // values of one tree: under 256 MiB at the very worst
)

// ShortError says that the input ends before the value does. A caller that may still receive bytes waits
// until it holds Need of them; for one that holds a whole frame it is a malformation.
type ShortError struct {
	Offset int // where the value that does not fit begins
	Need   int // bytes from the start of the input without which the value cannot be complete
	Have   int // bytes given
}

func (e *ShortError) Error() string {
	return fmt.Sprintf("thrift: offset %d: at least %d bytes needed, %d given", e.Offset, e.Need, e.Have)
}

// ReadMessage reads one strict message and returns the number of bytes it takes. Bytes after it are not
// looked at.
func ReadMessage(b []byte) (Message, int, error) {
	r := reader{b: b}
	m, err := r.begin()
	if err != nil {
		return m, r.at, err
	}
	m.Body, err = r.fields(1)
	return m, r.at, err
}

// ReadStruct reads one struct and returns the number of bytes it takes. On an error the fields read so far
// are returned beside it, for a report.
func ReadStruct(b []byte) (Struct, int, error) {
	r := reader{b: b}
	s, err := r.fields(1)
	return s, r.at, err
}

// MessageLen returns how many bytes the strict message at the start of b takes, without building a tree.
// The error is a ShortError while the message may still be completed by more bytes.
func MessageLen(b []byte) (int, error) {
	r := reader{b: b}
	if _, err := r.begin(); err != nil {
		return 0, err
	}
	if err := r.skip(Object, 1); err != nil {
		return 0, err
	}
	return r.at, nil
}

// reader walks over b; at never passes len(b).
type reader struct {
	b      []byte
	at     int
	values int
}

func (r *reader) fail(format string, args ...any) error {
	return fmt.Errorf("thrift: offset %d: %s", r.at, fmt.Sprintf(format, args...))
}

// take returns the next n bytes; n is never negative.
func (r *reader) take(n int) ([]byte, error) {
	if len(r.b)-r.at < n {
		return nil, &ShortError{Offset: r.at, Need: r.at + n, Have: len(r.b)}
	}
	p := r.b[r.at : r.at+n]
	r.at += n
	return p, nil
}

func (r *reader) u32() (uint32, error) {
	p, err := r.take(4)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint32(p), nil
}

// begin reads the strict message header. The version is judged as early as its bytes allow, so that a
// stream of something else is not mistaken for an unfinished message.
func (r *reader) begin() (Message, error) {
	if len(r.b) >= 2 && (r.b[0] != 0x80 || r.b[1] != 0x01) {
		return Message{}, r.fail("version %#02x%02x, want 0x8001 (strict)", r.b[0], r.b[1])
	}
	v, err := r.u32()
	if err != nil {
		return Message{}, err
	}
	// The third byte is unused and ignored (Thrift binary protocol, "Message").
	m := Message{Type: MessageType(v)}
	if m.Name, err = r.text(); err != nil {
		return m, err
	}
	seq, err := r.u32()
	m.Seq = int32(seq)
	return m, err
}

// length reads a length or a count. A negative one is refused.
func (r *reader) length() (int, error) {
	n, err := r.u32()
	if err != nil {
		return 0, err
	}
	if n > math.MaxInt32 {
		r.at -= 4
		return 0, r.fail("negative length %d", int32(n))
	}
	return int(n), nil
}

func (r *reader) text() (string, error) {
	n, err := r.length()
	if err != nil {
		return "", err
	}
	p, err := r.take(n)
	return string(p), err
}

// fieldHead reads the type and the id; a stop byte has no id.
func (r *reader) fieldHead() (Type, int16, error) {
	p, err := r.take(1)
	if err != nil || Type(p[0]) == Stop {
		return Stop, 0, err
	}
	t := Type(p[0])
	if t.minSize() == 0 {
		r.at--
		return t, 0, r.fail("unknown field type %d", p[0])
	}
	if p, err = r.take(2); err != nil {
		return t, 0, err
	}
	return t, int16(binary.BigEndian.Uint16(p)), nil
}

// container reads the head of a list, a set or a map and checks the count against the bytes that remain,
// so that a count can never make the reader work for more than it was sent.
func (r *reader) container(t Type) (key, elem Type, n int, err error) {
	head := 1
	if t == Map {
		head = 2
	}
	p, err := r.take(head)
	if err != nil {
		return 0, 0, 0, err
	}
	elem, each := Type(p[head-1]), Type(p[head-1]).minSize()
	known := each > 0
	if t == Map {
		key = Type(p[0])
		each += key.minSize()
		known = known && key.minSize() > 0
	}
	if n, err = r.length(); err != nil || n == 0 {
		return key, elem, n, err // an empty container may leave its types open: some writers do
	}
	if !known {
		return key, elem, n, r.fail("%s of %d with an unknown element type (key %d, element %d)", t, n, key, elem)
	}
	if len(r.b)-r.at < n*each {
		return key, elem, n, &ShortError{Offset: r.at, Need: r.at + n*each, Have: len(r.b)}
	}
	return key, elem, n, nil
}

func (r *reader) fields(depth int) (Struct, error) {
	if depth > MaxDepth {
		return nil, r.fail("deeper than %d", MaxDepth)
	}
	var s Struct
	for {
		t, id, err := r.fieldHead()
		if err != nil || t == Stop {
			return s, err
		}
		v, err := r.value(t, depth)
		if err == nil || v.begun() {
			s = append(s, Field{ID: id, Value: v})
		}
		if err != nil {
			return s, err
		}
	}
}

// value reads one value that is a member of something at the given depth.
func (r *reader) value(t Type, depth int) (Value, error) {
	v := Value{Type: t}
	if r.values++; r.values > MaxValues {
		return v, r.fail("more than %d values", MaxValues)
	}
	var err error
	switch t {
	case String:
		v.Text, err = r.text()
	case Object:
		v.Fields, err = r.fields(depth + 1)
	case List, Set, Map:
		err = r.items(&v, depth+1)
	default:
		err = r.scalar(&v)
	}
	return v, err
}

// begun reports whether a value that could not be read whole still shows something: a scalar would only
// show a zero that nobody sent.
func (v Value) begun() bool { return len(v.Fields) > 0 || len(v.Items) > 0 }

func (r *reader) scalar(v *Value) error {
	p, err := r.take(v.Type.minSize())
	if err != nil {
		return err
	}
	switch v.Type {
	case Bool:
		if p[0] > 1 {
			r.at--
			return r.fail("bool is %d", p[0])
		}
		v.Num = int64(p[0])
	case Byte:
		v.Num = int64(int8(p[0]))
	case I16:
		v.Num = int64(int16(binary.BigEndian.Uint16(p)))
	case I32:
		v.Num = int64(int32(binary.BigEndian.Uint32(p)))
	case I64:
		v.Num = int64(binary.BigEndian.Uint64(p))
	case Double:
		v.Float = math.Float64frombits(binary.BigEndian.Uint64(p))
	}
	return nil
}

func (r *reader) items(v *Value, depth int) error {
	if depth > MaxDepth {
		return r.fail("deeper than %d", MaxDepth)
	}
	var n int
	var err error
	if v.Key, v.Elem, n, err = r.container(v.Type); err != nil {
		return err
	}
	types := []Type{v.Elem}
	if v.Type == Map {
		types = []Type{v.Key, v.Elem}
	}
	for range n {
		for _, t := range types {
			item, err := r.value(t, depth)
			if err == nil || item.begun() {
				v.Items = append(v.Items, item)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// skip passes over one value. Strings and containers of fixed-size elements cost the same at any length.
func (r *reader) skip(t Type, depth int) error {
	if depth > MaxDepth {
		return r.fail("deeper than %d", MaxDepth)
	}
	switch t {
	case Object:
		return r.skipFields(depth)
	case String:
		n, err := r.length()
		if err != nil {
			return err
		}
		_, err = r.take(n)
		return err
	case List, Set, Map:
		return r.skipItems(t, depth)
	}
	_, err := r.take(t.minSize())
	return err
}

// inner is the depth of a member: only members that can hold others go deeper, as in the tree reader.
func inner(t Type, depth int) int {
	switch t {
	case Object, List, Set, Map:
		return depth + 1
	}
	return depth
}

func (r *reader) skipFields(depth int) error {
	for {
		t, _, err := r.fieldHead()
		if err != nil || t == Stop {
			return err
		}
		if err := r.skip(t, inner(t, depth)); err != nil {
			return err
		}
	}
}

func (r *reader) skipItems(t Type, depth int) error {
	key, elem, n, err := r.container(t)
	if err != nil || n == 0 {
		return err
	}
	if elem.fixed() && (t != Map || key.fixed()) {
		size := elem.minSize()
		if t == Map {
			size += key.minSize()
		}
		_, err = r.take(n * size)
		return err
	}
	for range n {
		if t == Map {
			if err := r.skip(key, inner(key, depth)); err != nil {
				return err
			}
		}
		if err := r.skip(elem, inner(elem, depth)); err != nil {
			return err
		}
	}
	return nil
}
