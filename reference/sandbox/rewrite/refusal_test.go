package rewrite_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/assay-bench/assay/reference/sandbox/rewrite"
	"github.com/google/go-cmp/cmp"
	"github.com/tetratelabs/wazero"
)

// TestForging holds modules that are invalid as sent but would be valid once the meter is added.
func TestForging(t *testing.T) {
	withGlobal := func(code ...byte) guest {
		g := one(nil, nil, code...)
		g.globals = []string{"\x7e\x01\x42\x00\x0b"}
		return g
	}
	exporting := func(kind, index byte) guest {
		g := withGlobal()
		g.exports = []string{export("x", kind, index)}
		return g
	}
	started := one(nil, nil)
	started.start = []byte{1}
	element := one(nil, nil)
	element.tables, element.elements = []string{"\x70\x00\x04"}, []string{"\x00\x41\x00\x0b\x01\x01"}
	initial := one(nil, nil)
	initial.globals = []string{"\x70\x00\xd2\x01\x0b"}
	initialGet := withGlobal()
	initialGet.globals = append(initialGet.globals, "\x7e\x00\x23\x02\x0b")
	cases := map[string]guest{
		"set the fuel":                 withGlobal(constI64, 0, gSet, 1),
		"read the fuel":                withGlobal(gGet, 1, drop),
		"set the depth":                withGlobal(constI32, 0, gSet, 2),
		"call one past the end":        one(nil, nil, call, 1),
		"tail call one past the end":   one(nil, nil, retCall, 1),
		"reference one past the end":   one(nil, nil, refFunc, 1, drop),
		"branch past the function":     one(nil, nil, br, 1),
		"br_table past the function":   one(nil, nil, constI32, 0, brTable, 1, 0, 1),
		"set a local that is added":    one(nil, nil, constI64, 0, set, 0),
		"block of a type that is none": one(nil, nil, block, 1, end),
		"call_indirect of such a type": one(nil, nil, constI32, 0, callInd, 1, 0),
		"export the fuel":              exporting(3, 1),
		"export one function too many": exporting(0, 1),
		"start one past the end":       started,
		"element one past the end":     element,
		"initialiser past the end":     initial,
		"initialiser reads the fuel":   initialGet,
	}
	for name, g := range cases {
		m, err := rewrite.Parse(g.bytes())
		if err != nil {
			t.Errorf("%s: parse: %v (validation must be what refuses it)", name, err)
			continue
		}
		var bad *rewrite.FormatError
		if _, _, err := rewrite.Rewrite(m, ample); !errors.As(err, &bad) {
			t.Errorf("%s: error = %v, want a FormatError", name, err)
		}
	}
}

