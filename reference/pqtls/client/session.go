package client

import (
	"crypto/tls"
	"sync"
)

// maxTickets bounds the tickets of a bucket: as many connections as can be resumed at once.
const maxTickets = 8

// tickets are the sessions of one bucket. Each is handed out once (RFC 9846 appendix C.4).
type tickets struct {
	mu     sync.Mutex
	held   []any // *tls.ClientSessionState or a session of package bent, oldest first
	forget bool  // the pool was closed or reset: what still comes is dropped
	reuse  bool  // planted: the first one is handed out for ever
}

// take returns the newest ticket, or nil.
func (t *tickets) take() any {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.held) == 0 {
		return nil
	}
	if t.reuse {
		return t.held[0]
	}
	last := len(t.held) - 1
	s := t.held[last]
	t.held[last] = nil
	t.held = t.held[:last]
	return s
}

func (t *tickets) add(s any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.forget {
		return
	}
	if len(t.held) == maxTickets {
		if t.reuse {
			return
		}
		copy(t.held, t.held[1:])
		t.held = t.held[:maxTickets-1]
	}
	t.held = append(t.held, s)
}

// drop forgets all tickets, and for ever also those that come later.
func (t *tickets) drop(forever bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held = nil
	t.forget = t.forget || forever
}

// sessionCache is the tls.ClientSessionCache of one connection: it offers one ticket, once, and
// collects what the server issues for the bucket that the connection ends up in. That is known only
// after the handshake, in which a server of TLS 1.2 sends its ticket.
type sessionCache struct {
	mu    sync.Mutex
	offer *tls.ClientSessionState
	early []*tls.ClientSessionState
	home  *tickets
}

// Get implements tls.ClientSessionCache.
func (s *sessionCache) Get(string) (*tls.ClientSessionState, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	offer := s.offer
	s.offer = nil
	return offer, offer != nil
}

// Put implements tls.ClientSessionCache. A nil session asks to forget one that was given away already.
func (s *sessionCache) Put(_ string, session *tls.ClientSessionState) {
	if session == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.home != nil:
		s.home.add(session)
	case len(s.early) < maxTickets:
		s.early = append(s.early, session)
	}
}

// settle names the bucket.
func (s *sessionCache) settle(home *tickets) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.home = home
	for _, session := range s.early {
		home.add(session)
	}
	s.early = nil
}
