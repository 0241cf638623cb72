package gobench

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// module writes a small module with benchmarks and returns its folder.
func module(t *testing.T, body string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":       "module example.org/m\n\ngo 1.24\n",
		"m.go":         "package m\n",
		"m_test.go":    "package m\n\nimport \"testing\"\n\n" + body,
		"none/none.go": "package none\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const twoBenchmarks = `
var sink []byte

func BenchmarkMake(b *testing.B) { b.Run("small", func(b *testing.B) { for range b.N { sink = make([]byte, 64) } }) }
func BenchmarkNone(b *testing.B) { for range b.N { } }
`

func TestCompileAndRun(t *testing.T) {
	dir := module(t, twoBenchmarks)
	first, err := Compile(t.Context(), dir, t.TempDir(), []string{"./..."})
	if err != nil || len(first) != 1 {
		t.Fatalf("%v, %v", first, err)
	}
	again, err := Compile(t.Context(), module(t, twoBenchmarks), t.TempDir(), []string{"./..."})
	if err != nil || Digest(again) != Digest(first) {
		t.Errorf("equal sources in two folders give two programs: %v", err)
	}
	ran, err := first["example.org/m"].Run(t.Context(), Command{Filter: Only(".", "Make"), Time: "100000x", Procs: 2}) // so many that what the runtime allocates beside them is less than one each
	if err != nil {
		t.Fatal(err)
	}
	got, ok := ran.Results["Make/small"]
	if !ok || len(ran.Results) != 1 || got.Iterations != 100_000 || got.Figures["allocs/op"] != 1 || got.Figures["B/op"] != 64 || ran.PID == 0 {
		t.Errorf("%+v", ran)
	}
}

func TestFailureIsTheProducts(t *testing.T) {
	dir := module(t, `func BenchmarkBad(b *testing.B) { b.Fatal("no data") }
func BenchmarkHang(b *testing.B) { select {} }
`)
	all, err := Compile(t.Context(), dir, t.TempDir(), []string{"."})
	if err != nil {
		t.Fatal(err)
	}
	var failed *Failed
	if _, err := all["example.org/m"].Run(t.Context(), Command{Filter: "Bad", Time: "1x", Procs: 1}); !errors.As(err, &failed) || failed.Late {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	// a deadlock is seen by the runtime, or ended by the deadline: a failure either way
	if _, err := all["example.org/m"].Run(ctx, Command{Filter: "Hang", Time: "1x", Procs: 1}); !errors.As(err, &failed) {
		t.Errorf("%v", err)
	}
}

func TestParse(t *testing.T) {
	got := parse([]byte("noise\nBenchmarkA/x-1-2 \t 10\t 25.0 ns/op\t 8 B/op\t 1 allocs/op\nBenchmarkA/x-1-2 20 30 ns/op\nPASS\n"), 2)
	if r := got["A/x-1"]; len(got) != 1 || r.Iterations != 10 || r.Figures["ns/op"] != 25 || r.Figures["B/op"] != 8 {
		t.Errorf("%+v", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("BenchmarkA-2 1 1 ns/op\n"), 2)
	f.Add([]byte("BenchmarkA 1 NaN ns/op -1 B/op\n"), 1)
	f.Fuzz(func(t *testing.T, text []byte, procs int) {
		for name, r := range parse(text, procs) {
			for unit, v := range r.Figures {
				if !(v >= 0) || r.Iterations < 1 {
					t.Errorf("%q: %v %s of %d", name, v, unit, r.Iterations)
				}
			}
		}
	})
}
