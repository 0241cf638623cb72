package load

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// frame is an id and a flag: 8 + 8 bytes, both ways.
const frameSize = 16

const (
	flagOK      = 0
	flagRefused = 1
	flagGarbage = 2
)

// frames is the codec of the test server; pad bytes follow each request.
type frames struct{ pad int }

func (f frames) Request(dst []byte, id uint64) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, id)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(f.pad))
	return append(dst, make([]byte, f.pad)...)
}

func (frames) Reply(buf []byte) (n int, id uint64, ok bool, err error) {
	if len(buf) < frameSize {
		return 0, 0, false, nil
	}
	flag := binary.LittleEndian.Uint64(buf[8:])
	if flag == flagGarbage {
		return 0, 0, false, errors.New("garbage")
	}
	return frameSize, binary.LittleEndian.Uint64(buf), flag == flagOK, nil
}

// server answers frames on loopback as its handler says.
type server struct {
	addr string
	seen atomic.Int64
}

// reply sends one frame; safe for concurrent use.
type reply func(id, flag uint64)

// handler gets every request of connection conn; it returns false to close it.
type handler func(conn int, id uint64, send reply) bool

func echo(_ int, id uint64, send reply) bool { send(id, flagOK); return true }

func serve(t testing.TB, handle handler) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{addr: l.Addr().String()}
	var running sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			index := len(conns)
			conns = append(conns, c)
			mu.Unlock()
			running.Go(func() { s.talk(c, index, handle) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return s
}

func (s *server) talk(c net.Conn, index int, handle handler) {
	defer c.Close()
	var writing sync.Mutex
	send := func(id, flag uint64) {
		var f [frameSize]byte
		binary.LittleEndian.PutUint64(f[:], id)
		binary.LittleEndian.PutUint64(f[8:], flag)
		writing.Lock()
		defer writing.Unlock()
		_, _ = c.Write(f[:])
	}
	var f [frameSize]byte
	for {
		if _, err := io.ReadFull(c, f[:]); err != nil {
			return
		}
		if _, err := io.CopyN(io.Discard, c, int64(binary.LittleEndian.Uint64(f[8:]))); err != nil {
			return
		}
		s.seen.Add(1)
		if !handle(index, binary.LittleEndian.Uint64(f[:]), send) {
			return
		}
	}
}

func dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr)
}

// dialWrapped hides the socket, so that every write takes the write loop.
func dialWrapped(ctx context.Context, addr string) (net.Conn, error) {
	c, err := dialTCP(ctx, addr)
	return struct{ net.Conn }{c}, err
}

func (s *server) mux(conns int) *Mux {
	return &Mux{Codec: frames{}, Dial: dialTCP, Addr: s.addr, Conns: conns}
}

// blocking is a caller with one connection and one request at a time.
type blocking struct {
	conn net.Conn
	buf  []byte
}

func (b *blocking) Call(ctx context.Context, id uint64) error {
	defer context.AfterFunc(ctx, func() { _ = b.conn.Close() })()
	b.buf = frames{}.Request(b.buf[:0], id)
	if _, err := b.conn.Write(b.buf); err != nil {
		return err
	}
	if _, err := io.ReadFull(b.conn, b.buf[:frameSize]); err != nil {
		return err
	}
	_, _, ok, err := frames{}.Reply(b.buf)
	if err == nil && !ok {
		err = errors.New("refused")
	}
	return err
}

// pool returns a pool of n workers with a connection each.
func (s *server) pool(t testing.TB, n int) *Pool {
	t.Helper()
	p := &Pool{}
	for range n {
		c, err := dialTCP(t.Context(), s.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		p.Callers = append(p.Callers, &blocking{conn: c})
	}
	return p
}

// callFunc makes a Caller of a function.
type callFunc func(ctx context.Context, id uint64) error

func (f callFunc) Call(ctx context.Context, id uint64) error { return f(ctx, id) }

func repeat(f callFunc, n int) *Pool {
	p := &Pool{}
	for range n {
		p.Callers = append(p.Callers, f)
	}
	return p
}
