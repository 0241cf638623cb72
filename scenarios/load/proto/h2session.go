package proto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/assay-bench/assay/scenarios/load"
	"github.com/assay-bench/assay/scenarios/wire/h2"
	"github.com/assay-bench/assay/scenarios/wire/http1"
)

// Bounds of an HTTP/2 connection (RFC 9113).
const (
	firstWindow = 65_535        // of a connection and of each stream (section 6.9.2)
	ourWindow   = http1.MaxBody // of a reply's stream: no stream needs more credit
	ourCredit   = 1 << 30       // of the connection; renewed when half of it is used
	topWindow   = 1<<31 - 1
	mostStreams = 1 << 30   // requests of one connection: stream identifiers end
	mostPending = 1 << 20   // bytes of acknowledgements that a peer may make wait
	mostChunk   = 256 << 10 // bytes of bodies that are encoded at once
	pageStreams = 256
)

// h2Session is one HTTP/2 connection of a load: request n is stream 2n+1. What the pacer writes is decided without a lock
// that a reader holds; only acknowledgements, which are few, wait under one.
type h2Session struct {
	load *h2Load

	// Of whoever writes:
	greeted    bool
	encoder    *hpack.Encoder
	block      bytes.Buffer
	table      uint32      // the encoder's limit
	sent       int64       // bytes of DATA
	unfinished []*h2Stream // with a body that the windows have kept back
	book       atomic.Pointer[h2Book]

	// Of whoever reads:
	decoder  *hpack.Decoder
	fields   h2Fields
	head     []byte // of a header block that goes on
	headOf   uint32 // its stream; 0: none
	headEnds bool   // and it is the last of the stream
	got      int64  // bytes of DATA since the credit was renewed

	// Of both:
	opened  atomic.Uint32 // streams so far
	open    atomic.Int64
	most    atomic.Int64 // streams at once that the peer allows; noHello: it has not said
	window  atomic.Int64 // of each stream
	credit  atomic.Int64 // bytes of DATA that the connection allows in all
	limit   atomic.Uint32
	waiting atomic.Int32 // length of unfinished
	final   atomic.Int64 // the last stream that a leaving peer looks at; noGoAway: it is not leaving

	mu      sync.Mutex
	pending []byte // acknowledgements and resets, guarded by mu
	acks    atomic.Bool
}

const (
	noGoAway = -1
	noHello  = -1
)

// h2Stream is a request under way.
type h2Stream struct {
	id     atomic.Uint64 // of the request, plus 1; 0: it has ended
	number uint32        // of the stream
	credit atomic.Int64  // that the peer gave beside the window

	// Of whoever writes:
	body []byte // what is left of it
	sent int64

	// Of whoever reads:
	status  int
	field   string
	message string
	kept    []byte
	size    int64
	length  int64 // that the header promised; below 0: none
}

// h2Page notes streams whose numbers follow one another.
type h2Page struct {
	first   uint32 // index of the first stream
	left    atomic.Int32
	streams [pageStreams]h2Stream
}

// h2Book is the pages that have open streams, oldest first, and the one for the next. Whoever writes replaces it.
type h2Book struct{ pages []*h2Page }

func newH2Session(l *h2Load) *h2Session {
	s := &h2Session{load: l, table: 4096}
	s.encoder = hpack.NewEncoder(&s.block)
	s.decoder = hpack.NewDecoder(4096, s.fields.take)
	s.decoder.SetMaxStringLength(http1.MaxHead)
	s.window.Store(firstWindow)
	s.credit.Store(firstWindow)
	s.limit.Store(4096)
	s.final.Store(noGoAway)
	s.most.Store(noHello)
	s.book.Store(&h2Book{})
	return s
}

var _ load.Session = (*h2Session)(nil)

// Ready tells whether the peer allows another stream.
func (s *h2Session) Ready() bool {
	return s.open.Load() < s.most.Load() && s.final.Load() == noGoAway && s.opened.Load() < mostStreams
}

// Control appends the preface, acknowledgements, and bodies that were kept back.
func (s *h2Session) Control(dst []byte) []byte {
	if !s.greeted {
		s.greeted = true
		dst = append(dst, h2.Preface...)
		dst = h2.AppendSettings(dst,
			[2]uint32{uint32(http2.SettingEnablePush), 0},
			[2]uint32{uint32(http2.SettingInitialWindowSize), ourWindow},
			[2]uint32{uint32(http2.SettingMaxHeaderListSize), http1.MaxHead})
		dst = h2.AppendWindowUpdate(dst, 0, ourCredit-firstWindow)
	}
	if s.acks.Load() {
		s.mu.Lock()
		dst = append(dst, s.pending...)
		s.pending = s.pending[:0]
		s.acks.Store(false)
		s.mu.Unlock()
	}
	if len(s.unfinished) > 0 {
		dst = s.bodies(dst)
	}
	return dst
}

