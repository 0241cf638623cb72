package bent

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/mldsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// chains is a small PKI: three server chains and a client's, under one pool of roots.
type chains struct {
	mldsa, ecdsa, rsa, client tls.Certificate
	roots                     *x509.CertPool
}

var pki = sync.OnceValue(func() chains {
	c := chains{roots: x509.NewCertPool()}
	ml := func(p mldsa.Parameters) crypto.Signer { return must(mldsa.GenerateKey(p)) }
	ec := func() crypto.Signer { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }
	c.mldsa = c.issue(ml(mldsa.MLDSA87()), ml(mldsa.MLDSA65()), ml(mldsa.MLDSA65()))
	c.client = c.issue(ml(mldsa.MLDSA87()), ml(mldsa.MLDSA65()), ml(mldsa.MLDSA65()))
	c.ecdsa = c.issue(ec(), ec(), ec())
	c.rsa = c.issue(ec(), ec(), must(rsa.GenerateKey(rand.Reader, 2048)))
	return c
})

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// issue makes root, intermediate and leaf and adds the root to the pool.
func (c *chains) issue(root, between, leaf crypto.Signer) tls.Certificate {
	now := time.Now()
	template := func(name string, ca bool) *x509.Certificate {
		t := &x509.Certificate{
			SerialNumber: must(rand.Int(rand.Reader, big.NewInt(1<<62))), Subject: pkix.Name{CommonName: name},
			NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
			BasicConstraintsValid: true, IsCA: ca, KeyUsage: x509.KeyUsageDigitalSignature,
		}
		if ca {
			t.KeyUsage = x509.KeyUsageCertSign
			return t
		}
		t.DNSNames = []string{"server.test"}
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
		return t
	}
	rootCert := template("root", true)
	rootDER := must(x509.CreateCertificate(rand.Reader, rootCert, rootCert, root.Public(), root))
	rootCert = must(x509.ParseCertificate(rootDER))
	betweenDER := must(x509.CreateCertificate(rand.Reader, template("between", true), rootCert, between.Public(), root))
	betweenCert := must(x509.ParseCertificate(betweenDER))
	leafDER := must(x509.CreateCertificate(rand.Reader, template("leaf", false), betweenCert, leaf.Public(), between))
	c.roots.AddCert(rootCert)
	return tls.Certificate{Certificate: [][]byte{leafDER, betweenDER}, PrivateKey: leaf, OCSPStaple: []byte("response")}
}

const patience = 5 * time.Second

// pair is a connection over loopback TCP: net.Pipe deadlocks crypto/tls on HelloRetryRequest.
func pair(t testing.TB) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close(); _ = server.Close() })
	return client, server
}

func serverConfig() ServerConfig {
	p := pki()
	return ServerConfig{
		Certificates: []tls.Certificate{p.mldsa, p.ecdsa, p.rsa}, ALPN: []string{"echo", "h2"},
		Staple: func() []byte { return []byte("response") }, ClientRoots: p.roots,
		TLS12: true, Tickets: true, Deadline: patience,
	}
}

func clientConfig() ClientConfig {
	return ClientConfig{ServerName: "server.test", Roots: pki().roots, Deadline: patience}
}

// start serves one connection and returns the client's end and the result of Serve.
func start(t testing.TB, cfg ServerConfig) (net.Conn, chan error) {
	t.Helper()
	client, server := pair(t)
	done, hung := make(chan error, 1), make(chan struct{})
	go func() { done <- Serve(hanging{server.(*net.TCPConn), hung}, cfg) }()
	return watched{client.(*net.TCPConn), hung}, done
}

// hanging is a server's connection that notices a planted hang by the deadline that it sets.
type hanging struct {
	*net.TCPConn
	hung chan struct{}
}

func (c hanging) SetDeadline(t time.Time) error {
	if left := time.Until(t); left > hangLimit/2 && left <= hangLimit {
		close(c.hung)
	}
	return c.TCPConn.SetDeadline(t)
}

// watched is the client's end of it: hung is closed when the server hangs.
type watched struct {
	*net.TCPConn
	hung chan struct{}
}

