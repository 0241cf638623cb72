package rpcframe

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/fixtures/rpc"
	"github.com/assay-bench/assay/scenarios/wire/behave"
	"github.com/assay-bench/assay/scenarios/wire/thrift"
	"github.com/assay-bench/assay/scenarios/wire/ttheader"
)

func echo(form Form, seq int32) Call {
	return Call{Form: form, Method: behave.MethodEcho, Seq: seq, Args: behave.Args(hi)}
}

func encoded(t testing.TB, c Call) []byte {
	t.Helper()
	b, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDetect(t *testing.T) {
	cases := []struct {
		name string
		b    string
		want Form
	}{
		{"nothing", "", Unknown},
		{"text", "say hello, wire\r\n", Unknown},
		{"mesh", "\xff\xaf\x00\x02\x00\x00\x00\x00", MeshHeader},
		{"preface", preface, HTTP2},
		{"start of the preface", preface[:8], HTTP2},
		{"settings", "\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64", HTTP2},
		{"status line", "HTTP/1.1 400 Bad Request\r\n\r\n", HTTP1},
		{"request line", "GET /healthz HTTP/1.1\r\n\r\n", HTTP1},
		{"non-strict", "\x00\x00\x00\x04Echo\x01\x00\x00\x00\x07\x00", Unknown},
		{"magic of TTHeader alone", "\x00\x00\x00\x45\x10\x00\x00\x00", Unknown},
	}
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
	for _, c := range cases {
		if got := Detect([]byte(c.b)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestSplitByteByByte: in every form the end of the first frame is found exactly when its last byte is there.
func TestSplitByteByByte(t *testing.T) {
	seen := 0
	for _, form := range Forms() {
		first := encoded(t, echo(form, 7))
		both := append(bytes.Clone(first), encoded(t, echo(form, 8))...)
		for n := range len(both) + 1 {
			seen++
			want := 0
			if n >= len(first) {
				want = len(first)
			}
			if got, err := Split(form, both[:n]); got != want || err != nil {
				t.Fatalf("%s: Split of %d bytes = %d, %v, want %d", form, n, got, err, want)
			}
		}
	}
	if seen == 0 {
		t.Fatal("nothing split")
	}
}

// TestSplitLimit: a frame above the limit is refused from its first bytes, one at the limit waited for.
func TestSplitLimit(t *testing.T) {
	buffered := func(n uint32) []byte { return binary.BigEndian.AppendUint32([]byte("\x80\x01\x00\x02"), n) }
	length := func(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
	tth := func(n uint32) []byte { return append(length(n), 0x10, 0) }
	cases := []struct {
		form    Form
		fits    []byte
		exceeds []byte
	}{
		{Buffered, buffered(Max - 8), buffered(Max - 7)},
		{Framed, length(Max - 4), length(Max - 3)},
		{TTHeader, tth(Max - 4), tth(Max - 3)},
		{TTHeaderFramed, tth(Max - 4), tth(Max - 3)},
	}
	if len(cases) != len(Forms()) {
		t.Fatalf("%d cases for %d forms", len(cases), len(Forms()))
	}
	for _, c := range cases {
		if n, err := Split(c.form, c.fits); n != 0 || err != nil {
			t.Errorf("%s at the limit: %d, %v", c.form, n, err)
		}
		if _, err := Split(c.form, c.exceeds); err == nil {
			t.Errorf("%s above the limit is waited for", c.form)
		}
	}
	if _, err := Split(HTTP2, nil); err == nil {
		t.Error("HTTP/2 was split")
	}
}

func TestCallHeader(t *testing.T) {
	shared := ttheader.Header{IntKeys: map[uint16]string{ttheader.KeyRPCTimeout: "200"}, StrKeys: map[string]string{"isn": "Echo"}}
	c := echo(TTHeaderFramed, 7)
	c.Header, c.HeaderSeq, c.Type = shared, new(int32(8)), thrift.Oneway
	r, err := Unwrap(TTHeaderFramed, encoded(t, c))
	if err != nil {
		t.Fatal(err)
	}
	if r.HeaderSeq != 8 || r.Message.Seq != 7 || r.Message.Type != thrift.Oneway {
		t.Errorf("header seq %d, message %s seq %d", r.HeaderSeq, r.Message.Type, r.Message.Seq)
	}
	if d := cmp.Diff(map[uint16]string{9: "Echo", 12: "200"}, r.Header.IntKeys); d != "" {
		t.Error(d)
	}
	if len(shared.IntKeys) != 1 {
		t.Error("the caller's map was written to")
	}
	if _, err := (Call{Form: HTTP2}).Encode(); err == nil {
		t.Error("a call was put into HTTP/2")
	}
}

func TestUnwrapIsStrict(t *testing.T) {
	for _, form := range Forms() {
		b := encoded(t, echo(form, 7))
		for name, bad := range map[string][]byte{
			"one byte over":  append(bytes.Clone(b), 0),
			"one byte short": b[:len(b)-1],
			"empty":          nil,
		} {
			if _, err := Unwrap(form, bad); err == nil {
				t.Errorf("%s, %s: accepted", form, name)
			}
		}
	}
	kitex := prefixed(KitexMessage("Echo", thrift.Reply, 7, nil))
	if _, err := Unwrap(KitexFramed, kitex); err != nil {
		t.Errorf("Kitex protobuf without a body: %v", err)
	}
	for at, name := range map[int]string{4: "magic", 8: "name length"} {
		bad := bytes.Clone(kitex)
		bad[at] = 0xff
		if _, err := Unwrap(KitexFramed, bad); err == nil {
			t.Errorf("Kitex protobuf, %s: accepted", name)
		}
	}
	if _, err := kitexFault([]byte("\x08")); err == nil {
		t.Error("a truncated protobuf exception was accepted")
	}
	if f, err := kitexFault([]byte("\x18\x01\x08\x07")); err != nil || f.Code != 7 {
		t.Errorf("unknown protobuf field: %+v, %v", f, err)
	}
}

func TestDescribe(t *testing.T) {
	call := encoded(t, echo(TTHeaderFramed, 7))
	cases := []struct {
		name string
		b    []byte
		want []string
	}{
		{"nothing", nil, []string{"no bytes"}},
		{"two frames", append(bytes.Clone(call), encoded(t, echo(TTHeaderFramed, 8))...),
			[]string{"offset 0: ttheader-framed, 73 bytes", `9 = "Echo"`, `call "Echo" seq 7 {`, `2: "hi"`, "offset 73:", "seq 8"}},
		{"part of a header", call[:20], []string{"ttheader, 20 bytes of 73", "header-size", "seq 7"}},
		{"part of a message", call[:60], []string{"ttheader-framed, incomplete: 60 bytes of 73", `call "Echo" seq 7`}},
		{"part of framed", call[30:50], []string{"framed, incomplete: 20 bytes of 43", `call "Echo" seq 7`, "at least"}},
		{"left over", append([]byte("\x00\x00\x00\x28"), append(bytes.Clone(call[34:]), 0)...), []string{"refused", "left over", `call "Echo"`}},
		{"garbage", []byte("say hello, wire"), []string{"15 bytes of no known protocol", "|say hello, wire|"}},
		{"http/1", []byte("HTTP/1.1 400 Bad Request\r\nX: y\r\n\r\nbody"), []string{"HTTP/1", `"HTTP/1.1 400 Bad Request"`, `"X: y"`}},
		{"http/2", []byte("\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\x00\x00\x0a\x07\x00\x00\x00\x00\x00" + "\x00\x00\x00\x01\x00\x00\x00\x0b" + "no"),
			[]string{"SETTINGS stream 0", `GOAWAY stream 0 flags 0x00, 10 bytes, error code 11, "no"`}},
		{"preface", []byte(preface + "\x00\x00\x04\x08\x00"), []string{"client preface", "5 more bytes"}},
		{"half a preface", []byte(preface[:10]), []string{"client preface, 10 of 24 bytes"}},
		{"mesh", []byte("\xff\xaf\x00\x02\x00\x00\x00\x00"), []string{"mesh header"}},
	}
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := Describe(c.b)
			for _, w := range c.want {
				if !strings.Contains(got, w) {
					t.Errorf("lacks %q:\n%s", w, got)
				}
			}
		})
	}
}

// TestDescribeVectors: each vector is described within the bound, and no golden one as refused.
func TestDescribeVectors(t *testing.T) {
	edited, err := rpc.Edited()
	if err != nil {
		t.Fatal(err)
	}
	good := golden(t)
	seen := 0
	for i, v := range append(good, edited...) {
		seen++
		text := Describe(v.Bytes)
		bound(t, text)
		if i < len(good) && (strings.Contains(text, "refused") || strings.Contains(text, "incomplete")) {
			t.Errorf("%s:\n%s", v.ID, text)
		}
	}
	if seen == 0 {
		t.Fatal("no vectors")
	}
	bound(t, Describe(bytes.Repeat([]byte("\x00\xff…"), 1<<18)))
	bound(t, Describe(bytes.Repeat(good[0].Bytes, 1000)))
}

func bound(t *testing.T, text string) {
	t.Helper()
	if text == "" || len(text) > describeBytes || !utf8.ValidString(text) {
		t.Errorf("description of %d bytes, valid UTF-8: %t", len(text), utf8.ValidString(text))
	}
}

func seeds(f *testing.F, add func([]byte)) {
	f.Helper()
	edited, err := rpc.Edited()
	if err != nil {
		f.Fatal(err)
	}
	for _, v := range append(golden(f), edited...) {
		add(v.Bytes)
	}
	add([]byte(preface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00"))
	add([]byte("HTTP/1.1 200 OK\r\n\r\n"))
}

// FuzzDescribe: any bytes have a description within the bound.
func FuzzDescribe(f *testing.F) {
	seeds(f, func(b []byte) { f.Add(b) })
	f.Fuzz(func(t *testing.T, b []byte) { bound(t, Describe(b)) })
}

// FuzzSplit: in every form a verdict on a prefix holds for the whole, sizes are never beyond the bytes, and
// a frame that decodes is one that splits.
func FuzzSplit(f *testing.F) {
	seeds(f, func(b []byte) { f.Add(b, len(b)/2) })
	forms := append(Forms(), KitexFramed, TTHeaderKitex, Streaming, Control)
	f.Fuzz(func(t *testing.T, b []byte, at int) {
		at = max(0, min(at, len(b)))
		for _, form := range forms {
			n, err := Split(form, b)
			if n > len(b) || n < 0 || n > 0 && err != nil {
				t.Fatalf("%s: Split of %d bytes = %d, %v", form, len(b), n, err)
			}
			early, earlyErr := Split(form, b[:at])
			if earlyErr != nil && err == nil || early > 0 && early != n {
				t.Fatalf("%s: Split of %d bytes = %d, %v, but of %d = %d, %v", form, at, early, earlyErr, len(b), n, err)
			}
			if _, err := Unwrap(form, b); err == nil && n != len(b) {
				t.Fatalf("%s: %d bytes decode, but Split = %d", form, len(b), n)
			}
		}
	})
}
