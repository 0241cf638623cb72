package client

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"
)

// records is a stream that, like TLS, keeps messages after the handshake (type 22) to itself.
type records struct {
	net.Conn
	head [5]byte
	got  int
	left int
}

func (r *records) Read(p []byte) (int, error) {
	for {
		for r.got < len(r.head) {
			n, err := r.Conn.Read(r.head[r.got:])
			if err != nil {
				return 0, err
			}
			r.got += n
			r.left = int(binary.BigEndian.Uint16(r.head[3:]))
		}
		if r.left == 0 {
			r.got = 0
			continue
		}
		n, err := r.Conn.Read(p[:min(r.left, len(p))])
		r.left -= n
		if r.left == 0 {
			r.got = 0
		}
		if err != nil || r.head[0] == 23 {
			return n, err
		}
	}
}

func record(typ byte, body string) []byte {
	return append([]byte{typ, 3, 3, byte(len(body) >> 8), byte(len(body))}, body...)
}

// tapped returns a connection over records and its peer.
func tapped(t *testing.T) (*conn, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s := newSocket(near)
	c := newConn(s, &records{Conn: s}, state{}, time.Now())
	go c.receive()
	t.Cleanup(func() {
		c.close()
		_ = far.Close()
		<-c.over
	})
	return c, far
}

func send(t *testing.T, to io.Writer, p []byte) {
	t.Helper()
	if _, err := to.Write(p); err != nil {
		t.Fatal(err)
	}
}

// TestQuiet: what has arrived counts, also when nobody has read it yet. On loopback a write has arrived
// when it returns.
func TestQuiet(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, far := tapped(t)
	for i := range 200 {
		for range i % 3 {
			send(t, far, record(22, "a ticket"))
		}
		if !c.quiet(ctx) {
			t.Fatalf("round %d: tickets are taken for data", i)
		}
	}
	seen := 0
	for name, p := range map[string][]byte{
		"data":                     record(23, "!"),
		"data after a ticket":      append(record(22, "a ticket"), record(23, "!")...),
		"half a ticket":            record(22, "a ticket")[:9],
		"half a header":            record(22, "a ticket")[:2],
		"half a record after one":  append(record(22, "a ticket"), 23),
		"the end":                  nil,
		"the end after one ticket": record(22, "a ticket"),
	} {
		for range 20 {
			seen++
			c, far := tapped(t)
			send(t, far, p)
			if name == "the end" || name == "the end after one ticket" {
				if err := far.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if c.quiet(ctx) {
				t.Errorf("%s goes unnoticed", name)
			}
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

// TestReadAheadIsBounded: a peer that sends without being asked fills a bounded buffer.
func TestReadAheadIsBounded(t *testing.T) {
	c, far := tapped(t)
	go func() {
		for {
			if _, err := far.Write(record(23, "0123456789abcdef0123456789abcdef")); err != nil {
				return
			}
		}
	}()
	err := c.await(t.Context(), func() bool { return len(c.pending) > readAhead })
	if err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pending) > readAhead+4<<10 {
		t.Errorf("%d bytes are kept", len(c.pending))
	}
}

// FuzzBoundary: how a stream is cut into reads does not change where its records end.
func FuzzBoundary(f *testing.F) {
	f.Add(append(record(22, "abc"), record(23, "")...), uint8(1))
	f.Add(record(23, "abc")[:4], uint8(3))
	f.Fuzz(func(t *testing.T, p []byte, cut uint8) {
		var whole, parts boundary
		whole.feed(p)
		for rest := p; len(rest) > 0; {
			n := min(int(cut)+1, len(rest))
			parts.feed(rest[:n])
			rest = rest[n:]
		}
		if whole != parts {
			t.Errorf("%+v at once, %+v in parts of %d", whole, parts, int(cut)+1)
		}
	})
}
