// Package rpcframe puts Thrift calls into the transport forms of the RPC suite, takes replies out of them,
// finds where a frame ends in what has arrived so far, and describes any bytes for a report. It judges
// nothing and opens no sockets; it stands on the harness's own codecs alone.
package rpcframe

import (
	"bytes"
	"encoding/binary"

	"github.com/assay-bench/assay/scenarios/wire/ttheader"
)

// Form is how a message travels.
type Form string

// The forms of a Thrift call.
const (
	Buffered       Form = "buffered"        // the bare message: only decoding finds its end
	Framed         Form = "framed"          // i32 length before the message
	TTHeader       Form = "ttheader"        // TTHeader before the bare message
	TTHeaderFramed Form = "ttheader-framed" // TTHeader, then i32 length, then the message
)

// Other forms that bytes may have.
const (
	Unknown       Form = ""
	KitexFramed   Form = "kitex-protobuf"          // i32 length, then a Kitex protobuf message
	TTHeaderKitex Form = "ttheader-kitex-protobuf" // the same after a TTHeader
	Streaming     Form = "ttheader-streaming"      // flag 0x0002
	Control       Form = "ttheader-control"        // seq 0 and one zero byte: ping or go-away
	MeshHeader    Form = "mesh-header"
	HTTP1         Form = "http/1"
	HTTP2         Form = "http/2"
)

// Forms returns the four forms of a Thrift call.
func Forms() []Form { return []Form{Buffered, Framed, TTHeader, TTHeaderFramed} }

// First two bytes of a message, and other magic numbers.
const (
	thriftMagic = 0x8001
	kitexMagic  = 0x9001
	ttMagic     = 0x1000
	meshMagic   = 0xffaf
)

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" // RFC 9113 section 3.4

// Detect tells the form of what b begins with, from as few bytes as decide it: 8, and for TTHeader the whole
// header and up to 8 bytes of payload. It returns Unknown when fewer were given and when nothing fits.
func Detect(b []byte) Form {
	switch {
	case isHTTP2(b):
		return HTTP2
	case hasTTHeader(b):
		return detectTTHeader(b)
	case len(b) >= 2 && binary.BigEndian.Uint16(b) == meshMagic:
		return MeshHeader
	}
	switch magicAt(b) {
	case bareThrift:
		return Buffered
	case framedThrift:
		return Framed
	case framedKitex:
		return KitexFramed
	}
	if isHTTP1(b) {
		return HTTP1
	}
	return Unknown
}

// content is what a payload, or a connection without TTHeader, begins with.
type content int

const (
	noMagic content = iota
	bareThrift
	framedThrift
	framedKitex
)

func magicAt(b []byte) content {
	if len(b) >= 2 && binary.BigEndian.Uint16(b) == thriftMagic {
		return bareThrift
	}
	if len(b) < 6 {
		return noMagic
	}
	switch binary.BigEndian.Uint16(b[4:]) {
	case thriftMagic:
		return framedThrift
	case kitexMagic:
		return framedKitex
	}
	return noMagic
}

func hasTTHeader(b []byte) bool {
	return len(b) >= 6 && binary.BigEndian.Uint16(b[4:]) == ttMagic
}

// detectTTHeader looks behind the header. A broken header has no form.
func detectTTHeader(b []byte) Form {
	if len(b) >= 8 && binary.BigEndian.Uint16(b[6:])&ttheader.FlagStreaming != 0 {
		return Streaming
	}
	f, err := ttheader.Peek(b)
	if err != nil {
		return Unknown
	}
	switch magicAt(f.Payload) {
	case bareThrift:
		return TTHeader
	case framedThrift:
		return TTHeaderFramed
	case framedKitex:
		return TTHeaderKitex
	}
	if isControl(f) {
		return Control
	}
	return Unknown
}

// isControl judges by LENGTH, since bytes of a next frame may follow.
func isControl(f ttheader.Frame) bool {
	const fixed = 10 // of what LENGTH counts, before the info blocks
	payload := int64(f.Layout.Length) - fixed - 4*int64(f.Layout.Words)
	return f.Header.Seq == 0 && payload == 1 && len(f.Payload) > 0 && f.Payload[0] == 0
}

// isHTTP2 knows the client's preface, or enough of it, and the SETTINGS frame that a server begins with.
func isHTTP2(b []byte) bool {
	if len(b) >= 8 && bytes.HasPrefix([]byte(preface), b[:min(len(b), len(preface))]) {
		return true
	}
	if len(b) < h2Head || b[3] != 4 || b[4]&^1 != 0 {
		return false
	}
	h := parseH2(b)
	return h.stream == 0 && h.length%6 == 0 && h.length <= 6*64
}

// isHTTP1 knows a status line and the start of a request line.
func isHTTP1(b []byte) bool {
	for _, start := range []string{
		"HTTP/1.", "GET /", "POST /", "PUT /", "HEAD /", "DELETE /", "PATCH /", "OPTIONS ", "CONNECT ", "TRACE /",
	} {
		if bytes.HasPrefix(b, []byte(start)) {
			return true
		}
	}
	return false
}
