package pqtls

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/pqtls/ocsp"
	"github.com/assay-bench/assay/reference/pqtls/pki"
)

// authorities are made once for all tests: RSA keys take their time.
type authorities struct{ mldsa, ecdsa, rsa *pki.Authority }

var shared = sync.OnceValues(func() (a authorities, err error) {
	kinds := map[pki.Kind]**pki.Authority{pki.MLDSA: &a.mldsa, pki.ECDSA: &a.ecdsa, pki.RSA: &a.rsa}
	for kind, into := range kinds {
		if *into, err = pki.New(pki.Options{Kind: kind}); err != nil {
			return authorities{}, err
		}
	}
	return a, nil
})

func request() pki.Request {
	return pki.Request{Use: pki.Server, Names: []string{"server.test", "localhost"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}}
}

// rig is a server under test and what its clients trust.
type rig struct {
	*Server
	all     authorities
	roots   *x509.CertPool
	sources map[pki.Kind]*pki.Source
	served  chan error
}

// start runs a server with ML-DSA, ECDSA and RSA chains, bent by edit.
func start(t testing.TB, edit func(*Config)) *rig {
	t.Helper()
	all, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{all: all, served: make(chan error, 1), sources: map[pki.Kind]*pki.Source{
		pki.MLDSA: all.mldsa.Source(request()), pki.ECDSA: all.ecdsa.Source(request()), pki.RSA: all.rsa.Source(request())}}
	if r.roots, err = pki.Pool(all.mldsa, all.ecdsa, all.rsa); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Certificates: []CertificateSource{r.sources[pki.MLDSA], r.sources[pki.ECDSA], r.sources[pki.RSA]}, ALPN: []string{"echo"}}
	if edit != nil {
		edit(&cfg)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if r.Server, err = New(l, cfg); err != nil {
		t.Fatal(err)
	}
	go func() { r.served <- r.Serve() }()
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if err := <-r.served; err != nil {
			t.Error(err)
		}
	})
	return r
}

// only leaves the certificates of one kind.
func (r *rig) only(kind pki.Kind) []CertificateSource { return []CertificateSource{r.sources[kind]} }

// onlyKind is an edit that leaves the certificates of one kind.
func onlyKind(kind pki.Kind) func(*Config) {
	return func(c *Config) {
		for _, s := range c.Certificates {
			if s.Kind() == kind {
				c.Certificates = []CertificateSource{s}
				return
			}
		}
	}
}

func (r *rig) clientConfig() *tls.Config {
	return &tls.Config{RootCAs: r.roots, ServerName: "server.test", NextProtos: []string{"echo"}, CurvePreferences: AllGroups()}
}

func (r *rig) tcp(t testing.TB) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// dial performs a handshake; the caller closes.
func (r *rig) dial(t testing.TB, cfg *tls.Config) (*tls.Conn, error) {
	t.Helper()
	conn := tls.Client(r.tcp(t), cfg)
	return conn, conn.Handshake()
}

// exchange sends text and wants it back.
func exchange(t testing.TB, conn *tls.Conn, text string) error {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		return err
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(conn, got); err != nil {
		return err
	}
	if string(got) != text {
		return errors.New("the echo differs")
	}
	return nil
}

// connect performs a handshake and an exchange, after which a ticket has arrived, and closes.
func (r *rig) connect(t testing.TB, cfg *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	conn, err := r.dial(t, cfg)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer func() { _ = conn.Close() }()
	if err := exchange(t, conn, "ping"); err != nil {
		return tls.ConnectionState{}, err
	}
	return conn.ConnectionState(), nil
}

