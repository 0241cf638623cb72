package proto

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/assay-bench/assay/scenarios/load"
	"github.com/assay-bench/assay/scenarios/wire/h2"
)

// h2Peer is one connection of a server whose frames a test decides.
type h2Peer struct {
	*http2.Framer
	conn net.Conn
	mu   sync.Mutex // of who writes beside requests
}

// locked writes beside requests.
func (p *h2Peer) locked(write func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return write()
}

// answer writes a whole reply of status 200.
func (p *h2Peer) answer(stream uint32, fields ...hpack.HeaderField) error {
	return p.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, EndStream: true, EndHeaders: true, BlockFragment: block(append([]hpack.HeaderField{{Name: ":status", Value: "200"}}, fields...)...)})
}

func block(fields ...hpack.HeaderField) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, f := range fields {
		_ = e.WriteField(f) // a buffer takes everything
	}
	return b.Bytes()
}

// servePeers gives each connection to talk after the prefaces; it is closed when talk returns.
func servePeers(t *testing.T, w *witness, settings []http2.Setting, talk func(*h2Peer)) string {
	return serveConns(t, w, func(conn net.Conn) {
		preface := make([]byte, len(h2.Preface))
		if _, err := io.ReadFull(conn, preface); err != nil {
			return // the probe
		}
		p := &h2Peer{Framer: http2.NewFramer(conn, conn), conn: conn}
		if p.WriteSettings(settings...) == nil {
			talk(p)
		}
	})
}

// requests reads frames and calls f at the end of each request, until f returns false or the connection ends.
func (p *h2Peer) requests(f func(stream uint32) bool) {
	for {
		frame, err := p.ReadFrame()
		if err != nil {
			return
		}
		switch x := frame.(type) {
		case *http2.SettingsFrame:
			if !x.IsAck() && p.locked(p.WriteSettingsAck) != nil {
				return
			}
		case *http2.HeadersFrame:
			if x.StreamEnded() && !f(x.StreamID) {
				return
			}
		case *http2.DataFrame:
			if x.StreamEnded() && !f(x.StreamID) {
				return
			}
		}
	}
}

// both plays a load openly and in the closed model.
func both(t *testing.T, c Config, n int, opt load.Options, check func(t *testing.T, r *load.Result)) {
	t.Helper()
	t.Run("open", func(t *testing.T) {
		check(t, play(t, c, float64(n)*2, time.Second/2, opt))
	})
	t.Run("closed", func(t *testing.T) {
		p := &load.Pool{Callers: open(t, c).Users(8)}
		r, err := load.RunClosed(t.Context(), load.Closed{Duration: time.Minute, Requests: int64(n)}, p, opt)
		if err != nil {
			t.Fatal(err)
		}
		check(t, r)
	})
}

func allOK(n int64) func(t *testing.T, r *load.Result) {
	return func(t *testing.T, r *load.Result) {
		if r.Counts.OK != n || r.Counts.Scheduled != n {
			t.Errorf("counts %+v, errors %v", r.Counts, r.Errors)
		}
	}
}

// A server that takes a number of requests on a connection and then leaves it, as nginx does after 1,000, costs no request,
// and sees none twice.
func TestPeerThatLeaves(t *testing.T) {
	const n, each = 200, 7
	for _, tt := range []struct {
		name string
		warn bool // a first GOAWAY that names no last stream, as RFC 9113 section 6.8 wants
	}{{"at once", false}, {"warned", true}} {
		t.Run(tt.name, func(t *testing.T) {
			w := &witness{}
			addr := servePeers(t, w, nil, func(p *h2Peer) {
				served := 0
				p.requests(func(stream uint32) bool {
					if served == each {
						return true // behind the last one: not looked at
					}
					served++
					w.serve("request")
					if served == each {
						if tt.warn && p.WriteGoAway(1<<31-1, http2.ErrCodeNo, nil) != nil || p.WriteGoAway(stream, http2.ErrCodeNo, nil) != nil {
							return false
						}
					}
					return p.answer(stream) == nil
				})
			})
			c := config(t, "h2c://"+addr+"/")
			c.Conns = 2
			both(t, c, n, load.Options{Timeout: 20 * time.Second}, allOK(n))
			if got := w.saw(2 * n)["request"]; got != 2*n {
				t.Errorf("the server looked at %d requests, %d were asked for", got, 2*n)
			}
		})
	}
}

