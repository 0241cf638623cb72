package rewrite_test

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/assay-bench/assay/reference/sandbox/rewrite"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

const slice = int64(1) << 40 // units that a refill adds

// features are those of WebAssembly 2.0 and the two extensions that the rewriter knows.
const features = api.CoreFeaturesV2 | experimental.CoreFeaturesTailCall | experimental.CoreFeaturesExtendedConst

// engines are the two engines of wazero.
func engines() map[string]wazero.RuntimeConfig {
	return map[string]wazero.RuntimeConfig{
		"compiler":    wazero.NewRuntimeConfigCompiler().WithCoreFeatures(features),
		"interpreter": wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(features),
	}
}

// outOfFuel is what a refill that gives nothing ends the guest with.
type outOfFuel struct{}

func (outOfFuel) Error() string { return "out of fuel" }

// newRuntime returns a runtime that offers the meter. A refill adds units, or ends the guest where units is 0.
func newRuntime(tb testing.TB, config wazero.RuntimeConfig, units int64) wazero.Runtime {
	tb.Helper()
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, config)
	tb.Cleanup(func() {
		if err := r.Close(ctx); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	refill := func(_ context.Context, guest api.Module, _ []uint64) {
		if units == 0 {
			panic(outOfFuel{})
		}
		fuel := guest.ExportedGlobal(rewrite.FuelExport).(api.MutableGlobal)
		fuel.Set(fuel.Get() + uint64(units))
	}
	_, err := r.NewHostModuleBuilder(rewrite.MeterModule).NewFunctionBuilder().
		WithGoModuleFunction(api.GoModuleFunc(refill), nil, nil).Export(rewrite.RefillFunction).Instantiate(ctx)
	if err != nil {
		tb.Fatalf("meter: %v", err)
	}
	return r
}

// rewritten parses and rewrites a module that must be accepted.
func rewritten(tb testing.TB, wasm []byte, o rewrite.Options) ([]byte, rewrite.Info) {
	tb.Helper()
	m, err := rewrite.Parse(wasm)
	if err != nil {
		tb.Fatalf("parse: %v", err)
	}
	out, info, err := rewrite.Rewrite(m, o)
	if err != nil {
		tb.Fatalf("rewrite: %v", err)
	}
	return out, info
}

// instantiate makes an instance of a module that must be valid.
func instantiate(tb testing.TB, r wazero.Runtime, wasm []byte) api.Module {
	tb.Helper()
	mod, err := r.InstantiateWithConfig(context.Background(), wasm, wazero.NewModuleConfig().WithName(""))
	if err != nil {
		tb.Fatalf("instantiate: %v", err)
	}
	return mod
}

// used returns the units that a guest took since its fuel was set to math.MaxUint32.
func used(mod api.Module) int64 {
	return math.MaxUint32 - int64(mod.ExportedGlobal(rewrite.FuelExport).Get())
}

func depth(mod api.Module) uint32 {
	return uint32(mod.ExportedGlobal(rewrite.DepthExport).Get())
}

// firstLine is what a trap's class is read from.
func firstLine(err error) string {
	if err == nil {
		return ""
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
