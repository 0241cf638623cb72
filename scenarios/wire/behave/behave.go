// Package behave builds and reads the messages of the behave service (fixtures/idl/behave.thrift) with the
// harness's own Thrift codec. The Go types mirror the IDL: an optional field is a pointer, a slice or a map
// that is nil when the field is absent. Fields that the IDL does not declare are skipped on reading.
// It opens no sockets and judges nothing.
package behave

import (
	"fmt"
	"maps"
	"slices"

	"github.com/assay-bench/assay/scenarios/wire/thrift"
)

// The name of the service on the wire, and its methods.
const (
	Service    = "Echo"
	MethodEcho = "Echo"
	MethodFire = "Fire" // oneway
)

// Kind is what an operation makes the server do.
type Kind int32

// The kinds, by the names and numbers of the IDL.
const (
	Echo    Kind = 1
	Delay   Kind = 2
	Throw   Kind = 3
	Error   Kind = 4
	Panic   Kind = 5
	Oneway  Kind = 6
	Stream  Kind = 7
	Forward Kind = 8
	Count   Kind = 9
	Meta    Kind = 10
)

// Op is one operation.
type Op struct {
	Kind      Kind
	Millis    *int64
	Code      *int32
	Text      *string
	Times     *int32
	Addresses []string
	Then      []Op
}

// Report is what the server observed.
type Report struct {
	Count          *int64
	Meta           map[string]string
	Hops           []Report
	DeadlineMillis *int64
	Cancelled      *bool
}

// Node nests.
type Node struct {
	Next    *Node
	Numbers []int64
}

// Msg is both the request and the reply.
type Msg struct {
	Tag    *string // the caller's token
	Body   string
	Ops    []Op
	Report *Report
	Node   *Node
}

// Fault is the declared exception.
type Fault struct {
	Code   int32
	Reason string
}

// Result is the outcome of Echo: exactly one member is set.
type Result struct {
	Success *Msg
	Fault   *Fault
}

// Args returns the encoded argument struct of Echo and Fire, {1: req}.
func Args(req Msg) []byte {
	var w thrift.Writer
	w.Field(thrift.Object, 1)
	writeMsg(&w, req)
	w.Stop()
	return w.Bytes
}

// Encode returns the encoded result struct, for upstreams that the harness plays itself.
func (r Result) Encode() []byte {
	var w thrift.Writer
	if r.Success != nil {
		w.Field(thrift.Object, 0)
		writeMsg(&w, *r.Success)
	}
	if r.Fault != nil {
		w.Field(thrift.Object, 1)
		w.Field(thrift.I32, 1)
		w.I32(r.Fault.Code)
		text(&w, 2, &r.Fault.Reason)
		w.Stop()
	}
	w.Stop()
	return w.Bytes
}

func writeMsg(w *thrift.Writer, m Msg) {
	text(w, 1, m.Tag)
	text(w, 2, &m.Body)
	list(w, 3, m.Ops, thrift.Object, writeOp)
	if m.Report != nil {
		w.Field(thrift.Object, 4)
		writeReport(w, *m.Report)
	}
	if m.Node != nil {
		w.Field(thrift.Object, 5)
		writeNode(w, *m.Node)
	}
	w.Stop()
}

func writeOp(w *thrift.Writer, o Op) {
	w.Field(thrift.I32, 1)
	w.I32(int32(o.Kind))
	optional(w, 2, thrift.I64, o.Millis, w.I64)
	optional(w, 3, thrift.I32, o.Code, w.I32)
	text(w, 4, o.Text)
	optional(w, 5, thrift.I32, o.Times, w.I32)
	list(w, 6, o.Addresses, thrift.String, (*thrift.Writer).String)
	list(w, 7, o.Then, thrift.Object, writeOp)
	w.Stop()
}

func writeReport(w *thrift.Writer, r Report) {
	optional(w, 1, thrift.I64, r.Count, w.I64)
	if r.Meta != nil {
		w.Field(thrift.Map, 2)
		w.Map(thrift.String, thrift.String, int32(len(r.Meta)))
		for _, k := range slices.Sorted(maps.Keys(r.Meta)) { // the same bytes every time
			w.String(k)
			w.String(r.Meta[k])
		}
	}
	list(w, 3, r.Hops, thrift.Object, writeReport)
	optional(w, 4, thrift.I64, r.DeadlineMillis, w.I64)
	optional(w, 5, thrift.Bool, r.Cancelled, w.Bool)
	w.Stop()
}

func writeNode(w *thrift.Writer, n Node) {
	if n.Next != nil {
		w.Field(thrift.Object, 1)
		writeNode(w, *n.Next)
	}
	list(w, 2, n.Numbers, thrift.I64, (*thrift.Writer).I64)
	w.Stop()
}

func text(w *thrift.Writer, id int16, s *string) {
	optional(w, id, thrift.String, s, w.String)
}

// optional writes an optional field that holds one value.
func optional[T any](w *thrift.Writer, id int16, t thrift.Type, v *T, write func(T)) {
	if v != nil {
		w.Field(t, id)
		write(*v)
	}
}

func list[T any](w *thrift.Writer, id int16, items []T, t thrift.Type, write func(*thrift.Writer, T)) {
	if items == nil {
		return
	}
	w.Field(thrift.List, id)
	w.List(t, int32(len(items)))
	for _, v := range items {
		write(w, v)
	}
}

// ReadArgs reads the argument struct {1: req}.
func ReadArgs(s thrift.Struct) (Msg, error) {
	v, ok := s.Get(1)
	if !ok {
		return Msg{}, fmt.Errorf("behave: arguments without field 1 (req)")
	}
	return readMsg(v)
}

// ReadResult reads the result struct. Neither or both of success and fault is an error.
func ReadResult(s thrift.Struct) (Result, error) {
	var r Result
	if v, ok := s.Get(0); ok {
		m, err := readMsg(v)
		if err != nil {
			return Result{}, err
		}
		r.Success = &m
	}
	if v, ok := s.Get(1); ok {
		f, err := readFault(v)
		if err != nil {
			return Result{}, err
		}
		r.Fault = &f
	}
	if (r.Success == nil) == (r.Fault == nil) {
		return Result{}, fmt.Errorf("behave: result needs one of field 0 (success) and 1 (fault): %v", s)
	}
	return r, nil
}
