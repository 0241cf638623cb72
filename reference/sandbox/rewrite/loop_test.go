package rewrite_test

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/assay-bench/assay/reference/sandbox/rewrite"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// shortLoops are guests whose "f" counts its parameter down in a loop that is written several times, and
// leaves it in the pass in which it is 0. Each returns 60 then. A pass costs the given units, and the rest of
// the call as many as said.
func shortLoops() map[string]struct {
	code       []byte
	pass, rest int64
} {
	down := []byte{get, 0, constI32, 1, sub, tee, 0} // 4 units
	in := func(before []byte, rest ...byte) []byte {
		return append(append(bytes.Clone(before), down...), rest...)
	}
	return map[string]struct {
		code       []byte
		pass, rest int64
	}{
		"falling out":       {in([]byte{loop, void}, brIf, 0, end, constI32, 60), 6, 3},
		"br_if":             {in([]byte{block, void, loop, void}, eqz, brIf, 1, br, 0, end, end, constI32, 60), 8, 3},
		"br out of an if":   {in([]byte{block, void, loop, void}, eqz, ifOp, void, br, 2, end, br, 0, end, end, constI32, 60), 9, 3},
		"br with a value":   {in([]byte{block, i32, loop, void}, ifOp, void, br, 1, end, constI32, 60, br, 1, end, unreachable, end), 9, 3},
		"return":            {in([]byte{loop, void}, brIf, 0, constI32, 60, ret, end, unreachable), 8, 3},
		"br_table inside":   {in([]byte{loop, void, block, void}, brTable, 1, 0, 1, end, end, constI32, 60), 6, 3},
		"br_table out":      {in([]byte{block, void, loop, void}, brTable, 1, 1, 0, end, end, constI32, 60), 6, 3},
		"br_if with values": {in([]byte{block, i32, loop, void, constI32, 60}, eqz, brIf, 1, drop, br, 0, end, unreachable, end), 10, 3},
		"two back edges": {in([]byte{loop, void}, constI32, 3, 0x4b, brIf, 0, get, 0, brIf, 0, end, constI32, 60),
			10, 3},
	}
}

// TestShortLoops compares both forms for numbers of passes below and above what is charged at once, with exact units, and with fuel that never
// lasts: then the guest asks for more again and again.
func TestShortLoops(t *testing.T) {
	ctx := context.Background()
	number := []byte{i32}
	ran := 0
	for engine, config := range engines() {
		for _, refill := range []int64{0, 50} {
			r := newRuntime(t, config, refill)
			for name, c := range shortLoops() {
				g := one(number, number, c.code...)
				original := instantiate(t, r, g.bytes())
				out, _ := rewritten(t, g.bytes(), rewrite.Options{Start: true})
				for passes := range uint64(11) {
					if passes == 0 {
						continue
					}
					ran++
					want, err := original.ExportedFunction("f").Call(ctx, passes)
					if err != nil || want[0] != 60 {
						t.Fatalf("%s: original: %v, %v", name, want, err)
					}
					mod := instantiate(t, r, out)
					fuel := mod.ExportedGlobal(rewrite.FuelExport).(api.MutableGlobal)
					start := int64(0)
					if refill == 0 {
						start = math.MaxUint32
					}
					fuel.Set(uint64(start))
					got, err := mod.ExportedFunction("f").Call(ctx, passes)
					if err != nil || got[0] != want[0] {
						t.Errorf("%s, %s, %d passes: %v, %v; want %v", engine, name, passes, got, err, want)
					}
					units := start - int64(fuel.Get())
					wanted := c.rest + int64(passes)*c.pass
					if refill != 0 { // all refills gave the same
						units, wanted = ((units%refill)+refill)%refill, wanted%refill
					}
					if units != wanted {
						t.Errorf("%s, %s, %d passes, refill of %d: %d units, want %d", engine, name, passes, refill, units, wanted)
					}
				}
			}
		}
	}
	if ran == 0 {
		t.Fatal("no cases")
	}
}

