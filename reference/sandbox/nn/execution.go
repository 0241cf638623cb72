package nn

import (
	"context"
	"errors"
	"slices"

	"github.com/assay-bench/assay/models/engine"
	"github.com/assay-bench/assay/reference/defect"
)

// elementBytes is the size of each tensor type, by number: f16, f32, f64, u8, i32, i64.
var elementBytes = [...]uint64{2, 4, 8, 1, 4, 8}

const typeF32 = 1

// tensorWords is the size of the tensor record: dims pointer and length, type with padding, data pointer and
// length.
const tensorWords = 5

// initContext is init_execution_context(graph, out_ctx).
func (m *module) initContext(_ context.Context, c call) Errno {
	model, ok := c.graph(c.arg(0))
	if !ok {
		return m.badHandle()
	}
	if !c.holds(c.arg(1), 4) {
		return MissingMemory
	}
	handle, errno := c.addContext(model, m.Defects.On(defect.SandboxNnContextsUnbounded))
	if errno != Success {
		return errno
	}
	c.WriteUint32Le(c.arg(1), handle)
	return Success
}

// setInput is set_input(ctx, index, tensor).
func (m *module) setInput(_ context.Context, c call) Errno {
	x, ok := c.context(c.arg(0))
	if !ok {
		return m.badHandle()
	}
	index := c.arg(1)
	if uint64(index) >= uint64(len(x.inputs)) {
		return InvalidArgument
	}
	w, ok := c.words(c.arg(2), tensorWords)
	if !ok {
		return MissingMemory
	}
	shape := x.model.Inputs()[index]
	t, errno := c.tensor(w)
	if errno == InvalidArgument && m.Defects.On(defect.SandboxNnTensorUnchecked) {
		t, errno = c.unchecked(w, shape)
	}
	if errno != Success {
		return errno
	}
	if !shape.Fits(t.dims) {
		return InvalidArgument
	}
	return m.keep(c, &x.inputs[index], t)
}

// tensor checks a tensor record and says where its data is. Nothing is copied yet but the dimensions.
func (c call) tensor(w []uint32) (input, Errno) {
	kind := w[2] & 0xff // the other three bytes are padding
	if w[1] > engine.MaxRank || uint64(kind) >= uint64(len(elementBytes)) {
		return input{}, InvalidArgument
	}
	sizes, ok := c.words(w[0], w[1])
	if !ok {
		return input{}, MissingMemory
	}
	dims := make([]int, len(sizes))
	for i, d := range sizes {
		dims[i] = int(min(d, engine.MaxElements+1)) // fits an int everywhere, and is still too large
	}
	n, err := engine.Elements(dims)
	if err != nil || uint64(n)*elementBytes[kind] != uint64(w[4]) {
		return input{}, InvalidArgument
	}
	if !c.holds(w[3], w[4]) {
		return input{}, MissingMemory
	}
	if kind != typeF32 {
		return input{}, UnsupportedOperation
	}
	return input{set: true, dims: dims, at: w[3], inside: true}, Success
}

// unchecked is the planted defect: the tensor is taken to have the model's shape, whatever it says.
func (c call) unchecked(w []uint32, shape engine.Shape) (input, Errno) {
	dims := slices.Clone([]int(shape))
	for i := range dims {
		dims[i] = max(dims[i], 1)
	}
	n, err := engine.Elements(dims)
	if err != nil {
		return input{}, InvalidArgument
	}
	if !c.holds(w[3], uint32(4*n)) {
		return input{set: true, dims: dims, data: make([]float32, n)}, Success
	}
	return input{set: true, dims: dims, at: w[3], inside: true}, Success
}

// keep sets the input: as an address where the policy allows it, else as a copy, which is charged before it
// is made.
func (m *module) keep(c call, to *input, t input) Errno {
	if t.inside && !c.policy.ViewInputs {
		b, ok := c.data(t)
		if !ok {
			return MissingMemory
		}
		if !c.charge(int64(len(b)) - to.bytes()) {
			return TooLarge
		}
		t.data, t.inside = copied(b), false
		m.Counters.InputCopies.Add(1)
	} else {
		c.charge(t.bytes() - to.bytes())
	}
	*to = t
	return Success
}

