package tls_test

import (
	"context"
	stdtls "crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/target"
	"github.com/assay-bench/assay/scenarios/target/targettest"
	"github.com/assay-bench/assay/scenarios/tls"
)

// lab is a fake of the lab; its address is that of the endpoint.
func lab(t testing.TB, h http.HandlerFunc) target.Endpoints {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return target.Endpoints{"tls-lab": s.Listener.Addr().String()}
}

// onlyDial returns the one dial that is recorded.
func onlyDial(t testing.TB, w *world) tls.SeenDial {
	t.Helper()
	dials, err := tls.Dials(w.evidence())
	if err != nil || len(dials) != 1 || len(dials[0].Cites) != 1 {
		t.Fatalf("dials = %+v, %v", dials, err)
	}
	return dials[0]
}

func TestDialByLab(t *testing.T) {
	t.Parallel()
	var got, head string
	w := newWorld(t, lab(t, func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got, head = string(body), r.Method+" "+r.URL.Path+" "+r.Header.Get("Content-Type")
		_, _ = fmt.Fprint(rw, `{"connected":true,"error":null,"group":"X25519MLKEM768","class":"pq","version":"1.3","retry":true,"resumed":true,
			"reused":true,"chain":3,"received":"hello","staple":"good","broken":"x","hook":true,"more":1}`)
	}), &target.TLS{Client: "false"})
	req := tls.DialRequest{
		Name: "first", Address: "127.0.0.1:1", ServerName: "server.test", Roots: "PEM", ALPN: []string{"echo"}, Policy: "require-pq", Groups: []string{"X25519"},
		MinVersion: "1.2", Staple: "require", At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Send: "hello", Pool: true, Identity: true, DeadlineMillis: 3000,
	}
	a, err := tls.Dial(t.Context(), w.env, req)
	want := tls.DialAnswer{Connected: true, Group: "X25519MLKEM768", Class: "pq", Version: "1.3", Retry: true, Resumed: true, Reused: true, Chain: 3, Received: "hello", Staple: "good"}
	if diff := cmp.Diff(want, a); diff != "" || err != nil {
		t.Errorf("answer, %v (-want +got):\n%s", err, diff)
	}
	wantBody := `{"address":"127.0.0.1:1","serverName":"server.test","roots":"PEM","alpn":["echo"],"policy":"require-pq","groups":["X25519"],"minVersion":"1.2",` +
		`"staple":"require","at":"2026-01-02T03:04:05Z","send":"hello","pool":true,"identity":true,"deadlineMillis":3000}`
	if got != wantBody || head != "POST /dial application/json" {
		t.Errorf("request %s\n%s\nwant\n%s", head, got, wantBody)
	}
	d := onlyDial(t, w)
	if diff := cmp.Diff(tls.DialOut{Name: "first", Request: req, Answer: want}, d.DialOut); diff != "" {
		t.Errorf("evidence (-want +got):\n%s", diff)
	}
}