// bodies appends what the windows allow of bodies under way.
func (s *h2Session) bodies(dst []byte) []byte {
	begin, keep := len(dst), s.unfinished[:0]
	for _, x := range s.unfinished {
		switch {
		case x.id.Load() == 0: // the peer has answered, or nobody waits any more
			dst = h2.AppendRSTStream(dst, x.number, uint32(http2.ErrCodeCancel))
			x.body = nil
		case len(dst)-begin < mostChunk:
			dst = s.data(dst, x, begin)
		}
		if len(x.body) > 0 {
			keep = append(keep, x)
		}
	}
	clear(s.unfinished[len(keep):])
	s.unfinished = keep
	s.waiting.Store(int32(len(keep)))
	return dst
}

// data appends DATA frames of a stream, as far as the windows go. The last one ends it.
func (s *h2Session) data(dst []byte, x *h2Stream, begin int) []byte {
	for len(x.body) > 0 && len(dst)-begin < mostChunk {
		room := min(s.credit.Load()-s.sent, s.window.Load()+x.credit.Load()-x.sent, h2.MaxPayload, int64(len(x.body)))
		if room <= 0 {
			break
		}
		f := h2.Frame{Type: h2.Data, Stream: x.number, Payload: x.body[:room]}
		if x.body = x.body[room:]; len(x.body) == 0 {
			f.Flags = h2.FlagEndStream
		}
		dst = f.AppendTo(dst)
		s.sent += room
		x.sent += room
	}
	return dst
}

// Request appends the frames of a request.
func (s *h2Session) Request(dst []byte, id uint64) ([]byte, bool) {
	if limit := s.limit.Load(); limit != s.table {
		s.table = limit
		s.encoder.SetMaxDynamicTableSizeLimit(limit)
		s.encoder.SetMaxDynamicTableSize(min(limit, 4096))
	}
	x := s.begin(id)
	if s.final.Load() != noGoAway { // a peer that leaves from now on is told what was begun by Back
		s.drop(x)
		return dst, false
	}
	r := s.load.request(id)
	dst = s.headers(dst, x.number, r)
	if x.body = r.body; len(x.body) > 0 {
		if dst = s.data(dst, x, len(dst)); len(x.body) > 0 {
			s.unfinished = append(s.unfinished, x)
			s.waiting.Store(int32(len(s.unfinished)))
		}
	}
	return dst, true
}

// headers appends the header block of a request.
func (s *h2Session) headers(dst []byte, number uint32, r *h2Request) []byte {
	s.block.Reset()
	for _, f := range r.fields {
		_ = s.encoder.WriteField(f) // a buffer takes everything
	}
	f := h2.Frame{Type: h2.Headers, Stream: number}
	if len(r.body) == 0 {
		f.Flags = h2.FlagEndStream
	}
	for rest := s.block.Bytes(); ; {
		f.Payload = rest[:min(len(rest), h2.MaxPayload)]
		if rest = rest[len(f.Payload):]; len(rest) == 0 {
			f.Flags |= h2.FlagEndHeaders
			return f.AppendTo(dst)
		}
		dst = f.AppendTo(dst)
		f.Type, f.Flags = h2.Continuation, 0
	}
}

// begin notes a stream, before anybody can hear of it.
func (s *h2Session) begin(id uint64) *h2Stream {
	n, pages := s.opened.Load(), s.book.Load().pages
	if len(pages) == 0 || n == pages[len(pages)-1].first+pageStreams {
		var live []*h2Page
		for _, p := range pages {
			if p.left.Load() > 0 {
				live = append(live, p)
			}
		}
		fresh := &h2Page{first: n}
		fresh.left.Store(pageStreams)
		pages = append(live, fresh)
		s.book.Store(&h2Book{pages})
	}
	page := pages[len(pages)-1]
	x := &page.streams[n-page.first]
	x.number = 2*n + 1
	x.id.Store(id + 1)
	s.open.Add(1)
	s.opened.Store(n + 1)
	return x
}

