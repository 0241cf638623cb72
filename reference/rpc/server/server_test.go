package server_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/assay-bench/assay/reference/rpc/server"
	"github.com/assay-bench/assay/reference/rpc/wire"
)

// TestFourForms: rpc/wire/four-transports, the form decided per call, on one connection.
func TestFourForms(t *testing.T) {
	g := golden(t)
	p := start(t).dial(t)
	seen := 0
	for _, form := range []string{"buffered", "framed", "tthf", "tth", "framed", "buffered"} {
		seen++
		p.send(g[form+"-call"]).expect(g[form+"-reply"])
	}
	if seen == 0 {
		t.Fatal("no forms")
	}
}

// TestKeptAfterRefusal: what is answered with an exception and leaves the connection usable.
func TestKeptAfterRefusal(t *testing.T) {
	g := golden(t)
	args := g["buffered-call"][16:]
	deep := append(bytes.Repeat([]byte{12, 0, 99}, 64), make([]byte, 65)...)
	list := []byte{12, 0, 1, 11, 0, 2, 0, 0, 0, 0, 12, 0, 5, 15, 0, 2, 10, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0}
	service := append([]byte{0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 7, 0, 5, 0, 0,
		1, 0, 1, 0, 3, 'i', 's', 'n', 0, 4, 'N', 'o', 'n', 'e', 0, 0, 0, 0}, g["framed-call"]...)
	wire.PutLength(service)
	cases := []struct {
		name      string
		frame     []byte
		form      wire.Form
		exception int32
	}{
		{"unknown method framed", framed(call(1, "Nope", args)), wire.FormFramed, 1},
		{"unknown method buffered", call(1, "Nope", args), wire.FormBuffered, 1},
		{"unknown service", service, wire.FormTTHeaderFramed, 20},
		{"message type 0", framed(call(0, "Echo", args)), wire.FormFramed, 2},
		{"message type 2", framed(call(2, "Echo", args)), wire.FormFramed, 2},
		{"message type 3", framed(call(3, "Echo", args)), wire.FormFramed, 2},
		{"message type 5", framed(call(5, "Echo", args)), wire.FormFramed, 2},
		{"message type 6", framed(call(6, "Echo", args)), wire.FormFramed, 2},
		{"truncated args", framed(call(1, "Echo", args[:len(args)-3])), wire.FormFramed, 7},
		{"required field", framed(call(1, "Echo", []byte{12, 0, 1, 0, 0})), wire.FormFramed, 7},
		{"65 levels", framed(call(1, "Echo", deep)), wire.FormFramed, 7},
		{"list count", framed(call(1, "Echo", list)), wire.FormFramed, 7},
		{"handler error", echo("", wire.Op{Kind: wire.KindError, Text: "secret"}), wire.FormFramed, 6},
		{"panic", echo("", wire.Op{Kind: wire.KindPanic, Text: "secret"}), wire.FormFramed, 6},
	}
	p := start(t).dial(t)
	seen := 0
	for _, c := range cases {
		seen++
		if got := p.send(c.frame).exception(c.form); got != c.exception {
			t.Errorf("%s: exception %d, want %d", c.name, got, c.exception)
		}
		p.send(g["framed-call"]).expect(g["framed-reply"])
	}
	if seen == 0 {
		t.Fatal("no cases ran")
	}
}

func TestUnknownMethodEqualsGolden(t *testing.T) {
	g := golden(t)
	frame := bytes.Clone(g["tthf-call"])
	copy(frame[bytes.LastIndex(frame, []byte("Echo")):], "Nope")
	start(t).dial(t).send(frame).expect(g["unknown-method"])
}

func TestDeclaredExceptionEqualsGolden(t *testing.T) {
	msg := wire.Msg{Body: []byte("hi"), Ops: []wire.Op{{Kind: wire.KindThrow, Code: 7, Text: "boom"}}}
	start(t).dial(t).send(call(1, "Echo", wire.AppendArgs(nil, &msg))).expect(golden(t)["declared-exception"])
}

