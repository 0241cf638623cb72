package encode_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/assay-bench/assay/models/encode"
	"github.com/assay-bench/assay/models/engine"
	"github.com/assay-bench/assay/models/text"
)

// toy is a bag over hashed n-grams with a table of two kinds of rows: +1 and, in the odd ones, -1.
type toy struct{ table []float32 }

const buckets = 64

func newToy() toy {
	t := toy{make([]float32, buckets*encode.Dimensions)}
	for i := range t.table {
		t.table[i] = float32(1 - i/encode.Dimensions%2*2)
	}
	return t
}

func (toy) Identity() encode.Identity    { return encode.Identity{Name: "toy"} }
func (t toy) Table() []float32           { return t.table }
func (t toy) NewSession() encode.Session { return encode.NewBagSession(t) }
func (toy) NewFeatures() encode.Features { return encode.Limit(text.NewHashed(buckets, nil)) }

func TestBagSession(t *testing.T) {
	s := newToy().NewSession()
	v := make([]float32, encode.Dimensions)
	known, err := s.Encode(v, "where is my parcel")
	if err != nil || known < 10 || math.Abs(engine.Norm(v)-1) > 1e-5 {
		t.Fatalf("known = %d, norm %v, %v", known, engine.Norm(v), err)
	}
	for _, text := range []string{"", " ?!... ", "где моя посылка", "我的包裹"} {
		if known, err := s.Encode(v, text); known != 0 || err != nil || engine.Norm(v) != 0 {
			t.Errorf("%q: known = %d, norm %v, %v", text, known, engine.Norm(v), err)
		}
	}
	if _, err := s.Encode(v, strings.Repeat("a", encode.MaxTextBytes+1)); !errors.Is(err, encode.ErrTextTooLong) {
		t.Errorf("long text: %v", err)
	}
	if _, err := s.Encode(v[1:], "a"); err == nil {
		t.Error("a short vector is taken")
	}
	if n := testing.AllocsPerRun(50, func() { _, _ = s.Encode(v, "where is my parcel") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestFeaturesCancelOut takes a table whose sum is zero for every text: there is no direction, and no vector.
func TestFeaturesCancelOut(t *testing.T) {
	v := make([]float32, encode.Dimensions)
	if known, err := (toy{make([]float32, buckets*encode.Dimensions)}).NewSession().Encode(v, "parcel"); known != 0 || err != nil {
		t.Errorf("%d, %v", known, err)
	}
	if _, err := (toy{make([]float32, 5)}).NewSession().Encode(v, "parcel"); !errors.Is(err, engine.ErrShape) {
		t.Errorf("half a row: %v", err)
	}
}
