package tls_test

import (
	stdtls "crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/rpc"
	"github.com/assay-bench/assay/scenarios/target"
	"github.com/assay-bench/assay/scenarios/tls"
	wire "github.com/assay-bench/assay/scenarios/wire/tls"
)

// echo is a server of crypto/tls that sends back what it gets.
func echo(t testing.TB, c *stdtls.Config) string {
	return serve(t, func(conn net.Conn) {
		defer func() { _ = conn.Close() }()
		s := stdtls.Server(conn, c)
		if s.Handshake() == nil {
			_, _ = io.Copy(s, s)
		}
	})
}

// asRecorded compares what was returned with what the evidence says.
func asRecorded[T any](t testing.TB, returned, recorded T) {
	t.Helper()
	if diff := cmp.Diff(returned, recorded, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(wire.Outcome{}, "Sessions")); diff != "" {
		t.Errorf("evidence (-returned +recorded):\n%s", diff)
	}
}

func TestProbe(t *testing.T) {
	t.Parallel()
	p := tls.Authority(tls.MLDSA)
	var mu sync.Mutex
	var asked []string
	addr := echo(t, &stdtls.Config{
		GetConfigForClient: func(h *stdtls.ClientHelloInfo) (*stdtls.Config, error) {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, h.ServerName)
			return nil, nil
		},
		Certificates: []stdtls.Certificate{certificate(p.Identity(tls.Stapled(tls.StaplePlan{})))},
		NextProtos:   []string{"echo"},
	})
	w := newWorld(t, target.Endpoints{"tls": addr}, &target.TLS{ServerName: "server.test", App: "echo"})
	send, want := tls.App(w.env)
	o, err := tls.Probe(t.Context(), w.env, "tls", "first", wire.Client{
		Offer: wire.Offer{ALPN: []string{"echo"}, Groups: []wire.Group{wire.X25519MLKEM768}, Status: true}, Send: send, Want: want, Tickets: 1,
		Bend: func(h *wire.Hello) { h.Set(45, []byte{1, 1}) }, // psk_key_exchange_modes, without which no ticket is sent
	})
	if err != nil {
		t.Fatal(err)
	}
	if o.Ending != wire.Completed || o.Server == nil || o.Server.Group != wire.X25519MLKEM768 || o.Flight == nil || !o.Flight.SignatureValid || string(o.App) != string(send) {
		t.Fatalf("outcome %+v", o)
	}
	if n, err := tls.VerifiedChain(o.Flight.Certificates, p.Roots(), "server.test", time.Now()); err != nil || n != 3 {
		t.Errorf("chain of %d, %v", n, err)
	}
	if err := tls.CheckStaple(o.Flight.Staple, o.Flight.Certificates[0], o.Flight.Certificates[1], time.Now()); err != nil {
		t.Error(err)
	}
	if len(o.Sessions) == 0 {
		t.Fatal("no session to resume")
	}
	again, err := tls.Probe(t.Context(), w.env, "tls", "second", wire.Client{
		Offer: wire.Offer{ALPN: []string{"echo"}, Groups: []wire.Group{wire.X25519MLKEM768}, Session: o.Sessions[0]}, Send: send, Want: want,
	})
	if err != nil || again.Ending != wire.Completed || !again.Resumed {
		t.Errorf("resumption %+v, %v", again, err)
	}
	mu.Lock()
	if diff := cmp.Diff([]string{"server.test", "server.test"}, asked); diff != "" {
		t.Errorf("server names (-want +got):\n%s", diff)
	}
	mu.Unlock()
	seen, err := tls.Handshakes(w.evidence())
	if err != nil || len(seen) != 2 {
		t.Fatalf("handshakes %v, %v", seen, err)
	}
	asRecorded(t, *o, seen["first"].Outcome)
	asRecorded(t, *again, seen["second"].Outcome)
	bytesRecorded(t, w, "first", o.Up, o.Down)
	if s := seen["first"]; s.Endpoint != "tls" || len(s.Cites) < 4 || time.Since(s.Wall) > time.Minute {
		t.Errorf("seen %+v", s)
	}
}

