// Package face puts the WebAssembly sandbox on loopback ports: an HTTP API of tenants, modules and
// calls, and the data plane of the proxy with its filters. It decides nothing about modules: admission,
// quotas and traps are the engine's, and the API says what the engine said.
package face

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/sandbox/proxywasm"
)

// maxConnections bounds the connections of each port.
const maxConnections = 256

// Time-outs of both ports. A port has no deadline for a whole request: handlers set their own, and a
// stream may last as long as it moves.
const (
	headerTimeout = 5 * time.Second
	idleTimeout   = time.Minute
)

// Config configures a Face. Zero fields get the defaults named beside them.
type Config struct {
	Defects    defect.Set            // none
	Registerer prometheus.Registerer // a registry of its own
	Logger     *slog.Logger          // discards
	Dir        string                // of compiled modules, kept at Close; a private one, removed at Close
}

// Addresses are the host:port addresses of the listeners.
type Addresses struct {
	API   string // tenants, modules, calls
	Proxy string // data plane: requests pass a Proxy-Wasm filter on their way to the upstream
}

// Face is the running sandbox with its two ports.
type Face struct {
	cfg       Config
	addresses Addresses
	servers   []*http.Server
	core      core
	proxy     *proxywasm.Proxy
	large     chan struct{} // a place for each large body in memory
	loading   sync.Mutex    // one filter at a time
	loaded    atomic.Uint64 // version of the filter that serves; 0 is none
	measuring sync.Mutex    // one measurement of cold starts at a time

	ctx    context.Context // of every request
	cancel context.CancelFunc
	loops  sync.WaitGroup
	failed chan error
	once   sync.Once

	mu     sync.Mutex // of closed, and of additions to calls
	closed bool
	calls  sync.WaitGroup
}

// Start returns once both ports accept connections. The engine is made by the first request that needs
// it, so that a process that runs no module pays nothing. Ctx bounds the start alone; end with Shutdown
// or Close.
func Start(ctx context.Context, cfg Config) (*Face, error) {
	cfg = withDefaults(cfg)
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := newFace(run, cancel, cfg)
	f.core.open = opener(run, cfg)
	if err := f.start(ctx); err != nil {
		f.Close()
		return nil, fmt.Errorf("sandbox face: %w", err)
	}
	return f, nil
}

func withDefaults(cfg Config) Config {
	if cfg.Registerer == nil {
		cfg.Registerer = prometheus.NewRegistry()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return cfg
}

func newFace(ctx context.Context, cancel context.CancelFunc, cfg Config) *Face {
	return &Face{cfg: cfg, ctx: ctx, cancel: cancel, large: make(chan struct{}, maxLarge), failed: make(chan error, 2)}
}

func (f *Face) start(ctx context.Context) error {
	var err error
	f.proxy = proxywasm.NewProxy(proxywasm.Config{Defects: f.cfg.Defects, Registerer: f.cfg.Registerer})
	if f.addresses.API, err = f.listen(ctx, f.api()); err != nil {
		return fmt.Errorf("api port: %w", err)
	}
	if f.addresses.Proxy, err = f.listen(ctx, f.bounded(f.proxy)); err != nil {
		return fmt.Errorf("proxy port: %w", err)
	}
	return nil
}

func (f *Face) listen(ctx context.Context, handler http.Handler) (string, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{
		Handler:           f.counted(handler),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(f.cfg.Logger.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return f.ctx },
	}
	f.servers = append(f.servers, server)
	f.loops.Go(func() {
		if err := server.Serve(netutil.LimitListener(l, maxConnections)); !errors.Is(err, http.ErrServerClosed) {
			f.failed <- err // each port fails once at most, and there is room for both
		}
	})
	return l.Addr().String(), nil
}

// counted lets Close wait for requests that are under way.
func (f *Face) counted(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !f.enter() {
			answerProblem(w, problem{Status: http.StatusServiceUnavailable, Detail: "the sandbox is closing"})
			return
		}
		defer f.calls.Done()
		handler.ServeHTTP(w, r)
	})
}

func (f *Face) enter() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.calls.Add(1)
	}
	return !f.closed
}

// bounded gives a request of the data plane a time to arrive and to be answered.
func (f *Face) bounded(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		end := time.Now().Add(proxyTimeout)
		control := http.NewResponseController(w)
		// both are best effort: a connection that is gone answers nobody
		_ = control.SetReadDeadline(end)
		_ = control.SetWriteDeadline(end)
		handler.ServeHTTP(w, r)
	})
}

// proxyTimeout bounds an exchange of the data plane, the upstream's part included.
const proxyTimeout = 30 * time.Second

// Addresses returns where the face listens.
func (f *Face) Addresses() Addresses { return f.addresses }

// Failed delivers the error of a listener that ended without being asked to.
func (f *Face) Failed() <-chan error { return f.failed }

// Shutdown lets requests under way finish until ctx ends, then closes everything. Its error tells that
// some were cut off.
func (f *Face) Shutdown(ctx context.Context) error {
	errs := make([]error, len(f.servers))
	var all sync.WaitGroup
	for i, server := range f.servers {
		all.Go(func() { errs[i] = server.Shutdown(ctx) })
	}
	all.Wait()
	errs = append(errs, f.proxy.Close(ctx))
	f.Close()
	return errors.Join(errs...)
}

// Close ends everything at once and returns when no goroutine of the face is left: guests that run are
// stopped, connections cut and the private folder removed. It may be called more than once.
func (f *Face) Close() {
	f.once.Do(func() {
		f.mu.Lock()
		f.closed = true
		f.mu.Unlock()
		f.cancel()
		for _, server := range f.servers {
			_ = server.Close() // what it was doing is cut off on purpose
		}
		f.calls.Wait()
		if f.proxy != nil {
			_ = f.proxy.Close(f.ctx) // the context has ended: filters are freed at once
		}
		if err := f.core.close(); err != nil {
			f.cfg.Logger.Warn("closing the sandbox", "error", err)
		}
	})
	f.loops.Wait()
}
