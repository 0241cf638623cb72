package h2

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"golang.org/x/net/http2/hpack"
)

// Field is a header or trailer field.
type Field struct{ Name, Value string }

// Call describes the request half of a unary gRPC call.
type Call struct {
	Stream    uint32 // odd, and above all earlier ones of the connection (RFC 9113 section 5.1.1)
	Authority string
	Path      string  // /package.Service/Method
	Extra     []Field // metadata after the fields that gRPC demands
	Message   []byte  // the encoded request, without its prefix
}

// AppendTo writes HEADERS, CONTINUATION where the block is long, and DATA with END_STREAM, as "gRPC
// over HTTP/2" (Requests) says. Header blocks use no dynamic table, so that frames of several calls
// may be written in any order.
func (c Call) AppendTo(b []byte) []byte {
	fields := append([]Field{
		{":method", "POST"}, {":scheme", "http"}, {":path", c.Path}, {":authority", c.Authority},
		{"content-type", "application/grpc+proto"}, {"te", "trailers"}, {"user-agent", "assay"},
	}, c.Extra...)
	b = appendHeaderBlock(b, c.Stream, headerBlock(fields))
	data := AppendMessage(nil, c.Message)
	for len(data) > MaxPayload {
		b = Frame{Type: Data, Stream: c.Stream, Payload: data[:MaxPayload]}.AppendTo(b)
		data = data[MaxPayload:]
	}
	return Frame{Type: Data, Flags: FlagEndStream, Stream: c.Stream, Payload: data}.AppendTo(b)
}

func headerBlock(fields []Field) []byte {
	var buf bytes.Buffer
	enc := hpack.NewEncoder(&buf)
	for _, f := range fields {
		// A bytes.Buffer never fails; Sensitive keeps the field out of the dynamic table.
		_ = enc.WriteField(hpack.HeaderField{Name: f.Name, Value: f.Value, Sensitive: true})
	}
	return buf.Bytes()
}

func appendHeaderBlock(b []byte, stream uint32, block []byte) []byte {
	typ := Headers
	for len(block) > MaxPayload {
		b = Frame{Type: typ, Stream: stream, Payload: block[:MaxPayload]}.AppendTo(b)
		block, typ = block[MaxPayload:], Continuation
	}
	return Frame{Type: typ, Flags: FlagEndHeaders, Stream: stream, Payload: block}.AppendTo(b)
}

// AppendMessage writes a length-prefixed, uncompressed message ("gRPC over HTTP/2", Length-Prefixed-Message).
func AppendMessage(b, message []byte) []byte {
	b = append(b, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(message)))
	return append(b, message...)
}

// Message is one length-prefixed message.
type Message struct {
	Compressed bool
	Body       []byte
}

// Messages splits the DATA of a stream into its messages. The bodies share data's memory.
func Messages(data []byte) ([]Message, error) {
	var out []Message
	for len(data) > 0 {
		if len(data) < 5 {
			return out, fmt.Errorf("message prefix: %w", ErrIncomplete)
		}
		n := int64(binary.BigEndian.Uint32(data[1:]))
		if data[0] > 1 {
			return out, fmt.Errorf("message %d: compressed-flag is %d, want 0 or 1", len(out)+1, data[0])
		}
		if int64(len(data)-5) < n {
			return out, fmt.Errorf("message %d of %d bytes: %w", len(out)+1, n, ErrIncomplete)
		}
		out = append(out, Message{Compressed: data[0] == 1, Body: data[5 : 5+n]})
		data = data[5+n:]
	}
	return out, nil
}
