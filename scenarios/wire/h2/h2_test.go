package h2

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// TestFramesAgreeWithXNet writes each frame here and reads it with golang.org/x/net, a codec that this
// package shares nothing with but HPACK.
func TestFramesAgreeWithXNet(t *testing.T) {
	b := AppendSettings(nil, [2]uint32{4, 70000}, [2]uint32{2, 0})
	b = Frame{Type: Settings, Flags: FlagAck}.AppendTo(b)
	b = AppendPing(b, [8]byte{1, 2, 3, 4, 5, 6, 7, 8})
	b = AppendWindowUpdate(b, 3, 4096)
	b = AppendRSTStream(b, 3, 8)
	b = AppendGoAway(b, 3, 2)
	b = Call{Stream: 5, Authority: "a:1", Path: "/s/m", Extra: []Field{{"long", strings.Repeat("~", 20000)}}, Message: []byte("hi")}.AppendTo(b)
	fr := http2.NewFramer(io.Discard, bytes.NewReader(b))
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	fr.MaxHeaderListSize = 1 << 20
	var got []string
	for {
		f, err := fr.ReadFrame()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("after %v: %v", got, err)
		}
		got = append(got, f.Header().Type.String())
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			if p := f.PseudoValue("path"); p != "/s/m" {
				t.Errorf("path = %q", p)
			}
		case *http2.WindowUpdateFrame:
			if f.Increment != 4096 || f.StreamID != 3 {
				t.Errorf("window update = %v", f)
			}
		case *http2.RSTStreamFrame:
			if f.ErrCode != http2.ErrCodeCancel {
				t.Errorf("reset = %v", f)
			}
		case *http2.GoAwayFrame:
			if f.LastStreamID != 3 || f.ErrCode != http2.ErrCodeInternal {
				t.Errorf("goaway = %v", f)
			}
		case *http2.DataFrame:
			if !f.StreamEnded() || string(f.Data()) != "\x00\x00\x00\x00\x02hi" {
				t.Errorf("data = %q", f.Data())
			}
		}
	}
	want := []string{"SETTINGS", "SETTINGS", "PING", "WINDOW_UPDATE", "RST_STREAM", "GOAWAY", "HEADERS", "DATA"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// served writes an answer with x/net's framer.
func served(t *testing.T, write func(*http2.Framer, func(...string) []byte)) []byte {
	t.Helper()
	var buf, block bytes.Buffer
	fr := http2.NewFramer(&buf, nil)
	fr.AllowIllegalWrites = true
	enc := hpack.NewEncoder(&block)
	write(fr, func(pairs ...string) []byte {
		block.Reset()
		for i := 0; i+1 < len(pairs); i += 2 {
			if err := enc.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]}); err != nil {
				t.Fatal(err)
			}
		}
		return bytes.Clone(block.Bytes())
	})
	return buf.Bytes()
}

func answerOfTwo(t *testing.T) []byte {
	return served(t, func(fr *http2.Framer, block func(...string) []byte) {
		fr.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 20})
		fr.WriteSettingsAck()
		fr.WritePing(false, [8]byte{9})
		first := block(":status", "200", "content-type", "application/grpc", "x-long", strings.Repeat("v", 100))
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: first[:10]})
		fr.WriteContinuation(1, true, first[10:])
		fr.WriteDataPadded(1, false, []byte("\x00\x00\x00\x00\x02hi"), make([]byte, 7))
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block("grpc-status", "0"), EndHeaders: true, EndStream: true, PadLength: 3})
		// The second block names fields of the dynamic table that the first one filled.
		fr.WriteHeaders(http2.HeadersFrameParam{
			StreamID: 3, BlockFragment: block(":status", "200", "content-type", "application/grpc", "grpc-status", "12"), EndHeaders: true, EndStream: true,
			Priority: http2.PriorityParam{Weight: 7},
		})
		fr.WriteRSTStream(5, http2.ErrCodeRefusedStream)
		fr.WriteGoAway(3, http2.ErrCodeNo, nil)
	})
}

