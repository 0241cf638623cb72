package rewrite_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/assay-bench/assay/reference/sandbox/rewrite"
	"github.com/tetratelabs/wazero"
)

// seed adds guests of every class of opcodes, a real one, and hostile ones.
func seed(f *testing.F) {
	f.Helper()
	for _, c := range opcodeCases() {
		f.Add(c.guest.bytes())
	}
	for _, g := range endless() {
		f.Add(g.bytes())
	}
	f.Add(benchWasm)
	f.Add(starting(true).bytes())
	f.Add(starting(false).bytes())
	f.Add([]byte("\x00asm\x01\x00\x00\x00\x01\x05\xff\xff\xff\xff\x0f"))
}

// FuzzParse proves that no input makes the parser panic, and that every refusal names a place in it.
func FuzzParse(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, wasm []byte) {
		m, err := rewrite.Parse(wasm)
		if err == nil {
			_, _ = m.Exports(), m.Imports()
			return
		}
		var bad *rewrite.FormatError
		if !errors.As(err, &bad) || bad.Offset < 0 || bad.Offset > len(wasm) || bad.Section == "" {
			t.Errorf("error = %#v", err)
		}
	})
}

// FuzzCheck proves that a limit error never reports what is within the limit.
func FuzzCheck(f *testing.F) {
	seed(f)
	none := func(string, string, []rewrite.ValueType, []rewrite.ValueType) bool { return false }
	f.Fuzz(func(t *testing.T, wasm []byte) {
		m, err := rewrite.Parse(wasm)
		if err != nil {
			return
		}
		err = m.Check(rewrite.Limits{Bytes: 512, Functions: 2, Locals: 4, DataBytes: 8, TableEntries: 8, Globals: 1, MinPages: 1, MaxPages: 4, KnownImport: none})
		var limit *rewrite.LimitError
		var unknown *rewrite.ImportError
		switch {
		case err == nil, errors.As(err, &unknown):
		case !errors.As(err, &limit) || limit.Got <= limit.Max:
			t.Errorf("error = %#v", err)
		}
	})
}

// FuzzRewrite proves that the rewritten form is valid if, and only if, the original is.
func FuzzRewrite(f *testing.F) {
	seed(f)
	ctx := context.Background()
	config := wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(features).WithMemoryLimitPages(64)
	r := wazero.NewRuntimeWithConfig(ctx, config)
	f.Cleanup(func() { _ = r.Close(ctx) })
	valid := func(wasm []byte) (bool, error) {
		compiled, err := r.CompileModule(ctx, wasm)
		if err != nil {
			return false, err
		}
		return true, compiled.Close(ctx)
	}
	f.Fuzz(func(t *testing.T, wasm []byte) {
		m, err := rewrite.Parse(wasm)
		if err != nil {
			return
		}
		// Locals and table entries within the caps: the engine allocates what is declared.
		if m.Check(rewrite.Limits{Locals: 10_000, TableEntries: 10_000, MinPages: 64}) != nil {
			return
		}
		out, _, refused := rewrite.Rewrite(m, ample)
		before, why := valid(wasm)
		if refused != nil {
			if before {
				t.Fatalf("a valid module is refused: %v", refused)
			}
			return
		}
		if why != nil && strings.Contains(why.Error(), "custom") {
			return // custom sections are dropped, with what the engine dislikes about them
		}
		if after, err := valid(out); before != after {
			t.Fatalf("original valid %v (%v), rewritten valid %v (%v)", before, why, after, err)
		}
	})
}
