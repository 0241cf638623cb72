package port_test

import (
	"errors"
	"io"
	"net"
	"testing"

	"github.com/assay-bench/assay/reference/rpc/port"
)

func TestReplayPutsBytesBackInFront(t *testing.T) {
	near, far := net.Pipe()
	closed := 0
	conn := port.NewReplay(near, []byte("PRI "), func() { closed++ })
	go func() {
		_, _ = far.Write([]byte("* HTTP"))
		_ = far.Close()
	}()
	got, err := io.ReadAll(conn)
	if err != nil || string(got) != "PRI * HTTP" {
		t.Errorf("read %q, %v", got, err)
	}
	_, _ = conn.Close(), conn.Close()
	if closed != 1 {
		t.Errorf("closed was called %d times", closed)
	}
}

func TestQueue(t *testing.T) {
	q := port.NewQueue(&net.TCPAddr{})
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	pushed := make(chan bool, 1)
	go func() { pushed <- q.Push(near) }()
	got, err := q.Accept()
	if err != nil || got != near || !<-pushed {
		t.Fatalf("accepted %v, %v", got, err)
	}
	_ = q.Close()
	if _, err := q.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
	if q.Push(near) {
		t.Error("push succeeded on a closed queue")
	}
}
