package client_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/pqtls"
	"github.com/assay-bench/assay/reference/pqtls/client"
	"github.com/assay-bench/assay/reference/pqtls/pki"
)

func TestPolicies(t *testing.T) {
	hybrid := serve(t, &tls.Config{}, nil)
	classical := serve(t, &tls.Config{CurvePreferences: pqtls.ClassicalGroups()}, nil)
	retrying := serve(t, &tls.Config{CurvePreferences: []tls.CurveID{tls.SecP384r1MLKEM1024}}, nil)
	old := serve(t, &tls.Config{MaxVersion: tls.VersionTLS12}, nil)
	x25519 := []tls.CurveID{tls.X25519}
	cases := []struct {
		name   string
		server *server
		policy pqtls.Policy
		groups []tls.CurveID
		min    uint16
		group  string
		code   client.Code
		want   client.Counters
	}{
		{"require-pq reaches a hybrid", hybrid, pqtls.RequirePQ, nil, 0, "X25519MLKEM768", "", client.Counters{}},
		{"require-pq fails closed", classical, pqtls.RequirePQ, nil, 0, "", client.PolicyRefused, client.Counters{PolicyRefused: 1}},
		{"require-pq takes no TLS 1.2", old, pqtls.RequirePQ, nil, tls.VersionTLS12, "", client.PolicyRefused, client.Counters{PolicyRefused: 1}},
		{"require-pq has nothing to offer", hybrid, pqtls.RequirePQ, x25519, 0, "", client.PolicyRefused, client.Counters{PolicyRefused: 1}},
		{"require-pq after a retry", retrying, pqtls.RequirePQ, nil, 0, "SecP384r1MLKEM1024", "", client.Counters{Retries: 1}},
		{"prefer-pq reaches a hybrid", hybrid, pqtls.PreferPQ, nil, 0, "X25519MLKEM768", "", client.Counters{}},
		{"prefer-pq falls back", classical, pqtls.PreferPQ, nil, 0, "X25519", "", client.Counters{Fallbacks: 1}},
		{"prefer-pq falls back to TLS 1.2", old, pqtls.PreferPQ, nil, tls.VersionTLS12, "X25519", "", client.Counters{Fallbacks: 1}},
		{"any is restricted", hybrid, pqtls.AnyClass, x25519, 0, "X25519", "", client.Counters{}},
		{"TLS 1.2 is not the default", old, pqtls.AnyClass, nil, 0, "", client.Alert, client.Counters{}},
	}
	seen := 0
	for _, c := range cases {
		seen++
		r := newRig(t)
		q := request(t, c.server)
		q.Policy, q.Groups, q.MinVersion = c.policy, c.groups, c.min
		got, err := r.Do(t.Context(), q)
		if codeOf(err) != c.code || got.Connected != (c.code == "") {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
		c.want.Handshakes = map[string]int{}
		if c.group != "" {
			c.want.Handshakes[c.group], c.want.Idle, c.want.Open = 1, 1, 1
			c.want.Requests = perClass(got.Class)
		}
		if diff := cmp.Diff(c.want, r.Counters()); diff != "" {
			t.Errorf("%s: counters (-want +got)\n%s", c.name, diff)
		}
		if logged := strings.Contains(r.log.String(), "fallback"); logged != (c.want.Fallbacks > 0) {
			t.Errorf("%s: fallback logged: %t", c.name, logged)
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

func perClass(class pqtls.Class) client.ByClass {
	if class == pqtls.PQ {
		return client.ByClass{PQ: 1}
	}
	return client.ByClass{Classical: 1}
}

func TestPolicyDefects(t *testing.T) {
	classical := serve(t, &tls.Config{CurvePreferences: pqtls.ClassicalGroups()}, nil)
	q := request(t, classical)
	q.Policy = pqtls.RequirePQ
	newRig(t).fails(t, q, client.PolicyRefused)
	if n := classical.received.Load(); n != 0 {
		t.Errorf("a refused dial sent %d bytes", n)
	}
	newRig(t, defect.PoolPolicyIgnored).must(t, q)
	sent := classical.received.Load()
	r := newRig(t, defect.PoolPolicyCheckedLate)
	if got := r.fails(t, q, client.PolicyRefused); got.Connected || classical.received.Load() == sent {
		t.Errorf("checked late: %+v", got)
	}
	if n := r.Counters().PolicyRefused; n != 1 {
		t.Errorf("%d refusals", n)
	}
	drift := newRig(t, defect.PoolCountersDrift)
	q.Policy = pqtls.AnyClass
	drift.must(t, q)
	if n := drift.Counters().Handshakes["X25519"]; n != 2 {
		t.Errorf("drifting counters: %d", n)
	}
}

// raw serves a TCP connection without TLS.
func raw(t *testing.T, handle func(net.Conn)) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				handle(conn)
			}()
		}
	}()
	return &server{addr: l.Addr().String()}
}

