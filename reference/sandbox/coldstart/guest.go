// Package coldstart measures how long a guest takes from a named start point to a named end point, on both
// engines of wazero, and what an instance costs. It judges nothing: it writes tables, beside what others
// publish.
//
// What is measured is the rewritten form of a guest, which is what the sandbox runs. The runtime and its host
// modules exist before the clock starts, as they do in a serving process; rewriting is part of admission and
// is not in any figure. Exported start functions (_initialize, a start section) are part of instantiation.
package coldstart

//go:generate wat2wasm small.wat -o small.wasm
//go:generate wat2wasm testdata/hostile.wat -o testdata/hostile.wasm
//go:generate wat2wasm testdata/wide.wat -o testdata/wide.wasm

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/assay-bench/assay/reference/sandbox/rewrite"
)

// Guest is a module to measure and the call whose answer proves that it works.
type Guest struct {
	Name     string
	Built    string // language and optimisation, for example "C, clang -O2"; may be empty
	Wasm     []byte // as sent by the tenant, not rewritten
	Function string
	Args     []uint64 // as api.EncodeI32 and the like give them
	Want     []uint64 // the answer on a fresh instance
	Samples  int      // of each pair of points; 0: Options.Samples
	Warm     *Call    // what Overheads calls many times on one instance; nil: Function
}

// Call is a call whose answer does not depend on earlier ones.
type Call struct {
	Function string
	Args     []uint64
	Want     []uint64
}

func (g *Guest) warm() Call {
	if g.Warm != nil {
		return *g.Warm
	}
	return Call{g.Function, g.Args, g.Want}
}

//go:embed small.wasm
var smallWasm []byte

// Small is the guest that is measured where none is given: a few hundred bytes, with a page of memory, data and a
// mutable global, all of which a reset has to restore for the answer to be right.
func Small() Guest {
	return Guest{
		Name: "small", Built: "WAT", Wasm: slices.Clone(smallWasm),
		Function: "first", Args: []uint64{10}, Want: []uint64{1010},
		Warm: &Call{Function: "sum", Args: []uint64{1000}, Want: []uint64{499_500}},
	}
}

// Engine is one of wazero's.
type Engine string

// The engines.
const (
	Compiler    Engine = "compiler"
	Interpreter Engine = "interpreter"
)

func (e Engine) config() (wazero.RuntimeConfig, error) {
	switch e {
	case Compiler:
		return wazero.NewRuntimeConfigCompiler(), nil
	case Interpreter:
		return wazero.NewRuntimeConfigInterpreter(), nil
	}
	return nil, fmt.Errorf("unknown engine %q: compiler or interpreter", e)
}

// prepared is a guest with its rewritten form.
type prepared struct {
	Guest
	rewritten []byte
	globals   []string // exported names of its mutable globals
	poolable  bool
	wasi      bool
}

// fuelSlice is what a guest gets at once. A refill costs a host call, so that the overhead is the sandbox's.
const fuelSlice = 100_000

// maxPages bounds the memory of a guest that is measured: the largest tier's.
const maxPages = 256

func prepare(g Guest) (*prepared, error) {
	m, err := rewrite.Parse(g.Wasm)
	if err != nil {
		return nil, fmt.Errorf("guest %s: %w", g.Name, err)
	}
	rewritten, info, err := rewrite.Rewrite(m, rewrite.Options{Fuel: fuelSlice, Start: true})
	if err != nil {
		return nil, fmt.Errorf("guest %s: %w", g.Name, err)
	}
	return &prepared{
		Guest: g, rewritten: rewritten, globals: info.Globals, poolable: !info.WideGlobals,
		wasi: slices.ContainsFunc(m.Imports(), func(i rewrite.Import) bool { return i.Module == wasi_snapshot_preview1.ModuleName }),
	}, nil
}

// samples is how many the guest gets where the options say n.
func (g *prepared) samples(n int) int {
	if g.Samples > 0 {
		return g.Samples
	}
	return n
}

// stage is a runtime with the host modules that a guest needs.
type stage struct {
	runtime wazero.Runtime
	cache   wazero.CompilationCache // nil: none
}

// stageFor returns a stage for the guest. dir is the disk cache, "" for none; closing says that calls end with
// their context, which is wazero's own and slow way.
func (o *Options) stageFor(ctx context.Context, g *prepared, e Engine, dir string, closing bool) (*stage, error) {
	config, err := e.config()
	if err != nil {
		return nil, err
	}
	s := &stage{}
	if dir != "" {
		// A cache object holds what it has read in memory, so each stage has one of its own on the same folder.
		if s.cache, err = wazero.NewCompilationCacheWithDir(dir); err != nil {
			return nil, fmt.Errorf("cache folder: %w", err)
		}
		config = config.WithCompilationCache(s.cache)
	}
	s.runtime = wazero.NewRuntimeWithConfig(ctx, config.WithCloseOnContextDone(closing).WithMemoryLimitPages(maxPages))
	if err := o.hosts(ctx, s.runtime, g); err != nil {
		return nil, errors.Join(fmt.Errorf("guest %s: host modules: %w", g.Name, err), s.close(ctx))
	}
	return s, nil
}

func (o *Options) hosts(ctx context.Context, r wazero.Runtime, g *prepared) error {
	_, err := r.NewHostModuleBuilder(rewrite.MeterModule).NewFunctionBuilder().
		WithGoModuleFunction(api.GoModuleFunc(refill), nil, nil).Export(rewrite.RefillFunction).Instantiate(ctx)
	if err != nil {
		return err
	}
	if g.wasi {
		if _, err := wasi_snapshot_preview1.Instantiate(ctx, r); err != nil {
			return err
		}
	}
	if o.Hosts == nil {
		return nil
	}
	return o.Hosts(ctx, r)
}

// refill gives a guest its next slice of fuel. The end of the context ends the guest.
func refill(ctx context.Context, m api.Module, _ []uint64) {
	if err := ctx.Err(); err != nil {
		panic(err) // wazero returns it from the call
	}
	setGlobal(m, rewrite.FuelExport, fuelSlice)
}

func setGlobal(m api.Module, name string, v uint64) {
	if g, ok := m.ExportedGlobal(name).(api.MutableGlobal); ok {
		g.Set(v)
	}
}

func (s *stage) instantiate(ctx context.Context, c wazero.CompiledModule) (api.Module, error) {
	return s.runtime.InstantiateModule(ctx, c, wazero.NewModuleConfig().WithName("").WithStartFunctions(rewrite.StartExport, "_initialize"))
}

// close frees the runtime, its instances and what the cache object holds in memory.
func (s *stage) close(ctx context.Context) error {
	err := s.runtime.Close(ctx)
	if s.cache != nil {
		err = errors.Join(err, s.cache.Close(ctx))
	}
	return err
}
