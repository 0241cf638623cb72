package bag

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/assay-bench/assay/models/engine"
	"github.com/assay-bench/assay/models/engine/ort"
)

// TestPureDefault proves router/onnx/pure-default: without cgo the engine builds, gives the stored scores, and
// says why ONNX Runtime is not there.
func TestPureDefault(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the package a second time")
	}
	cmd := exec.Command("go", "test", "-count=1", "-v", "-run", "^(TestStoredScores|TestLibraryAbsent|TestGraphAgainstBag)$", ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if n := strings.Count(string(out), "--- PASS"); n != 3 {
		t.Errorf("%d tests passed, want 3\n%s", n, out)
	}
}

// TestWorkers holds that Scorers of one Executor run beside each other, each with its session and tensors, and
// give what one alone gives.
func TestWorkers(t *testing.T) {
	engines := []string{engine.PureGo}
	if _, err := ort.Open(""); err == nil || os.Getenv("CI") != "" {
		engines = append(engines, ort.Name)
	}
	m := sample(t, "int8")
	for _, name := range engines {
		x := executor(t, m, name)
		want := make([][]float32, 50)
		for i := range want {
			want[i] = make([]float32, m.Prototypes.Rows())
		}
		if err := scoreAll(x, m.Prototypes, func(i int, y []float32) { copy(want[i], y) }); err != nil {
			t.Fatal(err)
		}
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				if err := scoreAll(x, m.Prototypes, func(i int, y []float32) {
					if !slices.Equal(want[i], y) {
						t.Errorf("%s: bag %d gives other scores", name, i)
					}
				}); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
	}
}

// TestCallersMemory holds that an embedding in a struct with pointers works on ONNX Runtime, by a copy that is
// counted, and that one of its own is not copied.
func TestCallersMemory(t *testing.T) {
	library(t)
	m := sample(t, "float32")
	fast := newScorer(t, m, engine.PureGo)
	want := make([]float32, engine.Dimension)
	beside := &struct {
		pointer *int
		vector  [engine.Dimension]float32
	}{pointer: new(int)}
	for name, c := range map[string]struct {
		vector []float32
		copied uint64
	}{"field": {beside.vector[:], 2 * 4 * engine.Dimension}, "own": {make([]float32, engine.Dimension), 0}} {
		s, err := executor(t, m, ort.Name).newScorer(ort.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for seed := range uint64(2) {
			if err := errors.Join(s.Run(randomBag(seed), nil, c.vector, nil), fast.Run(randomBag(seed), nil, want, nil)); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if d, _ := gap(want, c.vector); d > 1e-5 {
				t.Errorf("%s: the embedding differs by %v", name, d)
			}
		}
		if s.Copied() != c.copied {
			t.Errorf("%s: %d bytes copied, want %d", name, s.Copied(), c.copied)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestScorersAllocateNothing is the steady state of both engines, with prototypes and with bags of changing size.
func TestScorersAllocateNothing(t *testing.T) {
	engines := []string{engine.PureGo}
	if _, err := ort.Open(""); err == nil || os.Getenv("CI") != "" {
		engines = append(engines, ort.Name)
	}
	m := sample(t, "int8")
	e, y := make([]float32, engine.Dimension), make([]float32, m.Prototypes.Rows())
	for _, name := range engines {
		s, i := newScorer(t, m, name), 0
		run := func() {
			if err := s.Run(bags[i%len(bags)], m.Prototypes, e, y); err != nil {
				t.Fatal(err)
			}
			i++
		}
		for range bags { // ONNX Runtime binds each caller's memory once
			run()
		}
		if n := testing.AllocsPerRun(200, run); n != 0 {
			t.Errorf("%s: %v allocations a run", name, n)
		}
	}
}

// scoreAll scores 50 bags with a Scorer of its own.
func scoreAll(x *Executor, p *engine.Prototypes, each func(i int, scores []float32)) error {
	s, err := x.NewScorer()
	if err != nil {
		return err
	}
	e, y := make([]float32, engine.Dimension), make([]float32, p.Rows())
	for i := range 50 {
		if err = s.Run(randomBag(uint64(i)), p, e, y); err != nil {
			break
		}
		each(i, y)
	}
	return errors.Join(err, s.Close())
}
