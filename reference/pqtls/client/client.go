// Package client is the client of the TLS reference: a dialler with a policy on post-quantum key
// exchange, a pool of connections that knows the class of each, sessions kept apart by class, and
// verification of OCSP staples. It listens on nothing and writes no files.
//
// Connections and sessions belong to buckets: network address, server name, ALPN list, class of group
// reached, policy, and everything that decides whom a dial trusts. crypto/tls binds a ticket to none
// of these but the name, so each connection gets a session cache of its own that serves its bucket.
//
// Tried: looking at the socket with a short read deadline when a connection is taken from the pool.
// Lost: a ticket that waits there looks like unasked data, and an end is noticed only at the next use.
package client

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/assay-bench/assay/reference/defect"
)

// maxDials bounds the dials in progress; more wait for their turn.
const maxDials = 128

// Clock is the time of a pool.
type Clock interface {
	Now() time.Time
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

// Config configures a Client. Zero fields get the defaults named beside them.
type Config struct {
	Defects    defect.Set
	Logger     *slog.Logger          // discards
	Registerer prometheus.Registerer // a registry of its own
	Clock      Clock                 // of the operating system
	Skew       time.Duration         // tolerated at both ends of a staple's validity; 0

	// Identity returns the client certificate of dials that ask for one; without it they fail.
	Identity func() (*tls.Certificate, error)
	// Control may refuse an address before it is connected to, as in net.Dialer.
	Control func(network, address string, c syscall.RawConn) error

	metrics *metrics
}

// Client dials. All methods may be called concurrently.
type Client struct {
	cfg   Config
	pool  *pool
	slots chan struct{}
	ctx   context.Context // ends with Close
	end   context.CancelFunc
	dials sync.WaitGroup

	mu     sync.Mutex
	closed bool
}

// New returns a client without connections.
func New(cfg Config) (*Client, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Registerer == nil {
		cfg.Registerer = prometheus.NewRegistry()
	}
	if cfg.Clock == nil {
		cfg.Clock = wallClock{}
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("tls client: register metrics: %w", err)
	}
	cfg.metrics = m
	c := &Client{cfg: cfg, pool: newPool(cfg), slots: make(chan struct{}, maxDials)}
	c.ctx, c.end = context.WithCancel(context.Background())
	return c, nil
}

type wallClock struct{}

// Now implements Clock.
func (wallClock) Now() time.Time { return time.Now() }

// AfterFunc implements Clock.
func (wallClock) AfterFunc(d time.Duration, f func()) func() bool { return time.AfterFunc(d, f).Stop }

// SetLimits changes the limits of the pool, also for what it holds already.
func (c *Client) SetLimits(l Limits) error {
	if l.MaxIdle < 0 || l.MaxAge < 0 || l.IdleTimeout < 0 {
		return fmt.Errorf("tls client: negative limit in %+v", l)
	}
	c.pool.setLimits(l)
	return nil
}

// Counters returns the counters of the moment.
func (c *Client) Counters() Counters { return c.pool.snapshot() }

// Reset closes idle connections and forgets sessions and counters; limits stay. A connection in use is
// closed after its exchange.
func (c *Client) Reset() { c.pool.reset() }

// Close ends dials in progress and every connection, and returns when no goroutine is left.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.end()
	c.pool.close()
	c.dials.Wait()
	c.pool.readers.Wait()
}

// begin counts a dial in. It is false after Close.
func (c *Client) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.dials.Add(1)
	return true
}

// Do dials, or takes a connection from the pool, and exchanges what is to be sent. Its error is always
// an *Error; the result tells how far it came.
func (c *Client) Do(ctx context.Context, r Request) (Result, error) {
	if !c.begin() {
		return Result{}, fail(DialFailed, "the client is closed")
	}
	defer c.dials.Done()
	ctx, cancel := context.WithTimeout(ctx, r.deadline())
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return Result{}, fail(Deadline, "%d dials are in progress: %v", maxDials, ctx.Err())
	}
	result, err := c.do(ctx, r)
	outcome := "ok"
	switch {
	case err != nil:
		outcome = string(err.Code)
	case result.Reused:
		outcome = "reused"
	}
	c.cfg.metrics.dials.WithLabelValues(outcome).Inc()
	if err != nil {
		return result, err
	}
	return result, nil
}

func (c *Client) do(ctx context.Context, r Request) (Result, *Error) {
	p, failure := c.plan(r)
	if failure != nil {
		return Result{}, failure
	}
	conn, reused, failure := c.obtain(ctx, p)
	if failure != nil {
		return Result{}, failure
	}
	result := conn.result(reused)
	received, err := conn.exchange(ctx, r.Send)
	result.Received = received
	if err != nil {
		c.pool.discard(conn, closedError)
		failure := classify(err, Exchange)
		// In TLS 1.3 a server that refuses the client's flight says so after the client's handshake.
		result.Connected = reused || failure.Code != Alert || len(received) > 0
		return result, failure
	}
	if len(r.Send) > 0 {
		c.pool.count(func(n *counts) { n.Requests.add(conn.class) })
	}
	if c.cfg.Defects.On(defect.PoolPolicyCheckedLate) && !r.Policy.Accepts(conn.class) {
		result.Connected = false
		c.pool.discard(conn, closedQuietly)
		return result, c.refuse(p, conn.state)
	}
	p.keepSession(conn)
	if r.Pool {
		c.pool.put(conn)
	} else {
		c.pool.discard(conn, closedQuietly)
	}
	return result, nil
}

// obtain returns a connection from the pool or a new one.
func (c *Client) obtain(ctx context.Context, p *plan) (_ *conn, reused bool, _ *Error) {
	if p.Pool {
		suits := func(c *conn) bool { return hasGroup(p.offered, c) && c.version >= p.MinVersion }
		if conn := c.pool.get(ctx, p.base, p.classes, suits); conn != nil {
			c.pool.count(func(n *counts) { n.Reused.add(conn.class) })
			return conn, true, nil
		}
	}
	conn, failure := c.dial(ctx, p, true)
	if failure != nil && failure.again {
		c.cfg.Logger.Warn("a session can not be resumed, handshake from scratch", "address", p.Address, "sni", p.name, "err", failure.Error)
		conn, failure = c.dial(ctx, p, false)
	}
	if failure != nil {
		return nil, false, failure.Error
	}
	return conn, false, nil
}
