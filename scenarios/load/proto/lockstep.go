package proto

import (
	"context"
	"errors"
	"net"
	"runtime"
	"time"

	"github.com/assay-bench/assay/scenarios/load"
	"github.com/assay-bench/assay/scenarios/load/arrival"
)

// lockstep sends a codec's requests one at a time on a connection of its own: the closed model of a
// protocol that would be multiplexed.
type lockstep struct {
	line  line
	codec load.Codec
	dial  load.Dialer
	addr  string
	buf   []byte
	age   time.Duration
}

// Age tells how long ago the reply to the last call came in.
func (l *lockstep) Age() time.Duration { return l.age }

func (l *lockstep) Call(ctx context.Context, id uint64) error {
	conn := l.line.conn()
	if conn == nil {
		var err error
		if conn, err = l.dial(ctx, l.addr); err != nil {
			return err
		}
		conn = arrival.Of(conn)
	}
	if err := l.line.hold(ctx, conn); err != nil {
		return err
	}
	err := l.exchange(conn, id)
	l.age = arrival.Since(conn)
	if err != nil && !errors.Is(err, errRefused) {
		l.line.drop()
	}
	return err
}

// errRefused says that the server answered and did not grant the request.
var errRefused = errors.New("refused by the server")

func (l *lockstep) exchange(conn net.Conn, id uint64) error {
	l.buf = l.codec.Request(l.buf[:0], id)
	if _, err := conn.Write(l.buf); err != nil {
		return err
	}
	// The reply is not here yet: let others send first, and save a read of nothing and a wait. When it came in, the kernel knows.
	runtime.Gosched()
	have := 0
	for {
		if have == len(l.buf) {
			l.buf = append(l.buf, make([]byte, max(have, 4096))...)
		}
		n, err := conn.Read(l.buf[have:])
		have += n
		if n > 0 {
			used, got, ok, err := l.codec.Reply(l.buf[:have])
			switch {
			case err != nil:
				return err
			case used > 0 && (used != have || got != id):
				return errors.New("a reply that nobody asked for")
			case used > 0 && !ok:
				return errRefused
			case used > 0:
				return nil
			case have > maxReply:
				return errors.New("reply is too long")
			}
		}
		if err != nil {
			return err
		}
	}
}

// maxReply bounds the bytes of one reply.
const maxReply = 4 << 20
