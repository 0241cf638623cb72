package load

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/assay-bench/assay/scenarios/load/arrival"
)

// errNoSpace says that the socket buffer is full.
var errNoSpace = errors.New("socket buffer is full")

// noRequest stands for the arrival of bytes that are of no request.
const noRequest = int64(-1)

// link is one connection. Whoever swaps owned to true writes: the pacer when it can, the reader when the peer made room, and
// the write loop when the socket is full.
type link struct {
	c       *lane
	e       *engine
	conn    net.Conn
	in      net.Conn // conn, which knows when what was read came in
	session Session
	born    int64
	owned   atomic.Bool
	calls   atomic.Uint32          // of push: an owner that goes looks whether somebody came meanwhile
	wake    chan struct{}          // hands ownership to the write loop
	cause   atomic.Pointer[string] // why it was lost, as a kind of error
	over    chan struct{}          // closed when it takes no more requests
	once    sync.Once
	ended   chan struct{} // closed when the reader has ended
	granted atomic.Bool   // a reply that grants came in
	spoke   chan struct{} // closed when the peer has shown that it speaks the protocol

	// Of the owner:
	j       int64           // the arrival whose request is in out, or noRequest
	out     []byte          // what is left to be written of it
	buffer  []byte          // where requests are encoded
	begun   bool            // a byte of it is in the socket
	raw     syscall.RawConn // nil: writes may block, so only the write loop writes
	attempt func(fd uintptr) bool
	block   bool  // the attempt may wait for room
	failure error // of the attempt
}

