package rpcframe

import (
	"encoding/binary"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/assay-bench/assay/scenarios/wire/thrift"
	"github.com/assay-bench/assay/scenarios/wire/ttheader"
)

// Max is the largest frame that Split waits for, all headers included: 16 MiB.
const Max = ttheader.DefaultMax

// minMessage is the size of the smallest Thrift message: header, empty name, sequence id, stop.
const minMessage = 4 + 4 + 4 + 1

// Call is one Thrift call to be sent.
type Call struct {
	Form   Form
	Method string
	Type   thrift.MessageType // zero stands for thrift.Call
	Seq    int32
	Args   []byte // encoded argument struct

	// With TTHeader only. Seq and, unless present, int key 9 (to method) are filled in.
	Header    ttheader.Header
	HeaderSeq *int32 // when the header is to differ from the message
	Layout    ttheader.Options
}

// Message returns the Thrift message without a transport.
func (c Call) Message() []byte {
	t := c.Type
	if t == 0 {
		t = thrift.Call
	}
	var w thrift.Writer
	w.Message(c.Method, t, c.Seq)
	return append(w.Bytes, c.Args...)
}

// Encode returns the bytes of the call.
func (c Call) Encode() ([]byte, error) {
	h := c.Header
	h.Seq = c.Seq
	if c.HeaderSeq != nil {
		h.Seq = *c.HeaderSeq
	}
	h.IntKeys = map[uint16]string{ttheader.KeyToMethod: c.Method}
	for k, v := range c.Header.IntKeys { // a copy: the caller may share the map between calls
		h.IntKeys[k] = v
	}
	return wrap(c.Form, c.Message(), h, c.Layout)
}

// Wrap puts a message into a form; h is used with TTHeader only. A message of Kitex protobuf may be wrapped
// as KitexFramed and TTHeaderKitex, a bare struct as Streaming.
func Wrap(form Form, message []byte, h ttheader.Header) ([]byte, error) {
	return wrap(form, message, h, ttheader.Options{})
}

func wrap(form Form, message []byte, h ttheader.Header, o ttheader.Options) ([]byte, error) {
	switch form {
	case Buffered:
		return message, nil
	case Framed, KitexFramed:
		return prefixed(message), nil
	case TTHeader, Streaming, Control:
		return ttheader.Encode(h, message, o)
	case TTHeaderFramed, TTHeaderKitex:
		return ttheader.Encode(h, prefixed(message), o)
	}
	return nil, fmt.Errorf("rpcframe: no frame of form %q", form)
}

func prefixed(message []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(message))), message...)
}

// KitexMessage returns a Kitex protobuf message: Thrift's header with another magic, then protobuf bytes.
func KitexMessage(name string, t thrift.MessageType, seq int32, body []byte) []byte {
	var w thrift.Writer
	w.Message(name, t, seq)
	binary.BigEndian.PutUint16(w.Bytes, kitexMagic)
	return append(w.Bytes, body...)
}

// Reply is one decoded frame, of either direction.
type Reply struct {
	Form      Form
	HeaderSeq int32            // of the TTHeader, else 0
	Header    *ttheader.Header // nil without TTHeader
	Layout    ttheader.Layout  // of the TTHeader
	Message   thrift.Message   // zero with Streaming and Control; without a body with Kitex protobuf
	Payload   []byte           // what follows every transport header: the message, a bare struct, or protobuf bytes
}

// Fault returns the exception that the reply carries, of Thrift or of Kitex protobuf.
func (r Reply) Fault() (thrift.Fault, error) {
	if r.Form != KitexFramed && r.Form != TTHeaderKitex {
		return r.Message.Fault()
	}
	if r.Message.Type != thrift.Exception {
		return thrift.Fault{}, fmt.Errorf("rpcframe: %s %q is not an exception", r.Message.Type, r.Message.Name)
	}
	return kitexFault(r.Payload)
}

// kitexFault reads protobuf {1: int32 code, 2: string text}.
func kitexFault(b []byte) (thrift.Fault, error) {
	var f thrift.Fault
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return f, fmt.Errorf("rpcframe: protobuf exception: %w", protowire.ParseError(n))
		}
		b = b[n:]
		switch {
		case num == 1 && typ == protowire.VarintType:
			var code uint64
			code, n = protowire.ConsumeVarint(b)
			f.Code = int32(code)
		case num == 2 && typ == protowire.BytesType:
			var text []byte
			text, n = protowire.ConsumeBytes(b)
			f.Text = string(text)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return f, fmt.Errorf("rpcframe: protobuf exception field %d: %w", num, protowire.ParseError(n))
		}
		b = b[n:]
	}
	return f, nil
}

