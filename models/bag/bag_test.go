package bag

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/models/engine"
	"github.com/assay-bench/assay/models/engine/graph"
	"github.com/assay-bench/assay/models/engine/ort"
	"github.com/assay-bench/assay/models/onnx"
)

const rows = 500

var metadata = map[string]string{"hash": "fnv1a64-fold32", "tokenizer": "ascii-1", "idf": "0123abcd", "buckets": "500", "version": "1"}

// sample is a model in one of the storages, with values that depend on the seed alone.
func sample(tb testing.TB, storage string) Model {
	tb.Helper()
	r := rand.New(rand.NewPCG(11, 13))
	f32, f16, i8, scales := make([]float32, rows*engine.Dimension), make([]uint16, rows*engine.Dimension), make([]int8, rows*engine.Dimension), make([]float32, rows)
	for i := range f32 {
		f32[i], f16[i], i8[i] = float32(r.NormFloat64()), uint16(r.IntN(0x4000))|uint16(r.IntN(2))<<15, int8(r.IntN(255)-127)
	}
	for i := range scales {
		scales[i] = 0.001 + r.Float32()
	}
	m := Model{Prototypes: prototypes(tb, 151), Metadata: metadata}
	var err error
	switch storage {
	case "float32":
		m.Table, err = engine.NewTable(engine.Dimension, f32)
	case "float16":
		m.Table, err = engine.NewTable16(engine.Dimension, f16)
	case "int8":
		m.Table, err = engine.NewTable8(engine.Dimension, i8, scales)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

var storages = []string{"float32", "float16", "int8"}

func prototypes(tb testing.TB, n int) *engine.Prototypes {
	tb.Helper()
	r, data := rand.New(rand.NewPCG(17, uint64(n))), make([]float32, 0, n*engine.Dimension)
	for range n {
		row := make([]float32, engine.Dimension)
		for j := range row {
			row[j] = float32(r.NormFloat64())
		}
		norm := engine.Norm(row)
		for _, x := range row {
			data = append(data, float32(float64(x)/norm))
		}
	}
	p, err := engine.NewPrototypes(engine.Dimension, data)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// randomBag is a bag of 1 to 120 features.
func randomBag(seed uint64) engine.Bag {
	r, b := rand.New(rand.NewPCG(seed, 19)), engine.Bag{}
	for range 1 + r.IntN(120) {
		b.IDs, b.Weights = append(b.IDs, int64(r.IntN(rows))), append(b.Weights, r.Float32()+0.01)
	}
	slices.Sort(b.IDs)
	return b
}

func export(tb testing.TB, m Model) *onnx.Model {
	tb.Helper()
	o, err := m.Export()
	if err != nil {
		tb.Fatal(err)
	}
	return o
}

func file(tb testing.TB, m *onnx.Model) []byte {
	tb.Helper()
	b, err := onnx.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// library is ONNX Runtime. Without it the test is skipped, loudly, and fails where CI promises it.
func library(tb testing.TB) *ort.Library {
	tb.Helper()
	l, err := ort.Open("")
	if err != nil {
		if os.Getenv("CI") != "" {
			tb.Fatal(err)
		}
		tb.Skip(err)
	}
	return l
}

func executor(tb testing.TB, m Model, engineName string) *Executor {
	tb.Helper()
	x, err := Open(m, Choice{Engine: engineName})
	if err != nil {
		tb.Fatal(err)
	}
	return x
}

func newScorer(tb testing.TB, m Model, engineName string) engine.Scorer {
	tb.Helper()
	s, err := executor(tb, m, engineName).NewScorer()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// TestImportReturnsWhatWasExported holds that a model comes back the same in every storage, that its seal
// holds, and that the second writing is byte-equal (the file part of router/onnx/writer-valid).
func TestImportReturnsWhatWasExported(t *testing.T) {
	for _, storage := range storages {
		want := sample(t, storage)
		first := file(t, export(t, want))
		o, err := onnx.Parse(first)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Import(o)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first, file(t, export(t, want))) || !bytes.Equal(first, file(t, o)) {
			t.Errorf("%s: the second writing differs", storage)
		}
		if diff := cmp.Diff(want.Prototypes.Data(), got.Prototypes.Data()); diff != "" {
			t.Error(diff)
		}
		if err := o.CheckMetadata(metadata); err != nil {
			t.Error(err)
		}
		a, b := make([]float32, engine.Dimension), make([]float32, engine.Dimension)
		for i := range rows {
			want.Table.Row(i, a)
			got.Table.Row(i, b)
			if diff := cmp.Diff(a, b); diff != "" {
				t.Fatalf("%s: row %d: %s", storage, i, diff)
			}
		}
	}
}

// TestMetadata proves router/onnx/metadata and the model's part of router/vector/version-bound: what the
// features are made with stands in metadata_props, an edited value, weight or node is refused, and so is
// another version, naming the key.
func TestMetadata(t *testing.T) {
	edits := map[string]func(*onnx.Model){
		"value":     func(m *onnx.Model) { m.Metadata["idf"] = "0123abce" },
		"key":       func(m *onnx.Model) { delete(m.Metadata, "hash") },
		"seal":      func(m *onnx.Model) { delete(m.Metadata, "assay.digest") },
		"weight":    func(m *onnx.Model) { m.Graph.Initializers[0].Raw[77] ^= 1 },
		"attribute": func(m *onnx.Model) { m.Graph.Nodes[len(m.Graph.Nodes)-1].Attributes[0].Int = 0 },
	}
	for name, edit := range edits {
		m := export(t, sample(t, "float32"))
		edit(m)
		again, err := onnx.Parse(file(t, m))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Import(again); !errors.Is(err, onnx.ErrEdited) {
			t.Errorf("%s: err = %v", name, err)
		}
	}
	if len(edits) == 0 {
		t.Fatal("no edits")
	}
	m := export(t, sample(t, "int8"))
	want := map[string]string{"hash": "fnv1a64-fold32", "idf": "ffff0000"}
	if err := m.CheckMetadata(want); !errors.Is(err, onnx.ErrVersion) || !strings.Contains(err.Error(), `"idf" is "0123abcd", want "ffff0000"`) {
		t.Errorf("another idf table: %v", err)
	}
	other := export(t, sample(t, "int8"))
	other.Metadata["assay.kind"] = "tower"
	if _, err := Import(other); !errors.Is(err, onnx.ErrVersion) {
		t.Errorf("another kind: %v", err)
	}
}

// TestGraphAgainstBag holds that the graph says what the bag computes: the generic pure-Go executor runs the
// exported file and gives the same scores.
func TestGraphAgainstBag(t *testing.T) {
	seen := 0
	for _, storage := range storages {
		m := sample(t, storage)
		p := m.Prototypes
		m.Prototypes = nil
		o, err := onnx.Parse(file(t, export(t, m)))
		if err != nil {
			t.Fatal(err)
		}
		g, err := graph.Load(o)
		if err != nil {
			t.Fatal(err)
		}
		s, bags := g.NewSession(), engine.NewScorer(m.Table)
		embedding, scores := make([]float32, engine.Dimension), make([]float32, p.Rows())
		want := slices.Clone(scores)
		for seed := range uint64(100) {
			b := randomBag(seed)
			n := len(b.IDs)
			if err := s.Run(
				[]engine.Value{{Dims: []int{n}, Ints: b.IDs}, {Dims: []int{1, n}, Floats: b.Weights}, {Dims: []int{p.Rows(), engine.Dimension}, Floats: p.Data()}},
				[]engine.Value{{Dims: []int{1, engine.Dimension}, Floats: embedding}, {Dims: []int{1, p.Rows()}, Floats: scores}}); err != nil {
				t.Fatal(err)
			}
			if err := bags.Run(b, p, make([]float32, engine.Dimension), want); err != nil {
				t.Fatal(err)
			}
			seen++
			if diff := cmp.Diff(want, scores); diff != "" {
				t.Fatalf("%s, bag %d: %s", storage, seed, diff)
			}
		}
	}
	if seen == 0 {
		t.Fatal("no bags")
	}
}

// TestShape is the graph's part of router/vector/dimension: the file says [1, 128] of its embedding.
func TestShape(t *testing.T) {
	for _, v := range export(t, sample(t, "int8")).Graph.Outputs {
		if v.Name == Embedding {
			if diff := cmp.Diff([]onnx.Dim{{Size: 1}, {Size: 128}}, v.Dims); diff != "" {
				t.Error(diff)
			}
			return
		}
	}
	t.Error("no output embedding")
}

// gap returns the largest difference of two vectors and whether their largest elements are the same.
func gap(a, b []float32) (largest float64, sameTop bool) {
	for i := range a {
		largest = max(largest, math.Abs(float64(a[i])-float64(b[i])))
	}
	return largest, slices.Index(a, slices.Max(a)) == slices.Index(b, slices.Max(b))
}

// parity runs two scorers over bags and returns the largest difference of a score or an embedding's value
// and on how many bags the best prototype is the same.
func parity(tb testing.TB, a, b engine.Scorer, p *engine.Prototypes, bags uint64) (largest float64, same int) {
	tb.Helper()
	e, f := make([]float32, engine.Dimension), make([]float32, engine.Dimension)
	x, y := make([]float32, p.Rows()), make([]float32, p.Rows())
	for seed := range bags {
		bag := randomBag(seed)
		if err := errors.Join(a.Run(bag, p, e, x), b.Run(bag, p, f, y)); err != nil {
			tb.Fatal(err)
		}
		d, top := gap(x, y)
		d2, _ := gap(e, f)
		largest = max(largest, d, d2)
		if top {
			same++
		}
	}
	return largest, same
}

// TestParity proves router/onnx/parity-argmax and router/onnx/parity-scores over random bags (the corpus has
// a test of its own) and shows that the gate can fail: a perturbed weight trips it.
func TestParity(t *testing.T) {
	library(t)
	const bags = 500
	for _, storage := range storages {
		m := sample(t, storage)
		fast, runtime := newScorer(t, m, engine.PureGo), newScorer(t, m, ort.Name)
		largest, same := parity(t, fast, runtime, m.Prototypes, bags)
		t.Logf("%s: %d of %d bags have the same best prototype, largest difference %.2g (%s)", storage, same, bags, largest, runtime.Name())
		if same != bags || largest > 1e-5 {
			t.Errorf("%s: %d of %d, %v", storage, same, bags, largest)
		}
	}
	m := sample(t, "float32")
	f32, _, _, _ := m.Table.Storage()
	perturbed := slices.Clone(f32)
	for i := range perturbed[:rows*engine.Dimension/100] { // one row in a hundred by a thousandth
		perturbed[i] *= 1.001
	}
	other, err := engine.NewTable(engine.Dimension, perturbed)
	if err != nil {
		t.Fatal(err)
	}
	if largest, _ := parity(t, engine.NewScorer(other), newScorer(t, m, ort.Name), m.Prototypes, bags); largest <= 1e-5 {
		t.Errorf("the gate does not see a perturbed weight: largest difference %v", largest)
	}
}

// TestChangedPrototypes holds that prototypes may change from run to run on both engines, and that an
// embedding alone can be had.
func TestChangedPrototypes(t *testing.T) {
	library(t)
	m := sample(t, "float32")
	fast, runtime := newScorer(t, m, engine.PureGo), newScorer(t, m, ort.Name)
	for _, n := range []int{1, 150, 151, 40, 150} {
		if largest, same := parity(t, fast, runtime, prototypes(t, n), 20); same != 20 || largest > 1e-5 {
			t.Errorf("%d prototypes: %d of 20, %v", n, same, largest)
		}
	}
	a, b := make([]float32, engine.Dimension), make([]float32, engine.Dimension)
	if err := errors.Join(fast.Run(randomBag(1), nil, a, nil), runtime.Run(randomBag(1), nil, b, nil)); err != nil {
		t.Fatal(err)
	}
	if d, _ := gap(a, b); d > 1e-5 {
		t.Errorf("embeddings differ by %v", d)
	}
}

// TestRefusals holds that both engines refuse the same and with the same kind of error.
func TestRefusals(t *testing.T) {
	engines := []string{engine.PureGo}
	if _, err := ort.Open(""); err == nil || os.Getenv("CI") != "" {
		engines = append(engines, ort.Name)
	}
	m := sample(t, "float32")
	nan := float32(math.NaN())
	for _, name := range engines {
		s := newScorer(t, m, name)
		e, y := make([]float32, engine.Dimension), make([]float32, m.Prototypes.Rows())
		for what, c := range map[string]struct {
			bag  engine.Bag
			want error
		}{
			"empty":    {engine.Bag{}, engine.ErrShape},
			"unknown":  {engine.Bag{IDs: []int64{rows}, Weights: []float32{1}}, engine.ErrShape},
			"zero":     {engine.Bag{IDs: []int64{1}, Weights: []float32{0}}, engine.ErrNoDirection},
			"not a nr": {engine.Bag{IDs: []int64{1}, Weights: []float32{nan}}, engine.ErrNoDirection},
			"infinite": {engine.Bag{IDs: []int64{1}, Weights: []float32{float32(math.Inf(1))}}, engine.ErrNoDirection},
		} {
			if err := s.Run(c.bag, m.Prototypes, e, y); !errors.Is(err, c.want) {
				t.Errorf("%s, %s: err = %v, want %v", name, what, err, c.want)
			}
		}
		if err := s.Run(randomBag(1), m.Prototypes, e, y); err != nil {
			t.Errorf("%s: after refusals: %v", name, err)
		}
	}
}

// TestLibraryAbsent proves router/onnx/library-absent for the model's user: ONNX Runtime asked for by name is
// an error that names the path tried; auto takes pure Go and says why.
func TestLibraryAbsent(t *testing.T) {
	m := sample(t, "int8")
	absent := t.TempDir() + "/none"
	_, err := Open(m, Choice{Engine: ort.Name, Library: absent})
	if !errors.Is(err, ort.ErrLibrary) {
		t.Errorf("err = %v", err)
	}
	x, err := Open(m, Choice{Engine: Auto, Library: absent})
	if err != nil {
		t.Fatal(err)
	}
	s, err := x.NewScorer()
	if err != nil || s.Name() != engine.PureGo || !strings.HasPrefix(x.Why(), "purego: ONNX Runtime is not usable") {
		t.Errorf("auto took %v, because %q, %v", s, x.Why(), err)
	}
	if _, err := Open(m, Choice{Engine: "tensorflow"}); err == nil || !strings.Contains(err.Error(), `engine "tensorflow"`) {
		t.Errorf("an unknown engine: %v", err)
	}
}

// FuzzImport imports whatever parses: errors of known kinds, no panics.
func FuzzImport(f *testing.F) {
	small, err := engine.NewTable8(2, []int8{1, 2, 3, 4}, []float32{1, 0.5})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(file(f, export(f, Model{Table: small, Metadata: metadata})))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := onnx.Parse(b)
		if err != nil {
			return
		}
		if err := onnx.Seal(o); err != nil { // whoever edits a file can seal it again
			t.Fatal(err)
		}
		m, err := Import(o)
		if err != nil {
			for _, known := range []error{onnx.ErrFormat, onnx.ErrVersion, engine.ErrShape, engine.ErrNotFinite, engine.ErrNoDirection} {
				if errors.Is(err, known) {
					return
				}
			}
			t.Fatalf("an error of another kind: %v", err)
		}
		_ = engine.NewScorer(m.Table).Run(engine.Bag{IDs: []int64{0}, Weights: []float32{1}}, nil, make([]float32, m.Table.Dim()), nil)
	})
}

// BenchmarkRatio runs both engines in turn and reports the median of the ratios of neighbours: above 1 pure Go
// takes longer.
func BenchmarkRatio(b *testing.B) {
	m := sample(b, "float32")
	library(b)
	for _, n := range []int{150, 10_000} {
		b.Run(fmt.Sprintf("prototypes=%d", n), func(b *testing.B) {
			fast, other := newScorer(b, m, engine.PureGo), newScorer(b, m, ort.Name)
			p, e, y := prototypes(b, n), make([]float32, engine.Dimension), make([]float32, n)
			took := func(s engine.Scorer) float64 {
				start := time.Now()
				for seed := range uint64(20) {
					if err := s.Run(bags[seed], p, e, y); err != nil {
						b.Fatal(err)
					}
				}
				return float64(time.Since(start)) / 20
			}
			var ratios []float64
			for b.Loop() {
				ratios = append(ratios, took(fast)/took(other))
			}
			slices.Sort(ratios)
			b.ReportMetric(ratios[len(ratios)/2], "purego/ort")
		})
	}
}

// bags are what the benchmarks score.
var bags = func() (out [20]engine.Bag) {
	for i := range out {
		out[i] = randomBag(uint64(i))
	}
	return out
}()

func BenchmarkEngines(b *testing.B) {
	engines := []string{engine.PureGo}
	if _, err := ort.Open(""); err == nil {
		engines = append(engines, ort.Name)
	}
	m := sample(b, "float32")
	for _, name := range engines {
		for _, n := range []int{150, 10_000} {
			b.Run(fmt.Sprintf("%s/prototypes=%d", name, n), func(b *testing.B) {
				s, p := newScorer(b, m, name), prototypes(b, n)
				e, y := make([]float32, engine.Dimension), make([]float32, n)
				bag := randomBag(3)
				b.ReportAllocs()
				for b.Loop() {
					if err := s.Run(bag, p, e, y); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
