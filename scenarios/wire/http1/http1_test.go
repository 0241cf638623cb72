package http1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

func read(text string, o Options) (Reply, error) {
	return Read(bufio.NewReader(strings.NewReader(text)), o)
}

func TestRead(t *testing.T) {
	for name, tt := range map[string]struct {
		text   string
		opt    Options
		status int
		length int64
		close  bool
	}{
		"length":           {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Options{}, 200, 5, false},
		"no reason":        {"HTTP/1.1 200\r\ncontent-length:0\r\n\r\n", Options{}, 200, 0, false},
		"equal lengths":    {"HTTP/1.1 404 x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", Options{}, 404, 1, false},
		"chunked":          {"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\nA;x=y\r\n0123456789\r\n0\r\nX: y\r\n\r\n", Options{}, 200, 15, false},
		"head":             {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Options{Head: true}, 200, 0, false},
		"204":              {"HTTP/1.1 204 No Content\r\n\r\n", Options{}, 204, 0, false},
		"304":              {"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", Options{}, 304, 0, false},
		"interim":          {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 201 Made\r\nContent-Length: 0\r\n\r\n", Options{}, 201, 0, false},
		"close":            {"HTTP/1.1 200 OK\r\nConnection: keep-alive, Close\r\nContent-Length: 0\r\n\r\n", Options{}, 200, 0, true},
		"1.0":              {"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", Options{}, 200, 1, true},
		"until close":      {"HTTP/1.1 200 OK\r\n\r\nall of it", Options{}, 200, 9, true},
		"empty till close": {"HTTP/1.1 200 OK\r\n\r\n", Options{}, 200, 0, true},
	} {
		r, err := read(tt.text, tt.opt)
		if err != nil || r.Status != tt.status || r.Length != tt.length || r.Close != tt.close {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

func TestReadLeavesTheNextReply(t *testing.T) {
	br := bufio.NewReader(strings.NewReader("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\nHTTP/1.1 201 OK\r\nContent-Length: 0\r\n\r\n"))
	for _, want := range []int{200, 201} {
		if r, err := Read(br, Options{}); err != nil || r.Status != want {
			t.Errorf("%+v, %v, want %d", r, err, want)
		}
	}
	if _, err := Read(br, Options{}); !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a clean end is %v", err)
	}
}

func TestKeep(t *testing.T) {
	const text = "HTTP/1.1 200 OK\r\nGrpc-Status: 7\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
	r, err := read(text, Options{Keep: 3, Field: "grpc-status"})
	if err != nil || string(r.Body) != "abc" || r.Field != "7" {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := read(text, Options{Keep: 2}); !errors.Is(err, ErrMalformed) {
		t.Errorf("a longer body: %v", err)
	}
}

func TestReadRefuses(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for name, text := range map[string]string{
		"garbage":             "garbage\r\n\r\n",
		"version":             "HTTP/2.0 200 OK\r\n\r\n",
		"status":              "HTTP/1.1 2x0 OK\r\n\r\n",
		"low status":          "HTTP/1.1 099 OK\r\n\r\n",
		"long status":         "HTTP/1.1 2000 OK\r\n\r\n",
		"upgrade":             "HTTP/1.1 101 Switching\r\n\r\n",
		"bare LF":             "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
		"bare CR":             ok + "X: a\rb\r\n\r\n",
		"folded":              ok + "X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
		"blank before colon":  ok + "Content-Length : 0\r\n\r\n",
		"no colon":            ok + "Content-Length\r\n\r\n",
		"two lengths":         ok + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"list of lengths":     ok + "Content-Length: 1, 1\r\n\r\na",
		"signed length":       ok + "Content-Length: +1\r\n\r\na",
		"huge length":         ok + "Content-Length: 99999999999999999999\r\n\r\n",
		"beyond the bound":    ok + "Content-Length: 999999999999\r\n\r\n",
		"both":                ok + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"gzip":                ok + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"twice chunked":       ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"chunk size":          ok + "Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n",
		"no chunk end":        ok + "Transfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n",
		"trailer":             ok + "Transfer-Encoding: chunked\r\n\r\n0\r\nno colon\r\n\r\n",
		"header bomb":         ok + strings.Repeat("X: "+strings.Repeat("y", 1000)+"\r\n", 100) + "\r\n",
		"long line":           ok + "X: " + strings.Repeat("y", MaxHead) + "\r\n\r\n",
		"interim for ever":    strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 20),
		"interim header bomb": strings.Repeat("HTTP/1.1 100 C\r\nX: "+strings.Repeat("y", 4000)+"\r\n"+strings.Repeat("X: "+strings.Repeat("y", 3000)+"\r\n", 4)+"\r\n", 7),
	} {
		if r, err := read(text, Options{}); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

func TestTornReplies(t *testing.T) {
	const whole = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
	for cut := 1; cut < len(whole); cut++ {
		if r, err := read(whole[:cut], Options{}); err == nil {
			t.Errorf("cut at %d: %+v", cut, r)
		}
	}
	if _, err := read("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", Options{}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a torn body: %v", err)
	}
}

// What Encode writes, net/http reads: another implementation.
func TestEncode(t *testing.T) {
	r := Request{Method: "POST", Target: "/a?b=c", Host: "h:1", Header: []Field{{"X-A", "1"}, {"X-A", "2"}}, Body: []byte("body")}
	raw, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(got.Body)
	if err != nil || string(body) != "body" || got.Host != "h:1" || got.RequestURI != "/a?b=c" || len(got.Header["X-A"]) != 2 {
		t.Errorf("read back %+v, %q, %v", got, body, err)
	}
	for _, bad := range []Request{
		{Method: "G ET", Target: "/"}, {Method: "GET", Target: "x"}, {Method: "GET", Target: "/ x"}, {Method: "GET", Target: "/", Host: "a\r\nb"},
		{Method: "GET", Target: "/", Header: []Field{{"A", "b\r\nC: d"}}}, {Method: "GET", Target: "/", Header: []Field{{"Content-Length", "3"}}},
		{Method: "GET", Target: "/", Header: []Field{{"a b", "c"}}},
	} {
		if raw, err := bad.Encode(); err == nil {
			t.Errorf("%+v is written as %q", bad, raw)
		}
	}
}

// FuzzRead: whatever a server sends, reading ends, within bounds; and what net/http refuses as ambiguous
// is not accepted with another length.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 204 N\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\nx", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
	} {
		f.Add(seed, false)
	}
	f.Fuzz(func(t *testing.T, text string, isHead bool) {
		const keep = 1 << 10
		r, err := read(text, Options{Head: isHead, Keep: keep})
		if err != nil {
			return
		}
		if r.Status < 200 || r.Status > 999 || r.Length != int64(len(r.Body)) || len(r.Body) > keep {
			t.Errorf("%q is read as %+v", text, r)
		}
		method := http.MethodGet
		if isHead {
			method = http.MethodHead
		}
		other, err := otherReading(text, method)
		if err == nil && other.status == r.Status && other.length != r.Length {
			t.Errorf("%q: %d bytes here, %d by net/http", text, r.Length, other.length)
		}
	})
}

type otherReply struct {
	status int
	length int64
}

// otherReading is net/http's view of the first final reply.
func otherReading(text, method string) (otherReply, error) {
	br := bufio.NewReader(strings.NewReader(text))
	for {
		resp, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil {
			return otherReply{}, err
		}
		n, err := io.Copy(io.Discard, resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			return otherReply{}, err
		}
		if resp.StatusCode >= 200 {
			return otherReply{resp.StatusCode, n}, nil
		}
	}
}