func newLink(c *lane, conn net.Conn) *link {
	l := &link{
		c: c, e: c.e, conn: conn, in: arrival.Of(conn), raw: rawConn(conn), born: c.e.opt.now(), j: noRequest,
		wake: make(chan struct{}, 1), over: make(chan struct{}), ended: make(chan struct{}), spoke: make(chan struct{}),
	}
	l.attempt = l.tryWrite // bound once: a method value made per write would allocate
	if c.m.Session != nil {
		l.session = c.m.Session()
	} else {
		l.session = &plain{codec: c.m.Codec, each: c.inOrder()}
	}
	c.mu.Lock()
	c.live = append(c.live, l)
	c.mu.Unlock()
	return l
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

// inOrder walks over the requests of a lane that has one connection alone. Starts rise along it, so that the walk ends at
// the first that is not given up.
func (c *lane) inOrder() func(f func(id uint64) bool) {
	var swept atomic.Int64 // requests below have ended
	return func(f func(id uint64) bool) {
		i := swept.Load()
		for handed := c.handed.Load(); i < handed && f(uint64(c.e.stripe.global(c.arrival(i)))); i++ {
		}
		swept.Store(i)
	}
}

// push writes what is due. It never blocks.
func (l *link) push(r *recorder) {
	l.calls.Add(1)
	for l.owned.CompareAndSwap(false, true) {
		calls := l.calls.Load()
		if l.raw == nil || !l.flush(r, false) {
			l.wake <- struct{}{} // never blocks: only the owner sends, one at a time
			select {
			case <-l.ended:
				l.last(r) // the write loop may have gone
			default:
			}
			return
		}
		l.owned.Store(false)
		if l.calls.Load() == calls {
			return
		}
	}
}

// writeLoop writes what the others could not.
func (l *link) writeLoop(r *recorder) {
	for {
		select {
		case <-l.wake:
		case <-l.ended:
			l.last(r)
			return
		}
		for {
			calls := l.calls.Load()
			l.flush(r, true)
			l.owned.Store(false)
			if l.e.ending.Load() || l.calls.Load() == calls || !l.owned.CompareAndSwap(false, true) {
				break
			}
		}
	}
}

// last lets what an owner has left for the write loop of an ended connection fail.
func (l *link) last(r *recorder) {
	select {
	case <-l.wake:
		l.flush(r, true) // the connection is closed: it does not block
		l.owned.Store(false)
	default:
	}
}

// flush writes what is due. It returns false when the socket is full and it may not block. Only the owner may call it.
func (l *link) flush(r *recorder, block bool) bool {
	for !l.e.ending.Load() && (len(l.out) > 0 || l.load()) {
		err := l.send(block)
		switch {
		case errors.Is(err, errNoSpace):
			return false
		case err != nil && l.e.ending.Load():
			// The end of the run closed the connection under the write.
			if l.j != noRequest && !l.begun {
				l.e.table.unstamp(l.j)
			}
			return true
		case err != nil:
			l.kill(err)
		}
		// Looked at after the stamp: the reader of a lost connection may have passed this arrival before it was in flight. A
		// session knows of it, and its reader waits for the owner.
		if cause := l.cause.Load(); cause != nil && l.j != noRequest && l.c.m.Session == nil {
			l.e.finish(r, l.j, l.e.opt.now(), outcomeError, *cause)
		}
		l.j, l.out, l.begun = noRequest, nil, false
	}
	return true
}

// load encodes what is to be written next; false: there is none, or the peer does not allow it.
func (l *link) load() bool {
	if l.cause.Load() != nil {
		return false
	}
	if l.out = l.session.Control(l.buffer[:0]); len(l.out) > 0 {
		l.buffer, l.j = l.out, noRequest
		return true
	}
	if !l.session.Ready() {
		l.giveBack() // the peer may be leaving
		return false
	}
	if !l.c.due() {
		return false
	}
	j, ok := l.c.take()
	if !ok {
		return false
	}
	if l.out, ok = l.session.Request(l.buffer[:0], uint64(l.e.stripe.global(j))); !ok {
		l.c.giveBack(j)
		l.c.urge(l)
		return false
	}
	l.buffer, l.j = l.out, j
	return true
}

// giveBack takes from the session what a leaving peer will not look at. Only the owner may call it.
func (l *link) giveBack() {
	some := false
	l.session.Back(func(id uint64) {
		if j, ok := l.c.mine(id); ok {
			l.c.giveBack(j)
			some = true
		}
	})
	if some {
		l.c.urge(l)
	}
}

// send writes out, or the rest of it.
func (l *link) send(block bool) error {
	if l.raw == nil {
		l.stamp()
		l.begun = true
		_, err := l.conn.Write(l.out)
		return err
	}
	for l.failure, l.block = nil, block; len(l.out) > 0; {
		if err := l.raw.Write(l.attempt); err != nil {
			l.stamp() // it fails, with a start
			return err
		}
		if l.failure != nil {
			return l.failure
		}
	}
	return nil
}

// stamp notes the start of the request in out, unless it has one.
func (l *link) stamp() {
	if l.j != noRequest && !l.begun {
		l.e.table.stamp(l.j, l.e.opt.now())
	}
}

// tryWrite makes one nonblocking write. The start is taken just before, and
// taken back when no byte went in. It returns false to wait for room.
func (l *link) tryWrite(fd uintptr) bool {
	l.stamp()
	n, err := writeSocket(fd, l.out)
	switch {
	case err == nil:
		l.out, l.begun = l.out[n:], true
		return true
	case !wouldBlock(err):
		l.failure = &net.OpError{Op: "write", Net: "tcp", Err: err}
		return true
	}
	if l.j != noRequest && !l.begun {
		l.e.table.unstamp(l.j)
	}
	if l.block {
		return false
	}
	l.failure = errNoSpace
	return true
}

// kill marks the connection lost and lets its reader end soon, which closes it. The
// pacer may call it and closing waits for the reader, so kill does not close.
func (l *link) kill(cause error) {
	kind := errorKind(cause)
	if l.cause.CompareAndSwap(nil, &kind) {
		_ = l.conn.SetReadDeadline(time.Now().Add(LastWords)) // fails only when closed
	}
}

// readLoop matches replies until the connection ends; then everything in flight
// on it has failed, unless the run is over.
func (l *link) readLoop(r *recorder) {
	defer close(l.ended)
	err := l.read(r)
	if l.e.ending.Load() {
		l.c.gone(l)
		return
	}
	l.kill(err)
	_ = l.conn.Close() // lost already; this wakes the write loop
	if l.c.m.Session != nil {
		for !l.owned.CompareAndSwap(false, true) { // who writes to a closed connection does not write for long
			time.Sleep(time.Microsecond)
		}
		l.giveBack()
	}
	cause, now := l.why(), l.e.opt.now()
	l.session.Each(func(id uint64) bool {
		if j, ok := l.c.mine(id); ok {
			l.e.finish(r, j, now, outcomeError, cause)
		}
		return true
	})
	if l.c.m.Session != nil {
		l.owned.Store(false)
	}
	l.c.gone(l)
	l.leave()
}

// leave tells that further requests need another connection.
func (l *link) leave() { l.once.Do(func() { close(l.over) }) }

// read reads replies; it returns why it stopped.
func (l *link) read(r *recorder) error {
	buf, have := make([]byte, firstBuffer), 0
	for {
		n, err := l.in.Read(buf[have:])
		have += n
		if n > 0 {
			age := int64(arrival.Since(l.in))
			used, err := l.match(r, buf[:have], l.e.opt.now()-age)
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
func (l *link) match(r *recorder, buf []byte, now int64) (used int, err error) {
	t, err := l.session.Read(buf, func(e Ending) { l.end(r, e, now) })
	if err != nil {
		return t.Bytes, err
	}
	if !l.speaks() && l.session.Ready() {
		close(l.spoke)
	}
	if t.Leaving {
		l.leave()
		if t.Open == 0 {
			return t.Bytes, ErrLeft
		}
	}
	if t.Write {
		l.push(r)
	}
	return t.Bytes, nil
}

// end records the end of a request at now.
func (l *link) end(r *recorder, e Ending, now int64) {
	j, ok := l.c.mine(e.ID)
	out := outcomeOK
	if e.Fault != "" {
		out = outcomeError
	} else if !l.granted.Load() {
		l.granted.Store(true)
	}
	if !ok || !l.e.finish(r, j, now, out, e.Fault) {
		r.stray.Add(1) // late, doubled, or never asked
	}
}

// speaks tells whether the peer has shown that it speaks the protocol.
func (l *link) speaks() bool {
	select {
	case <-l.spoke:
		return true
	default:
		return false
	}
}

// useful tells of a connection that something was granted on, or that lasted: a server may close idle ones.
func (l *link) useful() bool {
	return l.granted.Load() || l.speaks() && l.e.opt.now()-l.born > int64(mostBackoff)
}

// why tells what ended the connection.
func (l *link) why() string {
	if cause := l.cause.Load(); cause != nil {
		return *cause
	}
	return errorKind(ErrLeft)
}

// dated tells who dated the replies.
func (l *link) dated() string {
	if arrival.Stamped(l.in) {
		return EndsKernel
	}
	return EndsRead
}

// sweep finishes what has been in flight for longer than the timeout.
func (l *link) sweep(r *recorder, now int64) {
	if l.c.m.Session != nil && !l.speaks() && now-l.born > int64(readyWithin(l.e.opt)) {
		l.kill(errNotReady)
		return
	}
	gaveUp := false
	l.session.Each(func(id uint64) bool {
		j, ok := l.c.mine(id)
		if !ok {
			return true
		}
		switch start := l.e.table.start(j); {
		case start == slotFinished:
			return true
		case start == slotUnsent || now-start < int64(l.e.opt.Timeout):
			return false
		}
		l.e.finish(r, j, now, outcomeTimeout, "")
		gaveUp = true
		return true
	})
	if gaveUp && l.c.m.Session != nil {
		l.push(r)
	}
}