func startStd(t testing.TB, cfg *tls.Config) (net.Conn, chan error) {
	t.Helper()
	client, server := pair(t)
	done := make(chan error, 1)
	go func() {
		defer func() { _ = server.Close() }()
		_ = server.SetDeadline(time.Now().Add(patience))
		conn := tls.Server(server, cfg)
		if err := conn.Handshake(); err != nil {
			done <- err
			return
		}
		_, err := io.Copy(conn, conn)
		_ = conn.Close()
		done <- err
	}()
	return client, done
}

// echoed sends a line and wants it back.
func echoed(t testing.TB, conn io.ReadWriter, size int) {
	t.Helper()
	sent := bytes.Repeat([]byte("x"), size)
	got := make([]byte, size)
	failed := make(chan error, 1)
	go func() { _, err := conn.Write(sent); failed <- err }()
	if _, err := io.ReadFull(conn, got); err != nil {
		t.Fatalf("echo: %v", err)
	}
	if err := <-failed; err != nil {
		t.Fatalf("write: %v", err)
	}
	if !bytes.Equal(got, sent) {
		t.Fatal("echo differs")
	}
}

var everyGroup = []tls.CurveID{
	tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024, tls.MLKEM1024,
	tls.X25519, tls.CurveP256, tls.CurveP384,
}

func eachCombination(t *testing.T, run func(t *testing.T, g tls.CurveID, cert tls.Certificate, s suite)) {
	p := pki()
	ran := 0
	for _, g := range everyGroup {
		for name, cert := range map[string]tls.Certificate{"ML-DSA": p.mldsa, "ECDSA": p.ecdsa, "RSA": p.rsa} {
			for _, s := range suites {
				if name == "RSA" && g != tls.X25519 {
					continue
				}
				ran++
				t.Run(fmt.Sprintf("%v/%s/0x%04x", g, name, s.id), func(t *testing.T) { run(t, g, cert, s) })
			}
		}
	}
	if ran == 0 {
		t.Fatal("no combination")
	}
}

func TestClientAgainstStandardLibrary(t *testing.T) {
	eachCombination(t, func(t *testing.T, g tls.CurveID, cert tls.Certificate, s suite) {
		conn, done := startStd(t, &tls.Config{
			Certificates: []tls.Certificate{cert}, CurvePreferences: []tls.CurveID{g}, NextProtos: []string{"echo"},
		})
		cfg := clientConfig()
		cfg.Groups, cfg.ALPN, cfg.AskStaple = []tls.CurveID{g}, []string{"other", "echo"}, true
		c := newClient(conn, cfg)
		c.suites = []suite{s}
		established, err := c.dial()
		if err != nil {
			t.Fatal(err)
		}
		echoed(t, established, 40_000)
		got := established.State()
		if len(got.Chain) != 2 || string(got.Staple) != "response" {
			t.Errorf("chain of %d, staple %q", len(got.Chain), got.Staple)
		}
		got.Chain, got.Staple = nil, nil
		want := State{Group: g, Version: tls.VersionTLS13, ALPN: "echo"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("state (-want +got):\n%s", diff)
		}
		if err := established.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Errorf("server: %v", err)
		}
	})
}

func TestServerAgainstStandardLibrary(t *testing.T) {
	eachCombination(t, func(t *testing.T, g tls.CurveID, cert tls.Certificate, s suite) {
		near, far := pair(t)
		cfg := serverConfig()
		cfg.Certificates, cfg.Groups = []tls.Certificate{cert}, []tls.CurveID{g}
		server := newServer(far, cfg)
		server.suites = []suite{s}
		done := make(chan error, 1)
		go func() { done <- server.serve() }()
		conn := tls.Client(near, &tls.Config{
			ServerName: "server.test", RootCAs: pki().roots, CurvePreferences: []tls.CurveID{g}, NextProtos: []string{"echo"},
		})
		_ = conn.SetDeadline(time.Now().Add(patience))
		echoed(t, conn, 40_000)
		got := conn.ConnectionState()
		if got.CurveID != g || got.NegotiatedProtocol != "echo" || got.CipherSuite != s.id ||
			string(got.OCSPResponse) != "response" || len(got.VerifiedChains[0]) != 3 {
			t.Errorf("state %+v", got)
		}
		_ = conn.Close()
		if err := <-done; err != nil {
			t.Errorf("server: %v", err)
		}
	})
}

