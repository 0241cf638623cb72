package rewrite_test

import (
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/sandbox/rewrite"
	"github.com/google/go-cmp/cmp"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

var ample = rewrite.Options{Fuel: math.MaxUint32, Depth: 1024, Start: true}

// opcodeCase is a function "f" with the units that one call of it takes.
type opcodeCase struct {
	name  string
	guest guest
	args  []uint64
	want  []uint64
	units int64
}

// two is a guest whose "f" is followed by a function of the given type and code, in table 0 at index 0.
func two(f []byte, types []signature, of byte, second []byte) guest {
	return guest{
		types:    types,
		tables:   []string{"\x70\x00\x04"},
		memory:   "\x01\x01\x04",
		elements: []string{"\x00\x41\x00\x0b\x01\x01"},
		code:     []guestCode{{code: f, names: []string{"f"}}, {of: of, code: second}},
	}
}

func opcodeCases() []opcodeCase {
	number := []byte{i32}
	plain := []signature{{nil, number}}
	twice := []signature{{number, number}}
	double := []byte{get, 0, get, 0, add} // 4 units
	withData := func(code ...byte) guest {
		g := one(nil, number, code...)
		g.count, g.data = true, []string{"\x01\x08abcdefgh"}
		return g
	}
	withTable := func(code ...byte) guest {
		g := one(nil, number, code...)
		g.tables, g.elements = []string{"\x70\x01\x08\x08"}, []string{"\x01\x00\x03\x00\x00\x00"}
		return g
	}
	return []opcodeCase{
		{"numeric", one(number, number, double...), []uint64{21}, []uint64{42}, 4},
		{"block, nop and end are free", one(nil, number, block, void, 0x01, end, constI32, 7), nil, []uint64{7}, 2},
		{"both arms of an if", one(number, number, get, 0, ifOp, i32, constI32, 1, elseOp, constI32, 2, end), []uint64{0}, []uint64{2}, 6},
		{"loop", one(number, number, loop, void, get, 0, constI32, 1, sub, tee, 0, brIf, 0, end, get, 0), []uint64{3}, []uint64{0}, 3 + 3*6},
		{"loop with a parameter", guest{
			types: []signature{{number, number}},
			code: []guestCode{{names: []string{"f"}, code: []byte{
				get, 0, loop, 0, constI32, 1, sub, tee, 0, get, 0, brIf, 0, end}}},
		}, []uint64{4}, []uint64{0}, 3 + 4*6},
		{"nested loops, branch out of both", one(number, number,
			block, void, loop, void, loop, void, get, 0, constI32, 1, sub, tee, 0, eqz, brIf, 2, br, 0, end, end, end, get, 0),
			[]uint64{2}, []uint64{0}, 3 + 2 + 2*8},
		{"branch from an inner to an outer loop", one(number, number,
			loop, void, loop, void, get, 0, constI32, 1, sub, tee, 0, brIf, 1, end, end, get, 0),
			[]uint64{5}, []uint64{0}, 3 + 5*(2+6)},
		{"br_table in loops", one(number, number,
			block, void, loop, void, loop, void, get, 0, constI32, 1, sub, tee, 0, brTable, 2, 2, 1, 0, end, end, end, get, 0),
			[]uint64{3}, []uint64{0}, 3 + 2*2 + 3*6},
		{"return from loops of a function that calls", two(
			[]byte{loop, void, loop, void, constI32, 4, call, 1, ret, end, end, unreachable}, []signature{{nil, number}, {number, number}}, 1, double),
			nil, []uint64{8}, 3 + 2 + 4 + 4},
		{"return of a leaf", one(number, number, get, 0, ret), []uint64{5}, []uint64{5}, 3},
		{"call", two([]byte{get, 0, call, 1}, twice, 0, double), []uint64{4}, []uint64{8}, 3 + 4},
		{"call_indirect", two([]byte{get, 0, constI32, 0, callInd, 0, 0}, twice, 0, double), []uint64{4}, []uint64{8}, 4 + 4},
		{"return_call", two([]byte{get, 0, retCall, 1}, twice, 0, double), []uint64{4}, []uint64{8}, 3 + 4},
		{"return_call_indirect", two([]byte{get, 0, constI32, 0, retCallInd, 0, 0}, twice, 0, double), []uint64{4}, []uint64{8}, 4 + 4},
		{"ref.func", two([]byte{refFunc, 1, 0xd1}, plain, 0, []byte{constI32, 3}), nil, []uint64{0}, 3},
		{"several results", two([]byte{call, 1, constI64, 9}, []signature{{nil, []byte{i32, i64}}, {nil, number}}, 1, []byte{constI32, 3}),
			nil, []uint64{3, 9}, 3 + 2},
		{"typed select", one(nil, number, constI32, 1, constI32, 2, constI32, 0, selTyped, 1, i32), nil, []uint64{2}, 5},
		{"globals", func() guest {
			g := one(nil, number, constI32, 5, gSet, 0, gGet, 0)
			g.globals = []string{"\x7f\x01\x41\x01\x0b"}
			return g
		}(), nil, []uint64{5}, 4},
		{"memory access", one(nil, number, constI32, 8, constI32, 0x2a, 0x36, 2, 0, constI32, 8, 0x28, 2, 0), nil, []uint64{42}, 6},
		{"floating point", one(nil, number, 0x43, 0, 0, 0x80, 0x3f, 0xa8), nil, []uint64{1}, 3},
		{"saturating truncation", one(nil, number, 0x43, 0, 0, 0x80, 0x3f, misc, 0), nil, []uint64{1}, 3},
		{"vector", one(nil, number, append(append([]byte{vector, 12}, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16), vector, 0x16, 3)...),
			nil, []uint64{4}, 3},
		{"vector opcode of two bytes", one(nil, number, append(append([]byte{vector, 12}, make([]byte, 16)...), vector, 0x83, 1)...),
			nil, []uint64{0}, 3},
		{"memory.fill", one(nil, number, constI32, 0, constI32, 1, constI32, 50, misc, 11, 0, constI32, 3, 0x2d, 0, 0), nil, []uint64{1}, 7 + 50},
		{"memory.copy", one(nil, number, constI32, 0, constI32, 9, constI32, 40, misc, 10, 0, 0, constI32, 1), nil, []uint64{1}, 6 + 40},
		{"memory.init and data.drop", withData(constI32, 0, constI32, 1, constI32, 4, misc, 8, 0, 0, misc, 9, 0, constI32, 0, 0x2d, 0, 0),
			nil, []uint64{'b'}, 8 + 4},
		{"table.init and elem.drop", withTable(constI32, 0, constI32, 0, constI32, 3, misc, 12, 0, 0, misc, 13, 0, misc, 16, 0), nil, []uint64{8}, 7 + 3},
		{"table.copy", withTable(constI32, 0, constI32, 1, constI32, 5, misc, 14, 0, 0, constI32, 1), nil, []uint64{1}, 6 + 5},
		{"table.fill", withTable(constI32, 0, 0xd0, 0x70, constI32, 6, misc, 17, 0, constI32, 1), nil, []uint64{1}, 6 + 6},
		{"table.grow at its maximum", withTable(0xd0, 0x70, constI32, 1, misc, 15, 0), nil, []uint64{math.MaxUint32}, 4},
		{"table.grow", two([]byte{0xd0, 0x70, constI32, 10, misc, 15, 0}, plain, 0, []byte{constI32, 3}), nil, []uint64{4}, 4 + 10},
		{"memory.grow", one(nil, number, constI32, 2, grow, 0), nil, []uint64{1}, 3 + 2*65536},
		{"memory.grow beyond its maximum", one(nil, number, constI32, 50, grow, 0), nil, []uint64{math.MaxUint32}, 3},
	}
}

// TestOpcodes runs every class of opcodes in both forms on both engines and compares results and exact units.
func TestOpcodes(t *testing.T) {
	ctx := context.Background()
	ran := 0
	for engine, config := range engines() {
		r := newRuntime(t, config, 0)
		for _, c := range opcodeCases() {
			t.Run(engine+"/"+c.name, func(t *testing.T) {
				ran++
				wasm := c.guest.bytes()
				original := instantiate(t, r, wasm)
				got, err := original.ExportedFunction("f").Call(ctx, c.args...)
				if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
					t.Fatalf("original: %v\n%s", err, diff)
				}
				out, info := rewritten(t, wasm, ample)
				metered := instantiate(t, r, out)
				got, err = metered.ExportedFunction("f").Call(ctx, c.args...)
				if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
					t.Fatalf("rewritten: %v\n%s", err, diff)
				}
				if n := used(metered); n != c.units {
					t.Errorf("%d units used, want %d", n, c.units)
				}
				if d := depth(metered); d != 0 {
					t.Errorf("depth is %d in the end", d)
				}
				if info.FuelSites == 0 {
					t.Error("no fuel sites")
				}
			})
		}
	}
	if ran == 0 {
		t.Fatal("no cases")
	}
}

