package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/pqtls"
)

// Bounds of a pool that no limit can lift.
const (
	maxBuckets = 256
	maxIdle    = 1024 // connections, in all buckets
)

// Limits bound what the pool keeps. Zero fields get the defaults named beside them.
type Limits struct {
	MaxIdle     int           // idle connections of a bucket; 8, at most 1,024
	MaxAge      time.Duration // of a connection, from its handshake; 10 min
	IdleTimeout time.Duration // without a request; 90 s
}

func (l Limits) withDefaults() Limits {
	l.MaxIdle = min(cmp.Or(l.MaxIdle, 8), maxIdle)
	l.MaxAge = cmp.Or(l.MaxAge, 10*time.Minute)
	l.IdleTimeout = cmp.Or(l.IdleTimeout, 90*time.Second)
	return l
}

// key names a bucket: connections and sessions are shared only inside one. Two dials that agree on
// address, name, protocols, class and policy may still trust differently, so trust is a part of it.
type key struct {
	address string
	sni     string
	alpn    string
	class   pqtls.Class
	policy  pqtls.Policy
	trust   string // digest of roots, clock, staple mode and client identity
}

// bucket holds what belongs to one key.
type bucket struct {
	idle    []*conn // oldest first
	tickets *tickets
	used    int // sequence number of the last use
}

// pool keeps connections and sessions. Connections are closed outside its lock.
type pool struct {
	cfg Config

	mu         sync.Mutex
	limits     Limits
	buckets    map[key]*bucket
	sequence   int
	generation int // grows with reset: older connections do not come back
	closed     bool
	open       map[*conn]struct{}
	readers    sync.WaitGroup
	counts     counts
}

func newPool(cfg Config) *pool {
	return &pool{cfg: cfg, limits: Limits{}.withDefaults(), buckets: make(map[key]*bucket),
		open: make(map[*conn]struct{}), counts: newCounts()}
}

// keyed applies the planted defects of the key.
func (p *pool) keyed(k key) key {
	if p.cfg.Defects.On(defect.PoolKeyWithoutAlpn) {
		k.alpn = ""
	}
	if p.cfg.Defects.On(defect.PoolKeyWithoutSni) {
		k.sni = ""
	}
	if p.cfg.Defects.On(defect.PoolKeyWithoutPolicy) {
		k.policy = ""
	}
	return k
}

// bucket returns the bucket of a key, which it makes if need be. The caller holds the lock and closes
// the returned connections, which lost their bucket.
func (p *pool) bucket(k key) (*bucket, []*conn) {
	p.sequence++
	if b, ok := p.buckets[k]; ok {
		b.used = p.sequence
		return b, nil
	}
	var homeless []*conn
	if len(p.buckets) >= maxBuckets {
		oldest := slices.MinFunc(slices.Collect(maps.Keys(p.buckets)), func(a, b key) int {
			return cmp.Compare(p.buckets[a].used, p.buckets[b].used)
		})
		homeless = p.empty(oldest)
		delete(p.buckets, oldest)
	}
	b := &bucket{used: p.sequence, tickets: &tickets{reuse: p.cfg.Defects.On(defect.PoolTicketReused)}}
	p.buckets[k] = b
	return b, homeless
}

// empty takes all idle connections out of a bucket.
func (p *pool) empty(k key) []*conn {
	b := p.buckets[k]
	taken := b.idle
	for _, c := range taken {
		c.stop()
	}
	b.idle = nil
	b.tickets.drop(true)
	return taken
}

// sessions returns the tickets of a bucket.
func (p *pool) sessions(k key) *tickets {
	k = p.keyed(k)
	if p.cfg.Defects.On(defect.PoolClassShared) {
		k.class, k.policy = pqtls.Classical, ""
	}
	p.mu.Lock()
	b, homeless := p.bucket(k)
	p.mu.Unlock()
	closeAll(homeless)
	return b.tickets
}

