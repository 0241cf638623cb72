package rpcframe

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/assay-bench/assay/scenarios/wire/thrift"
	"github.com/assay-bench/assay/scenarios/wire/ttheader"
)

// Bounds of a description.
const (
	describeBytes  = 4096
	describeFrames = 64 // of one connection
	describeRaw    = 96 // bytes shown in hex
	describeText   = 96 // bytes of one string
	describeLines  = 12 // of HTTP/1 text
	cut            = "\n… (cut)"
)

// Describe renders bytes of either direction for a person: one or more frames in any form, a frame that is
// not whole or not sound, HTTP, or anything else. It never fails, and returns at most 4 KiB of valid UTF-8.
func Describe(b []byte) string {
	d := describer{}
	d.all(b)
	text := strings.ToValidUTF8(strings.TrimRight(d.String(), "\n"), "\uFFFD")
	if len(text) <= describeBytes {
		return text
	}
	return strings.ToValidUTF8(text[:describeBytes-len(cut)], "") + cut
}

// describer collects lines, and stops collecting once there are more than enough.
type describer struct {
	strings.Builder
}

func (d *describer) full() bool { return d.Len() > describeBytes }

func (d *describer) line(format string, args ...any) {
	if !d.full() {
		fmt.Fprintf(&d.Builder, format+"\n", args...)
	}
}

// block adds a text of several lines, set in.
func (d *describer) block(text string) {
	for line := range strings.Lines(text) {
		d.line("  %s", strings.TrimRight(line, "\n"))
	}
}

func (d *describer) all(b []byte) {
	if len(b) == 0 {
		d.line("no bytes")
		return
	}
	for at, frames := 0, 0; at < len(b) && !d.full(); frames++ {
		if frames == describeFrames {
			d.line("%d more bytes", len(b)-at)
			return
		}
		n := d.next(b[at:], at)
		if n == 0 {
			return
		}
		at += n
	}
}

// next describes what b begins with and returns its size, or 0 when that took all that is left.
func (d *describer) next(b []byte, at int) int {
	form := Detect(b)
	switch form {
	case HTTP2:
		d.line("offset %d: HTTP/2", at)
		d.http2(b)
		return 0
	case HTTP1:
		d.line("offset %d: HTTP/1, %d bytes", at, len(b))
		d.http1(b)
		return 0
	case Unknown, MeshHeader:
		if hasTTHeader(b) {
			return d.brokenHeader(b, at)
		}
		d.line("offset %d: %d bytes of %s", at, len(b), unknownName(form))
		d.raw(b)
		return 0
	}
	n, err := Split(form, b)
	switch {
	case err != nil:
		d.line("offset %d: %s, refused: %v", at, form, err)
		d.partial(form, b)
		return 0
	case n == 0:
		d.line("offset %d: %s, incomplete: %d bytes%s", at, form, len(b), announced(form, b))
		d.partial(form, b)
		return 0
	}
	r, err := Unwrap(form, b[:n])
	if err != nil {
		d.line("offset %d: %s, %d bytes, refused: %v", at, form, n, err)
	} else {
		d.line("offset %d: %s, %d bytes", at, form, n)
	}
	d.reply(r)
	return n
}

func unknownName(form Form) string {
	if form == MeshHeader {
		return "mesh header"
	}
	return "no known protocol"
}

// announced says how many bytes a frame is going to have, where a length says so.
func announced(form Form, b []byte) string {
	if form == Buffered || len(b) < 4 {
		return ""
	}
	return fmt.Sprintf(" of %d", int64(binary.BigEndian.Uint32(b))+4)
}

// brokenHeader describes a TTHeader behind which no message was found. If the frame is whole the next may
// still be readable.
func (d *describer) brokenHeader(b []byte, at int) int {
	n, err := ttheader.Split(b, Max)
	frame := b
	if n > 0 {
		frame = b[:n]
	}
	f, peekErr := ttheader.Peek(frame)
	if err == nil {
		err = peekErr
	}
	switch {
	case err != nil:
		d.line("offset %d: ttheader, %d bytes%s, refused: %v", at, len(frame), announced(TTHeader, b), err)
	case n == 0:
		d.line("offset %d: ttheader, incomplete: %d bytes%s", at, len(b), announced(TTHeader, b))
	default:
		d.line("offset %d: ttheader, %d bytes, with a payload of no known protocol", at, n)
	}
	d.header(f.Header, f.Layout)
	d.raw(frame)
	return n
}

// partial describes a frame that is not whole: the header as far as it goes, and the message as far as it goes.
func (d *describer) partial(form Form, b []byte) {
	payload := b
	if hasTTHeader(b) {
		f, _ := ttheader.Peek(b)
		d.header(f.Header, f.Layout)
		payload = f.Payload
	}
	switch form {
	case Framed, TTHeaderFramed:
		payload = payload[min(4, len(payload)):]
	}
	if magicAt(payload) == bareThrift {
		m, _, err := thrift.ReadMessage(payload)
		d.block(m.String())
		if err != nil {
			d.line("  … in the message: %v", err)
		}
	}
	d.raw(b)
}