// endless are guests whose "f" never ends by itself.
func endless() map[string]guest {
	none := []signature{{nil, nil}}
	return map[string]guest{
		"loop":           one(nil, nil, loop, void, br, 0, end),
		"tail recursion": {types: none, code: []guestCode{{code: []byte{retCall, 0}, names: []string{"f"}}}},
		"bulk":           one(nil, nil, loop, void, constI32, 0, constI32, 1, constI32, 0x80, 0x80, 4, misc, 11, 0, br, 0, end),
		"doubling": {types: []signature{{nil, nil}, {[]byte{i32}, nil}}, code: []guestCode{
			{code: []byte{constI32, 63, call, 1}, names: []string{"f"}},
			{of: 1, code: []byte{get, 0, eqz, brIf, 0, get, 0, constI32, 1, sub, call, 1, get, 0, constI32, 1, sub, call, 1}},
		}},
	}
}

// TestFuelEnds proves that no endless guest outlives its fuel, and that the fuel then reads below zero.
func TestFuelEnds(t *testing.T) {
	ran := 0
	for engine, config := range engines() {
		r := newRuntime(t, config, 0)
		for name, g := range endless() {
			ran++
			out, _ := rewritten(t, g.bytes(), rewrite.Options{Fuel: 100_000})
			mod := instantiate(t, r, out)
			_, err := mod.ExportedFunction("f").Call(context.Background())
			if !errors.Is(err, outOfFuel{}) {
				t.Errorf("%s, %s: error = %v, want the end of fuel", engine, name, err)
			}
			if left := int64(mod.ExportedGlobal(rewrite.FuelExport).Get()); left >= 0 || left < -70_000 {
				t.Errorf("%s, %s: %d units left, want a little below zero", engine, name, left)
			}
		}
	}
	if ran == 0 {
		t.Fatal("no guests")
	}
}

