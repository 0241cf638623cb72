package server

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/rpc/port"
	"github.com/assay-bench/assay/reference/rpc/wire"
)

// The states of a connection. Only an idle one may be closed by a drain.
const (
	stateIdle int32 = iota
	stateBusy
	stateClosed
)

// conn serves one connection. All but close and the state belongs to its own goroutine.
type conn struct {
	srv      *Server
	nc       net.Conn
	in       *reader
	out      []byte // replies not yet written
	held     []byte // only with PipeliningReversed: the first reply of two
	accepted time.Time
	state    atomic.Int32
	dropNext bool // only with PipeliningDropsSecond
	tired    bool // only with Impatient: the connection ends after one call
	handed   bool // the gRPC face owns the connection
	between  bool // waiting for the first byte of a call that is not the first
}

func newConn(srv *Server, nc net.Conn) *conn {
	c := &conn{srv: srv, nc: nc, accepted: time.Now()}
	c.in = newReader(nc, c.flush)
	return c
}

func (c *conn) on(n defect.Name) bool { return c.srv.cfg.Defects.On(n) }

// serve runs until the connection is done with. It contains panics of decoders.
func (c *conn) serve() {
	defer func() {
		if p := recover(); p != nil {
			c.srv.metrics.Panicked()
		}
		if !c.handed {
			c.close()
		}
	}()
	c.in.expect(c.firstDeadline())
	for first := true; ; first = false {
		proto, err := c.await(first)
		if err == nil && first {
			c.srv.metrics.Spoke(proto.String())
		}
		if err == nil && first && proto == wire.HTTP2 {
			c.handOver()
			return
		}
		if err != nil {
			c.lost(err)
			return
		}
		if !c.serveCall(proto) || !c.rest() {
			return
		}
		if c.tired {
			_ = c.flush() // the first answer still goes out
			return
		}
	}
}

// firstDeadline covers the first byte and the whole first frame.
func (c *conn) firstDeadline() time.Time {
	if c.on(defect.DeadlineFromFirstByte) || c.srv.readDeadline == 0 {
		return time.Time{}
	}
	return c.accepted.Add(c.srv.readDeadline)
}

// await waits for a call to begin and tells what it is. Between calls the idle limit holds; a begun
// call has the read deadline.
func (c *conn) await(first bool) (wire.Protocol, error) {
	if !first && c.in.buffered() == 0 {
		c.in.expect(time.Now().Add(c.srv.cfg.IdleTimeout))
	}
	c.between = !first
	if err := c.in.ensure(1); err != nil {
		return wire.Unknown, err
	}
	c.between = false
	if !c.state.CompareAndSwap(stateIdle, stateBusy) {
		return wire.Unknown, net.ErrClosed
	}
	if first && c.on(defect.Impatient) {
		c.tired = time.Since(c.accepted) > 40*time.Millisecond
	}
	if !first || c.on(defect.DeadlineFromFirstByte) {
		c.in.expect(c.srv.frameDeadline())
	}
	if err := c.in.ensure(wire.SniffLen); err != nil {
		return wire.Unknown, err
	}
	return wire.Sniff(c.in.window()), nil
}

// handOver gives the connection, with the bytes already read, to the gRPC face.
func (c *conn) handOver() {
	if c.nc.SetReadDeadline(time.Time{}) != nil {
		return
	}
	c.handed = true
	if !c.srv.grpcConns.Push(port.NewReplay(c.nc, c.in.window(), func() { c.srv.forget(c) })) {
		c.handed = false
	}
}

// rest ends a call. It reports false if a drain wants the connection closed.
func (c *conn) rest() bool {
	c.state.CompareAndSwap(stateBusy, stateIdle)
	if !c.srv.draining.Load() {
		return true
	}
	_ = c.flush() // the connection closes next: there is nobody to tell
	return false
}

// closeIfIdle closes a connection that is between calls. The goroutine notices at its next read. A
// connection of the gRPC face stays busy for ever: grpc-go drains it.
func (c *conn) closeIfIdle() {
	if c.state.CompareAndSwap(stateIdle, stateClosed) {
		_ = c.nc.Close()
	}
}

func (c *conn) close() {
	_ = c.nc.Close()
	c.srv.forget(c)
}