// drop ends a stream; ok is false when somebody else did.
func (s *h2Session) drop(x *h2Stream) (id uint64, ok bool) {
	id = x.id.Load()
	if id == 0 || !x.id.CompareAndSwap(id, 0) {
		return 0, false
	}
	s.open.Add(-1)
	for _, p := range s.book.Load().pages {
		if n := x.number / 2; n >= p.first && n-p.first < pageStreams {
			p.left.Add(-1)
		}
	}
	return id - 1, true
}

// stream returns the stream with this number, unless it has ended.
func (s *h2Session) stream(number uint32) *h2Stream {
	n := number / 2
	for _, p := range s.book.Load().pages {
		if n >= p.first && n-p.first < pageStreams {
			if x := &p.streams[n-p.first]; x.id.Load() != 0 {
				return x
			}
			return nil
		}
	}
	return nil
}

// Each walks over the open streams.
func (s *h2Session) Each(f func(id uint64) bool) {
	for _, p := range s.book.Load().pages {
		for i := range p.streams {
			x := &p.streams[i]
			if id := x.id.Load(); id != 0 && f(id-1) {
				if _, ok := s.drop(x); ok {
					s.reset(x.number, http2.ErrCodeCancel)
				}
			}
		}
	}
}

// Back gives up the streams behind the last one that a leaving peer looks at.
func (s *h2Session) Back(f func(id uint64)) {
	final := s.final.Load()
	if final == noGoAway {
		return
	}
	for _, p := range s.book.Load().pages {
		for i := range p.streams {
			x := &p.streams[i]
			if x.id.Load() != 0 && int64(x.number) > final {
				if id, ok := s.drop(x); ok {
					f(id)
				}
			}
		}
	}
}

// pend adds bytes to what Control brings next.
func (s *h2Session) pend(write func(dst []byte) []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pending) <= mostPending {
		s.pending = write(s.pending)
		s.acks.Store(true)
	}
}

func (s *h2Session) reset(number uint32, code http2.ErrCode) {
	s.pend(func(dst []byte) []byte { return h2.AppendRSTStream(dst, number, uint32(code)) })
}

// errFlood ends a connection whose peer makes more acknowledgements wait than it reads.
var errFlood = errors.New("the peer asks for more acknowledgements than it takes")

func (s *h2Session) acknowledge(write func(dst []byte) []byte) error {
	s.mu.Lock()
	full := len(s.pending) > mostPending
	s.mu.Unlock()
	if full {
		return errFlood
	}
	s.pend(write)
	return nil
}

// Read takes whole frames.
func (s *h2Session) Read(buf []byte, end func(load.Ending)) (t load.Taken, err error) {
	for rest := buf; len(rest) > 0 && err == nil; t.Bytes = len(buf) - len(rest) {
		var f h2.Frame
		if f, rest, err = h2.ReadFrame(rest); errors.Is(err, h2.ErrIncomplete) {
			err = nil
			break
		}
		if err == nil {
			var write bool
			write, err = s.frame(f, end)
			t.Write = t.Write || write
		}
	}
	if err != nil {
		err = fmt.Errorf("HTTP/2: %w", err)
	}
	t.Write = t.Write || s.acks.Load()
	t.Leaving = s.final.Load() != noGoAway || s.opened.Load() >= mostStreams
	t.Open = int(s.open.Load())
	return t, err
}

// frame takes one frame. write: the peer has made room.
func (s *h2Session) frame(f h2.Frame, end func(load.Ending)) (write bool, err error) {
	if s.most.Load() == noHello && f.Type != h2.Settings {
		return false, errors.New("the peer does not begin with SETTINGS: it does not speak the protocol")
	}
	if s.headOf != 0 && (f.Type != h2.Continuation || f.Stream != s.headOf) {
		return false, errors.New("a header block is interrupted")
	}
	switch f.Type {
	case h2.Data, h2.Headers, h2.RSTStream, h2.Continuation:
		if f.Stream%2 == 0 || f.Stream/2 >= s.opened.Load() {
			return false, fmt.Errorf("%s on stream %d, which nobody opened", f.Type, f.Stream)
		}
	}
	before := s.open.Load()
	switch f.Type {
	case h2.Data:
		err = s.takeData(f, end)
	case h2.Headers:
		err = s.takeHeaders(f, end)
	case h2.Continuation:
		err = s.takeBlock(f, f.Payload, end)
	case h2.RSTStream:
		err = s.takeReset(f, end)
	case h2.Settings:
		write, err = true, s.takeSettings(f)
	case h2.Ping:
		err = s.takePing(f)
	case h2.GoAway:
		write, err = true, s.takeGoAway(f)
	case h2.WindowUpdate:
		write, err = s.waiting.Load() > 0, s.takeWindow(f)
	case h2.PushPromise:
		err = errors.New("PUSH_PROMISE, which was not allowed")
	}
	most := s.most.Load()
	return write || before >= most && s.open.Load() < most, err
}

