// Package router maps texts to policies: an embedding model makes a vector, a table of prototypes answers with
// the nearest policy or abstains, and feedback moves the prototypes within bounds. Deciding opens no socket and
// reads one immutable state, so that no answer mixes two versions. The package listens nowhere; its faces do.
//
// Tried: one router for everything. Lost: two users of a process could not have routes of one name, and a
// check could not be alone with its table.
package router

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/assay-bench/assay/models/encode"
	"github.com/assay-bench/assay/models/engine/ort"
	"github.com/assay-bench/assay/models/manifest"
	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/router/backend"
	"github.com/assay-bench/assay/reference/router/span"
	"github.com/assay-bench/assay/reference/router/table"
)

// Default is the router that exists from the start.
const Default = "default"

// Config configures a Service. Zero fields get the defaults named beside them.
type Config struct {
	Defects defect.Set       // none
	Logger  *slog.Logger     // discards
	Now     func() time.Time // time.Now
	Model   string           // file of the default model, which the built-in manifest must list; the embedded static table
	Library string           // ONNX Runtime's file or folder; empty looks where package ort does

	copying bool // ONNX Runtime by way of copies: of the test that zero copy can be lost
}

// Service is the routers of a process with the models that they use.
type Service struct {
	cfg     Config
	library *ort.Library // ONNX Runtime; nil: it is not there
	why     string       // what auto takes and why
	spans   *span.Recorder
	client  *backend.Client
	nonce   string
	slow    atomic.Uint64 // of a planted defect

	mu      sync.Mutex
	models  map[string]*Model // by digest
	builtin *Model
	trusted []manifest.Keys
	routers map[string]*Router
	closed  bool

	measuring sync.Mutex
	sending   sync.WaitGroup
	ctx       context.Context // of what goes on after its request
	cancel    context.CancelFunc
	places    chan struct{} // of calls that nobody waits for
}

// maxBackground bounds calls of dispatches and shadows at a time.
const maxBackground = 64

// New returns a Service with the router default. The model is opened here: it is what deciding needs.
func New(cfg Config) (*Service, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	var nonce [4]byte
	_, _ = rand.Read(nonce[:]) // never fails
	s := &Service{
		cfg: cfg, spans: span.New(), nonce: hex.EncodeToString(nonce[:]),
		models: map[string]*Model{}, routers: map[string]*Router{}, places: make(chan struct{}, maxBackground),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	hand := span.Propagator
	if cfg.Defects.On(defect.RouterBaggageMissing) {
		hand = nil
	}
	s.client = backend.NewClient(hand)
	s.library, s.why = findRuntime(cfg.Library)
	cfg.Logger.Info("the engine auto takes", "engine", s.why)
	if err := s.openDefault(cfg.Model); err != nil {
		return nil, fmt.Errorf("default model: %w", err)
	}
	if _, err := s.Set(Default, Settings{}); err != nil {
		return nil, err
	}
	return s, nil
}

// openDefault opens the embedded model, and the one of a file, which is then the default.
func (s *Service) openDefault(path string) error {
	e, info, err := embedded()
	if err != nil {
		return err
	}
	info.Builtin = true
	if s.builtin, err = s.adopt(info, e); err != nil || path == "" {
		return err
	}
	if e, info, err = s.fromFile(path); err != nil {
		return err
	}
	s.builtin, err = s.adopt(info, e)
	return err
}

// Engine says which engine auto takes in a process that looks for ONNX Runtime at a file or folder, or, where it
// is empty, where package ort looks.
func Engine(library string) (state EngineState, loaded bool) {
	found, why := findRuntime(library)
	if found == nil {
		return EngineState{Auto, PureGo, why}, false
	}
	return EngineState{Auto, ONNXRuntime, why}, true
}

// findRuntime looks for ONNX Runtime. That it is not there is said, and no error: auto takes pure Go then.
func findRuntime(where string) (library *ort.Library, why string) {
	library, err := ort.Open(where)
	if err != nil {
		return nil, fmt.Sprintf("%s: %v", PureGo, err)
	}
	return library, fmt.Sprintf("%s %s: %s", ONNXRuntime, library.Version(), library.Path())
}

// adopt takes an encoder in; a model that is there already is the one that is meant.
func (s *Service) adopt(info ModelInfo, e encode.Encoder) (*Model, error) {
	m, err := newModel(info, e, s.library, s.cfg)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if have, ok := s.models[info.Digest]; ok {
		return have, nil
	}
	s.models[info.Digest] = m
	return m, nil
}

// model finds a model by digest or name; the empty name is the default one.
func (s *Service) model(name string) (*Model, error) {
	m, err := s.loadedModel(name)
	if err != nil && name == Towers {
		return s.loadTowers()
	}
	return m, err
}

func (s *Service) loadedModel(name string) (*Model, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if name == "" {
		return s.builtin, nil
	}
	if m, ok := s.models[name]; ok {
		return m, nil
	}
	for _, digest := range slices.Sorted(maps.Keys(s.models)) {
		if m := s.models[digest]; m.info.Name == name {
			return m, nil
		}
	}
	return nil, unknown("model", name)
}

// resolve says which engine runs when one is asked for.
func (s *Service) resolve(asked string) (string, error) {
	switch d := s.cfg.Defects; {
	case asked == ONNXRuntime && d.On(defect.RouterEngineSilent):
		return PureGo, nil
	case asked == ONNXRuntime && d.On(defect.RouterONNXAbsent):
		return "", refuse(Conflict, "engine", "engine onnxruntime: planted defect")
	case s.library != nil && asked != PureGo:
		return ONNXRuntime, nil
	case asked == ONNXRuntime:
		return "", refuse(Conflict, "engine", "engine onnxruntime: %s", s.why)
	}
	return PureGo, nil
}

func (s *Service) engine(asked string) EngineState {
	used, err := s.resolve(asked)
	if err != nil {
		used = PureGo
	}
	return EngineState{Asked: asked, Used: used, Detail: s.why}
}

// Names returns the routers, sorted.
func (s *Service) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.routers))
}