// lost counts why reading ended. A close between calls is not an error.
func (c *conn) lost(err error) {
	begun := c.in.buffered() > 0
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && c.between:
		c.srv.metrics.ProtocolError("idle-timeout")
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.srv.metrics.ProtocolError("read-deadline")
	case begun && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)):
		c.srv.metrics.ProtocolError("closed-mid-frame")
	}
}

// serveCall reads one call and answers it. It reports whether the connection goes on.
func (c *conn) serveCall(p wire.Protocol) bool {
	req, err := c.readRequest(p)
	if err != nil {
		return c.refuse(&req, err)
	}
	start := len(c.out)
	more := c.in.buffered() > req.size
	keep := c.dispatch(&req)
	c.in.consume(req.size)
	c.plantPipelining(start, more)
	if !keep {
		c.linger()
	}
	return keep
}

// refuse answers a broken call where the caller can be told, and keeps the connection where the next
// call can be found.
func (c *conn) refuse(req *request, err error) bool {
	var refusal *wire.Refusal
	if !errors.As(err, &refusal) {
		c.lost(err)
		return false
	}
	c.srv.metrics.ProtocolError(string(refusal.Reason))
	if c.hangs(refusal.Reason) {
		<-c.srv.ctx.Done()
		return false
	}
	if refusal.Reason == wire.ReasonContainer && c.on(defect.ContainerUnbounded) {
		touch(64 << 20)
	}
	if !req.msg.Named {
		_ = c.flush() // replies to earlier calls are due; the connection closes either way
		return false
	}
	if !c.silent(&req.msg) {
		c.exception(req, refusal.Exception(), "protocol error: "+string(refusal.Reason))
	}
	if !req.intact {
		c.linger()
		return false
	}
	c.in.consume(req.size)
	return true
}

// hangs reports whether a planted defect leaves the connection open and silent.
func (c *conn) hangs(reason wire.Reason) bool {
	switch reason {
	case wire.ReasonLengthMismatch, wire.ReasonTrailing:
		return c.on(defect.LengthMismatchHangs)
	case wire.ReasonHeaderSize:
		return c.on(defect.HeaderSizeHangs)
	case wire.ReasonHeaderBeyond:
		return c.on(defect.HeaderSizeHangs) || c.on(defect.LengthMismatchHangs)
	}
	return false
}

func reasonOf(err error) wire.Reason {
	var refusal *wire.Refusal
	if errors.As(err, &refusal) {
		return refusal.Reason
	}
	return ""
}

// plantPipelining reorders or drops the reply that starts at start in out; more tells that another
// call was already there when this one was read.
func (c *conn) plantPipelining(start int, more bool) {
	switch {
	case c.on(defect.PipeliningReversed) && c.held != nil:
		c.out = append(c.out, c.held...)
		c.held = nil
	case c.on(defect.PipeliningReversed) && more:
		c.held = append([]byte{}, c.out[start:]...)
		c.out = c.out[:start]
	case c.on(defect.PipeliningDropsSecond):
		if c.dropNext {
			c.out = c.out[:start]
		}
		c.dropNext = more && !c.dropNext
	}
}

// flush writes the replies that are due. The reader calls it before it waits.
func (c *conn) flush() error {
	c.out = append(c.out, c.held...)
	c.held = nil
	if len(c.out) == 0 {
		return nil
	}
	if err := c.nc.SetWriteDeadline(time.Now().Add(c.srv.cfg.WriteDeadline)); err != nil {
		return err
	}
	_, err := c.nc.Write(c.out)
	c.out = c.out[:0]
	if cap(c.out) > keptBuffer {
		c.out = nil
	}
	return err
}

const (
	lingerTime  = 250 * time.Millisecond
	lingerBytes = 1 << 20
)

// linger sends the last replies and the end of the stream, then reads on for a moment: closing with
// unread bytes would reset the connection and take the replies with it.
func (c *conn) linger() {
	if c.flush() != nil {
		return
	}
	tcp, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || tcp.CloseWrite() != nil {
		return
	}
	if c.nc.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, c.nc, lingerBytes) // any end will do
}

// callContext returns the context of a handler, with the deadline that the caller propagated.
func (c *conn) callContext(req *request) (context.Context, context.CancelFunc) {
	if d := propagatedTimeout(req.header.Int); d > 0 {
		return context.WithTimeout(c.srv.ctx, d)
	}
	return c.srv.ctx, func() {}
}
