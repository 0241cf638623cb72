package wire

import (
	"github.com/cloudwego/gopkg/protocol/thrift"
)

// DecodeArgs reads the argument struct of Echo and Fire: field 1 is the request. Give it the Body of
// a Message that DecodeMessage or ScanMessage accepted, which bounds nesting and counts; on other
// bytes it may be slow but still ends in a value or an error. Fields of an unexpected type are
// skipped like unknown ones, as Thrift readers do.
func DecodeArgs(body []byte) (Msg, error) {
	d := decoder{b: body, left: maxElements}
	var msg Msg
	found := false
	d.fields(func(id int16, t thrift.TType) bool {
		if id != 1 || t != thrift.STRUCT {
			return false
		}
		msg, found = d.msg(), true
		return true
	})
	if d.err == nil && !found {
		d.err = refuse(ReasonRequired, "argument 1 is missing")
	}
	return msg, d.err
}

// decoder reads values one after another. After the first error every method does nothing.
type decoder struct {
	b     []byte
	left  int // list, map and operation entries that may still be decoded
	depth int
	err   error
}

// fields calls known for every field of a struct; known reads the value and returns true, or returns
// false to have it skipped.
func (d *decoder) fields(known func(id int16, t thrift.TType) bool) {
	if d.depth++; d.depth > 1<<12 { // never reached behind a scan; keeps the stack bounded without one
		d.fail(refuse(ReasonNesting, "more than %d levels", 1<<12))
	}
	for d.err == nil {
		t, id, n, err := thrift.Binary.ReadFieldBegin(d.b)
		d.advance(n, err)
		if t == thrift.STOP || d.err != nil {
			break
		}
		if !known(id, t) && d.err == nil {
			d.skip(t)
		}
	}
	d.depth--
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

func (d *decoder) advance(n int, err error) {
	if err != nil {
		d.fail(refuse(ReasonTruncated, "%v", err))
		return
	}
	d.b = d.b[n:]
}

// skip leaves out a value with the same walk, and so the same limits, that accepted it.
func (d *decoder) skip(t thrift.TType) {
	s := scanner{buf: d.b, limit: len(d.b), rules: &Rules{MaxDepth: 1 << 12}}
	if err := s.value(t); err != nil {
		d.fail(err)
		return
	}
	d.b = d.b[s.pos:]
}

func (d *decoder) i32() int32 {
	v, n, err := thrift.Binary.ReadI32(d.b)
	d.advance(n, err)
	return v
}

func (d *decoder) i64() int64 {
	v, n, err := thrift.Binary.ReadI64(d.b)
	d.advance(n, err)
	return v
}

func (d *decoder) boolean() bool {
	v, n, err := thrift.Binary.ReadBool(d.b)
	d.advance(n, err)
	return v
}

// bytes returns a string's bytes without copying them; never nil without an error.
func (d *decoder) bytes() []byte {
	n := int(d.i32())
	if d.err != nil {
		return nil
	}
	if n < 0 || n > len(d.b) {
		d.fail(refuse(ReasonTruncated, "string of %d bytes in %d", n, len(d.b)))
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) text() string { return string(d.bytes()) }

// take accounts for n decoded entries, which cost more memory than bytes on the wire.
func (d *decoder) take(n int) bool {
	if n > d.left {
		d.fail(refuse(ReasonElements, "more than %d decoded entries", maxElements))
		return false
	}
	d.left -= n
	return d.err == nil
}

// list reads a list header. It returns ok only for a list of the wanted element type; a list of
// another type is skipped, which an empty one may always be.
func (d *decoder) list(element thrift.TType) (n int, ok bool) {
	start := d.b
	t, n, size, err := thrift.Binary.ReadListBegin(d.b)
	d.advance(size, err)
	if d.err != nil {
		return 0, false
	}
	if n > 0 && t != element {
		d.b = start
		d.skip(thrift.LIST)
		return 0, false
	}
	return n, n <= len(d.b) || d.tooMany(n)
}

func (d *decoder) tooMany(n int) bool {
	d.fail(refuse(ReasonContainer, "%d entries in %d bytes", n, len(d.b)))
	return false
}

func (d *decoder) msg() Msg {
	var m Msg
	d.fields(func(id int16, t thrift.TType) bool {
		switch {
		case id == 1 && t == thrift.STRING:
			m.Tag = d.bytes()
		case id == 2 && t == thrift.STRING:
			m.Body = d.bytes()
		case id == 3 && t == thrift.LIST:
			m.Ops = d.ops()
		case id == 4 && t == thrift.STRUCT:
			m.Report = new(d.report())
		case id == 5 && t == thrift.STRUCT:
			m.Node = d.node()
		default:
			return false
		}
		return true
	})
	if d.err == nil && m.Body == nil {
		d.fail(refuse(ReasonRequired, "field 2 of Msg is missing"))
	}
	return m
}

func (d *decoder) ops() []Op {
	n, ok := d.list(thrift.STRUCT)
	if !ok || !d.take(n) {
		return nil
	}
	ops := make([]Op, 0, min(n, 16))
	for range n {
		if d.err != nil {
			return nil
		}
		ops = append(ops, d.op())
	}
	return ops
}

func (d *decoder) op() Op {
	var o Op
	kind := false
	d.fields(func(id int16, t thrift.TType) bool {
		switch {
		case id == 1 && t == thrift.I32:
			o.Kind, kind = Kind(d.i32()), true
		case id == 2 && t == thrift.I64:
			o.Millis = d.i64()
		case id == 3 && t == thrift.I32:
			o.Code = d.i32()
		case id == 4 && t == thrift.STRING:
			o.Text = d.text()
		case id == 5 && t == thrift.I32:
			o.Times = d.i32()
		case id == 6 && t == thrift.LIST:
			o.Addresses = d.texts()
		case id == 7 && t == thrift.LIST:
			o.Then = d.ops()
		default:
			return false
		}
		return true
	})
	if d.err == nil && !kind {
		d.fail(refuse(ReasonRequired, "field 1 of Op is missing"))
	}
	return o
}

func (d *decoder) texts() []string {
	n, ok := d.list(thrift.STRING)
	if !ok || !d.take(n) {
		return nil
	}
	texts := make([]string, 0, min(n, 16))
	for range n {
		if d.err != nil {
			return nil
		}
		texts = append(texts, d.text())
	}
	return texts
}

func (d *decoder) report() Report {
	var r Report
	d.fields(func(id int16, t thrift.TType) bool {
		switch {
		case id == 1 && t == thrift.I64:
			r.Count = new(d.i64())
		case id == 2 && t == thrift.MAP:
			r.Meta = d.textMap()
		case id == 3 && t == thrift.LIST:
			r.Hops = d.reports()
		case id == 4 && t == thrift.I64:
			r.DeadlineMillis = new(d.i64())
		case id == 5 && t == thrift.BOOL:
			r.Cancelled = new(d.boolean())
		default:
			return false
		}
		return true
	})
	return r
}

func (d *decoder) reports() []Report {
	n, ok := d.list(thrift.STRUCT)
	if !ok || !d.take(n) {
		return nil
	}
	reports := make([]Report, 0, min(n, 16))
	for range n {
		if d.err != nil {
			return nil
		}
		reports = append(reports, d.report())
	}
	return reports
}

func (d *decoder) textMap() map[string]string {
	start := d.b
	kt, vt, n, size, err := thrift.Binary.ReadMapBegin(d.b)
	d.advance(size, err)
	if d.err != nil {
		return nil
	}
	if n > 0 && (kt != thrift.STRING || vt != thrift.STRING) {
		d.b = start
		d.skip(thrift.MAP)
		return nil
	}
	if !d.take(n) {
		return nil
	}
	m := make(map[string]string, min(n, 16))
	for range n {
		if d.err != nil {
			return nil
		}
		k := d.text()
		m[k] = d.text()
	}
	return m
}

func (d *decoder) node() *Node {
	n := new(Node)
	d.fields(func(id int16, t thrift.TType) bool {
		switch {
		case id == 1 && t == thrift.STRUCT:
			n.Next = d.node()
		case id == 2 && t == thrift.LIST:
			n.Numbers = d.numbers()
		default:
			return false
		}
		return true
	})
	return n
}

func (d *decoder) numbers() []int64 {
	n, ok := d.list(thrift.I64)
	if !ok {
		return nil
	}
	if n > len(d.b)/8 {
		d.tooMany(n)
		return nil
	}
	numbers := make([]int64, n)
	for i := range numbers {
		numbers[i] = d.i64()
	}
	return numbers
}