func (r *rig) mustConnect(t testing.TB, cfg *tls.Config) tls.ConnectionState {
	t.Helper()
	state, err := r.connect(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

func TestEveryGroupWithEveryChain(t *testing.T) {
	seen := 0
	for _, kind := range []pki.Kind{pki.MLDSA, pki.ECDSA, pki.RSA} {
		r := start(t, onlyKind(kind))
		for _, group := range AllGroups() {
			seen++
			cfg := r.clientConfig()
			cfg.CurvePreferences = []tls.CurveID{group}
			state := r.mustConnect(t, cfg)
			if state.CurveID != group || len(state.VerifiedChains[0]) != 3 || state.NegotiatedProtocol != "echo" {
				t.Errorf("%v, %s: reached %s, chain of %d", kind, GroupName(group), GroupName(state.CurveID), len(state.VerifiedChains[0]))
			}
		}
		if got := r.Stats(); len(got.Handshakes) != len(AllGroups()) || got.Retries != 0 || got.Downgrades != 3 {
			t.Errorf("%v: counted %+v", kind, got)
		}
	}
	if seen == 0 {
		t.Error("no case ran")
	}
}

func TestCirclSignsHandshakes(t *testing.T) {
	fast, err := pki.New(pki.Options{Circl: true})
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, func(c *Config) { c.Certificates = []CertificateSource{fast.Source(request())} })
	cfg := r.clientConfig()
	if cfg.RootCAs, err = pki.Pool(fast); err != nil {
		t.Fatal(err)
	}
	r.mustConnect(t, cfg)
}

func TestCertificateFitsTheClient(t *testing.T) {
	r := start(t, nil)
	if got := r.mustConnect(t, r.clientConfig()).PeerCertificates[0].PublicKeyAlgorithm; got != x509.MLDSA {
		t.Errorf("a default client gets %v", got)
	}
	cfg := r.clientConfig()
	cfg.MaxVersion = tls.VersionTLS12
	if got := r.mustConnect(t, cfg).PeerCertificates[0].PublicKeyAlgorithm; got != x509.ECDSA {
		t.Errorf("a TLS 1.2 client gets %v", got)
	}
	cfg.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	if got := r.mustConnect(t, cfg).PeerCertificates[0].PublicKeyAlgorithm; got != x509.RSA {
		t.Errorf("a client without ECDSA gets %v", got)
	}
	cfg = r.clientConfig()
	cfg.ServerName = "other.test"
	var name x509.HostnameError
	if _, err := r.dial(t, cfg); !errors.As(err, &name) {
		t.Errorf("another name: %v, want a chain that the client refuses", err)
	}
}

func TestRSAKeysAreMadeAtFirstUse(t *testing.T) {
	lazy := lazySource{made: make(chan struct{}, 1)}
	r := start(t, func(c *Config) { c.Certificates = []CertificateSource{c.Certificates[0], c.Certificates[1], lazy} })
	r.mustConnect(t, r.clientConfig())
	if len(lazy.made) != 0 {
		t.Error("an RSA certificate is asked for although others fit")
	}
}

type lazySource struct{ made chan struct{} }

func (lazySource) Kind() pki.Kind { return pki.RSA }
func (l lazySource) Certificate() (*tls.Certificate, error) {
	l.made <- struct{}{}
	return nil, errors.New("no keys")
}

func TestRetry(t *testing.T) {
	for _, group := range []tls.CurveID{tls.CurveP256, tls.SecP384r1MLKEM1024} {
		r := start(t, func(c *Config) { c.Groups = []tls.CurveID{group} })
		state := r.mustConnect(t, r.clientConfig())
		if state.CurveID != group || !state.HelloRetryRequest || r.Stats().Retries != 1 {
			t.Errorf("%s: reached %s, retry %t, counted %+v", GroupName(group), GroupName(state.CurveID), state.HelloRetryRequest, r.Stats())
		}
	}
}

func TestPolicies(t *testing.T) {
	classical := start(t, func(c *Config) { c.Groups = ClassicalGroups() })
	both := start(t, nil)
	seen := 0
	for _, policy := range []Policy{RequirePQ, PreferPQ, AnyClass} {
		seen++
		cfg := both.clientConfig()
		cfg.CurvePreferences = policy.Groups()
		state := both.mustConnect(t, cfg)
		if ClassOf(state.CurveID) != PQ || !policy.Accepts(PQ) {
			t.Errorf("%s: reached %s", policy, GroupName(state.CurveID))
		}
		_, err := classical.connect(t, cfg)
		if (err == nil) != policy.Accepts(Classical) {
			t.Errorf("%s against a classical server: %v", policy, err)
		}
		if parsed, err := ParsePolicy(string(policy)); err != nil || parsed != policy {
			t.Errorf("%s: %v", policy, err)
		}
	}
	if seen == 0 {
		t.Error("no case ran")
	}
	if !soon(func() bool { return classical.Stats().Failed["handshake_failure"] == 1 }) || classical.Stats().Downgrades != 0 {
		t.Errorf("counted %+v", classical.Stats())
	}
	if _, err := ParsePolicy("prefer"); err == nil {
		t.Error("an unknown policy is taken")
	}
}

func TestGroupNames(t *testing.T) {
	for _, g := range AllGroups() {
		if back, err := ParseGroup(GroupName(g)); err != nil || back != g {
			t.Errorf("%s: %v, %v", GroupName(g), back, err)
		}
	}
	if got := GroupName(0x6399); got != "0x6399" {
		t.Errorf("unknown group is %q", got)
	}
	if _, err := ParseGroup("0x6399"); err == nil {
		t.Error("an unknown group is parsed")
	}
	if ClassOf(0x6399) != Classical || ClassOf(0) != Classical {
		t.Error("an unknown group is post-quantum")
	}
}

func mutual(t testing.TB, planted ...defect.Name) *rig {
	all, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	roots, err := pki.Pool(all.mldsa)
	if err != nil {
		t.Fatal(err)
	}
	return start(t, func(c *Config) {
		c.MinVersion, c.RequireClientCert, c.ClientCAs, c.Defects = tls.VersionTLS13, true, roots, defect.Of(planted...)
	})
}

func clientCertificate(t testing.TB, a *pki.Authority) []tls.Certificate {
	t.Helper()
	cert, err := a.Issue(pki.Request{Use: pki.Client, Common: "client"})
	if err != nil {
		t.Fatal(err)
	}
	return []tls.Certificate{*cert}
}

// soon waits for what a server counts after its client has seen the outcome.
func soon(holds func() bool) bool {
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if holds() {
			return true
		}
	}
	return holds()
}

