package engine

import (
	"errors"
	"fmt"
	"math"
)

// Dimension is the number of float32 values of the router's embeddings (spec row router/vector/dimension).
const Dimension = 128

// ErrNoDirection is wrapped where a bag sums to nothing that has a direction: zero, NaN or infinite.
var ErrNoDirection = errors.New("embedding has no direction")

// Bag is a text or request as features: rows of a table and how much each counts. A feature may stand more
// than once. The order of the features is the order of the sum.
type Bag struct {
	IDs     []int64
	Weights []float32 // one a feature
}

// Scorer embeds bags of features and compares them with prototypes. Its buffers belong to the caller; a run
// in steady state allocates nothing and copies nothing. A Scorer serves one goroutine at a time; its name
// and Close aside it keeps no state that a caller could see.
type Scorer interface {
	// Run writes the unit-norm embedding of the bag, and, where p is not nil, the embedding's cosine with
	// each row of p. scores has p.Rows() elements. Errors wrap ErrShape (an empty bag, an id outside the
	// table, a buffer of another size) or ErrNoDirection; the buffers are then undefined.
	Run(b Bag, p *Prototypes, embedding, scores []float32) error
	// Name is the executor's name and version, as decisions and reports carry it.
	Name() string
	// Close frees what the executor holds outside Go's memory. A closed Scorer returns errors.
	Close() error
}

// bagScorer is the pure-Go Scorer.
type bagScorer struct{ table *Table }

// NewScorer returns the pure-Go Scorer over a table. The table may be shared by any number of Scorers.
// The sums have one order and no fused multiply-add: the same inputs give the same bits on every processor.
func NewScorer(t *Table) Scorer { return bagScorer{table: t} }

// PureGo is the name of the pure-Go executor.
const PureGo = "purego"

func (s bagScorer) Name() string { return PureGo }
func (s bagScorer) Close() error { return nil }

func (s bagScorer) Run(b Bag, p *Prototypes, embedding, scores []float32) error {
	if err := CheckRun(s.table.rows, s.table.dim, b, p, embedding, scores); err != nil {
		return err
	}
	s.table.sum(b, embedding)
	if err := normalise(embedding); err != nil {
		return err
	}
	if p != nil {
		p.score(embedding, scores)
	}
	return nil
}

// CheckRun compares the arguments of Scorer.Run with a table of rows × dim, for every executor alike.
func CheckRun(rows, dim int, b Bag, p *Prototypes, embedding, scores []float32) error {
	switch {
	case len(b.IDs) == 0:
		return fmt.Errorf("%w: a bag without features has no embedding", ErrShape)
	case len(b.IDs) != len(b.Weights):
		return fmt.Errorf("%w: %d ids, %d weights", ErrShape, len(b.IDs), len(b.Weights))
	case len(embedding) != dim:
		return fmt.Errorf("%w: an embedding of %d values, the table has %d", ErrShape, len(embedding), dim)
	case p != nil && p.dim != dim:
		return fmt.Errorf("%w: prototypes of %d values, the table has %d", ErrShape, p.dim, dim)
	case p != nil && len(scores) != p.rows:
		return fmt.Errorf("%w: %d scores, %d prototypes", ErrShape, len(scores), p.rows)
	}
	for i, id := range b.IDs {
		if id < 0 || id >= int64(rows) {
			return fmt.Errorf("%w: feature %d is row %d, the table has %d", ErrShape, i, id, rows)
		}
	}
	return nil
}

// CheckUnit returns nil if an embedding that an executor normalised has length 1 ± 1e-4. Errors wrap
// ErrNoDirection.
func CheckUnit(v []float32) error {
	if norm := Norm(v); !(math.Abs(norm-1) <= 1e-4) { // NaN compares false
		return fmt.Errorf("%w: its length is %v", ErrNoDirection, norm)
	}
	return nil
}

func normalise(v []float32) error {
	norm := Norm(v)
	if !(norm > math.SmallestNonzeroFloat32) || norm > math.MaxFloat32 { // NaN compares false
		return fmt.Errorf("%w: its length is %v", ErrNoDirection, norm)
	}
	for i, x := range v {
		v[i] = float32(float64(x) / norm)
	}
	return nil
}
