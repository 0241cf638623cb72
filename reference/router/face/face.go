// Package face puts the router on loopback ports: an HTTP port with the API of routers and the
// OpenAI-compatible one, and a gRPC port. It decides nothing: what the router said is what the faces say.
package face

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"
	"google.golang.org/grpc"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/router"
)

// maxConnections bounds the connections of each port.
const maxConnections = 512

// Time-outs of the HTTP port. It has no deadline for a whole request: handlers set their own, and a stream may
// last as long as it moves.
const (
	headerTimeout = 5 * time.Second
	idleTimeout   = time.Minute
	closeTimeout  = 5 * time.Second
)

// Config configures a Face. Zero fields get the defaults named beside them.
type Config struct {
	Defects    defect.Set            // none
	Registerer prometheus.Registerer // a registry of its own
	Logger     *slog.Logger          // discards
	Router     router.Config         // of the service; its defects and logger are taken from here
}

// Addresses are the host:port addresses of the listeners.
type Addresses struct {
	HTTP string // API and OpenAI-compatible
	GRPC string
}

// Face is the running router with its two ports.
type Face struct {
	cfg       Config
	mistakes  mistakes
	addresses Addresses
	server    *http.Server
	rpc       *grpc.Server
	service   func() (*router.Service, error) // made by the first request
	opened    func() *router.Service          // nil if it was never made
	large     chan struct{}                   // a place for each large body in memory

	ctx    context.Context // of every request
	cancel context.CancelFunc
	loops  sync.WaitGroup
	failed chan error
	once   sync.Once

	mu     sync.Mutex // of closed, and of additions to calls
	closed bool
	calls  sync.WaitGroup
}

// Start returns once both ports accept connections. The service with its model is made by the first request,
// so that a process that routes nothing pays nothing. Ctx bounds the start alone; end with Shutdown or Close.
func Start(ctx context.Context, cfg Config) (*Face, error) {
	if cfg.Registerer == nil {
		cfg.Registerer = prometheus.NewRegistry()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Router.Defects, cfg.Router.Logger = cfg.Defects, cfg.Logger
	f := newFace(cfg)
	f.ctx, f.cancel = context.WithCancel(context.WithoutCancel(ctx))
	err := f.start(ctx)
	if err == nil && cfg.Router.Model != "" { // whether it can be loaded is known at the start
		_, err = f.service()
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("router face: %w", err)
	}
	return f, nil
}

func newFace(cfg Config) *Face {
	f := &Face{cfg: cfg, large: make(chan struct{}, maxLarge), failed: make(chan error, 2)}
	var mu sync.Mutex
	var made *router.Service
	var err error
	f.service = func() (*router.Service, error) {
		mu.Lock()
		defer mu.Unlock()
		if made == nil && err == nil {
			made, err = router.New(cfg.Router)
		}
		return made, err
	}
	f.opened = func() *router.Service {
		mu.Lock()
		defer mu.Unlock()
		return made
	}
	return f
}

func (f *Face) start(ctx context.Context) error {
	f.cfg.Registerer.MustRegister(collector{f.opened})
	l, err := listen(ctx)
	if err != nil {
		return fmt.Errorf("http port: %w", err)
	}
	f.addresses.HTTP = l.Addr().String()
	f.server = &http.Server{
		Handler:           f.counted(f.handler()),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(f.cfg.Logger.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return f.ctx },
	}
	f.loops.Go(func() {
		if err := f.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			f.failed <- err // each port fails once at most, and there is room for both
		}
	})
	rpc, err := listen(ctx)
	if err != nil {
		return fmt.Errorf("grpc port: %w", err)
	}
	f.addresses.GRPC = rpc.Addr().String()
	f.rpc = f.newRPC()
	f.loops.Go(func() {
		if err := f.rpc.Serve(rpc); err != nil {
			f.failed <- err
		}
	})
	return nil
}

func listen(ctx context.Context) (net.Listener, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return netutil.LimitListener(l, maxConnections), nil
}

// counted lets Close wait for requests that are under way.
func (f *Face) counted(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !f.enter() {
			answerProblem(w, problem{Status: http.StatusServiceUnavailable, Detail: "the router is closing"})
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

// Addresses returns where the face listens.
func (f *Face) Addresses() Addresses { return f.addresses }

// Engine says which engine auto takes; loaded tells that ONNX Runtime is there.
func (f *Face) Engine() (state router.EngineState, loaded bool) {
	return router.Engine(f.cfg.Router.Library)
}

// Failed delivers the error of a listener that ended without being asked to.
func (f *Face) Failed() <-chan error { return f.failed }

// Shutdown lets requests under way finish until ctx ends, then closes everything. Its error tells that some
// were cut off.
func (f *Face) Shutdown(ctx context.Context) error {
	var both sync.WaitGroup
	ended := make(chan struct{})
	both.Go(func() {
		f.rpc.GracefulStop()
		close(ended)
	})
	err := f.server.Shutdown(ctx)
	select {
	case <-ended:
	case <-ctx.Done():
		f.rpc.Stop()
		err = errors.Join(err, ctx.Err())
	}
	both.Wait()
	f.Close()
	return err
}

// Close ends everything at once and returns when no goroutine of the face is left. It may be called more than
// once.
func (f *Face) Close() {
	f.once.Do(func() {
		f.mu.Lock()
		f.closed = true
		f.mu.Unlock()
		f.cancel()
		if f.server != nil {
			_ = f.server.Close() // what it was doing is cut off on purpose
		}
		if f.rpc != nil {
			f.rpc.Stop()
		}
		f.calls.Wait()
		if s := f.opened(); s != nil {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(f.ctx), closeTimeout)
			defer cancel()
			if err := s.Close(ctx); err != nil {
				f.cfg.Logger.Warn("closing the router", "error", err)
			}
		}
	})
	f.loops.Wait()
}