// TestParseRefuses holds what the parser must not let through.
func TestParseRefuses(t *testing.T) {
	body := func(code ...byte) []byte { return one(nil, nil, code...).bytes() }
	with := func(change func(*guest)) []byte {
		g := one(nil, nil)
		change(&g)
		return g.bytes()
	}
	cases := []struct {
		name, section, reason string
		wasm                  []byte
	}{
		{"empty", "header", "not a WebAssembly module", nil},
		{"component", "header", "version 1", []byte("\x00asm\x0d\x00\x01\x00")},
		{"tag section", "header", "unknown section 13", append(body(), 13, 1, 0)},
		{"section twice", "header", "repeats", append(body(), 10, 1, 0)},
		{"truncated section", "header", "bytes wanted", append(body(), 11, 9, 0)},
		{"left over", "data", "left over", append(body(), 11, 2, 0, 0)},
		{"try", "code", "unknown opcode 0x06", body(0x06, void, end)},
		{"throw", "code", "unknown opcode 0x08", body(0x08, 0)},
		{"try_table", "code", "unknown opcode 0x1f", body(0x1f, void, 0, end)},
		{"call_ref", "code", "unknown opcode 0x14", body(0x14, 0)},
		{"gc", "code", "unknown opcode 0xfb", body(0xfb, 0)},
		{"threads", "code", "unknown opcode 0xfe", body(0xfe, 3, 0)},
		{"relaxed simd", "code", "unknown opcode 0xfd 256", body(vector, 0x80, 2)},
		{"hole in simd", "code", "unknown opcode 0xfd 154", body(vector, 0x9a, 1)},
		{"unknown misc", "code", "unknown opcode 0xfc 18", body(misc, 18)},
		{"long prefix", "code", "in 2 bytes", body(misc, 0x80, 0)},
		{"several memories", "code", "several memories", body(constI32, 0, 0x28, 0x42, 1, 0, drop)},
		{"memory 1", "code", "memory 1", body(constI32, 0, grow, 1, drop)},
		{"else alone", "code", "else without", body(elseOp)},
		{"code behind the end", "code", "left over", body(end, 0x01)},
		{"no end", "code", "unexpected end", body(block, void)},
		{"long number", "code", "more than 5 bytes", body(constI32, 0x80, 0x80, 0x80, 0x80, 0x80, 0, drop)},
		{"shared memory", "memory", "unknown limits 0x03", with(func(g *guest) { g.memory = "\x03\x01\x02" })},
		{"64-bit memory", "memory", "unknown limits 0x04", with(func(g *guest) { g.memory = "\x04\x01" })},
		{"exported fuel", "export", "reserved", with(func(g *guest) { g.exports = []string{export("__assay_fuel", 0, 0)} })},
		{"imported prefix", "import", "reserved", with(func(g *guest) { g.imports = []string{vec([]byte("__assay_x")) + vec([]byte("y")) + "\x00\x00"} })},
		{"imported meter", "import", "reserved", with(func(g *guest) { g.imports = []string{vec([]byte("assay_meter")) + vec([]byte("refill")) + "\x00\x00"} })},
		{"unknown import", "import", "unknown kind 4", with(func(g *guest) { g.imports = []string{vec([]byte("a")) + vec([]byte("y")) + "\x04\x00\x00"} })},
		{"too many locals", "code", "locals", with(func(g *guest) {
			g.code[0].groups, g.code[0].locals = 1, "\xff\xff\xff\xff\x0f\x7f"
		})},
		{"long vector", "type", "do not fit", []byte("\x00asm\x01\x00\x00\x00\x01\x05\xff\xff\xff\xff\x0f")},
		{"1,001 parameters", "type", "at most 1000", append([]byte("\x00asm\x01\x00\x00\x00"), section(1, 1, "\x60"+vec([]byte(strings.Repeat("\x7f", 1001)))+"\x00")...)},
		{"struct type", "type", "form 0x5f", []byte("\x00asm\x01\x00\x00\x00\x01\x04\x01\x5f\x00\x00")},
		{"calls in an initialiser", "global", "constant expression", with(func(g *guest) { g.globals = []string{"\x7f\x00\x10\x00\x0b"} })},
		{"element form 8", "element", "unknown element segment", with(func(g *guest) { g.elements = []string{"\x08\x00"} })},
		{"data form 3", "data", "unknown data segment", with(func(g *guest) { g.data = []string{"\x03\x00"} })},
	}
	for _, c := range cases {
		_, err := rewrite.Parse(c.wasm)
		var bad *rewrite.FormatError
		if !errors.As(err, &bad) {
			t.Errorf("%s: error = %v, want a FormatError", c.name, err)
			continue
		}
		if bad.Section != c.section || !strings.Contains(bad.Reason, c.reason) {
			t.Errorf("%s: %v, want section %s, %q", c.name, err, c.section, c.reason)
		}
		if bad.Offset < 0 || bad.Offset > len(c.wasm) {
			t.Errorf("%s: offset %d of %d", c.name, bad.Offset, len(c.wasm))
		}
	}
}

func TestCheck(t *testing.T) {
	g := one([]byte{i32}, nil)
	g.types = append(g.types, signature{nil, []byte{i64}})
	g.imports = []string{vec([]byte("env")) + vec([]byte("now")) + "\x00\x01"}
	g.tables = []string{"\x70\x00\x06", "\x70\x00\x05"}
	g.globals = []string{"\x7f\x00\x41\x00\x0b", "\x7f\x00\x41\x00\x0b"}
	g.memory = "\x01\x03\x09"
	g.data = []string{"\x01\x02ab", "\x00\x41\x00\x0b\x03abc"}
	g.code[0].groups, g.code[0].locals = 2, "\x80\x08\x7f\x01\x7c"
	wasm := g.bytes()
	m, err := rewrite.Parse(wasm)
	if err != nil {
		t.Fatal(err)
	}
	known := func(_, name string, params, results []rewrite.ValueType) bool {
		return name == "now" && len(params) == 0 && len(results) == 1 && results[0] == i64
	}
	fits := rewrite.Limits{
		Bytes: len(wasm), Functions: 1, Locals: 1026, DataBytes: 5, TableEntries: 11, Globals: 2, MinPages: 3, MaxPages: 9, KnownImport: known,
	}
	if err := m.Check(fits); err != nil {
		t.Errorf("at every limit: %v", err)
	}
	if err := m.Check(rewrite.Limits{}); err != nil {
		t.Errorf("without limits: %v", err)
	}
	cases := []struct {
		want   rewrite.LimitError
		change func(*rewrite.Limits)
	}{
		{rewrite.LimitError{What: "bytes", Got: uint64(len(wasm)), Max: 9}, func(l *rewrite.Limits) { l.Bytes = 9 }},
		{rewrite.LimitError{What: "locals", Got: 1026, Max: 1025}, func(l *rewrite.Limits) { l.Locals = 1025 }},
		{rewrite.LimitError{What: "data bytes", Got: 5, Max: 4}, func(l *rewrite.Limits) { l.DataBytes = 4 }},
		{rewrite.LimitError{What: "table entries", Got: 11, Max: 10}, func(l *rewrite.Limits) { l.TableEntries = 10 }},
		{rewrite.LimitError{What: "globals", Got: 2, Max: 1}, func(l *rewrite.Limits) { l.Globals = 1 }},
		{rewrite.LimitError{What: "initial pages", Got: 3, Max: 2}, func(l *rewrite.Limits) { l.MinPages = 2 }},
		{rewrite.LimitError{What: "maximum pages", Got: 9, Max: 8}, func(l *rewrite.Limits) { l.MaxPages = 8 }},
	}
	for _, c := range cases {
		l := fits
		c.change(&l)
		var got *rewrite.LimitError
		if err := m.Check(l); !errors.As(err, &got) {
			t.Errorf("%s: error = %v", c.want.What, err)
		} else if diff := cmp.Diff(c.want, *got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.want.What, diff)
		}
	}
	fits.KnownImport = func(string, string, []rewrite.ValueType, []rewrite.ValueType) bool { return false }
	if err := m.Check(fits); err == nil || err.Error() != `unknown import "env" "now" (function () -> (i64))` {
		t.Errorf("unknown import: %v", err)
	}
}

