package thrift

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// sample holds a value of every type.
func sample() Struct {
	str := func(s string) Value { return Value{Type: String, Text: s} }
	return Struct{
		{1, Value{Type: Bool, Num: 1}},
		{2, Value{Type: Byte, Num: -3}},
		{3, Value{Type: Double, Float: 1.5}},
		{4, Value{Type: I16, Num: -300}},
		{5, Value{Type: I32, Num: 70000}},
		{6, Value{Type: I64, Num: -1 << 40}},
		{7, str("hi\x00there")},
		{8, Value{Type: Object, Fields: Struct{{-1, str("nested")}}}},
		{9, Value{Type: Map, Key: String, Elem: I32, Items: []Value{str("a"), {Type: I32, Num: 1}, str("b"), {Type: I32, Num: 2}}}},
		{10, Value{Type: Set, Elem: Byte, Items: []Value{{Type: Byte, Num: 9}}}},
		{11, Value{Type: List, Elem: Object, Items: []Value{{Type: Object}, {Type: Object, Fields: Struct{{1, str("x")}}}}}},
		{12, Value{Type: List, Elem: Bool}},
	}
}

func message(s Struct) []byte {
	var w Writer
	w.Message("Echo", Reply, -7)
	w.Struct(s)
	return w.Bytes
}

func TestRoundTrip(t *testing.T) {
	b := message(sample())
	got, n, err := ReadMessage(append(b, 0xff))
	if err != nil {
		t.Fatal(err)
	}
	want := Message{Name: "Echo", Type: Reply, Seq: -7, Body: sample()}
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
		t.Error(d)
	}
	if n != len(b) {
		t.Errorf("read %d bytes, want %d", n, len(b))
	}
	if m, err := MessageLen(b); m != len(b) || err != nil {
		t.Errorf("MessageLen = %d, %v, want %d", m, err, len(b))
	}
	if text := got.String(); !strings.Contains(text, `map<string,i32> of 2 ["a": i32 1, "b": i32 2]`) {
		t.Errorf("rendering lacks the map:\n%s", text)
	}
}

// TestEveryPrefixIsShort: whatever part of a message has arrived, the answer is that more is needed, and
// Need never promises more than the whole.
func TestEveryPrefixIsShort(t *testing.T) {
	b := message(sample())
	seen := 0
	for n := range len(b) {
		for name, err := range map[string]error{
			"MessageLen":  second(MessageLen(b[:n])),
			"ReadMessage": third(ReadMessage(b[:n])),
		} {
			seen++
			var short *ShortError
			if !errors.As(err, &short) {
				t.Fatalf("%s of %d bytes: %v, want a ShortError", name, n, err)
			}
			if short.Need <= n || short.Need > len(b) || short.Have != n {
				t.Errorf("%s of %d bytes: need %d, have %d, whole %d", name, n, short.Need, short.Have, len(b))
			}
		}
	}
	if seen == 0 {
		t.Fatal("no prefix tried")
	}
}

func second(_ int, err error) error           { return err }
func third(_ Message, _ int, err error) error { return err }

func TestMalformed(t *testing.T) {
	nest := func(n int) string {
		return strings.Repeat("0c0001", n-1) + strings.Repeat("00", n)
	}
	lists := func(n int) string { // field 1: n lists inside one another
		return "0f0001" + strings.Repeat("0f00000001", n-1) + "0200000000" + "00"
	}
	cases := []struct{ name, body, want string }{
		{"unknown field type", "070001", "unknown field type 7"},
		{"negative string", "0b0001ffffffff", "negative length -1"},
		{"negative list", "0f0001080fffffff", "at least"},
		{"list of unknown", "0f00010700000001", "unknown element type"},
		{"map of unknown", "0d0001010800000001", "unknown element type"},
		{"bool 2", "02000102", "bool is 2"},
		{"129 structs", nest(129), "deeper than 128"},
		{"128 lists in a struct", lists(128), "deeper than 128"},
	}
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b, err := hex.DecodeString(c.body)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err = ReadStruct(b); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error = %v, want one with %q", err, c.want)
			}
		})
	}
	for name, body := range map[string]string{"128 structs": nest(128), "127 lists": lists(127)} {
		b, err := hex.DecodeString(body)
		if err != nil {
			t.Fatal(err)
		}
		if _, n, err := ReadStruct(b); err != nil || n != len(b) {
			t.Errorf("%s: %d, %v, want all %d bytes read", name, n, err, len(b))
		}
	}
}

