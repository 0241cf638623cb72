package server

import (
	"net"
	"time"
)

const (
	initialBuffer = 4 << 10  // bytes a connection holds while it is quiet
	keptBuffer    = 64 << 10 // a larger buffer is given back once it is empty
)

// reader buffers what a connection sends. It grows with the bytes that arrived and never with the
// bytes that a length claims.
type reader struct {
	conn   net.Conn
	buf    []byte
	r, w   int          // unread bytes are buf[r:w]
	before func() error // runs before the connection is read: replies must not wait behind a read
	due    time.Time    // deadline for the next reads; zero is none
	armed  bool         // due is set on the connection
}

func newReader(conn net.Conn, before func() error) *reader {
	return &reader{conn: conn, buf: make([]byte, initialBuffer), before: before}
}

// expect sets the deadline of later reads. It costs a system call only if one of them has to wait.
func (r *reader) expect(due time.Time) { r.due, r.armed = due, false }

// window returns the unread bytes. It is invalid after the next ensure.
func (r *reader) window() []byte { return r.buf[r.r:r.w] }

// buffered returns how many unread bytes there are.
func (r *reader) buffered() int { return r.w - r.r }

// consume takes n unread bytes away. They stay valid until the next ensure.
func (r *reader) consume(n int) {
	r.r += n
	if r.r < r.w {
		return
	}
	r.r, r.w = 0, 0
	if len(r.buf) > keptBuffer {
		r.buf = make([]byte, initialBuffer)
	}
}

// ensure reads until n bytes are unread.
func (r *reader) ensure(n int) error {
	for r.buffered() < n {
		r.makeRoom()
		if err := r.fill(); err != nil {
			return err
		}
	}
	return nil
}

// makeRoom leaves at least one byte behind w, twice as many as now if the buffer is full.
func (r *reader) makeRoom() {
	if r.w < len(r.buf) {
		return
	}
	if r.r == 0 {
		r.buf = append(r.buf, make([]byte, len(r.buf))...)
		return
	}
	copy(r.buf, r.buf[r.r:r.w])
	r.r, r.w = 0, r.w-r.r
}

func (r *reader) fill() error {
	if err := r.before(); err != nil {
		return err
	}
	if !r.armed {
		if err := r.conn.SetReadDeadline(r.due); err != nil {
			return err
		}
		r.armed = true
	}
	n, err := r.conn.Read(r.buf[r.w:])
	r.w += n
	if n > 0 {
		return nil // an error comes again
	}
	return err
}

// streamed is a message in the unread bytes, starting offset bytes in, whose end is not known.
type streamed struct {
	in     *reader
	offset int
}

// Fill implements wire.Filler.
func (s streamed) Fill(n int) ([]byte, error) {
	if err := s.in.ensure(s.offset + n); err != nil {
		return nil, err
	}
	return s.in.window()[s.offset:], nil
}
