package engine

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func random(seed uint64, n int) []float32 {
	r, v := rand.New(rand.NewPCG(seed, 1)), make([]float32, n)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return v
}

// randomPrototypes returns n unit-norm rows.
func randomPrototypes(tb testing.TB, seed uint64, n int) *Prototypes {
	tb.Helper()
	data := random(seed, n*Dimension)
	for i := range n {
		if err := normalise(data[i*Dimension:][:Dimension]); err != nil {
			tb.Fatal(err)
		}
	}
	p, err := NewPrototypes(Dimension, data)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// tables are one table in each storage; the values of the int8 table are those of the others.
func tables(tb testing.TB, rows int) map[string]*Table {
	tb.Helper()
	r, narrow := rand.New(rand.NewPCG(7, 7)), map[float32]uint16{}
	for h := range uint16(0x7c00) {
		narrow[Float16(h)], narrow[Float16(h|0x8000)] = h, h|0x8000
	}
	f32, f16 := make([]float32, rows*Dimension), make([]uint16, rows*Dimension)
	i8, scale := make([]int8, rows*Dimension), make([]float32, rows)
	for i := range scale {
		scale[i] = 1.0 / 64
	}
	for i := range f32 {
		q := int8(r.IntN(255) - 127)
		i8[i], f32[i] = q, float32(q)/64
		f16[i] = narrow[f32[i]]
	}
	out := map[string]*Table{}
	var err [3]error
	out["float32"], err[0] = NewTable(Dimension, f32)
	out["float16"], err[1] = NewTable16(Dimension, f16)
	out["int8"], err[2] = NewTable8(Dimension, i8, scale)
	if e := errors.Join(err[:]...); e != nil {
		tb.Fatal(e)
	}
	return out
}

func randomBag(seed uint64, features, rows int) Bag {
	r := rand.New(rand.NewPCG(seed, 2))
	b := Bag{Weights: random(seed, features)}
	for range features {
		b.IDs = append(b.IDs, int64(r.IntN(rows)))
	}
	return b
}

// naive is the sum as the definition has it, in float64.
func naive(t *Table, b Bag, p *Prototypes) []float64 {
	sum, row := make([]float64, t.Dim()), make([]float32, t.Dim())
	for i, id := range b.IDs {
		t.Row(int(id), row)
		for j, x := range row {
			sum[j] += float64(b.Weights[i]) * float64(x)
		}
	}
	norm := 0.0
	for _, x := range sum {
		norm += x * x
	}
	scores := make([]float64, p.Rows())
	for i := range scores {
		for j, x := range p.Row(i) {
			scores[i] += sum[j] / math.Sqrt(norm) * float64(x)
		}
	}
	return scores
}

func TestScorerAgainstTheDefinition(t *testing.T) {
	const rows = 300
	p, seen := randomPrototypes(t, 3, 151), 0
	embedding, scores := make([]float32, Dimension), make([]float32, p.Rows())
	for storage, table := range tables(t, rows) {
		s := NewScorer(table)
		for features := 1; features < 90; features++ {
			b := randomBag(uint64(features), features, rows)
			if err := s.Run(b, p, embedding, scores); err != nil {
				t.Fatal(err)
			}
			if n := Norm(embedding); math.Abs(n-1) > 1e-5 {
				t.Errorf("%s: the norm is %v", storage, n)
			}
			for i, want := range naive(table, b, p) {
				seen++
				if math.Abs(float64(scores[i])-want) > 2e-6 {
					t.Fatalf("%s: %d features: score %d is %v, want %v", storage, features, i, scores[i], want)
				}
			}
		}
	}
	if seen == 0 {
		t.Fatal("no scores")
	}
}

// TestStoragesAgree holds that rows of equal value give equal bits whatever they are stored as: the values
// and scales of these tables are exact in all three.
func TestStoragesAgree(t *testing.T) {
	all := tables(t, 64)
	b := randomBag(5, 33, 64)
	for i := range b.Weights { // so that weight × scale is exact too
		b.Weights[i] = float32(i%7) + 1
	}
	want := make([]float32, Dimension)
	if err := NewScorer(all["float32"]).Run(b, nil, want, nil); err != nil {
		t.Fatal(err)
	}
	for _, storage := range []string{"float16", "int8"} {
		got := make([]float32, Dimension)
		if err := NewScorer(all[storage]).Run(b, nil, got, nil); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", storage, diff)
		}
	}
}

