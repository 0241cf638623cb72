package nn

import (
	"context"
	"sync"

	"github.com/assay-bench/assay/models/engine"
)

// The bounds of a Policy that says nothing.
const (
	DefaultGraphs   = 16
	DefaultContexts = 64
	DefaultBytes    = 4 << 20
)

// What a handle is charged besides the tensors that it holds.
const (
	graphBytes   = 128
	contextBytes = 512
)

// Policy is what one guest instance may do. The zero value allows load_by_name only, with the default bounds.
type Policy struct {
	LoadBytes   bool  // models may be loaded from guest memory
	ViewInputs  bool  // inputs are read in place in compute, where aligned: the guest leaves them alone until then
	MaxGraphs   int   // 0: DefaultGraphs
	MaxContexts int   // 0: DefaultContexts
	MaxBytes    int64 // host memory of models, inputs and outputs; 0: DefaultBytes
}

// State is one guest instance's graphs and execution contexts. It is safe for concurrent use, though one
// instance makes one call at a time. Handles are numbered from 1 and are not reused before Reset.
type State struct {
	mu       sync.Mutex
	policy   Policy
	graphs   []engine.Model
	contexts []*execution
	bytes    int64
}

// execution is an execution context: what was set, and what came out.
type execution struct {
	model   engine.Model
	inputs  []input
	outputs []engine.Tensor // nil before compute
}

// input is a tensor, or where it is in the guest's memory.
type input struct {
	set    bool
	dims   []int
	data   []float32 // nil where at is used
	at     uint32
	inside bool // the data is in the guest's memory, at at
}

func (i *input) bytes() int64 { return 4 * int64(len(i.data)) }

// NewState returns an empty state for a guest instance.
func NewState(p Policy) *State {
	if p.MaxGraphs <= 0 {
		p.MaxGraphs = DefaultGraphs
	}
	if p.MaxContexts <= 0 {
		p.MaxContexts = DefaultContexts
	}
	if p.MaxBytes <= 0 {
		p.MaxBytes = DefaultBytes
	}
	return &State{policy: p}
}

type stateKey struct{}

// WithState returns a context for calls of the guest instance that s belongs to. Calls without one are
// answered with RuntimeError.
func WithState(ctx context.Context, s *State) context.Context {
	return context.WithValue(ctx, stateKey{}, s)
}

// Reset forgets all handles and what they held. It belongs to the reset of a pooled instance.
func (s *State) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.graphs, s.contexts, s.bytes = nil, nil, 0
}

// Usage is what an instance holds at the moment.
type Usage struct {
	Graphs, Contexts int
	Bytes            int64 // host memory outside the guest's pages
}

// Usage returns what the instance holds. Models of the store are shared and are not counted.
func (s *State) Usage() Usage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Usage{Graphs: len(s.graphs), Contexts: len(s.contexts), Bytes: s.bytes}
}

// charge takes n more bytes of host memory, or gives back -n. It reports false, and takes nothing, where that
// is more than the policy allows.
func (s *State) charge(n int64) bool {
	if n > 0 && n > s.policy.MaxBytes-s.bytes {
		return false
	}
	s.bytes += n
	return true
}

// roomForGraph reports whether one more graph is allowed.
func (s *State) roomForGraph() bool { return len(s.graphs) < s.policy.MaxGraphs }

// addGraph returns the handle of a new graph. parameters are the bytes that it holds for this guest alone.
func (s *State) addGraph(m engine.Model, parameters int64) (uint32, Errno) {
	if !s.roomForGraph() {
		return 0, Busy
	}
	if !s.charge(graphBytes + parameters) {
		return 0, TooLarge
	}
	s.graphs = append(s.graphs, m)
	return uint32(len(s.graphs)), Success
}

func (s *State) graph(handle uint32) (engine.Model, bool) {
	if handle == 0 || uint64(handle) > uint64(len(s.graphs)) {
		return nil, false
	}
	return s.graphs[handle-1], true
}

// addContext returns the handle of a new execution context. unbounded is the planted defect.
func (s *State) addContext(m engine.Model, unbounded bool) (uint32, Errno) {
	if !unbounded {
		if len(s.contexts) >= s.policy.MaxContexts {
			return 0, Busy
		}
		if !s.charge(contextBytes) {
			return 0, TooLarge
		}
	}
	s.contexts = append(s.contexts, &execution{model: m, inputs: make([]input, len(m.Inputs()))})
	return uint32(len(s.contexts)), Success
}

func (s *State) context(handle uint32) (*execution, bool) {
	if handle == 0 || uint64(handle) > uint64(len(s.contexts)) {
		return nil, false
	}
	return s.contexts[handle-1], true
}
