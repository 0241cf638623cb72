package bag

import (
	"encoding/json"
	"errors"
	"flag"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/assay-bench/assay/fixtures/routes"
	"github.com/assay-bench/assay/fixtures/scores"
	"github.com/assay-bench/assay/models/encode"
	"github.com/assay-bench/assay/models/engine"
	"github.com/assay-bench/assay/models/engine/ort"
	"github.com/assay-bench/assay/models/static"
)

var update = flag.Bool("update", false, "write the scores that the pure-Go engine is compared with")

// labelled is texts and the classes that they are examples of.
type labelled struct {
	texts   []string
	classes []int
}

// shipped is the embedded text model with a prototype a class, the mean of the class's examples.
func shipped(tb testing.TB, train labelled) (Model, encode.Features) {
	tb.Helper()
	m, err := static.Load()
	if err != nil {
		tb.Fatal(err)
	}
	table, err := engine.NewTable(encode.Dimensions, m.Table())
	if err != nil {
		tb.Fatal(err)
	}
	features, s := m.NewFeatures(), engine.NewScorer(table)
	data, v := make([]float32, (slices.Max(train.classes)+1)*encode.Dimensions), make([]float32, encode.Dimensions)
	for i, text := range train.texts {
		b, known := bagOf(tb, features, text)
		if !known {
			continue
		}
		if err := s.Run(b, nil, v, nil); err != nil {
			tb.Fatal(err)
		}
		for j, x := range v {
			data[train.classes[i]*encode.Dimensions+j] += x
		}
	}
	for at := 0; at < len(data); at += encode.Dimensions {
		if !encode.Normalize(data[at : at+encode.Dimensions]) {
			tb.Fatalf("class %d has no known word", at/encode.Dimensions)
		}
	}
	p, err := engine.NewPrototypes(encode.Dimensions, data)
	if err != nil {
		tb.Fatal(err)
	}
	return Model{Table: table, Prototypes: p, Metadata: map[string]string{"text": m.Identity().Digest}}, features
}

// bagOf copies the features of a text; known is false where there are none, and no engine may see it.
func bagOf(tb testing.TB, f encode.Features, text string) (b engine.Bag, known bool) {
	tb.Helper()
	ids, weights, err := f.Bag(text)
	if err != nil {
		tb.Fatal(err)
	}
	return engine.Bag{IDs: slices.Clone(ids), Weights: slices.Clone(weights)}, len(ids) > 0
}

func corpus(tb testing.TB) (train, test labelled) {
	tb.Helper()
	c, err := routes.Load()
	if err != nil {
		tb.Fatal(err)
	}
	for i, r := range c.Routes {
		for _, text := range r.Train {
			train.texts, train.classes = append(train.texts, text), append(train.classes, i)
		}
		for _, text := range r.Test {
			test.texts, test.classes = append(test.texts, text), append(test.classes, i)
		}
	}
	return train, test
}

// gate compares two engines over texts: the same best class everywhere, no score further than 1e-5 apart.
func gate(t *testing.T, m Model, f encode.Features, texts []string, a, b engine.Scorer) {
	t.Helper()
	n := m.Prototypes.Rows()
	e, x, y := make([]float32, encode.Dimensions), make([]float32, n), make([]float32, n)
	seen, largest := 0, 0.0
	for _, text := range texts {
		bag, known := bagOf(t, f, text)
		if !known {
			continue
		}
		if err := errors.Join(a.Run(bag, m.Prototypes, e, x), b.Run(bag, m.Prototypes, e, y)); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		d, same := gap(x, y)
		if !same {
			t.Errorf("%q: the engines decide differently", text)
		}
		largest = max(largest, d)
		seen++
	}
	t.Logf("%d texts, %d classes, the same best class for all, largest difference of a score %.2g (%s, %s)", seen, n, largest, a.Name(), b.Name())
	if largest > 1e-5 || seen < len(texts)*99/100 {
		t.Errorf("%d of %d texts compared, largest difference %v", seen, len(texts), largest)
	}
}

