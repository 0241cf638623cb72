// Package nn is the WASI-NN host module wasi_ephemeral_nn on wazero, over the models of models/engine. It
// keeps no handles of its own: a State belongs to one guest instance and travels in the context of the call.
// No pointer, length or handle of a guest is believed, nothing a guest passes makes the host panic, and
// refusals are error numbers, never traps.
//
// The numbering follows the witx text of the preview 1 interface: f16 0, f32 1, f64 2, u8 3, i32 4, i64 5 for
// tensor types (f32 is 1 in every revision; older texts number the others otherwise) and openvino 0, onnx 1,
// tensorflow 2, pytorch 3, tensorflowlite 4, autodetect 5 for encodings. Tensors are float32 only, the target
// is the CPU only.
//
// Tried: views of the guest's memory kept from set_input to compute. Lost: the view is stale once the guest
// has grown its memory. Policy.ViewInputs keeps the address instead and takes the view anew in compute.
package nn

import (
	"context"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/assay-bench/assay/models/engine"
	"github.com/assay-bench/assay/reference/defect"
)

// ModuleName is what guests import from.
const ModuleName = "wasi_ephemeral_nn"

// Errno is what every function of the module returns.
type Errno uint32

// The error numbers of the interface.
const (
	Success Errno = iota
	InvalidArgument
	InvalidEncoding
	MissingMemory
	Busy
	RuntimeError
	UnsupportedOperation
	TooLarge
	NotFound
)

var errnoNames = [...]string{
	"success", "invalid_argument", "invalid_encoding", "missing_memory", "busy", "runtime_error",
	"unsupported_operation", "too_large", "not_found",
}

// String returns the number's name in the interface.
func (e Errno) String() string {
	if int(e) < len(errnoNames) {
		return errnoNames[e]
	}
	return fmt.Sprintf("errno(%d)", uint32(e))
}

// Models is where load_by_name looks. It is safe for concurrent use.
type Models interface {
	Find(name string) (engine.Model, bool)
}

// Counters say what the host module did, over all guests.
type Counters struct {
	ParserCalls atomic.Uint64 // times that guest bytes were given to the model parser
	Computes    atomic.Uint64 // runs of a model
	InputViews  atomic.Uint64 // inputs read in place, in the guest's memory
	InputCopies atomic.Uint64 // inputs copied out of it

	once   sync.Once
	shared *State // of every guest, where defect.SandboxHandlesShared is planted
}

// common is the state that every guest shares where the defect is planted.
func (c *Counters) common() *State {
	c.once.Do(func() { c.shared = NewState(Policy{}) })
	return c.shared
}

// Host is what the module serves from.
type Host struct {
	Models   Models // nil: none
	Defects  defect.Set
	Counters *Counters // nil: not counted
}

// Instantiate adds the module to the runtime, once for all its guests. The error is the runtime's: the name
// is taken, or the runtime is closed.
func Instantiate(ctx context.Context, r wazero.Runtime, h Host) error {
	m := &module{Host: h}
	if m.Counters == nil {
		m.Counters = new(Counters)
	}
	b := r.NewHostModuleBuilder(ModuleName)
	for _, f := range m.functions() {
		params := make([]api.ValueType, f.params)
		for i := range params {
			params[i] = api.ValueTypeI32
		}
		b.NewFunctionBuilder().WithGoModuleFunction(m.checked(f.do), params, []api.ValueType{api.ValueTypeI32}).Export(f.name)
	}
	if _, err := b.Instantiate(ctx); err != nil {
		return fmt.Errorf("host module %s: %w", ModuleName, err)
	}
	return nil
}

// module is a Host with what its functions share.
type module struct {
	Host
}

// call is one call of a guest: its memory, its handles, its arguments.
type call struct {
	memory
	*State
	args []uint64
}

func (c call) arg(i int) uint32 { return api.DecodeU32(c.args[i]) }

type function struct {
	name   string
	params int
	do     func(context.Context, call) Errno
}

func (m *module) functions() []function {
	return []function{
		{"load", 5, m.load},
		{"load_by_name", 3, m.loadByName},
		{"init_execution_context", 2, m.initContext},
		{"set_input", 3, m.setInput},
		{"compute", 1, m.compute},
		{"get_output", 5, m.getOutput},
	}
}

// checked wraps a function: it finds the guest's memory and state, and holds the state meanwhile.
func (m *module) checked(do func(context.Context, call) Errno) api.GoModuleFunc {
	return func(ctx context.Context, guest api.Module, stack []uint64) {
		stack[0] = uint64(m.call(ctx, guest.Memory(), stack, do))
	}
}

func (m *module) call(ctx context.Context, mem api.Memory, stack []uint64, do func(context.Context, call) Errno) Errno {
	s, ok := ctx.Value(stateKey{}).(*State)
	switch {
	case !ok:
		return RuntimeError // the embedder gave the call no state
	case !present(mem):
		return MissingMemory
	}
	policy := s.policy
	if m.Defects.On(defect.SandboxHandlesShared) {
		s = m.Counters.common()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.policy = policy
	return do(ctx, call{memory: memory{mem}, State: s, args: stack})
}

// present reports whether a guest has a memory. For one that has none wazero returns an interface that is not
// nil around a pointer that is, whose methods panic.
func present(mem api.Memory) bool {
	v := reflect.ValueOf(mem)
	return v.IsValid() && (v.Kind() != reflect.Pointer || !v.IsNil())
}

func (m *module) find(name string) (engine.Model, bool) {
	if m.Models == nil || m.Defects.On(defect.SandboxNnAbsent) {
		return nil, false
	}
	found, ok := m.Models.Find(name)
	if !ok && m.Defects.On(defect.SandboxNnUnknownNameOk) {
		return m.first()
	}
	return found, ok
}

// first returns the first model by name, where the store can list its names. Planted defects serve it.
func (m *module) first() (engine.Model, bool) {
	store, ok := m.Models.(interface{ Names() []string })
	if !ok || len(store.Names()) == 0 {
		return nil, false
	}
	return m.Models.Find(store.Names()[0])
}

// badHandle is the answer to a handle that the guest was never given.
func (m *module) badHandle() Errno {
	if m.Defects.On(defect.SandboxNnBadHandleOk) {
		return Success
	}
	return InvalidArgument
}
