package proto

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/assay-bench/assay/scenarios/load"
	"github.com/assay-bench/assay/scenarios/load/arrival"
)

// parties are the connections that the users of a closed model share.
type parties struct{ list []*party }

func newParties(n int, dial load.Dialer, addr string, open func() load.Session) *parties {
	ps := &parties{}
	for range n {
		ps.list = append(ps.list, &party{dial: dial, addr: addr, open: open})
	}
	return ps
}

func (ps *parties) caller(i int) load.Caller {
	return &guest{party: ps.list[i%len(ps.list)], answer: make(chan answer, 1)}
}

func (ps *parties) close() {
	for _, p := range ps.list {
		p.mu.Lock()
		if p.at != nil {
			p.at.end(errClosed)
		}
		p.mu.Unlock()
	}
}

var errClosed = errors.New("the load is over")

// party is one connection, made when somebody needs it.
type party struct {
	dial load.Dialer
	addr string
	open func() load.Session

	mu sync.Mutex // guards at, and is held while a connection is made
	at *joint
}

// joint is a connection while it lasts.
type joint struct {
	conn, in net.Conn
	session  load.Session
	writing  sync.Mutex    // guards the session's side that writes
	buffer   []byte        // guarded by writing
	want     chan struct{} // the session has something to write
	over     chan struct{} // closed when the connection takes no more requests
	ended    chan struct{} // closed when the reader has ended

	mu      sync.Mutex // guards the rest
	waiting map[uint64]chan answer
	room    chan struct{} // closed and made anew when requests have ended
	cause   error
}

type answer struct {
	fault string
	lost  error
	at    time.Time // when it came in
}

// join returns the connection, and makes one where there is none that takes requests.
func (p *party) join(ctx context.Context) (*joint, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.at != nil {
		select {
		case <-p.at.over:
		default:
			return p.at, nil
		}
	}
	conn, err := p.dial(ctx, p.addr)
	if err != nil {
		return nil, err
	}
	j := &joint{
		conn: conn, in: arrival.Of(conn), session: p.open(), want: make(chan struct{}, 1), over: make(chan struct{}), ended: make(chan struct{}),
		waiting: map[uint64]chan answer{}, room: make(chan struct{}),
	}
	go j.write()
	go j.read()
	j.urge()
	p.at = j
	return j, nil
}

// urge lets the writer look.
func (j *joint) urge() {
	select {
	case j.want <- struct{}{}:
	default: // it will look anyway
	}
}

// write writes what the session says of itself. The reader must not: a peer that waits for us to read would wait for ever.
func (j *joint) write() {
	for {
		select {
		case <-j.want:
		case <-j.ended:
			return
		}
		j.writing.Lock()
		var err error
		for j.buffer = j.session.Control(j.buffer[:0]); len(j.buffer) > 0 && err == nil; j.buffer = j.session.Control(j.buffer[:0]) {
			_, err = j.conn.Write(j.buffer)
		}
		j.session.Back(j.givenBack)
		j.writing.Unlock()
		if err != nil {
			j.end(err)
		}
	}
}

// read reads until the connection ends.
func (j *joint) read() {
	j.end(j.replies())
	_ = j.conn.Close() // it is of no more use, and who writes sees it
	close(j.ended)
	j.writing.Lock()
	j.session.Back(j.givenBack)
	j.writing.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	for id, to := range j.waiting {
		to <- answer{lost: j.cause}
		delete(j.waiting, id)
	}
}

func (j *joint) givenBack(id uint64) { j.tell(id, answer{lost: load.ErrLeft}) }

func (j *joint) replies() error {
	buf, have := make([]byte, 16<<10), 0
	for {
		n, err := j.in.Read(buf[have:])
		if have += n; n > 0 {
			at := time.Now().Add(-arrival.Since(j.in))
			t, err := j.session.Read(buf[:have], func(e load.Ending) { j.tell(e.ID, answer{fault: e.Fault, at: at}) })
			if err != nil {
				return err
			}
			have = copy(buf, buf[t.Bytes:have])
			if t.Write || t.Leaving {
				j.moved(t.Leaving)
			}
			if t.Leaving && t.Open == 0 {
				return load.ErrLeft
			}
		}
		if err != nil {
			return err
		}
		if have == len(buf) {
			buf = append(buf, make([]byte, have)...) // a session takes whole frames, which are bounded
		}
	}
}

