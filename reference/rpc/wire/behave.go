package wire

import (
	"slices"

	"github.com/cloudwego/gopkg/protocol/thrift"
)

// Kind is the enum OpKind of behave.thrift.
type Kind int32

// The operations.
const (
	KindEcho    Kind = 1
	KindDelay   Kind = 2
	KindThrow   Kind = 3
	KindError   Kind = 4
	KindPanic   Kind = 5
	KindOneway  Kind = 6
	KindStream  Kind = 7
	KindForward Kind = 8
	KindCount   Kind = 9
	KindMeta    Kind = 10
)

// String returns the name in the IDL, or "UNKNOWN".
func (k Kind) String() string {
	names := [...]string{"UNKNOWN", "ECHO", "DELAY", "THROW", "ERROR", "PANIC", "ONEWAY", "STREAM", "FORWARD", "COUNT", "META"}
	if k > 0 && int(k) < len(names) {
		return names[k]
	}
	return names[0]
}

// Op is one operation of a call. Zero fields are absent on the wire.
type Op struct {
	Kind      Kind
	Millis    int64
	Code      int32
	Text      string
	Times     int32
	Addresses []string
	Then      []Op
}

// Report is what the server observed. Nil fields are absent.
type Report struct {
	Count          *int64
	Meta           map[string]string
	Hops           []Report
	DeadlineMillis *int64
	Cancelled      *bool
}

// Node exists for tests of nesting and container bounds. Nil fields are absent.
type Node struct {
	Next    *Node
	Numbers []int64
}

// Msg is the request and the reply of Echo. Nil fields are absent; an empty, non-nil Tag is present.
// Tag and Body of a decoded Msg point into the bytes it was decoded from.
type Msg struct {
	Tag    []byte
	Body   []byte // required, so nil is written as empty
	Ops    []Op
	Report *Report
	Node   *Node
}

// Fault is the declared exception of Echo.
type Fault struct {
	Code   int32
	Reason string
}

var binaryProtocol = thrift.Binary // stateless; spelt once

func appendStringField(b []byte, id int16, v string) []byte {
	return binaryProtocol.AppendString(binaryProtocol.AppendFieldBegin(b, thrift.STRING, id), v)
}

func appendBytesField(b []byte, id int16, v []byte) []byte {
	return binaryProtocol.AppendBinary(binaryProtocol.AppendFieldBegin(b, thrift.STRING, id), v)
}

func appendI32Field(b []byte, id int16, v int32) []byte {
	return binaryProtocol.AppendI32(binaryProtocol.AppendFieldBegin(b, thrift.I32, id), v)
}

func appendI64Field(b []byte, id int16, v int64) []byte {
	return binaryProtocol.AppendI64(binaryProtocol.AppendFieldBegin(b, thrift.I64, id), v)
}

func appendListField(b []byte, id int16, element thrift.TType, n int) []byte {
	return binaryProtocol.AppendListBegin(binaryProtocol.AppendFieldBegin(b, thrift.LIST, id), element, n)
}

func appendStructField(b []byte, id int16) []byte {
	return binaryProtocol.AppendFieldBegin(b, thrift.STRUCT, id)
}

func appendStop(b []byte) []byte { return binaryProtocol.AppendFieldStop(b) }

// AppendTo appends the encoded struct.
func (m *Msg) AppendTo(b []byte) []byte {
	if m.Tag != nil {
		b = appendBytesField(b, 1, m.Tag)
	}
	b = appendBytesField(b, 2, m.Body)
	if m.Ops != nil {
		b = appendOps(appendListField(b, 3, thrift.STRUCT, len(m.Ops)), m.Ops)
	}
	if m.Report != nil {
		b = m.Report.AppendTo(appendStructField(b, 4))
	}
	if m.Node != nil {
		b = m.Node.AppendTo(appendStructField(b, 5))
	}
	return appendStop(b)
}

func appendOps(b []byte, ops []Op) []byte {
	for i := range ops {
		b = ops[i].AppendTo(b)
	}
	return b
}

// AppendTo appends the encoded struct.
func (o *Op) AppendTo(b []byte) []byte {
	b = appendI32Field(b, 1, int32(o.Kind))
	if o.Millis != 0 {
		b = appendI64Field(b, 2, o.Millis)
	}
	if o.Code != 0 {
		b = appendI32Field(b, 3, o.Code)
	}
	if o.Text != "" {
		b = appendStringField(b, 4, o.Text)
	}
	if o.Times != 0 {
		b = appendI32Field(b, 5, o.Times)
	}
	if o.Addresses != nil {
		b = appendListField(b, 6, thrift.STRING, len(o.Addresses))
		for _, a := range o.Addresses {
			b = binaryProtocol.AppendString(b, a)
		}
	}
	if o.Then != nil {
		b = appendOps(appendListField(b, 7, thrift.STRUCT, len(o.Then)), o.Then)
	}
	return appendStop(b)
}

// AppendTo appends the encoded struct, map keys in ascending order.
func (r *Report) AppendTo(b []byte) []byte {
	if r.Count != nil {
		b = appendI64Field(b, 1, *r.Count)
	}
	if r.Meta != nil {
		b = binaryProtocol.AppendFieldBegin(b, thrift.MAP, 2)
		b = binaryProtocol.AppendMapBegin(b, thrift.STRING, thrift.STRING, len(r.Meta))
		for _, k := range sortedKeys(r.Meta) {
			b = binaryProtocol.AppendString(binaryProtocol.AppendString(b, k), r.Meta[k])
		}
	}
	if r.Hops != nil {
		b = appendListField(b, 3, thrift.STRUCT, len(r.Hops))
		for i := range r.Hops {
			b = r.Hops[i].AppendTo(b)
		}
	}
	if r.DeadlineMillis != nil {
		b = appendI64Field(b, 4, *r.DeadlineMillis)
	}
	if r.Cancelled != nil {
		b = binaryProtocol.AppendBool(binaryProtocol.AppendFieldBegin(b, thrift.BOOL, 5), *r.Cancelled)
	}
	return appendStop(b)
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// AppendTo appends the encoded struct.
func (n *Node) AppendTo(b []byte) []byte {
	if n.Next != nil {
		b = n.Next.AppendTo(appendStructField(b, 1))
	}
	if n.Numbers != nil {
		b = appendListField(b, 2, thrift.I64, len(n.Numbers))
		for _, v := range n.Numbers {
			b = binaryProtocol.AppendI64(b, v)
		}
	}
	return appendStop(b)
}

// AppendTo appends the encoded exception.
func (f *Fault) AppendTo(b []byte) []byte {
	return appendStop(appendStringField(appendI32Field(b, 1, f.Code), 2, f.Reason))
}

// AppendArgs appends the argument struct of Echo and Fire.
func AppendArgs(b []byte, req *Msg) []byte {
	return appendStop(req.AppendTo(appendStructField(b, 1)))
}

// AppendSuccess appends the result struct of Echo for a normal return.
func AppendSuccess(b []byte, reply *Msg) []byte {
	return appendStop(reply.AppendTo(appendStructField(b, 0)))
}

// AppendThrown appends the result struct of Echo for the declared exception.
func AppendThrown(b []byte, f *Fault) []byte {
	return appendStop(f.AppendTo(appendStructField(b, 1)))
}

// AppendException appends the body of a message of type exception.
func AppendException(b []byte, id int32, text string) []byte {
	return appendStop(appendI32Field(appendStringField(b, 1, text), 2, id))
}