// Whatever a lab answers is evidence of bounded size, and no error.
func TestHostileLabs(t *testing.T) {
	t.Parallel()
	say := func(status int, body string) http.HandlerFunc {
		return func(rw http.ResponseWriter, _ *http.Request) {
			rw.WriteHeader(status)
			_, _ = fmt.Fprint(rw, body)
		}
	}
	cases := []struct {
		name   string
		lab    http.HandlerFunc
		broken string
	}{
		{"refused dial", say(200, `{"connected":false,"error":{"code":"alert","text":"handshake_failure"}}`), ""},
		{"odd text", say(200, `{"connected":false,"error":{"code":"`+strings.Repeat("é", 300)+`","text":"\ud800 \u0000"}}`), ""},
		{"not found", say(404, "no"), "status 404"},
		{"bad request", say(400, `{"error":{"code":"bad","text":"t"}}`), "status 400"},
		{"redirect", func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, "http://192.0.2.1/", http.StatusTemporaryRedirect)
		}, "status 307"},
		{"nothing", say(200, ""), "not its JSON"},
		{"text", say(200, "hello"), "not its JSON"},
		{"a list", say(200, "[]"), "not its JSON"},
		{"two answers", say(200, `{"connected":true}{}`), "not its JSON"},
		{"deep", say(200, strings.Repeat("[", 1<<19)), "not its JSON"},
		{"connected and failed", say(200, `{"connected":true,"error":{"code":"x"}}`), "connected true with the error"},
		{"neither", say(200, `{}`), "connected false with the error"},
		{"long echo", say(200, `{"connected":true,"received":"`+strings.Repeat(`\u0001`, 100_000)+`"}`), "as received"},
		{"endless", func(rw http.ResponseWriter, _ *http.Request) {
			for err := error(nil); err == nil; {
				_, err = rw.Write(make([]byte, 64<<10))
			}
		}, "more than 1048576 bytes"},
		{"long head", func(rw http.ResponseWriter, _ *http.Request) { rw.Header().Set("X", strings.Repeat("x", 1<<20)) }, "header"},
		{"hang up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
		{"half an answer", func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Length", "100")
			_, _ = fmt.Fprint(rw, `{"connected":true}`)
		}, "EOF"},
		{"silence", func(rw http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}, "deadline"},
	}
	var all sync.WaitGroup
	for _, c := range cases {
		w := newWorld(t, lab(t, c.lab), nil)
		all.Go(func() {
			a, err := tls.Dial(t.Context(), w.env, tls.DialRequest{Address: "127.0.0.1:1", DeadlineMillis: 1})
			if err != nil || (a.Broken == "") != (c.broken == "") || !strings.Contains(a.Broken, c.broken) || len(a.Broken) > 2000 || a.Connected {
				t.Errorf("%s: %+v, %v, want broken …%s…", c.name, a, err, c.broken)
			}
			if diff := cmp.Diff(a, onlyDial(t, w).Answer); diff != "" {
				t.Errorf("%s: evidence (-want +got):\n%s", c.name, diff)
			}
		})
	}
	all.Wait()
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
}

