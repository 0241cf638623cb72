package proto

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/assay-bench/assay/scenarios/load"
)

// handshake is one whole TLS handshake a request, each on a connection of its own: none is resumed.
type handshake struct{}

var _ = add(handshake{})

func (handshake) Schemes() []Scheme {
	return []Scheme{{"tls", "TLS handshakes, none of them resumed"}}
}

func (handshake) Open(ctx context.Context, c Config) (*Session, error) {
	if c.Body != nil || c.Rows != nil || c.Header != nil || c.Method != "" || (c.URL.Path != "" && c.URL.Path != "/") || c.URL.RawQuery != "" {
		return nil, refuse("tls:// makes handshakes: it has no path, method, header, body or data")
	}
	h := &handshaker{dial: c.Dial, addr: c.URL.Host, cfg: c.tlsConfig()}
	first, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	state, err := h.shake(first)
	if err != nil {
		return nil, unreachable(err)
	}
	n, bounded := c.Conns, true
	if n == 0 {
		n, bounded = min(max(c.InFlight, 16), maxHTTP1Conns), false
	}
	caller := func(int) load.Caller { return h }
	return &Session{
		Via: &load.Pool{Callers: repeat(n, caller)}, Bounded: bounded,
		Users: func(n int) []load.Caller { return repeat(n, caller) },
		Note:  fmt.Sprintf("whole %s handshakes with %s, up to %d at once", tls.VersionName(state.Version), state.CurveID, n),
	}, nil
}

type handshaker struct {
	dial func(ctx context.Context, network, addr string) (net.Conn, error)
	addr string
	cfg  *tls.Config
}

func (h *handshaker) Call(ctx context.Context, _ uint64) error {
	_, err := h.shake(ctx)
	return err
}

func (h *handshaker) shake(ctx context.Context) (tls.ConnectionState, error) {
	conn, err := h.dial(ctx, "tcp", h.addr)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	secure := tls.Client(conn, h.cfg)
	err = secure.HandshakeContext(ctx)
	state := secure.ConnectionState()
	_ = secure.Close() // the handshake is all that counts
	return state, err
}

// groups by the names of their standards.
var groups = []tls.CurveID{
	tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024, tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521,
}

// ParseGroups reads the names of key exchange groups, in order of preference: X25519MLKEM768,X25519.
func ParseGroups(names []string) ([]tls.CurveID, error) {
	var out []tls.CurveID
	for _, name := range names {
		i := slices.IndexFunc(groups, func(g tls.CurveID) bool { return strings.EqualFold(g.String(), name) })
		if i < 0 {
			return nil, refuse("group %.40q: there are %v", name, groups)
		}
		out = append(out, groups[i])
	}
	return out, nil
}