func TestMutual(t *testing.T) {
	r := mutual(t)
	cfg := r.clientConfig()
	cfg.Certificates = clientCertificate(t, r.all.mldsa)
	cfg.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	r.mustConnect(t, cfg)
	if !r.mustConnect(t, cfg).DidResume {
		t.Error("a mutual session does not resume")
	}
	foreign := r.clientConfig()
	foreign.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &clientCertificate(t, r.all.ecdsa)[0], nil // sent although the server did not ask for its root
	}
	if _, err := r.connect(t, foreign); err == nil {
		t.Error("a certificate of another root is taken")
	}
	if !soon(func() bool { return r.Stats().Failed["verify"] == 1 }) {
		t.Errorf("counted %+v", r.Stats().Failed)
	}
	if _, err := r.connect(t, r.clientConfig()); err == nil {
		t.Error("a client without certificate is served")
	}
	wrong := clientCertificate(t, r.all.mldsa)
	wrong[0].PrivateKey = clientCertificate(t, r.all.mldsa)[0].PrivateKey
	cfg.Certificates, cfg.ClientSessionCache = wrong, nil
	if _, err := r.connect(t, cfg); err == nil || !bytes.Contains([]byte(err.Error()), []byte("decrypt")) {
		t.Errorf("a certificate with another's key: %v, want decrypt_error", err)
	}
	old := r.clientConfig()
	old.MaxVersion = tls.VersionTLS12
	if _, err := r.connect(t, old); err == nil {
		t.Error("TLS 1.2 is served on a port of TLS 1.3")
	}
}