// Router finds a router; the empty name is the default one.
func (s *Service) Router(name string) (*Router, error) {
	if name == "" {
		name = Default
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.routers[name]; ok && r.live.Load() != nil {
		return r, nil
	}
	return nil, unknown("router", name)
}

// Set makes a router, or gives one that is there other settings.
func (s *Service) Set(name string, settings Settings) (State, error) {
	full, err := settings.effective()
	if err != nil {
		return State{}, err
	}
	m, err := s.model(full.Model)
	if err != nil {
		return State{}, err
	}
	used, err := s.resolve(full.Engine)
	if err != nil {
		return State{}, err
	}
	r, err := s.open(name)
	if err != nil {
		return State{}, err
	}
	if err := r.configure(full, m, used); err != nil {
		s.forget(name, r)
		return State{}, err
	}
	return r.State(), nil
}

// open returns the router of a name, made if it was not there.
func (s *Service) open(name string) (*Router, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.routers[name]; ok {
		return r, nil
	}
	if s.closed {
		return nil, refuse(Busy, "", "the router is closing")
	}
	if len(s.routers) >= maxRouters {
		return nil, refuse(Conflict, "routers", "there are %d routers: remove one", maxRouters)
	}
	r := &Router{service: s, name: name, decisions: make([]*record, 0, 16)}
	s.routers[name] = r
	return r, nil
}

// forget takes a router back that could not be configured when it was made.
func (s *Service) forget(name string, r *Router) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.live.Load() == nil && s.routers[name] == r {
		delete(s.routers, name)
	}
}

// Remove removes a router; the default one is made anew.
func (s *Service) Remove(name string) error {
	s.mu.Lock()
	_, ok := s.routers[name]
	delete(s.routers, name)
	s.mu.Unlock()
	if !ok {
		return unknown("router", name)
	}
	if name != Default {
		return nil
	}
	_, err := s.Set(Default, Settings{})
	return err
}

// room says whether a router may have this many rows beside what the others have.
func (s *Service) room(r *Router, rows int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, other := range s.routers {
		if l := other.live.Load(); other != r && l != nil {
			rows += l.version.Rows
		}
	}
	if rows > maxAllRows {
		return refuse(Conflict, "rows", "all routers together would have %d rows, at most %d", rows, maxAllRows)
	}
	return nil
}

// Spans returns the finished spans.
func (s *Service) Spans(ofTrace string) []span.Finished { return s.spans.Spans(ofTrace) }

// Client is how backends are called.
func (s *Service) Client() *backend.Client { return s.client }

// Close ends calls that nobody waits for and frees the engines. Decisions under way end as they would have.
func (s *Service) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.sending.Wait()
	s.client.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.models {
		m.close()
	}
	return s.spans.Shutdown(ctx)
}

// background runs f beside the request that asked for it, in one of a bounded number of places.
func (s *Service) background(f func(context.Context)) error {
	select {
	case s.places <- struct{}{}:
	default:
		return refuse(Busy, "", "%d calls of backends are under way", maxBackground)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		<-s.places
		return errors.New("the router is closing")
	}
	s.sending.Go(func() {
		defer func() { <-s.places }()
		f(s.ctx)
	})
	return nil
}

// mistakes are the planted defects of a table's arithmetic.
func mistakes(d defect.Set) table.Mistakes {
	return table.Mistakes{
		Unweighted: d.On(defect.RouterVoteUnweighted), NegativeVotes: d.On(defect.RouterVoteNegative),
		OneNeighbour: d.On(defect.RouterKIgnored), ThresholdIgnored: d.On(defect.RouterThresholdIgnored),
		MarginIgnored: d.On(defect.RouterMarginIgnored),
	}
}
