package hollow

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"time"
)

// preface is how an HTTP/2 client begins (RFC 9113 section 3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// nullPatience is how long a null target looks for a preface before it hangs up.
const nullPatience = 200 * time.Millisecond

// null hangs up, after an empty SETTINGS frame if the client speaks HTTP/2.
func null(_ context.Context, conn net.Conn) {
	if conn.SetDeadline(time.Now().Add(nullPatience)) != nil {
		return
	}
	seen := make([]byte, len(preface))
	if _, err := io.ReadFull(conn, seen); err != nil || string(seen) != preface {
		return
	}
	_, _ = conn.Write([]byte{0, 0, 0, 4, 0, 0, 0, 0, 0}) // it hangs up either way
}

// mute reads without a word.
func mute(_ context.Context, conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

const (
	garbageLimit = 1 << 20   // bytes to one connection
	endlessLimit = 256 << 20 // bytes to one connection: enough to show unbounded reading, and an end
)

// garbage answers every read with up to 1 KiB from a fixed seed, so that runs are repeatable.
func garbage(_ context.Context, conn net.Conn) {
	source := rand.NewChaCha8([32]byte{'a', 's', 's', 'a', 'y'})
	sizes := rand.New(source)
	in, out := make([]byte, 4096), make([]byte, 1024)
	for sent := 0; sent < garbageLimit; {
		if _, err := conn.Read(in); err != nil {
			return
		}
		n := min(1+sizes.IntN(len(out)), garbageLimit-sent)
		_, _ = source.Read(out[:n]) // never fails
		if _, err := conn.Write(out[:n]); err != nil {
			return
		}
		sent += n
	}
}

// endless waits for the first bytes, then writes until its limit. It keeps reading, or a client that
// sends much would block before it reads.
func endless(_ context.Context, conn net.Conn) {
	if _, err := conn.Read(make([]byte, 4096)); err != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(io.Discard, conn)
	}()
	chunk := make([]byte, 64<<10)
	for i := range chunk {
		chunk[i] = 'x'
	}
	for sent := 0; sent < endlessLimit; sent += len(chunk) {
		if _, err := conn.Write(chunk); err != nil {
			break
		}
	}
	_ = conn.Close()
	<-done
}
