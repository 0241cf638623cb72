package pqtls

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/pqtls/bent"
	"github.com/assay-bench/assay/reference/pqtls/pki"
)

// acceptPause is the wait after a failed accept, which is most often a lack of file descriptors.
const acceptPause = 20 * time.Millisecond

// Server serves TLS on one listener.
type Server struct {
	cfg      Config
	tls      *tls.Config
	listener net.Listener
	counters *counters

	mu       sync.Mutex
	conns    map[*session]struct{}
	draining bool
	stopped  chan struct{} // closed when draining starts
	running  sync.WaitGroup
}

// New returns a server for l, which it owns from now on. Start it with Serve.
func New(l net.Listener, cfg Config) (*Server, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	counters, err := newCounters(cfg.Name, cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("pqtls: register metrics: %w", err)
	}
	cfg = cfg.planted()
	return &Server{cfg: cfg, tls: cfg.tlsConfig(), listener: l, counters: counters,
		conns: make(map[*session]struct{}), stopped: make(chan struct{})}, nil
}

// Addr returns the address of the listener.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Stats returns the counters. The caller owns the maps.
func (s *Server) Stats() Stats { return s.counters.snapshot() }

// Serve accepts connections until Shutdown or Close, after which it returns nil.
func (s *Server) Serve() error {
	for {
		conn, err := s.listener.Accept()
		switch {
		case err == nil:
			s.admit(conn)
		case s.isDraining():
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("pqtls: accept: %w", err)
		default:
			s.cfg.Logger.Warn("accept failed", "port", s.cfg.Name, "err", err)
			select {
			case <-s.stopped:
				return nil
			case <-time.After(acceptPause):
			}
		}
	}
}

// admit starts serving a connection, or closes it.
func (s *Server) admit(conn net.Conn) {
	if s.cfg.Defects.On(defect.TLSAbsent) {
		_ = conn.Close()
		return
	}
	c := &session{server: s, raw: conn, bent: bent.Needs(s.cfg.Defects)}
	s.mu.Lock()
	full := len(s.conns) >= s.cfg.MaxConnections
	if full || s.draining {
		s.mu.Unlock()
		_ = conn.Close()
		if full {
			s.counters.reject()
		}
		return
	}
	s.conns[c] = struct{}{}
	s.running.Add(1)
	s.mu.Unlock()
	s.counters.open.Inc()
	go s.run(c)
}

func (s *Server) run(c *session) {
	defer s.running.Done()
	defer s.counters.open.Dec()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, c)
	}()
	if c.bent {
		s.serveBent(c.raw)
		return
	}
	c.serve()
}

// serveBent hands a connection to the implementation that has the planted defect.
func (s *Server) serveBent(conn net.Conn) {
	cfg, err := s.bentConfig()
	if err != nil {
		_ = conn.Close()
		s.counters.failure("internal_error")
		s.cfg.Logger.Error("no certificate", "port", s.cfg.Name, "err", err)
		return
	}
	established := false
	cfg.Established = func(state bent.State) {
		established = true
		s.count(reached{group: state.Group, retry: state.Retry, resumed: state.Resumed})
	}
	if err := bent.Serve(conn, cfg); err != nil && !established {
		s.counters.failure("protocol")
	}
}

func (s *Server) bentConfig() (bent.ServerConfig, error) {
	cfg := bent.ServerConfig{
		Groups: s.cfg.Groups, ALPN: s.cfg.ALPN,
		RequireClientCert: s.cfg.RequireClientCert, ClientRoots: s.cfg.ClientCAs,
		TLS12: s.cfg.MinVersion <= tls.VersionTLS12, Tickets: !s.cfg.TicketsDisabled,
		Defects: s.cfg.Defects, Deadline: s.cfg.HandshakeDeadline,
	}
	for _, source := range s.cfg.Certificates {
		if source.Kind() == pki.RSA && len(s.cfg.Certificates) > 1 {
			continue // keys that take a second to make, for clients that no planted defect is about
		}
		cert, err := source.Certificate()
		if err != nil {
			return bent.ServerConfig{}, err
		}
		cfg.Certificates = append(cfg.Certificates, *cert)
	}
	if s.cfg.Stapler != nil {
		leaf := cfg.Certificates[0].Leaf
		cfg.Staple = func() []byte { return s.cfg.Stapler.Staple(leaf) }
	}
	return cfg, nil
}

// count counts a finished handshake and tells of a downgrade.
func (s *Server) count(r reached) {
	offers := slices.ContainsFunc(s.cfg.Groups, func(g tls.CurveID) bool { return ClassOf(g) == PQ })
	r.downgrade = offers && ClassOf(r.group) == Classical
	s.counters.finished(r)
	if r.downgrade {
		s.cfg.Logger.Info("classical key exchange", "port", s.cfg.Name, "group", GroupName(r.group))
	}
}

// Shutdown stops accepting, lets handshakes and echoes under way finish, closes idle connections with
// close_notify and waits. When ctx ends first the rest is closed at once and its error returned.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.drain()
	done := make(chan struct{})
	go func() { s.running.Wait(); close(done) }()
	select {
	case <-done:
		return err
	case <-ctx.Done():
		s.closeAll()
		<-done
		return errors.Join(err, ctx.Err())
	}
}

// Close stops accepting, closes every connection and waits for the end of their goroutines.
func (s *Server) Close() error {
	err := s.drain()
	s.closeAll()
	s.running.Wait()
	return err
}

// drain closes the listener and wakes idle connections, once.
func (s *Server) drain() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return nil
	}
	s.draining = true
	close(s.stopped)
	err := s.listener.Close() // before a client hears of the end and comes again
	for c := range s.conns {
		c.wake()
	}
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("pqtls: close the listener: %w", err)
	}
	return nil
}

func (s *Server) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.raw.Close() // its goroutine sees the error
	}
}

func (s *Server) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}
