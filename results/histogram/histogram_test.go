package histogram

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/google/go-cmp/cmp"
)

// sample returns n log-uniform durations and a histogram of them.
func sample(n int, seed uint64) ([]int64, *Histogram) {
	r := rand.New(rand.NewPCG(seed, 1))
	h, values := New(), make([]int64, n)
	for i := range values {
		values[i] = int64(math.Exp(r.Float64() * math.Log(float64(Highest))))
		h.Record(values[i])
	}
	slices.Sort(values)
	return values, h
}

func TestQuantileBracketsTheSample(t *testing.T) {
	values, h := sample(100_000, 7)
	seen := 0
	for _, q := range []float64{0.001, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 1} {
		seen++
		want := values[int(math.Ceil(math.Round(q*1e12)/1e12*float64(len(values))))-1]
		low, high := h.Edges(q)
		if want < low || want > high {
			t.Errorf("q %v: sample %d outside its bucket [%d, %d]", q, want, low, high)
		}
		if got := h.Quantile(q); got != high {
			t.Errorf("q %v: quantile %d, upper edge %d", q, got, high)
		}
		if float64(high-low) > 0.001*float64(low)+1 {
			t.Errorf("q %v: bucket [%d, %d] is wider than 0.1 %%", q, low, high)
		}
	}
	if seen == 0 {
		t.Fatal("no quantiles: this test proves nothing")
	}
}

func TestBucketAgreesWithLibrary(t *testing.T) {
	h, seen := hdr.New(Lowest, Highest, Digits), 0
	for v := int64(1); v < Highest; v += v/3 + 1 {
		seen++
		low, high := bucket(v)
		if !h.ValuesAreEquivalent(low, v) || !h.ValuesAreEquivalent(high, v) {
			t.Fatalf("bucket(%d) = [%d, %d]: wider than the library's", v, low, high)
		}
		if h.ValuesAreEquivalent(high+1, v) || low > 0 && h.ValuesAreEquivalent(low-1, v) {
			t.Fatalf("bucket(%d) = [%d, %d]: narrower than the library's", v, low, high)
		}
	}
	if seen == 0 {
		t.Fatal("no values: this test proves nothing")
	}
}

func TestRecordClampsAndCounts(t *testing.T) {
	h := New()
	for _, v := range []int64{math.MinInt64, -1, 0, 1, Highest, Highest + 1, math.MaxInt64} {
		h.Record(v)
	}
	if h.Count() != 7 || h.Overflow() != 4 {
		t.Errorf("count %d, overflow %d; want 7 and 4", h.Count(), h.Overflow())
	}
	if low, high := h.Edges(1); Highest < low || Highest > high || h.Max() != high {
		t.Errorf("max %d, last bucket [%d, %d]: want the bucket of %d", h.Max(), low, high, Highest)
	}
}

func TestMergeEqualsPooled(t *testing.T) {
	total, pooled := New(), New()
	for seed := range uint64(4) {
		values, h := sample(int(1000*(seed+1)), seed)
		if seed == 2 {
			h.Record(-1)
			pooled.Record(-1)
		}
		if err := total.Merge(h); err != nil {
			t.Fatal(err)
		}
		for _, v := range values {
			pooled.Record(v)
		}
	}
	if !total.Equal(pooled) || total.Overflow() != 1 || total.Count() != 10_001 {
		t.Errorf("merged: %d values, overflow %d; pooled: %d values", total.Count(), total.Overflow(), pooled.Count())
	}
	if d := math.Abs(total.Mean()/pooled.Mean() - 1); d > 1e-9 {
		t.Errorf("mean differs by %g", d)
	}
}

func TestMergeRefusesDroppedValues(t *testing.T) {
	full, one := New(), New()
	if err := full.counts.RecordValues(5, math.MaxInt64); err != nil {
		t.Fatal(err)
	}
	one.Record(5)
	if err := full.Merge(one); err == nil || !strings.Contains(err.Error(), "1 of 1 values dropped") {
		t.Errorf("merge past the counter: error %v", err)
	}
}

func TestPercentilesRise(t *testing.T) {
	if p := New().Percentiles(); p != nil {
		t.Errorf("empty histogram: %d points", len(p))
	}
	_, h := sample(10_000, 3)
	points := h.Percentiles()
	if len(points) < 10 {
		t.Fatalf("%d points for 10,000 values", len(points))
	}
	for i, p := range points[1:] {
		if p.Percentile < points[i].Percentile || p.Value < points[i].Value {
			t.Errorf("point %d falls: %v after %v", i+1, p, points[i])
		}
	}
	want := Point{Percentile: 100, Value: h.Max()}
	if d := cmp.Diff(want, points[len(points)-1]); d != "" {
		t.Errorf("last point (-want +got):\n%s", d)
	}
}

