package encode

import (
	"errors"
	"fmt"
	"math"

	"github.com/assay-bench/assay/models/engine"
	"github.com/assay-bench/assay/models/text"
)

// limited puts the limit of a text's length before a featurizer that has none.
type limited struct{ bagger }

type bagger interface{ Bag(text string) text.Bag }

// Limit turns a featurizer of package text into Features.
func Limit(f bagger) Features { return &limited{f} }

func (l *limited) Bag(text string) ([]int64, []float32, error) {
	if err := CheckLength(text); err != nil {
		return nil, nil, err
	}
	b := l.bagger.Bag(text)
	return b.IDs, b.Weights, nil
}

// bagSession runs a table in the pure-Go engine.
type bagSession struct {
	features Features
	scorer   engine.Scorer
	err      error // of a table without whole rows: no text can be encoded
}

// NewBagSession returns the session of an embedding bag in the pure-Go engine: rows are added in ascending order of
// their ids, so that equal texts give equal bits.
func NewBagSession(b Bagged) Session {
	table, err := engine.NewTable(Dimensions, b.Table())
	if err != nil {
		return &bagSession{err: fmt.Errorf("%s: %w", b.Identity().Name, err)}
	}
	return &bagSession{features: b.NewFeatures(), scorer: engine.NewScorer(table)}
}

func (s *bagSession) Encode(dst []float32, text string) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	if len(dst) != Dimensions {
		return 0, fmt.Errorf("vector of length %d, want %d", len(dst), Dimensions)
	}
	ids, weights, err := s.features.Bag(text)
	if err != nil {
		return 0, err
	}
	if len(ids) == 0 {
		clear(dst)
		return 0, nil
	}
	switch err := s.scorer.Run(engine.Bag{IDs: ids, Weights: weights}, nil, dst, nil); {
	case errors.Is(err, engine.ErrNoDirection): // the features cancel out
		clear(dst)
		return 0, nil
	case err != nil:
		return 0, err
	}
	return len(ids), nil
}

// Normalize scales v to norm 1. It reports false, and leaves v as it is, where the norm is zero or not finite.
func Normalize(v []float32) bool {
	norm := engine.Norm(v)
	if norm == 0 || math.IsInf(norm, 0) || math.IsNaN(norm) {
		return false
	}
	for i, x := range v {
		v[i] = float32(float64(x) / norm)
	}
	return true
}
