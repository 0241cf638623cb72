package tower

import (
	"bytes"
	"errors"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/models/engine"
	"github.com/assay-bench/assay/models/engine/ort"
	"github.com/assay-bench/assay/models/onnx"
	"github.com/assay-bench/assay/models/static"
)

func newTask(tb testing.TB) *Task {
	tb.Helper()
	m, err := static.Load()
	if err != nil {
		tb.Fatal(err)
	}
	task, err := NewTask(m)
	if err != nil {
		tb.Fatal(err)
	}
	return task
}

func synthetic(tb testing.TB, seed uint64, n int) ([]Example, int) {
	tb.Helper()
	task := newTask(tb)
	examples, err := task.Train(seed, n)
	if err != nil {
		tb.Fatal(err)
	}
	return examples, task.Routes()
}

func trained(tb testing.TB, t Training, n int) *Model {
	tb.Helper()
	examples, routes := synthetic(tb, t.Seed, n)
	m, err := Train(examples, routes, t)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func export(tb testing.TB, m *Model) *onnx.Model {
	tb.Helper()
	o, err := m.Export(map[string]string{"text": "static-1"})
	if err != nil {
		tb.Fatal(err)
	}
	return o
}

// TestGradients holds the hand-written backward pass against differences of the loss, parameter group by
// parameter group.
func TestGradients(t *testing.T) {
	examples, n := synthetic(t, 5, 1)
	e := &examples[0]
	fresh := func() *step { return &step{Model: New(n, 3), scale: 4, cosines: make([]float32, n)} }
	groups := map[string]func(*step) []float32{
		"line.w": func(s *step) []float32 { return s.line.w }, "line.b": func(s *step) []float32 { return s.line.b },
		"phase.w": func(s *step) []float32 { return s.phase.w }, "phase.b": func(s *step) []float32 { return s.phase.b },
		"behaviour.w": func(s *step) []float32 { return s.behaviour.w }, "behaviour.b": func(s *step) []float32 { return s.behaviour.b },
		"context.w": func(s *step) []float32 { return s.context.w }, "project.w": func(s *step) []float32 { return s.project.w },
		"project.b":  func(s *step) []float32 { return s.project.b },
		"table":      func(s *step) []float32 { return s.table[int(e.Input.context[0])*embedded:][:embedded] },
		"prototypes": func(s *step) []float32 { return s.prototypes[e.Route*engine.Dimension:][:engine.Dimension] },
	}
	for name, group := range groups {
		t.Run(name, func(t *testing.T) {
			s := fresh()
			before := slices.Clone(group(s))
			s.rate = 1e-3
			s.learn(e)
			moved := make([]float64, len(before)) // against the gradient, scaled by AdaGrad alike within a row
			for i, x := range group(s) {
				moved[i] = float64(before[i]) - float64(x)
			}
			every := 1 + len(before)/100 // a sample of the large groups
			var numeric, sampled []float64
			for i := 0; i < len(before); i += every {
				numeric, sampled = append(numeric, slope(fresh, group, i, e)), append(sampled, moved[i])
			}
			if c := cosine(sampled, numeric); c < 0.98 && !rowwise(name) {
				t.Errorf("the step's cosine with the gradient is %v", c)
			}
			agree, count := 0, 0
			for i, g := range numeric {
				if math.Abs(g) > 1e-4 {
					count++
					if math.Signbit(g) == math.Signbit(sampled[i]) {
						agree++
					}
				}
			}
			if count == 0 || agree*100 < count*98 {
				t.Errorf("%d of %d parameters move against their gradient", agree, count)
			}
		})
	}
}

// rowwise says that AdaGrad scales parts of a group differently, so that only signs compare.
func rowwise(group string) bool { return strings.HasSuffix(group, ".w") }

// slope is the difference quotient of the loss by a parameter.
func slope(fresh func() *step, group func(*step) []float32, i int, e *Example) float64 {
	const h = 2e-3
	var loss [2]float64
	for k, by := range []float32{h, -h} {
		s := fresh()
		group(s)[i] += by
		s.forward(&s.pass, &e.Input)
		loss[k] = s.loss(e.Route)
	}
	return (loss[0] - loss[1]) / (2 * h)
}

func cosine(a, b []float64) float64 {
	var ab, aa, bb float64
	for i := range a {
		ab, aa, bb = ab+a[i]*b[i], aa+a[i]*a[i], bb+b[i]*b[i]
	}
	return ab / math.Sqrt(aa*bb)
}

// TestTrainingIsReproducible holds that a seed gives one file, byte for byte, and another seed another.
func TestTrainingIsReproducible(t *testing.T) {
	file := func(seed uint64) []byte {
		b, err := onnx.Marshal(export(t, trained(t, Training{Seed: seed, Epochs: 1}, 200)))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	first := file(1)
	if !bytes.Equal(first, file(1)) {
		t.Error("the second training gives another file")
	}
	if bytes.Equal(first, file(2)) {
		t.Error("another seed gives the same file")
	}
}

// TestShippedTowers holds that the shipped file is what training gives, that it loads, and that it names the
// shipped text model.
func TestShippedTowers(t *testing.T) {
	task := newTask(t)
	o, err := Shipped()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewEncoder(o, nil, map[string]string{"text": task.text, "training": "synthetic"}); err != nil {
		t.Errorf("%v: run go generate ./models/tower ./models/shipped", err)
	}
	if runtime.GOARCH != "amd64" || racing {
		t.Skip("math.Exp differs in its last bit between architectures, and training has one goroutine")
	}
	b, err := TrainShipped(task)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, File()) {
		t.Error("training gives another file: run go generate ./models/tower ./models/shipped")
	}
}

// TestTimeAblation proves router/vector/time-ablation: the report has both columns and says synthetic, and on
// a task that only access times solve, they do.
func TestTimeAblation(t *testing.T) {
	if racing {
		t.Skip("training has one goroutine")
	}
	a, err := Ablate(t.Context(), newTask(t), 1500, 400, 1)
	if err != nil {
		t.Fatal(err)
	}
	r := a.Results[0]
	t.Logf("%d of %d with access times, %d without, trained in %v", r.With, r.N, r.Without, r.Trained)
	if r.With < r.N*3/5 || r.Without > r.N/2 {
		t.Errorf("%d of %d with access times, %d without", r.With, r.N, r.Without)
	}
	var text bytes.Buffer
	if err := a.Markdown(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"**Synthetic.**", "with access times", "without"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the report does not say %q", want)
		}
	}
}