// TestNothingLeaks: rpc/wire/no-panic-leak; the refusal of an operation is the only text that says more.
func TestNothingLeaks(t *testing.T) {
	p := start(t).dial(t)
	for _, kind := range []wire.Kind{wire.KindPanic, wire.KindError} {
		m := p.send(echo("", wire.Op{Kind: kind, Text: "marker"})).message(wire.FormFramed)
		if bytes.Contains(m.Body, []byte("marker")) || bytes.Contains(m.Body, []byte(".go")) {
			t.Errorf("%s: %q", kind, m.Body)
		}
	}
	m := p.send(echo("", wire.Op{Kind: wire.KindForward})).message(wire.FormFramed)
	if !bytes.Contains(m.Body, []byte("operation not served: FORWARD")) {
		t.Errorf("FORWARD: %q", m.Body)
	}
}

// refusals end the connection without a reply; each is one edit of a golden call.
func refusals(t *testing.T) map[string]struct {
	frame  []byte
	reason string
} {
	g := golden(t)
	tthf, tth := g["tthf-call"], g["tth-call"]
	return map[string]struct {
		frame  []byte
		reason string
	}{
		"LENGTH +50":          {edited(tthf, map[int]byte{3: 0x45 + 50}), "length-mismatch"},
		"LENGTH -1":           {edited(tthf, map[int]byte{3: 0x44}), "length-mismatch"},
		"LENGTH 10":           {edited(tthf, map[int]byte{3: 10}), "header-beyond-frame"},
		"LENGTH 0x3fffffff":   {edited(tthf, map[int]byte{0: 0x3f, 1: 0xff, 2: 0xff, 3: 0xff}), "length-over-limit"},
		"LENGTH 0xffffffff":   {edited(tth, map[int]byte{0: 0xff, 1: 0xff, 2: 0xff, 3: 0xff}), "length-over-limit"},
		"header size 0":       {edited(tthf, map[int]byte{13: 0}), "header-size-zero"},
		"header size +1":      {edited(tthf, map[int]byte{13: 5}), "info-block"},
		"header size 0x4001":  {edited(tthf, map[int]byte{12: 0x40, 13: 1}), "header-beyond-frame"},
		"protocol id 2":       {edited(tthf, map[int]byte{14: 2}), "protocol-id"},
		"protocol id 0x7f":    {edited(tthf, map[int]byte{14: 0x7f}), "protocol-id"},
		"one transform":       {edited(tthf, map[int]byte{15: 1}), "transform"},
		"info id 0x55":        {edited(tthf, map[int]byte{16: 0x55}), "info-block"},
		"frame length +100":   {edited(tthf, map[int]byte{33: 0x27 + 100}), "length-mismatch"},
		"frame length -1":     {edited(tthf, map[int]byte{33: 0x26}), "length-mismatch"},
		"frame length huge":   {edited(tthf, map[int]byte{30: 0x7f, 31: 0xff, 32: 0xff, 33: 0xff}), "length-mismatch"},
		"bare frame too big":  {edited(g["framed-call"], map[int]byte{0: 0x7f}), "length-over-limit"},
		"old style":           {append([]byte{0, 0, 0, 4}, "Echo\x01\x00\x00\x00\x07\x00"...), "old-style-message"},
		"old style framed":    {append([]byte{0, 0, 0, 14, 0, 0, 0, 4}, "Echo\x01\x00\x00\x00\x07\x00"...), "old-style-message"},
		"streaming flag":      {g["st-open"], "unsupported-protocol"},
		"mesh header":         {[]byte{0xff, 0xaf, 0, 8, 0, 0, 0, 0, 0, 0}, "unsupported-protocol"},
		"kitex protobuf":      {g["kpb-call"], "unsupported-protocol"},
		"kitex pb in header":  {g["tth-kpb-call"], "payload-unknown"},
		"one-byte payload":    {g["hb-ping"], "payload-unknown"},
		"HTTP/1":              {[]byte("GET / HTTP/1.1\r\n\r\n"), "unsupported-protocol"},
		"random text":         {[]byte("the quick brown fox"), "unsupported-protocol"},
		"negative name":       {edited(g["framed-call"], map[int]byte{8: 0xff}), "malformed"},
		"first name too long": {edited(g["framed-call"], map[int]byte{10: 0x40}), "message-head"},
	}
}

