package wire

import "encoding/binary"

// Form is how a Thrift message travels: in a TTHeader frame or not, behind a frame length or not.
type Form uint8

// The forms.
const (
	FormBuffered Form = iota
	FormFramed
	FormTTHeader
	FormTTHeaderFramed
)

// String returns the form's name as used in metrics.
func (f Form) String() string {
	return [...]string{"buffered", "framed", "ttheader", "ttheader-framed"}[f&3]
}

// HasHeader reports whether the message is inside a TTHeader frame.
func (f Form) HasHeader() bool { return f&2 != 0 }

// HasFrame reports whether a frame length comes before the message.
func (f Form) HasFrame() bool { return f&1 != 0 }

// WithFrame returns the form with a frame length.
func (f Form) WithFrame() Form { return f | 1 }

// Reply is the envelope of an answer.
type Reply struct {
	Form Form
	Type int32 // TypeReply or TypeException
	Name []byte
	Seq  int32 // in the message and, where there is one, in the header
}

// Append appends the reply to dst in its form; body appends the struct.
func (r *Reply) Append(dst []byte, body func([]byte) []byte) []byte {
	start := len(dst)
	if r.Form.HasHeader() {
		dst = AppendReplyHeader(dst, r.Seq, r.Type)
	}
	frame := len(dst)
	if r.Form.HasFrame() {
		dst = append(dst, 0, 0, 0, 0)
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(magicThrift)<<16|uint32(r.Type))
	dst = binaryProtocol.AppendBinary(dst, r.Name)
	dst = binaryProtocol.AppendI32(dst, r.Seq)
	dst = body(dst)
	if r.Form.HasFrame() {
		PutLength(dst[frame:])
	}
	if r.Form.HasHeader() {
		PutLength(dst[start:])
	}
	return dst
}