// A server that closes idle connections costs nothing, though nothing was granted on them.
func TestPeerThatLeavesIdleConnections(t *testing.T) {
	addr := servePeers(t, &witness{}, nil, func(p *h2Peer) {
		time.AfterFunc(1030*time.Millisecond, func() {
			_ = p.locked(func() error { return p.WriteGoAway(1<<31-1, http2.ErrCodeNo, nil) }) // the client may have gone
		})
		p.requests(func(stream uint32) bool { return p.locked(func() error { return p.answer(stream) }) == nil })
	})
	c := config(t, "h2c://"+addr+"/")
	c.Conns = 9 // the last of them is asked just after it was left
	allOK(12)(t, play(t, c, 7.7, 1550*time.Millisecond, load.Options{Timeout: 20 * time.Second}))
}

// A lost connection costs what was in flight on it, and the next one goes on.
func TestPeerThatIsLost(t *testing.T) {
	const n = 200
	addr := servePeers(t, &witness{}, nil, func(p *h2Peer) {
		served := 0
		p.requests(func(stream uint32) bool {
			served++
			return served < 20 && p.answer(stream) == nil
		})
	})
	c := config(t, "h2c://"+addr+"/")
	c.Conns = 2
	both(t, c, n, load.Options{Timeout: 20 * time.Second}, func(t *testing.T, r *load.Result) {
		if r.Counts.OK < n*3/4 || r.Counts.Error < n/25 || r.Counts.OK+r.Counts.Error != n {
			t.Errorf("counts %+v, errors %v", r.Counts, r.Errors)
		}
	})
}

// Never more streams at once than the server allows.
func TestPeerThatAllowsFewStreams(t *testing.T) {
	const n, most = 100, 2
	w := &witness{delay: time.Millisecond}
	var mu sync.Mutex
	open, peak := map[string]int{}, 0
	addr := servePeers(t, w, []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: most}}, func(p *h2Peer) {
		key := p.conn.RemoteAddr().String()
		p.requests(func(stream uint32) bool {
			mu.Lock()
			open[key]++
			peak = max(peak, open[key])
			mu.Unlock()
			go func() {
				w.serve("request")
				mu.Lock()
				open[key]--
				mu.Unlock()
				_ = p.locked(func() error { return p.answer(stream) }) // the client may have gone
			}()
			return true
		})
	})
	c := config(t, "h2c://"+addr+"/")
	c.Conns = 1
	both(t, c, n, load.Options{Timeout: 20 * time.Second}, allOK(n))
	mu.Lock()
	defer mu.Unlock()
	if peak == 0 || peak > most {
		t.Errorf("%d streams at once, %d are allowed", peak, most)
	}
}

// Bodies larger than every window arrive whole, beside one another, on net/http.
func TestBodiesBeyondTheWindows(t *testing.T) {
	const size, n = 300_000, 20
	w := &witness{}
	sum := hashOf(size)
	addr := serveHTTP(t, w, nil, http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		body, err := io.ReadAll(in.Body)
		if err != nil || !bytes.Equal(hashOf(len(body)), sum) {
			out.WriteHeader(http.StatusBadRequest)
		}
		_, _ = out.Write(body) // the client may have gone
	}))
	c := config(t, "h2c://"+addr+"/")
	c.Body, c.Conns = bytes.Repeat([]byte("assay123"), size/8), 2
	both(t, c, n, load.Options{Timeout: 20 * time.Second}, allOK(n))
}

