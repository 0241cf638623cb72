// Package h2 writes and reads the part of HTTP/2 (RFC 9113) that gRPC framing checks need: frames,
// header blocks and length-prefixed messages. It is independent of the HTTP/2 of grpc-go and net/http,
// opens no socket, and may not judge: what a peer sends is either decoded or reported as undecodable.
package h2

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Preface is the client connection preface of RFC 9113 section 3.4; a SETTINGS frame must follow it.
const Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// MaxPayload is the largest frame payload in bytes that a peer may send before it is told otherwise:
// the initial SETTINGS_MAX_FRAME_SIZE of RFC 9113 section 6.5.2. This package never raises it.
const MaxPayload = 16384

const frameHeaderLen = 9

// Type is a frame type of RFC 9113 section 6.
type Type uint8

// The frame types.
const (
	Data         Type = 0x0
	Headers      Type = 0x1
	Priority     Type = 0x2
	RSTStream    Type = 0x3
	Settings     Type = 0x4
	PushPromise  Type = 0x5
	Ping         Type = 0x6
	GoAway       Type = 0x7
	WindowUpdate Type = 0x8
	Continuation Type = 0x9
)

var typeNames = [...]string{
	"DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE", "CONTINUATION",
}

func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return fmt.Sprintf("type 0x%02x", uint8(t))
}

// Flags of RFC 9113 section 6. Ack shares its bit with EndStream.
const (
	FlagEndStream  = 0x1
	FlagAck        = 0x1
	FlagEndHeaders = 0x4
	FlagPadded     = 0x8
	FlagPriority   = 0x20
)

// Frame is one frame as it is on the wire; padding and priority fields are still in Payload.
type Frame struct {
	Type    Type
	Flags   uint8
	Stream  uint32 // 31 bits; the reserved bit is dropped on both ways
	Payload []byte
}

// Has tells whether all bits of flag are set.
func (f Frame) Has(flag uint8) bool { return f.Flags&flag == flag }

// AppendTo writes the frame. A payload above 2^24-1 bytes can not be told on the wire and is cut.
func (f Frame) AppendTo(b []byte) []byte {
	payload := f.Payload[:min(len(f.Payload), 1<<24-1)]
	n := len(payload)
	b = append(b, byte(n>>16), byte(n>>8), byte(n), byte(f.Type), f.Flags)
	b = binary.BigEndian.AppendUint32(b, f.Stream&0x7fffffff)
	return append(b, payload...)
}

// ErrIncomplete is wrapped when the bytes end inside a frame, a header block or a message: more of
// them could make it whole.
var ErrIncomplete = errors.New("more bytes are needed")

// ReadFrame splits the first frame off b. Its payload shares b's memory. A frame above MaxPayload is
// refused before its bytes are waited for (FRAME_SIZE_ERROR, RFC 9113 section 4.2).
func ReadFrame(b []byte) (Frame, []byte, error) {
	if len(b) < 3 {
		return Frame{}, b, fmt.Errorf("frame header: %w", ErrIncomplete)
	}
	n := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
	if n > MaxPayload {
		return Frame{}, b, fmt.Errorf("frame of %d bytes: the limit is %d", n, MaxPayload)
	}
	if len(b) < frameHeaderLen {
		return Frame{}, b, fmt.Errorf("frame header: %w", ErrIncomplete)
	}
	f := Frame{Type: Type(b[3]), Flags: b[4], Stream: binary.BigEndian.Uint32(b[5:]) & 0x7fffffff}
	if len(b) < frameHeaderLen+n {
		return f, b, fmt.Errorf("%s frame of %d bytes: %w", f.Type, n, ErrIncomplete)
	}
	f.Payload = b[frameHeaderLen : frameHeaderLen+n : frameHeaderLen+n]
	return f, b[frameHeaderLen+n:], nil
}

// AppendSettings writes a SETTINGS frame (RFC 9113 section 6.5) of identifier and value pairs.
func AppendSettings(b []byte, pairs ...[2]uint32) []byte {
	var p []byte
	for _, s := range pairs {
		p = binary.BigEndian.AppendUint16(p, uint16(s[0]))
		p = binary.BigEndian.AppendUint32(p, s[1])
	}
	return Frame{Type: Settings, Payload: p}.AppendTo(b)
}

// AppendRSTStream writes a RST_STREAM frame (RFC 9113 section 6.4) with an error code of section 7.
func AppendRSTStream(b []byte, stream, code uint32) []byte {
	return Frame{Type: RSTStream, Stream: stream, Payload: binary.BigEndian.AppendUint32(nil, code)}.AppendTo(b)
}

// AppendGoAway writes a GOAWAY frame (RFC 9113 section 6.8).
func AppendGoAway(b []byte, last, code uint32) []byte {
	p := binary.BigEndian.AppendUint32(nil, last&0x7fffffff)
	return Frame{Type: GoAway, Payload: binary.BigEndian.AppendUint32(p, code)}.AppendTo(b)
}

// AppendWindowUpdate writes a WINDOW_UPDATE frame (RFC 9113 section 6.9); stream 0 is the connection.
func AppendWindowUpdate(b []byte, stream, increment uint32) []byte {
	return Frame{Type: WindowUpdate, Stream: stream, Payload: binary.BigEndian.AppendUint32(nil, increment&0x7fffffff)}.AppendTo(b)
}

// AppendPing writes a PING frame (RFC 9113 section 6.7).
func AppendPing(b []byte, data [8]byte) []byte {
	return Frame{Type: Ping, Payload: data[:]}.AppendTo(b)
}

// Acks writes the acknowledgements that RFC 9113 sections 6.5.3 and 6.7 demand for the frames of a
// peer: one for each SETTINGS and PING that is none itself.
func Acks(b []byte, frames []Frame) []byte {
	for _, f := range frames {
		switch {
		case f.Has(FlagAck):
		case f.Type == Settings:
			b = Frame{Type: Settings, Flags: FlagAck}.AppendTo(b)
		case f.Type == Ping && len(f.Payload) == 8:
			b = Frame{Type: Ping, Flags: FlagAck, Payload: f.Payload}.AppendTo(b)
		}
	}
	return b
}

// Content returns the payload of DATA and HEADERS without padding and priority fields (RFC 9113
// sections 6.1 and 6.2).
func (f Frame) Content() ([]byte, error) {
	p := f.Payload
	pad := 0
	if f.Has(FlagPadded) {
		if len(p) == 0 {
			return nil, fmt.Errorf("%s frame: no room for the pad length", f.Type)
		}
		pad, p = int(p[0]), p[1:]
	}
	if f.Type == Headers && f.Has(FlagPriority) {
		if len(p) < 5 {
			return nil, fmt.Errorf("%s frame: no room for the priority fields", f.Type)
		}
		p = p[5:]
	}
	if pad > len(p) {
		return nil, fmt.Errorf("%s frame: %d bytes of padding in %d bytes", f.Type, pad, len(p))
	}
	return p[:len(p)-pad], nil
}