func TestTicketsAreBoundToTheClass(t *testing.T) {
	pq, classical := []tls.CurveID{tls.X25519MLKEM768}, []tls.CurveID{tls.X25519}
	cases := []struct {
		name          string
		first, second []tls.CurveID
		planted       defect.Set
		want          bool
	}{
		{"pq to pq", pq, pq, defect.Set{}, true},
		{"classical to classical", classical, classical, defect.Set{}, true},
		{"within a class", pq, []tls.CurveID{tls.MLKEM1024}, defect.Set{}, true},
		{"pq to classical", pq, classical, defect.Set{}, false},
		{"classical to pq", classical, pq, defect.Set{}, false},
		{"unbound", pq, classical, defect.Of(defect.TLSTicketClassUnbound), true},
		{"no tickets", pq, pq, defect.Of(defect.TLSWithoutTickets), false},
	}
	for _, c := range cases {
		r := start(t, func(cfg *Config) { cfg.Defects = c.planted })
		cfg := r.clientConfig()
		cfg.ClientSessionCache = tls.NewLRUClientSessionCache(4) // shared on purpose
		cfg.CurvePreferences = c.first
		r.mustConnect(t, cfg)
		cfg = cfg.Clone()
		cfg.CurvePreferences = c.second
		state := r.mustConnect(t, cfg)
		if state.DidResume != c.want {
			t.Errorf("%s: resumed %t, want %t", c.name, state.DidResume, c.want)
		}
		if got := r.Stats().Resumed[ClassOf(c.second[0]).String()]; (got == 1) != c.want {
			t.Errorf("%s: counted %+v", c.name, r.Stats().Resumed)
		}
	}
	if len(cases) == 0 {
		t.Error("no case ran")
	}
}

func TestTLS12TicketsResume(t *testing.T) {
	r := start(t, nil)
	cfg := r.clientConfig()
	cfg.MaxVersion = tls.VersionTLS12
	cfg.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	r.mustConnect(t, cfg)
	if !r.mustConnect(t, cfg).DidResume {
		t.Error("a TLS 1.2 session does not resume")
	}
}

// stapled starts a server with fresh responses for its ML-DSA leaf.
func stapled(t testing.TB, planted ...defect.Name) (*rig, *ocsp.Stapler) {
	all, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	responder, err := ocsp.NewResponder(all.mldsa, ocsp.ResponderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	stapler, err := ocsp.NewStapler(ocsp.StaplerOptions{Source: responder})
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, func(c *Config) { c.Stapler, c.Defects = stapler, defect.Of(planted...) })
	cert, err := r.sources[pki.MLDSA].Certificate()
	if err != nil {
		t.Fatal(err)
	}
	issuer, _, err := all.mldsa.Issuer()
	if err != nil {
		t.Fatal(err)
	}
	if err := stapler.Track(t.Context(), cert.Leaf, issuer); err != nil {
		t.Fatal(err)
	}
	return r, stapler
}

func TestStaple(t *testing.T) {
	r, _ := stapled(t)
	state := r.mustConnect(t, r.clientConfig())
	chain := state.VerifiedChains[0]
	if _, err := ocsp.Verify(state.OCSPResponse, chain[0], chain[1], time.Now(), ocsp.Options{}); err != nil {
		t.Error(err)
	}
	with, without := flightLength(t, r, nil), flightLength(t, r, func(h *editable) { h.remove(5) })
	if with-without < len(state.OCSPResponse) {
		t.Errorf("flight of %d bytes when asked for a staple of %d, %d when not", with, len(state.OCSPResponse), without)
	}
	bare, _ := stapled(t, defect.TLSStapleMissing)
	if got := bare.mustConnect(t, bare.clientConfig()).OCSPResponse; got != nil {
		t.Errorf("%d bytes of staple with the defect planted", len(got))
	}
}

