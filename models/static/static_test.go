package static_test

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/assay-bench/assay/models/encode"
	"github.com/assay-bench/assay/models/modelfile"
	"github.com/assay-bench/assay/models/static"
)

func session(t testing.TB) encode.Session {
	t.Helper()
	m, err := static.Load()
	if err != nil {
		t.Fatal(err)
	}
	return m.NewSession()
}

func vector(t testing.TB, s encode.Session, text string) ([]float32, int) {
	t.Helper()
	v := make([]float32, encode.Dimensions)
	known, err := s.Encode(v, text)
	if err != nil {
		t.Fatal(err)
	}
	return v, known
}

// TestVectors proves router/vector/dimension, router/vector/unit-norm and router/vector/deterministic for the
// embedded model: two readings of the file and both orders of input give the same bits.
func TestVectors(t *testing.T) {
	m, err := static.Load()
	if err != nil {
		t.Fatal(err)
	}
	other, err := static.Decode(static.File())
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{"where is my parcel", "Cancel my ORDER!", "a", "reset the password, s'il vous plaît", strings.Repeat("long text ", 5000)}
	s, back := m.NewSession(), other.NewSession()
	var first [][]float32
	for _, text := range texts {
		v, known := vector(t, s, text)
		if known == 0 || math.Abs(float64(dot(v, v))-1) > 1e-5 {
			t.Errorf("%.20q: %d features, squared norm %v", text, known, dot(v, v))
		}
		first = append(first, v)
	}
	for i, text := range slices.Backward(texts) {
		if v, _ := vector(t, back, text); !slices.Equal(v, first[i]) {
			t.Errorf("%.20q: bits differ", text)
		}
	}
}

// TestUnknownText proves router/vector/unknown-text and router/vector/unseen-dropped: texts without a known piece
// have no vector, and such pieces in a text have no effect.
func TestUnknownText(t *testing.T) {
	s := session(t)
	for _, text := range []string{"", "   ", "?!...", "где посылка", "我的包裹在哪里", "🦄🦄", "\xff\xfe", strings.Repeat("x", 101)} {
		v, known := vector(t, s, text)
		if known != 0 || slices.ContainsFunc(v, func(x float32) bool { return x != 0 }) {
			t.Errorf("%.20q: %d known features", text, known)
		}
	}
	want, _ := vector(t, s, "where is my parcel")
	for _, text := range []string{"where is 🦄 my parcel", "WHERE is my parcel?!", "посылка where is my parcel", "where\x00 is my parcel " + strings.Repeat("y", 200)} {
		if v, _ := vector(t, s, text); !slices.Equal(v, want) {
			t.Errorf("%q: the vector differs", text)
		}
	}
}

// TestLongInput proves router/vector/long-input: beyond the stated limit a text is refused whole.
func TestLongInput(t *testing.T) {
	s, v := session(t), make([]float32, encode.Dimensions)
	if known, err := s.Encode(v, strings.Repeat("pay ", encode.MaxTextBytes/4)); known == 0 || err != nil {
		t.Errorf("%d, %v", known, err)
	}
	before := slices.Clone(v)
	if _, err := s.Encode(v, strings.Repeat("a", encode.MaxTextBytes+1)); !errors.Is(err, encode.ErrTextTooLong) || !slices.Equal(v, before) {
		t.Errorf("a byte too many: %v", err)
	}
	if _, err := s.Encode(v[:5], "pay"); err == nil {
		t.Error("a vector of length 5 is taken")
	}
}

func TestMeaning(t *testing.T) {
	s := session(t)
	a, _ := vector(t, s, "my package has not arrived")
	b, _ := vector(t, s, "the parcel was never delivered")
	c, _ := vector(t, s, "what will the weather be like tomorrow")
	if dot(a, b) < dot(a, c)+0.2 {
		t.Errorf("cosines %v, %v", dot(a, b), dot(a, c))
	}
}

