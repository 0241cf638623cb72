package hollow_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"runtime"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/assay-bench/assay/reference/peers/hollow"
)

const patience = 5 * time.Second

func start(t *testing.T, kind hollow.Kind) string {
	t.Helper()
	before := runtime.NumGoroutine()
	addr, stop, err := hollow.Serve(t.Context(), kind)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		for end := time.Now().Add(patience); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
				return
			}
		}
	})
	return addr
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func send(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}

func TestNull(t *testing.T) {
	addr := start(t, hollow.Null)
	conn := dial(t, addr)
	send(t, conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	got, _ := io.ReadAll(conn)
	if !bytes.Equal(got, []byte{0, 0, 0, 4, 0, 0, 0, 0, 0}) {
		t.Errorf("to a preface: %x", got)
	}
	conn = dial(t, addr)
	send(t, conn, "GET / HTTP/1.1\r\nhost: x\r\n\r\n")
	if got, _ := io.ReadAll(conn); len(got) != 0 {
		t.Errorf("to HTTP/1: %x", got)
	}
}

func TestMute(t *testing.T) {
	conn := dial(t, start(t, hollow.Mute))
	send(t, conn, "anything")
	_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == io.EOF {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestGarbageIsRepeatable(t *testing.T) {
	addr := start(t, hollow.Garbage)
	var first [2][]byte
	for i := range first {
		conn := dial(t, addr)
		send(t, conn, "x")
		first[i] = make([]byte, 8)
		n, err := io.ReadAtLeast(conn, first[i], 1)
		if err != nil {
			t.Fatal(err)
		}
		first[i] = first[i][:n]
	}
	if n := min(len(first[0]), len(first[1])); !bytes.Equal(first[0][:n], first[1][:n]) {
		t.Errorf("%x and %x", first[0], first[1])
	}
}

func TestEndlessGoesOn(t *testing.T) {
	conn := dial(t, start(t, hollow.Endless))
	send(t, conn, "x")
	if n, err := io.CopyN(io.Discard, conn, 8<<20); err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestAlwaysReject(t *testing.T) {
	addr := start(t, hollow.AlwaysReject)
	const args = "0c00010b0001000000026f6b0b00020000000268690000"
	const body = "0b00010000000872656a6563746564080002000000060" + "0"
	const header = "100000000000000700030000100001001600013300" + "00"
	cases := map[string][2]string{
		"buffered": {"80010001000000044563686f00000007" + args, "80010003000000044563686f00000007" + body},
		"framed":   {"0000002780010001000000044563686f00000007" + args, "0000002780010003000000044563686f00000007" + body},
		"tth": {"00000041" + "10000000000000070004000010000100090004" + "4563686f000000" + "80010001000000044563686f00000007" + args,
			"0000003d" + header + "80010003000000044563686f00000007" + body},
	}
	seen := 0
	for name, c := range cases {
		seen++
		conn := dial(t, addr)
		call, err := hex.DecodeString(c[0])
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the connection is kept
			send(t, conn, string(call))
			got := make([]byte, len(c[1])/2)
			if _, err := io.ReadFull(conn, got); err != nil || hex.EncodeToString(got) != c[1] {
				t.Errorf("%s: %x, %v\nwant %s", name, got, err, c[1])
			}
		}
	}
	if seen == 0 {
		t.Fatal("no forms")
	}
}

func TestAlwaysRejectOverHTTP(t *testing.T) {
	addr := start(t, hollow.AlwaysReject)
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("status %d", resp.StatusCode)
	}
	cc, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err = testpb.NewTestServiceClient(cc).EmptyCall(ctx, new(testpb.Empty))
	if status.Code(err) != codes.Internal || status.Convert(err).Message() != "rejected" {
		t.Errorf("gRPC: %v", err)
	}
}

func TestUnknownKind(t *testing.T) {
	if _, _, err := hollow.Serve(t.Context(), "nothing"); err == nil {
		t.Error("an unknown kind is served")
	}
	if len(hollow.Kinds()) != 5 {
		t.Errorf("kinds: %v", hollow.Kinds())
	}
}

func TestEndsWithItsContext(t *testing.T) {
	for _, kind := range hollow.Kinds() {
		ctx, cancel := context.WithCancel(t.Context())
		addr, stop, err := hollow.Serve(ctx, kind)
		if err != nil {
			t.Fatal(err)
		}
		conn := dial(t, addr)
		cancel()
		stop()
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: a byte came after the end", kind)
		} else if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
			t.Errorf("%s: the connection stays open", kind)
		}
	}
}