// bomb recurses without end.
func bomb() guest {
	return guest{types: []signature{{nil, nil}}, code: []guestCode{{code: []byte{call, 0, call, 0}, names: []string{"f"}}}}
}

func TestDepth(t *testing.T) {
	for engine, config := range engines() {
		r := newRuntime(t, config, slice)
		out, _ := rewritten(t, bomb().bytes(), rewrite.Options{Depth: 77})
		mod := instantiate(t, r, out)
		_, err := mod.ExportedFunction("f").Call(context.Background())
		if got := firstLine(err); got != "wasm error: unreachable" {
			t.Errorf("%s: %q, want unreachable", engine, got)
		}
		if d := depth(mod); d != 78 {
			t.Errorf("%s: depth %d after the trap, want one above the limit", engine, d)
		}
	}
}

// TestDeterminism runs the benchmark's loops ten times on each engine and with refills of three sizes: the
// units must be the same throughout.
func TestDeterminism(t *testing.T) {
	ctx := context.Background()
	arguments := map[string]uint64{"fill": 0, "sum": 1, "fnv": 1, "filter": 1, "sieve": 1, "quicksort": 1, "matrix": 1, "xorshift": 1000, "fib": 12}
	out, _ := rewritten(t, benchWasm, rewrite.Options{})
	want := map[string]int64{}
	for engine, config := range engines() {
		for _, refill := range []int64{1000, 99_991, slice} {
			r := newRuntime(t, config, refill)
			runs := 10
			if refill != slice || raced {
				runs = 1
			}
			for range runs {
				mod := instantiate(t, r, out)
				fuel := mod.ExportedGlobal(rewrite.FuelExport).(api.MutableGlobal)
				for _, name := range slices.Sorted(maps.Keys(arguments)) {
					const start = 1 << 30
					fuel.Set(start)
					if refill != slice {
						fuel.Set(0)
					}
					before := int64(fuel.Get())
					if _, err := mod.ExportedFunction(name).Call(ctx, arguments[name]); err != nil {
						t.Fatal(err)
					}
					units := before - int64(fuel.Get())
					if refill != slice { // each refill gave the same
						units = ((units % refill) + refill) % refill
						if _, known := want[name]; known && units != want[name]%refill {
							t.Errorf("%s, %s: %d units modulo %d, want %d", engine, name, units, refill, want[name]%refill)
						}
						continue
					}
					if first, known := want[name]; known && units != first {
						t.Errorf("%s, %s: %d units, %d before", engine, name, units, first)
					}
					want[name] = units
				}
			}
		}
	}
	if len(want) != len(arguments) {
		t.Fatalf("%d of %d functions ran", len(want), len(arguments))
	}
	t.Logf("units: %v", want)
}

