package proto

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/assay-bench/assay/fixtures/idl/behavepb"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/load"
)

// config is a load on an address with nothing special.
func config(t testing.TB, url string) Config {
	t.Helper()
	u, err := ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	return Config{URL: u, Dial: scenarios.NewDialer(nil, 0).DialContext, InFlight: 600}
}

func open(t testing.TB, c Config) *Session {
	t.Helper()
	s, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func play(t testing.TB, c Config, rate float64, d time.Duration, opt load.Options) *load.Result {
	t.Helper()
	r, err := load.Run(t.Context(), load.Schedule{Kind: load.Const, Rate: rate, Duration: d}, open(t, c).Via, opt)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const arrivals = 100

// Every protocol carries every arrival to a real server, once.
func TestEveryProtocol(t *testing.T) {
	message, err := proto.Marshal(&behavepb.Msg{Body: []byte("hello")})
	if err != nil {
		t.Fatal(err)
	}
	serverTLS, roots := certificate(t)
	overTLS := func(c *Config) { c.TLS.Config = &tls.Config{RootCAs: roots} }
	plain := func(*Config) {}
	protobuf := func(c *Config) { c.Body = message }
	asJSON := func(c *Config) { c.Body, c.JSON = []byte(`{"body":"aGVsbG8="}`), true }
	both := func(a, b func(*Config)) func(*Config) { return func(c *Config) { a(c); b(c) } }
	behave := behavepb.Behave_Echo_FullMethodName

	webHTTP := func(w *witness) string { return serveHTTP(t, w, nil, echoHandler(w)) }
	webTLS := func(w *witness) string { return serveHTTP(t, w, serverTLS.Clone(), echoHandler(w)) }
	rpc := func(w *witness) string { return serveConnect(t, w, nil) }
	rpcTLS := func(w *witness) string { return serveConnect(t, w, serverTLS.Clone()) }
	goGRPC := func(w *witness) string { return serveGRPC(t, w) }
	framed := func(w *witness) string { return serveConns(t, w, thriftEcho(w)) }

	covered := map[string]bool{}
	for _, tt := range []struct {
		scheme, path string
		serve        func(*witness) string
		change       func(*Config)
		want         string // what the server sees of each request; empty: it can not tell
	}{
		{"http", "/a?b=c", webHTTP, plain, "GET /a?b=c  "},
		{"http", "/a", webHTTP, func(c *Config) { c.Body, c.Header = []byte("x"), []Field{{"X-Name", "n"}} }, "POST /a n x"},
		{"http", "/a", webHTTP, func(c *Config) { c.Method = "HEAD" }, "HEAD /a  "},
		{"https", "/a", webTLS, overTLS, "GET /a  "},
		{"h2c", "/a", webHTTP, plain, "GET /a  "},
		{"h2c", "/a", webHTTP, func(c *Config) { c.Body, c.Header = []byte("x"), []Field{{"X-Name", "n"}} }, "POST /a n x"},
		{"h2", "/a", webTLS, overTLS, "GET /a  "},
		{"connect", behave, rpc, protobuf, "hello"},
		{"connect", behave, rpc, asJSON, "hello"},
		{"connect+tls", behave, rpcTLS, both(overTLS, protobuf), "hello"},
		{"connect+h2c", behave, rpc, protobuf, "hello"},
		{"connect+h2", behave, rpcTLS, both(overTLS, asJSON), "hello"},
		{"grpcweb", behave, rpc, protobuf, "hello"},
		{"grpcweb", behave, rpc, asJSON, "hello"},
		{"grpcweb+tls", behave, rpcTLS, both(overTLS, protobuf), "hello"},
		{"grpcweb+h2c", behave, rpc, protobuf, "hello"},
		{"grpcweb+h2", behave, rpcTLS, both(overTLS, protobuf), "hello"},
		{"grpc", behave, rpc, protobuf, "hello"},
		{"grpc", behave, goGRPC, asJSON, "hello"},
		{"grpc+tls", behave, rpcTLS, both(overTLS, protobuf), "hello"},
		{"thrift", "", framed, plain, "call"},
		{"tls", "", func(w *witness) string { return tlsServer(t, serverTLS.Clone(), w) }, overTLS, tls.X25519MLKEM768.String()},
		{"tcp", "", func(w *witness) string { return serveConns(t, w, echoBytes(w)) }, plain, ""},
	} {
		covered[tt.scheme] = true
		t.Run(tt.scheme+" "+tt.want, func(t *testing.T) {
			w := &witness{}
			c := config(t, tt.scheme+"://"+tt.serve(w)+tt.path)
			tt.change(&c)
			r := play(t, c, 500, arrivals*2*time.Millisecond, load.Options{Timeout: 20 * time.Second})
			if r.Counts.OK != arrivals || r.Counts.Scheduled != arrivals {
				t.Fatalf("counts %+v, errors %v", r.Counts, r.Errors)
			}
			ends := load.EndsKernel
			if runtime.GOOS != "linux" || tt.scheme == "tls" {
				ends = load.EndsRead // a handshake ends with arithmetic
			}
			if r.Ends != ends {
				t.Errorf("replies end %q, want %q", r.Ends, ends)
			}
			if tt.want == "" {
				return
			}
			extra := int64(0)
			if tt.scheme == "tls" {
				extra = 1 // the handshake that proved the target
			}
			seen := w.saw(arrivals + extra)
			if n := w.requests.Load(); n != arrivals+extra || seen[tt.want] != int(n) {
				t.Errorf("the server saw %d requests: %v, want %d of %q", n, seen, arrivals, tt.want)
			}
		})
	}
	covered["ttheader"], covered["ttheader+buffered"] = true, true // TestReferenceStack of cmd/assay
	for _, s := range Schemes() {
		if !covered[s.Name] {
			t.Errorf("scheme %s is not tried", s.Name)
		}
	}
}

// What a socket does not take at once is sent by the worker: a large body arrives whole.
func TestLargeBodies(t *testing.T) {
	const size = 8 << 20
	var wrong atomic.Int64
	at := serveHTTP(t, &witness{}, nil, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		time.Sleep(5 * time.Millisecond) // until the socket is full
		h := sha256.New()
		if n, err := io.Copy(h, r.Body); n != size || err != nil || !bytes.Equal(h.Sum(nil), hashOf(size)) {
			wrong.Add(1)
		}
	}))
	c := config(t, "http://"+at+"/")
	c.Body = bytes.Repeat([]byte("assay123"), size/8)
	c.Conns = 4
	r := play(t, c, 40, time.Second/2, load.Options{Timeout: 20 * time.Second})
	if r.Counts.OK != 20 || wrong.Load() != 0 {
		t.Errorf("counts %+v, %d bodies are wrong", r.Counts, wrong.Load())
	}
}

