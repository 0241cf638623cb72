package tls

import (
	"crypto/hmac"
	"slices"
	"sync"
)

// maxSessions bounds a SessionBook; the oldest ticket goes first.
const maxSessions = 1024

// SessionBook holds the tickets that servers issued. It is safe for concurrent use. A ticket can be used
// any number of times and under any group: whether a client does so is for the judge.
type SessionBook struct {
	mu      sync.Mutex
	entries map[string]bookEntry
	order   []string
}

type bookEntry struct {
	secret []byte
	suite  Suite
	group  Group
}

// NewSessionBook gives an empty book.
func NewSessionBook() *SessionBook { return &SessionBook{entries: map[string]bookEntry{}} }

func (b *SessionBook) add(ticket []byte, e bookEntry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, known := b.entries[string(ticket)]; !known {
		b.order = append(b.order, string(ticket))
	}
	b.entries[string(ticket)] = e
	if len(b.order) > maxSessions {
		delete(b.entries, b.order[0])
		b.order = b.order[1:]
	}
}

func (b *SessionBook) find(ticket []byte) (bookEntry, bool) {
	if b == nil {
		return bookEntry{}, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	e, ok := b.entries[string(ticket)]
	return e, ok
}

// resume looks for a ticket of the client that the book knows and the suite allows, and checks its binder.
func (r *serverRun) resume() error {
	e, ok := r.hello.Find(extPSK)
	if !ok {
		return nil
	}
	tickets, binders, whole := readTickets(e.Data)
	if !whole || len(tickets) != len(binders) {
		return r.refuse(decodeError, "malformed pre_shared_key")
	}
	for i, t := range tickets {
		known, ok := r.s.Sessions.find(t)
		if !ok {
			continue
		}
		if r.heard.TicketGroup == 0 {
			r.heard.TicketGroup = known.group
		}
		b, _ := algorithmsOf(known.suite)
		if b.size != r.algo.size || !slices.Contains(r.modes(), 1) {
			continue
		}
		return r.take(i, known, binders)
	}
	return nil
}

func (r *serverRun) modes() []uint8 { return seeHello(r.hello, 0).Modes }

func (r *serverRun) take(i int, known bookEntry, binders [][]byte) error {
	raw := r.script.b
	cut := raw[:max(0, len(raw)-bindersLength(binders))]
	if !hmac.Equal(binders[i], r.algo.binder(known.secret, cut)) {
		return r.refuse(decryptError, "the binder does not verify")
	}
	r.psk, r.chosen, r.heard.Resumed = known.secret, i, true
	return nil
}

// issue writes the tickets. Their names come from the connection's own secrets, so that two connections
// with one seed do not issue the same.
func (r *serverRun) issue() {
	master := r.sched.derive("res master", r.script.b)
	var out []byte
	for i := range min(r.s.Tickets, 64) {
		nonce := []byte{byte(i)}
		ticket := r.algo.expand(master, "prober ticket", nonce, 32)
		body := append32(append32(nil, 7200), uint32(i)*0x01010101+7)
		body = appendVec16(appendVec8(body, nonce), ticket)
		out = append(out, r.l.frame(recordHandshake, message(msgTicket, appendVec16(body, nil)))...)
		if r.s.Sessions != nil {
			r.s.Sessions.add(ticket, bookEntry{r.algo.resumption(master, nonce), r.suite, r.named})
		}
	}
	r.l.write(out)
}