func TestHelloRetry(t *testing.T) {
	ran := 0
	for _, g := range everyGroup[1:] {
		if g == tls.X25519 {
			continue // shared beside the hybrid
		}
		ran++
		t.Run("client/"+g.String(), func(t *testing.T) {
			conn, _ := startStd(t, &tls.Config{Certificates: []tls.Certificate{pki().ecdsa}, CurvePreferences: []tls.CurveID{g}})
			cfg := clientConfig()
			cfg.Groups = everyGroup
			established, err := Dial(conn, cfg)
			if err != nil {
				t.Fatal(err)
			}
			echoed(t, established, 10)
			if got := established.State(); !got.Retry || got.Group != g {
				t.Errorf("state %+v", got)
			}
		})
		t.Run("server/"+g.String(), func(t *testing.T) {
			cfg := serverConfig()
			cfg.Groups = []tls.CurveID{g}
			states := make(chan State, 1)
			cfg.Established = func(s State) { states <- s }
			near, _ := start(t, cfg)
			conn := tls.Client(near, &tls.Config{ServerName: "server.test", RootCAs: pki().roots, CurvePreferences: everyGroup})
			echoed(t, conn, 10)
			if got := conn.ConnectionState(); !got.HelloRetryRequest || got.CurveID != g {
				t.Errorf("state %+v", got)
			}
			if got := <-states; !got.Retry || got.Group != g {
				t.Errorf("server's state %+v", got)
			}
		})
	}
	if ran == 0 {
		t.Fatal("no group")
	}
}

func TestHybridIsPreferredByRetry(t *testing.T) {
	near, _ := start(t, serverConfig())
	c := newClient(near, clientConfig())
	if got := firstAnswer(t, c.conn, helloWith(t, func(h *clientHello) { h.shares = h.shares[1:] })); got != "retry X25519MLKEM768" {
		t.Errorf("answer %s", got)
	}
}

func TestResumption(t *testing.T) {
	shared := tls.NewLRUClientSessionCache(4)
	std := &tls.Config{Certificates: []tls.Certificate{pki().mldsa}}
	for _, s := range suites {
		var session any
		for round := range 3 {
			conn, _ := startStd(t, std)
			cfg := clientConfig()
			cfg.Session = session
			c := newClient(conn, cfg)
			c.suites = []suite{s}
			established, err := c.dial()
			if err != nil {
				t.Fatal(err)
			}
			echoed(t, established, 10)
			if got := established.State(); got.Resumed != (round > 0) || len(got.Chain) != 2 {
				t.Errorf("client, round %d: resumed %v with a chain of %d", round, got.Resumed, len(got.Chain))
			}
			if session = established.Session(); session == nil {
				t.Fatal("no ticket")
			}
		}
	}
	for round, g := range []tls.CurveID{tls.X25519MLKEM768, tls.X25519MLKEM768, tls.X25519, tls.CurveP256, tls.MLKEM1024} {
		near, _ := start(t, serverConfig())
		conn := tls.Client(near, &tls.Config{
			ServerName: "server.test", RootCAs: pki().roots, ClientSessionCache: shared, CurvePreferences: []tls.CurveID{g},
		})
		echoed(t, conn, 10)
		// The class changes at rounds 2 and 4, and a ticket is bound to it.
		if got, want := conn.ConnectionState().DidResume, round == 1 || round == 3; got != want {
			t.Errorf("server, round %d: resumed %v, want %v", round, got, want)
		}
	}
}

