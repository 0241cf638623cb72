package client_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/pqtls"
	"github.com/assay-bench/assay/reference/pqtls/client"
	"github.com/assay-bench/assay/reference/pqtls/ocsp"
	"github.com/assay-bench/assay/reference/pqtls/pki"
)

const patience = 10 * time.Second

// house is the PKI of all tests of the package.
type house struct {
	authority *pki.Authority
	responder *ocsp.Responder
	leaf      *tls.Certificate
	issuer    *x509.Certificate
	root      *x509.Certificate
}

var shared = sync.OnceValues(func() (*house, error) {
	a, err := pki.New(pki.Options{Kind: pki.ECDSA})
	if err != nil {
		return nil, err
	}
	h := &house{authority: a}
	if h.responder, err = ocsp.NewResponder(a, ocsp.ResponderOptions{}); err != nil {
		return nil, err
	}
	if h.leaf, err = a.Issue(leafRequest()); err != nil {
		return nil, err
	}
	if h.issuer, _, err = a.Issuer(); err != nil {
		return nil, err
	}
	h.root, err = a.Root()
	return h, err
})

func leafRequest() pki.Request {
	return pki.Request{Use: pki.Server, Names: []string{"server.test", "other.test"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}}
}

func pkiOf(t *testing.T) *house {
	t.Helper()
	h, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// staple asks the responder about a certificate.
func (h *house) staple(t *testing.T, leaf *x509.Certificate) []byte {
	t.Helper()
	der, _, err := h.responder.Response(t.Context(), leaf, h.issuer)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// server is a TLS server whose behaviour after the handshake is a function.
type server struct {
	addr     string
	accepted atomic.Int64 // connections
	shaken   atomic.Int64 // handshakes that finished
	resumed  atomic.Int64
	open     atomic.Int64
	received atomic.Int64 // application bytes
}

// serve starts one. A nil handle echoes.
func serve(t *testing.T, config *tls.Config, handle func(*tls.Conn, *server)) *server {
	t.Helper()
	if len(config.Certificates) == 0 && config.GetCertificate == nil && config.GetConfigForClient == nil {
		config.Certificates = []tls.Certificate{*pkiOf(t).leaf}
	}
	if handle == nil {
		handle = echo
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{addr: l.Addr().String()}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			s.accepted.Add(1)
			running.Go(func() { s.one(tls.Server(raw, config), handle) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		running.Wait()
	})
	return s
}

func (s *server) one(conn *tls.Conn, handle func(*tls.Conn, *server)) {
	s.open.Add(1)
	defer s.open.Add(-1)
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if conn.Handshake() != nil {
		return
	}
	s.shaken.Add(1)
	if conn.ConnectionState().DidResume {
		s.resumed.Add(1)
	}
	handle(conn, s)
}

func echo(conn *tls.Conn, s *server) {
	buf := make([]byte, 16<<10)
	for {
		n, err := conn.Read(buf)
		s.received.Add(int64(n))
		if err != nil {
			return
		}
		if _, err := conn.Write(buf[:n]); err != nil {
			return
		}
	}
}

// meeting makes an echo that answers once n connections have sent something.
func meeting(n int) func(*tls.Conn, *server) {
	var mu sync.Mutex
	var here int
	all := make(chan struct{})
	return func(conn *tls.Conn, s *server) {
		buf := make([]byte, 100)
		got, err := conn.Read(buf)
		if err != nil {
			return
		}
		mu.Lock()
		here++
		if here == n {
			here = 0
			close(all)
			all = make(chan struct{})
			mu.Unlock()
		} else {
			wait := all
			mu.Unlock()
			select {
			case <-wait:
			case <-time.After(patience):
			}
		}
		_, _ = conn.Write(buf[:got])
		echo(conn, s)
	}
}

// clock is a Clock that moves when told.
type clock struct {
	mu     sync.Mutex
	now    time.Time
	timers []*timer
}

type timer struct {
	at time.Time
	f  func()
}

func newClock() *clock { return &clock{now: time.Now()} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) AfterFunc(d time.Duration, f func()) func() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	own := &timer{c.now.Add(d), f}
	c.timers = append(c.timers, own)
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		before := len(c.timers)
		c.timers = slices.DeleteFunc(c.timers, func(t *timer) bool { return t == own })
		return len(c.timers) < before
	}
}

// advance moves the clock and runs what is due.
func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	c.now = c.now.Add(d)
	var due []*timer
	c.timers = slices.DeleteFunc(c.timers, func(t *timer) bool {
		if t.at.After(c.now) {
			return false
		}
		due = append(due, t)
		return true
	})
	c.mu.Unlock()
	for _, t := range due {
		t.f()
	}
}

// record is a log that can be searched.
type record struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// rig is a client under test.
type rig struct {
	*client.Client
	clock *clock
	log   *record
}

func newRig(t *testing.T, defects ...defect.Name) *rig {
	t.Helper()
	r := &rig{clock: newClock(), log: new(record)}
	var err error
	r.Client, err = client.New(client.Config{Defects: defect.Of(defects...), Clock: r.clock,
		Logger: slog.New(slog.NewTextHandler(r.log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// request is a pooled dial that every test bends.
func request(t *testing.T, s *server) client.Request {
	t.Helper()
	return client.Request{Address: s.addr, ServerName: "server.test", Roots: []*x509.Certificate{pkiOf(t).root},
		ALPN: []string{"echo"}, Policy: pqtls.PreferPQ, Send: []byte("hello"), Pool: true, Deadline: patience}
}

// must dials and wants success.
func (r *rig) must(t *testing.T, q client.Request) client.Result {
	t.Helper()
	got, err := r.Do(context.Background(), q)
	if err != nil || !got.Connected || string(got.Received) != string(q.Send) {
		t.Fatalf("dial: %+v, %v", got, err)
	}
	return got
}

// fails dials and wants an error with a code.
func (r *rig) fails(t *testing.T, q client.Request, want client.Code) client.Result {
	t.Helper()
	got, err := r.Do(context.Background(), q)
	if code := codeOf(err); code != want {
		t.Fatalf("dial: %+v, %v, want code %s", got, err, want)
	}
	return got
}

func codeOf(err error) client.Code {
	own, ok := err.(*client.Error)
	if !ok {
		return ""
	}
	return own.Code
}

// together dials n times at once.
func (r *rig) together(t *testing.T, n int, q client.Request) []client.Result {
	t.Helper()
	results, errs := make([]client.Result, n), make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { results[i], errs[i] = r.Do(context.Background(), q) })
	}
	all.Wait()
	for i, err := range errs {
		if err != nil {
			t.Fatalf("dial %d of %d: %v", i, n, err)
		}
	}
	return results
}

// eventually waits for what another goroutine brings about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s does not come about", what)
		}
	}
}

func clientRequest() pki.Request { return pki.Request{Use: pki.Client, Common: "client"} }
