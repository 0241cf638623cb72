package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/assay-bench/assay/scenarios/load/arrival"
)

const (
	maxConns     = 65_536
	firstBuffer  = 16 << 10
	maxReplySize = 1 << 20 // largest unfinished reply kept for one connection
)

// errNoSpace says that the socket buffer is full.
var errNoSpace = errors.New("socket buffer is full")

// A Codec writes requests and recognises replies of a protocol whose requests
// carry an id. Its methods are called from several goroutines at once.
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

// Dialer opens one connection.
type Dialer func(ctx context.Context, addr string) (net.Conn, error)

// Mux sends this node's arrival j on connection j mod Conns without waiting for replies.
// The pacer itself writes to the socket; what a full socket does not take goes
// out from a goroutine of the connection as soon as there is room. A connection
// that is lost stays lost: its further arrivals are errors.
type Mux struct {
	Codec Codec
	Dial  Dialer
	Addr  string
	Conns int
}

func (*Mux) mode() string { return "async" }

func (m *Mux) open(ctx context.Context, e *engine) (transport, error) {
	if m.Conns < 1 || m.Conns > maxConns {
		return nil, fmt.Errorf("load mux: %d connections, want 1 to %d", m.Conns, maxConns)
	}
	s := &streams{e: e, quit: make(chan struct{})}
	sender := e.recorder() // of the pacer's thread, for requests that fail at once
	for i := range m.Conns {
		conn, err := m.Dial(ctx, m.Addr)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("load mux: dial connection %d to %s: %w", i, m.Addr, err), s.close())
		}
		s.list = append(s.list, newStream(e, m, conn, i, sender))
	}
	for _, c := range s.list {
		reader, writer := e.recorder(), e.recorder()
		s.running.Go(func() { c.readLoop(reader) })
		s.running.Go(func() { c.writeLoop(writer) })
	}
	sweeper := e.recorder()
	s.running.Go(func() { s.sweepLoop(sweeper) })
	return s, nil
}

// streams is the transport of a Mux.
type streams struct {
	e       *engine
	list    []*stream
	quit    chan struct{}
	running sync.WaitGroup
}

func (s *streams) hand(j int64, _ bool) (brief bool) {
	n := int64(len(s.list))
	s.list[j%n].hand(j/n + 1)
	return false
}

func (s *streams) handedAll() {
	for _, c := range s.list {
		close(c.wake)
	}
}

func (s *streams) stop() error {
	close(s.quit)
	// Errors of closing say nothing about the requests; they are accounted.
	_ = s.close()
	s.running.Wait()
	return nil
}

func (s *streams) ends() (who string) {
	for _, c := range s.list {
		switch {
		case !c.granted:
		case arrival.Stamped(c.in):
			who = bothEnds(who, EndsKernel)
		default:
			who = bothEnds(who, EndsRead)
		}
	}
	return who
}

func (s *streams) close() error {
	var errs []error
	for _, c := range s.list {
		errs = append(errs, c.conn.Close())
	}
	return errors.Join(errs...)
}

// sweepLoop turns requests without a reply into timeouts.
func (s *streams) sweepLoop(r *recorder) {
	tick := time.NewTicker(sweepEvery(s.e.opt.Timeout))
	defer tick.Stop()
	for {
		select {
		case <-s.quit:
			return
		case <-tick.C:
			for _, c := range s.list {
				c.sweep(r, s.e.opt.now())
			}
		}
	}
}

// stream is one connection and its outbox. Its arrivals are numbers in order,
// so the outbox is two counters: handed and written. Whoever swaps owned to
// true writes, the pacer when it can and the write loop when the socket is full.
type stream struct {
	e      *engine
	codec  Codec
	conn   net.Conn
	in     net.Conn // conn, which knows when what was read came in
	first  int64    // request i of this connection is arrival first + i × stride
	stride int64
	sender *recorder // for the pacer
	handed atomic.Int64
	owned  atomic.Bool
	wake   chan struct{}          // hands ownership to the write loop
	cause  atomic.Pointer[string] // why it was lost, as a kind of error
	swept  atomic.Int64           // requests below are finished; the sweeper raises it

	granted bool // a reply came in; of the reader

	// Of the owner:
	written int64           // requests entirely in the socket
	out     []byte          // what is left of request number written
	buffer  []byte          // where requests are encoded
	loaded  bool            // out holds a request
	begun   bool            // a byte of it is in the socket
	raw     syscall.RawConn // nil: writes may block, so only the write loop writes
	attempt func(fd uintptr) bool
	block   bool  // the attempt may wait for room
	failure error // of the attempt
}

