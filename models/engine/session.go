package engine

import "fmt"

// Value is a tensor in memory of the caller: float32 or, for ids, int64. Exactly one of the two is not nil.
type Value struct {
	Dims   []int
	Floats []float32
	Ints   []int64
}

// Port is an input or output of a graph.
type Port struct {
	Name  string
	Shape Shape
	Ints  bool // int64 in place of float32
}

// Session executes a graph for one goroutine. A run whose shapes were seen before allocates nothing.
type Session interface {
	// Inputs and Outputs are the ports in the order of Run. The caller does not change them.
	Inputs() []Port
	Outputs() []Port
	// Run reads in and writes out, which stay the caller's. Errors wrap ErrShape where a value does not fit;
	// the outputs are then undefined.
	Run(in, out []Value) error
	// Name is the executor's name and version.
	Name() string
	// Close frees what the executor holds outside Go's memory.
	Close() error
}

// CheckValues compares values with ports. Errors wrap ErrShape and name the port.
func CheckValues(what string, ports []Port, values []Value) error {
	if len(values) != len(ports) {
		return fmt.Errorf("%w: %d %ss, the graph has %d", ErrShape, len(values), what, len(ports))
	}
	for i, v := range values {
		if err := v.check(ports[i]); err != nil {
			return fmt.Errorf("%s %q: %w", what, ports[i].Name, err)
		}
	}
	return nil
}

func (v Value) check(p Port) error {
	if p.Ints != (v.Ints != nil) || p.Ints == (v.Floats != nil) {
		return fmt.Errorf("%w: want elements of %s and no others", ErrShape, map[bool]string{false: "float32", true: "int64"}[p.Ints])
	}
	n, err := Elements(v.Dims)
	if err != nil {
		return err
	}
	if got := len(v.Floats) + len(v.Ints); got != n {
		return fmt.Errorf("%w: %v holds %d elements, the data %d", ErrShape, v.Dims, n, got)
	}
	if !p.Shape.Fits(v.Dims) {
		return fmt.Errorf("%w: %v where %v is expected", ErrShape, v.Dims, p.Shape)
	}
	return nil
}
