package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

// Model is a network that can be run. Implementations are safe for concurrent use.
type Model interface {
	// Name is what the model is found by.
	Name() string
	// Inputs and Outputs are the shapes of the tensors of Run, in order. The caller does not change them.
	Inputs() []Shape
	Outputs() []Shape
	// Run computes the outputs, which the caller owns. It neither changes nor keeps the inputs, so that they
	// may be views of memory that ends with the call. Errors wrap ErrShape where an input does not fit, and the
	// context's error where it ended.
	Run(ctx context.Context, in []Tensor) ([]Tensor, error)
}

// Sized is a Model that knows how much memory its parameters take.
type Sized interface {
	ParameterBytes() int64
}

// CheckInputs compares tensors with what the model expects: their number, each one's data with its
// dimensions, and its dimensions with the shape. Errors wrap ErrShape and name the model and the input.
func CheckInputs(m Model, in []Tensor) error {
	shapes := m.Inputs()
	if len(in) != len(shapes) {
		return fmt.Errorf("model %s: %w: %d inputs, it has %d", m.Name(), ErrShape, len(in), len(shapes))
	}
	for i, t := range in {
		if err := t.Check(); err != nil {
			return fmt.Errorf("model %s: input %d: %w", m.Name(), i, err)
		}
		if !shapes[i].Fits(t.Dims) {
			return fmt.Errorf("model %s: input %d: %w: %v where %v is expected", m.Name(), i, ErrShape, t.Dims, shapes[i])
		}
	}
	return nil
}

// Registry holds models by name. It does not change after it was made, so it is safe for concurrent use. A
// nil Registry is empty.
type Registry struct {
	models map[string]Model
}

// NewRegistry returns a registry of the models. A name that is empty, too long or given twice is an error,
// as is a model without inputs or outputs or with shapes that no tensor can have.
func NewRegistry(models ...Model) (*Registry, error) {
	r := &Registry{models: make(map[string]Model, len(models))}
	for i, m := range models {
		if err := acceptable(m); err != nil {
			return nil, fmt.Errorf("model %d: %w", i, err)
		}
		if _, twice := r.models[m.Name()]; twice {
			return nil, fmt.Errorf("model %d: the name %q is taken", i, m.Name())
		}
		r.models[m.Name()] = m
	}
	return r, nil
}

func acceptable(m Model) error {
	if b, ok := m.(broken); ok {
		return b.err
	}
	if err := checkName(m.Name()); err != nil {
		return err
	}
	for what, shapes := range map[string][]Shape{"input": m.Inputs(), "output": m.Outputs()} {
		if len(shapes) == 0 || len(shapes) > MaxTensors {
			return fmt.Errorf("%s: %d %ss, 1 to %d", m.Name(), len(shapes), what, MaxTensors)
		}
		for i, s := range shapes {
			if err := s.check(); err != nil {
				return fmt.Errorf("%s: %s %d: %w", m.Name(), what, i, err)
			}
		}
	}
	return nil
}

func checkName(name string) error {
	if name == "" || len(name) > MaxName {
		return fmt.Errorf("a name of %d bytes, 1 to %d", len(name), MaxName)
	}
	return nil
}

// Find returns the model of that name.
func (r *Registry) Find(name string) (Model, bool) {
	if r == nil {
		return nil, false
	}
	m, ok := r.models[name]
	return m, ok
}

// Names returns the names of all models, sorted.
func (r *Registry) Names() []string {
	if r == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(r.models))
}
