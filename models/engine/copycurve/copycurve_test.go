package copycurve

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/models/engine/ort"
)

// TestCurve proves router/perf/copy-curve: at least six sizes from 512 B to 16 MiB, each with an interval that
// holds its ratio, bytes copied on one way and none on the other.
func TestCurve(t *testing.T) {
	r, err := Run(t.Context(), Options{Rounds: 7, Seed: 1})
	if errors.Is(err, ort.ErrLibrary) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	sizes := map[int]bool{}
	for _, p := range r.Points {
		if p.Graph == Relu {
			sizes[p.Bytes] = true
		}
		if !(p.Low <= p.Ratio && p.Ratio <= p.High && p.Low > 0) {
			t.Errorf("%s, %d bytes: %v in %v to %v", p.Graph, p.Bytes, p.Ratio, p.Low, p.High)
		}
		if want := uint64(p.Bytes / 2 * 3); p.CopiedBytes != want || p.CopiedBytes0 != 0 {
			t.Errorf("%s, %d bytes: %d copied, want %d; %d without copies", p.Graph, p.Bytes, p.CopiedBytes, want, p.CopiedBytes0)
		}
		if p.AllocatedBytes == 0 {
			t.Errorf("%s, %d bytes: copying allocates nothing", p.Graph, p.Bytes)
		}
	}
	if len(sizes) < 6 || !sizes[512] || !sizes[16<<20] {
		t.Errorf("sizes %v", sizes)
	}
	var text bytes.Buffer
	if err := errors.Join(r.Markdown(&text), r.JSON(&text)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"512 B", "16 MiB", "42.7 ms", "1.51", "| 4096 |"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the report does not say %q", want)
		}
	}
}

func TestMedian(t *testing.T) {
	type got [3]float64
	three := func(v ...float64) got {
		a, b, c := median(v)
		return got{a, b, c}
	}
	if diff := cmp.Diff(got{2, 1, 3}, three(3, 1, 2)); diff != "" {
		t.Error(diff)
	}
	var hundred []float64
	for i := range 100 {
		hundred = append(hundred, float64(100-i))
	}
	if diff := cmp.Diff(got{50.5, 40, 61}, three(hundred...)); diff != "" {
		t.Error(diff)
	}
}

func TestNoLibrary(t *testing.T) {
	if _, err := Run(context.Background(), Options{Library: t.TempDir()}); !errors.Is(err, ort.ErrLibrary) {
		t.Errorf("err = %v", err)
	}
}