// TestVersionIsBound proves router/vector/version-bound: another table, vocabulary or scale than that of the header is
// refused and named.
func TestVersionIsBound(t *testing.T) {
	f, err := modelfile.Decode(static.File(), "static")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, section := range f.Sections {
		b := bytes.Clone(static.File())
		b[bytes.Index(b, section.Bytes)] ^= 0x40
		if _, err := static.Decode(b); !errors.Is(err, modelfile.ErrMismatch) || !strings.Contains(err.Error(), section.Name) {
			t.Errorf("%s exchanged: %v", section.Name, err)
		}
		seen++
	}
	if seen != 4 {
		t.Errorf("%d sections", seen)
	}
}

// TestRefused takes files whose sections are sealed but do not fit each other.
func TestRefused(t *testing.T) {
	meta := modelfile.Meta{Kind: "static", Attributes: map[string]string{"tokenizer": "bert-uncased-wordpiece"}}
	section := func(name, bytes string) modelfile.Section { return modelfile.Section{Name: name, Bytes: []byte(bytes)} }
	row, one := strings.Repeat("\x01", encode.Dimensions), "\x00\x00\x80\x3f"
	for name, c := range map[string][]modelfile.Section{
		"no sections":    nil,
		"no rows":        {section("vocabulary", "[UNK]\na"), section("ids", ""), section("scales", ""), section("rows", "")},
		"half a row":     {section("vocabulary", "[UNK]\na"), section("ids", "\x01\x00"), section("scales", one), section("rows", row[1:])},
		"no such token":  {section("vocabulary", "[UNK]\na"), section("ids", "\x07\x00"), section("scales", one), section("rows", row)},
		"a row twice":    {section("vocabulary", "[UNK]\na"), section("ids", "\x01\x00\x01\x00"), section("scales", one+one), section("rows", row+row)},
		"scale NaN":      {section("vocabulary", "[UNK]\na"), section("ids", "\x01\x00"), section("scales", "\x00\x00\xc0\x7f"), section("rows", row)},
		"scale infinite": {section("vocabulary", "[UNK]\na"), section("ids", "\x01\x00"), section("scales", "\x00\x00\x80\x7f"), section("rows", row)},
	} {
		b, err := modelfile.Encode(meta, c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := static.Decode(b); !errors.Is(err, modelfile.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEncodeAllocatesNothing(t *testing.T) {
	s, v := session(t), make([]float32, encode.Dimensions)
	if n := testing.AllocsPerRun(100, func() { _, _ = s.Encode(v, "Where is my parcel, é?") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestConcurrent shows that sessions of one model do not touch each other.
func TestConcurrent(t *testing.T) {
	want, _ := vector(t, session(t), "where is my parcel")
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			s, v := session(t), make([]float32, encode.Dimensions)
			for range 50 {
				if _, err := s.Encode(v, "where is my parcel"); err != nil || !slices.Equal(v, want) {
					t.Errorf("another vector, %v", err)
				}
			}
		})
	}
	group.Wait()
}

func FuzzEncode(f *testing.F) {
	f.Add("where is my parcel")
	f.Add("\xff\u0301é各")
	s, v := session(f), make([]float32, encode.Dimensions)
	f.Fuzz(func(t *testing.T, text string) {
		known, err := s.Encode(v, text)
		if err != nil {
			t.Fatal(err)
		}
		if n := float64(dot(v, v)); known > 0 && math.Abs(n-1) > 1e-5 || known == 0 && n != 0 {
			t.Errorf("%d features, squared norm %v", known, n)
		}
	})
}

// BenchmarkStart is the start with the embedded model.
func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		if _, err := static.Decode(static.File()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	s, v := session(b), make([]float32, encode.Dimensions)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = s.Encode(v, "could you tell me where the parcel is that I ordered last week")
	}
}

func dot(a, b []float32) (s float32) {
	for i := range a {
		s += a[i] * b[i]
	}
	return s
}