func hashOf(size int) []byte {
	h := sha256.Sum256(bytes.Repeat([]byte("assay123"), size/8))
	return h[:]
}

// A refusal by the server is an error of its kind, in every protocol that can refuse.
func TestRefusals(t *testing.T) {
	fail, err := proto.Marshal(&behavepb.Msg{Body: []byte("fail")})
	if err != nil {
		t.Fatal(err)
	}
	behave := behavepb.Behave_Echo_FullMethodName
	for _, tt := range []struct {
		scheme, path, kind string
		body               []byte
	}{
		{"http", "/fail", "HTTP status 503", nil},
		{"h2c", "/fail", "HTTP status 503", nil},
		{"connect", behave, "connect code resource_exhausted", fail},
		{"connect+h2c", behave, "connect code resource_exhausted", fail},
		{"connect", "/no.Such/Method", "HTTP status 404", fail},
		{"grpcweb", behave, "grpc status 8", fail},
		{"grpcweb+h2c", behave, "grpc status 8", fail},
		{"grpc", behave, "grpc status ResourceExhausted: no more", fail},
	} {
		w := &witness{}
		addr := ""
		if strings.HasPrefix(tt.scheme, "h") {
			addr = serveHTTP(t, w, nil, echoHandler(w))
		} else {
			addr = serveConnect(t, w, nil)
		}
		c := config(t, tt.scheme+"://"+addr+tt.path)
		c.Body = tt.body
		r := play(t, c, 500, 40*time.Millisecond, load.Options{Timeout: 20 * time.Second})
		if r.Counts.Error != 20 || r.Errors[tt.kind] != 20 {
			t.Errorf("%s: %+v, errors %v, want 20 of %q", tt.scheme, r.Counts, r.Errors, tt.kind)
		}
	}
}

// TestAsyncDispatch proves load/dispatch/async for gRPC and HTTP/2: over one connection to a server that
// takes a second, 500 arrivals a second are in flight together.
func TestAsyncDispatch(t *testing.T) {
	message, err := proto.Marshal(&behavepb.Msg{Body: []byte("hello")})
	if err != nil {
		t.Fatal(err)
	}
	for scheme, serve := range map[string]func(*witness) string{
		"grpc": func(w *witness) string { return serveGRPC(t, w) },
		"h2c":  func(w *witness) string { return serveHTTP(t, w, nil, echoHandler(w)) },
	} {
		t.Run(scheme, func(t *testing.T) {
			most := int64(0)
			for try := 0; try < 3 && most <= 400; try++ { // a host that is late with the arrivals has fewer of them in flight
				w := &witness{delay: time.Second}
				c := config(t, scheme+"://"+serve(w)+behavepb.Behave_Echo_FullMethodName)
				c.Body, c.Conns, c.InFlight = message, 1, 1500
				r := play(t, c, 500, 1100*time.Millisecond, load.Options{Timeout: 20 * time.Second})
				if r.Counts.OK != r.Counts.Scheduled {
					t.Fatalf("counts %+v, errors %v", r.Counts, r.Errors)
				}
				if conns := w.conns.Load(); conns > 2 { // the probe's connection carries nothing
					t.Fatalf("%d connections, want 1", conns-1)
				}
				most = w.most.Load()
			}
			if most <= 400 {
				t.Errorf("%d in flight at once, want more than 400", most)
			}
		})
	}
}