func TestErrorCodes(t *testing.T) {
	good := serve(t, &tls.Config{}, nil)
	silent := raw(t, hang(t))
	garbage := raw(t, func(c net.Conn) { _, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) })
	alerting := raw(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 4096))
		_, _ = c.Write([]byte{21, 3, 3, 0, 2, 2, 47})
	})
	short := serve(t, &tls.Config{}, func(c *tls.Conn, _ *server) { _, _ = c.Read(make([]byte, 2)); _, _ = c.Write([]byte("h")) })
	stalled := serve(t, &tls.Config{}, func(c *tls.Conn, _ *server) { _, _ = c.Read(make([]byte, 100)); _, _ = c.Read(make([]byte, 1)) })
	mutual := serve(t, &tls.Config{ClientAuth: tls.RequireAnyClientCert}, nil)
	nobody := raw(t, func(net.Conn) {})
	nobody.addr = "127.0.0.1:1"
	stranger, err := pki.New(pki.Options{Kind: pki.ECDSA})
	if err != nil {
		t.Fatal(err)
	}
	other, err := stranger.Root()
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name   string
		server *server
		edit   func(*client.Request)
		want   client.Code
		text   string
		up     bool
	}{
		{"no listener", nobody, nil, client.DialFailed, "", false},
		{"no port", good, func(q *client.Request) { q.Address = "127.0.0.1" }, client.DialFailed, "", false},
		{"no client certificate", good, func(q *client.Request) { q.Identity = true }, client.DialFailed, "", false},
		{"silence", silent, func(q *client.Request) { q.Deadline = 50 * time.Millisecond }, client.Deadline, "", false},
		{"garbage", garbage, nil, client.Protocol, "", false},
		{"alert", alerting, nil, client.Alert, "illegal_parameter", false},
		{"client certificate demanded", mutual, nil, client.Alert, "", false},
		{"other root", good, func(q *client.Request) { q.Roots = []*x509.Certificate{other} }, client.Verify, "", false},
		{"no root", good, func(q *client.Request) { q.Roots = nil }, client.Verify, "", false},
		{"other name", good, func(q *client.Request) { q.ServerName = "third.test" }, client.Verify, "", false},
		{"before the certificate", good, func(q *client.Request) { q.At = time.Unix(1e9, 0) }, client.Verify, "", false},
		{"short answer", short, nil, client.Exchange, "1 of 5", true},
		{"no answer", stalled, func(q *client.Request) { q.Deadline = 100 * time.Millisecond }, client.Deadline, "", true},
	}
	seen := 0
	for _, c := range cases {
		for _, pooled := range []bool{false, true} {
			seen++
			r := newRig(t)
			q := request(t, c.server)
			q.Pool = pooled
			if c.edit != nil {
				c.edit(&q)
			}
			got, err := r.Do(t.Context(), q)
			if codeOf(err) != c.want || !strings.Contains(err.Error(), c.text) || got.Connected != c.up {
				t.Errorf("%s: %+v, %v, want %s %s", c.name, got, err, c.want, c.text)
			}
			if n := r.Counters(); n.Idle != 0 || n.Open != 0 {
				t.Errorf("%s: %d idle, %d open", c.name, n.Idle, n.Open)
			}
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
	q := request(t, good)
	q.Roots = []*x509.Certificate{other}
	newRig(t, defect.TLSClientChainUnverified).must(t, q)
}

func TestClientCertificate(t *testing.T) {
	h := pkiOf(t)
	roots := x509.NewCertPool()
	roots.AddCert(h.root)
	s := serve(t, &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots}, nil)
	identity := h.authority.Source(clientRequest())
	c, err := client.New(client.Config{Identity: identity.Certificate})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	q := request(t, s)
	q.Identity = true
	if got, err := c.Do(t.Context(), q); err != nil || got.Chain != 3 {
		t.Errorf("%+v, %v", got, err)
	}
}

// hang never answers, until the test is over.
func hang(t *testing.T) func(net.Conn) {
	return func(c net.Conn) { _, _ = c.Read(make([]byte, 1)); <-t.Context().Done() }
}
