package engine

import "fmt"

// normTolerance is how far from 1 the length of a prototype may be.
const normTolerance = 1e-3

// Prototypes are unit-norm rows that an embedding is compared with. They do not change after they were made
// and are safe for concurrent use: a router that learns makes new ones and swaps them.
type Prototypes struct {
	rows, dim int
	data      []float32
}

// NewPrototypes returns prototypes of dim values each, row after row. The data is kept, not copied: the
// caller gives it up. Errors wrap ErrShape, or ErrNoDirection for a row whose length is not 1 ± 0.001, and
// name the row.
func NewPrototypes(dim int, data []float32) (*Prototypes, error) {
	rows, err := rowsOf(dim, len(data))
	if err != nil {
		return nil, err
	}
	p := &Prototypes{rows: rows, dim: dim, data: data}
	for i := range rows {
		if norm := Norm(p.Row(i)); !(norm >= 1-normTolerance && norm <= 1+normTolerance) {
			return nil, fmt.Errorf("prototype %d: %w: its length is %v, want 1", i, ErrNoDirection, norm)
		}
	}
	return p, nil
}

// Rows returns the number of prototypes.
func (p *Prototypes) Rows() int { return p.rows }

// Dim returns the number of values of a prototype.
func (p *Prototypes) Dim() int { return p.dim }

// Row returns prototype i, which the caller does not change.
func (p *Prototypes) Row(i int) []float32 { return p.data[i*p.dim:][:p.dim:p.dim] }

// Data returns all prototypes, row after row, which the caller does not change.
func (p *Prototypes) Data() []float32 { return p.data }

// Score writes the cosine of an embedding with each prototype. It allocates nothing. Errors wrap ErrShape.
func (p *Prototypes) Score(embedding, scores []float32) error {
	if len(embedding) != p.dim || len(scores) != p.rows {
		return fmt.Errorf("%w: %d values and %d scores, want %d and %d", ErrShape, len(embedding), len(scores), p.dim, p.rows)
	}
	p.score(embedding, scores)
	return nil
}

func (p *Prototypes) score(embedding, scores []float32) {
	for i := range scores {
		scores[i] = Dot(embedding, p.data[i*p.dim:][:p.dim])
	}
}
