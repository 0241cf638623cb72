// Package server is the RPC server: one port on which the first bytes of a connection choose between
// HTTP/2, which goes to the gRPC face, and the Thrift forms, which are served here. Every call is
// answered in the form it came in. Calls of one connection run one after another, so replies are in
// request order.
//
// It refuses what it cannot prove consistent, and keeps a connection only if the next call can be
// found for certain. An unknown TTHeader info id is an error (reason "info-block"): the length of an
// unknown block is unknown as well.
//
// Tried: a goroutine for every pipelined call. Lost: replies needed a reorder buffer whose size the
// peer controls.
package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/rpc/behave"
	"github.com/assay-bench/assay/reference/rpc/grpcface"
	"github.com/assay-bench/assay/reference/rpc/obs"
	"github.com/assay-bench/assay/reference/rpc/port"
	"github.com/assay-bench/assay/reference/rpc/wire"
)

// Config configures a Server. Zero fields get the defaults named beside them.
type Config struct {
	Defects        defect.Set
	ReadDeadline   time.Duration         // from accept to the end of the first frame, and for a begun frame; 5 s
	IdleTimeout    time.Duration         // between calls; 10 min
	WriteDeadline  time.Duration         // for one write of replies; 10 s
	MaxFrame       int                   // bytes of a frame or message; 16 MiB
	MaxConnections int                   // more are closed at accept; 4096
	Behave         *behave.Service       // a new one
	Registerer     prometheus.Registerer // a registry of its own
	Exit           func(code int)        // os.Exit; called by the planted defect PanicKills alone
}

func (c Config) withDefaults() Config {
	c.ReadDeadline = orDefault(c.ReadDeadline, 5*time.Second)
	c.IdleTimeout = orDefault(c.IdleTimeout, 10*time.Minute)
	c.WriteDeadline = orDefault(c.WriteDeadline, 10*time.Second)
	c.MaxFrame = orDefault(c.MaxFrame, wire.DefaultMaxFrame)
	c.MaxConnections = orDefault(c.MaxConnections, 4096)
	if c.Behave == nil {
		c.Behave = behave.New()
	}
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
	if c.Exit == nil {
		c.Exit = os.Exit
	}
	return c
}

func orDefault[T time.Duration | int](v, standard T) T {
	if v == 0 {
		return standard
	}
	return v
}

// Server serves one listener.
type Server struct {
	cfg          Config
	rules        wire.Rules
	readDeadline time.Duration // as the planted defects leave it; 0 is none
	metrics      *obs.Metrics
	grpc         *grpcface.Face
	grpcConns    *port.Queue
	listener     net.Listener
	ctx          context.Context // of every handler; ends with the server
	cancel       context.CancelFunc
	draining     atomic.Bool
	echoCalls    atomic.Int64 // only for defects that concern every n-th call

	mu    sync.Mutex
	conns map[*conn]struct{}
	loops sync.WaitGroup
}

