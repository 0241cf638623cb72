// Package wire reads and writes the byte formats of the Thrift faces: TTHeader frames, framed and
// buffered Thrift binary messages, and the structs of behave.thrift. Its functions are pure over
// bytes: no sockets, no clocks, no goroutines. It is stricter than the libraries it builds on: every
// length is compared with the bytes that exist before anything is allocated or read.
package wire

import (
	"bytes"
	"encoding/binary"

	"github.com/cloudwego/gopkg/protocol/ttheader"
)

// SniffLen is how many bytes of a connection or payload decide its protocol.
const SniffLen = 8

// Protocol is what the first bytes of a connection, call or payload announce.
type Protocol uint8

// The protocols that Sniff tells apart, in the order of its tests.
const (
	Unknown           Protocol = iota // nothing this package knows
	HTTP2                             // the client preface of RFC 9113 section 3.4
	TTHeaderStreaming                 // TTHeader with flag 0x0002
	TTHeader                          // TTHeader, one call a frame
	Mesh                              // the service mesh header 0xffaf
	Buffered                          // a bare strict Thrift binary message
	Framed                            // a strict Thrift binary message behind a 4-byte length
	KitexProtobuf                     // a Kitex protobuf message behind a 4-byte length
	HTTP1                             // an HTTP/1.x request line
	OldStyle                          // a Thrift binary message without a version: buffered or framed
)

// String returns the protocol's name as used in metrics.
func (p Protocol) String() string {
	names := [...]string{"unknown", "http2", "ttheader-streaming", "ttheader", "mesh", "buffered", "framed",
		"kitex-protobuf", "http1", "old-style"}
	if int(p) < len(names) {
		return names[p]
	}
	return "unknown"
}

const (
	magicThrift        = 0x8001
	magicKitexProtobuf = 0x9001
	magicMesh          = 0xffaf
	magicTTHeader      = uint16(ttheader.TTHeaderMagic >> 16)
)

// Sniff decides the protocol of a connection or call from its first SniffLen bytes. Fewer bytes are
// Unknown.
func Sniff(b []byte) Protocol {
	if len(b) < SniffLen {
		return Unknown
	}
	first, third := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[4:])
	switch {
	case bytes.HasPrefix(b, []byte("PRI * HT")):
		return HTTP2
	case third == magicTTHeader && b[7]&byte(ttheader.HeaderFlagsStreaming) != 0:
		return TTHeaderStreaming
	case third == magicTTHeader:
		return TTHeader
	case first == magicMesh:
		return Mesh
	}
	if p := SniffPayload(b); p != Unknown {
		return p
	}
	switch {
	case isHTTP1(b):
		return HTTP1
	case isOldStyle(b):
		return OldStyle
	}
	return Unknown
}

// SniffPayload decides what a TTHeader payload holds, from its first SniffLen bytes.
func SniffPayload(b []byte) Protocol {
	if len(b) < SniffLen {
		return Unknown
	}
	first, third := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[4:])
	switch {
	case first == magicThrift:
		return Buffered
	case third == magicThrift:
		return Framed
	case third == magicKitexProtobuf:
		return KitexProtobuf
	}
	return Unknown
}

// isHTTP1 looks for a method token of RFC 9110 section 9 and the space after it.
func isHTTP1(b []byte) bool {
	for _, method := range [...]string{"GET ", "HEAD ", "POST ", "PUT ", "DELETE ", "CONNECT ", "OPTIONS ", "TRACE ", "PATCH "} {
		if bytes.HasPrefix(b, []byte(method[:min(len(method), SniffLen)])) {
			return true
		}
	}
	return false
}

// isOldStyle recognises a message that begins with a small name length in place of a version, with
// or without a frame length before it.
func isOldStyle(b []byte) bool {
	return startsWithName(b) || (len(b) >= SniffLen && startsWithFramedName(b))
}

func startsWithName(b []byte) bool {
	n := binary.BigEndian.Uint32(b)
	return n > 0 && n < 256 && isNameByte(b[4])
}

func startsWithFramedName(b []byte) bool {
	frame, name := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
	return name > 0 && name < 256 && frame > name && frame>>24 == 0
}

func isNameByte(c byte) bool {
	return c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}
