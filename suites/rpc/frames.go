package rpc

import (
	"encoding/binary"
	"strings"

	"github.com/assay-bench/assay/scenarios/wire/behave"
	"github.com/assay-bench/assay/scenarios/wire/rpcframe"
	"github.com/assay-bench/assay/scenarios/wire/thrift"
	"github.com/assay-bench/assay/scenarios/wire/ttheader"
)

// edited is a variant that changes bytes of an ordinary call.
func edited(id, title string, form rpcframe.Form, edit func([]byte) []byte) variant {
	return variant{id, title, form, func(token string) ([]byte, error) {
		b, err := echo(form, 7, tagged(token)).Encode()
		if err != nil {
			return nil, err
		}
		return edit(b), nil
	}}
}

// called is a variant that changes the call before it is encoded.
func called(id, title string, form rpcframe.Form, change func(*rpcframe.Call)) variant {
	return variant{id, title, form, func(token string) ([]byte, error) {
		c := echo(form, 7, tagged(token))
		change(&c)
		return c.Encode()
	}}
}

// withArgs is a variant with its own argument struct in place of an encoded behave.Msg.
func withArgs(id, title string, form rpcframe.Form, args func(token string) []byte) variant {
	return variant{id, title, form, func(token string) ([]byte, error) {
		return rpcframe.Call{Form: form, Method: behave.MethodEcho, Seq: 7, Args: args(token)}.Encode()
	}}
}

// add32 adds to the big-endian number at an offset.
func add32(offset int, delta int32) func([]byte) []byte {
	return func(b []byte) []byte {
		at := b[offset:]
		binary.BigEndian.PutUint32(at, binary.BigEndian.Uint32(at)+uint32(delta))
		return b
	}
}

// set32 replaces the big-endian number at an offset.
func set32(offset int, v uint32) func([]byte) []byte {
	return func(b []byte) []byte {
		binary.BigEndian.PutUint32(b[offset:], v)
		return b
	}
}

// payloadAt is the offset of a TTHeader frame's payload.
func payloadAt(b []byte) int { return 14 + 4*int(binary.BigEndian.Uint16(b[12:])) }

// inner applies an edit to the payload of a TTHeader frame.
func inner(edit func([]byte) []byte) func([]byte) []byte {
	return func(b []byte) []byte {
		at := payloadAt(b)
		return append(b[:at:at], edit(b[at:])...)
	}
}

// behind appends bytes to a frame and lets every length around them include them.
func behind(extra string, lengths ...func([]byte) int) func([]byte) []byte {
	return func(b []byte) []byte {
		for _, at := range lengths {
			b = add32(at(b), int32(len(extra)))(b)
		}
		return append(b, extra...)
	}
}

func atStart([]byte) int     { return 0 }
func atPayload(b []byte) int { return payloadAt(b) }

// ptr returns a pointer to a value.
func ptr[T any](v T) *T { return &v }

// msgArgs writes {1: Msg{1: tag, 2: body, more}} with further fields of Msg.
func msgArgs(token string, more func(*thrift.Writer)) []byte {
	var w thrift.Writer
	w.Field(thrift.Object, 1)
	w.Field(thrift.String, 1)
	w.String(token)
	w.Field(thrift.String, 2)
	w.String("hi")
	more(&w)
	w.Stop()
	w.Stop()
	return w.Bytes
}

// nested writes n structs inside one another as field 99, which the IDL does not declare.
func nested(n int) func(*thrift.Writer) {
	return func(w *thrift.Writer) {
		for range n {
			w.Field(thrift.Object, 99)
		}
		for range n {
			w.Stop()
		}
	}
}

// nodes builds a chain of n nodes, which the IDL declares.
func nodes(n int) *behave.Node {
	var out *behave.Node
	for range n {
		out = &behave.Node{Next: out}
	}
	return out
}

// persist is metadata for header checks.
func persist() ttheader.Header {
	return ttheader.Header{
		ACLToken: "tok",
		StrKeys:  map[string]string{"isn": behave.Service, "RPC_PERSIST_k": "v"},
		IntKeys:  map[uint16]string{ttheader.KeyToMethod: behave.MethodEcho, ttheader.KeyMessageType: "1"},
	}
}

// marker is text that must never come back to a peer.
func marker(token string) string { return "assay-marker-" + strings.ToUpper(token) }
