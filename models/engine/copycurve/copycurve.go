// Package copycurve measures what copies between a caller and ONNX Runtime cost: the same graph, once over
// the caller's own memory and once by way of copies, round by round in turn, over sizes (spec row
// router/perf/copy-curve). One ratio proves nothing: it depends on the bytes moved for each unit of compute.
package copycurve

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"time"

	"github.com/assay-bench/assay/models/engine"
	"github.com/assay-bench/assay/models/engine/ort"
	"github.com/assay-bench/assay/models/onnx"
)

// Options bound a measurement.
type Options struct {
	Library string // ONNX Runtime's file or folder; empty looks where package ort does
	Rounds  int    // of every point; 0 means 100
	Seed    uint64
	// Progress is told after each point; it may be nil.
	Progress func(done, total int)
}

// Point is one size of one graph.
type Point struct {
	Graph  string `json:"graph"`
	Batch  int    `json:"batch,omitempty"`
	Bytes  int    `json:"bytes"`  // of input and output together
	Rounds int    `json:"rounds"` // each timed both ways
	// The medians of a run, and of the rounds' ratios with the order-statistic interval at 95 % or more.
	Copying  time.Duration `json:"copyingNanos"`
	ZeroCopy time.Duration `json:"zeroCopyNanos"`
	Ratio    float64       `json:"ratio"`
	Low      float64       `json:"low"`
	High     float64       `json:"high"`
	// What a run copies and allocates at the edge of the API.
	CopiedBytes    uint64 `json:"copiedBytes"`
	CopiedBytes0   uint64 `json:"zeroCopyCopiedBytes"`
	AllocatedBytes uint64 `json:"allocatedBytes"`
	Allocated0     uint64 `json:"zeroCopyAllocatedBytes"`
}

// Report is the curve, with what is needed to read it.
type Report struct {
	Library  string  `json:"onnxruntime"`
	Go       string  `json:"go"`
	Platform string  `json:"platform"`
	CPUs     int     `json:"cpus"`
	Seed     uint64  `json:"seed"`
	Points   []Point `json:"points"`
}

// The graphs: one that does next to nothing with each byte, and the design's perceptron.
const (
	Relu       = "Relu"
	Perceptron = "128-256-LayerNormalization-128-L2"
)

// job is a point to be measured.
type job struct {
	graph   string
	batch   int
	file    []byte
	in, out []int
}

// Run measures every point. Errors wrap ort.ErrLibrary where ONNX Runtime is not usable; a run whose output
// differs between the two ways is an error too.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.Rounds <= 0 {
		o.Rounds = 100
	}
	library, err := ort.Open(o.Library)
	if err != nil {
		return nil, err
	}
	jobs, err := plan(o.Seed)
	if err != nil {
		return nil, err
	}
	r := &Report{
		Library: library.Version(), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.GOMAXPROCS(0), Seed: o.Seed,
	}
	for i, j := range jobs {
		p, err := j.measure(ctx, library, o)
		if err != nil {
			return nil, fmt.Errorf("%s, %v: %w", j.graph, j.in, err)
		}
		r.Points = append(r.Points, p)
		if o.Progress != nil {
			o.Progress(i+1, len(jobs))
		}
	}
	return r, nil
}

// plan returns the points: Relu from 512 B to 16 MiB moved, the perceptron in three batches.
func plan(seed uint64) ([]job, error) {
	relu, err := onnx.Marshal(model(Relu, 1, 0, 0, nil, onnx.Node{Op: "Relu", Inputs: []string{"x"}, Outputs: []string{"y"}}))
	if err != nil {
		return nil, err
	}
	var out []job
	for bytes := 512; bytes <= 16<<20; bytes *= 4 {
		n := bytes / 8 // in and out, four bytes each
		out = append(out, job{graph: Relu, file: relu, in: []int{n}, out: []int{n}})
	}
	const top = 16 << 20 / 8
	out = append(out, job{graph: Relu, file: relu, in: []int{top}, out: []int{top}})
	file, err := onnx.Marshal(perceptron(seed))
	if err != nil {
		return nil, err
	}
	for _, batch := range []int{1, 64, 4096} {
		out = append(out, job{graph: Perceptron, batch: batch, file: file, in: []int{batch, 128}, out: []int{batch, 128}})
	}
	return out, nil
}

func perceptron(seed uint64) *onnx.Model {
	r := rand.New(rand.NewPCG(seed, 0))
	weights := func(name string, dims ...int64) onnx.Tensor {
		n := int64(1)
		for _, d := range dims {
			n *= d
		}
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(r.NormFloat64() / 8)
		}
		return onnx.Floats(name, v, dims...)
	}
	node := func(op, out string, in []string, a ...onnx.Attribute) onnx.Node {
		return onnx.Node{Op: op, Inputs: in, Outputs: []string{out}, Attributes: a}
	}
	return model(Perceptron, 2, 128, 128,
		[]onnx.Tensor{weights("w", 128, 256), weights("b", 256), weights("scale", 256), weights("bias", 256), weights("v", 256, 128), weights("c", 128)},
		node("Gemm", "h", []string{"x", "w", "b"}), node("Relu", "r", []string{"h"}),
		node("LayerNormalization", "n", []string{"r", "scale", "bias"}), node("Gemm", "p", []string{"n", "v", "c"}),
		node("LpNormalization", "y", []string{"p"}, onnx.Int("axis", -1), onnx.Int("p", 2)))
}

