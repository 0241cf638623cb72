package arrival

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Conn is a TCP connection whose reads note the kernel's arrival time. One
// goroutine at a time may read.
type Conn struct {
	net.Conn
	raw  syscall.RawConn
	last atomic.Int64 // when the last byte read came in, since base

	// Of the read under way:
	attempt func(fd uintptr) bool
	into    []byte
	n       int
	oobn    int
	failure error
	empty   time.Time // when the socket was last seen empty: what comes next is younger
	oob     [64]byte
}

// stamped returns nil when the socket refuses.
func stamped(tcp *net.TCPConn) *Conn {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	var refused error
	err = raw.Control(func(fd uintptr) {
		refused = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	})
	if err != nil || refused != nil {
		return nil
	}
	c := &Conn{Conn: tcp, raw: raw, empty: time.Now()}
	c.attempt = c.receive // bound once: a method value made per read would allocate
	return c
}

// Read reads like the connection itself.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c.into, c.n, c.failure = p, 0, nil
	err := c.raw.Read(c.attempt)
	c.into = nil
	switch {
	case err != nil:
		return 0, err
	case c.failure != nil:
		return 0, &net.OpError{Op: "read", Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError("recvmsg", c.failure)}
	case c.n == 0:
		return 0, io.EOF
	}
	c.note(time.Now())
	return c.n, nil
}

// receive makes one nonblocking read; false waits for bytes.
func (c *Conn) receive(fd uintptr) bool {
	for {
		n, oobn, _, _, err := unix.Recvmsg(int(fd), c.into, c.oob[:], 0)
		switch err {
		case nil:
			c.n, c.oobn = n, oobn
			return true
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			c.empty = time.Now()
			return false
		}
		c.failure = err
		return true
	}
}

// note computes when the last byte came in. The kernel stamps by the wall clock:
// how old the stamp is, both clocks agree on. A step of the wall clock in between
// can not move it to before the socket was seen empty, or into the future.
func (c *Conn) note(now time.Time) {
	age := time.Duration(0)
	if stamp := stampIn(c.oob[:c.oobn]); stamp > 0 {
		age = min(max(time.Duration(now.UnixNano()-stamp), 0), now.Sub(c.empty))
	}
	c.last.Store(int64(now.Sub(base) - age))
}

// stampIn returns the stamp of a control message in ns since 1970, or 0.
func stampIn(oob []byte) int64 {
	const head = unix.SizeofCmsghdr
	if unsafe.Sizeof(unix.Timespec{}) != 16 || len(oob) < head+16 {
		return 0
	}
	// struct cmsghdr: length, level, type, each as wide as this machine has it.
	level, kind := binary.NativeEndian.Uint32(oob[head-8:]), binary.NativeEndian.Uint32(oob[head-4:])
	if level != unix.SOL_SOCKET || kind != unix.SO_TIMESTAMPNS {
		return 0
	}
	return int64(binary.NativeEndian.Uint64(oob[head:]))*int64(time.Second) + int64(binary.NativeEndian.Uint64(oob[head+8:]))
}