// A request that times out is reset, so that the server need not go on, and its connection serves the others.
func TestTimeoutResetsTheStream(t *testing.T) {
	const n = 60
	var mu sync.Mutex
	resets := 0
	addr := servePeers(t, &witness{}, nil, func(p *h2Peer) {
		seen := 0
		for {
			frame, err := p.ReadFrame()
			if err != nil {
				return
			}
			switch x := frame.(type) {
			case *http2.HeadersFrame:
				if seen++; seen%3 > 0 && p.answer(x.StreamID) != nil {
					return
				}
			case *http2.RSTStreamFrame:
				mu.Lock()
				resets++
				mu.Unlock()
			}
		}
	})
	c := config(t, "h2c://"+addr+"/")
	c.Conns = 1
	r := play(t, c, 200, n*5*time.Millisecond, load.Options{Timeout: 300 * time.Millisecond, Drain: time.Second, LatenessBound: time.Hour})
	if r.Counts.OK != n*2/3 || r.Counts.Timeout != n/3 {
		t.Errorf("counts %+v, errors %v", r.Counts, r.Errors)
	}
	mu.Lock()
	defer mu.Unlock()
	if resets < n/6 { // the last ones may end with the run
		t.Errorf("the server saw %d resets", resets)
	}
}

// What a reply must be like; everything else is an error of its kind, and the connection goes on.
func TestRepliesThatAreWrong(t *testing.T) {
	status := func(code string, more ...hpack.HeaderField) []byte {
		return block(append([]hpack.HeaderField{{Name: ":status", Value: code}}, more...)...)
	}
	for name, tt := range map[string]struct {
		answer func(p *h2Peer, stream uint32) error
		want   string // kind of error; empty: granted
	}{
		"interim": {func(p *h2Peer, s uint32) error {
			_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: s, EndHeaders: true, BlockFragment: status("103")})
			return p.answer(s)
		}, ""},
		"in parts": {func(p *h2Peer, s uint32) error {
			b := status("200")
			_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: s, EndStream: true, BlockFragment: b[:1]})
			return p.WriteContinuation(s, true, b[1:])
		}, ""},
		"padded": {func(p *h2Peer, s uint32) error {
			_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: s, EndHeaders: true, PadLength: 9, BlockFragment: status("200", hpack.HeaderField{Name: "content-length", Value: "2"})})
			return p.WriteDataPadded(s, true, []byte("ok"), make([]byte, 7))
		}, ""},
		"no status": {func(p *h2Peer, s uint32) error {
			return p.WriteHeaders(http2.HeadersFrameParam{StreamID: s, EndStream: true, EndHeaders: true, BlockFragment: block(hpack.HeaderField{Name: "a", Value: "b"})})
		}, "reply without a status"},
		"interim alone": {func(p *h2Peer, s uint32) error {
			return p.WriteHeaders(http2.HeadersFrameParam{StreamID: s, EndStream: true, EndHeaders: true, BlockFragment: status("103")})
		}, "an interim reply alone"},
		"two heads": {func(p *h2Peer, s uint32) error {
			_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: s, EndHeaders: true, BlockFragment: status("200")})
			return p.WriteHeaders(http2.HeadersFrameParam{StreamID: s, EndHeaders: true, BlockFragment: status("200")})
		}, "a second header before the end of a reply"},
		"short": {func(p *h2Peer, s uint32) error {
			_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: s, EndHeaders: true, BlockFragment: status("200", hpack.HeaderField{Name: "content-length", Value: "3"})})
			return p.WriteData(s, true, []byte("ok"))
		}, "body of another length than the header says"},
		"refused": {func(p *h2Peer, s uint32) error { return p.WriteRSTStream(s, http2.ErrCodeRefusedStream) }, "stream reset: REFUSED_STREAM"},
		"status": {func(p *h2Peer, s uint32) error {
			return p.WriteHeaders(http2.HeadersFrameParam{StreamID: s, EndStream: true, EndHeaders: true, BlockFragment: status("500")})
		}, "HTTP status 500"},
	} {
		t.Run(name, func(t *testing.T) {
			w := &witness{}
			addr := servePeers(t, w, nil, func(p *h2Peer) {
				p.requests(func(stream uint32) bool { return tt.answer(p, stream) == nil })
			})
			c := config(t, "h2c://"+addr+"/")
			c.Conns = 1
			both(t, c, 20, load.Options{Timeout: 20 * time.Second}, func(t *testing.T, r *load.Result) {
				if tt.want == "" {
					allOK(20)(t, r)
				} else if r.Errors[tt.want] != 20 {
					t.Errorf("counts %+v, errors %v, want 20 of %q", r.Counts, r.Errors, tt.want)
				}
			})
			if conns := w.conns.Load(); conns > 5 { // probes and one each
				t.Errorf("%d connections for replies of one", conns)
			}
		})
	}
}

