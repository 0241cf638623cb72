package face

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/assay-bench/assay/models/engine"
	"github.com/assay-bench/assay/reference/sandbox"
)

// box is the part of the sandbox that the API drives.
type box interface {
	SetTenant(id string, t sandbox.Tenant) error
	Upload(ctx context.Context, tenant, module string, u sandbox.Upload) (sandbox.Published, error)
	Admit(ctx context.Context, tenant, module string, u sandbox.Upload) (*sandbox.Admitted, error)
	Invoke(ctx context.Context, tenant, module string, c sandbox.Call) (sandbox.Answer, error)
	Stream(ctx context.Context, tenant, module, function string, in io.Reader, out io.Writer) error
	Remove(tenant, module string) error
	RemoveTenant(tenant string) error
	Stats() sandbox.Stats
	Audit(since uint64) []sandbox.Event
	Close(ctx context.Context) error
}

// closeTimeout bounds the end of calls under way at Close; their contexts have ended by then.
const closeTimeout = 5 * time.Second

// core is the sandbox, made when it is first asked for.
type core struct {
	open func() (box, string, error) // the box, and a folder that goes with it or ""

	mu     sync.Mutex
	closed bool
	box    box
	folder string
	err    error // of open; it is not tried twice
}

// tenants returns the sandbox.
func (c *core) tenants() (box, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, sandbox.ErrClosed
	}
	if c.box == nil && c.err == nil {
		c.box, c.folder, c.err = c.open()
	}
	return c.box, c.err
}

func (c *core) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	if c.box == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	err := c.box.Close(ctx)
	if c.folder != "" {
		err = errors.Join(err, os.RemoveAll(c.folder))
	}
	return err
}

// opener makes the sandbox of the reference, with a private folder for compiled modules unless the
// configuration names one.
func opener(ctx context.Context, cfg Config) func() (box, string, error) {
	return func() (box, string, error) {
		models, err := models()
		if err != nil {
			return nil, "", err
		}
		dir, private := cfg.Dir, ""
		if dir == "" {
			if private, err = os.MkdirTemp("", "assay-sandbox-"); err != nil { // mode 0700
				return nil, "", err
			}
			dir = private
		}
		s, err := sandbox.New(ctx, sandbox.Config{
			Dir: dir, Defects: cfg.Defects, Registerer: cfg.Registerer, Logger: cfg.Logger, Models: models,
		})
		if err != nil {
			if private != "" {
				err = errors.Join(err, os.RemoveAll(private))
			}
			return nil, "", fmt.Errorf("sandbox: %w", err)
		}
		return s, private, nil
	}
}

// models are what guests may load by name: linear-4x3 is y = x·W + b with W[i][j] = (i+1)(j+1)/10 and
// b[j] = j, so that a caller can compute what it must give.
func models() (*engine.Registry, error) {
	weights, bias := make([][]float32, 4), []float32{0, 1, 2}
	for i := range weights {
		for j := range bias {
			weights[i] = append(weights[i], float32((i+1)*(j+1))/10)
		}
	}
	return engine.NewRegistry(engine.NewLinear("linear-4x3", weights, bias))
}
