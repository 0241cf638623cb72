package rpcframe

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/fixtures/rpc"
	"github.com/assay-bench/assay/scenarios/wire/behave"
	"github.com/assay-bench/assay/scenarios/wire/thrift"
	"github.com/assay-bench/assay/scenarios/wire/ttheader"
)

// stated is what the golden file says about a vector.
type stated struct {
	form  Form
	seq   int32
	typ   thrift.MessageType
	name  string
	body  any // behave.Msg of a call, behave.Result, thrift.Fault, []byte of anything else
	ints  map[uint16]string
	strs  map[string]string
	token string
	flags uint16
	proto byte
	// inOrder: keys and blocks are in the encoder's own order, so no layout is needed to write it again.
	inOrder bool
}

var (
	hi      = behave.Msg{Tag: new("ok"), Body: "hi"}
	success = behave.Result{Success: &hi}
	hiProto = []byte("\x0a\x02ok\x12\x02hi")
)

func chat(frameType string) map[uint16]string {
	return map[uint16]string{ttheader.KeyToMethod: "Chat", ttheader.KeyFrameType: frameType}
}

func statements() map[string]stated {
	toEcho, reply := map[uint16]string{9: "Echo"}, map[uint16]string{22: "2"}
	bare := func() []byte { // {1: "ok", 2: "hi"}
		b := behave.Args(hi)
		return b[3 : len(b)-1]
	}()
	return map[string]stated{
		"buffered-call":      {form: Buffered, typ: 1, name: "Echo", body: hi, inOrder: true},
		"buffered-reply":     {form: Buffered, typ: 2, name: "Echo", body: success, inOrder: true},
		"framed-call":        {form: Framed, typ: 1, name: "Echo", body: hi, inOrder: true},
		"framed-reply":       {form: Framed, typ: 2, name: "Echo", body: success, inOrder: true},
		"tthf-call":          {form: TTHeaderFramed, seq: 7, typ: 1, name: "Echo", body: hi, ints: toEcho, inOrder: true},
		"tthf-reply":         {form: TTHeaderFramed, seq: 7, typ: 2, name: "Echo", body: success, ints: reply, inOrder: true},
		"tth-call":           {form: TTHeader, seq: 7, typ: 1, name: "Echo", body: hi, ints: toEcho, inOrder: true},
		"tth-reply":          {form: TTHeader, seq: 7, typ: 2, name: "Echo", body: success, ints: reply, inOrder: true},
		"declared-exception": {form: Buffered, typ: 2, name: "Echo", body: behave.Result{Fault: &behave.Fault{Code: 7, Reason: "boom"}}, inOrder: true},
		"unknown-method": {form: TTHeaderFramed, seq: 7, typ: 3, name: "Nope", body: thrift.Fault{Text: "unknown method Nope", Code: 1},
			ints: map[uint16]string{22: "3"}, inOrder: true},
		"oneway-call": {form: Buffered, typ: 4, name: "Fire", body: hi, inOrder: true},
		"meta-call": {form: TTHeaderFramed, seq: 7, typ: 1, name: "Echo", body: hi, token: "tok",
			ints: map[uint16]string{9: "Echo", 12: "200", 22: "1"}, strs: map[string]string{"isn": "Echo", "RPC_PERSIST_k": "v"}},
		"biz-reply": {form: TTHeaderFramed, seq: 7, typ: 2, name: "Echo", body: []byte{0}, ints: reply,
			strs: map[string]string{"biz-status": "404", "biz-message": "nf"}},
		"crc-call": {form: TTHeaderFramed, seq: 7, typ: 1, name: "Echo", body: hi, ints: toEcho,
			strs: map[string]string{"crc32c": "928c4b95"}, inOrder: true},
		"kpb-call":      {form: KitexFramed, typ: 1, name: "Echo", body: hiProto, inOrder: true},
		"kpb-reply":     {form: KitexFramed, typ: 2, name: "Echo", body: hiProto, inOrder: true},
		"kpb-exception": {form: KitexFramed, typ: 3, name: "Echo", body: thrift.Fault{Text: "boom", Code: 6}, inOrder: true},
		"tth-kpb-call":  {form: TTHeaderKitex, seq: 7, typ: 1, name: "Echo", body: hiProto, ints: toEcho, inOrder: true},
		"st-open": {form: Streaming, seq: 1, flags: 2, proto: 0x10, body: []byte{}, ints: chat("2"),
			strs: map[string]string{"isn": "Echo"}, inOrder: true},
		"st-header":     {form: Streaming, seq: 1, flags: 2, proto: 0x10, body: []byte{}, ints: chat("2"), inOrder: true},
		"st-data":       {form: Streaming, seq: 1, flags: 2, proto: 0x10, body: bare, ints: chat("3"), inOrder: true},
		"st-trailer-ok": {form: Streaming, seq: 1, flags: 2, proto: 0x10, body: []byte{}, ints: chat("4"), inOrder: true},
		"st-rst": {form: Streaming, seq: 1, flags: 2, proto: 0x10, ints: chat("5"), strs: map[string]string{"ttscp": "A"}, inOrder: true,
			body: rst()},
		"hb-ping": {form: Control, body: []byte{0}, ints: map[uint16]string{22: "6"}, inOrder: true},
		"go-away": {form: Control, body: []byte{0}, strs: map[string]string{"crrst": "1"}, inOrder: true},
	}
}

