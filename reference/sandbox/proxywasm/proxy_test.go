package proxywasm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestRequestIsForwarded(t *testing.T) {
	engines(t, func(t *testing.T, interpreter bool) {
		leaks(t)
		r := newRig(t, guest(t, "probe"), Options{Interpreter: interpreter}, nil)
		a := r.do("POST", "/a%20b?c=%64", "some body", http.Header{"Connection": {"X-Hop, close"}, "X-Hop": {"1"}, "Te": {"trailers"},
			"Proxy-Authorization": {"x"}, "X-Two": {"1", "2"}})
		got := r.origin.requests()[0]
		for _, err := range []error{
			expect("status", fmt.Sprint(a.status), "200"), expect("body", a.body, "hello from upstream"),
			expect("method", got.method, "POST"), expect("target", got.target, "/a%20b?c=%64"), expect("body upstream", got.body, "some body"),
			expect("host", got.host, r.front.Listener.Addr().String()),
			expect("x-hop", got.header.Get("X-Hop"), ""), expect("te", got.header.Get("Te"), ""),
			expect("proxy-authorization", got.header.Get("Proxy-Authorization"), ""),
			expect("x-two", strings.Join(got.header["X-Two"], "|"), "1|2"), expect("via", got.header.Get("Via"), "1.1 assay"),
			expect("x-body", got.header.Get("X-Body"), "body=0;size=9;given=9;"), expect("x-content", got.header.Get("X-Content"), "some body"),
			expect("x-response", a.header.Get("X-Response"), "status=0;late=2;remove=0;ticks=0;"), expect("x-hidden", a.header.Get("X-Hidden"), ""),
			expect("x-response-body", a.header.Get("X-Response-Body"), "body=0;size=4;"), expect("keep-alive", a.header.Get("Keep-Alive"), ""),
		} {
			if err != nil {
				t.Error(err)
			}
		}
	})
}

func TestMethodsAndStatuses(t *testing.T) {
	r := newRig(t, guest(t, "probe"), Options{}, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/none":
			w.WriteHeader(204)
		case "/moved":
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		case "/untyped":
			w.Header()["Content-Type"] = nil
			_, _ = io.WriteString(w, "<html>")
		default:
			w.Header().Set("Content-Length", "5")
			w.Header().Set("Etag", `"1"`)
		}
	})
	r.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if a := r.do("HEAD", "/", "", nil); a.status != 200 || a.header.Get("Content-Length") != "5" {
		t.Errorf("HEAD: status %d, content-length %q", a.status, a.header.Get("Content-Length"))
	}
	if a := r.do("GET", "/none", "", nil); a.status != 204 || a.body != "" || a.header.Get("Content-Length") != "" {
		t.Errorf("204: %+v", a)
	}
	if a := r.do("GET", "/moved", "", nil); a.status != 302 || a.header.Get("Location") != "/elsewhere" {
		t.Errorf("302: %+v", a)
	}
	if a := r.do("GET", "/untyped", "", nil); a.header.Get("Content-Type") != "" || a.body != "<html>" {
		t.Errorf("untyped: %+v", a)
	}
}

func TestBodiesAreBounded(t *testing.T) {
	r := newRig(t, guest(t, "probe"), Options{}, func(w http.ResponseWriter, r *http.Request) {
		n := maxBody
		if r.URL.Path == "/over" {
			n++
		}
		_, _ = io.WriteString(w, big(n))
	})
	if a := r.do("POST", "/", big(maxBody), nil); a.status != 200 || len(a.body) != maxBody {
		t.Errorf("1 MiB each way: status %d, %d bytes", a.status, len(a.body))
	}
	if a, err := r.try("POST", "/", big(maxBody+1), nil); err == nil && a.status != 413 {
		t.Errorf("larger request: status %d", a.status)
	}
	if n := len(r.origin.requests()); n != 1 {
		t.Errorf("upstream saw %d requests, want 1", n)
	}
	if a := r.do("GET", "/over", "", nil); a.status != 502 {
		t.Errorf("larger response: status %d", a.status)
	}
	if a := r.do("GET", "/", "", http.Header{"X-Large": {big(maxFieldBytes)}}); a.status != 431 {
		t.Errorf("large header: status %d", a.status)
	}
}

func TestTrailers(t *testing.T) {
	r := newRig(t, guest(t, "probe"), Options{}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("X-Sum", "4")
	})
	req, err := http.NewRequest("POST", r.front.URL, struct{ io.Reader }{strings.NewReader("abc")})
	if err != nil {
		t.Fatal(err)
	}
	req.Trailer = http.Header{"X-Check": {"3"}}
	resp, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.ReadAll(resp.Body); err != nil || resp.Trailer.Get("X-Sum") != "4" {
		t.Errorf("response trailer %v, %v", resp.Trailer, err)
	}
	got := r.origin.requests()[0]
	if got.trailer.Get("X-Check") != "3" || got.trailer.Get("X-Trailer-Added") != "yes" || got.body != "abc" {
		t.Errorf("upstream got trailers %v and body %q", got.trailer, got.body)
	}
	if err := has(r.proxy.Log(), "request-body-open 2", "request-trailers 2"); err != nil {
		t.Error(err)
	}
}

