// Package table is the arithmetic of a routing decision: policies as rows of unit vectors, exact nearest
// neighbours, the weighted vote and the rules of abstention. It embeds no text, reads no clock and keeps no
// state; a Table never changes after it was made.
package table

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/assay-bench/assay/models/encode"
)

// Dim is the number of values of a row.
const Dim = encode.Dimensions

// MaxRows bounds a table: 65,536 rows are 32 MiB.
const MaxRows = 65536

// Row is one prototype of a policy: as it is now, and as it was learned from examples, before feedback.
// Both are unit vectors of Dim values that nobody changes.
type Row struct {
	Live, Trained []float32
}

// Learned says what a policy's rows were made of, so that another model can learn them again.
type Learned struct {
	Examples   []string // nil: the rows were given as vectors
	PerExample bool     // a row an example; else one row, their mean
}

// Split sends a share of the keys to another backend than the first: A/B.
type Split struct {
	Backend string  `json:"backend"`
	Share   float64 `json:"share"`
}

// Route says which backends serve a policy.
type Route struct {
	Backends []string
	Split    *Split
	Shadow   string
}

// Policy is what a decision picks. It does not change after NewPolicy.
type Policy struct {
	ID      string
	Weight  float64 // before windows and health
	Rows    []Row
	Learned Learned
	Route   Route

	digest [sha256.Size]byte
}

// NewPolicy returns a policy with its digest. Errors name a row that is not a unit vector of Dim values.
func NewPolicy(p Policy) (*Policy, error) {
	for i, r := range p.Rows {
		for _, v := range [][]float32{r.Live, r.Trained} {
			if len(v) != Dim {
				return nil, fmt.Errorf("policy %s: row %d has %d values, want %d", p.ID, i, len(v), Dim)
			}
			if norm := norm(v); !(math.Abs(norm-1) <= 1e-3) { // NaN too
				return nil, fmt.Errorf("policy %s: row %d has length %v, want 1", p.ID, i, norm)
			}
		}
	}
	p.digest = digestOf(&p)
	return &p, nil
}

func norm(v []float32) float64 {
	sum := 0.0
	for _, x := range v {
		sum += float64(float64(x) * float64(x))
	}
	return math.Sqrt(sum)
}

// WithRow returns a policy whose row i is now v.
func (p *Policy) WithRow(i int, v []float32) (*Policy, error) {
	q := *p
	q.Rows = slices.Clone(p.Rows)
	q.Rows[i].Live = v
	return NewPolicy(q)
}

// RowID is the name of a policy's row.
func RowID(policy string, row int) string { return policy + "#" + strconv.Itoa(row) }

// digestOf covers what decides: id, weight and the live rows.
func digestOf(p *Policy) [sha256.Size]byte {
	h := sha256.New()
	buf := binary.BigEndian.AppendUint64(nil, uint64(len(p.ID)))
	buf = append(buf, p.ID...)
	buf = binary.BigEndian.AppendUint64(buf, math.Float64bits(p.Weight))
	for _, r := range p.Rows {
		for _, x := range r.Live {
			buf = binary.BigEndian.AppendUint32(buf, math.Float32bits(x))
		}
	}
	_, _ = h.Write(buf) // a hash never fails
	return [sha256.Size]byte(h.Sum(nil))
}

// Threshold is the least greatest cosine that is no abstention, and where it comes from.
type Threshold struct {
	Value    float64 `json:"value"`
	Split    string  `json:"split"` // none, configured, or the name of the calibration's split
	Quantile float64 `json:"quantile"`
	N        int     `json:"n"`
	Digest   string  `json:"digest"` // of the split's texts
}

// Table is a version's policies, ready to be searched.
type Table struct {
	policies  []*Policy // sorted by id
	owner     []int32   // row → policy
	first     []int32   // policy → its first row
	matrix    []float32 // rows × Dim
	threshold Threshold
	digest    string
}

// New returns a table of policies; the slice is kept and sorted. Model is the digest of the model that made
// the rows: it is part of the table's digest. Errors: two policies of one id, more than MaxRows rows.
func New(policies []*Policy, threshold Threshold, model string) (*Table, error) {
	slices.SortFunc(policies, func(a, b *Policy) int { return compare(a.ID, b.ID) })
	t := &Table{policies: policies, threshold: threshold, first: make([]int32, len(policies))}
	rows := 0
	for i, p := range policies {
		if i > 0 && policies[i-1].ID == p.ID {
			return nil, fmt.Errorf("policy %s is there twice", p.ID)
		}
		rows += len(p.Rows)
	}
	if rows > MaxRows {
		return nil, fmt.Errorf("%d rows, at most %d", rows, MaxRows)
	}
	t.owner, t.matrix = make([]int32, 0, rows), make([]float32, 0, rows*Dim)
	h := sha256.New()
	for i, p := range policies {
		t.first[i] = int32(len(t.owner))
		for _, r := range p.Rows {
			t.owner = append(t.owner, int32(i))
			t.matrix = append(t.matrix, r.Live...)
		}
		_, _ = h.Write(p.digest[:])
	}
	_, _ = fmt.Fprintf(h, "%x %s", math.Float64bits(threshold.Value), model)
	t.digest = hex.EncodeToString(h.Sum(nil))
	return t, nil
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Policies returns the policies by id, which the caller does not change.
func (t *Table) Policies() []*Policy { return t.policies }

// Rows returns the number of rows.
func (t *Table) Rows() int { return len(t.owner) }

// Threshold returns the threshold of the table.
func (t *Table) Threshold() Threshold { return t.threshold }

// Digest returns the hexadecimal SHA-256 of everything that decides.
func (t *Table) Digest() string { return t.digest }

// Find returns the index of a policy.
func (t *Table) Find(id string) (int, bool) {
	return slices.BinarySearchFunc(t.policies, id, func(p *Policy, id string) int { return compare(p.ID, id) })
}

// Place returns which row of its policy a row of the table is.
func (t *Table) Place(row int32) (policy *Policy, index int) {
	p := t.owner[row]
	return t.policies[p], int(row - t.first[p])
}
