package coldstart

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tetratelabs/wazero"

	"github.com/assay-bench/assay/reference/defect"
)

func hostile(t *testing.T, function string, want ...uint64) Guest {
	t.Helper()
	return guestOf(t, "hostile", function, want...)
}

func guestOf(t *testing.T, file, function string, want ...uint64) Guest {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", file+".wasm"))
	if err != nil {
		t.Fatal(err)
	}
	return Guest{Name: function, Wasm: b, Function: function, Want: want}
}

// measured is Measure without errors.
func measured(t *testing.T, o Options) []Row {
	t.Helper()
	rows, err := Measure(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) == 0 {
		t.Fatal("no rows")
	}
	return rows
}

func TestMeasure(t *testing.T) {
	rows := measured(t, Options{Samples: 6, Seed: 1})
	i := 0
	for _, e := range []Engine{Compiler, Interpreter} {
		for _, s := range Starts() {
			for _, end := range Ends() {
				r := rows[i]
				i++
				if r.Guest != "small" || r.Engine != e || r.Start != s || r.End != end {
					t.Errorf("row %d is %s %s %s %s, want small %s %s %s", i, r.Guest, r.Engine, r.Start, r.End, e, s, end)
				}
				if r.N != 6 || r.Void != 0 || !r.Checked || r.P50Nanos <= 0 || r.P99Nanos != 0 || r.PerSecond <= 0 ||
					r.ModuleBytes != len(smallWasm) || r.Threads != 1 {
					t.Errorf("%+v", r)
				}
			}
		}
	}
	if i != 16 || len(rows) != i {
		t.Errorf("%d rows, %d compared", len(rows), i)
	}
}

func TestWrongAnswerVoids(t *testing.T) {
	g := Small()
	g.Want = []uint64{1011}
	o := Options{Samples: 3, Guests: []Guest{g}, Engines: []Engine{Compiler}}
	for _, r := range measured(t, o) {
		if r.N != 0 || r.Void != 3 || r.Checked || r.P50Nanos != 0 || r.Note != "void: answer [1010], want [1011]" {
			t.Errorf("%+v", r)
		}
	}
	o.Defects = defect.Of(defect.SandboxColdstartUnchecked)
	for _, r := range measured(t, o) {
		if r.N != 3 || r.Void != 0 || r.Checked {
			t.Errorf("with the defect: %+v", r)
		}
	}
}

func TestHiddenPoints(t *testing.T) {
	o := Options{Samples: 1, Engines: []Engine{Interpreter}, Defects: defect.Of(defect.SandboxColdstartHidden)}
	for _, r := range measured(t, o) {
		if r.Start != "" || r.End != "" || r.N != 1 {
			t.Errorf("%+v", r)
		}
	}
}

func TestGuestsThatGrowTrapOrStart(t *testing.T) {
	o := Options{Samples: 3, Engines: []Engine{Compiler}, Guests: []Guest{
		hostile(t, "grow", 1), hostile(t, "trap", 1), hostile(t, "started", 7), hostile(t, "missing"), guestOf(t, "wide", "one", 1),
	}}
	seen := map[string]int{}
	for _, r := range measured(t, o) {
		seen[r.Guest]++
		wantN := 3
		if r.Guest == "trap" || r.Guest == "missing" {
			wantN = 0
		}
		if r.N != wantN || r.N+r.Void != 3 {
			t.Errorf("%+v", r)
		}
		if r.Guest == "grow" && r.Start == FromPool && !strings.Contains(r.Note, "replaced") {
			t.Errorf("%+v", r)
		}
		if r.Guest == "trap" && !strings.Contains(r.Note, "unreachable") {
			t.Errorf("%+v", r)
		}
	}
	if diff := cmp.Diff(map[string]int{"grow": 8, "trap": 8, "started": 8, "missing": 8, "one": 6}, seen); diff != "" {
		t.Error(diff)
	}
}

