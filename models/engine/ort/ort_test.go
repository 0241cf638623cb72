//go:build cgo

package ort

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"unsafe"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/assay-bench/assay/models/engine"
	"github.com/assay-bench/assay/models/engine/graph"
	"github.com/assay-bench/assay/models/engine/graph/graphtest"
	"github.com/assay-bench/assay/models/onnx"
)

var update = flag.Bool("update", false, "write the outputs that the pure-Go engine is compared with")

// library is ONNX Runtime. Without it the test is skipped, loudly, and fails where CI promises it.
func library(tb testing.TB) *Library {
	tb.Helper()
	l, err := Open("")
	if err != nil {
		if os.Getenv("CI") != "" {
			tb.Fatal(err)
		}
		tb.Skip(err)
	}
	return l
}

func session(tb testing.TB, model []byte, o Options) *Session {
	tb.Helper()
	s, err := library(tb).NewSession(model, o)
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

// perceptron is the case of graphtest that has the most operators.
func perceptron(tb testing.TB) graphtest.Case {
	tb.Helper()
	cases := graphtest.Cases()
	i := slices.IndexFunc(cases, func(c graphtest.Case) bool { return c.Name == "perceptron" })
	if i < 0 {
		tb.Fatal("no such case")
	}
	return cases[i]
}

// TestOperators proves router/onnx/writer-valid: ONNX Runtime loads what the writer wrote, and gives what the
// pure-Go engine gives, operator by operator.
func TestOperators(t *testing.T) {
	l := library(t)
	golden := graphtest.Golden{Version: l.Version(), Outputs: map[string][]float32{}}
	for _, c := range graphtest.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			theirs, ours := c.Output(), c.Output()
			if err := session(t, c.File(), Options{}).Run(c.In, []engine.Value{theirs}); err != nil {
				t.Fatal(err)
			}
			g, err := graph.Load(c.Model)
			if err != nil {
				t.Fatal(err)
			}
			if err := g.NewSession().Run(c.In, []engine.Value{ours}); err != nil {
				t.Fatal(err)
			}
			for i, want := range theirs.Floats {
				if d := math.Abs(float64(ours.Floats[i] - want)); !(d <= 1e-5*max(1, math.Abs(float64(want)))) {
					t.Errorf("element %d is %v, ONNX Runtime says %v", i, ours.Floats[i], want)
				}
			}
			golden.Outputs[c.Name] = theirs.Floats
		})
	}
	if len(golden.Outputs) == 0 {
		t.Fatal("no cases")
	}
	if *update {
		b, err := json.Marshal(golden)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("../graph/graphtest/golden.json", append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestZeroCopy proves router/onnx/zero-copy: the library's tensors lie in the caller's memory, a run
// allocates nothing and copies nothing, and the copying mode shows that each of these can be seen.
func TestZeroCopy(t *testing.T) {
	c := perceptron(t)
	in, out := c.In, []engine.Value{c.Output()}
	s := session(t, c.File(), Options{})
	run := func() {
		if err := s.Run(in, out); err != nil {
			t.Fatal(err)
		}
	}
	run()
	if len(s.bound) != 1 {
		t.Fatalf("%d bindings after a run", len(s.bound))
	}
	for _, b := range s.bound {
		at := func(v ort.Value) *float32 { return unsafe.SliceData(v.(*ort.Tensor[float32]).GetData()) }
		if got, want := at(b.values[0]), &in[0].Floats[0]; got != want {
			t.Errorf("the input's tensor is at %p, the caller's memory at %p", got, want)
		}
		if got, want := at(b.values[1]), &out[0].Floats[0]; got != want {
			t.Errorf("the output's tensor is at %p, the caller's memory at %p", got, want)
		}
		aliased(t, s, b, in[0].Floats, out[0].Floats)
	}
	if n := testing.AllocsPerRun(1000, run); n != 0 {
		t.Errorf("%v allocations a run", n)
	}
	if b := measured(t, s, in, out); b.AllocedBytesPerOp() != 0 || b.AllocsPerOp() != 0 {
		t.Errorf("%d B/op, %d allocs/op", b.AllocedBytesPerOp(), b.AllocsPerOp())
	}
	if s.Copied() != 0 {
		t.Errorf("%d bytes copied", s.Copied())
	}

	copying, other := session(t, c.File(), Options{Copying: true}), []engine.Value{c.Output()}
	if err := copying.Run(in, other); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(out[0].Floats, other[0].Floats) {
		t.Error("the copying mode gives another output")
	}
	if want := uint64(4 * (len(in[0].Floats) + 2*len(out[0].Floats))); copying.Copied() != want {
		t.Errorf("the copying mode copied %d bytes, want %d", copying.Copied(), want)
	}
	if b := measured(t, copying, in, other); b.AllocedBytesPerOp() == 0 || b.AllocsPerOp() == 0 {
		t.Errorf("the copying mode shows %d B/op, %d allocs/op: the measurement sees nothing", b.AllocedBytesPerOp(), b.AllocsPerOp())
	}
}

// aliased holds that the library itself reads and writes the caller's memory: between these runs no code of
// Go could copy anything.
func aliased(t *testing.T, s *Session, b *binding, in, out []float32) {
	t.Helper()
	before := slices.Clone(out)
	for i := range in {
		in[i] = -in[i]
	}
	for i := range out {
		out[i] = float32(math.NaN())
	}
	if err := s.session.RunWithBinding(b.io); err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(out, func(x float32) bool { return x != x }) {
		t.Error("the library does not write to the caller's memory")
	}
	if slices.Equal(before, out) {
		t.Error("the library does not see what the caller wrote")
	}
}

func measured(t *testing.T, s *Session, in, out []engine.Value) testing.BenchmarkResult {
	return testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			if err := s.Run(in, out); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestTensorLifetime proves router/onnx/tensor-lifetime: the library keeps pointers to Go memory across
// calls. 10,000 runs beside forced collections and garbage give the same output; so does memory that only
// the binding keeps reachable.
func TestTensorLifetime(t *testing.T) {
	c := perceptron(t)
	s := session(t, c.File(), Options{})
	want := c.Output()
	if err := s.Run(c.In, []engine.Value{want}); err != nil {
		t.Fatal(err)
	}
	in := []engine.Value{{Dims: slices.Clone(c.In[0].Dims), Floats: slices.Clone(c.In[0].Floats)}}
	out := []engine.Value{c.Output()}
	var group sync.WaitGroup
	stop := make(chan struct{})
	group.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				garbage = make([]byte, 1<<16)
				runtime.GC()
			}
		}
	})
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range 10_000 {
		if err := s.Run(in, out); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(out[0].Floats, want.Floats) {
			t.Fatalf("run %d gives another output", i)
		}
		if i%1000 == 0 {
			runtime.GC()
		}
	}
	close(stop)
	group.Wait()
	var after runtime.MemStats
	runtime.ReadMemStats(&after)
	if n := after.NumGC - before.NumGC; n < 10 {
		t.Errorf("only %d collections happened: the test proves nothing", n)
	} else {
		t.Logf("10,000 runs beside %d collections", n)
	}
	b := bound(t, s, c) // now only the binding reaches the memory
	runtime.GC()
	runtime.GC()
	if err := s.session.RunWithBinding(b.io); err != nil {
		t.Fatal(err)
	}
	if got := b.values[1].(*ort.Tensor[float32]).GetData(); !slices.Equal(got, want.Floats) {
		t.Error("memory that only the binding reaches gives another output")
	}
}

