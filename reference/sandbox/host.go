package sandbox

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/sandbox/nn"
	"github.com/assay-bench/assay/reference/sandbox/rewrite"
)

const (
	hostModule = "assay"
	errnoFault = 21 // of WASI preview 1: a pointer past the end
	logBytes   = 256
	fillByte   = 0x41
)

// instanceKey finds the calling instance in the context of a host function.
type instanceKey struct{}

func calling(ctx context.Context) *instance { return ctx.Value(instanceKey{}).(*instance) }

// hostFunction is a function of the module assay: its parameters are i32, and so is its result.
type hostFunction struct {
	name   string
	params int
	result bool
	do     func(i *instance, mod api.Module, stack []uint64)
}

// hostFunctions are what the module assay offers.
func hostFunctions() []hostFunction {
	return []hostFunction{
		{"host_log", 2, false, (*instance).hostLog},
		{"host_call", 2, true, (*instance).hostCall},
		{"host_fill", 2, true, (*instance).hostFill},
		{"host_busy", 1, true, (*instance).hostBusy},
	}
}

// hostLog puts text into the audit log. A pointer past the end logs nothing.
func (i *instance) hostLog(_ api.Module, stack []uint64) {
	text, ok := i.view(uint32(stack[0]), uint32(stack[1]))
	if ok {
		i.version.event(EventLog, string(text[:min(len(text), logBytes)]))
	}
}

// hostFill writes n bytes at p, all or none.
func (i *instance) hostFill(_ api.Module, stack []uint64) {
	p, n := uint32(stack[0]), uint32(stack[1])
	view, ok := i.view(p, n)
	if !ok && i.version.defects().On(defect.SandboxHostPartialWrite) && i.memory != nil && p < i.memory.Size() {
		view, _ = i.memory.Read(p, i.memory.Size()-p)
	}
	copy(view, bytes.Repeat([]byte{fillByte}, len(view)))
	stack[0] = 0
	if !ok {
		stack[0] = errnoFault
	}
}

// view is guest memory as the host sees it now. It is good until the guest runs.
func (i *instance) view(p, n uint32) ([]byte, bool) {
	if i.memory != nil {
		if view, ok := i.memory.Read(p, n); ok {
			return view, true
		}
	}
	if i.version.defects().On(defect.SandboxHostBoundsTrap) {
		panic(&stop{class: ClassHostError, text: fmt.Sprintf("host function: pointer %d, length %d past the end", p, n)})
	}
	return nil, false
}

// hostBusy uses CPU time.
func (i *instance) hostBusy(_ api.Module, stack []uint64) {
	i.meter.spin(time.Duration(uint32(stack[0])) * time.Microsecond)
	stack[0] = 0
}

// hostCall calls the guest's export reenter with its second argument. The depth is bounded: no limit of
// the guest covers the stack of the host, and its overflow would end the process.
func (i *instance) hostCall(mod api.Module, stack []uint64) {
	most := MaxReentry
	if i.version.defects().On(defect.SandboxReentryUnlimited) {
		most = 4096
	}
	if i.reentry >= most {
		panic(&stop{class: ClassHostError, text: fmt.Sprintf("host and guest call each other more than %d deep", most)})
	}
	f := mod.ExportedFunction("reenter") // a new one: wazero's functions are not reentrant
	if f == nil || !sameTypes(f.Definition().ParamTypes(), "i32") || !sameTypes(f.Definition().ResultTypes(), "i32") {
		panic(&stop{class: ClassHostError, text: "the guest has no export reenter(i32) -> i32"})
	}
	i.reentry++
	defer func() { i.reentry-- }()
	inner := []uint64{uint64(uint32(stack[1]))}
	if err := f.CallWithStack(i.ctx, inner); err != nil {
		panic(err)
	}
	stack[0] = inner[0]
}

func sameTypes(kinds []api.ValueType, names ...string) bool {
	return strings.Join(typeNames(kinds), " ") == strings.Join(names, " ")
}

// offers is what guests may import: the types of each function by module and name.
type offers map[string]string

func offer(module, name string) string { return module + "\x00" + name }

func shape(params, results []api.ValueType) string { return string(params) + ">" + string(results) }

// newOffers lists the host's functions. WASI's come from wazero itself.
func newOffers(ctx context.Context) (offers, error) {
	o := offers{}
	const i32 = api.ValueTypeI32
	for _, f := range hostFunctions() {
		var results []api.ValueType
		if f.result {
			results = []api.ValueType{i32}
		}
		o[offer(hostModule, f.name)] = shape(bytes.Repeat([]byte{i32}, f.params), results)
	}
	for name, params := range map[string]int{"load": 5, "load_by_name": 3, "init_execution_context": 2,
		"set_input": 3, "compute": 1, "get_output": 5} {
		o[offer(nn.ModuleName, name)] = shape(bytes.Repeat([]byte{i32}, params), []api.ValueType{i32})
	}
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	defer func() { _ = r.Close(ctx) }() // nothing runs in it
	wasi, err := wasi_snapshot_preview1.NewBuilder(r).Compile(ctx)
	if err != nil {
		return nil, fmt.Errorf("list functions of WASI: %w", err)
	}
	for name, f := range wasi.ExportedFunctions() {
		o[offer(wasi_snapshot_preview1.ModuleName, name)] = shape(f.ParamTypes(), f.ResultTypes())
	}
	return o, nil
}

func (o offers) known(module, name string, params, results []api.ValueType) bool {
	want, ok := o[offer(module, name)]
	return ok && want == shape(params, results)
}