func TestPausing(t *testing.T) {
	engines(t, func(t *testing.T, interpreter bool) {
		leaks(t)
		r := newRig(t, guest(t, "probe"), Options{Interpreter: interpreter}, nil)
		if a := r.do("POST", "/buffer", "abc", nil); a.status != 200 || r.origin.requests()[0].header.Get("X-Content") != "abc" {
			t.Errorf("paused for the body: status %d", a.status)
		}
		if a := r.do("POST", "/pause", "abc", nil); a.status != 200 {
			t.Errorf("paused with a body: status %d", a.status)
		}
		if a := r.do("GET", "/pause-response", "", nil); a.status != 200 || a.header.Get("X-Response-Body") == "" {
			t.Errorf("paused response: %+v", a)
		}
		if a := r.do("GET", "/late-local", "", nil); a.status != 202 || a.body != "late" {
			t.Errorf("local response in a pause: %+v", a)
		}
		if a, err := r.try("GET", "/close", "", nil); !isReset(err) {
			t.Errorf("closed stream: %+v, %v, want no answer", a, err)
		}
		if n := len(r.origin.requests()); n != 3 {
			t.Errorf("upstream saw %d requests, want 3", n)
		}
	})
}

func TestClientGoesDuringPause(t *testing.T) {
	leaks(t)
	r := newRig(t, guest(t, "probe"), Options{PauseLimit: time.Hour}, nil)
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, "GET", r.front.URL+"/hold", nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		resp, err := r.client.Do(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		done <- err
	}()
	eventually(t, "request in the filter", func() bool { return slices.Contains(r.proxy.Log(), "request 2") })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("client's error %v", err)
	}
	eventually(t, "end of the stream", func() bool { return slices.Contains(r.proxy.Log(), "delete 2") })
}

func TestTrapReplacesTheInstance(t *testing.T) {
	engines(t, func(t *testing.T, interpreter bool) {
		leaks(t)
		r := newRig(t, guest(t, "probe"), Options{Interpreter: interpreter}, nil)
		for _, target := range []string{"/trap", "/tick-trap"} {
			a := r.do("GET", target, "", nil)
			if a.status != 500 || a.header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s: %+v", target, a)
			}
			if a := r.do("GET", "/", "", nil); a.status != 200 {
				t.Errorf("after %s: status %d", target, a.status)
			}
		}
		again := slices.Concat(started, []string{"create 2", "request 2"})
		if err := has(r.proxy.Log(), slices.Concat(again, again, again, []string{"response 2"})...); err != nil {
			t.Error(err)
		}
	})
}

// TestHostTimeIsBounded runs a guest that does nothing but call the host, which costs no fuel.
func TestHostTimeIsBounded(t *testing.T) {
	r := newRig(t, guest(t, "probe"), Options{callLimit: 500 * time.Millisecond}, nil)
	if a := r.do("GET", "/slow", "", nil); a.status != 500 || !strings.Contains(a.body, errOverdue.Error()) {
		t.Errorf("%+v", a)
	}
}

// TestTrapEndsOtherStreams holds one request while another one traps the instance that both live in.
func TestTrapEndsOtherStreams(t *testing.T) {
	leaks(t)
	r := newRig(t, guest(t, "probe"), Options{PauseLimit: time.Hour}, nil)
	held := make(chan reply, 1)
	go func() {
		a, err := r.try("GET", "/hold", "", nil)
		if err != nil {
			t.Error(err)
		}
		held <- a
	}()
	eventually(t, "request in the filter", func() bool { return slices.Contains(r.proxy.Log(), "request 2") })
	if a := r.do("GET", "/trap", "", nil); a.status != 500 || !strings.Contains(a.body, "wasm error: unreachable") {
		t.Errorf("trap: %+v", a)
	}
	if a := <-held; a.status != 500 {
		t.Errorf("held request: %+v", a)
	}
}

func TestMetering(t *testing.T) {
	engines(t, func(t *testing.T, interpreter bool) {
		r := newRig(t, guest(t, "metered"), Options{Interpreter: interpreter, Meter: NewFuelMeter(1_000_000)}, nil)
		if got := r.proxy.Log(); !slices.Equal(got, []string{"started"}) {
			t.Errorf("log %q: the rewritten start section has to run", got)
		}
		for range 2 {
			if a := r.do("POST", "/", "body", nil); a.status != 500 || !strings.Contains(a.body, ErrFuel.Error()) {
				t.Errorf("endless loop: %+v", a)
			}
			if a := r.do("GET", "/", "", nil); a.status != 200 {
				t.Errorf("afterwards: status %d", a.status)
			}
		}
	})
}