// bytesRecorded checks that the evidence holds each byte of a connection.
func bytesRecorded(t testing.TB, w *world, label string, up, down int) {
	t.Helper()
	x, err := rpc.Exchanges(w.evidence())
	if err != nil || x[label] == nil {
		t.Fatalf("exchanges %v, %v", x, err)
	}
	if len(x[label].Sent) != up || len(x[label].Received) != down || !x[label].Whole || up == 0 || down == 0 {
		t.Errorf("recorded %d up and %d down, whole %t, want %d and %d", len(x[label].Sent), len(x[label].Received), x[label].Whole, up, down)
	}
}

// The same seed makes the same hello, another draw another one.
func TestProbeIsSeeded(t *testing.T) {
	t.Parallel()
	addr := serve(t, func(c net.Conn) { _ = c.Close() })
	hello := func(name string, w *world) string {
		if _, err := tls.Probe(t.Context(), w.env, "tls", name, wire.Client{}); err != nil {
			t.Fatal(err)
		}
		x, err := rpc.Exchanges(w.evidence())
		if err != nil || x[name] == nil || len(x[name].Sent) == 0 {
			t.Fatalf("exchanges %v, %v", x, err)
		}
		return string(x[name].Sent)
	}
	one, other := newWorld(t, target.Endpoints{"tls": addr}, nil), newWorld(t, target.Endpoints{"tls": addr}, nil)
	first := hello("a", one)
	if first != hello("a", other) {
		t.Error("a run can not be replayed: its hello differs")
	}
	if first == hello("b", one) {
		t.Error("two probes of a run use one seed")
	}
}

func TestProbeOfHostileServers(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	t.Cleanup(func() { close(hold) })
	cases := []struct {
		name  string
		serve func(net.Conn)
		want  []wire.Ending
		kind  results.Kind // among the steps
	}{
		{"closes", func(c net.Conn) {
			_, _ = c.Read(make([]byte, 4<<10))
			_ = c.Close()
		}, []wire.Ending{wire.EOF, wire.Reset}, results.Closed},
		{"alert", func(c net.Conn) {
			_, _ = c.Write([]byte{21, 3, 3, 0, 2, 2, 40})
			<-hold
			_ = c.Close()
		}, []wire.Ending{wire.Alerted}, results.Received},
		{"garbage", func(c net.Conn) {
			_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			<-hold
			_ = c.Close()
		}, []wire.Ending{wire.Garbled}, results.Received},
		{"silent", func(c net.Conn) {
			<-hold
			_ = c.Close()
		}, []wire.Ending{wire.Silent}, results.Silent},
		{"flood", func(c net.Conn) {
			for err := error(nil); err == nil; {
				_, err = c.Write([]byte{20, 3, 3, 0, 1, 1})
			}
		}, []wire.Ending{wire.Garbled, wire.Silent, wire.Reset, wire.EOF, wire.Alerted}, ""},
	}
	for _, c := range cases {
		w := newWorld(t, target.Endpoints{"tls": serve(t, c.serve)}, nil)
		o, err := tls.Probe(t.Context(), w.env, "tls", "x", wire.Client{Wait: 300 * time.Millisecond})
		if err != nil || !contains(c.want, o.Ending) {
			t.Errorf("%s: %+v, %v", c.name, o, err)
			continue
		}
		seen, err := tls.Handshakes(w.evidence())
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		asRecorded(t, *o, seen["x"].Outcome)
		if kinds := w.kinds(); c.kind != "" && !contains(kinds, c.kind) {
			t.Errorf("%s: evidence %v", c.name, kinds)
		}
	}
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
}

func TestProbeRefused(t *testing.T) {
	w := newWorld(t, target.Endpoints{"tls": closedPort(t)}, nil)
	for name, endpoint := range map[string]string{"closed": "tls", "absent": "tls-mutual"} {
		o, err := tls.Probe(t.Context(), w.env, endpoint, name, wire.Client{})
		if err != nil || o.Ending != wire.Refused {
			t.Errorf("%s: %+v, %v", name, o, err)
		}
	}
	seen, err := tls.Handshakes(w.evidence())
	if err != nil || len(seen) != 2 || len(seen["closed"].Cites) != 2 {
		t.Errorf("handshakes %+v, %v", seen, err)
	}
	w = newWorld(t, target.Endpoints{"tls": "192.0.2.1:443"}, nil)
	if _, err := tls.Probe(t.Context(), w.env, "tls", "x", wire.Client{}); err == nil {
		t.Error("a host that is not allowed was dialled")
	}
}