func encoder(tb testing.TB, o *onnx.Model, l *ort.Library) *Encoder {
	tb.Helper()
	e, err := NewEncoder(o, l, map[string]string{"text": "static-1"})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := e.Close(); err != nil {
			tb.Error(err)
		}
	})
	return e
}

// TestEngines holds that the exported towers give in pure Go and in ONNX Runtime what training saw.
func TestEngines(t *testing.T) {
	m := trained(t, Training{Seed: 4, Epochs: 1}, 300)
	o := export(t, m)
	encoders := []*Encoder{encoder(t, o, nil)}
	switch l, err := ort.Open(""); {
	case err == nil:
		encoders = append(encoders, encoder(t, o, l))
	case os.Getenv("CI") != "":
		t.Fatal(err)
	default:
		t.Logf("only pure Go: %v", err)
	}
	examples, _ := synthetic(t, 9, 300)
	var want pass
	largest := 0.0
	for i := range examples {
		m.forward(&want, &examples[i].Input)
		for _, e := range encoders {
			*e.input = examples[i].Input
			got := make([]float32, engine.Dimension)
			if err := e.run(got); err != nil {
				t.Fatal(err)
			}
			for j, x := range got {
				largest = max(largest, math.Abs(float64(x-want.vector[j])))
			}
		}
	}
	t.Logf("%d engines, largest difference %.2g", len(encoders), largest)
	if largest > 1e-5 {
		t.Errorf("largest difference %v", largest)
	}
}

func TestEncoderRefusesOtherModels(t *testing.T) {
	m := New(3, 1)
	edited := export(t, m)
	edited.Metadata["text"] = "ngram-1"
	other := export(t, m)
	other.Metadata["assay.features"] = "2"
	ports := export(t, m)
	ports.Graph.Inputs[1].Dims[1].Size = 2
	if err := onnx.Seal(ports); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		model *onnx.Model
		want  map[string]string
		is    error
	}{
		"edited": {edited, nil, onnx.ErrEdited}, "features": {other, nil, onnx.ErrVersion}, "inputs": {ports, nil, onnx.ErrVersion},
		"text encoder": {export(t, m), map[string]string{"text": "static-2"}, onnx.ErrVersion},
	} {
		if _, err := NewEncoder(c.model, nil, c.want); !errors.Is(err, c.is) {
			t.Errorf("%s: err = %v", name, err)
		}
	}
}

var now = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC) // a Wednesday

func TestRequestsRefused(t *testing.T) {
	nan := make([]float32, engine.Dimension)
	nan[3] = float32(math.NaN())
	long := make([]float32, engine.Dimension)
	long[0] = 2
	var in Input
	seen := 0
	for name, c := range map[string]struct {
		r    Request
		text []float32
	}{
		"no time": {Request{}, nil}, "latency": {Request{At: now, Latency: -1}, nil}, "code": {Request{At: now, ErrorCode: 99}, nil},
		"later":  {Request{At: now, Accesses: []time.Time{now.Add(1)}}, nil},
		"order":  {Request{At: now, Accesses: []time.Time{now.Add(-1), now.Add(-2)}}, nil},
		"length": {Request{At: now}, make([]float32, 3)}, "nan": {Request{At: now}, nan}, "long": {Request{At: now}, long},
	} {
		seen++
		if err := in.Set(&c.r, c.text); !errors.Is(err, ErrRequest) {
			t.Errorf("%s: err = %v", name, err)
		}
	}
	if seen == 0 {
		t.Fatal("no requests")
	}
}