func TestModuleForms(t *testing.T) {
	for name, want := range map[string][]string{
		"start":  {"_start", "create 1", "vm_start 1", "configure 1"},
		"malloc": started,
		"bare":   {},
	} {
		r := newRig(t, guest(t, name), Options{}, nil)
		if a := r.do("GET", "/", "", nil); a.status != 200 {
			t.Errorf("%s: %+v", name, a)
		}
		if got := r.proxy.Log(); !slices.Equal(got[:len(want)], want) {
			t.Errorf("%s: log %q", name, got)
		}
	}
}

func TestRefusals(t *testing.T) {
	engines(t, func(t *testing.T, interpreter bool) {
		leaks(t)
		cases := []struct {
			wasm []byte
			o    Options
			want string
		}{
			{nil, Options{}, "compile"},
			{[]byte("text"), Options{}, "compile"},
			{guest(t, "no-marker"), Options{}, "proxy_abi_version_0_2_1"},
			{guest(t, "unknown"), Options{}, "env.proxy_teleport"},
			{guest(t, "mistyped"), Options{}, "env.proxy_done has the wrong type"},
			{guest(t, "bad-type"), Options{}, "proxy_on_log has the wrong type"},
			{guest(t, "probe"), Options{MaxPages: 1}, "over limit"},
			{guest(t, "probe"), Options{Configuration: []byte("trap")}, "trap in proxy_on_configure: wasm error: unreachable"},
		}
		for _, c := range cases {
			c.o.Interpreter = interpreter
			if err := wantRefusal(c.wasm, c.o, c.want); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestDoneLimit(t *testing.T) {
	leaks(t)
	r := newRig(t, guest(t, "probe"), Options{DoneLimit: 20 * time.Millisecond}, nil)
	r.do("GET", "/never-done", "", nil)
	eventually(t, "end without proxy_done", func() bool { return slices.Contains(r.proxy.Log(), "delete 2") })
	if err := has(r.proxy.Log(), "done 2", "log 2", "delete 2"); err != nil {
		t.Error(err)
	}
}

func TestPluginWaitsForProxyDone(t *testing.T) {
	leaks(t)
	r := newRig(t, guest(t, "probe"), Options{Configuration: []byte("plugin-waits")}, nil)
	r.do("GET", "/", "", nil)
	r.close()
	if err := has(r.filter.Log(), "delete 2", "done 1", "plugin proxy_done 1", "log 1", "delete 1"); err != nil {
		t.Error(err)
	}
}

func TestUpstreamErrors(t *testing.T) {
	leaks(t)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := dead.Addr().String()
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, guest(t, "probe"), Options{}, nil)
	if err := r.proxy.Swap(r.filter, address); err != nil {
		t.Fatal(err)
	}
	if a := r.do("GET", "/", "", nil); a.status != 502 {
		t.Errorf("dead upstream: status %d", a.status)
	}
	if err := r.proxy.Swap(r.filter, "192.0.2.1:80"); err == nil {
		t.Error("an upstream off loopback is taken")
	}
	if err := r.proxy.Swap(nil, ""); err != nil {
		t.Fatal(err)
	}
	if a := r.do("GET", "/", "", nil); a.status != 503 {
		t.Errorf("no filter: status %d", a.status)
	}
	if r.proxy.Loaded() || len(r.proxy.Log()) != 0 {
		t.Error("a filter is loaded still")
	}
	if err := r.proxy.Swap(r.filter, r.origin.address()); !errors.Is(err, errClosed) {
		t.Errorf("swap of a retired filter: %v", err)
	}
}

// TestBrokenUpstream answers with what is no HTTP, and with less than it announced.
func TestBrokenUpstream(t *testing.T) {
	for _, answer := range []string{"no http\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", "HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\n\r\n"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = http.ReadRequest(bufio.NewReader(c))
			_, _ = io.WriteString(c, answer)
			_ = c.Close()
		}()
		r := newRig(t, guest(t, "probe"), Options{}, nil)
		if err := r.proxy.Swap(r.filter, l.Addr().String()); err != nil {
			t.Fatal(err)
		}
		a := r.do("POST", "/", "body", nil)
		if a.status != 502 {
			t.Errorf("%q: status %d, want 502", answer, a.status)
		}
		_ = l.Close()
		<-done
	}
}

func TestCheckUpstream(t *testing.T) {
	for upstream, want := range map[string]bool{
		"127.0.0.1:80": true, "localhost:80": true, "[::1]:80": true, "127.9.9.9:1": true,
		"": false, "127.0.0.1": false, "127.0.0.1:0": false, "127.0.0.1:x": false, "example.org:80": false,
		"10.0.0.1:80": false, "0.0.0.0:80": false, "http://127.0.0.1:80": false, "169.254.169.254:80": false,
	} {
		if err := CheckUpstream(upstream); (err == nil) != want {
			t.Errorf("%q: %v", upstream, err)
		}
	}
	if err := loopbackOnly("tcp", "192.0.2.1:80", nil); err == nil {
		t.Error("the dialer would leave loopback")
	}
}

func TestStreamsAreBounded(t *testing.T) {
	f := load(t, guest(t, "probe"), Options{DoneLimit: time.Millisecond})
	open := make([]*stream, 0, maxStreams)
	for range maxStreams {
		s := newStream(nil, "HTTP/1.1")
		if err := f.open(s); err != nil {
			t.Fatal(err)
		}
		open = append(open, s)
	}
	if err := f.open(newStream(nil, "HTTP/1.1")); !errors.Is(err, errOverload) {
		t.Errorf("one more stream: %v", err)
	}
	for _, s := range open {
		f.end(s)
	}
	if err := f.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if err := f.open(newStream(nil, "")); !errors.Is(err, errClosed) {
		t.Errorf("stream in a closed filter: %v", err)
	}
}

func TestCloseWithItsContext(t *testing.T) {
	leaks(t)
	r := newRig(t, guest(t, "probe"), Options{PauseLimit: time.Hour}, nil)
	held := make(chan reply, 1)
	go func() {
		a, err := r.try("GET", "/hold", "", nil)
		if err != nil {
			t.Error(err)
		}
		held <- a
	}()
	eventually(t, "request in the filter", func() bool { return slices.Contains(r.proxy.Log(), "request 2") })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := r.proxy.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("close: %v", err)
	}
	if a := <-held; a.status != 500 {
		t.Errorf("held request: %+v", a)
	}
}

func TestLogKeepsTheNewest(t *testing.T) {
	var l logLines
	for i := range 3*maxLogLines + 7 {
		l.add(fmt.Append(nil, i))
	}
	got := l.all()
	if len(got) != maxLogLines || got[0] != "407" || got[maxLogLines-1] != "606" {
		t.Errorf("%d lines from %s to %s", len(got), got[0], got[len(got)-1])
	}
	l.add([]byte("\xff" + big(2*maxLogLine)))
	if line := l.all()[maxLogLines-1]; len(line) > maxLogLine+2 || !strings.HasPrefix(line, "\uFFFDx") {
		t.Errorf("a line of %d bytes", len(line))
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	p := NewProxy(Config{Registerer: reg})
	w := httptest.NewRecorder()
	p.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	families, err := reg.Gather()
	if err != nil || w.Code != 503 || len(families) != 1 {
		t.Fatalf("status %d, %d families, %v", w.Code, len(families), err)
	}
	m := families[0].GetMetric()[0]
	if m.GetCounter().GetValue() != 1 || m.GetLabel()[0].GetValue() != "unloaded" {
		t.Errorf("metric %v", m)
	}
	if err := p.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// TestSwapUnderLoad replaces the filter a hundred times under fifty clients: no request may fail, and all
// filters have to be gone at the end.
func TestSwapUnderLoad(t *testing.T) {
	leaks(t)
	const clients, swaps = 50, 100
	// a busy machine is no reason to end a filter
	patient := Options{callLimit: time.Minute, PauseLimit: time.Minute, DoneLimit: time.Minute}
	r := newRig(t, guest(t, "probe"), patient, nil)
	r.client.Transport.(*http.Transport).MaxIdleConnsPerHost = clients
	stop := make(chan struct{})
	var served atomic.Int64
	var wg sync.WaitGroup
	for i := range clients {
		target := []string{"/", "/pause", "/done", "/headers"}[i%4]
		wg.Go(func() {
			for {
				a, err := r.try("GET", target, "", nil)
				if err != nil || a.status != 200 {
					t.Errorf("%s: %+v, %v", target, a, err)
					return
				}
				served.Add(1)
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	filters := []*Filter{r.filter}
	for i := range swaps {
		patient.Interpreter = i%2 == 0
		f := load(t, guest(t, "probe"), patient)
		if err := r.proxy.Swap(f, r.origin.address()); err != nil {
			t.Fatal(err)
		}
		filters = append(filters, f)
	}
	close(stop)
	wg.Wait()
	r.close()
	for i, f := range filters {
		select {
		case <-f.closed:
		default:
			t.Errorf("filter %d is open still", i)
		}
	}
	if served.Load() < clients {
		t.Errorf("served %d requests", served.Load())
	}
}
