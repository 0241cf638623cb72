package sandbox

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/experimental/sysfs"
	"github.com/tetratelabs/wazero/sys"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/sandbox/nn"
	"github.com/assay-bench/assay/reference/sandbox/rewrite"
)

// errorBit marks the output of the buffer ABI as an error text.
const errorBit = 1 << 31

// errInitialPages is a memory that starts larger than the tier allows.
var errInitialPages = errors.New("initial memory is over the tier's pages")

// instance is one instance of a version. One goroutine uses it at a time.
type instance struct {
	id      string
	version *version
	mod     api.Module
	memory  api.Memory // nil without one
	linear  *linear
	ctx     context.Context // of host functions; leads back to the instance
	models  *nn.State
	meter   meter
	depth   api.MutableGlobal
	globals []api.MutableGlobal
	bound   map[string]*bound

	ticks   int64 // readings of the guest's clock
	reentry int
	dirty   bool // WASI descriptors may have changed
	waited  bool // in the pool
}

// bound is an export ready to be called.
type bound struct {
	api.Function
	params, results []api.ValueType
	stack           []uint64
}

// snapshot is the state of an instance after its start.
type snapshot struct {
	memory  []byte
	globals []uint64
	ticks   int64
}

// instantiate makes an instance and runs its start function under a quota of its own. The error is a *Trap,
// or says what wazero or the tier has against the module.
func (v *version) instantiate(ctx context.Context, turn *turn) (*instance, error) {
	quota := *v.tenant.quota.Load()
	i := &instance{
		id:      "i-" + strconv.FormatUint(v.sandbox.lastInstance.Add(1), 10),
		version: v,
		linear:  &linear{version: v, quota: v.linearQuota()},
		models:  nn.NewState(nn.Policy{LoadBytes: v.tenant.tier() != Free, MaxBytes: int64(v.linearQuota())}),
		bound:   map[string]*bound{},
	}
	i.ctx = context.WithValue(nn.WithState(context.Background(), i.models), instanceKey{}, i)
	began := time.Now()
	if err := i.create(); err != nil {
		if i.linear.buf != nil { // wazero closes nothing after a data segment that does not fit
			i.linear.Free()
		}
		return nil, err
	}
	v.tenant.allowance.use(&quota, time.Since(began))
	v.tenant.instances.Add(1)
	i.meter.turn = turn
	if err := i.start(ctx, quota); err != nil {
		i.close()
		return nil, err
	}
	return i, nil
}

// create instantiates the module. wazero panics when its first memory is refused.
func (i *instance) create() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("instantiate: %v", p)
			if i.linear.made && i.linear.buf == nil {
				err = errInitialPages
			}
		}
	}()
	ctx := experimental.WithMemoryAllocator(i.ctx, i.linear)
	if i.version.defects().On(defect.SandboxStartUnmetered) {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, i.version.sandbox.bound)
		defer cancel()
	}
	i.mod, err = i.version.runtime.InstantiateModule(ctx, i.version.compiled, i.config())
	if err != nil {
		return fmt.Errorf("instantiate: %w", err)
	}
	if i.linear.made {
		i.memory = i.mod.Memory()
	}
	return i.bind()
}

// config gives the guest nothing of the host: no arguments, environment, files or streams, and a clock that
// moves by a millisecond a reading, so that it neither measures its neighbours nor differs between runs.
func (i *instance) config() wazero.ModuleConfig {
	const epoch = 1_600_000_000
	tick := func() int64 { i.ticks++; return i.ticks * int64(time.Millisecond) }
	files := wazero.NewFSConfig().(sysfs.FSConfig).WithSysFSMount(newScratch(), "/")
	return wazero.NewModuleConfig().WithName("").WithStartFunctions().WithFSConfig(files).
		WithRandSource(rand.Reader).
		WithNanotime(tick, sys.ClockResolution(time.Millisecond)).
		WithWalltime(func() (int64, int32) {
			t := time.Duration(tick())
			return epoch + int64(t/time.Second), int32(t % time.Second)
		}, sys.ClockResolution(time.Millisecond))
}

// bind finds the globals that the rewriter exported.
func (i *instance) bind() error {
	find := func(name string) (api.MutableGlobal, error) {
		if g, ok := i.mod.ExportedGlobal(name).(api.MutableGlobal); ok {
			return g, nil
		}
		return nil, fmt.Errorf("rewritten module has no mutable global %s", name)
	}
	var err error
	if i.meter.fuel, err = find(rewrite.FuelExport); err != nil {
		return err
	}
	if i.depth, err = find(rewrite.DepthExport); err != nil {
		return err
	}
	for _, name := range i.version.info.Globals {
		g, err := find(name)
		if err != nil {
			return err
		}
		i.globals = append(i.globals, g)
	}
	i.meter.defects, i.meter.version = i.version.defects(), i.version
	return nil
}