func TestReadAnswer(t *testing.T) {
	b := answerOfTwo(t)
	a, err := ReadAnswer(b)
	if err != nil {
		t.Fatal(err)
	}
	one, three, five := a.Streams[1], a.Streams[3], a.Streams[5]
	if s, ok := one.Status(); !ok || s != "0" || !one.Over() || one.Blocks != 2 {
		t.Errorf("stream 1: %+v", one)
	}
	ms, err := Messages(one.Data)
	if err != nil || len(ms) != 1 || string(ms[0].Body) != "hi" {
		t.Errorf("messages: %v %v", ms, err)
	}
	if s, ok := three.Status(); !ok || s != "12" || three.Blocks != 1 {
		t.Errorf("stream 3: %+v", three)
	}
	if ct, _ := three.Get("content-type"); ct != "application/grpc" {
		t.Errorf("content-type = %q", ct)
	}
	if five.Reset == nil || ErrorName(*five.Reset) != "REFUSED_STREAM" || a.GoAway == nil || *a.GoAway != 0 {
		t.Errorf("reset %v, goaway %v", five.Reset, a.GoAway)
	}
	if got := Acks(nil, a.Frames); !bytes.Equal(got, append(Frame{Type: Settings, Flags: FlagAck}.AppendTo(nil),
		Frame{Type: Ping, Flags: FlagAck, Payload: []byte{9, 0, 0, 0, 0, 0, 0, 0}}.AppendTo(nil)...)) {
		t.Errorf("acks = %x", got)
	}
	cuts := 0
	for i := range b {
		if _, err := ReadAnswer(b[:i]); err != nil {
			t.Fatalf("cut at %d: %v", i, err)
		}
		cuts++
	}
	if cuts == 0 {
		t.Fatal("no cut was tried")
	}
}

