package pqtls

import (
	"crypto/tls"
	"net"
	"sync"
	"time"

	"github.com/assay-bench/assay/reference/defect"
)

// echoBuffer is the most that is read before it is sent back: one record (RFC 9846 section 5.1).
const echoBuffer = 1 << 14

// session is one connection.
type session struct {
	server *Server
	raw    net.Conn
	bent   bool // served by a peer that can not be woken

	mu      sync.Mutex
	echoing bool // the handshake is over, a read may be interrupted
	woken   bool // the server drains
}

// wake ends the wait of an idle connection. A handshake is left alone: it may take its deadline.
func (c *session) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.woken = true
	if c.bent {
		_ = c.raw.Close() // its goroutine sees the error
	} else if c.echoing {
		_ = c.raw.SetReadDeadline(time.Now()) // on a closed connection there is nothing to wake
	}
}

// await sets the deadline of the next read, or reports false when the server drains.
func (c *session) await() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.echoing = true
	return !c.woken && c.raw.SetReadDeadline(time.Now().Add(c.server.cfg.IdleDeadline)) == nil
}

// serve performs the handshake and echoes.
func (c *session) serve() {
	cfg := &c.server.cfg
	hello := &helloConn{Conn: c.raw, mldsaOnly: cfg.mldsaOnly()}
	conn := tls.Server(hello, c.server.tls)
	if err := c.handshake(hello, conn); err != nil {
		code := failureCode(hello, err)
		c.server.counters.failure(code)
		cfg.Logger.Debug("handshake failed", "port", cfg.Name, "code", code, "err", err)
		hello.closeGently()
		return
	}
	state := conn.ConnectionState()
	c.server.count(reached{group: state.CurveID, retry: state.HelloRetryRequest, resumed: state.DidResume})
	c.echo(conn)
	_ = conn.Close() // sends close_notify; the peer may be gone
}

func (c *session) handshake(hello *helloConn, conn *tls.Conn) error {
	if err := c.raw.SetDeadline(time.Now().Add(c.server.cfg.HandshakeDeadline)); err != nil {
		return err
	}
	if err := conn.Handshake(); err != nil {
		return err
	}
	hello.settled.Store(true)
	return nil
}

// echo sends back what it receives until the peer closes, a bound is reached or the server drains.
func (c *session) echo(conn *tls.Conn) {
	buffer := make([]byte, echoBuffer)
	alter := c.server.cfg.Defects.On(defect.TLSEchoAltered)
	for left := c.server.cfg.MaxBytes; left > 0 && c.await(); {
		n, err := conn.Read(buffer[:min(left, echoBuffer)])
		if n > 0 {
			if alter {
				buffer[0] ^= 1
			}
			if c.raw.SetWriteDeadline(time.Now().Add(c.server.cfg.WriteDeadline)) != nil {
				return
			}
			if _, err := conn.Write(buffer[:n]); err != nil {
				return
			}
			left -= int64(n)
		}
		if err != nil {
			return
		}
	}
}
