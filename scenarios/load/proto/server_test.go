package proto

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/reflection"

	"github.com/assay-bench/assay/fixtures/idl/behavepb"
)

// witness counts what reaches a server.
type witness struct {
	requests, inFlight, most atomic.Int64
	conns                    atomic.Int64
	mu                       sync.Mutex
	seen                     map[string]int
	delay                    time.Duration
}

// serve notes a request and takes the server's time.
func (w *witness) serve(what string) {
	now := w.inFlight.Add(1)
	defer w.inFlight.Add(-1)
	for most := w.most.Load(); now > most && !w.most.CompareAndSwap(most, now); most = w.most.Load() {
	}
	w.mu.Lock()
	if w.seen == nil {
		w.seen = map[string]int{}
	}
	w.seen[what]++
	w.requests.Add(1)
	w.mu.Unlock()
	time.Sleep(w.delay) // the service time of the server under test
}

// saw returns what was seen, once it is n requests or a while has passed: a client of TLS is done before its
// server has noted the handshake.
func (w *witness) saw(n int64) map[string]int {
	for end := time.Now().Add(10 * time.Second); w.requests.Load() < n && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.seen)
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// counted counts the connections of a listener.
type counted struct {
	net.Listener
	w *witness
}

func (c counted) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.w.conns.Add(1)
	}
	return conn, err
}

// serveHTTP serves h over HTTP/1.1 and HTTP/2, in clear text or over TLS, on net/http.
func serveHTTP(t testing.TB, w *witness, cfg *tls.Config, h http.Handler) string {
	t.Helper()
	l := net.Listener(counted{listen(t), w})
	server := &http.Server{Handler: h, Protocols: new(http.Protocols), TLSConfig: cfg, ReadHeaderTimeout: 10 * time.Second,
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 10_000}}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	server.Protocols.SetHTTP2(true)
	served := make(chan error, 1)
	go func() {
		if cfg != nil {
			served <- server.ServeTLS(l, "", "")
			return
		}
		served <- server.Serve(l)
	}()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// echoHandler answers with the request's body and notes method, path and body.
func echoHandler(w *witness) http.Handler {
	return http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		body, err := io.ReadAll(in.Body)
		if err != nil {
			return // the client has gone
		}
		w.serve(in.Method + " " + in.RequestURI + " " + in.Header.Get("X-Name") + " " + string(body))
		if in.URL.Path == "/fail" {
			out.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = out.Write(body) // the client may have gone
	})
}

// serveConnect serves the behave service's Echo by connect-go, which speaks Connect, gRPC and gRPC-Web.
func serveConnect(t testing.TB, w *witness, cfg *tls.Config) string {
	mux := http.NewServeMux()
	mux.Handle(behavepb.Behave_Echo_FullMethodName, connect.NewUnaryHandler(behavepb.Behave_Echo_FullMethodName,
		func(_ context.Context, in *connect.Request[behavepb.Msg]) (*connect.Response[behavepb.Msg], error) {
			w.serve(string(in.Msg.GetBody()))
			if string(in.Msg.GetBody()) == "fail" {
				return nil, connect.NewError(connect.CodeResourceExhausted, errors.New("no more"))
			}
			return connect.NewResponse(in.Msg), nil
		}))
	return serveHTTP(t, w, cfg, mux)
}

// behaveServer is the behave service on grpc-go.
type behaveServer struct {
	behavepb.UnimplementedBehaveServer
	w *witness
}

func (s behaveServer) Echo(_ context.Context, in *behavepb.Msg) (*behavepb.Msg, error) {
	s.w.serve(string(in.GetBody()))
	return in, nil
}

func serveGRPC(t testing.TB, w *witness) string {
	t.Helper()
	l := listen(t)
	server := grpc.NewServer()
	behavepb.RegisterBehaveServer(server, behaveServer{w: w})
	reflection.Register(server)
	served := make(chan error, 1)
	go func() { served <- server.Serve(counted{l, w}) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// serveConns gives each connection to talk; it ends with the test.
func serveConns(t testing.TB, w *witness, talk func(net.Conn)) string {
	t.Helper()
	l := counted{listen(t), w}
	var running sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, conn)
			mu.Unlock()
			running.Go(func() {
				defer conn.Close()
				talk(conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, conn := range open {
			conn.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return l.Addr().String()
}

// thriftEcho answers every framed call with a reply of no fields.
func thriftEcho(w *witness) func(net.Conn) {
	return func(conn net.Conn) {
		var head [4]byte
		for {
			if _, err := io.ReadFull(conn, head[:]); err != nil {
				return
			}
			body := make([]byte, binary.BigEndian.Uint32(head[:]))
			if _, err := io.ReadFull(conn, body); err != nil {
				return
			}
			w.serve("call")
			name := int(binary.BigEndian.Uint32(body[4:]))
			reply := append([]byte{0, 0, 0, 0}, body[:12+name]...)
			reply[7] = 2 // the type of the message: a reply
			reply = append(reply, 0)
			binary.BigEndian.PutUint32(reply, uint32(len(reply)-4))
			if _, err := conn.Write(reply); err != nil {
				return
			}
		}
	}
}

func echoBytes(w *witness) func(net.Conn) {
	return func(conn net.Conn) {
		_, _ = io.Copy(conn, conn) // ends with the connection
	}
}

// certificate is one for 127.0.0.1, with the pool that trusts it.
func certificate(t testing.TB) (server *tls.Config, roots *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "load"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}, roots
}

func tlsServer(t testing.TB, cfg *tls.Config, w *witness) string {
	return serveConns(t, w, func(conn net.Conn) {
		secure := tls.Server(conn, cfg)
		if secure.Handshake() != nil {
			return
		}
		w.serve(secure.ConnectionState().CurveID.String())
		_, _ = io.Copy(io.Discard, secure) // until the client leaves
	})
}