// Rows go by arrival number modulo rows, into path, query, header and body.
func TestRows(t *testing.T) {
	rows, err := ReadRows("x.csv", strings.NewReader("id,name\n1,a b\n2,\"c,/d\"\n3,é\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, scheme := range []string{"http", "h2c"} {
		w := &witness{}
		c := config(t, scheme+"://"+serveHTTP(t, w, nil, echoHandler(w))+"/item/{{id}}?q={{name}}")
		c.Rows, c.Body, c.Header = rows, []byte("<{{name}}>"), []Field{{"X-Name", "n{{ id }}"}}
		r := play(t, c, 500, 60*time.Millisecond, load.Options{Timeout: 20 * time.Second})
		if r.Counts.OK != 30 {
			t.Fatalf("%s: %+v, %v", scheme, r.Counts, r.Errors)
		}
		for _, want := range []string{"POST /item/1?q=a+b n1 <a b>", "POST /item/2?q=c%2C%2Fd n2 <c,/d>", "POST /item/3?q=%C3%A9 n3 <é>"} {
			if seen := w.saw(30); seen[want] != 10 {
				t.Errorf("%s: the server saw %v, want 10 of %q", scheme, seen, want)
			}
		}
	}
}

func TestReadRows(t *testing.T) {
	r, err := ReadRows("x.jsonl", strings.NewReader("{\"a\":\"x\",\"b\":1.50}\n\n{\"b\":{\"c\":null},\"a\":\"\"}\n"))
	if err != nil || r.Len() != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	for i, want := range []string{"x-1.50", `-{"c":null}`} {
		if got, err := r.render("{{a}}-{{b}}", i, verbatim); err != nil || got != want {
			t.Errorf("row %d gives %q, %v, want %q", i, got, err, want)
		}
	}
	for name, text := range map[string]string{
		"x.txt": "a\n1\n", "x.csv": "", "a.csv": "a,a\n1,2\n", "b.csv": "a,b\n1\n", "c.csv": "a\n", "d.csv": "a,\n1,2\n",
		"x.jsonl": "{\"a\":1}\n{\"b\":1}\n", "y.jsonl": "[1]\n", "z.jsonl": "{\"a\":1}\n{\"a\":1,\"b\":2}\n",
	} {
		if r, err := ReadRows(name, strings.NewReader(text)); !errors.Is(err, ErrConfig) {
			t.Errorf("%s %q: %+v, %v", name, text, r, err)
		}
	}
	for _, bad := range []string{"{{c}}", "{{a", "{{}}"} {
		if got, err := r.render(bad, 0, verbatim); !errors.Is(err, ErrConfig) {
			t.Errorf("%s gives %q, %v", bad, got, err)
		}
	}
}

func FuzzReadRows(f *testing.F) {
	f.Add("x.csv", "a,b\n1,2\n", "{{a}}")
	f.Add("x.jsonl", "{\"a\":1}\n", "x{{ a }}y{{b")
	f.Fuzz(func(t *testing.T, name, text, template string) {
		r, err := ReadRows(name, strings.NewReader(text))
		if err != nil {
			return
		}
		for i := range r.Len() {
			if _, err := r.render(template, i, verbatim); err != nil && !errors.Is(err, ErrConfig) {
				t.Error(err)
			}
		}
	})
}

func TestParseURLRefuses(t *testing.T) {
	for _, raw := range []string{"", "x", "ftp://a:1", "grpc://", "grpc://a", "http://u:p@a", "http://a#b", "tcp://127.0.0.1", "http://%zz", "tcp://a:b"} {
		if u, err := ParseURL(raw); !errors.Is(err, ErrConfig) {
			t.Errorf("%q: %v, %v", raw, u, err)
		}
	}
	for raw, host := range map[string]string{"http://a": "a:80", "https://[::1]/x": "[::1]:443", "h2://a": "a:443", "tls://a": "a:443", "h2c://a:1": "a:1"} {
		if u, err := ParseURL(raw); err != nil || u.Host != host {
			t.Errorf("%q: %v, %v, want host %s", raw, u, err, host)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	w := &witness{}
	addr := serveGRPC(t, w)
	for _, tt := range []struct {
		url    string
		change func(*Config)
	}{
		{"tcp://" + addr + "/x", func(*Config) {}},
		{"tcp://" + addr, func(c *Config) { c.Size = 3 }},
		{"tcp://" + addr, func(c *Config) { c.Body = []byte("x") }},
		{"tls://" + addr, func(c *Config) { c.Body = []byte("x") }},
		{"thrift://" + addr + "/Other", func(*Config) {}},
		{"thrift://" + addr, func(c *Config) { c.Body = []byte("no struct") }},
		{"thrift://" + addr, func(c *Config) { c.Header = []Field{{"a", "b"}} }},
		{"thrift://" + addr, func(c *Config) { c.JSON = true }},
		{"grpc://" + addr, func(*Config) {}},
		{"grpc://" + addr + "/a", func(*Config) {}},
		{"grpc://" + addr + "/no.Such/Method", func(c *Config) { c.Body, c.JSON = []byte("{}"), true }},
		{"grpc://" + addr + "/assay.behave.v1.Behave/Stream", func(c *Config) { c.Body, c.JSON = []byte("{}"), true }},
		{"grpc://" + addr + behavepb.Behave_Echo_FullMethodName, func(c *Config) { c.Body, c.JSON = []byte(`{"no":1}`), true }},
		{"connect://" + addr + "/a", func(*Config) {}},
		{"http://" + addr + "/", func(c *Config) { c.Header = []Field{{"Content-Length", "3"}} }},
		{"http://" + addr + "/", func(c *Config) { c.Method = "GE T" }},
		{"h2c://" + addr + "/", func(c *Config) { c.Method = "GE T" }},
		{"http://" + addr + "/", func(c *Config) { c.Conns = -1 }},
		{"http://" + addr + "/", func(c *Config) { c.Conns = maxConns + 1 }},
	} {
		c := config(t, tt.url)
		tt.change(&c)
		if _, err := Open(t.Context(), c); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", tt.url, err)
		}
	}
	if _, err := ParseGroups([]string{"X25519MLKEM768", "x25519"}); err != nil {
		t.Error(err)
	}
	if _, err := ParseGroups([]string{"Kyber"}); !errors.Is(err, ErrConfig) {
		t.Error(err)
	}
}

// Nobody listens, or the host is not allowed: every protocol says so before the run.
func TestUnreachable(t *testing.T) {
	l := listen(t)
	addr := l.Addr().String()
	l.Close()
	for _, s := range Schemes() {
		path := ""
		if strings.HasPrefix(s.Name, "grpc") || strings.HasPrefix(s.Name, "connect") {
			path = "/a.B/C"
		}
		if _, err := Open(t.Context(), config(t, s.Name+"://"+addr+path)); !errors.Is(err, ErrUnreachable) {
			t.Errorf("%s: %v", s.Name, err)
		}
		_, err := Open(t.Context(), config(t, s.Name+"://192.0.2.1:9"+path))
		if !errors.Is(err, ErrUnreachable) || !errors.Is(err, scenarios.ErrNotAllowed) {
			t.Errorf("%s, a host that nobody named: %v", s.Name, err)
		}
	}
}

// Whatever a broken server does, each arrival ends as an error or a timeout and the run ends.
func TestBrokenServers(t *testing.T) {
	talks := map[string]func(net.Conn){
		"reset": func(c net.Conn) {
			buf := make([]byte, 1)
			_, _ = c.Read(buf)
			_ = c.(*net.TCPConn).SetLinger(0)
		},
		"garbage": func(c net.Conn) {
			fmt.Fprint(c, strings.Repeat("\x00garbage\r\n", 100))
			buf := make([]byte, 1)
			_, _ = c.Read(buf)
		},
		"mute": func(c net.Conn) {
			buf := make([]byte, 4096)
			for {
				if _, err := c.Read(buf); err != nil {
					return
				}
			}
		},
	}
	for name, talk := range talks {
		for _, target := range []string{"http://%s/", "h2c://%s/", "grpc://%s/a.B/C", "connect://%s/a.B/C", "grpcweb+h2c://%s/a.B/C", "thrift://%s", "ttheader://%s", "tcp://%s"} {
			t.Run(name+" "+target, func(t *testing.T) {
				w := &witness{}
				c := config(t, fmt.Sprintf(target, serveConns(t, w, talk)))
				c.InFlight = 64
				s, err := Open(t.Context(), c)
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				r, err := load.Run(t.Context(), load.Schedule{Kind: load.Const, Rate: 200, Duration: 200 * time.Millisecond}, s.Via,
					load.Options{Timeout: 300 * time.Millisecond})
				if err != nil {
					t.Fatal(err)
				}
				if n := r.Counts; n.OK != 0 || n.Error+n.Timeout+n.Unsent != 40 {
					t.Errorf("counts %+v, errors %v", n, r.Errors)
				}
			})
		}
	}
}
