package proto

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/assay-bench/assay/scenarios/load"
	"github.com/assay-bench/assay/scenarios/load/arrival"
	"github.com/assay-bench/assay/scenarios/wire/http1"
)

// httpOne is HTTP/1.1 with a client of our own: net/http costs more than the servers that are measured.
type httpOne struct{}

var _ = add(httpOne{})

func (httpOne) Schemes() []Scheme {
	return []Scheme{{"http", "HTTP/1.1"}, {"https", "HTTP/1.1 over TLS"}}
}

func (httpOne) Open(ctx context.Context, c Config) (*Session, error) {
	return overHTTP1(ctx, c, plainHTTP(c), c.URL.Scheme == "https")
}

const (
	http1Buffer   = 16 << 10
	maxHTTP1Conns = 1_024 // by default: a hung server holds one for every request in flight
)

// overHTTP1 sends an exchange over HTTP/1.1.
func overHTTP1(ctx context.Context, c Config, x exchange, secure bool) (*Session, error) {
	method, list, err := x.prepare(c)
	if err != nil {
		return nil, err
	}
	s := &http1Sender{
		exchange: x, opt: http1.Options{Head: method == "HEAD", Keep: x.keep, Field: x.field},
		again: idempotent(method), dial: c.Dial, addr: c.URL.Host,
	}
	if secure {
		s.tls = c.tlsConfig("http/1.1")
	}
	for _, m := range list {
		raw, err := http1.Request{Method: method, Target: m.path, Host: c.URL.Host, Header: fields(m.header), Body: m.body}.Encode()
		if err != nil {
			return nil, refuse("%v", err)
		}
		s.requests = append(s.requests, raw)
	}
	within, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	first, err := s.fresh(within)
	if err != nil {
		return nil, unreachable(err)
	}
	s.first.Store(first)
	n, bounded := c.Conns, true
	if n == 0 {
		n, bounded = min(max(c.InFlight, 16), maxHTTP1Conns), false
	}
	return &Session{
		Via: &load.Pool{Callers: repeat(n, s.caller)}, Bounded: bounded, close: s.close,
		Users: func(n int) []load.Caller { return repeat(n, s.caller) },
		Note:  fmt.Sprintf("%s %s over HTTP/1.1, up to %d connections", x.name, method, n),
	}, nil
}

func fields(list []Field) []http1.Field {
	var out []http1.Field
	for _, f := range list {
		out = append(out, http1.Field(f))
	}
	return out
}

// http1Sender holds what the callers share. The worker who waited last is the next to send, so that as
// many connections are open as were in flight at once.
type http1Sender struct {
	exchange exchange
	requests [][]byte
	opt      http1.Options
	again    bool
	dial     func(ctx context.Context, network, addr string) (net.Conn, error)
	addr     string
	tls      *tls.Config
	first    atomic.Pointer[http1Conn] // which proved that the target can be reached, for the first caller

	mu      sync.Mutex // guards callers
	callers []*http1Caller
}

type http1Conn struct {
	net.Conn
	under net.Conn // knows when bytes came in; Conn itself without TLS
	in    *bufio.Reader
	now   *load.TryWriter // nil: writes may wait
	used  bool            // it has carried a request
}

func (s *http1Sender) caller(int) load.Caller {
	c := &http1Caller{sender: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.callers = append(s.callers, c)
	return c
}

func (s *http1Sender) fresh(ctx context.Context) (*http1Conn, error) {
	conn, err := s.dial(ctx, "tcp", s.addr)
	if err != nil {
		return nil, err
	}
	now := load.NewTryWriter(conn)
	conn = arrival.Of(conn)
	under := conn
	if s.tls != nil {
		secure := tls.Client(conn, s.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		conn, now = secure, nil
	}
	return &http1Conn{Conn: conn, under: under, in: bufio.NewReaderSize(conn, http1Buffer), now: now}, nil
}

// close ends the connections of callers that have returned.
func (s *http1Sender) close() {
	if conn := s.first.Swap(nil); conn != nil {
		_ = conn.Close() // nothing is under way on it
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.callers {
		if c.idle != nil {
			_ = c.idle.Close() // nor on this
		}
	}
}

// http1Caller makes one request at a time.
type http1Caller struct {
	sender *http1Sender
	line   line
	idle   *http1Conn // kept alive for the next call
	rest   []byte     // of the request that Start began
	age    time.Duration
}

var _ load.Starter = (*http1Caller)(nil)

// Age tells how long ago the reply to the last call came in.
func (c *http1Caller) Age() time.Duration { return c.age }

func (c *http1Caller) request(id uint64) []byte {
	return c.sender.requests[id%uint64(len(c.sender.requests))]
}

// Start sends on the connection that was kept alive.
func (c *http1Caller) Start(_ context.Context, id uint64) bool {
	if c.idle == nil || c.idle.now == nil {
		return false
	}
	request := c.request(id)
	n, err := c.idle.now.TryWrite(request)
	if err != nil || n == 0 {
		return false // Call meets the error, or waits
	}
	c.rest = request[n:]
	return true
}

// Finish sends the rest and reads the reply.
func (c *http1Caller) Finish(ctx context.Context, id uint64) error {
	conn := c.idle
	c.idle = nil
	return c.exchange(ctx, conn, c.rest, c.request(id))
}

func (c *http1Caller) Call(ctx context.Context, id uint64) error {
	conn := c.idle
	c.idle = nil
	if conn == nil {
		conn = c.sender.first.Swap(nil)
	}
	return c.exchange(ctx, conn, c.request(id), c.request(id))
}

// exchange sends what is left of a request and reads its reply, on a fresh connection when conn is nil or turns
// out to be closed.
func (c *http1Caller) exchange(ctx context.Context, conn *http1Conn, rest, request []byte) error {
	for {
		var err error
		if conn == nil {
			if conn, err = c.sender.fresh(ctx); err != nil {
				return err
			}
			rest = request
		}
		r, err := c.on(ctx, conn, rest)
		if err == nil {
			return c.sender.exchange.grant(reply{status: r.Status, body: r.Body, field: r.Field})
		}
		if !conn.used || !c.sender.again || !stale(err) || ctx.Err() != nil {
			return err
		}
		// The server had closed an idle connection. The time that this took counts.
		conn = nil
	}
}

// on makes the exchange on a connection, and keeps it if it can be used again.
func (c *http1Caller) on(ctx context.Context, conn *http1Conn, rest []byte) (http1.Reply, error) {
	if err := c.line.hold(ctx, conn); err != nil {
		return http1.Reply{}, err
	}
	if len(rest) > 0 {
		if _, err := conn.Write(rest); err != nil {
			c.line.drop()
			return http1.Reply{}, err
		}
	}
	r, err := http1.Read(conn.in, c.sender.opt)
	c.age = arrival.Since(conn.under)
	if err == nil && conn.in.Buffered() > 0 && !r.Close {
		err = fmt.Errorf("%w: bytes after the reply", http1.ErrMalformed)
	}
	if err != nil || r.Close {
		c.line.drop()
		return r, err
	}
	if _, alive := c.line.release(); alive {
		conn.used = true
		c.idle = conn
	}
	return r, nil
}

// stale tells an end before the first byte of a reply.
func stale(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}
