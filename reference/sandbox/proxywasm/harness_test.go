package proxywasm

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/assay-bench/assay/reference/defect"
)

//go:generate testdata/build.sh

//go:embed testdata/*.wasm
var guests embed.FS

func guest(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := guests.ReadFile("testdata/" + name + ".wasm")
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// origin is an upstream that remembers what it got.
type origin struct {
	*httptest.Server
	mu   sync.Mutex
	seen []seen
}

type seen struct {
	method, target, host string
	header, trailer      http.Header
	body                 string
}

func newOrigin(tb testing.TB, serve http.HandlerFunc) *origin {
	o := &origin{}
	if serve == nil {
		serve = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Hidden", "secret")
			w.Header().Set("Keep-Alive", "5")
			_, _ = io.WriteString(w, "hello from upstream")
		}
	}
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			tb.Errorf("upstream: %v", err)
		}
		o.mu.Lock()
		o.seen = append(o.seen, seen{r.Method, r.RequestURI, r.Host, r.Header.Clone(), r.Trailer.Clone(), string(body)})
		o.mu.Unlock()
		serve(w, r)
	}))
	tb.Cleanup(o.Close)
	return o
}

func (o *origin) address() string { return o.Listener.Addr().String() }

func (o *origin) requests() []seen {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.seen
}

// rig is a proxy with a filter, an upstream before and a client behind it.
type rig struct {
	tb     testing.TB
	origin *origin
	filter *Filter
	proxy  *Proxy
	front  *httptest.Server
	client *http.Client
}

func load(tb testing.TB, wasm []byte, o Options) *Filter {
	tb.Helper()
	f, err := Load(context.Background(), wasm, o)
	if err != nil {
		tb.Fatalf("load: %v", err)
	}
	return f
}

func newRig(tb testing.TB, wasm []byte, o Options, serve http.HandlerFunc) *rig {
	tb.Helper()
	r := &rig{tb: tb, filter: load(tb, wasm, o), origin: newOrigin(tb, serve), proxy: NewProxy(Config{Defects: o.Defects})}
	if err := r.proxy.Swap(r.filter, r.origin.address()); err != nil {
		tb.Fatal(err)
	}
	r.front = httptest.NewServer(r.proxy)
	r.client = r.front.Client()
	r.client.Timeout = 20 * time.Second
	tb.Cleanup(r.close)
	return r
}

// close ends the rig; it may be called before the test ends, to look at what the filter logs last.
func (r *rig) close() {
	r.front.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := r.proxy.Close(ctx); err != nil {
		r.tb.Errorf("close: %v", err)
	}
}

type reply struct {
	status int
	header http.Header
	body   string
}

func (r *rig) try(method, target, body string, header http.Header) (reply, error) {
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	req, err := http.NewRequest(method, r.front.URL+target, in)
	if err != nil {
		return reply{}, err
	}
	for name, values := range header {
		req.Header[name] = values
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	out, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(out)}, err
}

func (r *rig) do(method, target, body string, header http.Header) reply {
	r.tb.Helper()
	a, err := r.try(method, target, body, header)
	if err != nil {
		r.tb.Fatalf("%s %s: %v", method, target, err)
	}
	return a
}

// eventually waits for something that another goroutine brings about.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	limit := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(limit) {
			tb.Fatalf("%s: not within ten seconds", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// engines runs a test in both engines of wazero.
func engines(t *testing.T, test func(t *testing.T, interpreter bool)) {
	for _, interpreter := range []bool{false, true} {
		name := "compiler"
		if interpreter {
			name = "interpreter"
		}
		t.Run(name, func(t *testing.T) { test(t, interpreter) })
	}
}

// leaks reports goroutines that a test leaves behind.
func leaks(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		eventually(t, "end of all goroutines", func() bool { return runtime.NumGoroutine() <= before })
	})
}

func with(names ...defect.Name) defect.Set { return defect.Of(names...) }

func expect(what, got, want string) error {
	if got != want {
		return fmt.Errorf("%s: got %q, want %q", what, got, want)
	}
	return nil
}

// isReset reports whether a connection was closed without an answer.
func isReset(err error) bool {
	var op *net.OpError
	return errors.Is(err, io.EOF) || errors.As(err, &op)
}

var inHeader = http.Header{"X-In": {"a value"}, "X-Replace": {"old", "older"}, "X-Remove": {"gone"}}

// has reports whether lines appear in log in this order, perhaps with others between.
func has(log []string, lines ...string) error {
	at := 0
	for _, l := range log {
		if at < len(lines) && l == lines[at] {
			at++
		}
	}
	if at < len(lines) {
		return fmt.Errorf("line %q is missing or late in %q", lines[at], log)
	}
	return nil
}

func big(n int) string { return string(bytes.Repeat([]byte("x"), n)) }