// start runs the start function and a reactor's _initialize, and takes the snapshot for the pool.
func (i *instance) start(ctx context.Context, quota Quota) error {
	for _, name := range []string{rewrite.StartExport, "_initialize"} {
		f := i.mod.ExportedFunction(name)
		if f == nil || len(f.Definition().ParamTypes())+len(f.Definition().ResultTypes()) > 0 {
			continue
		}
		if _, err := i.metered(ctx, quota, func() error { return f.CallWithStack(i.ctx, nil) }); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if i.mod.IsClosed() {
		return fmt.Errorf("instantiate: the module ended itself")
	}
	i.version.capture(i)
	return nil
}

func (i *instance) close() {
	_ = i.mod.Close(context.Background()) // gives back the memory; there is no other resource
	i.version.tenant.instances.Add(-1)
}

// cost is what a metered call used.
type cost struct{ fuel, micros int64 }

// metered runs guest code on one thread under the quota. The error is a *Trap.
func (i *instance) metered(ctx context.Context, quota Quota, do func() error) (c cost, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	i.meter.begin(ctx, quota)
	err = i.contained(do)
	c.fuel, c.micros = i.meter.end()
	i.version.tenant.allowance.use(&quota, time.Duration(c.micros)*time.Microsecond)
	if err == nil {
		return c, nil
	}
	class, text, exited := i.classify(err)
	if exited {
		return c, nil
	}
	if class == ClassFuel || class == ClassStack || class == ClassDeadline {
		i.version.tenant.allowance.forfeit(&quota)
	}
	if class == ClassMemory && i.version.defects().On(defect.SandboxDiesOnAttack) {
		os.Exit(2)
	}
	return c, &Trap{Class: class, Text: text, Instance: i.id, Fuel: c.fuel, CPUMicros: c.micros}
}

// contained turns a panic of the engine into an error.
func (i *instance) contained(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &stop{class: ClassInternal, text: clip(fmt.Sprintf("engine: %v", p))}
		}
	}()
	return do()
}

// export finds a function of the guest. The rewriter's own are not the caller's to call.
func (i *instance) export(name string) (*bound, error) {
	if f, ok := i.bound[name]; ok {
		return f, nil
	}
	f := i.mod.ExportedFunction(name)
	if f == nil || i.version.hidden(name) {
		return nil, fmt.Errorf("%w: function %q", ErrUnknown, clip(name))
	}
	def := f.Definition()
	b := &bound{Function: f, params: def.ParamTypes(), results: def.ResultTypes()}
	b.stack = make([]uint64, max(len(b.params), len(b.results)))
	i.bound[name] = b
	return b, nil
}

// takesBuffer says whether the function has the type of the buffer ABI.
func (b *bound) takesBuffer() bool {
	return sameTypes(b.params, "i32", "i32") && sameTypes(b.results, "i64")
}

// serve runs one call. The error is a *Trap, or wraps ErrUnknown or ErrArguments when nothing ran.
func (i *instance) serve(ctx context.Context, c Call) (Answer, error) {
	f, err := i.export(c.Function)
	if err != nil {
		return Answer{}, err
	}
	a := Answer{Version: i.version.number, Instance: i.id, Pooled: i.waited, Results: []string{}}
	var run func() error
	if i.version.abi == Buffer && len(c.Args) == 0 && f.takesBuffer() {
		run = func() (err error) { a.Output, err = i.buffer(f, c.Input); return err }
	} else {
		if err := f.arguments(c.Args); err != nil {
			return Answer{}, fmt.Errorf("function %q: %w", clip(c.Function), err)
		}
		run = func() error { return f.CallWithStack(i.ctx, f.stack) }
	}
	used, err := i.metered(ctx, *i.version.tenant.quota.Load(), run)
	i.version.tenant.charge(used.fuel, used.micros)
	a.Fuel, a.CPUMicros, a.MemoryPages = used.fuel, used.micros, i.pages()
	if err != nil {
		return a, err
	}
	if a.Output == nil && !i.mod.IsClosed() {
		a.Results = f.answers(i.version)
	}
	return a, nil
}

func (i *instance) pages() uint32 {
	if i.memory == nil {
		return 0
	}
	return uint32(len(i.linear.buf) / pageBytes)
}

func (b *bound) arguments(args []string) error {
	if len(args) != len(b.params) {
		return fmt.Errorf("%w: %d given, want %d", ErrArguments, len(args), len(b.params))
	}
	for n, kind := range b.params {
		v, err := parseValue(kind, args[n])
		if err != nil {
			return err
		}
		b.stack[n] = v
	}
	return nil
}

