package duet

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"time"

	"github.com/assay-bench/assay/scenarios"
)

// Request is one HTTP/1.1 request of a scenario. Their requests are sent in turn.
type Request struct {
	Method string // empty: GET
	Path   string
	Header http.Header
	Body   []byte
	// Status is the status that is no error; 0: any below 400.
	Status int
}

// maxResponse bounds the body of one answer.
const maxResponse = 64 << 20

// connection is one keep-alive connection and its requests as bytes. A connection that was lost is dialled again by the
// next call: servers may close when they like.
type connection struct {
	dial     scenarios.DialFunc
	addr     string
	requests []prepared
	conn     *counted
	reader   *bufio.Reader
	wire     int64 // of connections that are gone
}

// counted counts the bytes of a connection, either way.
type counted struct {
	net.Conn
	n int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.n += int64(n)
	return n, err
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.n += int64(n)
	return n, err
}

type prepared struct {
	bytes  []byte
	method string
	status int
}

func openHTTP(ctx context.Context, dial scenarios.DialFunc, addr string, requests []Request) (Connection, error) {
	if len(requests) == 0 {
		return nil, fmt.Errorf("the scenario has no request")
	}
	c := &connection{dial: dial, addr: addr}
	for i, r := range requests {
		p, err := prepare(r, addr)
		if err != nil {
			return nil, fmt.Errorf("request %d: %w", i+1, err)
		}
		c.requests = append(c.requests, p)
	}
	return c, c.connect(ctx)
}

func prepare(r Request, addr string) (prepared, error) {
	if r.Method == "" {
		r.Method = http.MethodGet
	}
	if !strings.HasPrefix(r.Path, "/") {
		return prepared{}, fmt.Errorf("path %q does not begin with /", r.Path)
	}
	req, err := http.NewRequest(r.Method, "http://"+addr+r.Path, bytes.NewReader(r.Body))
	if err != nil {
		return prepared{}, err
	}
	for name, values := range r.Header {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	raw, err := httputil.DumpRequestOut(req, true)
	return prepared{raw, r.Method, r.Status}, err
}

func (c *connection) connect(ctx context.Context) error {
	conn, err := c.dial(ctx, "tcp", c.addr)
	if err != nil {
		return err
	}
	c.conn = &counted{Conn: conn}
	c.reader = bufio.NewReaderSize(c.conn, 16<<10)
	return nil
}

// Call sends the request whose turn it is and reads the answer to its end.
func (c *connection) Call(ctx context.Context, n int) error {
	if c.conn == nil {
		if err := c.connect(ctx); err != nil {
			return err
		}
	}
	p := c.requests[n%len(c.requests)]
	deadline, limited := ctx.Deadline() // none: the zero time, which is no deadline either
	if !limited {
		defer context.AfterFunc(ctx, c.interrupt(c.conn))()
	}
	keep, err := c.exchange(p, deadline)
	if !keep {
		_ = c.Close() // what went wrong with it is in err
	}
	return err
}

// interrupt returns what ends an exchange whose context has ended and has no deadline.
func (c *connection) interrupt(conn *counted) func() {
	return func() {
		_ = conn.SetDeadline(time.Unix(1, 0)) // of a connection that is closed already there is nothing to end
	}
}

// exchange writes a request and reads its answer; keep tells whether the connection can be used again.
func (c *connection) exchange(p prepared, deadline time.Time) (keep bool, err error) {
	if err := c.conn.SetDeadline(deadline); err != nil {
		return false, err
	}
	if _, err := c.conn.Write(p.bytes); err != nil {
		return false, err
	}
	resp, err := http.ReadResponse(c.reader, &http.Request{Method: p.method})
	if err != nil {
		return false, err
	}
	n, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxResponse+1))
	switch {
	case err != nil:
		return false, err
	case n > maxResponse:
		return false, fmt.Errorf("answer of more than %d bytes", maxResponse)
	case p.status != 0 && resp.StatusCode != p.status, p.status == 0 && resp.StatusCode >= http.StatusBadRequest:
		return !resp.Close, fmt.Errorf("status %d", resp.StatusCode)
	}
	return !resp.Close, nil
}

// Wire is how many bytes went either way.
func (c *connection) Wire() int64 {
	if c.conn == nil {
		return c.wire
	}
	return c.wire + c.conn.n
}

// Close closes the connection; the next call would dial again.
func (c *connection) Close() error {
	if c.conn == nil {
		return nil
	}
	err := c.conn.Close()
	c.wire += c.conn.n
	c.conn, c.reader = nil, nil
	return err
}
