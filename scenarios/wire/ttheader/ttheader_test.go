package ttheader

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func full() Header {
	return Header{
		Seq: 7, ACLToken: "tok",
		IntKeys: map[uint16]string{9: "Echo", 12: "200", 22: "1"},
		StrKeys: map[string]string{"isn": "Echo", "RPC_PERSIST_k": "v"},
	}
}

func encode(t testing.TB, h Header, payload string, o Options) []byte {
	t.Helper()
	b, err := Encode(h, []byte(payload), o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEncodeLayout(t *testing.T) {
	b := encode(t, Header{Seq: 7, IntKeys: map[uint16]string{9: "Echo"}}, "", Options{})
	if got, want := hex.EncodeToString(b), "0000001a1000000000000007000400001000010009"+"00044563686f000000"; got != want {
		t.Errorf("frame\n%s, want\n%s", got, want)
	}
}

func TestRoundTrip(t *testing.T) {
	layouts := map[string]Options{
		"usual":     {},
		"permuted":  {Blocks: []byte{InfoInts, InfoStrings, InfoACL}, IntOrder: []uint16{22, 9}, StrOrder: []string{"isn"}},
		"padded":    {Between: 3, Trailing: 8},
		"repeating": {Blocks: []byte{InfoACL, InfoStrings, InfoStrings, InfoInts}},
	}
	if len(layouts) == 0 {
		t.Fatal("no layouts")
	}
	for name, o := range layouts {
		t.Run(name, func(t *testing.T) {
			b := encode(t, full(), "payload", o)
			f, err := Decode(b)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(full(), f.Header); d != "" {
				t.Error(d)
			}
			if string(f.Payload) != "payload" {
				t.Errorf("payload %q", f.Payload)
			}
			if name == "padded" || name == "repeating" {
				return // Rewrite does not keep either
			}
			if again := encode(t, f.Header, "payload", f.Layout.Rewrite()); !bytes.Equal(b, again) {
				t.Errorf("rewritten\n%x, want\n%x", again, b)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	usual := full()
	cases := []struct {
		name string
		h    Header
		o    Options
		want Reason
	}{
		{"length above", usual, Options{Length: new(uint32(500))}, BadLength},
		{"length below", usual, Options{Length: new(uint32(10))}, BadLength},
		{"top bit", usual, Options{Length: new(uint32(0xffffffff))}, BadLength},
		{"no header", usual, Options{Words: new(uint16(0))}, BadSize},
		{"large header", usual, Options{Words: new(uint16(0x4001))}, BadSize},
		{"compact", Header{ProtocolID: 2}, Options{}, BadProtocol},
		{"compact v2", Header{ProtocolID: 3}, Options{}, BadProtocol},
		{"unknown protocol", Header{ProtocolID: 0x7f}, Options{}, BadProtocol},
		{"transform", Header{Transforms: []byte{1}}, Options{}, BadTransform},
		{"transform claimed", usual, Options{Transforms: new(byte(200))}, BadTransform},
		{"unknown block", usual, Options{RawInfo: []byte{0x55}}, UnknownInfo},
		{"string count", usual, Options{Blocks: []byte{InfoStrings}, StrCount: new(uint16(999))}, BadInfo},
		{"int count", usual, Options{Blocks: []byte{InfoInts}, IntCount: new(uint16(999))}, BadInfo},
		{"block after a string", usual, Options{RawInfo: []byte{InfoStrings, 0, 1, 0, 1, 'k', 0, 200}}, BadInfo},
		{"token length", usual, Options{RawInfo: []byte{InfoACL, 0xff, 0xff}}, BadInfo},
	}
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := encode(t, c.h, "payload", c.o)
			_, err := Decode(b)
			if got := reason(err); got != c.want {
				t.Errorf("reason %q (%v), want %q", got, err, c.want)
			}
		})
	}
}

func reason(err error) Reason {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}

func TestEncodeLimits(t *testing.T) {
	long := strings.Repeat("x", 65536)
	many := map[uint16]string{}
	for k := range 5 {
		many[uint16(k)] = long[1:]
	}
	cases := map[string]struct {
		h Header
		o Options
	}{
		"token":      {h: Header{ACLToken: long}},
		"value":      {h: Header{IntKeys: map[uint16]string{1: long}}},
		"key":        {h: Header{StrKeys: map[string]string{long: ""}}},
		"header":     {h: Header{IntKeys: many}},
		"transforms": {h: Header{Transforms: make([]byte, 256)}},
		"block":      {o: Options{Blocks: []byte{0x55}}},
	}
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
	for name, c := range cases {
		if _, err := Encode(c.h, nil, c.o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestSplit(t *testing.T) {
	b := encode(t, full(), "payload", Options{})
	two := append(bytes.Clone(b), b...)
	for n := range len(two) + 1 {
		want := 0
		if n >= len(b) {
			want = len(b)
		}
		if got, err := Split(two[:n], DefaultMax); got != want || err != nil {
			t.Fatalf("Split of %d bytes = %d, %v, want %d", n, got, err, want)
		}
	}
	refused := map[string]struct {
		b    []byte
		want Reason
	}{
		"limit":        {encode(t, full(), "", Options{Length: new(uint32(DefaultMax))})[:6], BadLength},
		"top bit":      {encode(t, full(), "", Options{Length: new(uint32(0xffffffff))})[:6], BadLength},
		"tiny":         {encode(t, full(), "", Options{Length: new(uint32(13))})[:6], BadLength},
		"magic":        {[]byte("hello!"), BadMagic},
		"no header":    {encode(t, full(), "", Options{Words: new(uint16(0))})[:14], BadSize},
		"large header": {encode(t, full(), "", Options{Words: new(uint16(999))})[:14], BadSize},
	}
	for name, c := range refused {
		if _, err := Split(c.b, DefaultMax); reason(err) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	if n, err := Split(encode(t, full(), "", Options{Length: new(uint32(DefaultMax - 4))}), DefaultMax); n != 0 || err != nil {
		t.Errorf("a frame of exactly the limit: %d, %v, want to wait", n, err)
	}
}

// FuzzDecode: no input panics; what is accepted has a consistent LENGTH, is one frame to the splitter, and
// can be written and read again.
func FuzzDecode(f *testing.F) {
	for _, o := range []Options{{}, {Between: 2}, {Words: new(uint16(1))}, {StrCount: new(uint16(9))}} {
		f.Add(encode(f, full(), "payload", o))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = Peek(b)
		frame, err := Decode(b)
		if err != nil {
			if reason(err) == "" {
				t.Fatalf("error without a reason: %v", err)
			}
			return
		}
		if n, err := Split(b, len(b)); n != len(b) || err != nil {
			t.Fatalf("Split = %d, %v for an accepted frame of %d bytes", n, err, len(b))
		}
		again, err := Encode(frame.Header, frame.Payload, frame.Layout.Rewrite())
		if err != nil {
			t.Fatalf("rewriting: %v", err)
		}
		second, err := Decode(again)
		if err != nil {
			t.Fatalf("rewritten frame: %v", err)
		}
		if d := cmp.Diff(frame.Header, second.Header); d != "" {
			t.Fatal(d)
		}
	})
}

// FuzzSplit: the splitter never claims bytes that are not there, and never waits for more than the limit.
func FuzzSplit(f *testing.F) {
	f.Add(encode(f, full(), "payload", Options{}), 64)
	f.Add(encode(f, full(), "payload", Options{}), DefaultMax)
	f.Add([]byte("\x00\x00\x00\x45\x10\x00"), 100)
	f.Fuzz(func(t *testing.T, b []byte, max int) {
		n, err := Split(b, max)
		switch {
		case err != nil && n != 0:
			t.Fatalf("%d bytes beside %v", n, err)
		case n > len(b) || n > 0 && n > max:
			t.Fatalf("frame of %d bytes out of %d, limit %d", n, len(b), max)
		case err == nil && n == 0 && len(b) >= 14 && len(b) >= max:
			t.Fatalf("waits with %d bytes, limit %d", len(b), max)
		}
	})
}
