package tls

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	wire "github.com/assay-bench/assay/scenarios/wire/tls"
)

// MaxAccepted bounds the connections that one trap serves.
const MaxAccepted = 16

// trapSlack is what a trap's connection may take at Close beyond the wait of its engine.
const trapSlack = time.Second

// Heard is one connection of the prober in the server's role.
type Heard struct {
	Name  string     `json:"name"`
	N     int        `json:"n"`    // in the order of acceptance, from 0
	Wall  time.Time  `json:"wall"` // when it was accepted
	Heard wire.Heard `json:"heard"`
}

// Trap is a listener on loopback that serves each connection with the prober in the server's role. A
// case has a listener of its own, since a client may open more connections than the case is about.
type Trap struct {
	env    *scenarios.Env
	name   string
	listen net.Listener
	server func(n int) wire.Server
	cancel context.CancelFunc
	done   sync.WaitGroup

	reached chan struct{} // closed by the first connection

	mu     sync.Mutex
	conns  []*trapped
	wait   time.Duration // the longest of the engines
	closed bool
	broken error // of accept
}

// trapped is one accepted connection.
type trapped struct {
	conn *recorded
	seen Heard // valid once done
}

// Listen opens a trap. server makes the engine of the nth connection, from 0; its seed and wait are
// filled in where they are zero.
func Listen(env *scenarios.Env, name string, server func(n int) wire.Server) (*Trap, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("trap %s: %w", name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t := &Trap{env: env, name: name, listen: l, server: server, cancel: cancel, reached: make(chan struct{})}
	t.done.Go(func() { t.accept(ctx) })
	return t, nil
}

// Addr is the address to dial, host:port.
func (t *Trap) Addr() string { return t.listen.Addr().String() }

// Reached is closed when the first connection arrives.
func (t *Trap) Reached() <-chan struct{} { return t.reached }

// Accepted is the number of connections so far.
func (t *Trap) Accepted() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.conns)
}

// accept takes connections until the trap is closed or full; then further ones are refused.
func (t *Trap) accept(ctx context.Context) {
	for n := range MaxAccepted {
		conn, err := t.listen.Accept()
		if err != nil {
			t.mu.Lock()
			if !t.closed {
				t.broken = fmt.Errorf("trap %s: %w", t.name, err)
			}
			t.mu.Unlock()
			return
		}
		if n == 0 {
			close(t.reached)
		}
		t.serve(ctx, n, conn)
	}
	_ = t.listen.Close() // Close may have been first
}

func (t *Trap) serve(ctx context.Context, n int, conn net.Conn) {
	s := t.server(n)
	if s.Seed == [32]byte{} {
		s.Seed = seed(t.env)
	}
	if s.Wait == 0 {
		s.Wait = defaultWait
	}
	c := &trapped{
		conn: newRecorded(t.env, connName(t.name, n), conn),
		seen: Heard{Name: t.name, N: n, Wall: time.Now().UTC().Truncate(time.Millisecond)},
	}
	t.mu.Lock()
	t.conns, t.wait = append(t.conns, c), max(t.wait, s.Wait)
	t.mu.Unlock()
	t.done.Go(func() {
		c.seen.Heard = s.Run(ctx, c.conn)
		_ = c.conn.Close() // the client may have been first
	})
}

// connName names the nth connection of a trap in the evidence.
func connName(trap string, n int) string { return fmt.Sprintf("%s#%d", trap, n) }

// Close stops listening, waits until the connections have ended, for at most the wait of an engine and
// a second, and records them. A second call does nothing.
func (t *Trap) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	t.mu.Unlock()
	_ = t.listen.Close() // a full trap has closed it
	t.await()
	t.cancel()
	if t.broken != nil && !errors.Is(t.broken, net.ErrClosed) {
		return t.broken
	}
	for _, c := range t.conns {
		if err := c.conn.record(results.FromPeer); err != nil {
			return err
		}
		clipHeard(&c.seen.Heard)
		if err := t.env.Put(results.FromPeer, Overheard, c.seen); err != nil {
			return err
		}
	}
	return nil
}

// await waits for the connections and ends those that outlast their engine's wait.
func (t *Trap) await() {
	ended := make(chan struct{})
	go func() {
		t.done.Wait()
		close(ended)
	}()
	t.mu.Lock()
	late := time.NewTimer(t.wait + trapSlack)
	t.mu.Unlock()
	defer late.Stop()
	select {
	case <-ended:
		return
	case <-late.C:
	}
	t.cancel()
	t.mu.Lock()
	conns := slices.Clone(t.conns)
	t.mu.Unlock()
	for _, c := range conns {
		_ = c.conn.Close() // which ends the engine's reads
	}
	<-ended
}