// TestCorpusParity is the parity gate (router/onnx/parity-argmax, router/onnx/parity-scores) over the corpus
// of the repository, with the embedded text model, and where the data lie beside the repository over the
// test split of CLINC150.
func TestCorpusParity(t *testing.T) {
	library(t)
	train, test := corpus(t)
	m, f := shipped(t, train)
	c, err := routes.Load()
	if err != nil {
		t.Fatal(err)
	}
	texts := slices.Concat(train.texts, test.texts, c.Validation, c.Test)
	gate(t, m, f, texts, newScorer(t, m, engine.PureGo), newScorer(t, m, ort.Name))
	t.Run("CLINC150", func(t *testing.T) {
		train, test := clinc(t)
		m, f := shipped(t, train)
		gate(t, m, f, test.texts, newScorer(t, m, engine.PureGo), newScorer(t, m, ort.Name))
	})
}

// clinc reads CLINC150, which is not part of the repository. Without it the test is skipped.
func clinc(t *testing.T) (train, test labelled) {
	t.Helper()
	const file = "../../../shared/data/clinc150/data_full.json"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Skipf("CLINC150 is not beside the repository: %v", err)
	}
	var splits map[string][][2]string
	if err := json.Unmarshal(b, &splits); err != nil {
		t.Fatal(err)
	}
	classes := map[string]int{}
	read := func(split string) (l labelled) {
		for _, row := range splits[split] {
			if _, there := classes[row[1]]; !there {
				classes[row[1]] = len(classes)
			}
			l.texts, l.classes = append(l.texts, row[0]), append(l.classes, classes[row[1]])
		}
		return l
	}
	return read("train"), read("test")
}

// best is how many routes of a text are stored.
const best = 5

// top returns the places of the largest scores, the largest first.
func top(scores []float32) []int {
	places := make([]int, len(scores))
	for i := range places {
		places[i] = i
	}
	slices.SortStableFunc(places, func(a, b int) int {
		switch {
		case scores[a] > scores[b]:
			return -1
		case scores[a] < scores[b]:
			return 1
		}
		return 0
	})
	return places[:best]
}

// TestStoredScores is the parity gate where there is no library: the pure-Go engine against the scores that
// ONNX Runtime gave. With -update ONNX Runtime writes them.
func TestStoredScores(t *testing.T) {
	train, test := corpus(t)
	m, f := shipped(t, train)
	if *update {
		store(t, m, f, test.texts)
		t.Skip("stored")
	}
	golden, err := scores.Load()
	if err != nil {
		t.Fatal(err)
	}
	if golden.Model != m.Metadata["text"] || golden.Corpus != routes.Digest() || len(golden.Texts) != len(test.texts) {
		t.Fatalf("the stored scores are of model %.8s and corpus %.8s with %d texts, these are %.8s, %.8s and %d: run this test with -update",
			golden.Model, golden.Corpus, len(golden.Texts), m.Metadata["text"], routes.Digest(), len(test.texts))
	}
	s := newScorer(t, m, engine.PureGo)
	e, x := make([]float32, encode.Dimensions), make([]float32, m.Prototypes.Rows())
	largest := 0.0
	for i, text := range test.texts {
		bag, known := bagOf(t, f, text)
		want := golden.Texts[i]
		if !known {
			if len(want.Routes) != 0 {
				t.Errorf("%q: no features, %d stored routes", text, len(want.Routes))
			}
			continue
		}
		if err := s.Run(bag, m.Prototypes, e, x); err != nil {
			t.Fatal(err)
		}
		if got := top(x)[0]; got != want.Routes[0] {
			t.Errorf("%q: route %d, ONNX Runtime says %d", text, got, want.Routes[0])
		}
		for j, r := range want.Routes {
			largest = max(largest, math.Abs(float64(x[r])-float64(want.Cosines[j])))
		}
	}
	t.Logf("%d texts, largest difference to onnxruntime %s %.2g", len(test.texts), golden.Version, largest)
	if largest > 1e-5 {
		t.Errorf("largest difference %v", largest)
	}
}

func store(t *testing.T, m Model, f encode.Features, texts []string) {
	s := newScorer(t, m, ort.Name)
	g := scores.Golden{Version: library(t).Version(), Model: m.Metadata["text"], Corpus: routes.Digest()}
	e, x := make([]float32, encode.Dimensions), make([]float32, m.Prototypes.Rows())
	for _, text := range texts {
		var stored scores.Text
		if bag, known := bagOf(t, f, text); known {
			if err := s.Run(bag, m.Prototypes, e, x); err != nil {
				t.Fatal(err)
			}
			stored.Routes = top(x)
			for _, r := range stored.Routes {
				stored.Cosines = append(stored.Cosines, x[r])
			}
		}
		g.Texts = append(g.Texts, stored)
	}
	b, err := json.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("../../fixtures/scores/corpus.json", append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}
