//go:build !cgo

package ort

import (
	"errors"
	"fmt"

	"github.com/assay-bench/assay/models/engine"
)

// ErrMemory is never returned here.
var ErrMemory = errors.New("memory that cannot be shared")

// Library is ONNX Runtime, loaded.
type Library struct{}

// Options are what a session is made with.
type Options struct {
	Want    map[string]string
	Copying bool
}

var errNoCgo = fmt.Errorf("%w: this binary was built without cgo", ErrLibrary)

// Open refuses: dlopen needs cgo.
func Open(string) (*Library, error) { return nil, errNoCgo }

// Path and Version are empty.
func (*Library) Path() string    { return "" }
func (*Library) Version() string { return "" }

// NewSession refuses.
func (*Library) NewSession([]byte, Options) (*Session, error) { return nil, errNoCgo }

// Session never exists.
type Session struct{ engine.Session }

// Copied, Binds and Forget do nothing.
func (*Session) Copied() uint64       { return 0 }
func (*Session) Binds([]float32) bool { return false }
func (*Session) Forget()              {}