// lone is a session that has said hello and sent n requests.
func loneSession(n int) *h2Session {
	l := &h2Load{exchange: exchange{grant: plainHTTP(Config{}).grant, field: "x"}, requests: []*h2Request{{
		fields: []hpack.HeaderField{{Name: ":method", Value: "POST"}}, body: []byte("hello"),
	}}}
	s := newH2Session(l)
	s.Control(nil)
	if _, err := s.Read(h2.AppendSettings(nil), func(load.Ending) {}); err != nil {
		panic(err)
	}
	s.Control(nil)
	for id := range n {
		s.Request(nil, uint64(id))
	}
	return s
}

// What breaks HTTP/2 itself ends the connection.
func TestConnectionErrors(t *testing.T) {
	frame := func(kind h2.Type, flags uint8, stream uint32, payload string) []byte {
		return h2.Frame{Type: kind, Flags: flags, Stream: stream, Payload: []byte(payload)}.AppendTo(nil)
	}
	for name, raw := range map[string][]byte{
		"not HTTP/2":        []byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
		"large frame":       {0x01, 0, 0, 0, 0, 0, 0, 0, 1},
		"data on no stream": frame(h2.Data, 0, 99, "x"),
		"even stream":       frame(h2.Headers, h2.FlagEndHeaders, 2, "\x88"),
		"data first":        frame(h2.Data, 0, 1, "x"),
		"interrupted":       append(frame(h2.Headers, 0, 1, "\x88"), frame(h2.Ping, 0, 0, "12345678")...),
		"continuation":      frame(h2.Continuation, h2.FlagEndHeaders, 1, "\x88"),
		"bad block":         frame(h2.Headers, h2.FlagEndHeaders, 1, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
		"push":              frame(h2.PushPromise, h2.FlagEndHeaders, 1, "\x00\x00\x00\x02\x82"),
		"window of 0":       frame(h2.WindowUpdate, 0, 0, "\x00\x00\x00\x00"),
		"goaway":            h2.AppendGoAway(nil, 0, uint32(http2.ErrCodeEnhanceYourCalm)),
		"short reset":       frame(h2.RSTStream, 0, 1, "x"),
		"settings":          frame(h2.Settings, 0, 0, "x"),
		"padding":           frame(h2.Data, h2.FlagPadded, 1, "\x09x"),
		"huge head": func() (b []byte) {
			b = frame(h2.Headers, 0, 1, strings.Repeat("\x00", 16_000))
			for range 4 {
				b = append(b, frame(h2.Continuation, 0, 1, strings.Repeat("\x00", 16_000))...)
			}
			return b
		}(),
		"flood": bytes.Repeat(frame(h2.Ping, 0, 0, "12345678"), mostPending/17+2),
	} {
		s := loneSession(2)
		if _, err := s.Read(raw, func(load.Ending) {}); err == nil {
			t.Errorf("%s: the session goes on", name)
		}
	}
	s := newH2Session(&h2Load{})
	if _, err := s.Read(frame(h2.Ping, 0, 0, "12345678"), func(load.Ending) {}); err == nil {
		t.Error("a peer that does not begin with SETTINGS: the session goes on")
	}
}

// A peer may allow no stream for a while.
func TestNoStreamForAWhile(t *testing.T) {
	s := newH2Session(&h2Load{})
	for _, tt := range []struct {
		most  uint32
		ready bool
	}{{0, false}, {1, true}, {0, false}, {100, true}} {
		raw := h2.AppendPing(h2.AppendSettings(nil, [2]uint32{uint32(http2.SettingMaxConcurrentStreams), tt.most}), [8]byte{})
		if taken, err := s.Read(raw, func(load.Ending) {}); err != nil || !taken.Write || s.Ready() != tt.ready {
			t.Errorf("%d streams: %+v, %v, ready %v", tt.most, taken, err, s.Ready())
		}
	}
}

// Pages of streams that have ended are not kept.
func TestStreamsAreForgotten(t *testing.T) {
	s := loneSession(0)
	for id := range uint64(10 * pageStreams) {
		s.Request(nil, id)
		if id == 5 {
			continue // stays open
		}
		n := 0
		reply := h2.Frame{Type: h2.Headers, Flags: h2.FlagEndHeaders | h2.FlagEndStream, Stream: uint32(2*id + 1), Payload: block(hpack.HeaderField{Name: ":status", Value: "204"})}.AppendTo(nil)
		if _, err := s.Read(reply, func(e load.Ending) { n++ }); err != nil || n != 1 {
			t.Fatalf("request %d: %d endings, %v", id, n, err)
		}
	}
	if n := len(s.book.Load().pages); n > 3 {
		t.Errorf("%d pages for one open stream", n)
	}
	var open []uint64
	s.Each(func(id uint64) bool { open = append(open, id); return true })
	if len(open) != 1 || open[0] != 5 || s.open.Load() != 0 {
		t.Errorf("open: %v, %d counted", open, s.open.Load())
	}
}

// Whatever a peer sends, every request ends at most once, what was taken lies in the buffer, and nothing is kept without bound.
func FuzzH2Session(f *testing.F) {
	f.Add(h2.Frame{Type: h2.Headers, Flags: h2.FlagEndHeaders | h2.FlagEndStream, Stream: 1, Payload: []byte("\x88")}.AppendTo(nil))
	f.Add(h2.AppendGoAway(h2.AppendRSTStream(nil, 3, 8), 1, 0))
	f.Add(h2.AppendWindowUpdate(h2.AppendSettings(nil, [2]uint32{4, 1}, [2]uint32{3, 1}, [2]uint32{1, 0}), 0, 1))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s := loneSession(4)
		ended := map[uint64]bool{}
		end := func(e load.Ending) {
			if e.ID >= 8 || ended[e.ID] {
				t.Fatalf("request %d ended, before: %v", e.ID, ended)
			}
			ended[e.ID] = true
		}
		for have, fresh := 0, uint64(4); have < len(raw); { // a part at a time, as a socket gives it
			part := raw[have:min(have+64, len(raw))]
			taken, err := s.Read(part, end)
			if taken.Bytes > len(part) || taken.Open > 8 {
				t.Fatalf("%+v of %d bytes", taken, len(part))
			}
			if err != nil || taken.Bytes == 0 {
				break
			}
			have += taken.Bytes
			s.Control(nil)
			if fresh < 8 && s.Ready() {
				s.Request(nil, fresh)
				fresh++
			}
		}
		s.Back(func(id uint64) { end(load.Ending{ID: id}) })
		s.Each(func(id uint64) bool { end(load.Ending{ID: id}); return true })
		if s.open.Load() != 0 || len(s.pending) > mostPending+64 {
			t.Fatalf("%d streams stay open, %d bytes pending", s.open.Load(), len(s.pending))
		}
	})
}

// A server that takes no connection any more makes errors, not silence.
func TestPeerThatGoesAway(t *testing.T) {
	l := listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		<-ctx.Done()
		_ = l.Close()
	}()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				p := &h2Peer{Framer: http2.NewFramer(conn, conn), conn: conn}
				defer conn.Close()
				if _, err := io.ReadFull(conn, make([]byte, len(h2.Preface))); err != nil || p.WriteSettings() != nil {
					return
				}
				n := 0
				p.requests(func(stream uint32) bool {
					if n++; n == 20 {
						cancel()
						return false
					}
					return p.answer(stream) == nil
				})
			}()
		}
	}()
	c := config(t, fmt.Sprintf("h2c://%s/", l.Addr()))
	c.Conns = 1
	r := play(t, c, 400, time.Second/2, load.Options{Timeout: 2 * time.Second, LatenessBound: time.Hour})
	if r.Counts.OK != 19 || r.Counts.Error != 181 {
		t.Errorf("counts %+v, errors %v", r.Counts, r.Errors)
	}
}