func TestRefusedWithoutAReply(t *testing.T) {
	f := start(t)
	seen := 0
	for name, c := range refusals(t) {
		seen++
		before := f.errorsBy(t, c.reason)
		f.dial(t).send(c.frame).closed()
		if got := f.errorsBy(t, c.reason); got != before+1 {
			t.Errorf("%s: counter of %s went from %v to %v", name, c.reason, before, got)
		}
	}
	if seen == 0 {
		t.Fatal("no refusals")
	}
	if n := f.count(t, "ok"); n != 0 {
		t.Errorf("%d refused calls ran", n)
	}
}

// TestAnsweredThenClosed: the caller is told, but the next call cannot be found for certain.
func TestAnsweredThenClosed(t *testing.T) {
	g := golden(t)
	crc := bytes.Clone(g["crc-call"])
	crc[len(crc)-3] ^= 1
	trailing := append(bytes.Clone(g["framed-call"]), 0, 0)
	trailing[3] += 2
	cases := map[string]struct {
		frame []byte
		form  wire.Form
	}{
		"trailing bytes":       {trailing, wire.FormFramed},
		"checksum":             {crc, wire.FormTTHeaderFramed},
		"ttheader truncated":   {edited(g["tth-call"], map[int]byte{3: 0x40}), wire.FormTTHeader},
		"buffered nested":      {call(1, "Echo", bytes.Repeat([]byte{12, 0, 99}, 70)), wire.FormBuffered},
		"buffered huge list":   {call(1, "Echo", []byte{15, 0, 1, 10, 0x7f, 0xff, 0xff, 0xff}), wire.FormBuffered},
		"buffered required":    {call(1, "Echo", []byte{12, 0, 1, 0, 0}), wire.FormBuffered},
		"buffered long string": {call(1, "Echo", []byte{11, 0, 1, 0x7f, 0xff, 0xff, 0xff}), wire.FormBuffered},
	}
	f := start(t)
	seen := 0
	for name, c := range cases {
		seen++
		p := f.dial(t).send(c.frame)
		if id := p.exception(c.form); id != wire.ExceptionProtocol {
			t.Errorf("%s: exception %d", name, id)
		}
		p.closed()
	}
	if seen == 0 {
		t.Fatal("no cases ran")
	}
	f.dial(t).send(g["crc-call"]).expect(g["tthf-reply"])
}

// TestReadDeadline: rpc/wire/read-deadline, for the first frame and for a later one.
func TestReadDeadline(t *testing.T) {
	g := golden(t)
	long := bytes.Clone(g["tth-call"])
	long[3] += 50
	cases := map[string][]byte{
		"nothing": nil, "4 of 43 bytes": g["framed-call"][:4], "20 of 43 bytes": g["framed-call"][:20],
		"LENGTH too large": long, "buffered, 20 bytes": g["buffered-call"][:20],
	}
	f := start(t)
	seen := 0
	for name, bytes := range cases {
		seen++
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begin := time.Now()
			took := f.dial(t).send(bytes).closed().Sub(begin)
			if took < deadline-50*time.Millisecond || took > deadline*3 {
				t.Errorf("closed after %s, the deadline is %s", took, deadline)
			}
		})
	}
	if seen == 0 {
		t.Fatal("no cases ran")
	}
	t.Run("second call", func(t *testing.T) {
		t.Parallel()
		p := f.dial(t).send(g["framed-call"]).expect(g["framed-reply"]).send(g["framed-call"][:20])
		begin := time.Now()
		if took := p.closed().Sub(begin); took < deadline-50*time.Millisecond {
			t.Errorf("closed after %s, the deadline is %s", took, deadline)
		}
	})
}

