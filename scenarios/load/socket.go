package load

import (
	"net"
	"syscall"
)

// TryWriter writes to a socket without waiting for room in it. One goroutine at
// a time may use it.
type TryWriter struct {
	raw     syscall.RawConn
	attempt func(fd uintptr) bool

	// Of the write under way:
	p   []byte
	n   int
	err error
}

// NewTryWriter returns nil where conn is not a socket of package net itself, or
// the system has no such writes.
func NewTryWriter(conn net.Conn) *TryWriter {
	raw := rawConn(conn)
	if raw == nil {
		return nil
	}
	w := &TryWriter{raw: raw}
	w.attempt = w.write // bound once: a method value made per write would allocate
	return w
}

// TryWrite writes as much of p as the socket takes now, perhaps nothing.
func (w *TryWriter) TryWrite(p []byte) (n int, err error) {
	w.p, w.n, w.err = p, 0, nil
	err = w.raw.Write(w.attempt)
	w.p = nil
	if err == nil {
		err = w.err
	}
	return w.n, err
}

func (w *TryWriter) write(fd uintptr) bool {
	w.n, w.err = writeSocket(fd, w.p)
	if w.err != nil {
		w.n = 0
		if wouldBlock(w.err) {
			w.err = nil
		}
	}
	return true
}
