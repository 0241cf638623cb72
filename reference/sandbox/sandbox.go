package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/sandbox/nn"
)

// compilations is how many modules are compiled at a time.
const compilations = 2

// Config configures a Sandbox.
type Config struct {
	Dir        string // cache of compiled modules, made with mode 0700; "" is no cache
	Defects    defect.Set
	Registerer prometheus.Registerer // nil is a registry of its own
	Logger     *slog.Logger          // nil discards
	Models     nn.Models             // for guests that import wasi_ephemeral_nn; nil is none
	Unpooled   bool                  // every call gets a fresh instance
}

// Sandbox holds tenants and their modules. It is safe for concurrent use.
type Sandbox struct {
	cfg       Config
	offers    offers
	disk      *disk // nil without a cache
	audit     audit
	scopes    scopes
	spare     spare
	slots     *slots
	models    nn.Counters
	compiling chan struct{}
	serial    sync.Mutex    // only with defect.SandboxSpinBlocks
	bound     time.Duration // of calls that a planted defect leaves without a quota

	lastInstance atomic.Uint64
	versions     sync.WaitGroup // that are not freed

	mu      sync.RWMutex
	tenants map[string]*tenant
	closed  bool
}

// New opens the cache folder and registers the metrics. It fails for a cache folder that another user owns
// or can read.
func New(ctx context.Context, cfg Config) (*Sandbox, error) {
	s, err := newSandbox(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if cfg.Dir != "" {
		if s.disk, err = openDisk(cfg.Dir, cfg.Defects); err != nil {
			return nil, err
		}
	}
	if cfg.Registerer != nil {
		if err := cfg.Registerer.Register(newMetrics(s)); err != nil {
			return nil, fmt.Errorf("sandbox metrics: %w", err)
		}
	}
	return s, nil
}

func newSandbox(ctx context.Context, cfg Config) (*Sandbox, error) {
	o, err := newOffers(ctx)
	if err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Sandbox{
		cfg: cfg, offers: o, tenants: map[string]*tenant{}, compiling: make(chan struct{}, compilations), bound: unmeteredBound,
		slots: newSlots(cfg.Defects),
		spare: spare{shared: cfg.Defects.On(defect.SandboxMemoryShared), recycled: cfg.Defects.On(defect.SandboxViewRecycled)},
	}, nil
}

// Close ends the service and waits for calls in flight, which their quotas end. The error is ctx's.
func (s *Sandbox) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	tenants := maps.Clone(s.tenants)
	s.mu.Unlock()
	for _, t := range tenants {
		t.mu.Lock()
		modules := maps.Clone(t.modules)
		t.mu.Unlock()
		for _, m := range modules {
			m.swap(nil)
		}
	}
	drained := make(chan struct{})
	go func() {
		s.versions.Wait()
		close(drained)
	}()
	select {
	case <-drained:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close sandbox: calls in flight: %w", ctx.Err())
	}
}

// Remove ends the service of a module; calls in flight go on. The name may begin again with any version.
func (s *Sandbox) Remove(tenantID, name string) error {
	t, err := s.tenant(tenantID)
	if err != nil {
		return err
	}
	t.mu.Lock()
	m, ok := t.modules[name]
	delete(t.modules, name)
	t.mu.Unlock()
	if !ok {
		return fmt.Errorf("%w: module %q of tenant %s", ErrUnknown, clip(name), tenantID)
	}
	m.upload.Lock() // an upload that began before publishes before
	defer m.upload.Unlock()
	m.swap(nil)
	s.audit.add(tenantID, name, EventRemoved, "")
	return nil
}

// Invoke calls a function. The error is a *Trap, a *Busy, or wraps ErrUnknown, ErrArguments or ErrClosed.
func (s *Sandbox) Invoke(ctx context.Context, tenantID, name string, c Call) (Answer, error) {
	var a Answer
	err := s.session(tenantID, name, func(v *version, number uint64) (err error) {
		a, err = v.call(ctx, c)
		a.Version = number
		return err
	})
	return a, err
}

// Stream calls a function of the buffer ABI for each ChunkBytes of in and writes what it gives to out.
// Every piece is a call of its own: it has the quota of one and finds a fresh instance's state. Nothing is
// read ahead. Errors are those of Invoke, of in and of out; what was written before stays written.
func (s *Sandbox) Stream(ctx context.Context, tenantID, name, function string, in io.Reader, out io.Writer) error {
	piece := make([]byte, ChunkBytes)
	return s.session(tenantID, name, func(v *version, _ uint64) error {
		for {
			n, err := io.ReadFull(in, piece)
			if n > 0 {
				a, err := v.call(ctx, Call{Function: function, Input: piece[:n]})
				if err != nil {
					return err
				}
				if _, err := out.Write(a.Output); err != nil {
					return fmt.Errorf("stream: output: %w", err)
				}
			}
			switch {
			case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
				return nil
			case err != nil:
				return fmt.Errorf("stream: input: %w", err)
			}
		}
	})
}

// session holds a version and one of the tenant's places while do runs. The number is that of the version
// that the caller is told of.
func (s *Sandbox) session(tenantID, name string, do func(v *version, number uint64) error) error {
	m, v, err := s.serving(tenantID, name)
	if err != nil {
		return err
	}
	defer v.release()
	if err := v.tenant.enter(s.cfg.Defects); err != nil {
		return err
	}
	defer v.tenant.leave()
	if s.cfg.Defects.On(defect.SandboxSpinBlocks) {
		s.serial.Lock()
		defer s.serial.Unlock()
	}
	served := v
	if x := m.mixed.Load(); x != nil && time.Now().Before(x.until) && x.old.retain() {
		served = x.old
		defer served.release()
	}
	err = do(served, v.number)
	if v.cut.Load() {
		return fmt.Errorf("version %d was replaced: %w", v.number, ErrClosed)
	}
	return err
}
