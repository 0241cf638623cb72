package module

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/grafana/sobek"

	"go.k6.io/k6/js/common"
	"go.k6.io/k6/lib"
)

// tlsOptions are the second argument of pqtls().
type tlsOptions struct {
	callOptions
	ServerName string   `json:"serverName"` // default: the host of the address
	Groups     []string `json:"groups"`     // default: X25519MLKEM768 alone, so that nothing else can be negotiated
	Roots      string   `json:"roots"`      // PEM; default: the system's
	ALPN       []string `json:"alpn"`
	Insecure   bool     `json:"insecureSkipVerify"`
}

// TLSAnswer is what pqtls() returns.
type TLSAnswer struct {
	OK          bool    `js:"ok"`
	Error       string  `js:"error"`
	Group       string  `js:"group"` // that was negotiated
	PostQuantum bool    `js:"postQuantum"`
	Version     string  `js:"version"`
	Cipher      string  `js:"cipher"`
	ALPN        string  `js:"alpn"`
	Retried     bool    `js:"retried"`  // after a HelloRetryRequest
	Duration    float64 `js:"duration"` // ms, of the handshake, without the TCP dial
}

// The groups of crypto/tls, by the names of the IANA registry. Hybrid and pure ML-KEM ones are marked.
var groups = map[string]struct {
	id          tls.CurveID
	postQuantum bool
}{
	"X25519MLKEM768":     {tls.X25519MLKEM768, true},
	"SecP256r1MLKEM768":  {tls.SecP256r1MLKEM768, true},
	"SecP384r1MLKEM1024": {tls.SecP384r1MLKEM1024, true},
	"x25519":             {tls.X25519, false},
	"secp256r1":          {tls.CurveP256, false},
	"secp384r1":          {tls.CurveP384, false},
	"secp521r1":          {tls.CurveP521, false},
}

const defaultGroup = "X25519MLKEM768"

// pqtls makes one handshake and closes the connection: pqtls(address, {serverName, groups, roots, alpn,
// insecureSkipVerify, timeout, tags}).
func (i *Instance) pqtls(address, options sobek.Value) *TLSAnswer {
	var o tlsOptions
	addr, state := i.begin("pqtls", address, options, &o)
	config, limit, err := o.config(addr)
	if err != nil {
		common.Throw(i.vu.Runtime(), fmt.Errorf("pqtls: options: %w", err))
	}
	answer := &TLSAnswer{}
	took, err := i.handshake(state, addr, config, limit, answer)
	if err != nil {
		answer.Error = err.Error()
	}
	answer.OK, answer.Duration = err == nil, millis(took)
	i.emit(state, o.Tags, took, err != nil, i.metrics.Handshakes, i.metrics.HandshakeFailed, i.metrics.HandshakeDuration, 0, 0)
	return answer
}

func (o tlsOptions) config(addr string) (*tls.Config, time.Duration, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, 0, fmt.Errorf("address %q: %w", addr, err)
	}
	c := &tls.Config{ServerName: o.ServerName, NextProtos: o.ALPN, MinVersion: tls.VersionTLS13, InsecureSkipVerify: o.Insecure} //nolint:gosec // asked for by the script
	if c.ServerName == "" {
		c.ServerName = host
	}
	if o.Groups == nil {
		o.Groups = []string{defaultGroup}
	}
	for _, name := range o.Groups {
		g, ok := groups[name]
		if !ok {
			return nil, 0, fmt.Errorf("groups: no group %q", name)
		}
		c.CurvePreferences = append(c.CurvePreferences, g.id)
	}
	if len(o.Groups) == 0 {
		return nil, 0, errors.New("groups: the list is empty")
	}
	if o.Roots != "" {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM([]byte(o.Roots)) {
			return nil, 0, errors.New("roots: no certificate in PEM")
		}
	}
	limit, err := o.limit()
	return c, limit, err
}

func (i *Instance) handshake(state *lib.State, addr string, config *tls.Config, limit time.Duration, answer *TLSAnswer) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(i.vu.Context(), limit)
	defer cancel()
	raw, err := state.Dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return 0, err
	}
	defer raw.Close() //nolint:errcheck // nothing more is expected of it
	began := time.Now()
	conn := tls.Client(raw, config)
	err = conn.HandshakeContext(ctx)
	took := time.Since(began)
	if err != nil {
		return took, fmt.Errorf("handshake: %w", err)
	}
	s := conn.ConnectionState()
	answer.Version, answer.Cipher, answer.ALPN = tls.VersionName(s.Version), tls.CipherSuiteName(s.CipherSuite), s.NegotiatedProtocol
	answer.Group, answer.Retried = s.CurveID.String(), s.HelloRetryRequest
	for name, g := range groups {
		if g.id == s.CurveID {
			answer.Group, answer.PostQuantum = name, g.postQuantum
		}
	}
	return took, nil
}
