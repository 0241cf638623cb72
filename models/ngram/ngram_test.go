package ngram_test

import (
	"bytes"
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/assay-bench/assay/fixtures/routes"
	"github.com/assay-bench/assay/models/dataset"
	"github.com/assay-bench/assay/models/encode"
	"github.com/assay-bench/assay/models/eval"
	"github.com/assay-bench/assay/models/modelfile"
	"github.com/assay-bench/assay/models/ngram"
)

// small is training data of the repository: ten requests of each route.
func small(t testing.TB) (classes []string, examples []ngram.Example) {
	t.Helper()
	c, err := routes.Load()
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range c.Routes {
		classes = append(classes, r.ID)
		for _, text := range r.Train {
			examples = append(examples, ngram.Example{Text: text, Class: i})
		}
	}
	return classes, examples
}

func config(seed uint64) ngram.Config {
	c := ngram.DefaultConfig(seed)
	c.Buckets = 2048
	return c
}

func train(t testing.TB, seed uint64) *ngram.Model {
	t.Helper()
	classes, examples := small(t)
	m, err := ngram.Train(classes, examples, config(seed))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func file(t testing.TB, m *ngram.Model) []byte {
	t.Helper()
	b, err := m.File()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestDeterministic proves router/vector/deterministic for training: a seed gives the same bytes, another others,
// and a stored model is the one that was trained.
func TestDeterministic(t *testing.T) {
	a, b, other := train(t, 1), train(t, 1), train(t, 2)
	if !bytes.Equal(file(t, a), file(t, b)) || a.Identity() != b.Identity() {
		t.Error("the same seed gives two models")
	}
	if a.Identity() == other.Identity() {
		t.Error("two seeds give the same model")
	}
	again, err := ngram.Decode(file(t, a))
	if err != nil {
		t.Fatal(err)
	}
	if again.Identity() != a.Identity() || again.Config() != config(1) || !bytes.Equal(file(t, again), file(t, a)) {
		t.Errorf("the stored model is another: %+v", again.Identity())
	}
}

// TestLearns shows that the tower knows its training texts, with unit vectors and prototypes.
func TestLearns(t *testing.T) {
	m := train(t, 1)
	_, examples := small(t)
	s, v := m.NewSession(), make([]float32, encode.Dimensions)
	right := 0
	for _, x := range examples {
		if known, err := s.Encode(v, x.Text); known == 0 || err != nil || math.Abs(float64(dot(v, v))-1) > 1e-5 {
			t.Fatalf("%q: %d, %v, squared norm %v", x.Text, known, err, dot(v, v))
		}
		best, top := -1, float32(-2)
		for i, p := range m.Prototypes() {
			if c := dot(p, v); c > top {
				best, top = i, c
			}
		}
		if best == x.Class {
			right++
		}
	}
	if right*100 < len(examples)*95 {
		t.Errorf("%d of %d training texts", right, len(examples))
	}
}

// TestUnseen proves router/vector/unseen-dropped and router/vector/unknown-text for the trained tower.
func TestUnseen(t *testing.T) {
	s := train(t, 1).NewSession()
	v, w := make([]float32, encode.Dimensions), make([]float32, encode.Dimensions)
	if _, err := s.Encode(v, "where is my package"); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"где where is my package", "where is my package ☃"} {
		if _, err := s.Encode(w, text); err != nil || !slices.Equal(v, w) {
			t.Errorf("%q: the vector differs (%v)", text, err)
		}
	}
	for _, text := range []string{"", "?!", "где моя посылка"} {
		if known, err := s.Encode(w, text); known != 0 || err != nil {
			t.Errorf("%q: %d, %v", text, known, err)
		}
	}
}

// TestVersionIsBound proves router/vector/version-bound: an exchanged idf table is refused by name.
func TestVersionIsBound(t *testing.T) {
	b := file(t, train(t, 1))
	f, err := modelfile.Decode(b, "ngram")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range f.Sections {
		c := bytes.Clone(b)
		c[bytes.Index(c, s.Bytes)+len(s.Bytes)/2] ^= 1
		if _, err := ngram.Decode(c); !errors.Is(err, modelfile.ErrMismatch) || !strings.Contains(err.Error(), s.Name) {
			t.Errorf("%s exchanged: %v", s.Name, err)
		}
	}
	if len(f.Sections) != 6 {
		t.Errorf("%d sections", len(f.Sections))
	}
	f.Attributes["static"] = strings.Repeat("0", 64)
	other, err := modelfile.Encode(f.Meta, f.Sections)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ngram.Decode(other); !errors.Is(err, modelfile.ErrMismatch) {
		t.Errorf("over another static model: %v", err)
	}
}

func TestTrainRefuses(t *testing.T) {
	classes, examples := small(t)
	bad := func(change func(*ngram.Config)) ngram.Config { c := config(1); change(&c); return c }
	for name, c := range map[string]ngram.Config{
		"no buckets": bad(func(c *ngram.Config) { c.Buckets = 0 }), "too many buckets": bad(func(c *ngram.Config) { c.Buckets = 1 << 30 }),
		"no epochs": bad(func(c *ngram.Config) { c.Epochs = 0 }), "full dropout": bad(func(c *ngram.Config) { c.Dropout = 1 }),
		"rate NaN": bad(func(c *ngram.Config) { c.LearningRate = float32(math.NaN()) }),
	} {
		if _, err := ngram.Train(classes, examples, c); !errors.Is(err, ngram.ErrTraining) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, es := range map[string][]ngram.Example{"nothing": nil, "no such class": {{Text: "a", Class: 99}}} {
		if _, err := ngram.Train(classes, es, config(1)); !errors.Is(err, ngram.ErrTraining) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ngram.Train(classes, []ngram.Example{{Text: strings.Repeat("a", encode.MaxTextBytes+1)}}, config(1)); !errors.Is(err, encode.ErrTextTooLong) {
		t.Errorf("long text: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	classes, examples := small(f)
	c := config(1)
	c.Buckets, c.Epochs = 16, 1
	m, err := ngram.Train(classes[:2], examples[:20], c)
	if err != nil {
		f.Fatal(err)
	}
	file, err := modelfile.Decode(file(f, m), "ngram")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(0, file.Sections[0].Bytes[:16], "16")
	f.Add(2, []byte{1, 0, 0, 0}, "1")
	f.Add(4, []byte("a\nb"), "")
	f.Fuzz(func(t *testing.T, section int, bytes []byte, buckets string) {
		c := *file
		c.Sections = slices.Clone(file.Sections)
		c.Sections[uint(section)%6].Bytes = bytes
		c.Attributes["buckets"] = buckets
		b, err := modelfile.Encode(c.Meta, c.Sections)
		if err != nil {
			t.Skip()
		}
		if m, err := ngram.Decode(b); err == nil {
			v := make([]float32, encode.Dimensions)
			_, _ = m.NewSession().Encode(v, "where is my package")
		} else if !errors.Is(err, modelfile.ErrFormat) && !errors.Is(err, modelfile.ErrMismatch) {
			t.Errorf("untyped error %v", err)
		}
	})
}

// clinc returns CLINC150, which is no part of the repository. Where CI is set it must be there.
func clinc(t testing.TB) *dataset.Dataset {
	t.Helper()
	d, err := dataset.LoadCLINC150("../../../shared/data/clinc150")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("CLINC150 is not here, accuracy on it is not tested: %v", err)
	}
	return d
}

var underRace bool

// TestCLINC150 proves router/decide/accuracy, router/decide/selection-on-validation, router/decide/baselines,
// router/abstain/threshold-source, router/abstain/oos-recall and router/abstain/risk-coverage for one seed, and prints
// what router/perf/train-time asks for; assay models eval shows several seeds.
func TestCLINC150(t *testing.T) {
	if testing.Short() || underRace {
		t.Skip("training takes seconds, and many of them under the race detector; it is one goroutine")
	}
	d := clinc(t)
	var log bytes.Buffer
	c := ngram.DefaultConfig(0)
	r, err := eval.Measure(t.Context(), d, eval.Plan{
		Model: "ngram", Configuration: c, Seeds: []uint64{1}, Log: &log, Now: time.Now, CPU: func() time.Duration { return 0 },
		Learn: func(texts []dataset.Example, classes int, seed uint64) (*eval.Prototypes, error) {
			c := c
			c.Seed = seed
			var examples []ngram.Example
			for _, x := range texts {
				examples = append(examples, ngram.Example{Text: x.Text, Class: x.Class})
			}
			m, err := ngram.Train(d.Classes, examples, c)
			if err != nil {
				return nil, err
			}
			return &eval.Prototypes{Encoder: m, Rows: m.Prototypes()}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := r.Seeds[0]
	t.Logf("test %.2f %% [%.2f, %.2f] of %d, recall %.1f %%, false rejection %.1f %%, %.1f s; digest %s", 100*s.Accuracy.Share(), 100*s.Accuracy.Low, 100*s.Accuracy.High,
		s.Accuracy.N, 100*s.Recall.Share(), 100*s.FalseRejection.Share(), s.Seconds, s.ModelDigest)
	if s.Accuracy.N != 4500 || s.Accuracy.Share() < 0.92 || r.Shuffled.Share() >= 0.05 {
		t.Errorf("accuracy %+v, with shuffled labels %+v", s.Accuracy, r.Shuffled)
	}
	if s.Recall.N != 1000 || s.Recall.Share() < 0.70 || s.FalseRejection.Share() > 0.07 {
		t.Errorf("out of scope: recall %+v at %+v", s.Recall, s.FalseRejection)
	}
	if len(r.Curve) < 20 || s.Threshold.Split != "validation" || s.Threshold.Quantile != 0.05 {
		t.Errorf("%d points, threshold %+v", len(r.Curve), s.Threshold)
	}
	if len(r.Baselines) != 4 || r.Baselines[3].Accuracy.High >= s.Accuracy.Low {
		t.Errorf("baselines %+v", r.Baselines)
	}
	if digest := strings.Index(log.String(), r.ConfigDigest); digest < 0 || strings.Index(log.String(), "read now") < digest {
		t.Errorf("log %q", log.String())
	}
	if _, err := d.Open(&log, c); !errors.Is(err, dataset.ErrTestRead) {
		t.Errorf("the test split opens twice: %v", err)
	}
}

func BenchmarkEncode(b *testing.B) {
	s, v := train(b, 1).NewSession(), make([]float32, encode.Dimensions)
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