func TestEmpty(t *testing.T) {
	h := New()
	low, high := h.Edges(0.5)
	got := []float64{float64(h.Count()), h.Mean(), float64(h.Max()), float64(h.Quantile(0.99)), float64(low), float64(high)}
	if d := cmp.Diff(make([]float64, 6), got); d != "" {
		t.Errorf("empty histogram (-want +got):\n%s", d)
	}
	if got := h.Quantile(math.NaN()); got != 0 {
		t.Errorf("quantile of not-a-number = %d", got)
	}
}

func TestEncodeDecode(t *testing.T) {
	_, h := sample(5_000, 11)
	text, err := h.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	if !back.Equal(h) || back.Quantile(0.99) != h.Quantile(0.99) {
		t.Error("decoded histogram differs")
	}
}

// frame builds an encoded histogram with any geometry and payload.
func frame(digits uint32, low, high uint64, length uint32, payload []byte) []byte {
	inner := binary.BigEndian.AppendUint32(nil, innerCookie|0x10)
	inner = binary.BigEndian.AppendUint32(inner, length)
	inner = binary.BigEndian.AppendUint32(inner, 0)
	inner = binary.BigEndian.AppendUint32(inner, digits)
	inner = binary.BigEndian.AppendUint64(inner, low)
	inner = binary.BigEndian.AppendUint64(inner, high)
	inner = binary.BigEndian.AppendUint64(inner, math.Float64bits(1))
	var z bytes.Buffer
	w := zlib.NewWriter(&z)
	_, _ = w.Write(append(inner, payload...))
	_ = w.Close()
	outer := binary.BigEndian.AppendUint32(nil, outerCookie|0x10)
	outer = binary.BigEndian.AppendUint32(outer, uint32(z.Len()))
	return []byte(base64.StdEncoding.EncodeToString(append(outer, z.Bytes()...)))
}

func TestDecodeRefuses(t *testing.T) {
	good, err := New().Encode()
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := base64.StdEncoding.DecodeString(string(good))
	trailing := []byte(base64.StdEncoding.EncodeToString(append(slices.Clone(raw), 0)))
	cases := map[string]struct {
		text []byte
		want string
	}{
		"empty":             {nil, "header alone"},
		"not base64":        {[]byte("***"), "base64"},
		"other cookie":      {[]byte(base64.StdEncoding.EncodeToString(make([]byte, 16))), "cookie 0x0"},
		"trailing bytes":    {trailing, "length at byte 4"},
		"too much text":     {make([]byte, maxText+1), "the limit is"},
		"huge geometry":     {frame(5, 1, math.MaxInt64, 0, nil), "geometry 1 to"},
		"other digits":      {frame(2, 1, uint64(Highest), 0, nil), "at 2 digits"},
		"payload too long":  {frame(Digits, 1, uint64(Highest), math.MaxInt32, nil), "PayloadLength"},
		"negative length":   {frame(Digits, 1, uint64(Highest), 1<<31, nil), "negative"},
		"zero run too long": {frame(Digits, 1, uint64(Highest), 9, []byte{255, 255, 255, 255, 255, 255, 255, 255, 127}), "zero-run"},
	}
	if len(cases) == 0 {
		t.Fatal("no cases: this test proves nothing")
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h, err := Decode(c.text)
			if h != nil || !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("decode = %v, error %v; want a corrupt histogram with %q", h, err, c.want)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	_, h := sample(100, 5)
	text, err := h.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(frame(5, 1, math.MaxInt64, 0, nil))
	f.Fuzz(func(t *testing.T, text []byte) {
		h, err := Decode(text)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("error %v is not ErrCorrupt", err)
			}
			return
		}
		again, err := h.Encode()
		if err != nil {
			t.Fatalf("encode what was decoded: %v", err)
		}
		back, err := Decode(again)
		if err != nil || !back.Equal(h) {
			t.Fatalf("second decode differs, error %v", err)
		}
		_, _, _ = h.Mean(), h.Percentiles(), h.Quantile(0.5)
	})
}

func BenchmarkRecord(b *testing.B) {
	h, v := New(), int64(1)
	for b.Loop() {
		h.Record(v)
		v = (v*25 + 7) & (1<<30 - 1)
	}
}

func BenchmarkMerge(b *testing.B) {
	_, from := sample(10_000, 1)
	total := New()
	for b.Loop() {
		if err := total.Merge(from); err != nil {
			b.Fatal(err)
		}
	}
}
