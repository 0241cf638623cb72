package wire_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/rpc/wire"
)

// callOf returns a buffered call of Echo with the given argument struct.
func callOf(args []byte) []byte {
	b := []byte{0x80, 1, 0, 1, 0, 0, 0, 4, 'E', 'c', 'h', 'o', 0, 0, 0, 7}
	return append(b, args...)
}

// nested returns an argument struct in which structs lie depth levels deep, itself included.
func nested(depth int) []byte {
	b := bytes.Repeat([]byte{12, 0, 99}, depth-1)
	return append(b, make([]byte, depth)...)
}

// badList returns the arguments {req: {2: "hi", 5: {2: list of i64 with an impossible count}}}.
func badList(count uint32) []byte {
	b := []byte{12, 0, 1, 11, 0, 2, 0, 0, 0, 2, 'h', 'i', 12, 0, 5, 15, 0, 2, 10}
	b = binary.BigEndian.AppendUint32(b, count)
	return append(b, 0, 0, 0)
}

func reasonOf(err error) wire.Reason {
	var refusal *wire.Refusal
	if errors.As(err, &refusal) {
		return refusal.Reason
	}
	return ""
}

func TestMessageRefusals(t *testing.T) {
	good := golden(t)["buffered-call"]
	edit := func(f func(b []byte)) []byte { b := bytes.Clone(good); f(b); return b }
	cases := []struct {
		name   string
		bytes  []byte
		reason wire.Reason
		named  bool
	}{
		{"old style", append([]byte{0, 0, 0, 4}, "Echo\x01\x00\x00\x00\x07\x00"...), wire.ReasonOldStyle, false},
		{"negative name length", edit(func(b []byte) { b[4] = 0xff }), wire.ReasonMalformed, false},
		{"truncated", good[:len(good)-3], wire.ReasonTruncated, true},
		{"65 levels", callOf(nested(65)), wire.ReasonNesting, true},
		{"impossible count", callOf(badList(0x7fffffff)), wire.ReasonContainer, true},
		{"negative count", callOf(badList(0x80000000)), wire.ReasonMalformed, true},
		{"count one too large", callOf(badList(1)), wire.ReasonContainer, true},
		{"unknown type", callOf([]byte{9, 0, 1, 0}), wire.ReasonMalformed, true},
		{"empty", nil, wire.ReasonTruncated, false},
	}
	seen := 0
	for _, c := range cases {
		seen++
		m, err := wire.DecodeMessage(c.bytes, rules())
		if reasonOf(err) != c.reason || m.Named != c.named {
			t.Errorf("%s: %v, named %v; want %s, %v", c.name, err, m.Named, c.reason, c.named)
		}
	}
	if seen == 0 {
		t.Fatal("no cases ran")
	}
}

func TestNestingLimitIsExact(t *testing.T) {
	if _, err := wire.DecodeMessage(callOf(nested(64)), rules()); err != nil {
		t.Errorf("64 levels: %v", err)
	}
	if _, err := wire.DecodeMessage(callOf(nested(100)), rules(defect.NestingUnbounded)); err != nil {
		t.Errorf("100 levels without a limit: %v", err)
	}
}

func TestContainerClosesServed(t *testing.T) {
	call := callOf(badList(0x7fffffff))
	m, err := wire.DecodeMessage(call, rules(defect.ContainerClosesServed))
	if err != nil || m.Size != len(call) {
		t.Fatalf("size %d of %d, %v", m.Size, len(call), err)
	}
	if msg, err := wire.DecodeArgs(m.Body); err != nil || string(msg.Body) != "hi" {
		t.Errorf("%+v, %v", msg, err)
	}
}

