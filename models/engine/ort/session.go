//go:build cgo

package ort

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"unsafe"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/assay-bench/assay/models/engine"
)

const (
	maxPorts = 12  // inputs and outputs of a graph
	maxRank  = 3   // dimensions of an input or output
	maxBound = 512 // bindings that a session keeps
)

// ErrMetadata is wrapped where the model's metadata, as the library reads it, is not what is wanted.
var ErrMetadata = errors.New("metadata of the model")

// ErrMemory is wrapped where memory holds Go pointers beside a value, so that C must not see it.
var ErrMemory = errors.New("memory that cannot be shared")

// errClosed is returned by a session that was closed.
var errClosed = errors.New("the session is closed")

// Session is a graph in ONNX Runtime for one goroutine. It binds the caller's own memory: the first run with
// certain values pins them and makes tensors over them, later runs with the same memory and dimensions only
// run. So a caller keeps its buffers, and a run allocates and copies nothing. A buffer is an allocation of its
// own: a field of a struct that has pointers is refused with ErrMemory.
type Session struct {
	library *Library
	session *ort.DynamicAdvancedSession
	in, out []engine.Port
	bound   map[key]*binding
	copying bool
	copied  uint64
}

// key is memory and dimensions of all values of a run.
type key [maxPorts]struct {
	at   unsafe.Pointer
	dims [maxRank]int
}

// binding is a set of tensors over a caller's memory.
type binding struct {
	io     *ort.IoBinding
	values []ort.Value
	pins   runtime.Pinner
}

// Inputs and Outputs are the ports of the graph. An input that has a default in the file is none of them.
func (s *Session) Inputs() []engine.Port  { return s.in }
func (s *Session) Outputs() []engine.Port { return s.out }

// Name returns the library's name and version.
func (s *Session) Name() string { return Name + " " + s.library.version }

// Copied returns how many bytes of values the session has copied in and out: 0 unless it was made to copy.
func (s *Session) Copied() uint64 { return s.copied }

// Binds reports whether the library holds a tensor that lies exactly over memory, as one of its values: what it
// reads or writes there needs no copy.
func (s *Session) Binds(memory []float32) bool {
	for _, b := range s.bound {
		for _, v := range b.values {
			if t, is := v.(*ort.Tensor[float32]); is && len(t.GetData()) == len(memory) && unsafe.SliceData(t.GetData()) == unsafe.SliceData(memory) {
				return true
			}
		}
	}
	return false
}

// Run implements engine.Session.
func (s *Session) Run(in, out []engine.Value) error {
	if s.session == nil {
		return errClosed
	}
	if err := engine.CheckValues("input", s.in, in); err != nil {
		return err
	}
	if err := engine.CheckValues("output", s.out, out); err != nil {
		return err
	}
	if s.copying {
		return s.runCopying(in, out)
	}
	b, err := s.bind(in, out)
	if err != nil {
		return err
	}
	return s.session.RunWithBinding(b.io)
}

// bind returns the binding of the values, made now if it is not there.
func (s *Session) bind(in, out []engine.Value) (*binding, error) {
	var k key
	for i := range in {
		k.set(i, &in[i])
	}
	for i := range out {
		k.set(len(in)+i, &out[i])
	}
	if b, there := s.bound[k]; there {
		return b, nil
	}
	if len(s.bound) >= maxBound {
		s.Forget()
	}
	b := &binding{}
	var err error
	if b.io, err = s.session.CreateIoBinding(); err != nil {
		return nil, err
	}
	for i, v := range in {
		err = errors.Join(err, b.add(v, func(t ort.Value) error { return b.io.BindInput(s.in[i].Name, t) }))
	}
	for i, v := range out {
		err = errors.Join(err, b.add(v, func(t ort.Value) error { return b.io.BindOutput(s.out[i].Name, t) }))
	}
	if err != nil {
		return nil, errors.Join(err, b.release())
	}
	s.bound[k] = b
	return b, nil
}

func (k *key) set(i int, v *engine.Value) {
	k[i].at = unsafe.Pointer(unsafe.SliceData(v.Floats))
	if v.Ints != nil {
		k[i].at = unsafe.Pointer(unsafe.SliceData(v.Ints))
	}
	copy(k[i].dims[:], v.Dims)
}

