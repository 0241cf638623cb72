package load

import (
	"context"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// How long to wait before a connection is made again that nothing was granted on.
const (
	leastBackoff = 100 * time.Millisecond
	mostBackoff  = time.Second
)

// lane is the arrivals of one connection of a Mux, and of those that come after it. The arrivals that are due and not yet
// written are two counters, and the few that a peer gave back.
type lane struct {
	s       *streams
	e       *engine
	m       *Mux
	index   int64 // request i of this lane is arrival index + i × stride
	stride  int64
	first   *link
	r       *recorder // of all its connections
	handed  atomic.Int64
	taken   atomic.Int64           // requests that a link has taken on, or that failed without one
	current atomic.Pointer[link]   // where further requests go; nil: there is no connection
	failure atomic.Pointer[string] // why there is none, as a kind of error; nil: one is being made

	mu    sync.Mutex
	again []int64 // arrivals that a peer gave back, guarded by mu
	left  atomic.Int32
	live  []*link // guarded by mu
	ends  string  // who dated the granted replies, guarded by mu
}

func newLane(s *streams, m *Mux, index int) *lane {
	return &lane{s: s, e: s.e, m: m, index: int64(index), stride: int64(m.Conns), r: s.e.recorder()}
}

func (c *lane) arrival(i int64) int64 { return c.index + i*c.stride }

// mine returns the arrival of an id that can be a request of this lane.
func (c *lane) mine(id uint64) (j int64, ok bool) {
	if id >= MaxArrivals {
		return 0, false
	}
	j, ok = c.e.stripe.local(int64(id))
	return j, ok && j < c.e.n && j%c.stride == c.index
}

// hand notes that requests below upTo are due and writes what the socket takes.
func (c *lane) hand(upTo int64) {
	c.handed.Store(upTo)
	if l := c.current.Load(); l != nil {
		l.push(c.s.sender)
	} else if why := c.failure.Load(); why != nil {
		c.fail(c.s.sender, *why)
	}
}

// due tells whether a request waits to be written.
func (c *lane) due() bool { return c.left.Load() > 0 || c.taken.Load() < c.handed.Load() }

// take returns the arrival of the next request that is due.
func (c *lane) take() (j int64, ok bool) {
	if c.left.Load() > 0 {
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.again) > 0 {
			j, c.again = c.again[0], c.again[1:]
			c.left.Add(-1)
			return j, true
		}
	}
	for {
		i := c.taken.Load()
		if i >= c.handed.Load() {
			return 0, false
		}
		if c.taken.CompareAndSwap(i, i+1) {
			return c.arrival(i), true
		}
	}
}

// giveBack takes a request that is to be written on the next connection.
func (c *lane) giveBack(j int64) {
	c.mu.Lock()
	c.again = append(c.again, j)
	c.left.Add(1)
	c.mu.Unlock()
}

// urge lets a newer connection than l write what came back.
func (c *lane) urge(l *link) {
	if next := c.current.Load(); next != nil && next != l {
		next.push(c.s.spare)
	}
}

// fail ends every request that waits.
func (c *lane) fail(r *recorder, why string) {
	for !c.e.ending.Load() {
		j, ok := c.take()
		if !ok {
			return
		}
		now := c.e.opt.now()
		c.e.table.stamp(j, now)
		c.e.finish(r, j, now, outcomeError, why)
	}
}

func (c *lane) links() []*link {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.live)
}

// start lets a link read and write; further requests go there.
func (c *lane) start(l *link) {
	c.s.running.Go(func() { l.readLoop(c.r) })
	c.s.running.Go(func() { l.writeLoop(c.r) })
	c.current.Store(l)
	l.push(c.r)
}

// gone takes a link out whose reader has ended.
func (c *lane) gone(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.live = slices.DeleteFunc(c.live, func(other *link) bool { return other == l })
	if l.granted.Load() {
		c.ends = bothEnds(c.ends, l.dated())
	}
}

// keep makes the connection again when it is lost or the peer leaves it, where the protocol can start anew.
func (c *lane) keep() {
	wait := time.Duration(0)
	for l := c.first; ; {
		select {
		case <-l.over:
		case <-c.s.ctx.Done():
			return
		}
		c.current.Store(nil)
		served := l.useful()
		if served {
			wait = 0
		}
		if c.m.Session == nil || !served {
			c.broken(l.why())
		}
		if c.m.Session == nil {
			return
		}
		conn := c.dial(&wait, !served)
		if conn == nil {
			return
		}
		l = newLink(c, conn)
		c.start(l)
		if c.s.ctx.Err() != nil {
			_ = conn.Close() // the run ended meanwhile, and may not have seen it
		}
	}
}

// broken lets what is due fail, until a connection is tried again.
func (c *lane) broken(why string) {
	c.failure.Store(&why)
	c.fail(c.r, why)
}

// dial makes a connection, however often it takes. What is due while none can be made fails. nil: the run is over.
func (c *lane) dial(wait *time.Duration, pause bool) net.Conn {
	for ctx := c.s.ctx; ; {
		if pause {
			*wait = min(max(2**wait, leastBackoff), mostBackoff)
			select {
			case <-time.After(*wait):
			case <-ctx.Done():
				return nil
			}
		}
		c.failure.Store(nil)
		limited, cancel := context.WithTimeout(ctx, readyWithin(c.e.opt))
		conn, err := c.m.Dial(limited, c.m.Addr)
		cancel()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case err == nil:
			return conn
		}
		c.broken(errorKind(err))
		pause = true
	}
}
