package engine

import (
	"errors"
	"fmt"
	"math"
)

// ErrNotFinite is wrapped where a parameter is NaN or infinite.
var ErrNotFinite = errors.New("not finite")

// Table holds the embedding of each feature, one row each, as float32, float16 or int8 with a scale a row.
// It does not change after it was made and is safe for concurrent use.
type Table struct {
	rows, dim int
	f32       []float32
	f16       []uint16
	i8        []int8
	scale     []float32 // of i8: value = scale[row] × i8
}

// NewTable returns a table of float32 rows, row after row. The data is kept, not copied. Errors wrap ErrShape,
// or ErrNotFinite and name the row.
func NewTable(dim int, data []float32) (*Table, error) {
	rows, err := rowsOf(dim, len(data))
	if err != nil {
		return nil, err
	}
	if i := firstNotFinite(data); i >= 0 {
		return nil, fmt.Errorf("%w: row %d of the table", ErrNotFinite, i/dim)
	}
	return &Table{rows: rows, dim: dim, f32: data}, nil
}

// NewTable16 returns a table of IEEE 754 binary16 rows. Errors wrap ErrShape, or ErrNotFinite and name the row.
func NewTable16(dim int, data []uint16) (*Table, error) {
	rows, err := rowsOf(dim, len(data))
	if err != nil {
		return nil, err
	}
	for i, h := range data {
		if h&0x7c00 == 0x7c00 {
			return nil, fmt.Errorf("%w: row %d of the table", ErrNotFinite, i/dim)
		}
	}
	return &Table{rows: rows, dim: dim, f16: data}, nil
}

// NewTable8 returns a table of int8 rows with a scale each. Errors wrap ErrShape, or ErrNotFinite and name
// the row.
func NewTable8(dim int, data []int8, scale []float32) (*Table, error) {
	rows, err := rowsOf(dim, len(data))
	if err != nil {
		return nil, err
	}
	if len(scale) != rows {
		return nil, fmt.Errorf("%w: %d scales, %d rows", ErrShape, len(scale), rows)
	}
	if i := firstNotFinite(scale); i >= 0 {
		return nil, fmt.Errorf("%w: the scale of row %d is %v", ErrNotFinite, i, scale[i])
	}
	return &Table{rows: rows, dim: dim, i8: data, scale: scale}, nil
}

func rowsOf(dim, elements int) (int, error) {
	if dim < 1 || elements == 0 || elements%dim != 0 || elements > MaxElements {
		return 0, fmt.Errorf("%w: %d elements in rows of %d: want whole rows, at least one, at most %d elements", ErrShape, elements, dim, MaxElements)
	}
	return elements / dim, nil
}

func firstNotFinite(v []float32) int {
	const exponent = 0x7f800000 // all ones: NaN or infinite
	for i, x := range v {
		if math.Float32bits(x)&exponent == exponent {
			return i
		}
	}
	return -1
}

// Rows returns the number of rows.
func (t *Table) Rows() int { return t.rows }

// Dim returns the number of values of a row.
func (t *Table) Dim() int { return t.dim }

// Storage returns the rows as they are stored: exactly one of f32, f16 and i8 is not nil, scale goes with i8.
// The caller does not change them.
func (t *Table) Storage() (f32 []float32, f16 []uint16, i8 []int8, scale []float32) {
	return t.f32, t.f16, t.i8, t.scale
}

// Row writes row i as float32.
func (t *Table) Row(i int, dst []float32) {
	clear(dst)
	t.addRow(i, 1, dst)
}

// sum writes the weighted sum of the bag's rows, in the order of the bag: dst = ((0 + w0·r0) + w1·r1) + …
func (t *Table) sum(b Bag, dst []float32) {
	clear(dst)
	i := 0
	if t.f32 != nil {
		for ; i+4 <= len(b.IDs); i += 4 { // four rows a pass load and store dst once; the order stays
			ids, w := b.IDs[i:i+4], (*[4]float32)(b.Weights[i:])
			combine4(dst, w, t.row32(ids[0]), t.row32(ids[1]), t.row32(ids[2]), t.row32(ids[3]))
		}
	}
	for ; i < len(b.IDs); i++ {
		t.addRow(int(b.IDs[i]), b.Weights[i], dst)
	}
}

func (t *Table) row32(id int64) []float32 { return t.f32[int(id)*t.dim:][:t.dim:t.dim] }

// addRow adds w × row i to dst.
func (t *Table) addRow(i int, w float32, dst []float32) {
	from := i * t.dim
	switch {
	case t.f32 != nil:
		addScaled(dst, w, t.f32[from:][:t.dim])
	case t.f16 != nil:
		for j, h := range t.f16[from:][:len(dst)] {
			dst[j] += float32(w * Float16(h))
		}
	default:
		w = float32(w * t.scale[i])
		for j, q := range t.i8[from:][:len(dst)] {
			dst[j] += float32(w * float32(q))
		}
	}
}

// Float16 widens a finite IEEE 754 binary16 value. Shifted into the exponent of a binary32 it is 2^-112 of
// its value, subnormals included, and the product is exact.
func Float16(h uint16) float32 {
	const twoTo112 = 1 << 112
	return math.Float32frombits(uint32(h&0x8000)<<16|uint32(h&0x7fff)<<13) * twoTo112
}