func TestStapleIsReplaced(t *testing.T) {
	for _, planted := range [][]defect.Name{nil, {defect.TLSStapleNotRefreshed}} {
		r, stapler := stapled(t, planted...)
		first := r.mustConnect(t, r.clientConfig()).OCSPResponse
		if err := stapler.Refresh(t.Context()); err != nil { // ML-DSA signatures differ each time
			t.Fatal(err)
		}
		second := r.mustConnect(t, r.clientConfig()).OCSPResponse
		if bytes.Equal(first, second) != (planted != nil) || len(first) == 0 {
			t.Errorf("with %v planted: same %t", planted, bytes.Equal(first, second))
		}
	}
}

func TestPlantedConfiguration(t *testing.T) {
	groups := map[defect.Name]tls.CurveID{
		defect.TLSWithoutX25519mlkem768: tls.X25519MLKEM768, defect.TLSWithoutSecp256r1mlkem768: tls.SecP256r1MLKEM768,
		defect.TLSWithoutSecp384r1mlkem1024: tls.SecP384r1MLKEM1024, defect.TLSWithoutMlkem1024: tls.MLKEM1024}
	for name, group := range groups {
		r := start(t, func(c *Config) { c.Defects = defect.Of(name) })
		cfg := r.clientConfig()
		cfg.CurvePreferences = []tls.CurveID{group}
		if _, err := r.connect(t, cfg); err == nil {
			t.Errorf("%s: %s is negotiated", name, GroupName(group))
		}
	}
	if len(groups) == 0 {
		t.Error("no case ran")
	}
	r := start(t, func(c *Config) { c.Defects = defect.Of(defect.TLSWithoutMldsa) })
	if got := r.mustConnect(t, r.clientConfig()).PeerCertificates[0].PublicKeyAlgorithm; got == x509.MLDSA {
		t.Error("an ML-DSA certificate is sent")
	}
	r = start(t, func(c *Config) { c.Defects = defect.Of(defect.TLSWithoutTLS12) })
	cfg := r.clientConfig()
	cfg.MaxVersion = tls.VersionTLS12
	if _, err := r.connect(t, cfg); err == nil {
		t.Error("TLS 1.2 is spoken")
	}
	r = start(t, func(c *Config) { c.Defects = defect.Of(defect.TLSMldsaChainIncomplete) })
	if _, err := r.connect(t, r.clientConfig()); err == nil {
		t.Error("an incomplete chain verifies")
	}
	r = start(t, func(c *Config) { c.Defects = defect.Of(defect.TLSEchoAltered) })
	if _, err := r.connect(t, r.clientConfig()); err == nil || err.Error() != "the echo differs" {
		t.Errorf("altered echo: %v", err)
	}
	r = start(t, func(c *Config) { c.Defects = defect.Of(defect.TLSAbsent) })
	if _, err := r.connect(t, r.clientConfig()); err == nil {
		t.Error("an absent port answers")
	}
}

func TestPlantedMutual(t *testing.T) {
	r := mutual(t, defect.TLSMutualCertUnverified)
	cfg := r.clientConfig()
	cfg.Certificates = clientCertificate(t, r.all.ecdsa)
	r.mustConnect(t, cfg)
	r = mutual(t, defect.TLSMutualCertNotAsked)
	r.mustConnect(t, r.clientConfig())
}

// The planted slowness shows in the groups that it is about and nowhere else. What is counted is
// whether the extra work is done, not how long it takes.
func TestPlantedSlowness(t *testing.T) {
	cases := []struct {
		planted defect.Name
		state   tls.ConnectionState
		slow    bool
	}{
		{defect.TLSHybridSlow, tls.ConnectionState{CurveID: tls.X25519MLKEM768}, true},
		{defect.TLSHybridSlow, tls.ConnectionState{CurveID: tls.X25519}, false},
		{defect.TLSPskHybridSlow, tls.ConnectionState{CurveID: tls.X25519MLKEM768, DidResume: true}, true},
		{defect.TLSPskHybridSlow, tls.ConnectionState{CurveID: tls.X25519MLKEM768}, false},
		{defect.TLSPskHybridSlow, tls.ConnectionState{CurveID: tls.X25519, DidResume: true}, false},
	}
	for _, c := range cases {
		cfg := Config{Defects: defect.Of(c.planted)}
		allocated := testing.AllocsPerRun(1, func() {
			if err := cfg.burn(c.state); err != nil {
				t.Error(err)
			}
		})
		if (allocated > 0) != c.slow {
			t.Errorf("%s, %s, resumed %t: %v allocations", c.planted, GroupName(c.state.CurveID), c.state.DidResume, allocated)
		}
	}
	if len(cases) == 0 {
		t.Error("no case ran")
	}
	r := start(t, func(c *Config) { c.Defects = defect.Of(defect.TLSHybridSlow) })
	r.mustConnect(t, r.clientConfig())
}

