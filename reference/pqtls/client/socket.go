package client

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// socket is the TCP connection under a TLS stream. It lets the owner of the connection stop the
// goroutine that reads the stream at a point where everything received has been decrypted, without
// consuming a byte: the fence.
type socket struct {
	net.Conn

	mu      sync.Mutex
	changed *sync.Cond    // on mu: fence lowered, room made, closed
	event   chan struct{} // 1: something below changed; one waiter at a time
	fence   bool          // the reader is to park
	parked  bool          // the reader waits inside Read, holding nothing
	closed  bool
	reads   int // successful reads of the raw connection
	records boundary
}

func newSocket(raw net.Conn) *socket {
	s := &socket{Conn: raw, event: make(chan struct{}, 1)}
	s.changed = sync.NewCond(&s.mu)
	return s
}

// Read reads the raw connection. A deadline that the fence set is not seen by the stream.
func (s *socket) Read(p []byte) (int, error) {
	for {
		n, err := s.Conn.Read(p)
		if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && s.park() {
			continue
		}
		s.mu.Lock()
		s.reads++
		s.records.feed(p[:n])
		s.signal()
		s.mu.Unlock()
		return n, err
	}
}

// park waits until the fence is lowered. It is false when there is none.
func (s *socket) park() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.fence {
		return false
	}
	s.parked = true
	s.signal()
	for s.fence && !s.closed {
		s.changed.Wait()
	}
	s.parked = false
	return true
}

// raise stops the reader at its next read of the raw connection.
func (s *socket) raise() error {
	s.mu.Lock()
	s.fence = true
	s.mu.Unlock()
	return s.Conn.SetReadDeadline(time.Unix(1, 0))
}

// lower lets it go on.
func (s *socket) lower() error {
	err := s.Conn.SetReadDeadline(time.Time{})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fence = false
	s.changed.Broadcast()
	return err
}

// signal wakes the waiter, if any. The caller holds the lock.
func (s *socket) signal() {
	select {
	case s.event <- struct{}{}:
	default: // it has not looked yet
	}
}

// boundary follows the records of a TLS stream (RFC 9846 section 5.1) to know when one is incomplete.
type boundary struct {
	head [5]byte
	have int // bytes of head
	left int // bytes of the record to come
}

func (b *boundary) feed(p []byte) {
	for len(p) > 0 {
		if b.left > 0 {
			n := min(b.left, len(p))
			b.left -= n
			p = p[n:]
			continue
		}
		n := copy(b.head[b.have:], p)
		b.have += n
		p = p[n:]
		if b.have == len(b.head) {
			b.have, b.left = 0, int(binary.BigEndian.Uint16(b.head[3:]))
		}
	}
}

func (b *boundary) whole() bool { return b.have == 0 && b.left == 0 }