// ticket takes a session of the class that was reached last among those that may be, and says which.
func (p *pool) ticket(base key, classes []pqtls.Class) (any, pqtls.Class) {
	p.mu.Lock()
	ranked := slices.Clone(classes)
	recency := func(class pqtls.Class) int {
		k := base
		k.class = class
		if b, ok := p.buckets[p.keyed(k)]; ok {
			return b.used
		}
		return 0
	}
	slices.SortStableFunc(ranked, func(a, b pqtls.Class) int { return cmp.Compare(recency(b), recency(a)) })
	p.mu.Unlock()
	for _, class := range ranked {
		if t := p.known(base, class); t != nil {
			if s := t.take(); s != nil {
				return s, class
			}
		}
	}
	return nil, pqtls.Classical
}

// known returns the tickets of a bucket that exists; looking for one does not count as its use.
func (p *pool) known(base key, class pqtls.Class) *tickets {
	base.class = class
	k := p.keyed(base)
	if p.cfg.Defects.On(defect.PoolClassShared) {
		k.class, k.policy = pqtls.Classical, ""
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if b, ok := p.buckets[k]; ok {
		return b.tickets
	}
	return nil
}

// get takes an idle connection that suits, newest first, and proves that it is sound.
func (p *pool) get(ctx context.Context, base key, classes []pqtls.Class, suits func(*conn) bool) *conn {
	for _, class := range classes {
		for {
			c := p.pick(base, class, suits)
			if c == nil {
				break
			}
			if p.tooOld(c) {
				p.discard(c, closedAge)
				continue
			}
			if p.cfg.Defects.On(defect.PoolReusesBroken) && c.unused(true) || c.quiet(ctx) {
				return c
			}
			p.discard(c, closedError)
		}
	}
	return nil
}

func (p *pool) pick(base key, class pqtls.Class, suits func(*conn) bool) *conn {
	base.class = class
	k := p.keyed(base)
	p.mu.Lock()
	defer p.mu.Unlock()
	b, ok := p.buckets[k]
	if !ok {
		return nil
	}
	for i := len(b.idle) - 1; i >= 0; i-- {
		if c := b.idle[i]; suits(c) {
			b.idle = slices.Delete(b.idle, i, i+1)
			c.stop()
			p.sequence++
			b.used = p.sequence
			return c
		}
	}
	return nil
}

func (p *pool) tooOld(c *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.cfg.Defects.On(defect.PoolUnbounded) && p.cfg.Clock.Now().Sub(c.born) >= p.limits.MaxAge
}

// put gives a connection back, or closes it.
func (p *pool) put(c *conn) {
	tolerated := p.cfg.Defects.On(defect.PoolReusesBroken)
	if !c.unused(tolerated) || c.stream.SetWriteDeadline(time.Time{}) != nil {
		p.discard(c, closedError)
		return
	}
	surplus, why := p.keep(c)
	for _, s := range surplus {
		p.discard(s, why)
	}
	p.spoilt(c) // something may have come while the connection was on its way here
}

// keep makes a connection idle. It returns those to close: c itself, or one that it displaces.
func (p *pool) keep(c *conn) ([]*conn, closing) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.cfg.Clock.Now()
	unbounded := p.cfg.Defects.On(defect.PoolUnbounded)
	switch {
	case p.closed || c.generation != p.generation:
		return []*conn{c}, closedQuietly
	case !unbounded && now.Sub(c.born) >= p.limits.MaxAge:
		return []*conn{c}, closedAge
	case p.idleCount() >= maxIdle:
		return []*conn{c}, closedIdle
	}
	b, surplus := p.bucket(c.home)
	b.idle = append(b.idle, c)
	c.idleSince = now
	c.stop = p.arm(c, now)
	if !unbounded && len(b.idle) > p.limits.MaxIdle {
		first := b.idle[0]
		first.stop()
		b.idle = slices.Delete(b.idle, 0, 1)
		surplus = append(surplus, first)
	}
	return surplus, closedIdle
}

// arm starts the timer that ends an idle connection. The caller holds the lock.
func (p *pool) arm(c *conn, now time.Time) func() bool {
	if p.cfg.Defects.On(defect.PoolUnbounded) {
		return func() bool { return true }
	}
	left := min(c.idleSince.Add(p.limits.IdleTimeout).Sub(now), c.born.Add(p.limits.MaxAge).Sub(now))
	return p.cfg.Clock.AfterFunc(max(left, 0), func() { p.expire(c) })
}

