package proto

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2/hpack"

	"github.com/assay-bench/assay/scenarios/load"
	"github.com/assay-bench/assay/scenarios/load/arrival"
)

// httpTwo is HTTP/2 with a client of our own: the pacer writes the frames, and no goroutine waits for a reply.
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
	l := &h2Load{exchange: x, head: method == "HEAD"}
	for _, m := range list {
		r, err := h2Render(c, method, m, x.streamed, secure)
		if err != nil {
			return nil, err
		}
		l.requests = append(l.requests, r)
	}
	conns := c.Conns
	if conns == 0 {
		conns = streamConns
	}
	open := func() load.Session { return newH2Session(l) }
	dial := c.dialHTTP2(secure)
	ps := newParties(conns, dial, c.URL.Host, open)
	return &Session{
		Via:   &load.Mux{Session: open, Dial: dial, Addr: c.URL.Host, Conns: conns},
		Note:  fmt.Sprintf("%s %s over HTTP/2, streams over %d connections", x.name, method, conns),
		Users: func(n int) []load.Caller { return repeat(n, ps.caller) },
		close: ps.close,
	}, nil
}

// dialHTTP2 returns what makes a connection that speaks HTTP/2 from its first byte.
func (c Config) dialHTTP2(secure bool) load.Dialer {
	plain := func(ctx context.Context, addr string) (net.Conn, error) { return c.Dial(ctx, "tcp", addr) }
	if !secure {
		return plain
	}
	cfg := c.tlsConfig("h2")
	return func(ctx context.Context, addr string) (net.Conn, error) {
		under, err := plain(ctx, addr)
		if err != nil {
			return nil, err
		}
		conn := tls.Client(arrival.Of(under), cfg)
		if err = conn.HandshakeContext(ctx); err == nil && conn.ConnectionState().NegotiatedProtocol != "h2" {
			err = fmt.Errorf("the server does not choose HTTP/2 in the TLS handshake (ALPN %.20q)", conn.ConnectionState().NegotiatedProtocol)
		}
		if err != nil {
			_ = under.Close() // the handshake failed
			return nil, err
		}
		return conn, nil
	}
}

// h2Load is what the connections of a load share.
type h2Load struct {
	exchange
	head     bool
	requests []*h2Request
}

// h2Request is a request of one row.
type h2Request struct {
	fields []hpack.HeaderField
	body   []byte
}

func (l *h2Load) request(id uint64) *h2Request { return l.requests[id%uint64(len(l.requests))] }

// most is how many bytes a reply's body may have.
func (l *h2Load) most() int64 {
	if l.keep > 0 {
		return int64(l.keep)
	}
	return ourWindow
}

// bodiless tells of a reply that has no body whatever its header says (RFC 9110 section 6.4.1).
func (l *h2Load) bodiless(status int) bool { return l.head || status == 204 || status == 304 }

// ofConnection are fields that HTTP/2 does not carry (RFC 9113 section 8.2.2).
var ofConnection = map[string]bool{
	"connection": true, "proxy-connection": true, "keep-alive": true, "transfer-encoding": true, "upgrade": true,
}

// h2Render makes the header fields of a request. streamed: its length is not told.
func h2Render(c Config, method string, m message, streamed, secure bool) (*h2Request, error) {
	scheme := "http"
	if secure {
		scheme = "https"
	}
	if !httpguts.ValidHeaderFieldName(method) { // both are tokens
		return nil, refuse("method %.40q", method)
	}
	authority, fields := c.URL.Host, []hpack.HeaderField(nil)
	for _, f := range m.header {
		name := strings.ToLower(f.Name)
		switch {
		case !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(f.Value):
			return nil, refuse("header field %.40q: name or value has characters that HTTP does not carry", f.Name)
		case name == "content-length":
			return nil, refuse("header field %s: the length of the body is told as it is", f.Name)
		case ofConnection[name]:
			return nil, refuse("header field %s: HTTP/2 does not carry it", f.Name)
		case name == "host":
			authority = f.Value
		default:
			fields = append(fields, hpack.HeaderField{Name: name, Value: f.Value})
		}
	}
	if len(m.body) > 0 && !streamed {
		fields = append(fields, hpack.HeaderField{Name: "content-length", Value: strconv.Itoa(len(m.body))})
	}
	return &h2Request{body: m.body, fields: append([]hpack.HeaderField{
		{Name: ":method", Value: method}, {Name: ":scheme", Value: scheme},
		{Name: ":authority", Value: authority}, {Name: ":path", Value: m.path},
	}, fields...)}, nil
}
