package truth

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"github.com/assay-bench/assay/scenarios/load/arrival"
)

const (
	maxMessage = 1 << 20
	maxStreams = 1 << 16
	bigWindow  = 1 << 30
)

// rpcConn answers unary gRPC calls of any method with their own message, straight
// from the timer thread: the handler of a gRPC library would add three wake-ups
// of goroutines to the truth.
type rpcConn struct {
	conn    net.Conn
	framer  *http2.Framer
	release func(time.Duration, release)
	bodies  map[uint32][]byte // of the requests that have not ended

	mu     sync.Mutex // guards writes and the rest
	out    *outbox
	window int64      // bytes of DATA that the client allows
	held   []rpcReply // waiting for it
}

type rpcReply struct {
	frames []byte
	data   int64 // bytes that count for the window
}

// talkGRPC serves one connection until it breaks.
func (s *Server) talkGRPC(c net.Conn) {
	c = arrival.Of(c)
	in := bufio.NewReader(c)
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(in, preface); err != nil || string(preface) != http2.ClientPreface {
		return
	}
	r := &rpcConn{conn: c, framer: http2.NewFramer(c, in), release: s.releaser.arrive, bodies: map[uint32][]byte{}, out: newOutbox(c), window: 65_535}
	r.out.flush = func() { _ = r.locked(r.out.write) }
	if r.framer.WriteSettings() != nil || r.framer.WriteWindowUpdate(0, bigWindow) != nil {
		return
	}
	for got := 0; ; {
		f, err := r.framer.ReadFrame()
		if err != nil {
			return
		}
		if f.Header().Type == http2.FrameData {
			got += int(f.Header().Length)
		}
		if err := r.take(f); err != nil {
			return
		}
		if got >= bigWindow/2 {
			if r.locked(func() error { return r.framer.WriteWindowUpdate(0, uint32(got)) }) != nil {
				return
			}
			got = 0
		}
	}
}

func (r *rpcConn) locked(write func() error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return write()
}

var errTooMuch = errors.New("more than a truth server takes")

// take handles one frame. The header fields of a request do not matter.
func (r *rpcConn) take(f http2.Frame) error {
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			return r.locked(r.framer.WriteSettingsAck)
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			return r.locked(func() error { return r.framer.WritePing(true, f.Data) })
		}
	case *http2.WindowUpdateFrame:
		if f.StreamID == 0 {
			return r.locked(func() error { return r.widen(int64(f.Increment)) })
		}
	case *http2.HeadersFrame:
		if len(r.bodies) >= maxStreams {
			return errTooMuch
		}
		r.bodies[f.StreamID] = nil
	case *http2.DataFrame:
		body := append(r.bodies[f.StreamID], f.Data()...)
		if len(body) > maxMessage {
			return errTooMuch
		}
		if r.bodies[f.StreamID] = body; f.StreamEnded() {
			delete(r.bodies, f.StreamID)
			reply := rpcReply{replyFrames(f.StreamID, body), int64(len(body))}
			r.release(arrival.Since(r.conn), func() (flush func()) {
				r.mu.Lock()
				defer r.mu.Unlock()
				return r.send(reply)
			})
		}
	case *http2.RSTStreamFrame:
		delete(r.bodies, f.StreamID)
	}
	return nil
}

// send takes a reply for the next write, or keeps it until the client's window is open.
func (r *rpcConn) send(reply rpcReply) (flush func()) {
	if len(r.held) > 0 || r.window < reply.data {
		r.held = append(r.held, reply)
		return nil
	}
	r.window -= reply.data
	return r.out.add(reply.frames)
}

// widen opens the window and sends what waited for it.
func (r *rpcConn) widen(n int64) error {
	r.window += n
	held := r.held
	r.held = nil
	for _, reply := range held {
		r.send(reply)
	}
	return r.out.write()
}

// Header blocks without the dynamic table (RFC 7541): :status 200 is entry 8 of
// the static table, content-type the name of entry 31.
var (
	replyHeader  = append([]byte{0x88, 0x0f, 0x10, 16}, "application/grpc"...)
	replyTrailer = []byte("\x00\x0bgrpc-status\x010")
)

// replyFrames returns the frames of a reply: headers, the message, trailers.
func replyFrames(stream uint32, body []byte) []byte {
	var out bytes.Buffer
	frame := func(kind http2.FrameType, flags http2.Flags, payload []byte) {
		var head [9]byte
		binary.BigEndian.PutUint32(head[:], uint32(len(payload))<<8|uint32(kind))
		head[4] = byte(flags)
		binary.BigEndian.PutUint32(head[5:], stream)
		out.Write(head[:])
		out.Write(payload)
	}
	frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, replyHeader)
	for len(body) > 0 {
		n := min(len(body), 16_384)
		frame(http2.FrameData, 0, body[:n])
		body = body[n:]
	}
	frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, replyTrailer)
	return out.Bytes()
}
