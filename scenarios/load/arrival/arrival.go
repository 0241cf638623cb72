// Package arrival reads TCP connections together with the time at which the
// kernel took the bytes in. A program sees a reply when one of its threads has
// been woken and scheduled; on a busy or virtual machine that is 0.05 to 0.2 ms
// later, which is the reader's time and not the peer's.
package arrival

import (
	"net"
	"time"
)

// base is where the times of this package count from.
var base = time.Now()

// Of returns conn with reads that note when the last byte came in. Where the
// kernel does not tell (not Linux, not a TCP connection of package net) it
// returns conn itself.
func Of(conn net.Conn) net.Conn {
	if tcp, ok := conn.(*net.TCPConn); ok {
		if c := stamped(tcp); c != nil {
			return c
		}
	}
	return conn
}

// Since returns how long ago the last byte came in that was read from conn; 0
// when nobody knows. For one reply among several of a connection it is a lower
// bound, so that what is computed from it never comes out too fast; read the clock that
// it is taken from afterwards, for the same reason.
func Since(conn net.Conn) time.Duration {
	c := under(conn)
	if c == nil {
		return 0
	}
	last := c.last.Load()
	if last == 0 {
		return 0 // nothing was read yet
	}
	return max(time.Since(base)-time.Duration(last), 0)
}

// Stamped tells whether conn knows when its bytes came in.
func Stamped(conn net.Conn) bool {
	return under(conn) != nil
}

// under returns conn, or the connection that one of TLS runs over; nil: it is not of this package.
func under(conn net.Conn) *Conn {
	if over, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = over.NetConn()
	}
	c, _ := conn.(*Conn)
	return c
}