func (s *h2Session) takeData(f h2.Frame, end func(load.Ending)) error {
	body, err := f.Content()
	if err != nil {
		return err
	}
	if s.got += int64(len(f.Payload)); s.got > ourCredit {
		return errors.New("more DATA than the connection's window allows")
	}
	if s.got > ourCredit/2 {
		renew := uint32(s.got)
		s.got = 0
		s.pend(func(dst []byte) []byte { return h2.AppendWindowUpdate(dst, 0, renew) })
	}
	x := s.stream(f.Stream)
	if x == nil {
		return nil // nobody waits for it any more
	}
	if x.status == 0 {
		return errors.New("DATA before the header of a reply")
	}
	if x.size += int64(len(body)); x.size > s.load.most() {
		s.refuse(x, end, fmt.Sprintf("body of more than %d bytes", s.load.most()))
		return nil
	}
	if most := max(s.load.keep, s.load.peek); len(x.kept) < most {
		x.kept = append(x.kept, body[:min(len(body), most-len(x.kept))]...)
	}
	if f.Has(h2.FlagEndStream) {
		s.finish(x, end)
	}
	return nil
}

func (s *h2Session) takeHeaders(f h2.Frame, end func(load.Ending)) error {
	block, err := f.Content()
	if err != nil {
		return err
	}
	s.head, s.headOf, s.headEnds = s.head[:0], f.Stream, f.Has(h2.FlagEndStream)
	return s.takeBlock(f, block, end)
}

// takeBlock takes a part of a header block, and reads the block when it is whole.
func (s *h2Session) takeBlock(f h2.Frame, part []byte, end func(load.Ending)) error {
	if s.headOf == 0 {
		return errors.New("CONTINUATION without HEADERS")
	}
	if len(s.head)+len(part) > http1.MaxHead {
		return fmt.Errorf("header block of more than %d bytes", http1.MaxHead)
	}
	if !f.Has(h2.FlagEndHeaders) {
		s.head = append(s.head, part...)
		return nil
	}
	if len(s.head) > 0 {
		s.head = append(s.head, part...)
		part = s.head
	}
	number := s.headOf
	s.headOf = 0
	s.fields.begin(s.load.field)
	if _, err := s.decoder.Write(part); err != nil {
		return fmt.Errorf("header block: %w", err)
	}
	if err := s.decoder.Close(); err != nil {
		return fmt.Errorf("header block: %w", err)
	}
	if s.fields.size > http1.MaxHead {
		return fmt.Errorf("header of more than %d bytes", http1.MaxHead)
	}
	if x := s.stream(number); x != nil {
		s.reply(x, end)
	}
	return nil
}

// reply takes the fields of a header or of trailers.
func (s *h2Session) reply(x *h2Stream, end func(load.Ending)) {
	switch got := &s.fields; {
	case x.status == 0 && (got.status < 100 || got.status > 999):
		s.refuse(x, end, "reply without a status")
		return
	case x.status == 0 && got.status < 200:
		if s.headEnds { // an interim reply (RFC 9110 section 15.2) goes on
			s.refuse(x, end, "an interim reply alone")
		}
		return
	case x.status != 0 && !s.headEnds:
		s.refuse(x, end, "a second header before the end of a reply")
		return
	default:
		if x.status == 0 {
			x.status, x.length = got.status, got.length
		}
		if got.field != "" {
			x.field = got.field
		}
		if got.message != "" {
			x.message = got.message
		}
	}
	if s.headEnds {
		s.finish(x, end)
	}
}

// finish tells the end of a stream whose reply is whole.
func (s *h2Session) finish(x *h2Stream, end func(load.Ending)) {
	err := s.load.grant(reply{status: x.status, body: x.kept, field: x.field, message: x.message, size: x.size})
	if x.length >= 0 && x.length != x.size && !s.load.bodiless(x.status) {
		err = errors.New("body of another length than the header says") // RFC 9113 section 8.1.1
	}
	if id, ok := s.drop(x); ok {
		end(load.Ending{ID: id, Fault: text(err)})
	}
}