// TestTableBomb refuses the module of 38 bytes that asks for 100,000,000 entries, without allocating them.
func TestTableBomb(t *testing.T) {
	g := guest{tables: []string{"\x70\x00\x80\xc2\xd7\x2f"}}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	m, err := rewrite.Parse(g.bytes())
	if err != nil {
		t.Fatal(err)
	}
	var limit *rewrite.LimitError
	if err := m.Check(rewrite.Limits{TableEntries: 10_000}); !errors.As(err, &limit) || limit.Got != 100_000_000 {
		t.Errorf("error = %v", err)
	}
	runtime.ReadMemStats(&after)
	if grew := after.TotalAlloc - before.TotalAlloc; grew > 1<<20 {
		t.Errorf("%d bytes allocated", grew)
	}
}

// TestMemoryOfParse bounds what hostile entries cost: each as small as the format allows.
func TestMemoryOfParse(t *testing.T) {
	const n = 90_000
	cases := map[string][]byte{
		"types":     section(1, n, strings.Repeat("\x60\x00\x00", n)),
		"imports":   append(section(1, 1, "\x60\x00\x00"), section(2, n, strings.Repeat("\x00\x00\x00\x00", n))...),
		"functions": append(section(1, 1, "\x60\x00\x00"), append(section(3, n, strings.Repeat("\x00", n)), section(10, n, strings.Repeat("\x02\x00\x0b", n))...)...),
		"globals":   section(6, n, strings.Repeat("\x70\x00\xd0\x70\x0b", n)),
		"blocks":    one(nil, nil, []byte(strings.Repeat("\x02\x40", n)+strings.Repeat("\x0b", n))...).bytes()[8:],
	}
	for name, sections := range cases {
		wasm := append([]byte("\x00asm\x01\x00\x00\x00"), sections...)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := rewrite.Parse(wasm); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		runtime.ReadMemStats(&after)
		if grew := after.TotalAlloc - before.TotalAlloc; grew > 64*uint64(len(wasm)) {
			t.Errorf("%s: %d bytes allocated for a module of %d", name, grew, len(wasm))
		}
	}
}

// TestInvalidStaysInvalid takes the modules of the official tests that are invalid or malformed: what the
// engine refuses must be refused by the rewriter, or be refused still once it is rewritten.
func TestInvalidStaysInvalid(t *testing.T) {
	ctx := context.Background()
	root := specRoot(t)
	config := wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(features)
	r := wazero.NewRuntimeWithConfig(ctx, config)
	defer func() { _ = r.Close(ctx) }()
	refused, still := 0, 0
	for _, file := range specFiles(t, root) {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var s script
		if err := json.Unmarshal(raw, &s); err != nil {
			t.Fatal(err)
		}
		for _, c := range s.Commands {
			if !strings.HasPrefix(c.Type, "assert_") || c.ModuleType != "binary" || c.Type == "assert_uninstantiable" || c.Type == "assert_unlinkable" {
				continue
			}
			wasm, err := os.ReadFile(filepath.Join(filepath.Dir(file), c.Filename))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.CompileModule(ctx, wasm); err == nil {
				continue // valid in this version, or accepted by wazero
			}
			m, err := rewrite.Parse(wasm)
			if err != nil {
				refused++
				continue
			}
			out, _, err := rewrite.Rewrite(m, ample)
			if err != nil {
				refused++
				continue
			}
			if _, err := r.CompileModule(ctx, out); err == nil {
				t.Errorf("%s: line %d: %s is invalid, its rewritten form is valid", filepath.Base(file), c.Line, c.Filename)
			}
			still++
		}
	}
	t.Logf("%d refused by the rewriter, %d invalid still", refused, still)
	if refused == 0 || still < 1000 {
		t.Errorf("only %d and %d modules compared", refused, still)
	}
}
