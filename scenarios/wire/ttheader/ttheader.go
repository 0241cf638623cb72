// Package ttheader is the harness's own codec for TTHeader frames. The encoder can malform every part of a
// frame on request; the decoder is strict and names the reason of a refusal. It judges nothing, opens no
// sockets, and shares no code with a target: a bug common to both would be invisible.
//
// A frame, all integers big-endian: u32 LENGTH of what follows it; u16 magic 0x1000; u16 flags; i32 sequence
// id; u16 header size in words, counted from offset 14; u8 protocol id; u8 number of transforms, one byte
// each; info blocks; zero bytes up to a word; payload.
package ttheader

import "fmt"

// Sizes in bytes.
const (
	fixedSize = 14    // up to and including the header size
	wordSize  = 4     // unit of the header size
	maxWords  = 65535 // a u16
	maxString = 65535 // a u16
)

// DefaultMax is the largest frame, LENGTH included, that assay's own default limit lets through: 16 MiB.
const DefaultMax = 16 << 20

const magic = 0x1000

// Flags of a frame. A unary frame has none.
const (
	FlagOutOfOrder uint16 = 0x0001 // replies may come in any order
	FlagStreaming  uint16 = 0x0002
)

// Protocol ids. Peers write ThriftBinary for Kitex protobuf too: the payload decides.
const (
	ThriftBinary   byte = 0x00
	KitexProtobuf  byte = 0x04
	ThriftStruct   byte = 0x10 // streaming: one bare Thrift struct
	ProtobufStruct byte = 0x11 // streaming: one bare protobuf message
)

// First bytes of the info blocks.
const (
	InfoPadding byte = 0x00
	InfoStrings byte = 0x01
	InfoInts    byte = 0x10
	InfoACL     byte = 0x11
)

// Int keys that the harness writes or judges.
const (
	KeyFromService uint16 = 3
	KeyToService   uint16 = 6
	KeyToMethod    uint16 = 9
	KeyRPCTimeout  uint16 = 12 // decimal milliseconds
	KeyFromMethod  uint16 = 20
	KeyMessageType uint16 = 22 // decimal Thrift message type
	KeyFrameType   uint16 = 27 // streaming
)

// Header is what a header says, apart from how it is laid out.
type Header struct {
	Flags      uint16
	Seq        int32
	ProtocolID byte
	Transforms []byte // the decoder refuses any
	IntKeys    map[uint16]string
	StrKeys    map[string]string // block 0x01 only: the ACL token never appears here unless the peer put it there
	ACLToken   string            // block 0x11
}

// Layout is how a decoded frame was laid out, for checks that judge the layout and for writing the frame
// back byte for byte.
type Layout struct {
	Length   uint32   // as written
	Words    uint16   // header size as written
	Blocks   []byte   // info block ids in the order seen, padding left out
	IntOrder []uint16 // int keys in the order seen, repeated ones included
	StrOrder []string // string keys in the order seen, repeated ones included
	Padding  int      // zero bytes met where a block could begin
}

// Frame is one decoded frame. Payload aliases the input.
type Frame struct {
	Header  Header
	Layout  Layout
	Payload []byte
}

// Reason is why a frame was refused. The set is closed.
type Reason string

// The reasons.
const (
	Short        Reason = "short"       // more bytes are needed; for a whole frame: it ends early
	BadMagic     Reason = "magic"       // bytes 4 and 5 are not 0x1000
	BadLength    Reason = "length"      // LENGTH disagrees with the bytes, or exceeds the limit
	BadSize      Reason = "header-size" // header size 0, or larger than the frame
	BadProtocol  Reason = "protocol-id" // unknown, or without a codec
	BadTransform Reason = "transform"   // a transform is claimed
	BadInfo      Reason = "info"        // a count or a string passes the end of the header
	UnknownInfo  Reason = "info-id"     // a block id without a meaning
)

// Error is a refusal by the decoder or the splitter.
type Error struct {
	Reason Reason
	Offset int // into the frame
	Detail string
}

func (e *Error) Error() string {
	return fmt.Sprintf("ttheader: offset %d: %s: %s", e.Offset, e.Reason, e.Detail)
}

func refuse(r Reason, offset int, format string, args ...any) *Error {
	return &Error{Reason: r, Offset: offset, Detail: fmt.Sprintf(format, args...)}
}
