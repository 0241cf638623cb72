package cost

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

const limit = 10 * time.Second // of one handshake

// once makes one handshake with an echoed byte.
func once(ctx context.Context, client, server *thread, c Cell, tcp bool) (Sample, error) {
	count := &counter{}
	up, down, err := connect(ctx, tcp, count)
	if err != nil {
		return Sample{}, err
	}
	defer func() { _, _ = up.Close(), down.Close() }()
	deadline := time.Now().Add(limit)
	_, _ = up.SetDeadline(deadline), down.SetDeadline(deadline)

	var s Sample
	serverErr := make(chan error, 1)
	server.do(func() {
		s.Server, err = cpuOf(func() error { return echo(down, c.server) })
		serverErr <- err
	})
	clientErr := make(chan error, 1)
	client.do(func() {
		var err error
		s.Client, err = cpuOf(func() error { return dial(up, c.client, c.Resumed, &s) })
		if err != nil {
			_ = down.Close() // the server must not wait for a client that gave up
		}
		clientErr <- err
	})
	if err := errors.Join(<-clientErr, <-serverErr); err != nil {
		return Sample{}, err
	}
	s.Up, s.Down, s.Flights = count.totals()
	return s, nil
}

func echo(conn net.Conn, cfg *tls.Config) error {
	t := tls.Server(conn, cfg)
	b := make([]byte, 1)
	if _, err := io.ReadFull(t, b); err != nil {
		return fmt.Errorf("server: %w", err)
	}
	if _, err := t.Write(b); err != nil {
		return fmt.Errorf("server: %w", err)
	}
	return nil
}

func dial(conn net.Conn, cfg *tls.Config, resumed bool, s *Sample) error {
	began := time.Now()
	t := tls.Client(conn, cfg)
	if err := t.Handshake(); err != nil {
		return fmt.Errorf("client: %w", err)
	}
	s.Wall = time.Since(began)
	if _, err := t.Write([]byte{1}); err != nil {
		return fmt.Errorf("client: %w", err)
	}
	if _, err := io.ReadFull(t, make([]byte, 1)); err != nil {
		return fmt.Errorf("client: %w", err)
	}
	state := t.ConnectionState()
	s.Retried, s.Resumed = state.HelloRetryRequest, resumed && state.DidResume
	return nil
}

// counter counts what goes over a connection, both ends together.
type counter struct {
	mu       sync.Mutex
	up, down int
	flights  int
	last     int // 1 up, 2 down
}

func (c *counter) add(direction, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if direction == 1 {
		c.up += n
	} else {
		c.down += n
	}
	if direction != c.last {
		c.flights, c.last = c.flights+1, direction
	}
}

func (c *counter) totals() (up, down, flights int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.up, c.down, c.flights
}

// counted reports its writes before they are made, so that an answer can not be counted before what it answers. A handshake
// with a failed write gives no sample.
type counted struct {
	net.Conn
	direction int
	count     *counter
}

func (c counted) Write(b []byte) (int, error) {
	c.count.add(c.direction, len(b))
	return c.Conn.Write(b)
}

func connect(ctx context.Context, tcp bool, count *counter) (up, down net.Conn, err error) {
	if !tcp {
		a, b := bufferedPipe()
		return counted{a, 1, count}, counted{b, 2, count}, nil
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = l.Close() }()
	var dialer net.Dialer
	a, err := dialer.DialContext(ctx, "tcp", l.Addr().String())
	if err != nil {
		return nil, nil, err
	}
	b, err := l.Accept()
	if err != nil {
		return nil, nil, errors.Join(err, a.Close())
	}
	return counted{a, 1, count}, counted{b, 2, count}, nil
}
