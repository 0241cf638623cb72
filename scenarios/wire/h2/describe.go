package h2

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/net/http2/hpack"
)

// Bounds of a rendering.
const (
	maxLines = 40
	maxText  = 96
)

// Describe renders traffic of either direction for a person, a line a frame, within a few KiB. Bytes
// from the middle of a connection are fine; header fields that need an earlier dynamic table are
// then told as undecodable.
func Describe(b []byte) string {
	var out []string
	if rest, ok := bytes.CutPrefix(b, []byte(Preface)); ok {
		out, b = append(out, "client preface"), rest
	}
	dec := hpack.NewDecoder(tableSize, nil)
	dec.SetMaxStringLength(maxFieldBytes)
	for len(b) > 0 {
		if len(out) == maxLines {
			out = append(out, fmt.Sprintf("… %d more bytes", len(b)))
			break
		}
		f, rest, err := ReadFrame(b)
		if err != nil {
			out = append(out, fmt.Sprintf("%d bytes that are no whole frame: %v", len(b), err))
			break
		}
		out = append(out, describeFrame(f, dec))
		b = rest
	}
	return strings.Join(out, "\n")
}

func describeFrame(f Frame, dec *hpack.Decoder) string {
	head := fmt.Sprintf("%s stream %d, %d bytes", f.Type, f.Stream, len(f.Payload))
	if marks := flagNames(f); marks != "" {
		head += " [" + marks + "]"
	}
	if detail := frameDetail(f, dec); detail != "" {
		head += ": " + detail
	}
	return head
}

func flagNames(f Frame) string {
	var out []string
	add := func(flag uint8, name string) {
		if f.Has(flag) {
			out = append(out, name)
		}
	}
	switch f.Type {
	case Data:
		add(FlagEndStream, "END_STREAM")
		add(FlagPadded, "PADDED")
	case Headers:
		add(FlagEndStream, "END_STREAM")
		add(FlagEndHeaders, "END_HEADERS")
		add(FlagPadded, "PADDED")
		add(FlagPriority, "PRIORITY")
	case Continuation:
		add(FlagEndHeaders, "END_HEADERS")
	case Settings, Ping:
		add(FlagAck, "ACK")
	}
	return strings.Join(out, " ")
}

func frameDetail(f Frame, dec *hpack.Decoder) string {
	p := f.Payload
	switch f.Type {
	case Headers:
		return describeBlock(f, dec)
	case Data:
		return describeData(f)
	case RSTStream:
		if len(p) == 4 {
			return ErrorName(binary.BigEndian.Uint32(p))
		}
	case GoAway:
		if len(p) >= 8 {
			last := binary.BigEndian.Uint32(p) & 0x7fffffff
			return fmt.Sprintf("last stream %d, %s %s", last, ErrorName(binary.BigEndian.Uint32(p[4:])), quote(string(p[8:])))
		}
	case WindowUpdate:
		if len(p) == 4 {
			return fmt.Sprintf("+%d", binary.BigEndian.Uint32(p)&0x7fffffff)
		}
	case Settings:
		return describeSettings(p)
	case Ping:
		return fmt.Sprintf("%x", p[:min(len(p), 8)])
	}
	return ""
}

func describeBlock(f Frame, dec *hpack.Decoder) string {
	p, err := f.Content()
	if err != nil {
		return err.Error()
	}
	if !f.Has(FlagEndHeaders) {
		return "the block goes on in CONTINUATION"
	}
	fields, err := decodeBlock(dec, p, 32)
	var out []string
	for _, x := range fields {
		out = append(out, clip(x.Name)+"="+quote(x.Value))
	}
	if err != nil {
		out = append(out, "("+err.Error()+")")
	}
	return strings.Join(out, " ")
}

func describeData(f Frame) string {
	p, err := f.Content()
	if err != nil {
		return err.Error()
	}
	if len(p) < 5 || p[0] > 1 {
		return ""
	}
	return fmt.Sprintf("as a gRPC message: prefix says %d bytes, compressed-flag %d", binary.BigEndian.Uint32(p[1:]), p[0])
}

var settingNames = [...]string{
	1: "HEADER_TABLE_SIZE", 2: "ENABLE_PUSH", 3: "MAX_CONCURRENT_STREAMS", 4: "INITIAL_WINDOW_SIZE", 5: "MAX_FRAME_SIZE", 6: "MAX_HEADER_LIST_SIZE",
}

func describeSettings(p []byte) string {
	var out []string
	for ; len(p) >= 6 && len(out) < 16; p = p[6:] {
		id := binary.BigEndian.Uint16(p)
		name := fmt.Sprintf("0x%x", id)
		if id > 0 && int(id) < len(settingNames) {
			name = settingNames[id]
		}
		out = append(out, fmt.Sprintf("%s=%d", name, binary.BigEndian.Uint32(p[2:])))
	}
	return strings.Join(out, " ")
}

var errorNames = [...]string{
	"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED", "FRAME_SIZE_ERROR",
	"REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
}

// ErrorName names an error code of RFC 9113 section 7.
func ErrorName(code uint32) string {
	if int64(code) < int64(len(errorNames)) {
		return errorNames[code]
	}
	return fmt.Sprintf("error 0x%x", code)
}

func clip(s string) string {
	if len(s) <= maxText {
		return s
	}
	return s[:maxText] + "…"
}

func quote(s string) string { return fmt.Sprintf("%q", clip(s)) }