func TestDialWithoutMeans(t *testing.T) {
	w := newWorld(t, target.Endpoints{}, nil)
	if a, err := tls.Dial(t.Context(), w.env, tls.DialRequest{}); err != nil || !strings.Contains(a.Broken, "neither") {
		t.Errorf("no means: %+v, %v", a, err)
	}
	w = newWorld(t, target.Endpoints{"tls-lab": closedPort(t)}, nil)
	if a, err := tls.Dial(t.Context(), w.env, tls.DialRequest{}); err != nil || !strings.Contains(a.Broken, "refused") {
		t.Errorf("nobody listens: %+v, %v", a, err)
	}
	w = newWorld(t, target.Endpoints{"tls-lab": "192.0.2.1:1"}, nil)
	if _, err := tls.Dial(t.Context(), w.env, tls.DialRequest{}); !errors.Is(err, scenarios.ErrNotAllowed) {
		t.Errorf("a host that is not allowed: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	w = newWorld(t, target.Endpoints{"tls-lab": closedPort(t)}, nil)
	if _, err := tls.Dial(ended, w.env, tls.DialRequest{}); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended run: %v", err)
	}
}

func TestLab(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab(t, func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/pool":
			_, _ = fmt.Fprint(rw, `{"idle":3}`)
		case "/issue":
			body, _ := io.ReadAll(r.Body)
			_, _ = fmt.Fprintf(rw, `{"chain":%q}`, body)
		case "/long":
			_, _ = fmt.Fprintf(rw, `{"chain":%q}`, strings.Repeat("x", 512<<10))
		case "/text":
			_, _ = fmt.Fprint(rw, "hello \xff")
		case "/empty":
		default:
			http.NotFound(rw, r)
		}
	}), nil)
	var pool struct{ Idle int }
	var issued struct{ Chain string }
	var none struct{ Idle int }
	calls := []struct {
		method, path string
		body, into   any
	}{
		{http.MethodGet, "/pool", nil, &pool},
		{http.MethodPost, "/issue", map[string]string{"csr": "PEM"}, &issued},
		{http.MethodPost, "/none", struct{}{}, &none},
		{http.MethodGet, "/text", nil, &none},
		{http.MethodGet, "/empty", nil, &none},
		{http.MethodGet, "/long", nil, nil},
	}
	for _, c := range calls {
		if err := tls.Lab(t.Context(), w.env, c.method, c.path, c.body, c.into); err != nil {
			t.Errorf("%s: %v", c.path, err)
		}
	}
	if pool.Idle != 3 || issued.Chain != `{"csr":"PEM"}` || none.Idle != 0 {
		t.Errorf("answers %+v %+v %+v", pool, issued, none)
	}
	if err := tls.Lab(t.Context(), w.env, http.MethodPost, "/x", make(chan int), nil); err == nil {
		t.Error("a body that is no JSON was sent")
	}
	seen, err := tls.Labs(w.evidence())
	if err != nil || len(seen) != len(calls) {
		t.Fatalf("calls = %+v, %v", seen, err)
	}
	want := []tls.LabCall{
		{Method: "GET", Path: "/pool", Status: 200, Answer: json.RawMessage(`{"idle":3}`)},
		{Method: "POST", Path: "/issue", Body: json.RawMessage(`{"csr":"PEM"}`), Status: 200, Answer: json.RawMessage(`{"chain":"{\"csr\":\"PEM\"}"}`)},
		{Method: "POST", Path: "/none", Body: json.RawMessage(`{}`), Status: 404, Answer: json.RawMessage(`"404 page not found\n"`), Broken: `POST /none answers status 404: "404 page not found\n"`},
		{Method: "GET", Path: "/text", Status: 200, Answer: json.RawMessage(`"hello ` + "\uFFFD" + `"`), Broken: `answers what is not its JSON: invalid character 'h' looking for beginning of value: "hello \xff"`},
		{Method: "GET", Path: "/empty", Status: 200, Broken: `answers what is not its JSON: unexpected end of JSON input: ""`},
	}
	for i, s := range seen[:len(want)] {
		if diff := cmp.Diff(want[i], s.LabCall); diff != "" {
			t.Errorf("call %d (-want +got):\n%s", i, diff)
		}
	}
	if long := seen[len(want)]; len(long.Answer) > 8<<10 || long.Broken != "" {
		t.Errorf("a long answer: %d bytes, broken %q", len(long.Answer), long.Broken)
	}
}

// dialScript makes openssl the client under test: it trusts {ca}, asks for {sni} and dials once.
const dialScript = `#!/bin/sh
echo "dials $1 at $2:$3 as $4"
exec openssl s_client -connect "$2:$3" -servername "$4" -CAfile "$5" -verify_hostname "$4" -verify_return_error -brief </dev/null
`

func TestDialByHook(t *testing.T) {
	t.Parallel()
	openssl(t)
	dir := t.TempDir()
	targettest.Script(t, filepath.Join(dir, "dial.sh"), dialScript)
	p := tls.Authority(tls.ECDSA)
	cases := []struct {
		name      string
		options   []tls.Option
		connected bool
	}{
		{"good", nil, true},
		{"unknown root", []tls.Option{tls.UnknownRoot()}, false},
		{"expired", []tls.Option{tls.Expired()}, false},
		{"other name", []tls.Option{tls.Names("other.test")}, false},
	}
	for _, c := range cases {
		addr := serve(t, func(conn net.Conn) {
			defer func() { _ = conn.Close() }()
			s := stdtls.Server(conn, &stdtls.Config{Certificates: []stdtls.Certificate{certificate(p.Identity(c.options...))}})
			if s.Handshake() == nil {
				_, _ = io.Copy(io.Discard, s)
				_ = s.Close()
			}
		})
		w := newWorld(t, target.Endpoints{}, &target.TLS{Client: "./dial.sh {url} {host} {port} {sni} '{ca}'", Folder: dir})
		a, err := tls.Dial(t.Context(), w.env, tls.DialRequest{Name: c.name, Address: addr, ServerName: "server.test", Roots: p.Roots(), DeadlineMillis: 5000})
		if err != nil || a.Connected != c.connected || !a.Hook || a.Broken != "" || (a.Error.Code == "hook") == c.connected {
			t.Errorf("%s: %+v, %v", c.name, a, err)
		}
		host, port, _ := net.SplitHostPort(addr)
		if !strings.Contains(a.Output, fmt.Sprintf("dials https://%s/ at %s:%s as server.test", addr, host, port)) {
			t.Errorf("%s: output %q", c.name, a.Output)
		}
		if diff := cmp.Diff(a, onlyDial(t, w).Answer); diff != "" {
			t.Errorf("%s: evidence (-want +got):\n%s", c.name, diff)
		}
	}
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
}

