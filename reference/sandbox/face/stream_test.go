package face

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/assay-bench/assay/reference/sandbox"
)

// echo copies in pieces.
func echo(_ context.Context, in io.Reader, out io.Writer) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{out}, struct{ io.Reader }{in}, make([]byte, sandbox.ChunkBytes))
	return err
}

func streamURL(f *Face) string {
	return "http://" + f.Addresses().API + "/tenants/t/modules/m/stream?function=up"
}

// TestStream: a body of many pieces comes back whole, with the word that says so.
func TestStream(t *testing.T) {
	b := &fake{stream: echo}
	f := startFake(t, b)
	seen := 0
	for _, size := range []int{0, 1, sandbox.ChunkBytes, 20<<20 + 1} {
		seen++
		body := make([]byte, size)
		_, _ = rand.NewChaCha8([32]byte{1}).Read(body)
		resp, err := http.Post(streamURL(f), "application/octet-stream", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.New()
		n, err := io.Copy(sum, resp.Body)
		_ = resp.Body.Close()
		want := sha256.Sum256(body)
		if err != nil || resp.StatusCode != 200 || n != int64(size) || !bytes.Equal(sum.Sum(nil), want[:]) {
			t.Errorf("%d bytes: status %d, %d bytes back, %v", size, resp.StatusCode, n, err)
		}
		if got := resp.Trailer.Get(streamField); got != "complete" {
			t.Errorf("%d bytes: trailer %q", size, got)
		}
	}
	if seen == 0 {
		t.Fatal("no sizes")
	}
	if got := strings.Join(b.at, " "); got != "t m up" {
		t.Errorf("called with %s", got)
	}
}

// TestStreamAsProduced: the output of a piece arrives before the next piece is sent.
func TestStreamAsProduced(t *testing.T) {
	f := startFake(t, &fake{stream: echo})
	body, send := io.Pipe()
	resp := make(chan *http.Response, 1)
	go func() {
		r, err := http.Post(streamURL(f), "application/octet-stream", body)
		if err != nil {
			_ = body.CloseWithError(err)
			close(resp)
			return
		}
		resp <- r
	}()
	seen := 0
	var r *http.Response
	for _, piece := range []string{"one", "two", "three"} {
		seen++
		if _, err := io.WriteString(send, piece); err != nil {
			t.Fatal(err)
		}
		if r == nil {
			if r = <-resp; r == nil {
				t.Fatal("no answer")
			}
		}
		got := make([]byte, len(piece))
		if _, err := io.ReadFull(r.Body, got); err != nil || string(got) != piece {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if seen == 0 {
		t.Fatal("no pieces")
	}
	_ = send.Close()
	if rest, err := io.ReadAll(r.Body); err != nil || len(rest) != 0 {
		t.Errorf("rest %q, %v", rest, err)
	}
	_ = r.Body.Close()
	if got := r.Trailer.Get(streamField); got != "complete" {
		t.Errorf("trailer %q", got)
	}
}

// TestStreamTraps: after output the trailer tells of the trap, and the body of the request is not needed.
func TestStreamTraps(t *testing.T) {
	f := startFake(t, &fake{stream: func(_ context.Context, in io.Reader, out io.Writer) error {
		piece := make([]byte, 4)
		if _, err := io.ReadFull(in, piece); err != nil {
			return err
		}
		if _, err := out.Write(piece); err != nil {
			return err
		}
		return &sandbox.Trap{Class: "guest", Text: "é\n\x7f\U0001F600" + strings.Repeat("x", 1<<16), Instance: "i"}
	}})
	resp, err := http.Post(streamURL(f), "application/octet-stream", strings.NewReader("four"+strings.Repeat(" and more", 1<<20)))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || string(got) != "four" {
		t.Errorf("%q, %v", got, err)
	}
	field := resp.Trailer.Get(streamField)
	var p problem
	if err := json.Unmarshal([]byte(field), &p); err != nil || len(field) > 4<<10 {
		t.Fatalf("trailer of %d bytes: %v", len(field), err)
	}
	if p.Status != 422 || p.Class != "guest" || p.Instance != "i" || !strings.HasPrefix(p.Detail, "guest: é\n\x7f\U0001F600xxx") {
		t.Errorf("problem %+v", p)
	}
}

// TestStreamBrokenOff: a request that ends in its middle has no answer that looks whole, and leaves nothing.
func TestStreamBrokenOff(t *testing.T) {
	before := runtime.NumGoroutine()
	ended := make(chan error, 1)
	f := startFake(t, &fake{stream: func(ctx context.Context, in io.Reader, out io.Writer) error {
		err := echo(ctx, in, out)
		ended <- err
		return err
	}})
	conn, err := net.Dial("tcp", f.Addresses().API)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "POST /tenants/t/modules/m/stream?function=up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(resp.Body)
	if !errors.Is(err, io.ErrUnexpectedEOF) || string(got) != "abc" {
		t.Errorf("%q, %v, want an unexpected end", got, err)
	}
	_ = conn.Close()
	if err := <-ended; err == nil {
		t.Error("the stream did not see the end")
	}
	f.Close()
	noneLeft(t, before)
}

// TestStreamHoldsBack: while the function does not read, the sender can not send without bound.
func TestStreamHoldsBack(t *testing.T) {
	const bound = 64 << 20
	more := make(chan struct{})
	f := startFake(t, &fake{stream: func(ctx context.Context, in io.Reader, out io.Writer) error {
		<-more
		return echo(ctx, in, io.Discard)
	}})
	conn, err := net.Dial("tcp", f.Addresses().API)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := fmt.Fprintf(conn, "POST /tenants/t/modules/m/stream?function=up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second)) // long enough to send more, if it were taken
	chunks, sent := httputil.NewChunkedWriter(conn), 0
	for sent < bound {
		n, err := chunks.Write(make([]byte, sandbox.ChunkBytes))
		sent += n
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
			break
		}
	}
	close(more)
	if sent >= bound {
		t.Errorf("%d bytes were taken from a function that read none", sent)
	}
}