// New returns a server for l, which it owns from now on. Start it with Serve.
func New(l net.Listener, cfg Config) (*Server, error) {
	cfg = cfg.withDefaults()
	if cfg.MaxFrame < 64 || cfg.ReadDeadline < 0 || cfg.IdleTimeout < 0 || cfg.MaxConnections < 0 {
		return nil, fmt.Errorf("rpc server: negative limit, or frames of less than 64 bytes")
	}
	metrics, err := obs.New(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("rpc server: register metrics: %w", err)
	}
	s := &Server{
		cfg: cfg, metrics: metrics, listener: l,
		rules:        wire.NewRules(cfg.MaxFrame, cfg.Defects),
		readDeadline: plantedDeadline(cfg),
		grpcConns:    port.NewQueue(l.Addr()),
		conns:        make(map[*conn]struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.grpc = grpcface.New(grpcface.Config{
		Defects: cfg.Defects, Behave: cfg.Behave, Metrics: metrics,
		MaxMessage: cfg.MaxFrame, HandshakeTimeout: cfg.ReadDeadline, CloseConn: s.closeFrom,
	})
	return s, nil
}

func plantedDeadline(cfg Config) time.Duration {
	switch {
	case cfg.Defects.On(defect.NoReadDeadline):
		return 0
	case cfg.Defects.On(defect.DeadlineEarly):
		return cfg.ReadDeadline / 4
	case cfg.Defects.On(defect.DeadlineLate):
		return cfg.ReadDeadline * 3
	}
	return cfg.ReadDeadline
}

// frameDeadline is the deadline of a frame that begins now; zero is none.
func (s *Server) frameDeadline() time.Time {
	if s.readDeadline == 0 {
		return time.Time{}
	}
	return time.Now().Add(s.readDeadline)
}

// Addr returns the listener's address.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Config returns the effective configuration.
func (s *Server) Config() Config { return s.cfg }

// Serve accepts connections until Shutdown or Close. It returns nil then, and the listener's error
// otherwise.
func (s *Server) Serve() error {
	if !s.begin() {
		return nil
	}
	for {
		nc, err := s.listener.Accept()
		if err == nil {
			s.admit(nc)
			continue
		}
		if s.draining.Load() || s.ctx.Err() != nil {
			return nil
		}
		var temporary net.Error
		if !errors.As(err, &temporary) || errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("rpc server: accept: %w", err)
		}
		if behave.Wait(s.ctx, 10*time.Millisecond) != nil { // out of descriptors: others must close first
			return nil
		}
	}
}

// admit serves a connection, or closes it if there are too many.
func (s *Server) admit(nc net.Conn) {
	c := newConn(s, nc)
	s.mu.Lock()
	full := len(s.conns) >= s.cfg.MaxConnections || s.draining.Load()
	if !full {
		s.conns[c] = struct{}{}
		s.loops.Add(1) // under the lock: a drain that sees no connection may already wait
	}
	s.mu.Unlock()
	if full {
		s.metrics.Rejected()
		_ = nc.Close()
		return
	}
	s.metrics.Opened()
	go func() {
		defer s.loops.Done()
		c.serve()
	}()
}

// forget counts a closed connection out. It may be called twice.
func (s *Server) forget(c *conn) {
	s.mu.Lock()
	_, known := s.conns[c]
	delete(s.conns, c)
	s.mu.Unlock()
	if known {
		s.metrics.Closed()
	}
}

// each calls f for every open connection.
func (s *Server) each(f func(*conn)) {
	s.mu.Lock()
	open := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		open = append(open, c)
	}
	s.mu.Unlock()
	for _, c := range open {
		f(c)
	}
}

// closeFrom closes the connection of a peer; only planted defects ask for it.
func (s *Server) closeFrom(peer string) {
	s.each(func(c *conn) {
		if c.nc.RemoteAddr().String() == peer {
			_ = c.nc.Close()
		}
	})
}

// dropAfterStalls is the planted defect DropsAfterStall: a gap in its own clock makes the server
// close everything, and whatever it accepts within the next 0.3 s: connections may have been waiting.
func (s *Server) dropAfterStalls() {
	const sulk = 300 * time.Millisecond
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	last, until := time.Now(), time.Time{}
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-ticker.C:
		}
		now := time.Now()
		if now.Sub(last) > 250*time.Millisecond { // a busy host stalls for less
			until = now.Add(sulk)
		}
		if now.Before(until) {
			s.each(func(c *conn) { _ = c.nc.Close() })
		}
		last = now
	}
}

// NotReady tells gRPC health clients that the server is about to stop.
func (s *Server) NotReady() { s.grpc.NotReady() }

// begin starts what runs beside the accept loop, unless a drain has begun: it may already wait for the loops.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining.Load() {
		return false
	}
	s.loops.Go(func() { _ = s.grpc.Serve(s.grpcConns) }) // ends with the queue
	if s.cfg.Defects.On(defect.DropsAfterStall) {
		s.loops.Go(s.dropAfterStalls)
	}
	return true
}

// Shutdown stops accepting, closes idle connections, lets calls in flight finish, and closes what is
// left when ctx ends. Its error is ctx's if calls were cut off. The server is closed afterwards.
func (s *Server) Shutdown(ctx context.Context) error {
	s.draining.Store(true)
	_ = s.listener.Close() // Serve ends on it
	if s.cfg.Defects.On(defect.DrainDropsInflight) {
		s.Close()
		return nil
	}
	s.NotReady()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		s.each((*conn).closeIfIdle)
		s.grpc.Drain() // closes the queue
		s.loops.Wait()
	}()
	select {
	case <-drained:
		s.Close()
		return nil
	case <-ctx.Done():
		s.Close()
		<-drained
		return ctx.Err()
	}
}

// Close ends everything at once and returns when no goroutine of the server is left.
func (s *Server) Close() {
	s.draining.Store(true)
	s.cancel()
	_ = s.listener.Close()
	_ = s.grpcConns.Close()
	s.each(func(c *conn) { _ = c.nc.Close() })
	s.grpc.Stop()
	s.loops.Wait()
}
