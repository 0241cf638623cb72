package histogram

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"
)

const (
	wordSize = 0x10    // in a cookie: of LEB128
	maxCount = 1 << 55 // that inner writes
)

// encoder keeps what a histogram is encoded with: a compressor alone is 0.8 MB, which a load would leave behind three
// times a second.
type encoder struct {
	counts []byte
	packed bytes.Buffer
	zlib   *zlib.Writer
}

var encoders = sync.Pool{New: func() any {
	e := &encoder{}
	e.zlib, _ = zlib.NewWriterLevel(&e.packed, zlib.BestCompression) // a level that there is
	return e
}}

// Encode returns the V2 compressed form as base64 text, as in HdrHistogram
// logs: 13 to 16 KB for a usual run. It is what the library's encoder writes, byte for byte.
func (h *Histogram) Encode() ([]byte, error) {
	if h.Count() >= maxCount {
		return nil, fmt.Errorf("encode histogram: %d values, the limit is 2⁵⁵", h.Count())
	}
	e := encoders.Get().(*encoder)
	defer encoders.Put(e)
	e.inner(h)
	e.packed.Reset()
	e.packed.Write(binary.BigEndian.AppendUint32(nil, outerCookie|wordSize))
	e.packed.Write(make([]byte, 4)) // length of the rest, set below
	e.zlib.Reset(&e.packed)
	_, err := e.zlib.Write(e.counts)
	if err = errors.Join(err, e.zlib.Close()); err != nil {
		return nil, fmt.Errorf("encode histogram: %w", err)
	}
	raw := e.packed.Bytes()
	binary.BigEndian.PutUint32(raw[4:], uint32(len(raw)-outerHeader))
	return base64.StdEncoding.AppendEncode(nil, raw), nil
}

// inner makes the form that is compressed: a header of 40 bytes, then the counts up to the last in use, each as zigzag
// LEB128, a run of zeros as its length below zero (HdrHistogram V2). Its ninth byte, which no count below 2⁵⁵ needs,
// would differ.
func (e *encoder) inner(h *Histogram) {
	b := binary.BigEndian.AppendUint32(e.counts[:0], innerCookie|wordSize)
	b = append(b, make([]byte, 8)...) // length, set below; offset of the first bucket: 0
	b = binary.BigEndian.AppendUint32(b, Digits)
	b = binary.BigEndian.AppendUint64(b, uint64(Lowest))
	b = binary.BigEndian.AppendUint64(b, uint64(Highest))
	b = binary.BigEndian.AppendUint64(b, math.Float64bits(1)) // values are as recorded
	counts := h.counts.Export().Counts
	last := index(h.Max())
	for i := 0; i <= last; {
		zeros := i
		for i <= last && counts[i] == 0 {
			i++
		}
		switch zeros = i - zeros; {
		case zeros > 1:
			b = binary.AppendVarint(b, int64(-zeros))
		case zeros == 1:
			b = append(b, 0)
		default:
			b = binary.AppendVarint(b, counts[i])
			i++
		}
	}
	binary.BigEndian.PutUint32(b[4:], uint32(len(b)-innerHeader))
	e.counts = b
}