// link instantiates the host modules that the guest imports.
func (v *version) link(ctx context.Context, r wazero.Runtime, compiled wazero.CompiledModule) error {
	byModule := map[string][]api.FunctionDefinition{}
	for _, f := range compiled.ImportedFunctions() {
		module, _, _ := f.Import()
		byModule[module] = append(byModule[module], f)
	}
	for module, functions := range byModule {
		var err error
		switch module {
		case nn.ModuleName:
			err = nn.Instantiate(ctx, r, nn.Host{Models: v.sandbox.cfg.Models, Defects: v.defects(), Counters: &v.sandbox.models})
		case wasi_snapshot_preview1.ModuleName:
			err = v.linkWASI(ctx, r, functions)
		default:
			_, err = v.builder(r, module, functions).Instantiate(ctx)
		}
		if err != nil {
			return fmt.Errorf("host module %.80q: %w", module, err)
		}
	}
	return nil
}

// builder makes a module of the functions of assay and the meter. Others get there only by a defect.
func (v *version) builder(r wazero.Runtime, module string, functions []api.FunctionDefinition) wazero.HostModuleBuilder {
	b := r.NewHostModuleBuilder(module)
	if module == rewrite.MeterModule {
		refill := api.GoModuleFunc(func(ctx context.Context, _ api.Module, _ []uint64) { calling(ctx).meter.refill() })
		return b.NewFunctionBuilder().WithGoModuleFunction(refill, nil, nil).Export(rewrite.RefillFunction)
	}
	for _, f := range functions {
		_, name, _ := f.Import()
		if !v.sandbox.offers.known(module, name, f.ParamTypes(), f.ResultTypes()) {
			v.trapping(b, module, f)
		}
	}
	if module != hostModule {
		return b
	}
	i32 := []api.ValueType{api.ValueTypeI32}
	for _, f := range hostFunctions() {
		var results []api.ValueType
		if f.result {
			results = i32
		}
		b.NewFunctionBuilder().WithGoModuleFunction(hosted(f), bytes.Repeat(i32, f.params), results).Export(f.name)
	}
	return b
}

// hosted charges a host function.
func hosted(f hostFunction) api.GoModuleFunc {
	return func(ctx context.Context, mod api.Module, stack []uint64) {
		i := calling(ctx)
		i.meter.hosted(func() { f.do(i, mod, stack) })
	}
}

// trapping links an import that does not exist; see defect.SandboxImportUnchecked.
func (v *version) trapping(b wazero.HostModuleBuilder, module string, f api.FunctionDefinition) {
	_, name, _ := f.Import()
	b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(context.Context, api.Module, []uint64) {
		panic(&stop{class: ClassHostError, text: fmt.Sprintf("import %.80q %.80q is not there", module, name)})
	}), f.ParamTypes(), f.ResultTypes()).Export(name)
}

// touching are the WASI functions that leave a descriptor in another state than they found it.
var touching = [...]string{"path_open", "fd_close", "fd_renumber", "fd_seek", "fd_readdir", "fd_fdstat_set_flags",
	"fd_write", "fd_read", "fd_pwrite", "fd_filestat_set_size", "path_unlink_file", "sock_accept"}

// linkWASI links wazero's own WASI. A listener notes that descriptors may have changed.
func (v *version) linkWASI(ctx context.Context, r wazero.Runtime, functions []api.FunctionDefinition) error {
	note := experimental.FunctionListenerFunc(func(ctx context.Context, _ api.Module, def api.FunctionDefinition, params []uint64, _ experimental.StackIterator) {
		if i, ok := ctx.Value(instanceKey{}).(*instance); ok {
			i.touched(def.Name(), params)
		}
	})
	ctx = experimental.WithFunctionListenerFactory(ctx, experimental.FunctionListenerFactoryFunc(
		func(def api.FunctionDefinition) experimental.FunctionListener {
			for _, name := range touching {
				if strings.HasSuffix(def.Name(), name) {
					return note
				}
			}
			return nil
		}))
	b := r.NewHostModuleBuilder(wasi_snapshot_preview1.ModuleName)
	wasi_snapshot_preview1.NewFunctionExporter().ExportFunctions(b)
	for _, f := range functions {
		_, name, _ := f.Import()
		if !v.sandbox.offers.known(wasi_snapshot_preview1.ModuleName, name, f.ParamTypes(), f.ResultTypes()) {
			v.trapping(b, wasi_snapshot_preview1.ModuleName, f)
		}
	}
	_, err := b.Instantiate(ctx)
	return err
}

// touched notes that a reset cannot restore the descriptors. Reading and writing the standard streams
// leaves no state: they are empty and discarded.
func (i *instance) touched(name string, params []uint64) {
	const streams = 3
	if (strings.HasSuffix(name, "fd_write") || strings.HasSuffix(name, "fd_read")) && len(params) > 0 && uint32(params[0]) < streams {
		return
	}
	i.dirty = true
}

// boundRecursion makes the compiler look at the clock at every function entry, so that guests whose entries
// are not charged by a planted defect end all the same.
func boundRecursion(ctx context.Context) context.Context {
	look := experimental.FunctionListenerFunc(func(ctx context.Context, _ api.Module, _ api.FunctionDefinition, _ []uint64, _ experimental.StackIterator) {
		if i, ok := ctx.Value(instanceKey{}).(*instance); ok && time.Since(i.meter.began) > i.version.sandbox.bound {
			panic(&stop{class: ClassFuel, text: "fuel exhausted: unmetered recursion"})
		}
	})
	return experimental.WithFunctionListenerFactory(ctx, experimental.FunctionListenerFactoryFunc(
		func(api.FunctionDefinition) experimental.FunctionListener { return look }))
}
