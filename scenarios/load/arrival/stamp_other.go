//go:build !linux

package arrival

import (
	"net"
	"sync/atomic"
)

// Conn does not exist on this system.
type Conn struct {
	net.Conn
	last atomic.Int64
}

func stamped(*net.TCPConn) *Conn { return nil }