// model returns a graph from x to y of a rank, whose first dimension is open.
func model(name string, rank int, in, out int64, initializers []onnx.Tensor, nodes ...onnx.Node) *onnx.Model {
	port := func(name string, width int64) []onnx.Value {
		return []onnx.Value{{Name: name, Type: onnx.Float, Dims: []onnx.Dim{{Param: "batch"}, {Size: width}}[:rank]}}
	}
	return &onnx.Model{IR: onnx.IRVersion, Opset: onnx.Opset, Producer: "assay", Graph: onnx.Graph{
		Name: name, Nodes: nodes, Initializers: initializers, Inputs: port("x", in), Outputs: port("y", out),
	}}
}

// way is one of the two ways to run a graph.
type way struct {
	session *ort.Session
	in, out []engine.Value
}

func (j job) way(l *ort.Library, copying bool, seed uint64) (way, error) {
	s, err := l.NewSession(j.file, ort.Options{Copying: copying})
	if err != nil {
		return way{}, err
	}
	value := func(dims []int) []engine.Value {
		n := 1
		for _, d := range dims {
			n *= d
		}
		return []engine.Value{{Dims: dims, Floats: make([]float32, n)}}
	}
	w, r := way{session: s, in: value(j.in), out: value(j.out)}, rand.New(rand.NewPCG(seed, 1))
	for i := range w.in[0].Floats {
		w.in[0].Floats[i] = float32(r.NormFloat64())
	}
	return w, nil
}

func (w way) times(n int) (time.Duration, error) {
	start := time.Now()
	for range n {
		if err := w.session.Run(w.in, w.out); err != nil {
			return 0, err
		}
	}
	return time.Since(start) / time.Duration(n), nil
}

// footprint returns the bytes that a run copies and allocates.
func (w way) footprint() (copied, allocated uint64, err error) {
	const runs = 10
	var before, after runtime.MemStats
	before0 := w.session.Copied()
	runtime.ReadMemStats(&before)
	_, err = w.times(runs)
	runtime.ReadMemStats(&after)
	return (w.session.Copied() - before0) / runs, (after.TotalAlloc - before.TotalAlloc) / runs, err
}

// block is how long a timed block of runs takes at least.
const block = 500 * time.Microsecond

func (j job) measure(ctx context.Context, l *ort.Library, o Options) (p Point, err error) {
	copying, err := j.way(l, true, o.Seed)
	if err != nil {
		return p, err
	}
	defer func() { err = closed(err, copying.session) }()
	zero, err := j.way(l, false, o.Seed)
	if err != nil {
		return p, err
	}
	defer func() { err = closed(err, zero.session) }()
	p = Point{Graph: j.graph, Batch: j.batch, Bytes: 4 * (len(zero.in[0].Floats) + len(zero.out[0].Floats)), Rounds: o.Rounds}
	once, err := zero.times(3) // warm
	if err != nil {
		return p, err
	}
	if _, err := copying.times(3); err != nil {
		return p, err
	}
	if !slices.Equal(zero.out[0].Floats, copying.out[0].Floats) {
		return p, fmt.Errorf("the two ways give different outputs")
	}
	if err := p.rounds(ctx, copying, zero, max(1, int(block/max(once, 1)))); err != nil {
		return p, err
	}
	if p.CopiedBytes, p.AllocatedBytes, err = copying.footprint(); err != nil {
		return p, err
	}
	p.CopiedBytes0, p.Allocated0, err = zero.footprint()
	return p, err
}

func closed(err error, s *ort.Session) error {
	if wrong := s.Close(); err == nil {
		err = wrong
	}
	return err
}

// rounds times both ways in every round, the one that goes first in turn.
func (p *Point) rounds(ctx context.Context, copying, zero way, runs int) error {
	var c, z []time.Duration
	var ratios []float64
	for i := range p.Rounds {
		if err := ctx.Err(); err != nil {
			return err
		}
		first, second := copying, zero
		if i%2 == 1 {
			first, second = zero, copying
		}
		a, err := first.times(runs)
		if err != nil {
			return err
		}
		b, err := second.times(runs)
		if err != nil {
			return err
		}
		if i%2 == 1 {
			a, b = b, a
		}
		c, z, ratios = append(c, a), append(z, b), append(ratios, float64(a)/float64(max(b, 1)))
	}
	slices.Sort(c)
	slices.Sort(z)
	p.Copying, p.ZeroCopy = c[len(c)/2], z[len(z)/2]
	p.Ratio, p.Low, p.High = median(ratios)
	return nil
}

// median returns the median and the order-statistic interval that holds the true one with 95 % or more (by
// the normal approximation of the binomial, rounded outwards; the whole range of few values).
func median(v []float64) (mid, low, high float64) {
	slices.Sort(v)
	n := len(v)
	half := 1.96 * math.Sqrt(float64(n)) / 2
	lower := max(0, int(math.Floor(float64(n)/2-half))-1)
	upper := min(n-1, int(math.Ceil(float64(n)/2+half)))
	mid = v[n/2]
	if n%2 == 0 {
		mid = (v[n/2-1] + v[n/2]) / 2
	}
	return mid, v[lower], v[upper]
}
