// Package histogram keeps latency distributions as HDR histograms of one fixed
// geometry, so that any two of them can be merged. It is a thin layer over
// hdrhistogram-go: it may clamp and count, it may not estimate, and it imports
// nothing of the house.
//
// Percentiles of several runs, nodes or goroutines come from a merge and never
// from other percentiles.
package histogram

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// The geometry of every histogram. One hour keeps the longest freeze a run can
// survive; three digits bound the error of any value at 0.1 %.
const (
	Lowest      int64 = 1                  // nanoseconds
	Highest     int64 = 3_600_000_000_000  // nanoseconds: one hour
	Digits            = 3                  // significant decimal digits
	maxText           = 1 << 20            // bytes of encoded text that Decode looks at
	subBits           = 11                 // log2 of the 2,048 sub-buckets that three digits need
	cookieMask        = ^uint32(0xf0)      // the word size nibble of a V2 cookie says nothing
	outerCookie       = uint32(0x1c849304) // HdrHistogram V2, compressed
	innerCookie       = uint32(0x1c849303) // HdrHistogram V2
	outerHeader       = 8                  // cookie, length of the compressed part
	innerHeader       = hdr.ENCODING_HEADER_SIZE
)

// ErrCorrupt is wrapped by every error of Decode.
var ErrCorrupt = errors.New("corrupt histogram")

// Histogram counts durations in nanoseconds. It takes about 0.27 MB whatever
// it counts. It is not safe for concurrent use: one a goroutine, then Merge.
type Histogram struct {
	counts   *hdr.Histogram
	overflow int64
}

// New returns an empty histogram.
func New() *Histogram {
	return &Histogram{counts: hdr.New(Lowest, Highest, Digits)}
}

// Record counts one duration in nanoseconds. A value below 0 or above Highest
// is counted at that bound, and in Overflow: no sample is lost silently.
func (h *Histogram) Record(ns int64) {
	if ns < 0 || ns > Highest {
		h.overflow++
		ns = min(max(ns, 0), Highest)
	}
	// After the clamp only 2⁶³ samples could make this fail.
	_ = h.counts.RecordValue(ns)
}

// Merge adds the counts and the overflow of other. It fails when a count would
// be dropped; h is then no longer usable as a total.
func (h *Histogram) Merge(other *Histogram) error {
	if dropped := h.counts.Merge(other.counts); dropped != 0 {
		return fmt.Errorf("merge histograms: %d of %d values dropped", dropped, other.Count())
	}
	h.overflow += other.overflow
	return nil
}

// Count returns how many values were recorded, clamped ones included.
func (h *Histogram) Count() int64 { return h.counts.TotalCount() }

// Overflow returns how many values were outside the range and clamped. The
// encoded form does not carry it.
func (h *Histogram) Overflow() int64 { return h.overflow }

// Mean returns the mean in nanoseconds, taking each value at the middle of its
// bucket; 0 when empty.
func (h *Histogram) Mean() float64 { return h.counts.Mean() }

// Max returns the upper edge of the highest bucket in use, in nanoseconds, and
// 0 when empty.
func (h *Histogram) Max() int64 { return h.counts.Max() }

// Quantile returns the value at q (0 to 1, clamped; not a number counts as 0):
// the upper edge of the bucket that holds the sample whose rank is nearest to
// q × Count, at 0 the lower edge of the first. Nanoseconds; 0 when empty.
func (h *Histogram) Quantile(q float64) int64 {
	return h.counts.ValueAtPercentile(percent(q))
}

// Edges returns the lower and upper edge, both inclusive, of the bucket that
// Quantile(q) falls into: the sample of that rank lies between them.
func (h *Histogram) Edges(q float64) (low, high int64) {
	return bucket(h.Quantile(q))
}

// percent converts a quantile to a percentile without leaving 99.9 at
// 99.90000000000001, which would ask for a rank one too high.
func percent(q float64) float64 {
	if math.IsNaN(q) {
		return 0
	}
	return math.Round(min(max(q, 0), 1)*1e11) / 1e9
}

// bucket returns the edges of the bucket of v.
func bucket(v int64) (low, high int64) {
	width := int64(1) << max(bits.Len64(uint64(v))-subBits, 0)
	low = v &^ (width - 1)
	return low, low + width - 1
}

// Point is one step of a percentile curve.
type Point struct {
	Percentile float64 `json:"percentile"` // 0 to 100
	Value      int64   `json:"value"`      // nanoseconds
}

// Percentiles returns the curve for a plot, rising in both coordinates, finer
// towards 100 where the tail is. It is empty for an empty histogram.
func (h *Histogram) Percentiles() []Point {
	if h.Count() == 0 {
		return nil
	}
	steps := h.counts.CumulativeDistribution()
	points := make([]Point, len(steps))
	for i, s := range steps {
		points[i] = Point{Percentile: s.Quantile, Value: s.ValueAt}
	}
	return points
}

// Equal tells whether both hold the same counts. Overflow is not compared.
func (h *Histogram) Equal(other *Histogram) bool { return h.counts.Equals(other.counts) }

// Decode reads what Encode wrote. It refuses any other geometry before it
// allocates counts, so that text of any origin costs at most about 1 MB.
func Decode(text []byte) (*Histogram, error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("%w: %d bytes of text, the limit is %d", ErrCorrupt, len(text), maxText)
	}
	if err := checkGeometry(text); err != nil {
		return nil, err
	}
	counts, err := hdr.Decode(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return &Histogram{counts: counts}, nil
}

// checkGeometry reads the two headers alone. The library would allocate what
// the inner header asks for: 50 MB for one to 2⁶³ at five digits.
func checkGeometry(text []byte) error {
	raw, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil {
		return fmt.Errorf("%w: base64: %w", ErrCorrupt, err)
	}
	if len(raw) < outerHeader {
		return fmt.Errorf("%w: %d bytes, the header alone takes %d", ErrCorrupt, len(raw), outerHeader)
	}
	if c := binary.BigEndian.Uint32(raw); c&cookieMask != outerCookie {
		return fmt.Errorf("%w: cookie %#x at byte 0 is not that of V2 compressed", ErrCorrupt, c)
	}
	body := raw[outerHeader:]
	if n := binary.BigEndian.Uint32(raw[4:]); uint64(n) != uint64(len(body)) {
		return fmt.Errorf("%w: length at byte 4 is %d, %d bytes follow", ErrCorrupt, n, len(body))
	}
	return checkInner(body)
}

// checkInner inflates and checks the 40 bytes before the counts.
func checkInner(body []byte) error {
	z, err := zlib.NewReader(bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	var head [innerHeader]byte
	if _, err := io.ReadFull(z, head[:]); err != nil {
		return fmt.Errorf("%w: inner header: %w", ErrCorrupt, err)
	}
	if c := binary.BigEndian.Uint32(head[:]); c&cookieMask != innerCookie {
		return fmt.Errorf("%w: inner cookie %#x is not that of V2", ErrCorrupt, c)
	}
	digits := int32(binary.BigEndian.Uint32(head[12:]))
	low := int64(binary.BigEndian.Uint64(head[16:]))
	high := int64(binary.BigEndian.Uint64(head[24:]))
	if digits != Digits || low != Lowest || high != Highest {
		return fmt.Errorf("%w: geometry %d to %d at %d digits, want %d to %d at %d",
			ErrCorrupt, low, high, digits, Lowest, Highest, Digits)
	}
	return nil
}
