package wire_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/cloudwego/gopkg/protocol/ttheader"
	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/rpc/wire"
)

// golden returns the frames of testdata/golden.txt by name.
func golden(t testing.TB) map[string][]byte {
	t.Helper()
	text, err := os.ReadFile("testdata/golden.txt")
	if err != nil {
		t.Fatal(err)
	}
	frames := make(map[string][]byte)
	for line := range strings.Lines(string(text)) {
		name, digits, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || name == "#" {
			continue
		}
		frame, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		frames[name] = frame
	}
	if len(frames) == 0 {
		t.Fatal("no golden frames")
	}
	return frames
}

func rules(defects ...defect.Name) wire.Rules { return wire.NewRules(0, defect.Of(defects...)) }

func TestSniffGoldenFrames(t *testing.T) {
	frames := golden(t)
	want := map[string]wire.Protocol{
		"buffered-call": wire.Buffered, "framed-call": wire.Framed, "tthf-call": wire.TTHeader,
		"tth-call": wire.TTHeader, "meta-call": wire.TTHeader, "kpb-call": wire.KitexProtobuf,
		"st-open": wire.TTHeaderStreaming,
	}
	for name, protocol := range want {
		if got := wire.Sniff(frames[name]); got != protocol {
			t.Errorf("%s: %s, want %s", name, got, protocol)
		}
	}
	others := map[string]wire.Protocol{
		"PRI * HTTP/2.0\r\n": wire.HTTP2, "GET / HTTP/1.1\r\n": wire.HTTP1, "OPTIONS * HTTP/1.1": wire.HTTP1,
		"\xff\xaf\x00\x08\x00\x00\x00\x00": wire.Mesh, "\x00\x00\x00\x04Echo\x01": wire.OldStyle,
		"\x00\x00\x00\x27\x00\x00\x00\x04Echo": wire.OldStyle, "random text": wire.Unknown, "short": wire.Unknown,
	}
	for text, protocol := range others {
		if got := wire.Sniff([]byte(text)); got != protocol {
			t.Errorf("%q: %s, want %s", text, got, protocol)
		}
	}
}

func TestGoldenCallsDecode(t *testing.T) {
	frames := golden(t)
	seen := 0
	for name, offset := range map[string]int{"buffered-call": 0, "framed-call": 4, "tthf-call": 34, "tth-call": 30, "oneway-call": 0} {
		seen++
		m, err := wire.DecodeMessage(frames[name][offset:], rules())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if m.Seq != 7 || m.Size != len(frames[name])-offset {
			t.Errorf("%s: seq %d, size %d of %d", name, m.Seq, m.Size, len(frames[name])-offset)
		}
		msg, err := wire.DecodeArgs(m.Body)
		if diff := cmp.Diff(wire.Msg{Tag: []byte("ok"), Body: []byte("hi")}, msg); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
		if again := wire.AppendArgs(nil, &msg); !bytes.Equal(again, m.Body) {
			t.Errorf("%s: encodes to %x, want %x", name, again, m.Body)
		}
	}
	if seen == 0 {
		t.Fatal("no cases ran")
	}
}

func TestRepliesEqualTheGoldenOnes(t *testing.T) {
	frames := golden(t)
	msg := wire.Msg{Tag: []byte("ok"), Body: []byte("hi")}
	success := func(b []byte) []byte { return wire.AppendSuccess(b, &msg) }
	cases := []struct {
		name  string
		reply wire.Reply
		body  func([]byte) []byte
	}{
		{"buffered-reply", wire.Reply{Form: wire.FormBuffered, Type: wire.TypeReply, Name: []byte("Echo"), Seq: 7}, success},
		{"framed-reply", wire.Reply{Form: wire.FormFramed, Type: wire.TypeReply, Name: []byte("Echo"), Seq: 7}, success},
		{"tth-reply", wire.Reply{Form: wire.FormTTHeader, Type: wire.TypeReply, Name: []byte("Echo"), Seq: 7}, success},
		{"tthf-reply", wire.Reply{Form: wire.FormTTHeaderFramed, Type: wire.TypeReply, Name: []byte("Echo"), Seq: 7}, success},
		{"declared-exception", wire.Reply{Type: wire.TypeReply, Name: []byte("Echo"), Seq: 7},
			func(b []byte) []byte { return wire.AppendThrown(b, &wire.Fault{Code: 7, Reason: "boom"}) }},
		{"unknown-method", wire.Reply{Form: wire.FormTTHeaderFramed, Type: wire.TypeException, Name: []byte("Nope"), Seq: 7},
			func(b []byte) []byte {
				return wire.AppendException(b, wire.ExceptionUnknownMethod, "unknown method Nope")
			}},
	}
	for _, c := range cases {
		if got := c.reply.Append([]byte("x"), c.body)[1:]; !bytes.Equal(got, frames[c.name]) {
			t.Errorf("%s:\n got %x\nwant %x", c.name, got, frames[c.name])
		}
	}
}

