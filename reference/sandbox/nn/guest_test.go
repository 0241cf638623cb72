package nn

import (
	"context"
	"encoding/binary"
	"math"
	"slices"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/assay-bench/assay/models/engine"
	"github.com/assay-bench/assay/reference/defect"
)

// guestWasm assembles a module that imports every function of the host module and exports each under its
// name, called with the arguments as they are, beside a memory of 1 to 4 pages and "grow".
func guestWasm() []byte {
	functions := (&module{}).functions()
	var types, imports, defined, exports, code [][]byte
	for i, f := range functions {
		types = append(types, slices.Concat([]byte{0x60, byte(f.params)}, slices.Repeat([]byte{0x7f}, f.params), []byte{1, 0x7f}))
		imports = append(imports, slices.Concat(text(ModuleName), text(f.name), []byte{0, byte(i)}))
		defined = append(defined, []byte{byte(i)})
		exports = append(exports, slices.Concat(text(f.name), []byte{0, byte(len(functions) + i)}))
		body := []byte{0} // no locals
		for p := range f.params {
			body = append(body, 0x20, byte(p))
		}
		code = append(code, sized(append(body, 0x10, byte(i), 0x0b)))
	}
	types = append(types, []byte{0x60, 1, 0x7f, 1, 0x7f})
	defined = append(defined, []byte{byte(len(functions))})
	exports = append(exports, slices.Concat(text("grow"), []byte{0, byte(2 * len(functions))}), slices.Concat(text("memory"), []byte{2, 0}))
	code = append(code, sized([]byte{0, 0x20, 0, 0x40, 0, 0x0b}))
	return slices.Concat([]byte("\x00asm\x01\x00\x00\x00"),
		section(1, types), section(2, imports), section(3, defined), section(5, [][]byte{{1, 1, 4}}), section(7, exports), section(10, code))
}

func text(s string) []byte { return sized([]byte(s)) }

func sized(b []byte) []byte { return append(binary.AppendUvarint(nil, uint64(len(b))), b...) }

func section(id byte, items [][]byte) []byte {
	body := append(binary.AppendUvarint(nil, uint64(len(items))), slices.Concat(items...)...)
	return append([]byte{id}, sized(body)...)
}

// engines are the two of wazero.
var engines = map[string]func() wazero.RuntimeConfig{
	"compiler":    wazero.NewRuntimeConfigCompiler,
	"interpreter": wazero.NewRuntimeConfigInterpreter,
}

// onBoth runs a test on both engines.
func onBoth(t *testing.T, f func(*testing.T, wazero.RuntimeConfig)) {
	seen := 0
	for name, config := range engines {
		seen++
		t.Run(name, func(t *testing.T) { f(t, config()) })
	}
	if seen != 2 {
		t.Fatalf("%d engines", seen)
	}
}

// linear is the model that the reference registers: W[i][j] = (i+1)(j+1)/10, b[j] = j.
func linear() engine.Model {
	w := make([][]float32, 4)
	for i := range w {
		for j := range 3 {
			w[i] = append(w[i], float32((i+1)*(j+1))/10)
		}
	}
	return engine.NewLinear("linear-4x3", w, []float32{0, 1, 2})
}

// server is a runtime with the host module, for any number of guests.
type server struct {
	runtime  wazero.Runtime
	counters Counters
}

func serve(t testing.TB, config wazero.RuntimeConfig, defects ...defect.Name) *server {
	t.Helper()
	models, err := engine.NewRegistry(linear())
	if err != nil {
		t.Fatal(err)
	}
	s := &server{runtime: wazero.NewRuntimeWithConfig(context.Background(), config)}
	t.Cleanup(func() {
		if err := s.runtime.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err := Instantiate(context.Background(), s.runtime, Host{Models: models, Defects: defect.Of(defects...), Counters: &s.counters}); err != nil {
		t.Fatal(err)
	}
	return s
}

// guest is an instance with its state. Every pointer of its calls is a number of the test's own.
type guest struct {
	t     testing.TB
	mod   api.Module
	state *State
}

func (s *server) guest(t testing.TB, p Policy) *guest {
	t.Helper()
	mod, err := s.runtime.InstantiateWithConfig(context.Background(), guestWasm(), wazero.NewModuleConfig().WithName(""))
	if err != nil {
		t.Fatal(err)
	}
	return &guest{t: t, mod: mod, state: NewState(p)}
}

// call makes the guest call a host function. A trap fails the test: the module never traps.
func (g *guest) call(name string, args ...uint32) Errno {
	g.t.Helper()
	raw := make([]uint64, len(args))
	for i, a := range args {
		raw[i] = uint64(a)
	}
	out, err := g.mod.ExportedFunction(name).Call(WithState(context.Background(), g.state), raw...)
	if err != nil {
		g.t.Fatalf("%s%v: %v", name, args, err)
	}
	return Errno(api.DecodeU32(out[0]))
}

// want is call with the answer compared.
func (g *guest) want(e Errno, name string, args ...uint32) {
	g.t.Helper()
	if got := g.call(name, args...); got != e {
		g.t.Errorf("%s%v = %v, want %v", name, args, got, e)
	}
}

func (g *guest) put(p uint32, b []byte) {
	g.t.Helper()
	if !g.mod.Memory().Write(p, b) {
		g.t.Fatalf("the test writes %d bytes at %d", len(b), p)
	}
}

func (g *guest) words(p uint32, words ...uint32) {
	g.t.Helper()
	var b []byte
	for _, w := range words {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	g.put(p, b)
}

func (g *guest) word(p uint32) uint32 {
	g.t.Helper()
	w, ok := g.mod.Memory().ReadUint32Le(p)
	if !ok {
		g.t.Fatalf("the test reads at %d", p)
	}
	return w
}

func (g *guest) floats(p uint32, values ...float32) {
	g.t.Helper()
	for i, v := range values {
		g.words(p+4*uint32(i), math.Float32bits(v))
	}
}

// Where the tests put things.
const (
	atName   = 64
	atGraph  = 128
	atCtx    = 132
	atWrote  = 136
	atTensor = 256
	atDims   = 320
	atData   = 512
	atOut    = 1024
	atModel  = 4096
	page     = 65536
)

const theName = "linear-4x3"

// graph loads the registered model.
func (g *guest) graph() uint32 {
	g.t.Helper()
	g.put(atName, []byte(theName))
	g.want(Success, "load_by_name", atName, uint32(len(theName)), atGraph)
	return g.word(atGraph)
}

// context makes an execution context on a new graph.
func (g *guest) context() uint32 {
	g.t.Helper()
	g.want(Success, "init_execution_context", g.graph(), atCtx)
	return g.word(atCtx)
}

// tensor writes a float32 tensor record, its dimensions and its data at data.
func (g *guest) tensor(data uint32, dims []uint32, values ...float32) {
	g.t.Helper()
	g.words(atDims, dims...)
	g.words(atTensor, atDims, uint32(len(dims)), typeF32, data, 4*uint32(len(values)))
	g.floats(data, values...)
}

// output reads n float32 of a result.
func (g *guest) output(n int) []float32 {
	g.t.Helper()
	out := make([]float32, n)
	for i := range out {
		out[i] = math.Float32frombits(g.word(atOut + 4*uint32(i)))
	}
	return out
}
