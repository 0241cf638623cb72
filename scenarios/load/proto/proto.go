// Package proto knows the protocols that load can be sent over. A protocol is one file: a type with
// Schemes and Open, and one line var _ = add(…). Protocols whose requests carry an id or have streams are
// sent asynchronously by load.Mux; blocking ones, by callers that share a stack of connections.
//
// Requests are made before the run: one for each row of data, sent by arrival number modulo rows, so that
// the same schedule sends the same bytes on every machine. The package opens connections only through
// the dialer that it is given, and it judges nothing but whether a reply grants its request.
package proto

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/load"
)

// ErrConfig is wrapped by every refusal of what the user asked for.
var ErrConfig = errors.New("load refused")

// ErrUnreachable is wrapped when no connection could be made before the run.
var ErrUnreachable = errors.New("target is unreachable")

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrConfig, fmt.Sprintf(format, args...))
}

// DefaultSize is the size of a payload that nobody has given, in bytes.
const DefaultSize = 64

// Config is one load to be sent.
type Config struct {
	URL    *url.URL
	Method string // of HTTP, or of Thrift; empty: the protocol's own
	Header []Field
	Body   []byte // a template when there are Rows
	JSON   bool   // the body is JSON, to be encoded as the protocol demands
	Size   int    // of the payload where no body is given; 0: DefaultSize
	Rows   *Rows  // nil: every request is the same

	// Conns is how many connections are made. It bounds the requests in flight where a connection
	// carries one at a time. 0: the protocol's default, which bounds nothing that a valid run needs.
	Conns    int
	InFlight int // how many requests the schedule can have in flight: its highest rate × timeout
	TLS      TLS
	Dial     scenarios.DialFunc
}

// TLS says how to speak TLS where the scheme says so.
type TLS struct {
	Config *tls.Config // nil: the system's roots, the URL's host as name
}

// Field is one header field or metadata entry; the value is a template when there are Rows.
type Field struct{ Name, Value string }

// Session is a protocol ready to send.
type Session struct {
	// Via sends an open-loop schedule.
	Via load.Via
	// Bounded tells that Config.Conns limits the requests in flight, so that a queue in front of the
	// server is part of what is tested.
	Bounded bool
	// Users returns n blocking callers for the closed model; no two share a request under way.
	Users func(n int) []load.Caller
	// Note says in words what is sent and how.
	Note string

	close func()
}

// Close ends all connections.
func (s *Session) Close() {
	if s.close != nil {
		s.close()
	}
}

// Protocol is a way to send requests and to recognise replies.
type Protocol interface {
	// Schemes lists the URL schemes with what each means.
	Schemes() []Scheme
	// Open prepares the requests and proves with one connection that the target can be reached. Errors
	// wrap ErrConfig or ErrUnreachable.
	Open(ctx context.Context, c Config) (*Session, error)
}

// Scheme is one URL scheme.
type Scheme struct{ Name, Meaning string }

var registry = map[string]Protocol{}

// add registers a protocol of this package. Two of one scheme are a bug that every test finds.
func add(p Protocol) Protocol {
	for _, s := range p.Schemes() {
		if _, twice := registry[s.Name]; twice {
			panic("proto: two protocols have the scheme " + s.Name)
		}
		registry[s.Name] = p
	}
	return p
}

// Schemes lists every scheme, sorted by name.
func Schemes() []Scheme {
	var all []Scheme
	for name, p := range registry {
		list := p.Schemes()
		all = append(all, list[slices.IndexFunc(list, func(s Scheme) bool { return s.Name == name })])
	}
	slices.SortFunc(all, func(a, b Scheme) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// ParseURL reads a load URL and completes its port.
func ParseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, refuse("%.200q is no URL: %v", raw, errors.Unwrap(err))
	}
	var names []string
	for _, s := range Schemes() {
		names = append(names, s.Name)
	}
	switch {
	case registry[u.Scheme] == nil:
		return nil, refuse("%.200q: scheme %.40q: there are %s", raw, u.Scheme, strings.Join(names, ", "))
	case u.Hostname() == "":
		return nil, refuse("%.200q names no host", raw)
	case u.User != nil:
		return nil, refuse("a URL with a user or a password: send credentials in a header")
	case u.Fragment != "":
		return nil, refuse("%.200q: a fragment is not sent", raw)
	case u.Port() != "":
		return u, nil
	}
	port := map[string]string{"http": "80", "https": "443", "h2": "443", "tls": "443"}[u.Scheme]
	if port == "" {
		return nil, refuse("%.200q names no port", raw)
	}
	u.Host = net.JoinHostPort(u.Hostname(), port)
	return u, nil
}

// Open opens the protocol of the URL's scheme.
func Open(ctx context.Context, c Config) (*Session, error) {
	p := registry[c.URL.Scheme]
	if p == nil {
		return nil, refuse("scheme %.40q", c.URL.Scheme)
	}
	if c.Conns < 0 || c.Conns > maxConns {
		return nil, refuse("%d connections, want 1 to %d, or none for the protocol's default", c.Conns, maxConns)
	}
	if c.Size == 0 {
		c.Size = DefaultSize
	}
	return p.Open(ctx, c)
}

const (
	maxConns    = 2_048
	dialTimeout = 5 * time.Second
)

// reach makes the first connection, which proves that there is someone to talk to.
func (c Config) reach(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := c.Dial(ctx, "tcp", c.URL.Host)
	if err != nil {
		return nil, unreachable(err)
	}
	return conn, nil
}

func unreachable(err error) error { return fmt.Errorf("%w: %w", ErrUnreachable, err) }

// probe makes and ends the first connection.
func (c Config) probe(ctx context.Context) error {
	conn, err := c.reach(ctx)
	if err != nil {
		return err
	}
	return conn.Close()
}

// mux sends codec's requests asynchronously.
func (c Config) mux(ctx context.Context, codec load.Codec, note string) (*Session, error) {
	if err := c.probe(ctx); err != nil {
		return nil, err
	}
	conns := c.Conns
	if conns == 0 {
		conns = streamConns
	}
	dial := func(ctx context.Context, addr string) (net.Conn, error) { return c.Dial(ctx, "tcp", addr) }
	return &Session{
		Via:  &load.Mux{Codec: codec, Dial: dial, Addr: c.URL.Host, Conns: conns},
		Note: fmt.Sprintf("%s, multiplexed over %d connections", note, conns),
		Users: func(n int) []load.Caller {
			return repeat(n, func(int) load.Caller { return &lockstep{codec: codec, dial: dial, addr: c.URL.Host} })
		},
	}, nil
}

func repeat(n int, caller func(i int) load.Caller) []load.Caller {
	list := make([]load.Caller, n)
	for i := range list {
		list[i] = caller(i)
	}
	return list
}

// tlsConfig returns a copy of the configuration with its protocols set.
func (c Config) tlsConfig(alpn ...string) *tls.Config {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.TLS.Config != nil {
		cfg = c.TLS.Config.Clone()
	}
	if cfg.ServerName == "" {
		cfg.ServerName = c.URL.Hostname()
	}
	cfg.NextProtos = alpn
	return cfg
}
