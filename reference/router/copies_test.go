package router

import (
	"fmt"
	"os"
	"testing"
)

// counting is an engine that says what it copies and where it writes.
type counting interface {
	Copied() uint64
	Binds(memory []float32) bool
}

// TestNothingIsCopied holds router/onnx/zero-copy through the whole service: the vector that a decision reads is the
// memory that the engine wrote it to, in either engine, with the towers and without; steady state allocates nothing.
// Where the engine is made to copy, the same look shows it.
func TestNothingIsCopied(t *testing.T) {
	for _, c := range []struct {
		model, engine string
		copying       bool
	}{
		{"", PureGo, false}, {Towers, PureGo, false},
		{"", ONNXRuntime, false}, {Towers, ONNXRuntime, false}, {"", ONNXRuntime, true},
	} {
		t.Run(fmt.Sprintf("%s %s copying=%t", c.model, c.engine, c.copying), func(t *testing.T) {
			r := taughtIn(t, Config{copying: c.copying}, Settings{Model: c.model, Engine: c.engine})
			var s Scratch
			defer s.Release()
			ask := func(text string) {
				if err := r.Ask(&s, text); err != nil {
					t.Fatal(err)
				}
			}
			texts := []string{"please refund my payment", "will it rain", "write a function that sorts a list of names for me"}
			for _, text := range texts { // tensors are made over the memory of the first run of each length
				ask(text)
			}
			lent := s.lent
			i := 0
			allocations := testing.AllocsPerRun(300, func() { ask(texts[i%len(texts)]); i++ })
			if s.lent != lent || &s.Vector[0] != &lent.out[0] || len(s.Vector) != len(lent.out) || s.Known == 0 {
				t.Errorf("the decision reads %p, the embedder writes %p", &s.Vector[0], &lent.out[0])
			}
			if allocations != 0 != c.copying {
				t.Errorf("%v allocations a decision", allocations)
			}
			written := s.Vector
			if lent.tower != nil { // the scorer writes what the towers read
				looked(t, lent.tower.Session(), written, c.engine == ONNXRuntime, false)
				written = lent.tower.Text()
			}
			looked(t, lent.reader.(*bagReader).scorer, written, c.engine == ONNXRuntime, c.copying)
		})
	}
}

// looked asks an engine of a library whether it writes straight to memory, and what it copied.
func looked(t *testing.T, engine any, written []float32, library, copying bool) {
	t.Helper()
	x, ok := engine.(counting)
	if !ok {
		if library {
			t.Fatalf("%T does not say what it copies", engine)
		}
		return // the pure-Go engine has one memory: the caller's
	}
	if x.Binds(written) == copying {
		t.Errorf("the library's tensors over the vector's memory: %t", x.Binds(written))
	}
	if copied := x.Copied(); copied > 0 != copying {
		t.Errorf("%d bytes copied", copied)
	}
}

// taughtIn is a router of a service, with three policies. It skips where ONNX Runtime is asked for and is not there.
func taughtIn(tb testing.TB, cfg Config, settings Settings) *Router {
	tb.Helper()
	if state, loaded := Engine(""); settings.Engine == ONNXRuntime && !loaded {
		if os.Getenv("CI") == "true" {
			tb.Fatal(state.Detail)
		}
		tb.Skip(state.Detail)
	}
	s, err := New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close(tb.Context()) })
	if _, err := s.Set("test", settings); err != nil {
		tb.Fatal(err)
	}
	r, err := s.Router("test")
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := r.SetPolicies(map[string]Policy{
		"billing": {Examples: []string{"refund my payment", "send the invoice"}}, "code": {Examples: []string{"write a function that sorts"}},
		"weather": {Examples: []string{"will it rain tomorrow"}},
	}); err != nil {
		tb.Fatal(err)
	}
	return r
}