// TestPartIsShown: beside an error stands what was read, and nothing that was not.
func TestPartIsShown(t *testing.T) {
	var w Writer
	w.Struct(Struct{{1, Value{Type: Object, Fields: Struct{{1, Value{Type: I32, Num: 5}}, {2, Value{Type: I32, Num: 6}}}}}})
	got, _, err := ReadStruct(w.Bytes[:len(w.Bytes)-3])
	want := Struct{{1, Value{Type: Object, Fields: Struct{{1, Value{Type: I32, Num: 5}}}}}}
	if d := cmp.Diff(want, got); d != "" || err == nil {
		t.Errorf("error %v, %s", err, d)
	}
}

func TestHeaders(t *testing.T) {
	var old Writer
	old.OldMessage("Echo", Call, 7)
	old.Stop()
	for name, b := range map[string][]byte{
		"non-strict":      old.Bytes,
		"first byte only": {0x80, 0x02},
	} {
		_, _, err := ReadMessage(b)
		var short *ShortError
		if err == nil || errors.As(err, &short) {
			t.Errorf("%s: %v, want a refusal at once", name, err)
		}
	}
}

func TestFault(t *testing.T) {
	var w Writer
	w.Message("Nope", Exception, 7)
	w.Field(String, 1)
	w.String("unknown method Nope")
	w.Field(I32, 2)
	w.I32(1)
	w.Stop()
	m, _, err := ReadMessage(w.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	f, err := m.Fault()
	if want := (Fault{Text: "unknown method Nope", Code: 1}); f != want || err != nil {
		t.Errorf("fault = %+v, %v, want %+v", f, err, want)
	}
	for name, m := range map[string]Message{
		"reply":      {Type: Reply},
		"no code":    {Type: Exception},
		"text is 32": {Type: Exception, Body: Struct{{1, Value{Type: I32}}, {2, Value{Type: I32}}}},
		"code is 64": {Type: Exception, Body: Struct{{2, Value{Type: I64}}}},
	} {
		if _, err := m.Fault(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestRenderingIsBounded(t *testing.T) {
	big := Value{Type: List, Elem: String}
	for range 1000 {
		big.Items = append(big.Items, Value{Type: String, Text: strings.Repeat("\x00", 1000)})
	}
	s := Struct{}
	for id := range int16(1000) {
		s = append(s, Field{id, big})
	}
	if n := len(s.String()); n > 8<<10 {
		t.Errorf("rendering of %d bytes", n)
	}
}

func TestGetTakesTheLast(t *testing.T) {
	s := Struct{{1, Value{Num: 1}}, {1, Value{Num: 2}}}
	if v, ok := s.Get(1); !ok || v.Num != 2 {
		t.Errorf("Get = %v, %v", v, ok)
	}
	if _, ok := s.Get(3); ok {
		t.Error("an absent field was found")
	}
}

// FuzzMessage: no input panics; the tree reader and the length reader agree; what was read writes back
// to something that reads the same.
func FuzzMessage(f *testing.F) {
	f.Add(message(sample()))
	f.Add([]byte("\x80\x01\x00\x01\x00\x00\x00\x04Echo\x00\x00\x00\x07\x0f\x00\x01\x0a\x7f\xff\xff\xff"))
	f.Add([]byte("\x80\x01\x00\x03\x00\x00\x00\x00\x00\x00\x00\x01\x0d\x00\x01\x0b\x0b\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, n, err := ReadMessage(b)
		_ = m.String()
		size, lenErr := MessageLen(b)
		if err != nil {
			return // the length reader does not look at bools, so it may accept more
		}
		if lenErr != nil || size != n {
			t.Fatalf("ReadMessage took %d bytes, MessageLen says %d, %v", n, size, lenErr)
		}
		var w Writer
		w.Message(m.Name, m.Type, m.Seq)
		w.Struct(m.Body)
		again, _, err := ReadMessage(w.Bytes)
		if err != nil {
			t.Fatalf("rewritten message: %v", err)
		}
		if d := cmp.Diff(m, again, cmpopts.EquateNaNs()); d != "" {
			t.Fatal(d)
		}
	})
}