func TestApp(t *testing.T) {
	cases := map[string]struct {
		tls  *target.TLS
		send string
		want int
	}{
		"nothing known": {nil, "", 0},
		"none":          {&target.TLS{}, "", 0},
		"http":          {&target.TLS{App: "http", ServerName: "a.test"}, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n", 1},
		"http, no name": {&target.TLS{App: "http"}, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 1},
	}
	for name, c := range cases {
		send, want := tls.App(newWorld(t, nil, c.tls).env)
		if string(send) != c.send || want != c.want {
			t.Errorf("%s: %q, %d", name, send, want)
		}
	}
	w := newWorld(t, nil, &target.TLS{App: "echo"})
	one, n := tls.App(w.env)
	other, _ := tls.App(w.env)
	if len(one) != 16 || n != 16 || string(one) == string(other) || len(cases) == 0 {
		t.Errorf("echo: %x, %d, %x", one, n, other)
	}
}

// trapOf opens a trap with one kind of server.
func trapOf(t testing.TB, env *scenarios.Env, name string, s wire.Server) *tls.Trap {
	t.Helper()
	trap, err := tls.Listen(env, name, func(int) wire.Server { return s })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = trap.Close() })
	return trap
}

func TestTrap(t *testing.T) {
	t.Parallel()
	seen := 0
	for _, kind := range []string{tls.MLDSA, tls.ECDSA, tls.RSA} {
		seen++
		p, w := tls.Authority(kind), newWorld(t, nil, nil)
		trap := trapOf(t, w.env, "echo", wire.Server{Identity: p.Identity(tls.Stapled(tls.StaplePlan{})), ALPN: []string{"echo"}, Echo: true})
		for _, name := range []string{"server.test", "localhost"} {
			conn, err := stdtls.Dial("tcp", trap.Addr(), &stdtls.Config{RootCAs: pool(t, p.Roots()), ServerName: name, NextProtos: []string{"echo"}})
			if err != nil {
				t.Fatalf("%s: %v", kind, err)
			}
			back := make([]byte, 5)
			_, werr := conn.Write([]byte("hello"))
			if _, err := io.ReadFull(conn, back); err != nil || werr != nil || string(back) != "hello" {
				t.Errorf("%s: echo %q, %v, %v", kind, back, werr, err)
			}
			state := conn.ConnectionState()
			if err := tls.CheckStaple(state.OCSPResponse, state.PeerCertificates[0].Raw, p.Intermediate(), time.Now()); err != nil {
				t.Errorf("%s: %v", kind, err)
			}
			_ = conn.Close()
		}
		if err := trap.Close(); err != nil {
			t.Fatal(err)
		}
		if err := trap.Close(); err != nil {
			t.Error(err)
		}
		heard, err := tls.Heards(w.evidence())
		if err != nil || len(heard["echo"]) != 2 || trap.Accepted() != 2 {
			t.Fatalf("%s: heard %+v, %v", kind, heard, err)
		}
		for n, name := range []string{"server.test", "localhost"} {
			h := heard["echo"][n]
			if h.N != n || h.Heard.Hello == nil || h.Heard.Hello.ServerName != name || !h.Heard.FinishedValid || string(h.Heard.App) != "hello" || len(h.Cites) < 3 {
				t.Errorf("%s: heard %+v", kind, h)
			}
			bytesTrapped(t, w, fmt.Sprintf("echo#%d", n), h.Heard)
		}
		for _, e := range w.evidence() {
			if e.Source != results.FromPeer {
				t.Errorf("%s: evidence %d is from %s", kind, e.Seq, e.Source)
			}
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

// bytesTrapped checks that the evidence holds each byte of a trap's connection.
func bytesTrapped(t testing.TB, w *world, label string, h wire.Heard) {
	t.Helper()
	x, err := rpc.Exchanges(w.evidence())
	if err != nil || x[label] == nil {
		t.Fatalf("exchanges %v, %v", x, err)
	}
	if len(x[label].Received) != h.Up || len(x[label].Sent) != h.Down || h.Up == 0 {
		t.Errorf("%s: recorded %d up and %d down, heard %d and %d", label, len(x[label].Received), len(x[label].Sent), h.Up, h.Down)
	}
}

// A trap takes 16 connections and no more, and ends those that would never end.
func TestTrapIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	trap, err := tls.Listen(w.env, "full", func(int) wire.Server {
		return wire.Server{Identity: tls.Authority(tls.ECDSA).Identity(), Wait: 200 * time.Millisecond}
	})
	if err != nil {
		t.Fatal(err)
	}
	var conns []net.Conn
	refused := false
	for i := range 40 {
		conn, err := net.DialTimeout("tcp", trap.Addr(), time.Second)
		if err != nil {
			refused = true
			break
		}
		conns = append(conns, conn)
		if i >= tls.MaxAccepted { // taken by the kernel alone: it is reset when the listener goes
			_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
			_, err := conn.Read(make([]byte, 1))
			refused = refused || err != nil
		}
	}
	if !refused {
		t.Error("40 connections were taken")
	}
	began := time.Now()
	if err := trap.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("closing took %s", took)
	}
	for _, c := range conns {
		_ = c.Close()
	}
	heard, err := tls.Heards(w.evidence())
	if err != nil || len(heard["full"]) != tls.MaxAccepted {
		t.Fatalf("%d heard, %v", len(heard["full"]), err)
	}
	for _, h := range heard["full"] {
		if h.Heard.FinishedValid || h.Heard.Ending == wire.Completed {
			t.Errorf("a silent client %+v", h)
		}
	}
}

// A client that drips for ever does not hold a trap, and one that floods does not fill the memory.
func TestTrapOfHostileClients(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	trap, err := tls.Listen(w.env, "hostile", func(int) wire.Server {
		return wire.Server{Identity: tls.Authority(tls.ECDSA).Identity(), Wait: 300 * time.Millisecond}
	})
	if err != nil {
		t.Fatal(err)
	}
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", trap.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	garbage, flood, drip := dial(), dial(), dial()
	_, _ = garbage.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	go func() {
		for err := error(nil); err == nil; {
			_, err = flood.Write([]byte(strings.Repeat("\x14\x03\x03\x00\x01\x01", 1<<10)))
		}
	}()
	go func() {
		_, err := drip.Write([]byte{22, 3, 1, 64, 0})
		for ; err == nil; time.Sleep(10 * time.Millisecond) {
			_, err = drip.Write([]byte{1})
		}
	}()
	for trap.Accepted() < 3 {
		time.Sleep(time.Millisecond)
	}
	began := time.Now()
	if err := trap.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("closing took %s", took)
	}
	heard, err := tls.Heards(w.evidence())
	if err != nil || len(heard["hostile"]) != 3 {
		t.Fatalf("heard %+v, %v", heard, err)
	}
	for _, h := range heard["hostile"] {
		if h.Heard.FinishedValid || h.Heard.Hello != nil {
			t.Errorf("heard %+v", h)
		}
	}
}

// The prober's own two ends understand each other, whatever the group.
func TestProbeOfTrap(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	trap := trapOf(t, w.env, "trap", wire.Server{Identity: tls.Authority(tls.MLDSA).Identity(), Echo: true})
	w.env.Endpoints = target.Endpoints{"trap": trap.Addr()}
	seen := 0
	for _, g := range wire.Groups() {
		seen++
		o, err := tls.Probe(t.Context(), w.env, "trap", g.String(), wire.Client{Offer: wire.Offer{Groups: []wire.Group{g}}, Send: []byte("x"), Want: 1})
		if err != nil || o.Ending != wire.Completed || o.Server.Group != g {
			t.Errorf("%s: %+v, %v", g, o, err)
		}
	}
	if err := trap.Close(); err != nil {
		t.Fatal(err)
	}
	heard, err := tls.Heards(w.evidence())
	if err != nil || len(heard["trap"]) != seen || seen == 0 {
		t.Fatalf("%d heard of %d, %v", len(heard["trap"]), seen, err)
	}
}
