package rewrite_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/assay-bench/assay/reference/sandbox/rewrite"
	"github.com/google/go-cmp/cmp"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// The official WebAssembly core tests, as wazero's module carries them.
const (
	specModule     = "github.com/tetratelabs/wazero"
	specFolder     = "internal/integration_test/spectest"
	wantFiles      = 100
	wantAssertions = 5_000
)

// script is one file of commands as wast2json writes it.
type script struct {
	Commands []command
}

type command struct {
	Type       string
	Line       int
	Name       string
	Filename   string
	As         string
	Action     action
	ModuleType string `json:"module_type"`
}

type action struct {
	Type   string
	Module string
	Field  string
	Args   []specValue
}

type specValue struct {
	Type     string
	LaneType string `json:"lane_type"`
	Value    any
}

// tally counts what a differential compared, over all files.
type tally struct {
	sync.Mutex
	counts  map[string]int
	skipped map[string]int
}

func (t *tally) add(what string, n int) {
	t.Lock()
	defer t.Unlock()
	t.counts[what] += n
}

func (t *tally) skip(why string) {
	t.Lock()
	defer t.Unlock()
	t.skipped[why]++
}

// specRoot finds the tests in the module cache.
func specRoot(tb testing.TB) string {
	tb.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", specModule).Output()
	root := filepath.Join(strings.TrimSpace(string(out)), filepath.FromSlash(specFolder))
	if err == nil {
		_, err = os.Stat(filepath.Join(root, "v2", "testdata"))
	}
	if err == nil {
		return root
	}
	if os.Getenv("CI") != "" {
		tb.Fatalf("the WebAssembly core tests are missing: %v", err)
	}
	tb.Skipf("NOT RUN: the WebAssembly core tests are missing in %s: %v", root, err)
	return ""
}

// specFiles lists the scripts. Those of version 1 are left out, since version 2 holds them again, threads and
// exceptions because the rewriter refuses both.
func specFiles(tb testing.TB, root string) []string {
	tb.Helper()
	var files []string
	for _, suite := range []string{"v2", "tail-call", "extended-const"} {
		some, err := filepath.Glob(filepath.Join(root, suite, "testdata", "*.json"))
		if err != nil {
			tb.Fatal(err)
		}
		files = append(files, some...)
	}
	return files
}

