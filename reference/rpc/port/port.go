// Package port hands connections that were already read from to servers that expect a listener. It
// knows no protocol.
package port

import (
	"net"
	"sync"
)

// Replay is a connection whose first reads return bytes that were read from it before.
type Replay struct {
	net.Conn
	mu     sync.Mutex
	peeked []byte
	closed func() // nil, or called once after Close
}

// NewReplay returns conn with peeked put back in front. closed may be nil; it is called once, after
// the first Close.
func NewReplay(conn net.Conn, peeked []byte, closed func()) *Replay {
	return &Replay{Conn: conn, peeked: append([]byte(nil), peeked...), closed: closed}
}

// Read implements net.Conn.
func (r *Replay) Read(p []byte) (int, error) {
	r.mu.Lock()
	if len(r.peeked) > 0 {
		n := copy(p, r.peeked)
		r.peeked = r.peeked[n:]
		r.mu.Unlock()
		return n, nil
	}
	r.mu.Unlock()
	return r.Conn.Read(p)
}

// Close implements net.Conn.
func (r *Replay) Close() error {
	err := r.Conn.Close()
	r.mu.Lock()
	closed := r.closed
	r.closed = nil
	r.mu.Unlock()
	if closed != nil {
		closed()
	}
	return err
}

// Queue is a net.Listener whose connections come from Push.
type Queue struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

// NewQueue returns an open Queue that reports addr as its address.
func NewQueue(addr net.Addr) *Queue {
	return &Queue{addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
}

// Push hands conn to Accept. It returns false, and leaves conn open, if the queue is closed.
func (q *Queue) Push(conn net.Conn) bool {
	select {
	case <-q.done: // never hand over after Close, even while somebody accepts
		return false
	default:
	}
	select {
	case q.conns <- conn:
		return true
	case <-q.done:
		return false
	}
}

// Accept implements net.Listener.
func (q *Queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (q *Queue) Close() error {
	q.once.Do(func() { close(q.done) })
	return nil
}

// Addr implements net.Listener.
func (q *Queue) Addr() net.Addr { return q.addr }
