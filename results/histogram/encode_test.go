package histogram

import (
	"bytes"
	"math"
	"testing"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// wantLibraryText holds the text of Encode against that of the library.
func wantLibraryText(t *testing.T, h *Histogram) {
	t.Helper()
	got, err := h.Encode()
	if err != nil {
		t.Fatal(err)
	}
	want, err := h.counts.Encode(hdr.V2CompressedEncodingCookieBase)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d values:\n%s\nthe library writes\n%s", h.Count(), got, want)
	}
}

func TestEncodeAsTheLibrary(t *testing.T) {
	for _, values := range [][]int64{nil, {0}, {1}, {2}, {Highest}, {Highest + 1}, {0, 1, 3, 2047, 2048, 2050, 1e6, Highest}} {
		h := New()
		for i, v := range values {
			for range i*i*i + 1 {
				h.Record(v)
			}
		}
		wantLibraryText(t, h)
	}
	h := New()
	for k := range int64(300_000) {
		h.Record(k * k % 900_000_007)
		if k%10_000 == 0 {
			wantLibraryText(t, h)
		}
	}
	h.Reset()
	wantLibraryText(t, h)
	for _, n := range []int64{63, 64, 1 << 34, maxCount - 1} {
		h.Reset()
		_ = h.counts.RecordValues(5, n)
		wantLibraryText(t, h)
	}
	for _, n := range []int64{maxCount, math.MaxInt64} {
		h.Reset()
		_ = h.counts.RecordValues(5, n)
		if text, err := h.Encode(); err == nil {
			t.Errorf("%d values: %s", n, text)
		}
	}
}

func FuzzEncode(f *testing.F) {
	f.Add([]byte{0, 1, 200, 3}, int64(1))
	f.Add([]byte("a run of values, some of them far from the others"), int64(1<<33))
	f.Fuzz(func(t *testing.T, values []byte, step int64) {
		h, at := New(), int64(0)
		for _, v := range values {
			at += step % Highest * int64(v)
			h.Record(at)
		}
		wantLibraryText(t, h)
	})
}

func BenchmarkEncode(b *testing.B) {
	h := New()
	for k := range int64(3000) {
		h.Record(50_000 + k*k*7919%900_000)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.Encode(); err != nil {
			b.Fatal(err)
		}
	}
}
