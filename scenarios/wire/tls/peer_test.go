package tls

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/mldsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"
)

// authority is a root, an intermediate and a leaf of one kind of key, for both roles.
type authority struct {
	roots *x509.CertPool
	id    Identity
}

func (a authority) certificate(staple []byte) tls.Certificate {
	return tls.Certificate{Certificate: a.id.Chain, PrivateKey: a.id.Signer, OCSPStaple: staple}
}

var kinds = []string{"ecdsa", "mldsa", "rsa", "ed25519"}

// authorities are made once: RSA keys cost most of the time of these tests.
var authorities = sync.OnceValue(func() map[string]authority {
	all := map[string]authority{}
	for _, kind := range kinds {
		a, err := newAuthority(kind)
		if err != nil {
			panic(err)
		}
		all[kind] = a
	}
	return all
})

func newSigner(kind string) (crypto.Signer, error) {
	switch kind {
	case "ecdsa":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "mldsa":
		return mldsa.GenerateKey(mldsa.MLDSA65())
	case "rsa":
		return rsa.GenerateKey(rand.Reader, 2048)
	case "ed25519":
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	return nil, errors.New(kind)
}

func newAuthority(kind string) (authority, error) {
	var parent *x509.Certificate
	var parentKey crypto.Signer
	a := authority{roots: x509.NewCertPool()}
	for i, name := range []string{"root", "intermediate", "leaf"} {
		key, err := newSigner(kind)
		if err != nil {
			return a, err
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: kind + " " + name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			BasicConstraintsValid: true, IsCA: name != "leaf",
			KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
		if name == "leaf" {
			template.KeyUsage, template.DNSNames = x509.KeyUsageDigitalSignature, []string{"server.test"}
		}
		if parent == nil {
			parent, parentKey = template, key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
		if err != nil {
			return a, err
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return a, err
		}
		if name == "root" {
			a.roots.AddCert(cert)
		} else {
			a.id.Chain = append([][]byte{der}, a.id.Chain...)
		}
		a.id.Signer, parent, parentKey = key, cert, key
	}
	a.id.Scheme = schemeOf(a.id.Signer.Public())
	return a, nil
}

// loopback is a connected pair of TCP connections, the one that dialled first.
func loopback(t testing.TB) (net.Conn, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close(); _ = b.Close() })
	return a, b
}

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// served is what a crypto/tls server saw.
type served struct {
	state tls.ConnectionState
	err   error
}

// echo serves one connection with crypto/tls and sends back what it reads.
func echo(conn net.Conn, cfg *tls.Config) served {
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	s := tls.Server(conn, cfg)
	defer func() { _ = s.Close() }()
	if err := s.Handshake(); err != nil {
		return served{err: err}
	}
	_, err := io.Copy(s, s)
	return served{s.ConnectionState(), err}
}

// probe runs the prober's client against a crypto/tls server.
func probe(t testing.TB, c Client, cfg *tls.Config) (Outcome, served) {
	t.Helper()
	mine, theirs := loopback(t)
	return probeOver(t, c, cfg, mine, theirs)
}

func probeOver(t testing.TB, c Client, cfg *tls.Config, mine, theirs net.Conn) (Outcome, served) {
	t.Helper()
	done := make(chan served, 1)
	go func() { done <- echo(theirs, cfg) }()
	out := c.Run(within(t), mine)
	return out, <-done
}

// dialled is what a crypto/tls client saw.
type dialled struct {
	state tls.ConnectionState
	got   string
	err   error
}

// call dials with crypto/tls, sends a text and reads as much back.
func call(conn net.Conn, cfg *tls.Config, send string) dialled {
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	c := tls.Client(conn, cfg)
	defer func() { _ = c.Close() }()
	if err := c.Handshake(); err != nil {
		return dialled{err: err}
	}
	if _, err := io.WriteString(c, send); err != nil {
		return dialled{err: err}
	}
	b := make([]byte, len(send))
	_, err := io.ReadFull(c, b)
	return dialled{c.ConnectionState(), string(b), err}
}

// serve runs the prober's server against a crypto/tls client.
func serve(t testing.TB, s Server, cfg *tls.Config) (Heard, dialled) {
	t.Helper()
	theirs, mine := loopback(t)
	return serveOver(t, s, cfg, mine, theirs)
}

func serveOver(t testing.TB, s Server, cfg *tls.Config, mine, theirs net.Conn) (Heard, dialled) {
	t.Helper()
	done := make(chan dialled, 1)
	go func() { done <- call(theirs, cfg, "ping") }()
	heard := s.Run(within(t), mine)
	return heard, <-done
}

// tapped keeps a copy of what goes over a connection.
type tapped struct {
	net.Conn
	sent, received []byte
}

func (c *tapped) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.received = append(c.received, b[:n]...)
	return n, err
}

func (c *tapped) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.sent = append(c.sent, b[:n]...)
	return n, err
}

// canned is a connection whose peer says what it holds and then closes.
type canned struct {
	net.Conn
	in []byte
}

func (c *canned) Read(b []byte) (int, error) {
	if len(c.in) == 0 {
		return 0, io.EOF
	}
	n := copy(b, c.in)
	c.in = c.in[n:]
	return n, nil
}

func (c *canned) Write(b []byte) (int, error)      { return len(b), nil }
func (c *canned) Close() error                     { return nil }
func (c *canned) SetDeadline(time.Time) error      { return nil }
func (c *canned) SetReadDeadline(time.Time) error  { return nil }
func (c *canned) SetWriteDeadline(time.Time) error { return nil }