var garbage []byte

// bound runs with memory of its own and returns the binding to it.
func bound(t *testing.T, s *Session, c graphtest.Case) *binding {
	t.Helper()
	in := []engine.Value{{Dims: slices.Clone(c.In[0].Dims), Floats: slices.Clone(c.In[0].Floats)}}
	if err := s.Run(in, []engine.Value{c.Output()}); err != nil {
		t.Fatal(err)
	}
	for k, b := range s.bound {
		if k[0].at == unsafe.Pointer(&in[0].Floats[0]) {
			return b
		}
	}
	t.Fatal("the run has no binding")
	return nil
}

// TestThreads proves router/onnx/threads: a session under load adds no thread of its own. The control, a
// session made with four threads, does.
func TestThreads(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("threads are counted in /proc")
	}
	const workers = 4
	c := perceptron(t)
	load := func(run []func() error) int {
		before, most := threads(t), 0
		var group sync.WaitGroup
		for _, f := range run {
			group.Go(func() {
				for range 2000 {
					if err := f(); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		done := make(chan struct{})
		go func() { group.Wait(); close(done) }()
		for {
			most = max(most, threads(t))
			select {
			case <-done:
				return most - before
			default:
			}
		}
	}
	run := func() (out []func() error) {
		for range workers {
			s, to := session(t, c.File(), Options{}), []engine.Value{c.Output()}
			out = append(out, func() error { return s.Run(c.In, to) })
		}
		return out
	}
	load(run()) // Go's own threads exist now
	before := threads(t)
	sessions := run()
	if n := threads(t) - before + load(sessions); n > 2*workers {
		t.Errorf("%d threads more with %d sessions of one thread", n, workers)
	}
	before = threads(t)
	for range workers {
		o, err := ort.NewSessionOptions()
		if err != nil {
			t.Fatal(err)
		}
		if err := o.SetIntraOpNumThreads(4); err != nil {
			t.Fatal(err)
		}
		s, err := ort.NewDynamicAdvancedSessionWithONNXData(c.File(), []string{"x0"}, []string{"y"}, o)
		if err := errors.Join(err, o.Destroy()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Destroy() })
	}
	if n := threads(t) - before; n < 3*workers {
		t.Errorf("the control has only %d threads more: the count sees nothing", n)
	}
}

func threads(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestMetadataRead holds that the library reads the metadata as it was written, and that a session on another
// version is refused, naming the key.
func TestMetadataRead(t *testing.T) {
	c := perceptron(t)
	c.Model.Metadata = map[string]string{"hash": "fnv1a64", "note": "ü"}
	session(t, c.File(), Options{Want: c.Model.Metadata})
	_, err := library(t).NewSession(c.File(), Options{Want: map[string]string{"hash": "murmur3"}})
	if !errors.Is(err, ErrMetadata) || !strings.Contains(err.Error(), `"hash" is "fnv1a64", want "murmur3"`) {
		t.Errorf("err = %v", err)
	}
}

// TestBadModel is the library's part of router/onnx/bad-model: files that are none are errors.
func TestBadModel(t *testing.T) {
	l, b := library(t), perceptron(t).File()
	unknown := perceptron(t)
	unknown.Model.Graph.Nodes[0].Op = "NoSuchOperator"
	for name, model := range map[string][]byte{"empty": nil, "garbage": []byte("no model"), "half": b[:len(b)/2], "operator": unknown.File()} {
		if s, err := l.NewSession(model, Options{}); err == nil {
			t.Errorf("%s: loaded %v", name, s.Inputs())
		} else if name == "operator" && !strings.Contains(err.Error(), "NoSuchOperator") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRunRefuses(t *testing.T) {
	c := perceptron(t)
	s, out := session(t, c.File(), Options{}), []engine.Value{c.Output()}
	if err := s.Run(nil, out); !errors.Is(err, engine.ErrShape) {
		t.Errorf("no inputs: %v", err)
	}
	if err := s.Run([]engine.Value{{Dims: []int{2, 4}, Floats: make([]float32, 8)}}, out); err == nil {
		t.Error("a product that does not fit ran")
	}
	beside := &struct {
		pointer *int
		memory  [32]float32
	}{pointer: new(int)}
	if err := s.Run([]engine.Value{{Dims: []int{2, 16}, Floats: beside.memory[:]}}, out); !errors.Is(err, ErrMemory) {
		t.Errorf("memory beside a pointer: %v", err)
	}
	if err := s.Run(c.In, out); err != nil {
		t.Errorf("after refusals: %v", err)
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	if err := s.Run(c.In, out); err == nil {
		t.Error("a closed session ran")
	}
}

// TestBindingsAreBounded holds that a caller who never keeps its buffers costs time, not memory.
func TestBindingsAreBounded(t *testing.T) {
	c := perceptron(t)
	s := session(t, c.File(), Options{})
	for range 2*maxBound + 3 {
		if err := s.Run(c.In, []engine.Value{c.Output()}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(s.bound); n == 0 || n > maxBound {
		t.Errorf("%d bindings", n)
	}
}

// TestAnotherLibrary holds that a process takes one library.
func TestAnotherLibrary(t *testing.T) {
	l := library(t)
	if again, err := Open(l.Path()); err != nil || again != l {
		t.Errorf("the same file: %v, %v", again, err)
	}
	if _, err := Open(t.TempDir()); !errors.Is(err, ErrLibrary) {
		t.Errorf("another folder: %v", err)
	}
}

// BenchmarkFloor is what a run costs without work: the library's own floor.
func BenchmarkFloor(b *testing.B) {
	v := func() engine.Value { return engine.Value{Dims: []int{1}, Floats: make([]float32, 1)} }
	m := &onnx.Model{IR: onnx.IRVersion, Opset: onnx.Opset, Graph: onnx.Graph{
		Name: "floor", Nodes: []onnx.Node{{Op: "Identity", Inputs: []string{"x"}, Outputs: []string{"y"}}},
		Inputs:  []onnx.Value{{Name: "x", Type: onnx.Float, Dims: []onnx.Dim{{Size: 1}}}},
		Outputs: []onnx.Value{{Name: "y", Type: onnx.Float, Dims: []onnx.Dim{{Size: 1}}}},
	}}
	file, err := onnx.Marshal(m)
	if err != nil {
		b.Fatal(err)
	}
	for _, copying := range []bool{false, true} {
		b.Run(fmt.Sprintf("copying=%v", copying), func(b *testing.B) {
			s, in, out := session(b, file, Options{Copying: copying}), []engine.Value{v()}, []engine.Value{v()}
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Run(in, out); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
