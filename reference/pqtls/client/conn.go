package client

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/assay-bench/assay/reference/pqtls"
)

// readAhead bounds what a connection buffers beyond the answer that is waited for.
const readAhead = 16 << 10

// politeness is how long the goodbye of a connection may take.
const politeness = time.Second

// state is what a handshake agreed on.
type state struct {
	group   tls.CurveID
	class   pqtls.Class
	version uint16
	retry   bool
	resumed bool
	alpn    string
	chain   int
	staple  string
}

// conn is an established connection. A goroutine reads it all the time: tickets and key updates are
// taken in while it is idle, and an end or unasked data is noticed at once. Everything else belongs
// to one owner at a time: the pool, or the request that took it.
type conn struct {
	*socket
	state
	stream net.Conn // TLS on the socket
	born   time.Time
	notice func(*conn)   // called by the reader after data or an error came
	ended  func()        // called once, at close
	over   chan struct{} // closed when the reader ended

	pending []byte // under mu: received, not asked for yet
	limit   int    // under mu: bytes of pending at which the reader waits
	err     error  // under mu: why the stream ended

	// Owned by the pool, under its lock.
	home       key
	generation int
	idleSince  time.Time
	stop       func() bool // of the timer that closes it while idle
}

func newConn(s *socket, stream net.Conn, st state, born time.Time) *conn {
	return &conn{socket: s, state: st, stream: stream, born: born, limit: readAhead,
		notice: func(*conn) {}, ended: func() {}, over: make(chan struct{})}
}

// receive reads until the stream ends or the connection is closed.
func (c *conn) receive() {
	defer close(c.over)
	buf := make([]byte, 4<<10)
	for {
		n, err := c.stream.Read(buf)
		if n > 0 || err != nil {
			c.arrived(buf[:n], err)
			c.notice(c)
		}
		if err != nil || !c.room() {
			return
		}
	}
}

func (c *conn) arrived(p []byte, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending = append(c.pending, p...)
	c.err = err
	c.signal()
}

// room waits until more may be buffered. It is false when the connection was closed.
func (c *conn) room() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.pending) > c.limit && !c.closed {
		c.changed.Wait()
	}
	return !c.closed
}

// await waits until ok, which is asked under the lock, or the end of ctx.
func (c *conn) await(ctx context.Context, ok func() bool) error {
	for {
		c.mu.Lock()
		done := ok()
		c.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-c.event:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// unused reports whether the stream is sound and, unless data is tolerated, holds nothing unread.
func (c *conn) unused(tolerated bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err == nil && !c.closed && (tolerated || len(c.pending) == 0)
}

// quiet proves that the peer has sent nothing that is not a complete message after the handshake: not
// in our buffer, not inside TLS, not in the kernel. Bytes that wait in the kernel are first given to
// TLS, since they may be a ticket.
func (c *conn) quiet(ctx context.Context) bool {
	for {
		if c.raise() != nil {
			return false
		}
		disturbed := func() bool { return c.err != nil || c.closed || len(c.pending) > 0 }
		if c.await(ctx, func() bool { return c.parked || disturbed() }) != nil {
			return false
		}
		c.mu.Lock()
		bad, whole, before := disturbed(), c.records.whole(), c.reads
		c.mu.Unlock()
		more := !bad && waiting(c.Conn)
		if c.lower() != nil || bad {
			return false
		}
		if !more {
			return whole
		}
		if c.await(ctx, func() bool { return c.reads != before || disturbed() }) != nil {
			return false
		}
	}
}

// exchange sends and returns as many bytes as it sent.
func (c *conn) exchange(ctx context.Context, send []byte) ([]byte, error) {
	if len(send) == 0 {
		return nil, nil
	}
	c.setLimit(len(send) + readAhead) // else an echo of much data and its writer wait for each other
	defer c.setLimit(readAhead)
	deadline, _ := ctx.Deadline() // zero is none
	if err := c.stream.SetWriteDeadline(deadline); err != nil {
		return nil, c.cause(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := c.stream.Write(send); err != nil {
		return nil, c.because(ctx, err)
	}
	if err := c.await(ctx, func() bool { return len(c.pending) >= len(send) || c.err != nil }); err != nil {
		return c.take(len(send)), err
	}
	got := c.take(len(send))
	if !stop() { // the write deadline may be spoilt
		return got, ctx.Err()
	}
	if len(got) < len(send) {
		return got, c.cause(fmt.Errorf("%d of %d bytes came back: %w", len(got), len(send), io.ErrUnexpectedEOF))
	}
	return got, nil
}

// because returns the reason of a failed write: what the peer said before it closed, if that comes in.
func (c *conn) because(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	brief, cancel := context.WithTimeout(ctx, politeness)
	defer cancel()
	if c.await(brief, func() bool { return c.err != nil }) != nil {
		return err
	}
	return c.cause(err)
}

// cause returns the peer's alert if there was one, and otherwise err.
func (c *conn) cause(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := remoteAlert(c.err); ok {
		return c.err
	}
	return err
}

func (c *conn) setLimit(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limit = n
	c.changed.Broadcast()
}

func (c *conn) take(n int) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	n = min(n, len(c.pending))
	got := append([]byte(nil), c.pending[:n]...)
	c.pending = append([]byte(nil), c.pending[n:]...)
	c.changed.Broadcast()
	return got
}

// close ends the connection, with close_notify when it is sound. A second call does nothing.
func (c *conn) close() {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.closed, c.fence = true, false
	sound := c.err == nil
	c.changed.Broadcast()
	c.signal()
	c.mu.Unlock()
	if sound { // bounded: a peer that reads nothing may hold the stream's lock
		guard := time.AfterFunc(politeness, func() { _ = c.Conn.Close() })
		_ = c.stream.Close()
		guard.Stop()
	}
	_ = c.Conn.Close()
	c.ended()
}