// rst is the exception message that ends the stream of st-rst.
func rst() []byte {
	var w thrift.Writer
	w.Message("Chat", thrift.Exception, 1)
	w.Struct(thrift.Struct{
		{ID: 1, Value: thrift.Value{Type: thrift.String, Text: "cancel"}},
		{ID: 2, Value: thrift.Value{Type: thrift.I32, Num: 13}},
	})
	return w.Bytes
}

func golden(t testing.TB) []rpc.Vector {
	t.Helper()
	vectors, err := rpc.Golden()
	if err != nil {
		t.Fatal(err)
	}
	return vectors
}

// TestGoldenDecode: every golden frame is found, split and decoded to what the file says about it.
func TestGoldenDecode(t *testing.T) {
	all := statements()
	seen := 0
	for _, v := range golden(t) {
		seen++
		t.Run(v.ID, func(t *testing.T) {
			want, ok := all[v.ID]
			if !ok {
				t.Fatal("nothing is stated about this vector")
			}
			if got := Detect(v.Bytes); got != want.form {
				t.Fatalf("form %q, want %q", got, want.form)
			}
			if n, err := Split(want.form, append(bytes.Clone(v.Bytes), 0x80)); n != len(v.Bytes) || err != nil {
				t.Errorf("Split = %d, %v, want %d", n, err, len(v.Bytes))
			}
			r, err := Unwrap(want.form, v.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			check(t, r, want)
		})
	}
	if seen == 0 || seen != len(all) {
		t.Errorf("%d vectors, %d statements", seen, len(all))
	}
}

func check(t *testing.T, r Reply, want stated) {
	t.Helper()
	if want.typ != 0 {
		if r.Message.Type != want.typ || r.Message.Name != want.name || r.Message.Seq != 7 {
			t.Errorf("message %s %q seq %d, want %s %q seq 7", r.Message.Type, r.Message.Name, r.Message.Seq, want.typ, want.name)
		}
	}
	var body any
	var err error
	switch want.body.(type) {
	case behave.Msg:
		body, err = behave.ReadArgs(r.Message.Body)
	case behave.Result:
		body, err = behave.ReadResult(r.Message.Body)
	case thrift.Fault:
		body, err = r.Fault()
	case []byte:
		body = r.Payload
		if r.Message.Type == thrift.Reply && r.Form == TTHeaderFramed {
			body = r.Payload[len(r.Payload)-1:] // an empty result
		}
	}
	if err != nil {
		t.Error(err)
	}
	if d := cmp.Diff(want.body, body); d != "" {
		t.Errorf("body: %s", d)
	}
	if r.Header == nil {
		if want.ints != nil || want.strs != nil {
			t.Error("no header")
		}
		return
	}
	h := ttheader.Header{Flags: want.flags, Seq: want.seq, ProtocolID: want.proto, IntKeys: want.ints, StrKeys: want.strs, ACLToken: want.token}
	if d := cmp.Diff(h, *r.Header); d != "" {
		t.Errorf("header: %s", d)
	}
	if r.HeaderSeq != want.seq {
		t.Errorf("header seq %d, want %d", r.HeaderSeq, want.seq)
	}
}

// TestGoldenEncode: what was decoded is written back to the same bytes, message and header each by its
// writer, with the frame's own layout and, where that is the encoder's, without.
func TestGoldenEncode(t *testing.T) {
	seen, plain := 0, 0
	for _, v := range golden(t) {
		seen++
		want := statements()[v.ID]
		r, err := Unwrap(want.form, v.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		var h ttheader.Header
		if r.Header != nil {
			h = *r.Header
		}
		b, err := wrap(want.form, rewritten(r), h, r.Layout.Rewrite())
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(v.Bytes, b); d != "" {
			t.Errorf("%s, with its layout: %s", v.ID, d)
		}
		if !want.inOrder {
			continue
		}
		plain++
		if b, err = Wrap(want.form, rewritten(r), h); err != nil || !bytes.Equal(b, v.Bytes) {
			t.Errorf("%s, without a layout: %x, %v", v.ID, b, err)
		}
	}
	if seen == 0 || plain == 0 {
		t.Fatalf("%d vectors, %d of them in order", seen, plain)
	}
}

// rewritten writes the decoded message again.
func rewritten(r Reply) []byte {
	switch r.Form {
	case Streaming, Control:
		return r.Payload
	case KitexFramed, TTHeaderKitex:
		return KitexMessage(r.Message.Name, r.Message.Type, r.Message.Seq, r.Payload)
	}
	var w thrift.Writer
	w.Message(r.Message.Name, r.Message.Type, r.Message.Seq)
	w.Struct(r.Message.Body)
	return w.Bytes
}

// TestCallIsGolden: a call built from its parts is the golden call, in each form.
func TestCallIsGolden(t *testing.T) {
	vectors := golden(t)
	ids := map[Form]string{Buffered: "buffered-call", Framed: "framed-call", TTHeader: "tth-call", TTHeaderFramed: "tthf-call"}
	seen := 0
	for _, form := range Forms() {
		seen++
		v, err := rpc.Find(vectors, ids[form])
		if err != nil {
			t.Fatal(err)
		}
		b, err := Call{Form: form, Method: behave.MethodEcho, Seq: 7, Args: behave.Args(hi)}.Encode()
		if err != nil || !bytes.Equal(b, v.Bytes) {
			t.Errorf("%s: %x, %v, want %x", form, b, err, v.Bytes)
		}
	}
	if seen != len(ids) {
		t.Errorf("%d forms, want %d", seen, len(ids))
	}
}

func TestChecksumOfCRCCall(t *testing.T) {
	v, err := rpc.Find(golden(t), "crc-call")
	if err != nil {
		t.Fatal(err)
	}
	f, err := ttheader.Decode(v.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	sum := fmt.Sprintf("%08x", crc32.Checksum(f.Payload, crc32.MakeTable(crc32.Castagnoli)))
	if f.Header.StrKeys["crc32c"] != sum || sum != "928c4b95" {
		t.Errorf("crc32c %q, computed %s, want 928c4b95", f.Header.StrKeys["crc32c"], sum)
	}
}

// readable lists edited vectors that are sound frames: they are wrong in what they mean, not in how they
// are written, or wrong only to a reader that knows the IDL.
var readable = map[string]bool{
	"crc-flipped-byte": true, "streaming-flag-alone": true,
	"message-type-0": true, "message-type-2": true, "message-type-3": true, "message-type-5": true, "message-type-6": true,
	"required-missing": true, "body-of-other-type": true, "nested-65-nodes": true, "nested-70-undeclared": true,
}

// TestEdited: this codec, as strict as a server is asked to be, agrees with the outcome of each vector as
// far as bytes alone decide it.
func TestEdited(t *testing.T) {
	edited, err := rpc.Edited()
	if err != nil {
		t.Fatal(err)
	}
	if len(edited) == 0 {
		t.Fatal("no vectors")
	}
	for _, v := range edited {
		t.Run(v.ID, func(t *testing.T) {
			form := statements()[v.Base].form
			if v.ID == "streaming-flag-alone" {
				form = Streaming
			}
			whole, rest, err := consume(form, v.Bytes)
			refused := err != nil
			switch v.Want {
			case rpc.Accept, rpc.Silence, rpc.Exception1, rpc.Exception20:
				if refused || whole != 1 || len(rest) != 0 {
					t.Errorf("%d frames, %d bytes over, want one frame", whole, len(rest))
				}
			case rpc.AcceptBoth:
				if refused || whole != 2 || len(rest) != 0 {
					t.Errorf("%d frames, %d bytes over, want two frames", whole, len(rest))
				}
			case rpc.ClosedByDeadline:
				if refused || whole != 0 {
					t.Errorf("%v after %d frames, want to wait", err, whole)
				}
			default:
				// LENGTH too large is only told from an unfinished frame by what it disagrees with.
				waits := whole == 0 && !refused
				if !refused && !waits && !readable[v.ID] {
					t.Error("accepted")
				}
				if refused && readable[v.ID] {
					t.Errorf("refused, want it readable: %v", err)
				}
			}
		})
	}
}

// consume takes whole frames off b until one is refused or not whole.
func consume(form Form, b []byte) (whole int, rest []byte, err error) {
	for {
		n, err := Split(form, b)
		if err != nil || n == 0 {
			return whole, b, err
		}
		if _, err := Unwrap(form, b[:n]); err != nil {
			return whole, b, err
		}
		whole++
		b = b[n:]
	}
}