func TestScorerRefuses(t *testing.T) {
	table := tables(t, 4)["float32"]
	p := randomPrototypes(t, 1, 3)
	nan := float32(math.NaN())
	small, err := NewPrototypes(2, []float32{1, 0})
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name       string
		bag        Bag
		p          *Prototypes
		dim, score int
		want       error
	}{
		{"empty bag", Bag{}, p, Dimension, 3, ErrShape},
		{"weights", Bag{IDs: []int64{1, 2}, Weights: []float32{1}}, p, Dimension, 3, ErrShape},
		{"id below", Bag{IDs: []int64{-1}, Weights: []float32{1}}, p, Dimension, 3, ErrShape},
		{"id above", Bag{IDs: []int64{4}, Weights: []float32{1}}, p, Dimension, 3, ErrShape},
		{"embedding", Bag{IDs: []int64{1}, Weights: []float32{1}}, p, 64, 3, ErrShape},
		{"scores", Bag{IDs: []int64{1}, Weights: []float32{1}}, p, Dimension, 4, ErrShape},
		{"prototypes", Bag{IDs: []int64{1}, Weights: []float32{1}}, small, Dimension, 1, ErrShape},
		{"zero", Bag{IDs: []int64{1}, Weights: []float32{0}}, p, Dimension, 3, ErrNoDirection},
		{"nan", Bag{IDs: []int64{1}, Weights: []float32{nan}}, p, Dimension, 3, ErrNoDirection},
		{"infinity", Bag{IDs: []int64{1}, Weights: []float32{float32(math.Inf(1))}}, p, Dimension, 3, ErrNoDirection},
	}
	seen := 0
	for _, c := range cases {
		seen++
		if err := NewScorer(table).Run(c.bag, c.p, make([]float32, c.dim), make([]float32, c.score)); !errors.Is(err, c.want) {
			t.Errorf("%s: err = %v, want %v", c.name, err, c.want)
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

func TestTablesRefused(t *testing.T) {
	inf := float32(math.Inf(-1))
	for name, make := range map[string]func() error{
		"no rows":         func() error { _, err := NewTable(4, nil); return err },
		"half a row":      func() error { _, err := NewTable(4, make([]float32, 6)); return err },
		"no dimension":    func() error { _, err := NewTable(0, make([]float32, 6)); return err },
		"infinite row":    func() error { _, err := NewTable(1, []float32{1, inf}); return err },
		"not a number":    func() error { _, err := NewTable(1, []float32{float32(math.NaN())}); return err },
		"infinite half":   func() error { _, err := NewTable16(1, []uint16{0x7c00}); return err },
		"scales":          func() error { _, err := NewTable8(1, []int8{1, 2}, []float32{1}); return err },
		"infinite scale":  func() error { _, err := NewTable8(1, []int8{1}, []float32{inf}); return err },
		"long prototype":  func() error { _, err := NewPrototypes(2, []float32{1, 1}); return err },
		"zero prototype":  func() error { _, err := NewPrototypes(2, []float32{0, 0}); return err },
		"half prototypes": func() error { _, err := NewPrototypes(2, []float32{1, 0, 1}); return err },
	} {
		if err := make(); !errors.Is(err, ErrShape) && !errors.Is(err, ErrNotFinite) && !errors.Is(err, ErrNoDirection) {
			t.Errorf("%s: err = %v", name, err)
		}
	}
}

func TestFloat16(t *testing.T) {
	for h, want := range map[uint16]float32{
		0: 0, 1: 1.0 / (1 << 24), 0x03ff: 1023.0 / (1 << 24), 0x0400: 1.0 / (1 << 14), 0x3c00: 1, 0xc000: -2, 0x7bff: 65504, 0x3555: 1365.0 / 4096,
	} {
		if got := Float16(h); got != want {
			t.Errorf("%#04x is %v, want %v", h, got, want)
		}
	}
}

func TestScorerAllocatesNothing(t *testing.T) {
	p := randomPrototypes(t, 1, 150)
	embedding, scores := make([]float32, Dimension), make([]float32, p.Rows())
	for storage, table := range tables(t, 64) {
		s, b := NewScorer(table), randomBag(1, 86, 64)
		if n := testing.AllocsPerRun(100, func() {
			if err := s.Run(b, p, embedding, scores); err != nil {
				t.Error(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations a run", storage, n)
		}
	}
}

func BenchmarkScorer(b *testing.B) {
	const rows = 16384
	for storage, table := range tables(b, rows) {
		for _, n := range []int{150, 10_000} {
			b.Run(fmt.Sprintf("%s/prototypes=%d", storage, n), func(b *testing.B) {
				s, p := NewScorer(table), randomPrototypes(b, 1, n)
				embedding, scores := make([]float32, Dimension), make([]float32, n)
				bags := make([]Bag, 64)
				for i := range bags {
					bags[i] = randomBag(uint64(i), 86, rows)
					slices.Sort(bags[i].IDs)
				}
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					if err := s.Run(bags[i%len(bags)], p, embedding, scores); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
