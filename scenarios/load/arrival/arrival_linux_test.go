package arrival

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// pair returns both ends of a connection over loopback, the first one stamped.
func pair(t *testing.T) (in *Conn, out net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	out, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	got, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	in, ok := Of(got).(*Conn)
	if !ok {
		t.Fatal("Linux stamps TCP, this connection is not stamped")
	}
	t.Cleanup(func() { _, _ = in.Close(), out.Close() })
	return in, out
}

// The stamp lies between the begin and the end of the write on the same machine,
// however long the reader takes to come.
func TestTheTimeIsThatOfTheArrival(t *testing.T) {
	in, out := pair(t)
	if Since(out) != 0 || Stamped(out) {
		t.Error("a plain connection claims to know")
	}
	const want, most = 25, 2000
	buf, seen := make([]byte, 8), 0
	for range most { // a busy kernel takes tens of milliseconds to begin with stamps
		if seen == want {
			break
		}
		before := time.Now()
		if _, err := out.Write([]byte("12345678")); err != nil {
			t.Fatal(err)
		}
		after := time.Now()
		time.Sleep(2 * time.Millisecond) // the reader is late
		if n, err := in.Read(buf); n != 8 || err != nil {
			t.Fatalf("read %d, %v", n, err)
		}
		read := time.Now()
		since := Since(in)
		if least := read.Sub(after); since < least {
			continue // the kernel begins to stamp a moment after it was asked to
		}
		if most := time.Since(before); since > most {
			t.Fatalf("came in %v ago, but it was written %v ago", since, most)
		}
		seen++
	}
	if seen < want {
		t.Errorf("%d of %d reads know that the bytes lay in the socket", seen, most)
	}
}

// What a program sees of a connection does not change.
func TestReadsLikeTheConnection(t *testing.T) {
	in, out := pair(t)
	sent := bytes.Repeat([]byte("assay"), 100_000)
	go func() {
		_, _ = out.Write(sent)
		_ = out.Close()
	}()
	got, err := io.ReadAll(in)
	if err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("read %d of %d bytes: %v", len(got), len(sent), err)
	}
	if _, err := in.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}

	in, _ = pair(t)
	_ = in.SetReadDeadline(time.Unix(1, 0))
	if _, err := in.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("past the deadline: %v", err)
	}
	in, _ = pair(t)
	time.AfterFunc(time.Millisecond, func() { _ = in.Close() })
	if _, err := in.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed under the read: %v", err)
	}
}

// A wall clock that steps moves no arrival out of the wait for it.
func TestAStepOfTheClockIsBounded(t *testing.T) {
	c := &Conn{empty: time.Now()}
	now := c.empty.Add(time.Second)
	for _, tt := range []struct{ step, want time.Duration }{
		{0, 0}, {-time.Hour, time.Second}, {time.Hour, 0}, {-time.Millisecond, time.Millisecond},
	} {
		stamp := now.Add(tt.step)
		c.oobn = putStamp(c.oob[:], stamp)
		c.note(now)
		if got := now.Sub(base) - time.Duration(c.last.Load()); got != tt.want {
			t.Errorf("stamped %v off: %v old, want %v", tt.step, got, tt.want)
		}
	}
}

func FuzzStamp(f *testing.F) {
	oob := make([]byte, 64)
	f.Add(oob[:putStamp(oob, time.Unix(1, 5))])
	f.Fuzz(func(_ *testing.T, oob []byte) { stampIn(oob) })
}