func TestMeasureRefuses(t *testing.T) {
	cases := []struct {
		o    Options
		want string
	}{
		{Options{Guests: []Guest{{Name: "junk", Wasm: []byte("junk")}}}, "guest junk"},
		{Options{Engines: []Engine{"jit"}}, `unknown engine "jit"`},
		{Options{Hosts: func(context.Context, wazero.Runtime) error { return errors.New("no host") }}, "guest small: host modules: no host"},
	}
	seen := 0
	for _, c := range cases {
		seen++
		if _, err := Run(t.Context(), c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("err = %v, want %q", err, c.want)
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

// TestEndOfContext ends a guest that never would: the refill sees the context.
func TestEndOfContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := Measure(ctx, Options{Samples: 1, Guests: []Guest{hostile(t, "spin")}})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("err = %v", err)
	}
}

func TestBudget(t *testing.T) {
	rows := measured(t, Options{Samples: 50, Budget: time.Nanosecond, Engines: []Engine{Interpreter}})
	for _, r := range rows {
		if r.N != minSamples {
			t.Errorf("%+v", r)
		}
	}
}

// TestReset compares a reset instance with a fresh one, and proves that the reset is needed.
func TestReset(t *testing.T) {
	ctx := t.Context()
	g, err := prepare(Small())
	if err != nil {
		t.Fatal(err)
	}
	o := &Options{}
	for _, e := range []Engine{Compiler, Interpreter} {
		w, err := o.heat(ctx, g, e, "")
		if err != nil {
			t.Fatal(err)
		}
		p := &pooled{stage: w.stage, compiled: w.compiled, guest: g}
		if err := p.replace(ctx); err != nil {
			t.Fatal(err)
		}
		fresh := slices.Clone(linear(p.mod))
		for i, want := range []uint64{1010, 20 + 7} {
			if got, err := g.call(ctx, p.mod); err != nil || got[0] != want {
				t.Errorf("call %d: %v, %v, want %d", i, got, err, want)
			}
		}
		p.reset()
		if !bytes.Equal(fresh, linear(p.mod)) {
			t.Error("the memory is not a fresh one's")
		}
		if got, err := g.call(ctx, p.mod); g.wrong(got, err) != "" {
			t.Errorf("after the reset: %v, %v", got, err)
		}
		if err := w.stage.close(ctx); err != nil {
			t.Error(err)
		}
	}
}

func TestDiskCacheIsKeptInItsFolder(t *testing.T) {
	dir := t.TempDir()
	measured(t, Options{Samples: 1, Dir: dir, Engines: []Engine{Compiler}})
	files, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil || len(files) == 0 {
		t.Errorf("%v, %v", files, err)
	}
}

func TestPercentiles(t *testing.T) {
	var samples []time.Duration
	for i := range 100 {
		samples = append(samples, time.Duration(100-i))
	}
	w := &warm{guest: &prepared{}, engine: Compiler}
	if r := newRow(w, FromBytes, Instantiated, slices.Clone(samples), 0); r.P50Nanos != 50 || r.P99Nanos != 99 {
		t.Errorf("%+v", r)
	}
	if r := newRow(w, FromBytes, Instantiated, slices.Clone(samples[1:]), 0); r.P50Nanos != 50 || r.P99Nanos != 0 {
		t.Errorf("99 samples: %+v", r)
	}
}

func TestGains(t *testing.T) {
	rows := []Row{
		{Guest: "a", Engine: Compiler, Start: FromBytes, End: Instantiated, N: 3, P50Nanos: 600},
		{Guest: "a", Engine: Compiler, Start: FromDisk, End: Instantiated, N: 3, P50Nanos: 100},
		{Guest: "a", Engine: Compiler, Start: FromDisk, End: FirstResult, N: 3, P50Nanos: 100},
		{Guest: "b", Engine: Compiler, Start: FromDisk, End: Instantiated, N: 3, P50Nanos: 100},
		{Guest: "a", Engine: Interpreter, Start: FromBytes, End: Instantiated, N: 3, P50Nanos: 100},
		{Guest: "a", Engine: Interpreter, Start: FromDisk, End: Instantiated, N: 3, P50Nanos: 100},
	}
	if diff := cmp.Diff([]Gain{{Guest: "a", Engine: Compiler, FromBytes: 600, FromDisk: 100, Ratio: 6}}, Gains(rows)); diff != "" {
		t.Error(diff)
	}
}

func TestOverheads(t *testing.T) {
	stateful := Small()
	stateful.Name, stateful.Warm = "stateful", nil
	rows, err := Overheads(t.Context(), Options{Samples: 3, Guests: []Guest{Small(), stateful}})
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 4 {
		t.Fatalf("%d rows", len(rows))
	}
	for _, r := range rows[:2] {
		if r.Guest != "small" || r.N != 3 || r.Void != 0 || r.Calls < 1 || r.Fuel <= 0 || r.Naive <= 0 || r.PlainNanos <= 0 || r.Note != "" {
			t.Errorf("%+v", r)
		}
	}
	for _, r := range rows[2:] {
		if r.N != 0 || r.Void != 3 || r.Fuel != 0 || !strings.Contains(r.Note, "want [1010]") {
			t.Errorf("%+v", r)
		}
	}
}

func TestBursts(t *testing.T) {
	rows, err := Bursts(t.Context(), Options{Samples: 7, Threads: []int{1, 3}, Engines: []Engine{Compiler}})
	if err != nil {
		t.Fatal(err)
	}
	var threads []int
	for _, r := range rows {
		threads = append(threads, r.Threads)
		if r.N != 7 || r.Void != 0 || r.PerSecond <= 0 || r.Start != FromCompiled || r.End != FirstResult {
			t.Errorf("%+v", r)
		}
	}
	if diff := cmp.Diff([]int{1, 3}, threads); diff != "" {
		t.Error(diff)
	}
	if _, err := Bursts(t.Context(), Options{Threads: []int{0}}); err == nil {
		t.Error("0 threads were taken")
	}
}

func TestFootprints(t *testing.T) {
	rows, err := Footprints(t.Context(), Options{Guests: []Guest{Small(), hostile(t, "trap", 1)}, Engines: []Engine{Compiler}})
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 2 {
		t.Fatalf("%d rows", len(rows))
	}
	if r := rows[0]; r.LinearBytes != 65536 || r.Instances != maxInstances || r.HeapBytes < 65536 || r.HeapBytes > 1<<20 {
		t.Errorf("%+v", r)
	}
	if r := rows[1]; r.Instances != 0 || !strings.Contains(r.Note, "unreachable") {
		t.Errorf("%+v", r)
	}
}

func TestReport(t *testing.T) {
	g := Small()
	g.Name = "a|b\nc"
	r, err := Run(t.Context(), Options{Samples: 3, Guests: []Guest{g}, Threads: []int{1}})
	if err != nil {
		t.Fatal(err)
	}
	var table, doc strings.Builder
	if err := errors.Join(r.Markdown(&table), r.JSON(&doc)); err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal([]byte(doc.String()), &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, back); diff != "" {
		t.Error(diff)
	}
	for _, want := range []string{
		"87 ms", "42 ms", "39 ms", "Lucet", "naive ratio", `| a\|b c |`, "compiled to instantiated", "no definition to compare",
	} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table lacks %q", want)
		}
	}
	if len(r.Rows) != 16 || len(r.Gains) != 1 || len(r.Bursts) != 2 || len(r.Overheads) != 2 || len(r.Footprints) != 2 {
		t.Errorf("%d rows, %d gains, %d bursts, %d overheads, %d footprints", len(r.Rows), len(r.Gains), len(r.Bursts), len(r.Overheads), len(r.Footprints))
	}
	if t.Failed() {
		t.Log(table.String())
	}
}

func TestClaimsSayTheirDifference(t *testing.T) {
	seen := 0
	for _, c := range Claims() {
		seen++
		if c.System == "" || c.Figure == "" || c.Is == "" || c.Difference == "" || (c.Start == "") != (c.End == "") {
			t.Errorf("%+v", c)
		}
	}
	if seen == 0 {
		t.Fatal("no claims")
	}
}

func TestNanos(t *testing.T) {
	for n, want := range map[int64]string{0: "-", 999: "999 ns", 1500: "1.5 us", 2_500_000: "2.50 ms", 3_000_000_000: "3.00 s"} {
		if got := nanos(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}