func TestIdleLimitBetweenCalls(t *testing.T) {
	g := golden(t)
	f := startWith(t, server.Config{ReadDeadline: 50 * time.Millisecond, IdleTimeout: 300 * time.Millisecond})
	p := f.dial(t).send(g["framed-call"]).expect(g["framed-reply"])
	_ = p.silent() // longer than the read deadline
	p.send(g["framed-call"]).expect(g["framed-reply"])
	p.closed()
	if f.errorsBy(t, "idle-timeout") != 1 {
		t.Error("the idle timeout was not counted")
	}
}

// TestOnewayIsNeverAnswered: rpc/wire/oneway-silent and rpc/wire/oneway-type-silent.
func TestOnewayIsNeverAnswered(t *testing.T) {
	g := golden(t)
	f := start(t)
	args := g["buffered-call"][16:]
	p := f.dial(t)
	p.send(g["oneway-call"]).send(framed(call(1, "Fire", args))).send(framed(call(4, "Echo", args)))
	p.send(framed(call(4, "Nope", args))).send(framed(call(4, "Echo", []byte{0}))).silent()
	p.send(g["framed-call"]).expect(g["framed-reply"])
	if n := f.count(t, "ok"); n != 4 {
		t.Errorf("%d calls ran, want 4", n)
	}
}

// TestPipelinedRepliesKeepOrder: rpc/wire/pipelining-order, a slow call in front.
func TestPipelinedRepliesKeepOrder(t *testing.T) {
	slow := echo("slow", wire.Op{Kind: wire.KindDelay, Millis: 50})
	fast := golden(t)["tthf-call"]
	p := start(t).dial(t).send(append(bytes.Clone(slow), fast...))
	if m := p.message(wire.FormFramed); !bytes.Contains(m.Body, []byte("slow")) {
		t.Errorf("first reply %q", m.Body)
	}
	p.expect(golden(t)["tthf-reply"])
}

// TestFirstReplyDoesNotWaitForASlowSecond: replies are written before a handler may take long.
func TestFirstReplyDoesNotWaitForASlowSecond(t *testing.T) {
	g := golden(t)
	slow := echo("slow", wire.Op{Kind: wire.KindDelay, Millis: 60_000})
	start(t).dial(t).send(append(bytes.Clone(g["framed-call"]), slow...)).expect(g["framed-reply"])
}

func TestByteByByte(t *testing.T) {
	g := golden(t)
	f := start(t)
	for _, form := range []string{"buffered", "framed", "tth", "tthf"} {
		p := f.dial(t)
		for _, b := range g[form+"-call"] {
			p.send([]byte{b})
		}
		p.expect(g[form+"-reply"])
	}
}

func TestLargeBody(t *testing.T) {
	msg := wire.Msg{Body: bytes.Repeat([]byte("x"), 1<<20)}
	p := start(t).dial(t)
	for range 2 {
		m := p.send(framed(call(1, "Echo", wire.AppendArgs(nil, &msg)))).message(wire.FormFramed)
		if len(m.Body) < 1<<20 {
			t.Fatalf("reply of %d bytes", len(m.Body))
		}
	}
}

// TestHeaderSeqDiffers: rpc/wire/seq-echo, the payload's decides.
func TestHeaderSeqDiffers(t *testing.T) {
	g := golden(t)
	start(t).dial(t).send(edited(g["tthf-call"], map[int]byte{11: 8})).expect(g["tthf-reply"])
}