func newStream(e *engine, m *Mux, conn net.Conn, index int, sender *recorder) *stream {
	c := &stream{
		e: e, codec: m.Codec, conn: conn, in: arrival.Of(conn), sender: sender,
		first: int64(index), stride: int64(m.Conns),
		wake: make(chan struct{}, 1), raw: rawConn(conn),
	}
	c.attempt = c.tryWrite // bound once: a method value made per write would allocate
	return c
}

// rawConn returns the socket of a connection of package net itself. A type that
// wraps one may change what Write does, so it is not looked through.
func rawConn(conn net.Conn) syscall.RawConn {
	if !canTryWrite {
		return nil
	}
	var raw syscall.RawConn
	var err error
	switch c := conn.(type) {
	case *net.TCPConn:
		raw, err = c.SyscallConn()
	case *net.UnixConn:
		raw, err = c.SyscallConn()
	}
	if err != nil {
		return nil
	}
	return raw
}

func (c *stream) arrival(i int64) int64 { return c.first + i*c.stride }

// hand notes that requests below upTo are due and writes what the socket takes.
func (c *stream) hand(upTo int64) {
	c.handed.Store(upTo)
	if !c.owned.CompareAndSwap(false, true) {
		return // the write loop owns the socket and will see handed
	}
	if c.raw != nil && c.flush(c.sender, false) {
		c.owned.Store(false)
		return
	}
	c.wake <- struct{}{} // never blocks: only the owner sends, one at a time
}

// writeLoop writes what the pacer could not.
func (c *stream) writeLoop(r *recorder) {
	for range c.wake {
		for {
			c.flush(r, true)
			written := c.written
			c.owned.Store(false)
			if c.e.ending.Load() || c.handed.Load() == written || !c.owned.CompareAndSwap(false, true) {
				break
			}
		}
	}
}

// flush writes the requests that are due. It returns false when the socket is
// full and it may not block. Only the owner may call it.
func (c *stream) flush(r *recorder, block bool) bool {
	for c.written < c.handed.Load() && !c.e.ending.Load() {
		j := c.arrival(c.written)
		err := c.send(j, block)
		switch {
		case errors.Is(err, errNoSpace):
			return false
		case err != nil && c.e.ending.Load():
			// The end of the run closed the connection under the write.
			if !c.begun {
				c.e.table.unstamp(j)
			}
			return true
		case err != nil:
			c.kill(err)
		}
		c.written++
		c.loaded, c.begun = false, false
		// Looked at after the stamp: the reader of a lost connection may
		// have passed this arrival before it was in flight.
		if cause := c.cause.Load(); cause != nil {
			c.e.finish(r, j, c.e.opt.now(), outcomeError, *cause)
		}
	}
	return true
}

// send writes the request of arrival j, or the rest of it.
func (c *stream) send(j int64, block bool) error {
	if c.cause.Load() != nil {
		if !c.begun {
			c.e.table.stamp(j, c.e.opt.now())
		}
		return nil
	}
	if !c.loaded {
		c.buffer = c.codec.Request(c.buffer[:0], uint64(c.e.stripe.global(j)))
		c.out, c.loaded = c.buffer, true
	}
	if c.raw == nil {
		c.e.table.stamp(j, c.e.opt.now())
		c.begun = true
		_, err := c.conn.Write(c.out)
		return err
	}
	for c.failure, c.block = nil, block; len(c.out) > 0 || !c.begun; {
		if err := c.raw.Write(c.attempt); err != nil {
			return err
		}
		if c.failure != nil {
			return c.failure
		}
	}
	return nil
}

