package router

import (
	"runtime"
	"sync/atomic"
	"time"

	"github.com/assay-bench/assay/models/encode"
	"github.com/assay-bench/assay/models/engine/ort"
	"github.com/assay-bench/assay/models/tower"
	"github.com/assay-bench/assay/reference/defect"
)

// The engines.
const (
	Auto        = "auto"
	PureGo      = "purego"
	ONNXRuntime = "onnxruntime"
)

// Model is a loaded encoder with the engines that run it.
type Model struct {
	info    ModelInfo
	encoder encode.Encoder
	pools   map[string]*pool // by engine
}

// newModel makes a model's pools: one for each engine that runs it. ONNX Runtime does where its library is loaded.
func newModel(info ModelInfo, e encode.Encoder, library *ort.Library, cfg Config) (*Model, error) {
	open, err := readers(e, library, cfg.copying)
	if err != nil {
		return nil, err
	}
	m := &Model{info: info, encoder: e, pools: map[string]*pool{}}
	for name, read := range open {
		m.pools[name] = newPool(func() (*embedder, error) {
			reader, err := read()
			if err != nil {
				return nil, err
			}
			made := &embedder{reader: reader, out: make([]float32, encode.Dimensions), defects: cfg.Defects, foreign: name != PureGo}
			if info.Format != Towers {
				return made, nil
			}
			engine := library
			if name == PureGo {
				engine = nil
			}
			if made.tower, err = newTower(e, engine); err != nil {
				_ = reader.close() // the first error is the one to tell
				return nil, err
			}
			return made, nil
		})
	}
	return m, nil
}

// in returns the pool of an engine.
func (m *Model) in(used string) (*pool, error) {
	if p, ok := m.pools[used]; ok {
		return p, nil
	}
	return nil, refuse(Conflict, "engine", "engine %s does not run model %s, which needs %s", used, m.info.Name, ONNXRuntime)
}

func (m *Model) close() {
	for _, p := range m.pools {
		p.close()
	}
}

// embedder turns texts into vectors; it serves one goroutine at a time. The engine writes to out and nowhere else,
// so that its tensors over that memory are made once, and a vector is copied by nobody on the way to its decision.
type embedder struct {
	reader  reader
	tower   *tower.Encoder // nil: the text alone is the vector
	out     []float32      // of Dimensions: an allocation of its own, which C may see
	defects defect.Set
	foreign bool // not the pure-Go engine
	calls   int
	last    float32
	hoard   map[string][]float32 // of a planted defect
}

// request leaves the vector of a text with what is known of its request in e.out, until the next call. A text
// without known features never reaches the engine: known is 0 then and the vector is zero. Ran says that the
// engine ran.
func (e *embedder) request(text string, f *RequestFeatures, at time.Time) (known int, ran bool, err error) {
	if e.tower == nil {
		return e.embed(e.out, text)
	}
	words := e.tower.Text() // what the towers read is written where they read it
	known, ran, err = e.embed(words, text)
	if known == 0 || err != nil {
		clear(e.out)
		return known, ran, err
	}
	if err := e.tower.Encode(towerRequest(f, at), words, e.out); err != nil {
		return 0, true, bad("request: %v", err)
	}
	return known, true, nil
}

// close frees what the engines hold.
func (e *embedder) close() {
	_ = e.reader.close() // nothing is lost: it is not used again
	if e.tower != nil {
		_ = e.tower.Close()
	}
}

// embed writes the vector of text to dst.
func (e *embedder) embed(dst []float32, text string) (known int, ran bool, err error) {
	if e.defects.On(defect.RouterLongUnbounded) && len(text) > encode.MaxTextBytes/2 {
		text = e.dawdle(text)
	}
	if v, ok := e.hoard[text]; ok {
		copy(dst, v)
		return 1, false, nil
	}
	known, ran, err = e.reader.read(dst, text)
	switch {
	case err != nil:
		return 0, ran, err
	case known == 0 && !ran:
		return e.unknown(dst)
	case known > 0 && e.defects.Any():
		e.spoil(dst, text)
	}
	return known, ran, nil
}

// pool keeps embedders for the next one who needs one. Nothing is made in steady state, and a garbage
// collection takes nothing away.
type pool struct {
	open   func() (*embedder, error)
	free   chan *embedder
	closed atomic.Bool
}

func newPool(open func() (*embedder, error)) *pool {
	return &pool{open: open, free: make(chan *embedder, 4*runtime.GOMAXPROCS(0))}
}

func (p *pool) get() (*embedder, error) {
	select {
	case e := <-p.free:
		return e, nil
	default:
		return p.open()
	}
}

func (p *pool) put(e *embedder) {
	if !p.closed.Load() {
		select {
		case p.free <- e:
			return
		default:
		}
	}
	e.close()
}

// close frees the embedders that nobody uses; the others are freed when they come back.
func (p *pool) close() {
	p.closed.Store(true)
	for {
		select {
		case e := <-p.free:
			e.close()
		default:
			return
		}
	}
}
