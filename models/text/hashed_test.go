package text_test

import (
	"hash/fnv"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/models/text"
)

// spelled hashes a feature as the specification writes it.
func spelled(feature string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(feature))
	v := h.Sum64()
	return v ^ v>>32
}

func hashes(s string) []uint64 {
	var got []uint64
	text.EachHash(s, nil, func(h uint64) { got = append(got, h) })
	return got
}

func TestFeaturesAreThoseOfTheSpecification(t *testing.T) {
	for _, c := range []struct{ text, features string }{
		{"", ""},
		{"?!", ""},
		{"Я", ""},
		{"a", "u:a c:<a>"},
		{"Pay it.", "u:pay c:<pa c:<pay c:<pay> c:pay c:pay> c:ay> u:it b:pay_it c:<it c:<it> c:it>"},
		{"I'm\xff42", "u:i'm c:<i' c:<i'm c:<i'm> c:i'm c:i'm> c:'m> u:42 b:i'm_42 c:<42 c:<42> c:42>"},
	} {
		var want []uint64
		for f := range strings.FieldsSeq(c.features) {
			want = append(want, spelled(f))
		}
		if got := hashes(c.text); !slices.Equal(got, want) {
			t.Errorf("%q: %x, want %x", c.text, got, want)
		}
	}
}

type table map[uint64]float32

func (t table) Weight(h uint64) (float32, bool) { w, ok := t[h]; return w, ok }

func TestHashedDropsWhatItDoesNotKnow(t *testing.T) {
	h := text.NewHashed(1000, table{spelled("u:pay"): 3, spelled("u:bill"): 2})
	got := h.Bag("pay pay the bill")
	if len(got.IDs) != 2 || !slices.IsSorted(got.IDs) {
		t.Fatalf("ids %v", got.IDs)
	}
	first, second := 6/math.Sqrt(40), 2/math.Sqrt(40)
	if spelled("u:pay")%1000 > spelled("u:bill")%1000 {
		first, second = second, first
	}
	if got.Weights[0] != float32(first) && math.Abs(float64(got.Weights[0])-first) > 1e-7 || math.Abs(float64(got.Weights[1])-second) > 1e-7 {
		t.Errorf("weights %v, want %v %v", got.Weights, first, second)
	}
	before := clone(h.Bag("pay the bill"))
	if after := h.Bag("zxq pay brgl the bill"); !cmp.Equal(before, after) {
		t.Errorf("unseen words change the bag: %v, %v", before, after)
	}
	if empty := h.Bag("zxq"); len(empty.IDs) != 0 {
		t.Errorf("a text of unseen words has features: %v", empty)
	}
}

func clone(b text.Bag) text.Bag {
	return text.Bag{IDs: slices.Clone(b.IDs), Weights: slices.Clone(b.Weights)}
}

func FuzzHashed(f *testing.F) {
	for _, s := range []string{"", "Where's my order?", "\xff\x00é", strings.Repeat("ab ", 50)} {
		f.Add(s)
	}
	h := text.NewHashed(512, nil)
	f.Fuzz(func(t *testing.T, s string) {
		a := clone(h.Bag(s))
		checkBag(t, a, 512)
		if b := h.Bag(s); !cmp.Equal(a, b) {
			t.Errorf("%q: two bags differ", s)
		}
	})
}

// checkBag holds what is true of every bag.
func checkBag(t *testing.T, b text.Bag, n int) {
	t.Helper()
	var squares float64
	for i, id := range b.IDs {
		if id < 0 || id >= int64(n) || i > 0 && id <= b.IDs[i-1] {
			t.Fatalf("ids %v", b.IDs)
		}
		squares += float64(b.Weights[i]) * float64(b.Weights[i])
	}
	if len(b.IDs) != len(b.Weights) || len(b.IDs) > 0 && math.Abs(squares-1) > 1e-5 {
		t.Fatalf("%d ids, %d weights, norm %v", len(b.IDs), len(b.Weights), math.Sqrt(squares))
	}
}