func TestFeatures(t *testing.T) {
	for ua, want := range map[string]Device{
		"": UnknownDevice, "Mozilla/5.0 (compatible; Googlebot/2.1)": Bot, "curl/8.5.0": Tool, "Mozilla/5.0 (iPad; CPU OS)": Tablet,
		"Mozilla/5.0 (Linux; Android 14) Mobile Safari": Mobile, "Mozilla/5.0 (Windows NT 10.0)": Desktop, strings.Repeat("x", 600) + "curl/": UnknownDevice,
	} {
		if got := DeviceOf(ua); got != want {
			t.Errorf("%q is %v, want %v", ua, got, want)
		}
	}
	for url, want := range map[string]string{
		"": "", "/": "", "/v1/chat": "v1", "https://host/a/b": "a", "https://host": "", "https://host?x": "", "/q?x=/y": "q", "//host/x": "host",
	} {
		if got := firstSegment(url); got != want {
			t.Errorf("%q gives %q, want %q", url, got, want)
		}
	}
	for code := range 600 {
		if row := codeRow(code); row < 0 || row >= codes {
			t.Errorf("code %d is row %d", code, row)
		}
	}
	if diff := cmp.Diff([]float32{2.5, 0, 3}, []float32{dayOfWeek(now), dayOfWeek(time.Date(1969, 12, 29, 0, 0, 0, 0, time.UTC)), dayOfWeek(time.Unix(0, 0))}); diff != "" {
		t.Error(diff)
	}
	var in Input
	r := Request{At: now, Latency: time.Millisecond, ASN: 64500, Region: "eu-west-1"}
	for i := range 200 {
		r.Accesses = append(r.Accesses, now.Add(time.Duration(i-200)*time.Hour))
	}
	if err := in.Set(&r, nil); err != nil {
		t.Fatal(err)
	}
	if in.n != MaxAccesses || in.times[MaxAccesses-1] != 2.5 || in.behaviour[0] != float32(math.Log1p(1)) {
		t.Errorf("%d times, the last %v, behaviour %v", in.n, in.times[MaxAccesses-1], in.behaviour)
	}
	for i, row := range in.context {
		if row < 0 || row >= int64(rows) {
			t.Errorf("field %d is row %d", i, row)
		}
	}
}

func TestEncoderAllocatesNothing(t *testing.T) {
	e := encoder(t, export(t, New(3, 1)), nil)
	r, dst := Request{At: now, URL: "/v1/x", UserAgent: "curl/8", Region: "eu"}, make([]float32, engine.Dimension)
	if n := testing.AllocsPerRun(100, func() {
		if err := e.Encode(&r, nil, dst); err != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations an encoding", n)
	}
	if err := e.Encode(&r, nil, dst[:3]); !errors.Is(err, engine.ErrShape) {
		t.Errorf("a short vector: %v", err)
	}
}

func TestTrainRefuses(t *testing.T) {
	for name, f := range map[string]func() error{
		"no examples": func() error { _, err := Train(nil, 3, Training{}); return err },
		"one route":   func() error { _, err := Train(make([]Example, 1), 1, Training{}); return err },
		"outside":     func() error { _, err := Train([]Example{{Route: 3}}, 3, Training{}); return err },
	} {
		if err := f(); !errors.Is(err, ErrRequest) {
			t.Errorf("%s: err = %v", name, err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	e := encoder(b, export(b, New(12, 1)), nil)
	r, dst := Request{At: now, URL: "/v1/x", UserAgent: "curl/8", Region: "eu"}, make([]float32, engine.Dimension)
	for i := range 10 {
		r.Accesses = append(r.Accesses, now.Add(time.Duration(i-10)*time.Hour))
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := e.Encode(&r, nil, dst); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzRequest encodes whatever fits a request: errors or vectors, no panics.
func FuzzRequest(f *testing.F) {
	f.Add("/v1/x", "curl/8.5.0", "eu", uint32(64500), int64(1e6), 503, int64(1e9), int64(3600))
	f.Add("://", "", "\xff", uint32(0), int64(-1), -5, int64(math.MinInt64), int64(-1))
	m, err := New(3, 1).Export(nil)
	if err != nil {
		f.Fatal(err)
	}
	e, err := NewEncoder(m, nil, nil)
	if err != nil {
		f.Fatal(err)
	}
	dst := make([]float32, engine.Dimension)
	f.Fuzz(func(t *testing.T, url, agent, region string, asn uint32, latency int64, code int, at, gap int64) {
		r := Request{URL: url, UserAgent: agent, Region: region, ASN: asn, Latency: time.Duration(latency), ErrorCode: code, At: time.Unix(at, 0)}
		r.Accesses = []time.Time{r.At.Add(-time.Duration(gap))}
		if err := e.Encode(&r, nil, dst); err != nil && !errors.Is(err, ErrRequest) {
			t.Fatal(err)
		}
	})
}