// tell hands the end of a request to who waits for it.
func (j *joint) tell(id uint64, a answer) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if to, ok := j.waiting[id]; ok {
		to <- a // never blocks: one answer for each request
		delete(j.waiting, id)
	}
}

// moved tells those who wait for room, and the writer, that the peer has spoken.
func (j *joint) moved(leaving bool) {
	j.mu.Lock()
	close(j.room)
	j.room = make(chan struct{})
	if leaving {
		j.shut()
	}
	j.mu.Unlock()
	j.urge()
}

// shut lets the next request go elsewhere; with mu held.
func (j *joint) shut() {
	select {
	case <-j.over:
	default:
		close(j.over)
	}
}

// end lets the connection end soon.
func (j *joint) end(cause error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.cause == nil {
		j.cause = cause
	}
	j.shut()
	_ = j.conn.SetReadDeadline(time.Now().Add(load.LastWords)) // the reader sees it and closes
}

// guest makes one request at a time on the connection of its party.
type guest struct {
	party  *party
	answer chan answer
	age    time.Duration
}

// Age tells how long ago the reply to the last call came in.
func (g *guest) Age() time.Duration { return g.age }

// maxJoins is how many connections a request is offered to whose peers leave without looking at it.
const maxJoins = 10

func (g *guest) Call(ctx context.Context, id uint64) error {
	g.age = 0
	for range maxJoins {
		j, err := g.party.join(ctx)
		if err != nil {
			return err
		}
		sent, err := g.send(ctx, j, id)
		if err != nil {
			return err
		}
		if !sent {
			continue // the peer is leaving: once more on another connection
		}
		select {
		case a := <-g.answer:
			switch {
			case errors.Is(a.lost, load.ErrLeft):
				continue
			case a.lost != nil:
				return a.lost
			}
			if g.age = time.Since(a.at); a.fault != "" {
				return errors.New(a.fault)
			}
			return nil
		case <-ctx.Done():
			j.abandon(id)
			g.forget()
			return ctx.Err()
		}
	}
	return load.ErrLeft
}

// send writes the request when the peer allows it; sent is false when the connection takes no more.
func (g *guest) send(ctx context.Context, j *joint, id uint64) (sent bool, err error) {
	for {
		j.mu.Lock()
		room := j.room
		j.mu.Unlock()
		if sent, ready := g.try(j, id); ready {
			return sent, nil
		}
		select {
		case <-room:
		case <-j.over:
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// try sends the request unless the peer allows none now.
func (g *guest) try(j *joint, id uint64) (sent, ready bool) {
	j.writing.Lock()
	defer j.writing.Unlock()
	if !j.session.Ready() {
		return false, false
	}
	j.mu.Lock()
	if j.cause != nil { // lost before anything was sent
		j.mu.Unlock()
		return false, true
	}
	j.waiting[id] = g.answer
	j.mu.Unlock()
	j.buffer = j.session.Control(j.buffer[:0])
	out, ok := j.session.Request(j.buffer, id)
	j.buffer = out
	if !ok {
		j.mu.Lock()
		delete(j.waiting, id)
		j.mu.Unlock()
		g.forget()
	}
	if len(out) > 0 {
		if _, err := j.conn.Write(out); err != nil {
			j.end(err) // who waits is told by the reader
		}
	}
	return ok, true
}

// forget takes an answer that came too late.
func (g *guest) forget() {
	select {
	case <-g.answer:
	default:
	}
}

// abandon gives a request up.
func (j *joint) abandon(id uint64) {
	j.mu.Lock()
	delete(j.waiting, id)
	j.mu.Unlock()
	j.session.Each(func(other uint64) bool { return other == id })
	j.moved(false)
}
