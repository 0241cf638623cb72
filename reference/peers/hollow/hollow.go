// Package hollow holds targets without substance: they accept connections and do nothing right. A
// conformance suite that passes anything against them is not testing. All of them bound the memory
// and the bytes of a connection.
package hollow

import (
	"context"
	"fmt"
	"net"
	"sync"
)

// Kind names a hollow target.
type Kind string

// The kinds.
const (
	Null         Kind = "null"          // sends SETTINGS to an HTTP/2 preface, then hangs up
	AlwaysReject Kind = "always-reject" // a well-formed rejection for every call
	Garbage      Kind = "garbage"       // pseudo-random bytes for whatever comes
	Mute         Kind = "mute"          // reads and never answers
	Endless      Kind = "endless"       // answers anything with bytes that do not end
)

// Kinds returns every kind.
func Kinds() []Kind { return []Kind{Null, AlwaysReject, Garbage, Mute, Endless} }

// maxConns bounds the connections of one target; more wait in the kernel's backlog.
const maxConns = 256

// handler serves one connection. The caller closes the connection afterwards, and at the end.
type handler func(ctx context.Context, conn net.Conn)

// Serve starts a target on a loopback port that the kernel chooses and returns its address. It ends,
// with all its connections, when ctx does or when stop is called; stop returns when it has ended.
func Serve(ctx context.Context, kind Kind) (addr string, stop func(), err error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("hollow target %s: %w", kind, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	handle, closeHandler, err := handlerOf(kind, l.Addr())
	if err != nil {
		cancel()
		_ = l.Close()
		return "", nil, err
	}
	var loops sync.WaitGroup
	context.AfterFunc(ctx, func() { _ = l.Close() })
	loops.Go(func() {
		accept(ctx, l, handle)
		closeHandler()
	})
	return l.Addr().String(), func() { cancel(); loops.Wait() }, nil
}

func handlerOf(kind Kind, addr net.Addr) (handle handler, closeHandler func(), err error) {
	nothing := func() {}
	switch kind {
	case Null:
		return null, nothing, nil
	case AlwaysReject:
		r := newRejecter(addr)
		return r.handle, r.close, nil
	case Garbage:
		return garbage, nothing, nil
	case Mute:
		return mute, nothing, nil
	case Endless:
		return endless, nothing, nil
	}
	return nil, nil, fmt.Errorf("no hollow target is called %q", kind)
}

// accept serves until the listener fails, then waits for the connections.
func accept(ctx context.Context, l net.Listener, handle handler) {
	var conns sync.WaitGroup
	defer conns.Wait()
	slots := make(chan struct{}, maxConns)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		conn, err := l.Accept()
		if err != nil {
			return
		}
		conns.Go(func() {
			defer func() { <-slots }()
			closeOnEnd := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer closeOnEnd()
			defer conn.Close()
			handle(ctx, conn)
		})
	}
}
