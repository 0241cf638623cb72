package arrival

import (
	"context"
	"net"
	"sync/atomic"
	"time"
)

// Socket is the TCP connection under a client of a library: it knows when the bytes came in that the library read.
type Socket struct {
	conn  atomic.Pointer[net.Conn]
	again atomic.Bool // there was another one, whose replies may be on their way
}

// Dialer returns a dialer that notes what dial connects.
func (s *Socket) Dialer(dial func(ctx context.Context, network, addr string) (net.Conn, error)) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		conn, err := dial(ctx, "tcp", addr)
		if err == nil {
			conn = Of(conn)
			s.again.Store(s.conn.Swap(&conn) != nil)
		}
		return conn, err
	}
}

// Age returns how long ago the last byte came in that was read. A reply that
// was read before came in earlier; 0 when the library has connected again.
func (s *Socket) Age() time.Duration {
	if conn := s.conn.Load(); conn != nil && !s.again.Load() {
		return Since(*conn)
	}
	return 0
}