// TestTrapInShortLoop divides by a number that is counted down to zero: what is not taken are the passes since
// the last charge, the same on both engines.
func TestTrapInShortLoop(t *testing.T) {
	const pass, most = 9, 4 // units; passes charged at once
	g := one([]byte{i32}, []byte{i32},
		loop, void, get, 0, constI32, 1, sub, tee, 0, constI32, 5, get, 0, 0x6e, drop, br, 0, end, unreachable)
	for passes := range uint64(10) {
		var first int64
		for engine, config := range engines() {
			mod := instantiate(t, newRuntime(t, config, 0), mustRewrite(t, g, ample))
			_, err := mod.ExportedFunction("f").Call(context.Background(), passes+1)
			if got := firstLine(err); got != "wasm error: integer divide by zero" && got != "wasm error: integer overflow" {
				t.Fatalf("%s: %q", engine, got)
			}
			units := used(mod)
			if first == 0 {
				first = units
			}
			done := 3 + int64(passes+1)*(pass+1)
			if units != first || units > done || units < done-most*(pass+1) {
				t.Errorf("%s: %d units in %d passes, %d before, want a multiple of %d passes", engine, units, passes+1, first, most)
			}
		}
	}
}

// TestCopiesAreBounded rewrites a module that is all short loops: it may not grow by more than half of its size
// in copies.
func TestCopiesAreBounded(t *testing.T) {
	once := []byte{loop, void, get, 0, constI32, 1, sub, tee, 0, brIf, 0, end}
	size := func(loops int, typed bool) (int, int) {
		code := bytes.Repeat(once, loops)
		if typed { // a branch with values out of each loop: none is copied
			code = bytes.Repeat([]byte{block, i32, loop, void, get, 0, get, 0, brIf, 1, drop, end, constI32, 0, end, drop}, loops)
		}
		g := one([]byte{i32}, nil, code...).bytes()
		return len(g), len(mustRewrite(t, one([]byte{i32}, nil, code...), ample))
	}
	before, after := size(5000, false)
	plain, uncopied := size(5000, true)
	around := float64(uncopied-plain) / 5000 // what one loop grows by without copies
	if most := float64(before)*1.5 + 5000*around + 8192; float64(after) > most {
		t.Errorf("%d bytes became %d, at most %.0f wanted", before, after, most)
	}
	if small, grown := size(1, false); grown < small+60 {
		t.Errorf("one loop: %d bytes became %d: it is not copied", small, grown)
	}
}

// TestPrepaid calls functions that their callers pay for: the sum is the same however they are reached, but for
// the host's own call of one.
func TestPrepaid(t *testing.T) {
	number := []byte{i32}
	types := []signature{{number, number}}
	double := []byte{get, 0, get, 0, add} // 4 units
	caller := []byte{get, 0, call, 0}     // 3 units
	for _, c := range []struct {
		name           string
		elements       []string
		host, indirect int64
	}{
		{"called directly", nil, 0, 3 + 4},
		{"in a table too", []string{"\x00\x41\x00\x0b\x01\x00"}, 4, 3 + 4},
	} {
		g := guest{types: types, code: []guestCode{
			{code: double, names: []string{"double"}}, {code: caller, names: []string{"caller"}},
		}}
		if c.elements != nil {
			g.tables, g.elements = []string{"\x70\x00\x01"}, c.elements
		}
		for _, f := range []struct {
			name  string
			units int64
		}{{"double", c.host}, {"caller", c.indirect}} {
			mod := instantiate(t, newRuntime(t, engines()["compiler"], 0), mustRewrite(t, g, ample))
			got, err := mod.ExportedFunction(f.name).Call(context.Background(), 21)
			if err != nil || got[0] != 42 {
				t.Fatalf("%s: %s: %v, %v", c.name, f.name, got, err)
			}
			if n := used(mod); n != f.units {
				t.Errorf("%s: %s used %d units, want %d", c.name, f.name, n, f.units)
			}
		}
	}
}

