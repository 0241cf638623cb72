package proxywasm

import (
	"slices"
	"strings"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// markers are the ABI versions that this host speaks. 0.2.0 has the same functions but one.
var markers = [...]string{"proxy_abi_version_0_2_1", "proxy_abi_version_0_2_0"}

// Names of the guest's functions that the host calls.
const (
	onInitialize      = "_initialize"
	onMain            = "main"
	onStart           = "_start"
	onAllocate        = "proxy_on_memory_allocate"
	onMalloc          = "malloc"
	onContextCreate   = "proxy_on_context_create"
	onVMStart         = "proxy_on_vm_start"
	onConfigure       = "proxy_on_configure"
	onTick            = "proxy_on_tick"
	onRequestHeaders  = "proxy_on_request_headers"
	onRequestBody     = "proxy_on_request_body"
	onRequestTrailers = "proxy_on_request_trailers"
	onResponseHeaders = "proxy_on_response_headers"
	onResponseBody    = "proxy_on_response_body"
	onResponseTrail   = "proxy_on_response_trailers"
	onDone            = "proxy_on_done"
	onLog             = "proxy_on_log"
	onDelete          = "proxy_on_delete"
)

// guestTypes are the numbers of parameters and results of the guest's functions, all i32.
var guestTypes = map[string][2]int{
	onInitialize: {0, 0}, onMain: {2, 1}, onStart: {0, 0}, startFunction: {0, 0},
	onAllocate: {1, 1}, onMalloc: {1, 1},
	onContextCreate: {2, 0}, onVMStart: {2, 1}, onConfigure: {2, 1}, onTick: {1, 0},
	onRequestHeaders: {3, 1}, onRequestBody: {3, 1}, onRequestTrailers: {2, 1},
	onResponseHeaders: {3, 1}, onResponseBody: {3, 1}, onResponseTrail: {2, 1},
	onDone: {1, 1}, onLog: {1, 0}, onDelete: {1, 0},
	markers[0]: {0, 0}, markers[1]: {0, 0},
}

// check refuses modules that do not speak the ABI: no marker, a function of another type than the ABI
// gives it, or an import that this host does not have.
func (f *Filter) check(m wazero.CompiledModule) error {
	exports := m.ExportedFunctions()
	marked := slices.ContainsFunc(markers[:], func(name string) bool { return exports[name] != nil })
	if !marked && !f.on(defect.SandboxProxyMarkerIgnored) {
		return refused("no ABI marker: function %s is not exported", markers[0])
	}
	for name, def := range exports {
		want, known := guestTypes[name]
		if known && !(allI32(def.ParamTypes(), want[0]) && allI32(def.ResultTypes(), want[1])) {
			return refused("export %s has the wrong type: want %d parameters and %d results, all i32", name, want[0], want[1])
		}
	}
	for _, def := range m.ImportedFunctions() {
		if err := f.checkImport(def); err != nil {
			return err
		}
	}
	if len(m.ImportedMemories()) > 0 {
		return refused("imported memory: the host offers none")
	}
	return nil
}

func (f *Filter) checkImport(def api.FunctionDefinition) error {
	module, name, _ := def.Import()
	host := f.runtime.Module(module)
	if host == nil {
		return refused("import %s.%s is unknown", module, name)
	}
	have, ok := host.ExportedFunctionDefinitions()[name]
	if !ok {
		return refused("import %s.%s is unknown", module, name)
	}
	if !slices.Equal(have.ParamTypes(), def.ParamTypes()) || !slices.Equal(have.ResultTypes(), def.ResultTypes()) {
		return refused("import %s.%s has the wrong type", module, name)
	}
	return nil
}

func allI32(types []api.ValueType, n int) bool {
	return len(types) == n && !slices.ContainsFunc(types, func(t api.ValueType) bool { return t != api.ValueTypeI32 })
}

// firstLine is the text of err without the engine's stack trace.
func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