func (b *bound) answers(v *version) []string {
	out := make([]string, len(b.results))
	for n, kind := range b.results {
		value := b.stack[n]
		if v.engine == Interpreter && v.defects().On(defect.SandboxEngineDiffers) && kind == api.ValueTypeI32 && int32(uint32(value)) < 0 {
			value = uint64(uint32(value) - 1)
		}
		out[n] = formatValue(kind, value)
	}
	return out
}

// buffer calls a function of the buffer ABI. Output is a copy; views are taken anew after each call of the
// guest, which may have grown its memory.
func (i *instance) buffer(f *bound, input []byte) ([]byte, error) {
	ptr, err := i.hand(input)
	if err != nil {
		return nil, err
	}
	var before []byte
	if i.version.defects().On(defect.SandboxViewStale) {
		before, _ = i.memory.Read(0, i.memory.Size())
	}
	f.stack[0], f.stack[1] = uint64(ptr), uint64(len(input))
	if err := f.CallWithStack(i.ctx, f.stack); err != nil {
		return nil, err
	}
	at, n := uint32(f.stack[0]>>32), uint32(f.stack[0])
	failed := n&errorBit != 0
	n &^= errorBit
	view, ok := i.memory.Read(at, n)
	if !ok {
		return nil, &stop{class: ClassMemory, text: fmt.Sprintf("output at %d, length %d, is outside the guest's memory", at, n)}
	}
	if before != nil {
		view = make([]byte, n)
		if uint64(at) < uint64(len(before)) {
			copy(view, before[at:])
		}
	}
	if failed {
		return nil, &stop{class: ClassGuest, text: string(view[:min(n, logBytes)])}
	}
	if i.version.sandbox.spare.recycled {
		return view, nil
	}
	return append(make([]byte, 0, n), view...), nil
}

// hand copies the input to where the guest wants it.
func (i *instance) hand(input []byte) (uint32, error) {
	if len(input) == 0 {
		return 0, nil
	}
	if len(input) > MaxInputBytes {
		return 0, &stop{class: ClassQuota, text: fmt.Sprintf("input has %d bytes, most are %d", len(input), MaxInputBytes)}
	}
	alloc, err := i.export("alloc")
	if err != nil || !sameTypes(alloc.params, "i32") || !sameTypes(alloc.results, "i32") {
		return 0, &stop{class: ClassHostError, text: "the guest has no export alloc(i32) -> i32"}
	}
	alloc.stack[0] = uint64(len(input))
	if err := alloc.CallWithStack(i.ctx, alloc.stack); err != nil {
		return 0, err
	}
	ptr := uint32(alloc.stack[0])
	switch {
	case ptr == 0:
		return 0, &stop{class: ClassQuota, text: fmt.Sprintf("the guest has no room for %d bytes", len(input))}
	case !i.memory.Write(ptr, input):
		return 0, &stop{class: ClassMemory, text: fmt.Sprintf("alloc gave %d for %d bytes: outside the guest's memory", ptr, len(input))}
	}
	return ptr, nil
}

// reset makes the instance equal to a fresh one. It says false when it cannot.
func (i *instance) reset() bool {
	v := i.version
	s := v.snapshot
	if i.mod.IsClosed() || len(i.linear.buf) != len(s.memory) ||
		(i.dirty && !v.defects().On(defect.SandboxDescriptorsKept)) {
		return false
	}
	i.restore(s)
	return true
}

func (i *instance) restore(s *snapshot) {
	copy(i.linear.buf, s.memory)
	if !i.version.defects().On(defect.SandboxGlobalsKept) {
		for n, g := range i.globals {
			g.Set(s.globals[n])
		}
	}
	i.depth.Set(0)
	i.models.Reset()
	i.ticks, i.reentry = s.ticks, 0
}

// capture takes the snapshot of the first instance.
func (v *version) capture(i *instance) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.snapshot != nil {
		return
	}
	s := &snapshot{memory: bytes.Clone(i.linear.buf), ticks: i.ticks}
	for _, g := range i.globals {
		s.globals = append(s.globals, g.Get())
	}
	v.snapshot = s
	if i.dirty { // its start opened descriptors: none can be reset
		v.pooled = false
	}
}

// sameResults compares what a canary gave with what it has to give.
func sameResults(abi ABI, a Answer, want []string) bool {
	if abi == Buffer && len(a.Results) == 0 {
		return len(want) == 1 && string(a.Output) == want[0]
	}
	return slices.Equal(a.Results, want)
}
