package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assay-bench/assay/results"
)

// runtimeTarget writes the target file of a runtime that is a command.
func runtimeTarget(t *testing.T, name, command string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	file := fmt.Sprintf("apiVersion: assay/v1\nkind: Target\nname: %s\nrole: endpoint\nhooks:\n  run-wasm: %q\nclaims: [sandbox.run]\n", name, command)
	if err := os.WriteFile(filepath.Join(dir, "target.yaml"), []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// judgeRuntime holds what is true of every sound runtime: results and traps are as the specification says, what
// only assay's sandbox has is not claimed.
func judgeRuntime(t *testing.T, stack, dir string) {
	t.Helper()
	_, b := assayIn(t, dir, "run", "sandbox", "--target", "target.yaml")
	if n := b.Verdicts.Count(results.Broken) + b.Verdicts.Count(results.Unproven); n != 0 {
		t.Errorf("%d verdicts are broken or unproven", n)
	}
	for key, why := range failures(b, "") {
		t.Errorf("%s: %.300s", key, why)
	}
	got := statuses(b, "sandbox/")
	if got[results.Pass] < 10 || got[results.NotClaimed] < 50 {
		t.Errorf("verdicts %v, want 10 passes at least and everything else not claimed", got)
	}
	listedPasses(t, stack, b)
}

// nodeRun is run-wasm on V8. WASI functions answer ENOSYS: no guest of these cases calls one.
const nodeRun = `const fs=require('fs');
const [file,name,...args]=process.argv.slice(2);
const mod=new WebAssembly.Module(fs.readFileSync(file));
const imports={};
for(const i of WebAssembly.Module.imports(mod)){(imports[i.module]??={})[i.name]=()=>52}
const f=new WebAssembly.Instance(mod,imports).exports[name];
const number=a=>a==='nan'?NaN:a==='inf'?Infinity:a==='-inf'?-Infinity:Number(a);
const single=v=>{for(let p=1;p<=9;p++){const s=v.toPrecision(p);if(Math.fround(Number(s))===v)return String(Number(s))}return String(v)};
const shown=v=>Number.isNaN(v)?'nan':v===Infinity?'inf':v===-Infinity?'-inf':Object.is(v,-0)?'-0':
  typeof v==='number'&&!Number.isInteger(v)&&Math.fround(v)===v?single(v):String(v);
let out;
try{out=f(...args.map(number))}catch(e){if(!(e instanceof TypeError))throw e;out=f(...args.map(a=>/^-?\d+$/.test(a)?BigInt(a):Number(a)))}
for(const v of out===undefined?[]:Array.isArray(out)?out:[out])console.log(shown(v));
`

// TestNodeRuntime judges V8 through node.
func TestNodeRuntime(t *testing.T) {
	node := lookPeer(t, "node26", "node")
	dir := runtimeTarget(t, "V8", node+" run.cjs {module} {function} {args}")
	if err := os.WriteFile(filepath.Join(dir, "run.cjs"), []byte(nodeRun), 0o644); err != nil {
		t.Fatal(err)
	}
	judgeRuntime(t, "V8 in Node.js", dir)
}

const wasmtimeRun = `import sys, math, struct, wasmtime
file, name, args = sys.argv[1], sys.argv[2], sys.argv[3:]
engine = wasmtime.Engine()
module = wasmtime.Module.from_file(engine, file)
linker = wasmtime.Linker(engine)
linker.define_wasi()
store = wasmtime.Store(engine)
store.set_wasi(wasmtime.WasiConfig())
f = linker.instantiate(store, module).exports(store)[name]
kinds = [str(k) for k in f.type(store).params]
out = f(store, *[float(a) if k[0] == 'f' else int(a) for a, k in zip(args, kinds)])
single = lambda v: struct.unpack('f', struct.pack('f', v))[0]
def shown(v):
    if isinstance(v, float) and math.isfinite(v) and v != int(v) and single(v) == v:
        return next(s for s in ('%.*g' % (p, v) for p in range(1, 18)) if single(float(s)) == v)
    if isinstance(v, float):
        if math.isnan(v): return 'nan'
        if math.isinf(v): return 'inf' if v > 0 else '-inf'
        return repr(v)[:-2] if repr(v).endswith('.0') else repr(v)
    return str(v)
for v in [] if out is None else out if isinstance(out, list) else [out]:
    print(shown(v))
`

// TestWasmtimeRuntime judges wasmtime through its Python package.
func TestWasmtimeRuntime(t *testing.T) {
	python := lookPeer(t, "python3")
	if out, err := exec.Command(python, "-c", "import wasmtime").CombinedOutput(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("the Python package wasmtime is not installed, and CI should have installed it: %s", out)
		}
		t.Skip("the Python package wasmtime is not installed")
	}
	dir := runtimeTarget(t, "wasmtime", python+" run.py {module} {function} {args}")
	if err := os.WriteFile(filepath.Join(dir, "run.py"), []byte(strings.TrimLeft(wasmtimeRun, "\n")), 0o644); err != nil {
		t.Fatal(err)
	}
	judgeRuntime(t, "wasmtime", dir)
}