// TestSpecDifferential runs the official tests twice, on the original and on the rewritten modules, with ample
// fuel, and compares results, traps, and at the end memories and globals.
func TestSpecDifferential(t *testing.T) {
	root := specRoot(t)
	spectest, err := os.ReadFile(filepath.Join(root, "testdata", "spectest.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	files := specFiles(t, root)
	if raced {
		files = slices.DeleteFunc(files, func(f string) bool { return strings.Contains(filepath.Base(f), "simd") })
		t.Logf("NOT RUN with the race detector: SIMD, and the count of files")
	}
	total := &tally{counts: map[string]int{}, skipped: map[string]int{}}
	t.Run("files", func(t *testing.T) {
		for _, file := range files {
			name, _ := filepath.Rel(root, file)
			t.Run(strings.TrimSuffix(name, ".json"), func(t *testing.T) {
				t.Parallel()
				compare(t, file, spectest, total)
			})
		}
	})
	for _, what := range slices.Sorted(maps.Keys(total.counts)) {
		t.Logf("compared: %6d %s", total.counts[what], what)
	}
	for _, why := range slices.Sorted(maps.Keys(total.skipped)) {
		t.Logf("skipped:  %6d %s", total.skipped[why], why)
	}
	if n := total.counts["files"]; (n <= wantFiles && !raced) || n != len(files) {
		t.Errorf("%d of %d files compared, more than %d wanted", n, len(files), wantFiles)
	}
	if n := total.counts["assert_return"] + total.counts["assert_trap"]; n <= wantAssertions {
		t.Errorf("%d assertions compared, more than %d wanted", n, wantAssertions)
	}
}

// compare runs one file on both sides, command by command.
func compare(t *testing.T, file string, spectest []byte, total *tally) {
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var s script
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	original, metered := newSide(t, spectest, false), newSide(t, spectest, true)
	for i, c := range s.Commands {
		if i+1 < len(s.Commands) && s.Commands[i+1].Type == "register" {
			c.As = s.Commands[i+1].As
		}
		if c.Filename != "" {
			c.Filename = filepath.Join(filepath.Dir(file), c.Filename)
		}
		switch c.Type {
		case "register": // done with the module before it
			continue
		case "assert_malformed", "assert_invalid", "assert_unlinkable":
			total.skip(c.Type + " (nothing runs; see TestInvalidStaysInvalid)")
			continue
		}
		want, got := original.run(c), metered.run(c)
		if c.Type == "assert_exhaustion" { // which of two limits is met first may differ
			want.err, got.err = strconv.FormatBool(want.err != ""), strconv.FormatBool(got.err != "")
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(outcome{})); diff != "" {
			t.Errorf("line %d, %s %s: original and rewritten differ (-original +rewritten):\n%s", c.Line, c.Type, c.Action.Field, diff)
		}
		if failed := want.err != ""; failed != strings.HasPrefix(c.Type, "assert_trap") && (c.Type == "assert_return" || c.Type == "assert_trap") {
			t.Errorf("line %d, %s %s: outcome of the original: %+v", c.Line, c.Type, c.Action.Field, want)
		}
		total.add(c.Type, 1)
	}
	if diff := cmp.Diff(original.state(), metered.state()); diff != "" {
		t.Errorf("final state differs (-original +rewritten):\n%s", diff)
	}
	total.add("final memories and global sets", len(original.all))
	total.add("files", 1)
}

// side is one of the two forms.
type side struct {
	runtime wazero.Runtime
	meter   bool
	last    api.Module
	named   map[string]api.Module
	all     []api.Module
	globals [][]string // names of the numbers among the exported globals of each
}

func newSide(t *testing.T, spectest []byte, meter bool) *side {
	t.Helper()
	r := newRuntime(t, engines()["compiler"], slice)
	if _, err := r.InstantiateWithConfig(context.Background(), spectest, wazero.NewModuleConfig()); err != nil {
		t.Fatalf("spectest module: %v", err)
	}
	return &side{runtime: r, meter: meter, named: map[string]api.Module{}}
}

// outcome is what both sides must agree on.
type outcome struct {
	results []uint64
	err     string
}

func (s *side) run(c command) outcome {
	switch {
	case c.Type == "module", c.Type == "assert_uninstantiable":
		return outcome{err: trapText(s.load(c))}
	case c.Action.Type == "get":
		return outcome{results: []uint64{s.module(c).ExportedGlobal(c.Action.Field).Get()}}
	case c.Action.Type == "invoke":
		return s.invoke(s.module(c).ExportedFunction(c.Action.Field), c.Action.Args)
	}
	return outcome{err: "unknown command " + c.Type}
}

func (s *side) module(c command) api.Module {
	if c.Action.Module != "" {
		return s.named[c.Action.Module]
	}
	return s.last
}

func (s *side) load(c command) error {
	ctx := context.Background()
	wasm, err := os.ReadFile(c.Filename)
	if err != nil {
		return err
	}
	m, err := rewrite.Parse(wasm)
	if err != nil {
		return err
	}
	var info rewrite.Info
	if s.meter {
		o := rewrite.Options{Fuel: math.MaxUint32, Depth: 1 << 20, Start: true, TableEntries: math.MaxUint32}
		if wasm, info, err = rewrite.Rewrite(m, o); err != nil {
			return err
		}
	}
	mod, err := s.runtime.InstantiateWithConfig(ctx, wasm, wazero.NewModuleConfig().WithName(c.As).WithStartFunctions())
	if err != nil {
		return err
	}
	if info.HasStart {
		if _, err := mod.ExportedFunction(rewrite.StartExport).Call(ctx); err != nil {
			return err
		}
	}
	if c.Type == "module" {
		s.last = mod
		s.all = append(s.all, mod)
		s.globals = append(s.globals, exportedNumbers(m, mod))
		if c.Name != "" {
			s.named[c.Name] = mod
		}
	}
	return nil
}

// exportedNumbers leaves out references, which are addresses.
func exportedNumbers(m *rewrite.Module, mod api.Module) (names []string) {
	for _, e := range m.Exports() {
		if e.Kind == rewrite.Global && mod.ExportedGlobal(e.Name).Type() >= api.ValueTypeF64 {
			names = append(names, e.Name)
		}
	}
	return names
}

func (s *side) invoke(f api.Function, args []specValue) outcome {
	var flat []uint64
	for _, a := range args {
		flat = append(flat, a.flat()...)
	}
	results, err := f.Call(context.Background(), flat...)
	if err != nil {
		s.rewind()
		return outcome{err: trapText(err)}
	}
	for i, t := range f.Definition().ResultTypes() { // references are addresses: only null can be compared
		if t == rewrite.Funcref && len(f.Definition().ResultTypes()) == len(results) && results[i] != 0 {
			results[i] = 1
		}
	}
	return outcome{results: results}
}

// rewind forgets the frames that a trap left. A host discards such an instance; these tests go on with it.
func (s *side) rewind() {
	for _, mod := range s.all {
		if s.meter {
			mod.ExportedGlobal(rewrite.DepthExport).(api.MutableGlobal).Set(0)
		}
	}
}

// state is what the modules hold in the end.
func (s *side) state() map[string]string {
	state := map[string]string{}
	for i, mod := range s.all {
		if mod.IsClosed() {
			continue
		}
		if mem := mod.Memory(); !reflect.ValueOf(mem).IsNil() { // a nil pointer in the interface
			b, ok := mem.Read(0, mem.Size())
			state[fmt.Sprintf("%d memory", i)] = fmt.Sprintf("%v %d bytes, digest %x", ok, len(b), checksum(b))
		}
		for name := range mod.ExportedFunctionDefinitions() {
			if name != rewrite.StartExport {
				state[fmt.Sprintf("%d function %s", i, name)] = "exported"
			}
		}
		for _, name := range s.globals[i] {
			state[fmt.Sprintf("%d global %s", i, name)] = mod.ExportedGlobal(name).String()
		}
	}
	return state
}

// checksum is FNV-1a over 8 bytes at a time.
func checksum(b []byte) uint64 {
	h := uint64(14695981039346656037)
	for ; len(b) >= 8; b = b[8:] {
		if zero := [8]byte{}; bytes.Equal(b[:8], zero[:]) {
			h = h*1099511628211 + 1
			continue
		}
		for _, c := range b[:8] {
			h = (h ^ uint64(c)) * 1099511628211
		}
	}
	return h
}

// trapText is the trap in an error, without what wraps it; another error is only told from none.
func trapText(err error) string {
	line := firstLine(err)
	if _, trap, found := strings.Cut(line, "wasm error: "); found {
		return trap
	}
	if err != nil {
		return "failed"
	}
	return ""
}

// flat returns the value as the 64-bit words that wazero takes.
func (v specValue) flat() []uint64 {
	if v.Type == "v128" {
		return v.lanes()
	}
	text, _ := v.Value.(string)
	if text == "null" || v.Value == nil {
		return []uint64{0}
	}
	n := number(text, v.Type)
	if v.Type == "externref" { // wazero's null is 0, the tests' null is not
		n++
	}
	return []uint64{n}
}

func (v specValue) lanes() []uint64 {
	lanes, _ := v.Value.([]any)
	width := 128 / max(len(lanes), 1)
	out := make([]uint64, 2)
	for i, lane := range lanes {
		text, _ := lane.(string)
		n := number(text, v.LaneType)
		if width < 64 {
			n &= 1<<width - 1
		}
		bit := i * width
		out[bit/64] |= n << (bit % 64)
	}
	return out
}

func number(text, of string) uint64 {
	if strings.HasPrefix(text, "nan") {
		if strings.HasSuffix(of, "32") {
			return 0x7fc00000
		}
		return 0x7ff8000000000000
	}
	if n, err := strconv.ParseUint(text, 10, 64); err == nil {
		return n
	}
	n, _ := strconv.ParseInt(text, 10, 64)
	if strings.HasSuffix(of, "32") {
		return uint64(uint32(n))
	}
	return uint64(n)
}
