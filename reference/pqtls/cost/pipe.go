package cost

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// bufferedPipe is a connection in memory whose writes never block. net.Pipe would deadlock two ends that
// both write before they read, as TLS does after a HelloRetryRequest.
func bufferedPipe() (a, b net.Conn) {
	x, y := newBuffer(), newBuffer()
	return &end{in: x, out: y}, &end{in: y, out: x}
}

type buffer struct {
	mu       sync.Mutex
	more     *sync.Cond
	data     []byte
	closed   bool
	deadline *time.Timer
	late     bool
}

func newBuffer() *buffer {
	b := &buffer{}
	b.more = sync.NewCond(&b.mu)
	return b
}

func (b *buffer) read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.data) == 0 {
		switch {
		case b.late:
			return 0, os.ErrDeadlineExceeded
		case b.closed:
			return 0, io.EOF
		}
		b.more.Wait()
	}
	n := copy(p, b.data)
	b.data = b.data[n:]
	return n, nil
}

func (b *buffer) write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, io.ErrClosedPipe
	}
	b.data = append(b.data, p...)
	b.more.Signal()
	return len(p), nil
}

func (b *buffer) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	if b.deadline != nil {
		b.deadline.Stop()
	}
	b.more.Broadcast()
}

func (b *buffer) expire(at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.deadline = time.AfterFunc(time.Until(at), func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.late = true
		b.more.Broadcast()
	})
}

// end is one end of the pipe.
type end struct{ in, out *buffer }

func (e *end) Read(p []byte) (int, error)  { return e.in.read(p) }
func (e *end) Write(p []byte) (int, error) { return e.out.write(p) }

func (e *end) Close() error {
	e.in.close()
	e.out.close()
	return nil
}

func (e *end) SetDeadline(at time.Time) error     { return e.SetReadDeadline(at) }
func (e *end) SetReadDeadline(at time.Time) error { e.in.expire(at); return nil }
func (e *end) SetWriteDeadline(time.Time) error   { return nil }
func (e *end) LocalAddr() net.Addr                { return address{} }
func (e *end) RemoteAddr() net.Addr               { return address{} }

type address struct{}

func (address) Network() string { return "pipe" }
func (address) String() string  { return "pipe" }