func TestOldStyleServed(t *testing.T) {
	old := append([]byte{0, 0, 0, 4}, "Echo\x01\x00\x00\x00\x07"...)
	old = append(old, golden(t)["buffered-call"][16:]...)
	m, err := wire.DecodeMessage(old, rules(defect.NonStrictServed))
	if err != nil || string(m.Name) != "Echo" || m.Seq != 7 || m.Type != wire.TypeCall {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestRequiredFields(t *testing.T) {
	cases := map[string][]byte{
		"no argument": {0},
		"no body":     {12, 0, 1, 0, 0},
		"op kind":     {12, 0, 1, 11, 0, 2, 0, 0, 0, 0, 15, 0, 3, 12, 0, 0, 0, 1, 0, 0, 0},
	}
	for name, args := range cases {
		m, err := wire.DecodeMessage(callOf(args), rules())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := wire.DecodeArgs(m.Body); reasonOf(err) != wire.ReasonRequired {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func fullMsg() wire.Msg {
	return wire.Msg{
		Tag: []byte{}, Body: []byte("body"),
		Ops: []wire.Op{{Kind: wire.KindForward, Millis: 1, Code: 2, Text: "t", Times: 3,
			Addresses: []string{"a", "b"}, Then: []wire.Op{{Kind: wire.KindEcho}}}},
		Report: &wire.Report{Count: new(int64(0)), Meta: map[string]string{"a": "1", "b": "2"},
			Hops: []wire.Report{{}}, DeadlineMillis: new(int64(5)), Cancelled: new(true)},
		Node: &wire.Node{Next: &wire.Node{}, Numbers: []int64{1, -1}},
	}
}

func TestEveryFieldSurvives(t *testing.T) {
	want := fullMsg()
	got, err := wire.DecodeArgs(wire.AppendArgs(nil, &want))
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}

// segments is a Filler that delivers a few bytes at a time.
type segments struct{ rest, have []byte }

func (s *segments) Fill(n int) ([]byte, error) {
	for len(s.have) < n {
		if len(s.rest) == 0 {
			return nil, errEnd
		}
		s.have, s.rest = append(bytes.Clone(s.have), s.rest[0]), s.rest[1:]
	}
	return s.have, nil
}

var errEnd = errors.New("end")

func TestScanFindsTheEnd(t *testing.T) {
	call := golden(t)["buffered-call"]
	s := &segments{rest: append(bytes.Clone(call), "next"...)}
	m, err := wire.ScanMessage(s, rules())
	if err != nil || m.Size != len(call) || string(m.Name) != "Echo" || len(s.rest) != 4 {
		t.Errorf("size %d, name %q, %d bytes left, %v", m.Size, m.Name, len(s.rest), err)
	}
	if _, err := wire.ScanMessage(&segments{rest: call[:20]}, rules()); !errors.Is(err, errEnd) {
		t.Errorf("error of the source became %v", err)
	}
	huge := callOf([]byte{11, 0, 1, 0x7f, 0xff, 0xff, 0xff})
	if _, err := wire.ScanMessage(&segments{rest: huge}, rules()); reasonOf(err) != wire.ReasonTooLarge {
		t.Errorf("huge string: %v", err)
	}
}

func TestElementsAreBounded(t *testing.T) {
	msg := wire.Msg{Ops: make([]wire.Op, 1<<16+1)}
	if _, err := wire.DecodeArgs(wire.AppendArgs(nil, &msg)); reasonOf(err) != wire.ReasonElements {
		t.Errorf("err = %v", err)
	}
}

func FuzzDecodeMessage(f *testing.F) {
	for name, frame := range golden(f) {
		f.Add(frame)
		if name == "framed-call" {
			f.Add(frame[4:])
		}
	}
	full := fullMsg()
	f.Add(callOf(wire.AppendArgs(nil, &full)))
	f.Add(callOf(nested(65)))
	f.Add(callOf(badList(3)))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := wire.DecodeMessage(b, rules())
		streamed, streamErr := wire.ScanMessage(&whole{b}, rules())
		if (err == nil) && (streamErr != nil || streamed.Size != m.Size) {
			t.Fatalf("the stream differs: size %d, %v; frame %d", streamed.Size, streamErr, m.Size)
		}
		if err != nil {
			return
		}
		if m.Size > len(b) {
			t.Fatalf("size %d of %d", m.Size, len(b))
		}
		msg, err := wire.DecodeArgs(m.Body)
		if err != nil {
			return
		}
		again, err := wire.DecodeArgs(wire.AppendArgs(nil, &msg))
		if diff := cmp.Diff(msg, again); diff != "" || err != nil {
			t.Fatalf("decode after encode: %v\n%s", err, diff)
		}
	})
}

// whole is a Filler with everything at hand.
type whole struct{ b []byte }

func (w *whole) Fill(n int) ([]byte, error) {
	if n > len(w.b) {
		return nil, errEnd
	}
	return w.b, nil
}

func FuzzDecodeArgs(f *testing.F) {
	full := fullMsg()
	f.Add(wire.AppendArgs(nil, &full))
	f.Add(badList(0x7fffffff))
	f.Fuzz(func(t *testing.T, b []byte) { // without the scan in front: still a value or an error
		_, _ = wire.DecodeArgs(b)
	})
}

func FuzzReadHeader(f *testing.F) {
	for _, frame := range golden(f) {
		f.Add(frame)
	}
	everything := rules(defect.InfoIDSkipped, defect.InfoOrderFixed, defect.InfoFirstBlockOnly, defect.PaddingRejected,
		defect.TransformIgnored, defect.ProtocolIDIgnored, defect.HeaderSizeZeroServed, defect.LengthIgnored)
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = wire.Sniff(b)
		h, err := header(b, rules())
		if err == nil && (h.PayloadSize() < 0 || h.HeaderSize > len(b)) {
			t.Fatalf("header of %d bytes in %d accepted, payload %d", h.HeaderSize, len(b), h.PayloadSize())
		}
		_, _ = header(b, everything)
	})
}