// data returns a view of an input's bytes, taken now.
func (c call) data(t input) ([]byte, bool) {
	n, err := engine.Elements(t.dims)
	if err != nil {
		return nil, false
	}
	return c.Read(t.at, uint32(4*n))
}

// compute is compute(ctx). An input that was never set is an invalid argument.
func (m *module) compute(ctx context.Context, c call) Errno {
	x, ok := c.context(c.arg(0))
	if !ok {
		return m.badHandle()
	}
	in := make([]engine.Tensor, len(x.inputs))
	for i := range x.inputs {
		t, errno := m.resolve(c, x.inputs[i])
		if errno != Success {
			return errno
		}
		in[i] = t
	}
	held, expected := tensorBytes(x.outputs), shapeBytes(x.model.Outputs())
	if !c.charge(expected - held) { // before the engine takes the memory
		return TooLarge
	}
	m.Counters.Computes.Add(1)
	out, err := x.model.Run(ctx, in)
	if err != nil {
		c.charge(held - expected)
		return errnoOf(err)
	}
	if !c.charge(tensorBytes(out) - expected) { // a model whose output size depends on its input
		c.charge(held - expected)
		return TooLarge
	}
	if m.Defects.On(defect.SandboxNnWrong) {
		scale(out, 1.01)
	}
	x.outputs = out
	return Success
}

// resolve returns the tensor of an input. Where the input is an address the view is taken anew: the guest may
// have grown its memory since, and can not run before compute returns.
func (m *module) resolve(c call, t input) (engine.Tensor, Errno) {
	switch {
	case !t.set:
		return engine.Tensor{}, InvalidArgument
	case !t.inside:
		return engine.Tensor{Dims: t.dims, Data: t.data}, Success
	}
	b, ok := c.data(t)
	if !ok {
		return engine.Tensor{}, MissingMemory
	}
	if v, ok := inPlace(b); ok {
		m.Counters.InputViews.Add(1)
		return engine.Tensor{Dims: t.dims, Data: v}, Success
	}
	if int64(len(b)) > c.policy.MaxBytes-c.bytes {
		return engine.Tensor{}, TooLarge
	}
	m.Counters.InputCopies.Add(1)
	return engine.Tensor{Dims: t.dims, Data: copied(b)}, Success
}

func errnoOf(err error) Errno {
	if errors.Is(err, engine.ErrShape) {
		return InvalidArgument
	}
	return RuntimeError
}

func tensorBytes(tensors []engine.Tensor) int64 {
	n := int64(0)
	for _, t := range tensors {
		n += 4 * int64(len(t.Data))
	}
	return n
}

// shapeBytes is what tensors of the shapes take at least.
func shapeBytes(shapes []engine.Shape) int64 {
	n := int64(0)
	for _, s := range shapes {
		elements := int64(1)
		for _, d := range s {
			elements *= int64(max(d, 1))
		}
		n += 4 * elements
	}
	return n
}

func scale(tensors []engine.Tensor, by float32) {
	for _, t := range tensors {
		for i := range t.Data {
			t.Data[i] *= by
		}
	}
}

// getOutput is get_output(ctx, index, out_buf, max_size, out_written). Before a successful compute there is
// nothing to get: runtime_error. A result that does not fit is too_large, and nothing is written at all.
func (m *module) getOutput(_ context.Context, c call) Errno {
	x, ok := c.context(c.arg(0))
	if !ok {
		return m.badHandle()
	}
	index, written := c.arg(1), c.arg(4)
	switch {
	case uint64(index) >= uint64(len(x.model.Outputs())):
		return InvalidArgument
	case uint64(index) >= uint64(len(x.outputs)):
		return RuntimeError
	}
	values := x.outputs[index].Data
	size := uint32(4 * len(values))
	if size > c.arg(3) && !m.Defects.On(defect.SandboxNnOverflows) {
		return TooLarge
	}
	b, ok := c.Read(c.arg(2), size)
	if !ok || !c.holds(written, 4) {
		return MissingMemory
	}
	store(b, values)
	c.WriteUint32Le(written, size)
	return Success
}
