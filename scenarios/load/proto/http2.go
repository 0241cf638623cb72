package proto

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/assay-bench/assay/scenarios/load"
	"github.com/assay-bench/assay/scenarios/load/arrival"
	"github.com/assay-bench/assay/scenarios/wire/http1"
)

// httpTwo is HTTP/2 with the client of net/http: streams on few connections.
type httpTwo struct{}

var _ = add(httpTwo{})

func (httpTwo) Schemes() []Scheme {
	return []Scheme{{"h2c", "HTTP/2 in clear text, with prior knowledge"}, {"h2", "HTTP/2 over TLS"}}
}

func (httpTwo) Open(ctx context.Context, c Config) (*Session, error) {
	return overHTTP2(ctx, c, plainHTTP(c), c.URL.Scheme == "h2")
}

// streamConns is how many connections carry streams by default.
const streamConns = 4

// overHTTP2 sends an exchange over HTTP/2.
func overHTTP2(ctx context.Context, c Config, x exchange, secure bool) (*Session, error) {
	method, list, err := x.prepare(c)
	if err != nil {
		return nil, err
	}
	if err := c.probe(ctx); err != nil {
		return nil, err
	}
	conns := c.Conns
	if conns == 0 {
		conns = streamConns
	}
	h := &http2Sender{exchange: x}
	for _, m := range list {
		request, err := http2Request(c, method, m, secure)
		if err != nil {
			return nil, err
		}
		h.requests = append(h.requests, request)
	}
	for range conns {
		under := new(arrival.Socket)
		h.transports, h.sockets = append(h.transports, http2Transport(c, secure, under)), append(h.sockets, under)
	}
	caller := func(i int) load.Caller { return &http2Caller{h, h.transports[i%conns], h.sockets[i%conns]} }
	return c.streams(conns, caller, fmt.Sprintf("%s %s over HTTP/2", x.name, method), h.close), nil
}

// http2Transport makes one connection, again when it breaks, and waits where the server limits streams.
func http2Transport(c Config, secure bool, under *arrival.Socket) *http.Transport {
	dial := under.Dialer(c.Dial)
	t := &http.Transport{
		DialContext:        func(ctx context.Context, _, addr string) (net.Conn, error) { return dial(ctx, addr) },
		DisableCompression: true, Protocols: new(http.Protocols),
		HTTP2:           &http.HTTP2Config{StrictMaxConcurrentRequests: true},
		MaxConnsPerHost: 1, MaxResponseHeaderBytes: http1.MaxHead,
	}
	if secure {
		t.Protocols.SetHTTP2(true)
		t.TLSClientConfig = c.tlsConfig("h2")
	} else {
		t.Protocols.SetUnencryptedHTTP2(true)
	}
	return t
}

// http2Request is one request without its body.
type http2Send struct {
	request *http.Request
	body    []byte
}

func http2Request(c Config, method string, m message, secure bool) (http2Send, error) {
	scheme := "http"
	if secure {
		scheme = "https"
	}
	u, err := url.Parse(scheme + "://" + c.URL.Host + m.path)
	if err != nil {
		return http2Send{}, refuse("path %.100q: %v", m.path, err)
	}
	request, err := http.NewRequest(method, u.String(), nil)
	if err != nil {
		return http2Send{}, refuse("%v", err)
	}
	for _, f := range m.header {
		request.Header.Add(f.Name, f.Value)
	}
	if request.Header.Get("User-Agent") == "" {
		request.Header["User-Agent"] = nil // none is sent, as over HTTP/1.1
	}
	request.ContentLength = int64(len(m.body))
	return http2Send{request, m.body}, nil
}

type http2Sender struct {
	exchange   exchange
	requests   []http2Send
	transports []*http.Transport
	sockets    []*arrival.Socket // under each
}

func (h *http2Sender) close() {
	for _, t := range h.transports {
		t.CloseIdleConnections()
	}
}

// http2Caller makes requests as streams of one connection.
type http2Caller struct {
	sender    *http2Sender
	transport *http.Transport
	socket    *arrival.Socket
}

// Age tells how long ago the reply came in, or a later one of the same connection.
func (c *http2Caller) Age() time.Duration { return c.socket.Age() }

func (c *http2Caller) Call(ctx context.Context, id uint64) error {
	send := c.sender.requests[id%uint64(len(c.sender.requests))]
	request := send.request.WithContext(ctx)
	if len(send.body) > 0 {
		request.Body = io.NopCloser(bytes.NewReader(send.body))
	}
	answer, err := c.transport.RoundTrip(request)
	if err != nil {
		return err
	}
	x := c.sender.exchange
	body, err := readBounded(answer.Body, x.keep)
	if err != nil {
		return err
	}
	return x.grant(reply{status: answer.StatusCode, body: body, field: answer.Header.Get(x.field)})
}

// readBounded reads a body to its end and keeps up to keep bytes; a longer one is an error when any are
// kept.
func readBounded(from io.ReadCloser, keep int) (body []byte, err error) {
	defer func() { _ = from.Close() }() // it was read to its end, or is given up
	most := int64(http1.MaxBody)
	if keep > 0 {
		most = int64(keep)
	}
	limited := io.LimitReader(from, most+1)
	n := int64(0)
	if keep > 0 {
		body, err = io.ReadAll(limited)
		n = int64(len(body))
	} else {
		n, err = io.Copy(io.Discard, limited)
	}
	if err == nil && n > most {
		err = fmt.Errorf("body of more than %d bytes", most)
	}
	return body, err
}