func TestHookFailures(t *testing.T) {
	dir, temporary := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", temporary)
	dial := func(ctx context.Context, hook, addr string, millis int) (tls.DialAnswer, error) {
		w := newWorld(t, nil, &target.TLS{Client: hook, Folder: dir})
		return tls.Dial(ctx, w.env, tls.DialRequest{Address: addr, DeadlineMillis: millis})
	}
	if a, err := dial(t.Context(), "./missing.sh", "127.0.0.1:1", 0); err != nil || !strings.Contains(a.Broken, "no-such-program") {
		t.Errorf("missing program: %+v, %v", a, err)
	}
	if a, err := dial(t.Context(), "sleep 60", "127.0.0.1:1", 50); err != nil || a.Connected || a.Error.Code != "deadline" {
		t.Errorf("hang: %+v, %v", a, err)
	}
	if ok := reachedLate(t, dir); !ok {
		t.Error("the deadline does not count from the first connection")
	}
	if a, err := dial(t.Context(), `sh -c "cat {ca}; exit 3"`, "127.0.0.1:1", 0); err != nil || a.Error.Code != "hook" || a.Error.Text != "exit status 3" {
		t.Errorf("exit 3: %+v, %v", a, err)
	}
	for _, addr := range []string{"192.0.2.1:1", "localhost:1", "x", ""} {
		if a, err := dial(t.Context(), "true", addr, 0); err == nil {
			t.Errorf("%q: the hook was run: %+v", addr, a)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := dial(ended, "sleep 60", "127.0.0.1:1", 0); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended run: %v", err)
	}
	if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
		t.Errorf("files are left: %v, %v", left, err)
	}
}

// reachedLate tells whether a program that takes longer than the deadline until it dials has time to start, and one
// that has dialled has not.
func reachedLate(t *testing.T, dir string) bool {
	t.Helper()
	reached := make(chan struct{})
	dial := func(hook string) tls.DialAnswer {
		w := newWorld(t, nil, &target.TLS{Client: hook, Folder: dir})
		a, err := tls.Dial(t.Context(), w.env, tls.DialRequest{Address: "127.0.0.1:1", DeadlineMillis: 50, Reached: reached})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	slow := dial("sleep 0.2")
	close(reached)
	return slow.Connected && dial("sleep 60").Error.Code == "deadline"
}

func TestHostileEvidence(t *testing.T) {
	seen := 0
	for _, kind := range []results.Kind{tls.DialedOut, tls.LabCalled, tls.Handshaken, tls.Overheard, results.Sent} {
		for _, data := range []string{"", "[]", "null", `{"name":""}`, `{"name":"a","n":-1}`, `{"outcome":7,"heard":7,"request":7,"method":7,"conn":7}`} {
			seen++
			e := []results.Evidence{{Seq: 1, Kind: kind, Data: json.RawMessage(data)}}
			_, err1 := tls.Dials(e)
			_, err2 := tls.Labs(e)
			_, err3 := tls.Handshakes(e)
			_, err4 := tls.Heards(e)
			if data == "" && err1 == nil && err2 == nil && err3 == nil && err4 == nil {
				t.Errorf("%s without data was read", kind)
			}
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}
