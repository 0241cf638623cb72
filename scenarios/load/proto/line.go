package proto

import (
	"context"
	"net"
	"sync"
)

// line is the connection that one caller holds. When the context of the call ends, it is closed under the
// call. The context serves many calls, so that it is watched once and not for each.
type line struct {
	mu      sync.Mutex
	held    net.Conn
	watched context.Context
	unwatch func() bool
}

// conn returns the connection held, or nil.
func (l *line) conn() net.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held
}

// hold notes the connection that the calls of ctx use from now on. When ctx has ended already it closes
// the connection and says so.
func (l *line) hold(ctx context.Context, conn net.Conn) error {
	l.mu.Lock()
	l.held = conn
	if l.watched == ctx {
		l.mu.Unlock()
		return l.alive(ctx)
	}
	if l.unwatch != nil {
		l.unwatch()
	}
	l.watched = ctx
	l.unwatch = context.AfterFunc(ctx, func() { l.end(ctx) })
	l.mu.Unlock()
	return l.alive(ctx)
}

func (l *line) alive(ctx context.Context) error {
	err := ctx.Err()
	if err != nil {
		l.drop()
	}
	return err
}

// end closes the connection of the calls of ctx.
func (l *line) end(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.watched == ctx && l.held != nil {
		_ = l.held.Close() // the call under way sees it
	}
}

// release gives the connection up to the caller; alive is false when the context has ended it.
func (l *line) release() (conn net.Conn, alive bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	conn, l.held = l.held, nil
	return conn, conn != nil && l.watched.Err() == nil
}

// drop closes the connection.
func (l *line) drop() {
	if conn, _ := l.release(); conn != nil {
		_ = conn.Close() // it is of no more use
	}
}