func TestResumptionAfterRetry(t *testing.T) {
	var session any
	std := &tls.Config{Certificates: []tls.Certificate{pki().mldsa}, CurvePreferences: []tls.CurveID{tls.CurveP384}}
	for round := range 2 {
		conn, _ := startStd(t, std)
		cfg := clientConfig()
		cfg.Session = session
		established, err := Dial(conn, cfg)
		if err != nil {
			t.Fatal(err)
		}
		echoed(t, established, 10)
		if got := established.State(); got.Resumed != (round == 1) || !got.Retry {
			t.Errorf("client, round %d: %+v", round, got)
		}
		session = established.Session()
	}
	cache := tls.NewLRUClientSessionCache(1)
	for round := range 2 {
		cfg := serverConfig()
		cfg.Groups = []tls.CurveID{tls.CurveP384}
		near, _ := start(t, cfg)
		conn := tls.Client(near, &tls.Config{ServerName: "server.test", RootCAs: pki().roots, ClientSessionCache: cache})
		echoed(t, conn, 10)
		if got := conn.ConnectionState(); got.DidResume != (round == 1) || !got.HelloRetryRequest {
			t.Errorf("server, round %d: resumed %v", round, got.DidResume)
		}
	}
}

func TestMutual(t *testing.T) {
	p := pki()
	for name, cert := range map[string]*tls.Certificate{"ML-DSA": &p.client, "ECDSA": &p.ecdsa, "RSA": &p.rsa} {
		conn, _ := startStd(t, &tls.Config{
			Certificates: []tls.Certificate{p.mldsa}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: p.roots,
		})
		cfg := clientConfig()
		cfg.Certificate = cert
		established, err := Dial(conn, cfg)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		echoed(t, established, 10)

		server := serverConfig()
		server.RequireClientCert = true
		near, _ := start(t, server)
		echoed(t, tls.Client(near, &tls.Config{
			ServerName: "server.test", RootCAs: p.roots, Certificates: []tls.Certificate{*cert},
		}), 10)
	}
	server := serverConfig()
	server.RequireClientCert = true
	near, done := start(t, server)
	conn := tls.Client(near, &tls.Config{ServerName: "server.test", RootCAs: p.roots})
	_, err := conn.Read(make([]byte, 1))
	if err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("client without a certificate: %v", err)
	}
	if code := alertOf(<-done); code != alertCertificateRequired {
		t.Errorf("server's alert %s", AlertName(code))
	}
	server.ClientRoots = x509.NewCertPool()
	near, done = start(t, server)
	conn = tls.Client(near, &tls.Config{ServerName: "server.test", RootCAs: p.roots, Certificates: []tls.Certificate{p.client}})
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("a client of an unknown issuer was served")
	}
	if code := alertOf(<-done); code != alertUnknownCA {
		t.Errorf("server's alert %s", AlertName(code))
	}
}

func alertOf(err error) uint8 {
	var refused *AlertError
	if errors.As(err, &refused) {
		return refused.Code
	}
	return 255
}

func TestCertificateFitsClient(t *testing.T) {
	p := pki()
	classical := []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.PSSWithSHA256}
	for _, c := range []struct {
		certificates []tls.Certificate
		schemes      []tls.SignatureScheme
		want         x509.PublicKeyAlgorithm
	}{
		{[]tls.Certificate{p.mldsa, p.ecdsa}, offeredSchemes, x509.MLDSA},
		{[]tls.Certificate{p.ecdsa, p.mldsa}, offeredSchemes, x509.ECDSA},
		{[]tls.Certificate{p.mldsa, p.ecdsa}, classical, x509.ECDSA},
		{[]tls.Certificate{p.mldsa, p.rsa}, classical, x509.RSA},
	} {
		cfg := serverConfig()
		cfg.Certificates = c.certificates
		near, _ := start(t, cfg)
		client := newClient(near, clientConfig())
		client.schemes = c.schemes
		established, err := client.dial()
		if err != nil {
			t.Fatal(err)
		}
		if got := established.State().Chain[0].PublicKeyAlgorithm; got != c.want {
			t.Errorf("leaf key %v, want %v", got, c.want)
		}
	}
}

