package router

import (
	"errors"
	"fmt"
	"sync"

	"github.com/assay-bench/assay/models/bag"
	"github.com/assay-bench/assay/models/encode"
	"github.com/assay-bench/assay/models/engine"
	"github.com/assay-bench/assay/models/engine/ort"
	"github.com/assay-bench/assay/models/transformer"
	"github.com/assay-bench/assay/reference/defect"
)

// reader makes vectors of texts in one engine; it serves one goroutine at a time.
type reader interface {
	// read has the engine write the vector of text, of norm 1, to dst, an allocation of its own. A text without known
	// features never reaches the engine: known is 0 then, ran is false and dst is as it was. With known 0 after a run
	// the vector is zero.
	read(dst []float32, text string) (known int, ran bool, err error)
	close() error
}

// readers says how an encoder is opened in each engine that runs it.
func readers(e encode.Encoder, library *ort.Library, copying bool) (map[string]func() (reader, error), error) {
	switch e := e.(type) {
	case encode.Bagged:
		return bagReaders(e, library, copying)
	case *transformer.Model:
		return map[string]func() (reader, error){ONNXRuntime: func() (reader, error) {
			s, err := e.Open()
			if err != nil {
				return nil, err
			}
			return transformerReader{s}, nil
		}}, nil
	}
	return nil, fmt.Errorf("model %s: no engine runs it", e.Identity().Name)
}

// transformerReader has a sentence transformer read a text.
type transformerReader struct{ session *transformer.Session }

func (r transformerReader) close() error { return r.session.Close() }

func (r transformerReader) read(dst []float32, text string) (known int, ran bool, err error) {
	known, err = r.session.Encode(dst, text)
	if errors.Is(err, encode.ErrTextTooLong) {
		return 0, false, tooLarge(transformer.MaxPieces, "text: %v", err)
	}
	if err != nil {
		return 0, true, fmt.Errorf("engine %s: %w", r.session.Name(), err)
	}
	return known, known > 0, nil
}

// bagReaders are those of an embedding bag.
func bagReaders(e encode.Bagged, library *ort.Library, copying bool) (map[string]func() (reader, error), error) {
	t, err := engine.NewTable(encode.Dimensions, e.Table())
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", e.Identity().Name, err)
	}
	open := map[string]func() (reader, error){
		PureGo: func() (reader, error) { return &bagReader{e.NewFeatures(), engine.NewScorer(t)}, nil },
	}
	if library == nil {
		return open, nil
	}
	graph := sync.OnceValues(func() (*bag.Executor, error) {
		return bag.Open(bag.Model{Table: t}, bag.Choice{Engine: ONNXRuntime, Library: library.Path(), Copying: copying})
	})
	open[ONNXRuntime] = func() (reader, error) {
		x, err := graph()
		if err != nil {
			return nil, err
		}
		s, err := x.NewScorer()
		return &bagReader{e.NewFeatures(), s}, err
	}
	return open, nil
}

// bagReader counts the features of a text and has a Scorer sum their rows.
type bagReader struct {
	features encode.Features
	scorer   engine.Scorer
}

func (r *bagReader) close() error { return r.scorer.Close() }

func (r *bagReader) read(dst []float32, text string) (known int, ran bool, err error) {
	ids, weights, err := r.features.Bag(text)
	if errors.Is(err, encode.ErrTextTooLong) {
		return 0, false, tooLarge(encode.MaxTextBytes, "text: %v", err)
	}
	if err != nil || len(ids) == 0 {
		return 0, false, err
	}
	err = r.scorer.Run(engine.Bag{IDs: ids, Weights: weights}, nil, dst, nil)
	if errors.Is(err, engine.ErrNoDirection) { // features that cancel each other say as little as none
		clear(dst)
		return 0, true, nil
	}
	if err != nil {
		return 0, true, fmt.Errorf("engine %s: %w", r.scorer.Name(), err)
	}
	return len(ids), true, nil
}

// unknown is what becomes of a text without known features.
func (e *embedder) unknown(dst []float32) (int, bool, error) {
	clear(dst)
	switch {
	case e.defects.On(defect.RouterUnknownFails):
		return 0, false, errors.New("empty tensor")
	case e.defects.On(defect.RouterUnknownEmbedded):
		dst[0] = 1
		return 1, true, nil
	}
	return 0, false, nil
}
