// Package static is the embedded text model: a table of 128 numbers for each word piece, distilled from a sentence
// transformer (see MODEL_CARD.md), so that texts of the same meaning are near each other without any training. It
// runs no network and knows no routes.
package static

import (
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/assay-bench/assay/models/encode"
	"github.com/assay-bench/assay/models/modelfile"
	"github.com/assay-bench/assay/models/text"
)

//go:embed static.model
var embedded []byte

const kind = "static"

// Model is a loaded table. It is immutable.
type Model struct {
	identity   encode.Identity
	vocabulary *text.Vocabulary
	rowOf      []int32 // by token, -1: no row
	table      []float32
}

// Load returns the embedded model. It is read once.
func Load() (*Model, error) { return load() }

var load = sync.OnceValues(func() (*Model, error) { return Decode(embedded) })

// File returns the bytes of the embedded model, to publish or to check. They are shared: read only.
func File() []byte { return embedded }

// Decode reads a model file. Errors wrap modelfile.ErrFormat, modelfile.ErrMismatch or text.ErrVocabulary.
func Decode(b []byte) (*Model, error) {
	f, err := modelfile.Decode(b, kind)
	if err != nil {
		return nil, err
	}
	if got := f.Attributes["tokenizer"]; got != "bert-uncased-wordpiece" {
		return nil, fmt.Errorf("%w: tokenizer %q", modelfile.ErrFormat, got)
	}
	m := &Model{identity: encode.Identity{Name: f.Name, Version: f.Version, Digest: f.Digest, Dimensions: encode.Dimensions}}
	words, err := f.Section("vocabulary")
	if err != nil {
		return nil, err
	}
	if m.vocabulary, err = text.NewVocabulary(strings.Split(strings.TrimSuffix(string(words), "\n"), "\n")); err != nil {
		return nil, err
	}
	if err := m.decodeTable(f); err != nil {
		return nil, err
	}
	return m, nil
}

// decodeTable reads the rows: int8 each, with a scale for each row.
func (m *Model) decodeTable(f *modelfile.File) error {
	ids, err := f.Section("ids")
	scales, err2 := f.Section("scales")
	rows, err3 := f.Section("rows")
	if err := errors.Join(err, err2, err3); err != nil {
		return err
	}
	n := len(ids) / 2
	if n == 0 || len(ids) != 2*n || len(scales) != 4*n || len(rows) != encode.Dimensions*n {
		return fmt.Errorf("%w: %d, %d and %d bytes of ids, scales and rows do not fit each other", modelfile.ErrFormat, len(ids), len(scales), len(rows))
	}
	m.rowOf = slices.Repeat([]int32{-1}, m.vocabulary.Size())
	m.table = make([]float32, n*encode.Dimensions)
	for row := range n {
		id := int(binary.LittleEndian.Uint16(ids[2*row:]))
		scale := math.Float32frombits(binary.LittleEndian.Uint32(scales[4*row:]))
		if id >= len(m.rowOf) || m.rowOf[id] >= 0 || !(scale > 0 && scale <= math.MaxFloat32) {
			return fmt.Errorf("%w: row %d is of token %d of %d with scale %v", modelfile.ErrFormat, row, id, len(m.rowOf), scale)
		}
		m.rowOf[id] = int32(row)
		dequantize(m.table[row*encode.Dimensions:][:encode.Dimensions], rows[row*encode.Dimensions:], scale)
	}
	return nil
}

func dequantize(dst []float32, src []byte, scale float32) {
	src = src[:len(dst)]
	for j := range dst {
		dst[j] = scale * float32(int8(src[j]))
	}
}

// Identity returns name, version and digest of the model.
func (m *Model) Identity() encode.Identity { return m.identity }

// Vocabulary returns the pieces that the tokenizer knows.
func (m *Model) Vocabulary() *text.Vocabulary { return m.vocabulary }

// Table returns the rows, encode.Dimensions numbers each. It is shared: read only.
func (m *Model) Table() []float32 { return m.table }

// Row returns the row of a token of the vocabulary, nil if it has none. It is shared: read only.
func (m *Model) Row(token int) []float32 {
	row := int(m.rowOf[token])
	if row < 0 {
		return nil
	}
	return m.table[row*encode.Dimensions:][:encode.Dimensions:encode.Dimensions]
}

// NewSession returns the scratch of one goroutine.
func (m *Model) NewSession() encode.Session { return encode.NewBagSession(m) }

// NewFeatures returns a tokenizer that counts rows. Pieces without a row, of other scripts and punctuation, count
// nowhere.
func (m *Model) NewFeatures() encode.Features {
	return encode.Limit(text.NewWordPiece(m.vocabulary, m.rowOf, len(m.table)/encode.Dimensions))
}