// tryWrite makes one nonblocking write. The start is taken just before, and
// taken back when no byte went in. It returns false to wait for room.
func (c *stream) tryWrite(fd uintptr) bool {
	j := c.arrival(c.written)
	if !c.begun {
		c.e.table.stamp(j, c.e.opt.now())
	}
	n, err := writeSocket(fd, c.out)
	switch {
	case err == nil:
		c.out, c.begun = c.out[n:], true
		return true
	case !wouldBlock(err):
		c.failure = &net.OpError{Op: "write", Net: "tcp", Err: err}
		return true
	}
	if !c.begun {
		c.e.table.unstamp(j)
	}
	if c.block {
		return false
	}
	c.failure = errNoSpace
	return true
}

// kill marks the connection lost and wakes its reader, which closes it. The
// pacer may call it and closing waits for the reader, so kill does not close.
func (c *stream) kill(cause error) {
	kind := errorKind(cause)
	if c.cause.CompareAndSwap(nil, &kind) {
		_ = c.conn.SetReadDeadline(time.Unix(1, 0)) // fails only when closed
	}
}

// readLoop matches replies until the connection ends; then everything in flight
// on it has failed, unless the run is over.
func (c *stream) readLoop(r *recorder) {
	err := c.read(r)
	if c.e.ending.Load() {
		return
	}
	c.kill(err)
	_ = c.conn.Close() // lost already; this wakes the write loop
	now, cause := c.e.opt.now(), *c.cause.Load()
	for i := c.swept.Load(); i < c.handed.Load(); i++ {
		c.e.finish(r, c.arrival(i), now, outcomeError, cause)
	}
}

// read reads replies; it returns why it stopped.
func (c *stream) read(r *recorder) error {
	buf, have := make([]byte, firstBuffer), 0
	for {
		n, err := c.in.Read(buf[have:])
		have += n
		if n > 0 {
			age := int64(arrival.Since(c.in))
			used, err := c.match(r, buf[:have], c.e.opt.now()-age)
			if err != nil {
				return err
			}
			have = copy(buf, buf[used:have])
		}
		if err != nil {
			return fmt.Errorf("read reply: %w", err)
		}
		if have == len(buf) {
			if have >= maxReplySize {
				return fmt.Errorf("reply of more than %d bytes", maxReplySize)
			}
			buf = append(buf, make([]byte, have)...)
		}
	}
}

// match records every whole reply in buf, the last of which came in at now, and returns how many
// bytes they take.
func (c *stream) match(r *recorder, buf []byte, now int64) (used int, err error) {
	for used < len(buf) {
		n, id, ok, err := c.codec.Reply(buf[used:])
		switch {
		case err != nil:
			return used, fmt.Errorf("malformed reply: %w", err)
		case n < 0 || n > len(buf)-used:
			return used, fmt.Errorf("codec took %d of %d bytes", n, len(buf)-used)
		case n == 0:
			return used, nil
		}
		used += n
		out, kind := outcomeOK, ""
		if !ok {
			out, kind = outcomeError, "refused by the server"
		}
		c.granted = c.granted || ok
		if j, ok := c.mine(id); !ok || !c.e.finish(r, j, now, out, kind) {
			r.stray.Add(1) // late, doubled, or never asked
		}
	}
	return used, nil
}

// mine returns the arrival of an id that can be a request of this connection.
func (c *stream) mine(id uint64) (j int64, ok bool) {
	if id >= MaxArrivals {
		return 0, false
	}
	j, ok = c.e.stripe.local(int64(id))
	return j, ok && j < c.e.n && j%c.stride == c.first
}

// sweep finishes what has been in flight for longer than the timeout. Starts
// rise along a connection, so it stops at the first that has time left.
func (c *stream) sweep(r *recorder, now int64) {
	handed, i := c.handed.Load(), c.swept.Load()
	defer func() { c.swept.Store(i) }()
	for ; i < handed; i++ {
		j := c.arrival(i)
		switch start := c.e.table.start(j); {
		case start == slotFinished:
		case start == slotUnsent || now-start < int64(c.e.opt.Timeout):
			return
		default:
			c.e.finish(r, j, now, outcomeTimeout, "")
		}
	}
}