func TestBentServes(t *testing.T) {
	r := start(t, func(c *Config) { c.Defects = defect.Of(defect.TLSPaddedFlight) })
	state := r.mustConnect(t, r.clientConfig())
	if got := r.Stats().Handshakes[GroupName(state.CurveID)]; got != 1 {
		t.Errorf("counted %+v", r.Stats())
	}
	conn, err := r.dial(t, r.clientConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := r.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestShutdownIsGraceful(t *testing.T) {
	r := start(t, nil)
	conn, err := r.dial(t, r.clientConfig())
	if err != nil {
		t.Fatal(err)
	}
	if err := exchange(t, conn, "before"); err != nil {
		t.Fatal(err)
	}
	late := r.tcp(t) // accepted, in its handshake
	for r.open() < 2 {
		time.Sleep(time.Millisecond) // accepting has no event to wait for
	}
	done := make(chan error, 1)
	go func() { done <- r.Shutdown(t.Context()) }()
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("an idle connection ends with %v, want close_notify", err)
	}
	// The socket is closed for good when the goroutine that accepts has let go of it.
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		extra, err := net.Dial("tcp", r.Addr().String())
		if err != nil {
			break
		}
		_ = extra.Close()
		if time.Now().After(until) {
			t.Fatal("a draining server accepts")
		}
	}
	if err := tls.Client(late, r.clientConfig()).Handshake(); err != nil {
		t.Errorf("a handshake under way: %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := r.Shutdown(t.Context()); err != nil {
		t.Errorf("a second shutdown: %v", err)
	}
}

func (r *rig) open() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.conns)
}

func TestShutdownHasAnEnd(t *testing.T) {
	r := start(t, nil)
	r.tcp(t) // never says a word
	for r.open() < 1 {
		time.Sleep(time.Millisecond) // accepting has no event to wait for
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := r.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("shutdown = %v", err)
	}
}

func TestBounds(t *testing.T) {
	r := start(t, func(c *Config) { c.MaxConnections, c.MaxBytes, c.IdleDeadline = 1, 10, 50*time.Millisecond })
	conn, err := r.dial(t, r.clientConfig())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := r.tcp(t).Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a second connection is kept: %v", err)
	}
	if err := exchange(t, conn, "0123456789"); err != nil {
		t.Error(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("beyond the byte limit: %v", err)
	}
	for r.open() > 0 {
		time.Sleep(time.Millisecond) // the end of a connection has no event to wait for
	}
	if conn, err = r.dial(t, r.clientConfig()); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("an idle connection ends with %v, want close_notify", err)
	}
	if !soon(func() bool { return r.Stats().Rejected == 1 }) {
		t.Errorf("counted %+v", r.Stats())
	}
}

func TestNewRefuses(t *testing.T) {
	r := start(t, nil)
	cases := map[string]func(*Config){
		"no certificate": func(c *Config) { c.Certificates = nil },
		"negative":       func(c *Config) { c.MaxBytes = -1 },
		"old version":    func(c *Config) { c.MinVersion = tls.VersionTLS11 },
		"no roots":       func(c *Config) { c.RequireClientCert = true },
	}
	for name, edit := range cases {
		cfg := Config{Certificates: r.only(pki.ECDSA)}
		edit(&cfg)
		if _, err := New(nil, cfg); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if len(cases) == 0 {
		t.Error("no case ran")
	}
}