func TestReplyHeaderIsWhatGopkgWrites(t *testing.T) {
	want, err := ttheader.EncodeToBytes(context.Background(), ttheader.EncodeParam{SeqID: 9, IntInfo: map[uint16]string{22: "3"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := wire.AppendReplyHeader(nil, 9, 3); !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}

func TestMetaCallHeader(t *testing.T) {
	frame := golden(t)["meta-call"]
	h := mustHeader(t, frame, rules())
	want := map[uint16]string{9: "Echo", 12: "200", 22: "1"}
	if diff := cmp.Diff(want, h.Int); diff != "" {
		t.Error(diff)
	}
	texts := map[string]string{"isn": "Echo", "RPC_PERSIST_k": "v", wire.StrKeyACLToken: "tok"}
	if diff := cmp.Diff(texts, h.Str); diff != "" {
		t.Error(diff)
	}
}

func mustHeader(t *testing.T, frame []byte, r wire.Rules) wire.Header {
	t.Helper()
	h, err := header(frame, r)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func header(frame []byte, r wire.Rules) (wire.Header, error) {
	p, err := wire.ReadPreamble(frame, r)
	if err != nil {
		return wire.Header{}, err
	}
	return wire.ReadHeader(p, bytes.Clone(frame), r)
}

func TestHeaderRefusals(t *testing.T) {
	frame := golden(t)["tthf-call"]
	edit := func(f func(b []byte)) []byte { b := bytes.Clone(frame); f(b); return b }
	cases := []struct {
		name   string
		frame  []byte
		reason wire.Reason
		served defect.Name // the defect that accepts it
	}{
		{"LENGTH 10", edit(func(b []byte) { binary.BigEndian.PutUint32(b, 10) }), wire.ReasonHeaderBeyond, defect.LengthIgnored},
		{"header size 0", edit(func(b []byte) { b[13] = 0 }), wire.ReasonHeaderSize, defect.HeaderSizeZeroServed},
		{"header size 0x4001", edit(func(b []byte) { b[12], b[13] = 0x40, 1 }), wire.ReasonHeaderBeyond, ""},
		{"protocol id 2", edit(func(b []byte) { b[14] = 2 }), wire.ReasonProtocolID, defect.ProtocolIDIgnored},
		{"protocol id 3", edit(func(b []byte) { b[14] = 3 }), wire.ReasonProtocolID, defect.ProtocolIDIgnored},
		{"protocol id 0x7f", edit(func(b []byte) { b[14] = 0x7f }), wire.ReasonProtocolID, defect.ProtocolIDIgnored},
		{"unknown info id", edit(func(b []byte) { b[16] = 0x55 }), wire.ReasonInfo, defect.InfoIDSkipped},
		{"count beyond block", edit(func(b []byte) { b[17], b[18] = 0x10, 0 }), wire.ReasonInfo, ""},
		{"value beyond header", edit(func(b []byte) { b[21], b[22] = 0xff, 0xff }), wire.ReasonInfo, ""},
		{"one transform", append(append(bytes.Clone(frame[:15]), 1, 1), frame[16:]...), wire.ReasonTransform, ""},
	}
	seen := 0
	for _, c := range cases {
		seen++
		_, err := header(c.frame, rules())
		var refusal *wire.Refusal
		if !errors.As(err, &refusal) || refusal.Reason != c.reason {
			t.Errorf("%s: %v, want reason %s", c.name, err, c.reason)
		}
		if c.served == "" {
			continue
		}
		if _, err := header(c.frame, rules(c.served)); err != nil {
			t.Errorf("%s with %s: %v", c.name, c.served, err)
		}
	}
	if seen == 0 {
		t.Fatal("no cases ran")
	}
}

func TestInfoBlockDefects(t *testing.T) {
	meta := golden(t)["meta-call"]
	if h := mustHeader(t, meta, rules(defect.InfoFirstBlockOnly)); h.Str["isn"] != "" || h.Str[wire.StrKeyACLToken] != "tok" {
		t.Errorf("first block only: %v", h.Str)
	}
	if _, err := header(meta, rules(defect.InfoOrderFixed)); err != nil {
		t.Errorf("the usual order is refused: %v", err)
	}
	swapped := []byte{0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 7, 0, 5, 0, 0,
		0x10, 0, 1, 0, 9, 0, 1, 'x', 0x01, 0, 1, 0, 1, 'a', 0, 1, 'b', 0}
	wire.PutLength(swapped)
	if h := mustHeader(t, swapped, rules()); h.Str["a"] != "b" || h.Int[9] != "x" {
		t.Errorf("swapped blocks: %v %v", h.Str, h.Int)
	}
	if _, err := header(swapped, rules(defect.InfoOrderFixed)); err == nil {
		t.Error("swapped blocks are accepted with a fixed order")
	}
	padded := append(append(bytes.Clone(swapped[:16]), 0, 0, 0, 0), swapped[16:]...)
	padded[13]++
	wire.PutLength(padded)
	if h := mustHeader(t, padded, rules()); h.Str["a"] != "b" {
		t.Errorf("padded: %v", h.Str)
	}
	if _, err := header(padded, rules(defect.PaddingRejected)); err == nil {
		t.Error("padding is accepted")
	}
}

func TestChecksum(t *testing.T) {
	frame := golden(t)["crc-call"]
	h := mustHeader(t, frame, rules())
	payload := frame[h.HeaderSize:]
	if err := h.CheckPayload(payload); err != nil {
		t.Error(err)
	}
	payload[len(payload)-5] ^= 1
	if err := h.CheckPayload(payload); err == nil {
		t.Error("a flipped byte is accepted")
	}
}
