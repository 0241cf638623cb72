package bag

import (
	"errors"
	"fmt"

	"github.com/assay-bench/assay/models/engine"
	"github.com/assay-bench/assay/models/engine/ort"
	"github.com/assay-bench/assay/models/onnx"
)

// Auto asks for ONNX Runtime where its library is found and for pure Go where it is not.
const Auto = "auto"

// Choice says which engine executes a model.
type Choice struct {
	Engine  string // engine.PureGo (also where it is empty), ort.Name or Auto
	Library string // ONNX Runtime's file or folder; empty looks where package ort does
	Copying bool   // ONNX Runtime by way of copies: kept to be measured against
}

// Executor makes Scorers of a model. It is safe for concurrent use.
type Executor struct {
	model   Model
	file    []byte // of the graph, for ONNX Runtime
	library *ort.Library
	copying bool
	why     string
}

// Open prepares a model for an engine. Errors wrap ort.ErrLibrary where ONNX Runtime was asked for and is not
// usable; they name each path tried. Auto then takes pure Go, and Why says so.
func Open(m Model, c Choice) (*Executor, error) {
	x := &Executor{model: m, copying: c.Copying}
	switch c.Engine {
	case "", engine.PureGo:
		x.why = engine.PureGo + ": asked for"
		return x, nil
	case ort.Name, Auto:
	default:
		return nil, fmt.Errorf("engine %q: want %s, %s or %s", c.Engine, engine.PureGo, ort.Name, Auto)
	}
	library, err := ort.Open(c.Library)
	if err != nil {
		if c.Engine == Auto {
			x.why = fmt.Sprintf("%s: %v", engine.PureGo, err)
			return x, nil
		}
		return nil, fmt.Errorf("engine %s: %w", ort.Name, err)
	}
	x.library, x.why = library, fmt.Sprintf("%s %s: %s", ort.Name, library.Version(), library.Path())
	m.Prototypes = nil // they come with each run: a default would not be an input any more
	graph, err := m.Export()
	if err != nil {
		return nil, err
	}
	x.file, err = onnx.Marshal(graph)
	return x, err
}

// Why says which engine executes and for what reason: the line for the log, the claims and the metrics.
func (x *Executor) Why() string { return x.why }

// NewScorer returns a Scorer for one goroutine. Close it.
func (x *Executor) NewScorer() (engine.Scorer, error) {
	if x.library == nil {
		return engine.NewScorer(x.model.Table), nil
	}
	return x.newScorer(ort.Options{Want: x.model.Metadata, Copying: x.copying})
}

// newScorer returns a Scorer on ONNX Runtime.
func (x *Executor) newScorer(o ort.Options) (*scorer, error) {
	session, err := x.library.NewSession(x.file, o)
	if err != nil {
		return nil, err
	}
	rows, dim := x.model.Table.Rows(), x.model.Table.Dim()
	unit := make([]float32, dim)
	unit[0] = 1
	nothing, err := engine.NewPrototypes(dim, unit)
	if err != nil {
		return nil, err
	}
	s := &scorer{session: session, rows: rows, dim: dim, nothing: nothing, one: make([]float32, 1)}
	for _, p := range session.Inputs() {
		s.in = append(s.in, engine.Value{Dims: make([]int, len(p.Shape))})
	}
	for _, p := range session.Outputs() {
		s.out = append(s.out, engine.Value{Dims: make([]int, len(p.Shape))})
	}
	return s, nil
}

// scorer is a Scorer on ONNX Runtime: a session, and the values of its runs.
type scorer struct {
	session   *ort.Session
	rows, dim int
	in, out   []engine.Value
	last      *engine.Prototypes // the memory of older ones is given back
	nothing   *engine.Prototypes // what is scored where the caller wants an embedding alone
	one       []float32
	// own is where embeddings go once a caller gave memory that the library must not see: they are copied then.
	own    []float32
	copied uint64
}

func (s *scorer) Name() string { return s.session.Name() }
func (s *scorer) Close() error { return s.session.Close() }

// Copied returns how many bytes were copied because the caller's memory could not be shared.
func (s *scorer) Copied() uint64 { return s.copied + s.session.Copied() }

// Binds reports whether the library writes straight to memory.
func (s *scorer) Binds(memory []float32) bool { return s.session.Binds(memory) }

// Run implements engine.Scorer. A caller whose embedding is a field of a struct that has pointers gets a copy,
// 512 bytes a run; one that allocates it on its own gets none.
func (s *scorer) Run(b engine.Bag, p *engine.Prototypes, embedding, scores []float32) error {
	err := s.run(b, p, embedding, scores)
	if errors.Is(err, ort.ErrMemory) && s.own == nil {
		s.own = make([]float32, s.dim)
		err = s.run(b, p, embedding, scores)
	}
	return err
}

func (s *scorer) run(b engine.Bag, p *engine.Prototypes, embedding, scores []float32) error {
	if err := engine.CheckRun(s.rows, s.dim, b, p, embedding, scores); err != nil {
		return err
	}
	if p == nil {
		p, scores = s.nothing, s.one
	} else if p != s.last {
		s.session.Forget()
		s.last = p
	}
	n := len(b.IDs)
	set(&s.in[0], nil, b.IDs, n)
	set(&s.in[1], b.Weights, nil, 1, n)
	set(&s.in[2], p.Data(), nil, p.Rows(), s.dim)
	to := embedding
	if s.own != nil {
		to = s.own
	}
	set(&s.out[0], to, nil, 1, s.dim)
	set(&s.out[1], scores, nil, 1, p.Rows())
	if err := s.session.Run(s.in, s.out); err != nil {
		return err
	}
	if s.own != nil {
		s.copied += 4 * uint64(copy(embedding, s.own))
	}
	return engine.CheckUnit(embedding)
}

func set(v *engine.Value, floats []float32, ints []int64, dims ...int) {
	v.Floats, v.Ints = floats, ints
	copy(v.Dims, dims)
}