// expire ends a connection whose timer ran out, if it is still idle.
func (p *pool) expire(c *conn) {
	p.mu.Lock()
	now := p.cfg.Clock.Now()
	aged := now.Sub(c.born) >= p.limits.MaxAge
	over := aged || now.Sub(c.idleSince) >= p.limits.IdleTimeout
	found := over && p.removeIdle(c)
	p.mu.Unlock()
	switch {
	case found && aged:
		p.discard(c, closedAge)
	case found:
		p.discard(c, closedIdle)
	}
}

// spoilt ends an idle connection that data or an error came in on. Others are their owner's business.
func (p *pool) spoilt(c *conn) {
	p.mu.Lock()
	// Looked at under the lock: what came in before may have been an answer that its owner took since.
	found := !c.unused(p.cfg.Defects.On(defect.PoolReusesBroken)) && p.removeIdle(c)
	p.mu.Unlock()
	if found {
		p.discard(c, closedError)
	}
}

// removeIdle takes a connection out of its bucket. The caller holds the lock.
func (p *pool) removeIdle(c *conn) bool {
	b, ok := p.buckets[c.home]
	if !ok {
		return false
	}
	i := slices.Index(b.idle, c)
	if i < 0 {
		return false
	}
	b.idle = slices.Delete(b.idle, i, i+1)
	c.stop()
	return true
}

func (p *pool) idleCount() int {
	n := 0
	for _, b := range p.buckets {
		n += len(b.idle)
	}
	return n
}

// adopt counts a connection in and starts its reader. It is false when the pool was closed meanwhile.
func (p *pool) adopt(c *conn, home key) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	c.home, c.generation = p.keyed(home), p.generation
	c.stop = func() bool { return true }
	c.notice, c.ended = p.spoilt, func() { p.gone(c) }
	p.open[c] = struct{}{}
	p.readers.Go(c.receive)
	return true
}

func (p *pool) gone(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
}

// discard closes a connection that is in nobody's hands and counts why.
func (p *pool) discard(c *conn, why closing) {
	p.mu.Lock()
	p.counts.closed(why)
	p.mu.Unlock()
	p.cfg.metrics.closed.WithLabelValues(why.String()).Inc()
	c.close()
}

// setLimits applies to connections that are idle already, too.
func (p *pool) setLimits(l Limits) {
	p.mu.Lock()
	p.limits = l.withDefaults()
	now := p.cfg.Clock.Now()
	var surplus []*conn
	for _, b := range p.buckets {
		for !p.cfg.Defects.On(defect.PoolUnbounded) && len(b.idle) > p.limits.MaxIdle {
			b.idle[0].stop()
			surplus = append(surplus, b.idle[0])
			b.idle = slices.Delete(b.idle, 0, 1)
		}
		for _, c := range b.idle {
			c.stop()
			c.stop = p.arm(c, now)
		}
	}
	p.mu.Unlock()
	for _, c := range surplus {
		p.discard(c, closedIdle)
	}
}

// reset closes what is idle, forgets sessions and counters. Connections in use end with their request.
func (p *pool) reset() {
	p.mu.Lock()
	p.generation++
	p.counts = newCounts()
	idle := p.clear()
	p.mu.Unlock()
	closeAll(idle)
}

func (p *pool) clear() []*conn {
	var idle []*conn
	for k := range p.buckets {
		idle = append(idle, p.empty(k)...)
	}
	clear(p.buckets)
	return idle
}

// close ends every connection, also those in use, and waits for their readers.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	_ = p.clear() // all of them are open
	open := slices.Collect(maps.Keys(p.open))
	p.mu.Unlock()
	closeAll(open)
	p.readers.Wait()
}

func closeAll(conns []*conn) {
	var all sync.WaitGroup
	for _, c := range conns {
		all.Go(c.close)
	}
	all.Wait()
}

// hasGroup reports whether a connection has one of the groups.
func hasGroup(groups []tls.CurveID, c *conn) bool { return slices.Contains(groups, c.group) }