// Unwrap decodes exactly one frame of the form. Every length must agree with the bytes, and no byte may be
// left over. Beside an error the reply holds what was read before it.
func Unwrap(form Form, b []byte) (Reply, error) {
	r := Reply{Form: form}
	payload := b
	switch form {
	case Buffered, Framed, KitexFramed:
	case TTHeader, TTHeaderFramed, TTHeaderKitex, Streaming, Control:
		f, err := ttheader.Decode(b)
		r.Header, r.HeaderSeq, r.Layout = &f.Header, f.Header.Seq, f.Layout
		if err != nil {
			return r, err
		}
		payload = f.Payload
	default:
		return r, fmt.Errorf("rpcframe: no frame of form %q", form)
	}
	if err := r.read(payload); err != nil {
		return r, fmt.Errorf("rpcframe: %s: %w", form, err)
	}
	return r, nil
}

// read decodes what follows the TTHeader.
func (r *Reply) read(payload []byte) error {
	r.Payload = payload
	switch r.Form {
	case Streaming:
		if r.Header.Flags&ttheader.FlagStreaming == 0 {
			return errors.New("no streaming flag")
		}
		return nil
	case Control:
		if r.Header.Seq != 0 || len(payload) != 1 || payload[0] != 0 {
			return fmt.Errorf("seq %d and %d bytes of payload are no control frame", r.Header.Seq, len(payload))
		}
		return nil
	case Buffered, TTHeader:
		return r.message(payload)
	}
	if len(payload) < 4 {
		return fmt.Errorf("%d bytes where a frame length belongs", len(payload))
	}
	if n := binary.BigEndian.Uint32(payload); n != uint32(len(payload)-4) {
		return fmt.Errorf("frame length %d, but %d bytes follow", n, len(payload)-4)
	}
	r.Payload = payload[4:]
	if r.Form == KitexFramed || r.Form == TTHeaderKitex {
		return r.kitex(payload[4:])
	}
	return r.message(payload[4:])
}

func (r *Reply) message(b []byte) error {
	m, n, err := thrift.ReadMessage(b)
	r.Message = m
	if err != nil {
		return err
	}
	if n != len(b) {
		return fmt.Errorf("%d bytes left over after a message of %d", len(b)-n, n)
	}
	return nil
}

// kitex reads the header of a Kitex protobuf message, which differs from Thrift's in the magic only.
func (r *Reply) kitex(b []byte) error {
	if len(b) < 2 || binary.BigEndian.Uint16(b) != kitexMagic {
		return errors.New("no Kitex protobuf message")
	}
	const fixed = 4 + 4 + 4 // magic and type, name length, sequence id
	if len(b) < fixed {
		return fmt.Errorf("message of Kitex protobuf of %d bytes, want at least %d", len(b), fixed)
	}
	length := binary.BigEndian.Uint32(b[4:])
	if int64(length) > int64(len(b)-fixed) {
		return fmt.Errorf("name of %d bytes in a message of %d", length, len(b))
	}
	name := int(length)
	end := fixed + name
	r.Message = thrift.Message{
		Name: string(b[8 : 8+name]), Type: thrift.MessageType(b[3]),
		Seq: int32(binary.BigEndian.Uint32(b[end-4:])),
	}
	r.Payload = b[end:]
	return nil
}

// Split tells whether b begins with a whole frame of the form: n is its size, or 0 if more bytes are needed.
// What cannot become a frame of at most Max bytes is an error as soon as its bytes are there; an error or a
// size, once given, does not change when more bytes arrive.
func Split(form Form, b []byte) (n int, err error) {
	switch form {
	case Buffered:
		return splitBuffered(b)
	case Framed:
		return splitFramed(b, thriftMagic)
	case KitexFramed:
		return splitFramed(b, kitexMagic)
	case TTHeader, TTHeaderFramed, TTHeaderKitex, Streaming, Control:
		return ttheader.Split(b, Max)
	}
	return 0, fmt.Errorf("rpcframe: no frame of form %q", form)
}

func splitBuffered(b []byte) (int, error) {
	n, err := thrift.MessageLen(b)
	var short *thrift.ShortError
	switch {
	case errors.As(err, &short) && short.Need <= Max:
		return 0, nil
	case err == nil && n > Max:
		return 0, fmt.Errorf("rpcframe: message of %d bytes, limit %d", n, Max)
	}
	return n, err
}

func splitFramed(b []byte, magic uint16) (int, error) {
	if len(b) < 4 {
		return 0, nil
	}
	length := int64(binary.BigEndian.Uint32(b))
	if length < minMessage-1 || length+4 > Max { // -1: a Kitex message may have an empty body
		return 0, fmt.Errorf("rpcframe: frame length %d, want %d to %d", length, minMessage-1, Max-4)
	}
	if len(b) < 6 {
		return 0, nil
	}
	if got := binary.BigEndian.Uint16(b[4:]); got != magic {
		return 0, fmt.Errorf("rpcframe: message begins with %#04x, want %#04x", got, magic)
	}
	if int64(len(b)) < length+4 {
		return 0, nil
	}
	return int(length) + 4, nil
}
