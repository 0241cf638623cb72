package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	maxConns     = 65_536
	firstBuffer  = 16 << 10
	maxReplySize = 1 << 20 // largest unfinished reply kept for one connection
)

// Dialer opens one connection.
type Dialer func(ctx context.Context, addr string) (net.Conn, error)

// Mux sends this node's arrival j on connection j mod Conns without waiting for replies.
// The pacer itself writes to the socket; what a full socket does not take goes
// out from a goroutine of the connection as soon as there is room.
type Mux struct {
	// Codec is the protocol of every connection. A connection that is lost stays lost: its further
	// arrivals are errors.
	Codec Codec
	// Session, where set in place of Codec, opens the protocol of one connection. A connection that is lost, or that
	// the peer leaves, is made again.
	Session func() Session
	Dial    Dialer
	Addr    string
	Conns   int
}

func (*Mux) mode() string { return "async" }

func (m *Mux) open(ctx context.Context, e *engine) (transport, error) {
	if m.Conns < 1 || m.Conns > maxConns {
		return nil, fmt.Errorf("load mux: %d connections, want 1 to %d", m.Conns, maxConns)
	}
	s := &streams{e: e, sender: e.recorder(), spare: e.recorder()}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	for i := range m.Conns {
		conn, err := m.Dial(ctx, m.Addr)
		if err != nil {
			s.cancel()
			return nil, errors.Join(fmt.Errorf("load mux: dial connection %d to %s: %w", i, m.Addr, err), s.close())
		}
		c := newLane(s, m, i)
		c.first = newLink(c, conn)
		s.list = append(s.list, c)
	}
	for _, c := range s.list {
		c.start(c.first)
		s.running.Go(c.keep)
	}
	sweeper := e.recorder()
	s.running.Go(func() { s.sweepLoop(sweeper) })
	if m.Session != nil {
		s.greet(ctx)
	}
	return s, nil
}

// greet waits until every peer has said that it speaks the protocol, or can not: no arrival shall be late for that.
func (s *streams) greet(ctx context.Context) {
	limit := time.NewTimer(readyWithin(s.e.opt))
	defer limit.Stop()
	for _, c := range s.list {
		select {
		case <-c.first.spoke:
		case <-c.first.over:
		case <-limit.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// streams is the transport of a Mux.
type streams struct {
	e       *engine
	list    []*lane
	sender  *recorder       // of the pacer's thread, for requests that fail at once
	spare   *recorder       // for those that came back
	ctx     context.Context // ends with the run
	cancel  context.CancelFunc
	running sync.WaitGroup
}

func (s *streams) hand(j, _ int64, _ bool) int64 {
	n := int64(len(s.list))
	s.list[j%n].hand(j/n + 1)
	return 1
}

func (s *streams) handedAll() {}

func (s *streams) stop() error {
	s.cancel()
	// Errors of closing say nothing about the requests; they are accounted.
	_ = s.close()
	s.running.Wait()
	return nil
}

func (s *streams) ends() (who string) {
	for _, c := range s.list {
		if c.ends != "" {
			who = bothEnds(who, c.ends)
		}
	}
	return who
}

func (s *streams) close() error {
	var errs []error
	for _, c := range s.list {
		for _, l := range c.links() {
			errs = append(errs, l.conn.Close())
		}
	}
	return errors.Join(errs...)
}

// readyWithin is how long a peer may take to say that it speaks the protocol.
func readyWithin(opt Options) time.Duration { return min(opt.Timeout, 5*time.Second) }

var errNotReady = errors.New("the peer does not say that it speaks the protocol")

// sweepLoop turns requests without a reply into timeouts.
func (s *streams) sweepLoop(r *recorder) {
	tick := time.NewTicker(sweepEvery(s.e.opt.Timeout))
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
			for _, c := range s.list {
				for _, l := range c.links() {
					l.sweep(r, s.e.opt.now())
				}
			}
		}
	}
}