func TestExportsAndGlobals(t *testing.T) {
	g := one(nil, []byte{i32}, constI32, 1)
	g.globals = []string{"\x7f\x01\x41\x01\x0b", "\x7e\x00\x42\x02\x0b", "\x7b\x01\xfd\x0c" + strings.Repeat("\x00", 16) + "\x0b"}
	out, info := rewritten(t, g.bytes(), ample)
	want := rewrite.Info{FuelSites: 1, Globals: []string{"__assay_g0", "__assay_g2"}, WideGlobals: true}
	if diff := cmp.Diff(want, info); diff != "" {
		t.Errorf("info (-want +got):\n%s", diff)
	}
	mod := instantiate(t, newRuntime(t, engines()["interpreter"], 0), out)
	mod.ExportedGlobal("__assay_g0").(api.MutableGlobal).Set(9)
	if got := mod.ExportedGlobal("__assay_g0").Get(); got != 9 {
		t.Errorf("global = %d after it was set to 9", got)
	}
	m, err := rewrite.Parse(g.bytes())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]rewrite.Export{{Name: "f", Kind: rewrite.Function, Params: []byte{}, Results: []byte{i32}}}, m.Exports()); diff != "" {
		t.Errorf("exports (-want +got):\n%s", diff)
	}
}

// starting is a guest whose start function, its own or imported, sets a byte of its memory to 7.
func starting(imported bool) guest {
	g := guest{
		types:  []signature{{nil, nil}, {nil, []byte{i32}}},
		memory: "\x00\x01",
		start:  []byte{0},
		code: []guestCode{
			{of: 0, code: []byte{constI32, 0, constI32, 7, 0x3a, 0, 0}},
			{of: 1, code: []byte{constI32, 0, 0x2d, 0, 0}, names: []string{"f"}},
		},
	}
	if imported {
		g.imports, g.code = []string{vec([]byte("env")) + vec([]byte("seven")) + "\x00\x00"}, g.code[1:]
	}
	return g
}