func TestMetadataReport(t *testing.T) {
	g := golden(t)
	msg := wire.Msg{Body: []byte("hi"), Ops: []wire.Op{{Kind: wire.KindMeta}}}
	head := bytes.Clone(g["meta-call"][:len(g["meta-call"])-len(g["framed-call"])])
	frame := append(head, framed(call(1, "Echo", wire.AppendArgs(nil, &msg)))...)
	wire.PutLength(frame)
	m := start(t).dial(t).send(frame).message(wire.FormTTHeaderFramed)
	result, err := wire.DecodeArgs(append([]byte{12, 0, 1}, m.Body[3:]...))
	if err != nil {
		t.Fatal(err)
	}
	want := "#12=200 #22=1 #9=Echo #acl=tok RPC_PERSIST_k=v isn=Echo"
	var got []string
	for _, k := range []string{"#12", "#22", "#9", "#acl", "RPC_PERSIST_k", "isn"} {
		got = append(got, k+"="+result.Report.Meta[k])
	}
	if strings.Join(got, " ") != want || len(result.Report.Meta) != 6 {
		t.Errorf("meta %v", result.Report.Meta)
	}
}

// TestPropagatedTimeoutEndsTheHandler: int key 12 bounds the handler's context.
func TestPropagatedTimeoutEndsTheHandler(t *testing.T) {
	msg := wire.Msg{Body: []byte("hi"), Ops: []wire.Op{{Kind: wire.KindDelay, Millis: 60_000}}}
	frame := append([]byte{0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 7, 0, 3, 0, 0, 0x10, 0, 1, 0, 12, 0, 2, '5', '0', 0},
		framed(call(1, "Echo", wire.AppendArgs(nil, &msg)))...)
	wire.PutLength(frame)
	if id := start(t).dial(t).send(frame).exception(wire.FormTTHeaderFramed); id != wire.ExceptionInternal {
		t.Errorf("exception %d", id)
	}
}

func TestConnectionLimit(t *testing.T) {
	g := golden(t)
	f := startWith(t, server.Config{MaxConnections: 1})
	first := f.dial(t).send(g["framed-call"]).expect(g["framed-reply"])
	f.dial(t).closed()
	first.send(g["framed-call"]).expect(g["framed-reply"])
}

// TestShutdown: a call in flight is answered, idle connections end, new ones are refused.
func TestShutdown(t *testing.T) {
	f := start(t)
	idle := f.dial(t).send(golden(t)["framed-call"]).expect(golden(t)["framed-reply"])
	busy := f.dial(t).send(append(golden(t)["framed-call"], echo("last", wire.Op{Kind: wire.KindDelay, Millis: 150})...))
	busy.expect(golden(t)["framed-reply"]) // so the slow call has begun
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		done <- f.Shutdown(ctx)
	}()
	idle.closed()
	if m := busy.message(wire.FormFramed); !bytes.Contains(m.Body, []byte("last")) {
		t.Errorf("reply %q", m.Body)
	}
	busy.closed()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestShutdownCutsOffWhatTakesTooLong(t *testing.T) {
	f := start(t)
	p := f.dial(t).send(append(golden(t)["framed-call"], echo("", wire.Op{Kind: wire.KindDelay, Millis: 60_000})...))
	p.expect(golden(t)["framed-reply"])
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := f.Shutdown(ctx); err == nil {
		t.Error("no error although a call was cut off")
	}
}

func FuzzServerSurvives(f *testing.F) {
	g := golden(f)
	for _, frame := range g {
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if bytes.Contains(b, []byte{15, 0, 3, 12}) {
			return // operations may ask for a long delay
		}
		s := startWith(t, server.Config{ReadDeadline: 20 * time.Millisecond, IdleTimeout: 20 * time.Millisecond})
		p := s.dial(t).send(b)
		_ = p.SetReadDeadline(time.Now().Add(patience))
		for buf := make([]byte, 4096); ; {
			if _, err := p.Read(buf); err != nil {
				break
			}
		}
		s.dial(t).send(g["framed-call"]).expect(g["framed-reply"])
	})
}