// refuse ends a stream whose reply is wrong.
func (s *h2Session) refuse(x *h2Stream, end func(load.Ending), fault string) {
	if id, ok := s.drop(x); ok {
		s.reset(x.number, http2.ErrCodeProtocol)
		end(load.Ending{ID: id, Fault: fault})
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func (s *h2Session) takeReset(f h2.Frame, end func(load.Ending)) error {
	if len(f.Payload) != 4 {
		return fmt.Errorf("RST_STREAM of %d bytes", len(f.Payload))
	}
	if x := s.stream(f.Stream); x != nil {
		if id, ok := s.drop(x); ok {
			end(load.Ending{ID: id, Fault: fmt.Sprintf("stream reset: %v", http2.ErrCode(binary.BigEndian.Uint32(f.Payload)))})
		}
	}
	return nil
}

func (s *h2Session) takeSettings(f h2.Frame) error {
	if f.Stream != 0 || len(f.Payload)%6 != 0 || f.Has(h2.FlagAck) && len(f.Payload) > 0 {
		return errors.New("malformed SETTINGS")
	}
	if f.Has(h2.FlagAck) {
		return nil
	}
	most := int64(mostStreams)
	if was := s.most.Load(); was != noHello {
		most = was
	}
	for p := f.Payload; len(p) > 0; p = p[6:] {
		value := binary.BigEndian.Uint32(p[2:])
		switch http2.SettingID(binary.BigEndian.Uint16(p)) {
		case http2.SettingMaxConcurrentStreams:
			most = int64(min(value, mostStreams))
		case http2.SettingInitialWindowSize:
			if value > topWindow {
				return fmt.Errorf("SETTINGS_INITIAL_WINDOW_SIZE of %d", value)
			}
			s.window.Store(int64(value))
		case http2.SettingHeaderTableSize:
			s.limit.Store(value)
		}
	}
	s.most.Store(most)
	return s.acknowledge(func(dst []byte) []byte { return h2.Frame{Type: h2.Settings, Flags: h2.FlagAck}.AppendTo(dst) })
}

func (s *h2Session) takePing(f h2.Frame) error {
	if f.Stream != 0 || len(f.Payload) != 8 {
		return errors.New("malformed PING")
	}
	if f.Has(h2.FlagAck) {
		return nil
	}
	return s.acknowledge(func(dst []byte) []byte {
		return h2.Frame{Type: h2.Ping, Flags: h2.FlagAck, Payload: f.Payload}.AppendTo(dst)
	})
}

// takeGoAway notes that the peer leaves. One that leaves for an error has not merely had enough: nothing is sent again.
func (s *h2Session) takeGoAway(f h2.Frame) error {
	if f.Stream != 0 || len(f.Payload) < 8 {
		return errors.New("malformed GOAWAY")
	}
	last, code := binary.BigEndian.Uint32(f.Payload)&topWindow, http2.ErrCode(binary.BigEndian.Uint32(f.Payload[4:]))
	if code != http2.ErrCodeNo {
		return fmt.Errorf("the peer ends the connection: %v", code)
	}
	if was := s.final.Load(); was != noGoAway && int64(last) > was {
		return errors.New("a GOAWAY that takes back another one")
	}
	s.final.Store(int64(last))
	return nil
}

func (s *h2Session) takeWindow(f h2.Frame) error {
	if len(f.Payload) != 4 {
		return fmt.Errorf("WINDOW_UPDATE of %d bytes", len(f.Payload))
	}
	more := int64(binary.BigEndian.Uint32(f.Payload) & topWindow)
	if more == 0 {
		return errors.New("WINDOW_UPDATE of 0")
	}
	if f.Stream == 0 {
		s.credit.Add(more)
		return nil
	}
	if x := s.stream(f.Stream); x != nil {
		x.credit.Add(more)
	}
	return nil
}

// h2Fields are what a load looks at of a header block.
type h2Fields struct {
	want           string // name of a field, in lower case
	status         int
	field, message string
	size           int
	length         int64
}

func (h *h2Fields) begin(want string) { *h = h2Fields{want: want, length: -1} }

func (h *h2Fields) take(f hpack.HeaderField) {
	h.size += len(f.Name) + len(f.Value) + 32 // RFC 9113 section 6.5.2
	switch {
	case f.Name == ":status":
		h.status, _ = strconv.Atoi(f.Value) // 0 is no status
	case f.Name == "content-length":
		if n, err := strconv.ParseUint(f.Value, 10, 62); err == nil {
			h.length = int64(n)
		}
	case f.Name == "grpc-message":
		h.message = f.Value
	case h.want != "" && f.Name == h.want:
		h.field = f.Value
	}
}