func TestReadAnswerRefuses(t *testing.T) {
	settings := AppendSettings(nil)
	block := headerBlock([]Field{{":status", "200"}})
	end := Frame{Type: Headers, Flags: FlagEndHeaders | FlagEndStream, Stream: 1, Payload: block}
	cases := map[string]struct {
		frames []Frame
		want   string
	}{
		"data after the end":     {[]Frame{end, {Type: Data, Stream: 1}}, "goes on after END_STREAM"},
		"headers on stream 0":    {[]Frame{{Type: Headers, Flags: FlagEndHeaders, Payload: block}}, "on stream 0"},
		"ping on a stream":       {[]Frame{{Type: Ping, Stream: 1, Payload: make([]byte, 8)}}, "on stream 1"},
		"short ping":             {[]Frame{{Type: Ping, Payload: make([]byte, 7)}}, "PING of 7"},
		"short goaway":           {[]Frame{{Type: GoAway, Payload: make([]byte, 7)}}, "GOAWAY of 7"},
		"odd settings":           {[]Frame{{Type: Settings, Payload: make([]byte, 5)}}, "SETTINGS of 5"},
		"short window update":    {[]Frame{{Type: WindowUpdate, Payload: make([]byte, 3)}}, "WINDOW_UPDATE of 3"},
		"short reset":            {[]Frame{{Type: RSTStream, Stream: 1, Payload: make([]byte, 3)}}, "RST_STREAM of 3"},
		"push":                   {[]Frame{{Type: PushPromise, Stream: 1}}, "PUSH_PROMISE"},
		"continuation alone":     {[]Frame{{Type: Continuation, Stream: 1}}, "without a header block"},
		"interleaved block":      {[]Frame{{Type: Headers, Stream: 1, Payload: block}, {Type: Data, Stream: 3}}, "inside the header block"},
		"padding beyond payload": {[]Frame{{Type: Data, Flags: FlagPadded, Stream: 1, Payload: []byte{9, 0}}}, "padding"},
		"no pad length":          {[]Frame{{Type: Data, Flags: FlagPadded, Stream: 1}}, "pad length"},
		"no priority":            {[]Frame{{Type: Headers, Flags: FlagPriority | FlagEndHeaders, Stream: 1}}, "priority"},
		"bad index":              {[]Frame{{Type: Headers, Flags: FlagEndHeaders, Stream: 1, Payload: []byte{0xff, 0x7f}}}, "header block"},
		"too many fields":        {[]Frame{{Type: Headers, Flags: FlagEndHeaders, Stream: 1, Payload: bytes.Repeat([]byte{0x88}, maxFields+1)}}, "fields"},
	}
	seen := 0
	for name, c := range cases {
		seen++
		b := bytes.Clone(settings)
		for _, f := range c.frames {
			b = f.AppendTo(b)
		}
		if _, err := ReadAnswer(b); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := ReadAnswer([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")); err == nil {
		t.Error("HTTP/1.1 was taken for HTTP/2")
	}
	if _, err := ReadAnswer(AppendPing(nil, [8]byte{})); err == nil {
		t.Error("an answer without SETTINGS was taken")
	}
	long := bytes.Clone(settings)
	long = Frame{Type: Headers, Stream: 1}.AppendTo(long)
	for range 5 {
		long = Frame{Type: Continuation, Stream: 1, Payload: make([]byte, MaxPayload)}.AppendTo(long)
	}
	if _, err := ReadAnswer(long); err == nil || !strings.Contains(err.Error(), "above") {
		t.Errorf("endless header block: %v", err)
	}
	if seen == 0 {
		t.Fatal("no case ran")
	}
}

func TestMessagesRefuses(t *testing.T) {
	if _, err := Messages([]byte{2, 0, 0, 0, 0}); err == nil || errors.Is(err, ErrIncomplete) {
		t.Errorf("flag 2: %v", err)
	}
	for _, b := range [][]byte{{0}, {0, 0, 0, 0, 1}, {0, 0xff, 0xff, 0xff, 0xff, 1}} {
		if _, err := Messages(b); !errors.Is(err, ErrIncomplete) {
			t.Errorf("%x: %v", b, err)
		}
	}
}

func TestDescribe(t *testing.T) {
	b := AppendSettings([]byte(Preface), [2]uint32{4, 65535})
	b = Call{Stream: 1, Authority: "x", Path: "/a.B/C"}.AppendTo(b)
	b = AppendGoAway(b, 1, 11)
	b = append(b, 1, 2)
	got := Describe(b)
	for _, want := range []string{"client preface", "INITIAL_WINDOW_SIZE=65535", `:path="/a.B/C"`, "END_STREAM", "ENHANCE_YOUR_CALM", "2 bytes that are no whole frame"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	many := bytes.Repeat(AppendPing(nil, [8]byte{}), 1000)
	if n := len(Describe(many)); n > 8<<10 {
		t.Errorf("a description of %d bytes", n)
	}
}

// TestAgainstNetHTTP drives a foreign server: the answer of net/http's HTTP/2 is read here.
func TestAgainstNetHTTP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		w.Write(body)
		w.Header().Set("Grpc-Status", "0")
	}), Protocols: new(http.Protocols)}
	srv.Protocols.SetUnencryptedHTTP2(true)
	go srv.Serve(l)
	defer srv.Close()
	var d net.Dialer
	conn, err := d.DialContext(context.Background(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	b := Call{Stream: 1, Authority: "a", Path: "/echo", Message: []byte("payload")}.AppendTo(AppendSettings([]byte(Preface)))
	if _, err := conn.Write(b); err != nil {
		t.Fatal(err)
	}
	var got []byte
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		got = append(got, buf[:n]...)
		if err != nil {
			t.Fatalf("%v after\n%s", err, Describe(got))
		}
		a, err := ReadAnswer(got)
		if err != nil {
			t.Fatal(err)
		}
		if s := a.Streams[1]; s.Over() {
			ms, err := Messages(s.Data)
			if st, _ := s.Status(); st != "0" || err != nil || len(ms) != 1 || string(ms[0].Body) != "payload" {
				t.Fatalf("status %q, messages %v, %v", st, ms, err)
			}
			return
		}
	}
}

func FuzzReadAnswer(f *testing.F) {
	f.Add(AppendSettings(nil))
	f.Add(Call{Stream: 1, Authority: "x", Path: "/a.B/C", Message: []byte("m")}.AppendTo(AppendSettings(nil)))
	f.Add(AppendGoAway(AppendRSTStream(AppendSettings(nil), 3, 8), 1, 0))
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := ReadAnswer(b)
		if err == nil && !a.Partial {
			var again []byte
			for _, x := range a.Frames {
				again = x.AppendTo(again)
			}
			if len(again) != len(b) {
				t.Errorf("%d bytes were read, %d written again", len(b), len(again))
			}
		}
		for _, s := range a.Streams {
			if len(s.Header)+len(s.Trailer) > maxFields {
				t.Errorf("%d fields are kept", len(s.Header)+len(s.Trailer))
			}
			_, _ = Messages(s.Data)
		}
		if n := len(Describe(b)); n > 256<<10 {
			t.Errorf("a description of %d bytes", n)
		}
	})
}
