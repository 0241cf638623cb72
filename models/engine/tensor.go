// Package engine runs small neural networks in pure Go: float32 tensors, dense layers, checked shapes.
// It opens no files, starts no goroutines and keeps no state between runs, so one Model serves any number
// of callers at once. Hostile shapes and sizes are errors, never panics, and are found before memory is
// taken for them.
package engine

import (
	"errors"
	"fmt"
	"slices"
)

// The bounds of what the engine holds. They are far above what its users need and far below what would
// hurt the host.
const (
	MaxRank     = 8       // dimensions of a tensor
	MaxElements = 1 << 24 // elements of a tensor or a weight matrix: 64 MiB of float32
	MaxLayers   = 256     // layers of a network
	MaxTensors  = 64      // inputs or outputs of a model
	MaxName     = 256     // bytes of a model's name
)

// Any is a dimension of a Shape that fits every size of at least 1: a batch.
const Any = -1

// ErrShape is wrapped by every error that says that sizes do not fit.
var ErrShape = errors.New("shape")

// Shape is what a model expects of a tensor's dimensions: sizes of at least 1, or Any.
type Shape []int

// Tensor is an array of float32 in row-major order. No dimensions mean a scalar: one element.
type Tensor struct {
	Dims []int
	Data []float32
}

// Elements returns how many elements dims hold. Errors wrap ErrShape: too many dimensions, a dimension
// below 1, more than MaxElements.
func Elements(dims []int) (int, error) {
	if len(dims) > MaxRank {
		return 0, fmt.Errorf("%w: %d dimensions, at most %d", ErrShape, len(dims), MaxRank)
	}
	n := 1
	for i, d := range dims {
		if d < 1 {
			return 0, fmt.Errorf("%w: dimension %d is %d, at least 1", ErrShape, i, d)
		}
		if d > MaxElements/n {
			return 0, fmt.Errorf("%w: dimensions up to %d hold more than %d elements", ErrShape, i, MaxElements)
		}
		n *= d
	}
	return n, nil
}

// Check compares the data's length with the dimensions. Errors wrap ErrShape.
func (t Tensor) Check() error {
	n, err := Elements(t.Dims)
	if err != nil {
		return err
	}
	if len(t.Data) != n {
		return fmt.Errorf("%w: %v holds %d elements, the data %d", ErrShape, t.Dims, n, len(t.Data))
	}
	return nil
}

// Clone returns a tensor that shares nothing with t.
func (t Tensor) Clone() Tensor {
	return Tensor{Dims: slices.Clone(t.Dims), Data: slices.Clone(t.Data)}
}

// Fits reports whether dims are what the shape allows.
func (s Shape) Fits(dims []int) bool {
	return slices.EqualFunc(s, dims, func(want, got int) bool {
		return got >= 1 && (want == Any || want == got)
	})
}

// check refuses a shape that no tensor could have.
func (s Shape) check() error {
	fixed := slices.Clone(s)
	for i, d := range fixed {
		if d == Any {
			fixed[i] = 1
		}
	}
	_, err := Elements(fixed)
	return err
}