// add pins a value, makes a tensor over its memory and binds it.
func (b *binding) add(v engine.Value, bind func(ort.Value) error) (err error) {
	defer func() { // of cgo's check of what Go memory C may see
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: it holds Go pointers beside the value, allocate the value on its own: %v", ErrMemory, r)
		}
	}()
	var t ort.Value
	if v.Ints != nil {
		b.pins.Pin(unsafe.SliceData(v.Ints))
		t, err = ort.NewTensor(shapeOf(v.Dims), v.Ints)
	} else {
		b.pins.Pin(unsafe.SliceData(v.Floats))
		t, err = ort.NewTensor(shapeOf(v.Dims), v.Floats)
	}
	if err != nil {
		return err
	}
	b.values = append(b.values, t)
	return bind(t)
}

func shapeOf(dims []int) ort.Shape {
	s := make(ort.Shape, len(dims))
	for i, d := range dims {
		s[i] = int64(d)
	}
	return s
}

// release frees the binding. What it pinned may move and go again.
func (b *binding) release() error {
	err := b.io.Destroy()
	for _, v := range b.values {
		err = errors.Join(err, v.Destroy())
	}
	b.pins.Unpin()
	return err
}

// runCopying copies every input into a tensor of its own and every output out of a tensor of the library, by
// way of the binding's: three copies.
func (s *Session) runCopying(in, out []engine.Value) error {
	inputs, outputs := make([]ort.Value, len(in)), make([]ort.Value, len(out))
	var err error
	for i, v := range in {
		if inputs[i], err = s.copyIn(v); err != nil {
			return errors.Join(err, destroy(inputs))
		}
	}
	if err = s.session.Run(inputs, outputs); err == nil {
		for i, v := range out {
			err = errors.Join(err, s.copyOut(v, outputs[i]))
		}
	}
	return errors.Join(err, destroy(inputs), destroy(outputs))
}

func (s *Session) copyIn(v engine.Value) (ort.Value, error) {
	if v.Ints != nil {
		t, err := ort.NewEmptyTensor[int64](shapeOf(v.Dims))
		if err != nil {
			return nil, err
		}
		s.copied += 8 * uint64(copy(t.GetData(), v.Ints))
		return t, nil
	}
	t, err := ort.NewEmptyTensor[float32](shapeOf(v.Dims))
	if err != nil {
		return nil, err
	}
	s.copied += 4 * uint64(copy(t.GetData(), v.Floats))
	return t, nil
}

func (s *Session) copyOut(v engine.Value, from ort.Value) error {
	t, is := from.(*ort.Tensor[float32])
	if !is || len(t.GetData()) != len(v.Floats) {
		return fmt.Errorf("%w: the output is %v of %v, the caller's memory %v", engine.ErrShape, from.GetShape(), from.DataType(), v.Dims)
	}
	const copies = 2 // the binding out of the library's tensor, and this one
	s.copied += copies * 4 * uint64(copy(v.Floats, t.GetData()))
	return nil
}

func destroy(values []ort.Value) error {
	var err error
	for _, v := range values {
		if v != nil {
			err = errors.Join(err, v.Destroy())
		}
	}
	return err
}

// Forget unpins all memory that the session ran with. Later runs bind anew.
func (s *Session) Forget() {
	for k, b := range s.bound {
		_ = b.release() // the library's release functions cannot fail
		delete(s.bound, k)
	}
}

// Close implements engine.Session. Closing twice is no error.
func (s *Session) Close() error {
	if s.session == nil {
		return nil
	}
	s.Forget()
	err := s.session.Destroy()
	s.session = nil
	return err
}

// checkMetadata compares what the library read with what is wanted.
func (s *Session) checkMetadata(want map[string]string) error {
	if len(want) == 0 {
		return nil
	}
	m, err := s.session.GetModelMetadata()
	if err != nil {
		return err
	}
	for _, k := range slices.Sorted(maps.Keys(want)) {
		got, there, failed := m.LookupCustomMetadataMap(k)
		if err = failed; err == nil && (!there || got != want[k]) {
			err = fmt.Errorf("%w: %q is %q, want %q", ErrMetadata, k, got, want[k])
		}
		if err != nil {
			break
		}
	}
	return errors.Join(err, m.Destroy())
}
