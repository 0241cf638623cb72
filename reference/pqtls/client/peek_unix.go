//go:build unix

package client

import (
	"net"
	"syscall"
)

// waiting reports whether the kernel holds bytes, an end or an error of the connection that nobody
// has read. It consumes nothing.
func waiting(raw net.Conn) bool {
	sc, ok := raw.(syscall.Conn)
	if !ok {
		return false
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	nothing := false
	err = rc.Control(func(fd uintptr) {
		var one [1]byte
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK)
		nothing = err == syscall.EAGAIN || err == syscall.EINTR
	})
	return err != nil || !nothing
}
