package module

import (
	"context"
	"fmt"
	"net"
	"time"

	"go.k6.io/k6/lib"
)

// maxConns bounds the connections that one VU keeps.
const maxConns = 64

// connKey names a kept connection: one for each address and use.
type connKey struct{ address, use string }

// conn is a connection of a VU, kept between iterations.
type conn struct {
	net.Conn
	buf  []byte // read and not used yet
	seq  int32
	sent int // bytes, of the call under way
	read int
}

// borrow returns the kept connection or makes one, with the deadline and the end of the VU's context set on
// it. giveBack keeps it for the next call, or closes it after an error.
func (i *Instance) borrow(state *lib.State, key connKey, limit time.Duration) (c *conn, giveBack func(error), err error) {
	ctx, cancel := context.WithTimeout(i.vu.Context(), limit)
	c, kept := i.conns[key]
	if !kept {
		dialled, err := state.Dialer.DialContext(ctx, "tcp", key.address)
		if err != nil {
			cancel()
			return nil, nil, err
		}
		if len(i.conns) >= maxConns {
			i.closeAll()
		}
		c = &conn{Conn: dialled}
		i.conns[key] = c
	}
	c.sent, c.read = 0, 0
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		cancel()
		i.drop(key)
		return nil, nil, err
	}
	// the end of the run must not wait for a silent server
	stop := context.AfterFunc(i.vu.Context(), func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	return c, func(err error) {
		stop()
		cancel()
		if err != nil || i.vu.Context().Err() != nil {
			i.drop(key)
		}
	}, nil
}

func (i *Instance) drop(key connKey) {
	if c := i.conns[key]; c != nil {
		_ = c.Close() // it is given up
		delete(i.conns, key)
	}
}

func (i *Instance) closeAll() {
	for key := range i.conns {
		i.drop(key)
	}
}

func (c *conn) send(b []byte) error {
	n, err := c.Write(b)
	c.sent += n
	if err != nil {
		return fmt.Errorf("write request: %w", err)
	}
	return nil
}

// frame reads until whole says how long the first frame is, and returns it. What follows it is kept.
func (c *conn) frame(whole func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := whole(c.buf)
		if err != nil {
			return nil, err
		}
		if n > 0 {
			b := append([]byte(nil), c.buf[:n]...)
			c.buf = c.buf[:copy(c.buf, c.buf[n:])]
			return b, nil
		}
		if err := c.more(); err != nil {
			return nil, err
		}
	}
}

func (c *conn) more() error {
	const step = 4 << 10
	have := len(c.buf)
	if cap(c.buf)-have < step {
		c.buf = append(make([]byte, 0, 2*cap(c.buf)+step), c.buf...)
	}
	n, err := c.Read(c.buf[have:cap(c.buf)])
	c.buf = c.buf[:have+n]
	c.read += n
	if n == 0 && err != nil {
		return fmt.Errorf("read reply: %w", err)
	}
	return nil
}