func (d *describer) reply(r Reply) {
	if r.Header != nil {
		d.header(*r.Header, r.Layout)
	}
	switch {
	case r.Form == Control:
		d.line("  control frame")
	case r.Form == Streaming:
		d.stream(r.Payload)
	case r.Form == KitexFramed || r.Form == TTHeaderKitex:
		d.line("  %s %s seq %d, protobuf of %d bytes", r.Message.Type, quote(r.Message.Name), r.Message.Seq, len(r.Payload))
		d.raw(r.Payload)
	case r.Message.Type != 0 || r.Message.Name != "":
		d.block(r.Message.String())
	default:
		d.raw(r.Payload)
	}
}

// stream shows the payload of a streaming frame: a bare struct, or a message that ends the stream.
func (d *describer) stream(payload []byte) {
	if len(payload) == 0 {
		d.line("  no payload")
		return
	}
	if m, n, err := thrift.ReadMessage(payload); err == nil && n == len(payload) {
		d.block(m.String())
		return
	}
	if s, n, err := thrift.ReadStruct(payload); err == nil && n == len(payload) {
		d.block(s.String())
		return
	}
	d.raw(payload)
}

func (d *describer) header(h ttheader.Header, l ttheader.Layout) {
	d.line("  LENGTH %d, flags %#04x, seq %d, header of %d words, protocol id %#02x", l.Length, h.Flags, h.Seq, l.Words, h.ProtocolID)
	if len(h.Transforms) > 0 {
		d.line("  transforms %x", h.Transforms)
	}
	if h.ACLToken != "" {
		d.line("  acl token %s", quote(h.ACLToken))
	}
	for _, k := range slices.Sorted(maps.Keys(h.StrKeys)) {
		d.line("  %s = %s", quote(k), quote(h.StrKeys[k]))
	}
	for _, k := range slices.Sorted(maps.Keys(h.IntKeys)) {
		d.line("  %d = %s", k, quote(h.IntKeys[k]))
	}
}

// raw shows the first bytes in hex and as text.
func (d *describer) raw(b []byte) {
	d.block(hex.Dump(b[:min(len(b), describeRaw)]))
	if len(b) > describeRaw {
		d.line("  … %d more bytes", len(b)-describeRaw)
	}
}

func (d *describer) http1(b []byte) {
	lines := 0
	for line := range strings.Lines(string(b[:min(len(b), describeBytes)])) {
		line = strings.TrimRight(line, "\r\n")
		if lines++; lines > describeLines || line == "" {
			return
		}
		d.line("  %s", quote(line))
	}
}

func quote(s string) string {
	if len(s) <= describeText {
		return strconv.Quote(s)
	}
	return fmt.Sprintf("%s… (%d bytes)", strconv.Quote(s[:describeText]), len(s))
}

// h2Head is the size of an HTTP/2 frame header, RFC 9113 section 4.1.
const h2Head = 9

type h2Frame struct {
	length int
	kind   byte
	flags  byte
	stream uint32
}

// parseH2 reads a frame header from at least h2Head bytes.
func parseH2(b []byte) h2Frame {
	return h2Frame{
		length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]),
		kind:   b[3], flags: b[4],
		stream: binary.BigEndian.Uint32(b[5:]) &^ (1 << 31),
	}
}

// h2Kinds are the frame types of RFC 9113 section 6, by number.
var h2Kinds = [...]string{
	"DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE", "CONTINUATION",
}

func (d *describer) http2(b []byte) {
	if rest, ok := strings.CutPrefix(string(b[:min(len(b), len(preface))]), preface); ok && rest == "" {
		d.line("  client preface")
		b = b[len(preface):]
	} else if b[0] == 'P' {
		d.line("  client preface, %d of %d bytes", len(b), len(preface))
		return
	}
	for range describeFrames {
		if len(b) < h2Head {
			break
		}
		f := parseH2(b)
		name := fmt.Sprintf("type %#02x", f.kind)
		if int(f.kind) < len(h2Kinds) {
			name = h2Kinds[f.kind]
		}
		b = b[h2Head:]
		have := min(len(b), f.length)
		d.line("  %s stream %d flags %#02x, %d bytes%s", name, f.stream, f.flags, f.length, h2Detail(f, b[:have]))
		if have < f.length {
			d.line("  … %d of them given", have)
			return
		}
		b = b[have:]
	}
	if len(b) > 0 {
		d.line("  … %d more bytes", len(b))
	}
}

// h2Detail shows the error code of RST_STREAM and GOAWAY, which says most about a refusal.
func h2Detail(f h2Frame, payload []byte) string {
	switch {
	case f.kind == 3 && len(payload) >= 4:
		return fmt.Sprintf(", error code %d", binary.BigEndian.Uint32(payload))
	case f.kind == 7 && len(payload) >= 8:
		return fmt.Sprintf(", error code %d, %s", binary.BigEndian.Uint32(payload[4:]), quote(string(payload[8:])))
	}
	return ""
}
