package load

import (
	"errors"
	"fmt"
	"time"
)

// ErrLeft says that the peer has left a connection: what it had not looked at may go out on another one.
var ErrLeft = errors.New("the peer left the connection")

// LastWords is how long replies are read of a connection that can not be written to any more.
const LastWords = 100 * time.Millisecond

// A Session speaks a protocol on one connection and keeps what the protocol keeps: streams, windows, what the peer
// allows. Control, Request and Back are called by one goroutine at a time, Read by another one, Each by any.
// No method may block.
type Session interface {
	// Control appends what is to be written before any further request: what opens the connection, what
	// acknowledges, and what the peer's windows have kept back of earlier requests.
	Control(dst []byte) []byte
	// Ready tells whether the peer allows one more request now. When that changes, Read says Write. Anybody may ask.
	Ready() bool
	// Request appends the request with this id, or as much of it as the peer allows; Control brings the rest. It is
	// called after Ready. ok is false when the connection takes no more requests after all: nothing was appended.
	Request(dst []byte, id uint64) (out []byte, ok bool)
	// Back gives up the requests that the peer has not looked at and will not, since it is leaving. It is called by whoever
	// writes, when all that was appended is written.
	Back(f func(id uint64))
	// Read takes what is whole at the start of buf and tells end of every request that ended. An error means that the
	// connection is lost, and every request that is open on it.
	Read(buf []byte, end func(Ending)) (Taken, error)
	// Each tells f the ids of the requests that are open, the oldest first, and gives up those for which f returns true.
	// A session whose requests start in order may stop at the first other one.
	Each(f func(id uint64) (giveUp bool))
}

// Ending is the end of a request.
type Ending struct {
	ID    uint64
	Fault string // why it was not granted; empty: it was
}

// Taken is what a read did.
type Taken struct {
	Bytes   int  // of buf; 0: nothing is whole yet
	Write   bool // Control has something to say, or Ready may have become true
	Leaving bool // no further request on this connection
	Open    int  // of a connection that is leaving: requests that have not ended
}

// A Codec writes requests and recognises replies of a protocol whose requests
// carry an id and which keeps nothing for a connection. Its methods are called
// from several goroutines at once.
type Codec interface {
	// Request appends the request with this id to dst and returns it; it must
	// not be empty and must not block.
	Request(dst []byte, id uint64) []byte
	// Reply reads one reply at the start of buf. It returns its length n, its
	// id and whether the server granted the request; n = 0 asks for more
	// bytes. An error means that the stream is lost: the connection is closed
	// and its requests in flight become errors.
	Reply(buf []byte) (n int, id uint64, ok bool, err error)
}

// Stateless makes a session of a codec. It does not know what is open: its Each does nothing.
func Stateless(c Codec) Session { return &plain{codec: c} }

// plain is a session of a codec.
type plain struct {
	codec Codec
	each  func(f func(id uint64) bool) // nil: nobody knows what is open
}

func (p *plain) Control(dst []byte) []byte { return dst }

func (p *plain) Ready() bool { return true }

func (p *plain) Request(dst []byte, id uint64) ([]byte, bool) { return p.codec.Request(dst, id), true }

func (p *plain) Back(func(id uint64)) {}

func (p *plain) Read(buf []byte, end func(Ending)) (t Taken, err error) {
	for t.Bytes < len(buf) {
		n, id, ok, err := p.codec.Reply(buf[t.Bytes:])
		switch {
		case err != nil:
			return t, fmt.Errorf("malformed reply: %w", err)
		case n < 0 || n > len(buf)-t.Bytes:
			return t, fmt.Errorf("codec took %d of %d bytes", n, len(buf)-t.Bytes)
		case n == 0:
			return t, nil
		}
		t.Bytes += n
		e := Ending{ID: id}
		if !ok {
			e.Fault = "refused by the server"
		}
		end(e)
	}
	return t, nil
}

func (p *plain) Each(f func(id uint64) bool) {
	if p.each != nil {
		p.each(f)
	}
}
