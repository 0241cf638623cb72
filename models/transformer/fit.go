package transformer

import (
	"encoding/binary"
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"

	"github.com/assay-bench/assay/models/encode"
	"github.com/assay-bench/assay/models/modelfile"
)

// Fit makes a projection: the directions of most energy of the texts' mean states, each of length 1 first, without
// taking the mean off, so that cosines of projected vectors are near those of whole ones. It returns the file. The
// model's own projection is not used.
func (m *Model) Fit(texts []string, attributes map[string]string) ([]byte, error) {
	s, err := m.Open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }() // it is not used again
	energy, v := mat.NewSymDense(Width, nil), make([]float32, encode.Dimensions)
	for _, t := range texts {
		if known, err := s.Encode(v, t); err != nil || known == 0 {
			return nil, fmt.Errorf("%.40q: %d pieces known: %w", t, known, err)
		}
		whole := make([]float64, Width)
		for i, x := range s.mean {
			whole[i] = float64(x)
		}
		x := mat.NewVecDense(Width, whole)
		x.ScaleVec(1/mat.Norm(x, 2), x)
		energy.SymRankOne(energy, 1, x)
	}
	var eigen mat.EigenSym
	if !eigen.Factorize(energy, true) {
		return nil, fmt.Errorf("the covariance of %d texts has no eigenvectors", len(texts))
	}
	var vectors mat.Dense
	eigen.VectorsTo(&vectors)
	rows := make([]byte, 0, 4*Width*encode.Dimensions)
	for i := range Width {
		for j := range encode.Dimensions { // the greatest eigenvalue is the last
			column := Width - 1 - j
			rows = binary.LittleEndian.AppendUint32(rows, math.Float32bits(float32(upright(&vectors, column)*vectors.At(i, column))))
		}
	}
	return modelfile.Encode(modelfile.Meta{Kind: kind, Name: "assay-projection", Version: "1", Attributes: attributes}, []modelfile.Section{{Name: "rows", Bytes: rows}})
}

// upright is the sign that makes the greatest element of a column positive: an eigenvector has two.
func upright(m *mat.Dense, column int) float64 {
	greatest := 0.0
	for i := range Width {
		if x := m.At(i, column); math.Abs(x) > math.Abs(greatest) {
			greatest = x
		}
	}
	return math.Copysign(1, greatest)
}