func TestStart(t *testing.T) {
	ctx := context.Background()
	for _, imported := range []bool{false, true} {
		r := newRuntime(t, engines()["compiler"], 0)
		seven := func(_ context.Context, m api.Module) { m.Memory().WriteByte(0, 7) }
		if _, err := r.NewHostModuleBuilder("env").NewFunctionBuilder().WithFunc(seven).Export("seven").Instantiate(ctx); err != nil {
			t.Fatal(err)
		}
		out, info := rewritten(t, starting(imported).bytes(), ample)
		if !info.HasStart {
			t.Fatal("no start function")
		}
		mod := instantiate(t, r, out)
		if got := readSeven(t, mod); got != 0 {
			t.Errorf("imported %v: the start function ran by itself", imported)
		}
		if _, err := mod.ExportedFunction(rewrite.StartExport).Call(ctx); err != nil {
			t.Fatal(err)
		}
		if got := readSeven(t, mod); got != 7 {
			t.Errorf("imported %v: %d after the start function, want 7", imported, got)
		}
		kept, info := rewritten(t, starting(imported).bytes(), rewrite.Options{Fuel: 1000})
		if got := readSeven(t, instantiate(t, r, kept)); got != 7 || info.HasStart {
			t.Errorf("imported %v: %d with the section kept, HasStart %v", imported, got, info.HasStart)
		}
		spinning := endless()["loop"]
		spinning.start = []byte{0}
		if _, err := r.Instantiate(ctx, mustRewrite(t, spinning, rewrite.Options{})); !errors.Is(err, outOfFuel{}) {
			t.Errorf("start section without fuel: %v", err)
		}
	}
}

func mustRewrite(t *testing.T, g guest, o rewrite.Options) []byte {
	t.Helper()
	out, _ := rewritten(t, g.bytes(), o)
	return out
}