// TestTestsAreNear calls small functions very often from one body and from one pass of a loop: the fuel is tested
// again and again, so that a refill never comes late by more than a charge and what one call of each takes.
func TestTestsAreNear(t *testing.T) {
	const calls, latest = 200_000, 10_000 + 2*64*10_000/2
	leaf := bytes.Repeat([]byte{constI32, 1, drop}, 30) // 61 units, the most but a few
	many := bytes.Repeat([]byte{call, 1}, calls)
	looped := append(append([]byte{loop, void}, many...), end)
	for name, c := range map[string]struct {
		code     []byte
		elements []string
	}{
		"a body, prepaid": {many, nil}, "a loop, prepaid": {looped, nil},
		"a body, in a table": {many, []string{"\x00\x41\x00\x0b\x01\x01"}}, "a loop, in a table": {looped, []string{"\x00\x41\x00\x0b\x01\x01"}},
	} {
		g := guest{types: []signature{{nil, nil}}, code: []guestCode{{code: c.code, names: []string{"f"}}, {code: leaf}}}
		if c.elements != nil {
			g.tables, g.elements = []string{"\x70\x00\x01"}, c.elements
		}
		refills, late := 0, int64(0)
		r := wazero.NewRuntimeWithConfig(t.Context(), engines()["interpreter"])
		refill := func(_ context.Context, guest api.Module, _ []uint64) {
			fuel := guest.ExportedGlobal(rewrite.FuelExport).(api.MutableGlobal)
			left := int64(fuel.Get())
			refills, late = refills+1, max(late, -left)
			fuel.Set(100_000)
		}
		_, err := r.NewHostModuleBuilder(rewrite.MeterModule).NewFunctionBuilder().
			WithGoModuleFunction(api.GoModuleFunc(refill), nil, nil).Export(rewrite.RefillFunction).Instantiate(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		mod := instantiate(t, r, mustRewrite(t, g, rewrite.Options{}))
		if _, err := mod.ExportedFunction("f").Call(t.Context()); err != nil {
			t.Fatal(err)
		}
		if refills < calls*62/(100_000+latest) || late > latest {
			t.Errorf("%s: %d refills, one of them %d units late, want %d at most", name, refills, late, latest)
		}
		if err := r.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// TestBeginsAgain asks for fuel at each entry: calls of a function by itself end as deep as they do otherwise, and
// tail calls leave no frames, of which the engine has room for fewer than there are calls here.
func TestBeginsAgain(t *testing.T) {
	const calls = 1_000_000
	code := func(again byte) []byte { // n = 0 ? 0 : f(n - 1)
		return []byte{get, 0, eqz, ifOp, i32, constI32, 0, elseOp, get, 0, constI32, 1, sub, again, 0, end}
	}
	for name, c := range map[string]struct {
		call byte
		n    uint64
		want string
	}{
		"calls": {call, 1023, ""}, "too many calls": {call, 1024, "unreachable"}, "tail calls": {retCall, calls, ""},
	} {
		r := newRuntime(t, engines()["compiler"], 1)
		mod := instantiate(t, r, mustRewrite(t, one([]byte{i32}, []byte{i32}, code(c.call)...), rewrite.Options{Depth: 1024}))
		_, err := mod.ExportedFunction("f").Call(t.Context(), c.n)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestTwins compares functions that are written twice with the same ones that the low limit of frames keeps single:
// results, units and what a trap leaves are the same, and the limit is the one that was asked for.
func TestTwins(t *testing.T) {
	fib := []byte{get, 0, constI32, 2, 0x48, ifOp, i32, get, 0, elseOp,
		get, 0, constI32, 1, sub, call, 0, get, 0, constI32, 2, sub, call, 0, add, end}
	looped := []byte{loop, void, get, 0, ifOp, void, get, 0, constI32, 1, sub, tee, 0, call, 0, drop, br, 1, end, end, get, 0}
	trap := []byte{get, 0, eqz, ifOp, void, unreachable, end, get, 0, constI32, 1, sub, call, 0}
	for name, code := range map[string][]byte{"fib": fib, "in a loop": looped, "trap": trap} {
		for _, engine := range engines() {
			var results, units [2]string
			for i, depth := range []uint32{63, 64} {
				mod := instantiate(t, newRuntime(t, engine, slice), mustRewrite(t, one([]byte{i32}, []byte{i32}, code...), rewrite.Options{Fuel: 1 << 30, Depth: depth}))
				for n := range uint64(12) {
					got, err := mod.ExportedFunction("f").Call(t.Context(), n)
					trapped := err != nil && strings.Contains(err.Error(), "unreachable")
					results[i] += fmt.Sprint(got, trapped, mod.ExportedGlobal(rewrite.DepthExport).Get() <= uint64(depth), " ")
					units[i] += fmt.Sprint(mod.ExportedGlobal(rewrite.FuelExport).Get(), " ")
					if trapped {
						mod.ExportedGlobal(rewrite.DepthExport).(api.MutableGlobal).Set(0)
					}
				}
			}
			if results[0] != results[1] || units[0] != units[1] {
				t.Errorf("%s: %s and %s, units %s and %s", name, results[0], results[1], units[0], units[1])
			}
		}
	}
	single, _ := rewritten(t, one([]byte{i32}, []byte{i32}, fib...).bytes(), rewrite.Options{Depth: 63})
	double, _ := rewritten(t, one([]byte{i32}, []byte{i32}, fib...).bytes(), rewrite.Options{Depth: 64})
	if len(double) < len(single)+len(fib) {
		t.Errorf("%d bytes with a twin, %d without", len(double), len(single))
	}
}