func TestTrust(t *testing.T) {
	for name, c := range map[string]struct {
		bend func(*ClientConfig)
		want uint8
	}{
		"root":  {func(c *ClientConfig) { c.Roots = x509.NewCertPool() }, alertUnknownCA},
		"nil":   {func(c *ClientConfig) { c.Roots = nil }, alertUnknownCA},
		"name":  {func(c *ClientConfig) { c.ServerName = "other.test" }, alertBadCertificate},
		"clock": {func(c *ClientConfig) { c.Now = time.Now().Add(48 * time.Hour) }, alertCertificateExpired},
	} {
		near, done := start(t, serverConfig())
		cfg := clientConfig()
		c.bend(&cfg)
		if _, err := Dial(near, cfg); alertOf(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
		var received *AlertError
		if err := <-done; !errors.As(err, &received) || received.Sent || received.Code != c.want {
			t.Errorf("%s: server has %v", name, err)
		}
	}
}

func TestNoCommonProtocol(t *testing.T) {
	near, _ := start(t, serverConfig())
	cfg := clientConfig()
	cfg.ALPN = []string{"unknown"}
	if _, err := Dial(near, cfg); alertOf(err) != alertNoApplication {
		t.Error(err)
	}
}

func TestKeyUpdate(t *testing.T) {
	near, _ := start(t, serverConfig())
	c, err := Dial(near, clientConfig())
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := c.rec.send(typeHandshake, []byte{msgKeyUpdate, 0, 0, 1, 1}); err != nil {
			t.Fatal(err)
		}
		c.rec.write(c.rec.out.next())
		echoed(t, c, 20)
	}
}

func TestTLS12FirstFlight(t *testing.T) {
	// crypto/tls verifies the server's first flight before it sends anything.
	for _, cert := range []tls.Certificate{pki().ecdsa, pki().rsa} {
		cfg := serverConfig()
		cfg.Certificates = []tls.Certificate{cert}
		near, done := start(t, cfg)
		conn := tls.Client(near, &tls.Config{ServerName: "server.test", RootCAs: pki().roots, MaxVersion: tls.VersionTLS12})
		err := conn.Handshake()
		if err == nil || !strings.Contains(err.Error(), "handshake failure") {
			t.Errorf("client: %v", err)
		}
		if err := <-done; err == nil || !strings.Contains(err.Error(), "first flight") {
			t.Errorf("server: %v", err)
		}
		near, _ = startStd(t, &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: tls.VersionTLS12})
		bent := clientConfig()
		bent.TLS12 = true
		if _, err := Dial(near, bent); err == nil || !strings.Contains(err.Error(), "first flight") {
			t.Errorf("bent client: %v", err)
		}
	}
	cfg := serverConfig()
	cfg.Certificates = cfg.Certificates[:1]
	near, done := start(t, cfg)
	conn := tls.Client(near, &tls.Config{ServerName: "server.test", RootCAs: pki().roots, MaxVersion: tls.VersionTLS12})
	if err := conn.Handshake(); err == nil {
		t.Error("TLS 1.2 with ML-DSA only")
	}
	if err := <-done; alertOf(err) != alertHandshakeFailure {
		t.Errorf("server: %v", err)
	}
	cfg.TLS12 = false
	near, done = start(t, cfg)
	_ = tls.Client(near, &tls.Config{ServerName: "server.test", MaxVersion: tls.VersionTLS12}).Handshake()
	if err := <-done; alertOf(err) != alertProtocolVersion {
		t.Errorf("server without TLS 1.2: %v", err)
	}
}

func TestDeadlines(t *testing.T) {
	near, far := pair(t)
	cfg := clientConfig()
	cfg.Deadline = 50 * time.Millisecond
	var wait net.Error
	if _, err := Dial(near, cfg); !errors.As(err, &wait) || !wait.Timeout() {
		t.Errorf("client: %v", err)
	}
	_ = far
	server := serverConfig()
	server.Deadline = 50 * time.Millisecond
	_, done := start(t, server)
	if err := <-done; !errors.As(err, &wait) || !wait.Timeout() {
		t.Errorf("server: %v", err)
	}
}