func readSeven(t *testing.T, mod api.Module) uint64 {
	t.Helper()
	got, err := mod.ExportedFunction("f").Call(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return got[0]
}

// TestTablesStayBounded grows a table of no maximum to the cap and not beyond.
func TestTablesStayBounded(t *testing.T) {
	g := two([]byte{0xd0, 0x70, get, 0, misc, 15, 0}, []signature{{[]byte{i32}, []byte{i32}}}, 0, []byte{get, 0})
	out := mustRewrite(t, g, rewrite.Options{Fuel: math.MaxUint32, TableEntries: 100})
	mod := instantiate(t, newRuntime(t, engines()["compiler"], 0), out)
	for _, c := range []struct{ by, want uint64 }{{97, math.MaxUint32}, {96, 4}, {1, math.MaxUint32}} {
		got, err := mod.ExportedFunction("f").Call(context.Background(), c.by)
		if err != nil || got[0] != c.want {
			t.Errorf("grow by %d = %d, %v; want %d", c.by, int32(got[0]), err, int32(c.want))
		}
	}
}

// defectCases say what changes when a defect is planted: nil error and other units or results.
func TestDefects(t *testing.T) {
	ctx := context.Background()
	number := []byte{i32}
	// counts arms: 10 for label 0, 20 for the default
	arms := one(number, number, block, void, block, void, get, 0, brTable, 1, 0, 1, end, constI32, 10, ret, end, constI32, 20)
	tableLoop := one(number, number, block, void, loop, void, get, 0, constI32, 1, sub, tee, 0, brTable, 2, 1, 0, 0, end, end, get, 0)
	fill := one(nil, number, constI32, 0, constI32, 1, constI32, 50, misc, 11, 0, constI32, 1)
	cases := []struct {
		defect    defect.Name
		guest     guest
		arg       []uint64
		want      uint64
		good, bad int64
		badResult uint64
	}{
		{defect.SandboxRewriteSkipsBrTable, arms, []uint64{5}, 20, 6, 6, 10},
		{defect.SandboxRewriteSkipsBrTable, tableLoop, []uint64{1}, 0, 3 + 6, 3 + 12, 0},
		{defect.SandboxRecursionUnmetered, one(number, number, get, 0), []uint64{1}, 1, 2, 0, 1},
		{defect.SandboxCPUUnmetered, opcodeCases()[3].guest, []uint64{3}, 0, 3 + 3*6, 3, 0},
		{defect.SandboxBulkUnmetered, fill, nil, 1, 6 + 50, 6, 1},
	}
	for _, c := range cases {
		for _, planted := range []bool{false, true} {
			o, units, want := ample, c.good, c.want
			if planted {
				o.Defects, units, want = defect.Of(c.defect), c.bad, c.badResult
			}
			mod := instantiate(t, newRuntime(t, engines()["compiler"], 0), mustRewrite(t, c.guest, o))
			got, err := mod.ExportedFunction("f").Call(ctx, c.arg...)
			if err != nil || got[0] != want {
				t.Errorf("%s planted %v: %v, %v; want %d", c.defect, planted, got, err, want)
			}
			if n := used(mod); n != units {
				t.Errorf("%s planted %v: %d units, want %d", c.defect, planted, n, units)
			}
		}
	}
}

func TestDefectDepth(t *testing.T) {
	o := rewrite.Options{Fuel: math.MaxUint32, Depth: 10, Defects: defect.Of(defect.SandboxDepthUnlimited)}
	mod := instantiate(t, newRuntime(t, engines()["interpreter"], 0), mustRewrite(t, bomb(), o))
	if _, err := mod.ExportedFunction("f").Call(context.Background()); !strings.Contains(firstLine(err), "stack overflow") {
		t.Errorf("error = %v, want the engine's own stack overflow", firstLine(err))
	}
}

// TestDefectForgeable shows that a guest that sets global N, N being its own count, runs on for ever under the
// planted defect, and is refused without it.
func TestDefectForgeable(t *testing.T) {
	// 100 rounds of 1,000 iterations each, refuelled by the guest itself
	g := one(nil, []byte{i32}, constI64, 0x80, 0x80, 4, gSet, 0,
		loop, void, constI64, 0x80, 0x80, 4, gSet, 0, get, 0, constI32, 1, add, tee, 0, constI32, 0x80, 0x80, 4, 0x49, brIf, 0, end, get, 0)
	g.code[0].groups, g.code[0].locals = 1, "\x01\x7f"
	m, err := rewrite.Parse(g.bytes())
	if err != nil {
		t.Fatal(err)
	}
	var bad *rewrite.FormatError
	if _, _, err := rewrite.Rewrite(m, ample); !errors.As(err, &bad) || bad.Section != "code" {
		t.Errorf("error = %v, want a refusal in section code", err)
	}
	o := rewrite.Options{Fuel: 1000, Defects: defect.Of(defect.SandboxFuelForgeable)}
	mod := instantiate(t, newRuntime(t, engines()["compiler"], 0), mustRewrite(t, g, o))
	if got, err := mod.ExportedFunction("f").Call(context.Background()); err != nil || got[0] != 65536 {
		t.Errorf("forged: %v, %v", got, err)
	}
}

func TestDefectStart(t *testing.T) {
	g := starting(false)
	o := rewrite.Options{Start: true, Defects: defect.Of(defect.SandboxStartUnmetered)}
	out, info := rewritten(t, g.bytes(), o)
	mod := instantiate(t, newRuntime(t, engines()["compiler"], 0), out)
	if got := readSeven(t, mod); got != 7 || info.HasStart {
		t.Errorf("start function: %d, HasStart %v; want it to run by itself, without fuel", got, info.HasStart)
	}
}

// TestMeterIsOnlyImport keeps the rewritten form loadable where nothing but the meter is offered.
func TestMeterIsOnlyImport(t *testing.T) {
	ctx := context.Background()
	r := wazero.NewRuntime(ctx)
	defer func() { _ = r.Close(ctx) }()
	compiled, err := r.CompileModule(ctx, mustRewrite(t, one(nil, nil), ample))
	if err != nil {
		t.Fatal(err)
	}
	imports := compiled.ImportedFunctions()
	if len(imports) != 1 {
		t.Fatalf("%d imports", len(imports))
	}
	if module, name, _ := imports[0].Import(); module != rewrite.MeterModule || name != rewrite.RefillFunction {
		t.Errorf("import %s.%s", module, name)
	}
}
