package proxywasm

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

const (
	defaultPages      = 256 // of 64 KiB
	defaultPauseLimit = 5 * time.Second
	defaultDoneLimit  = 5 * time.Second
	defaultCallLimit  = 2 * time.Second
)

// Options configure a filter.
type Options struct {
	Configuration   []byte // plugin configuration, buffer 7
	VMConfiguration []byte // VM configuration, buffer 6
	Interpreter     bool   // run in the interpreter in place of the compiler
	MaxPages        uint32 // memory limit in pages of 64 KiB; 0 is 256
	Meter           Meter  // fuel of a rewritten module; nil allows 500 million units a call
	Defects         defect.Set

	// PauseLimit bounds the wait for a paused stream, DoneLimit the one for proxy_done. 0 is five seconds.
	PauseLimit, DoneLimit time.Duration

	callLimit time.Duration // of one call into the guest, looked at in host functions; 0 is two seconds
}

// Refusal says why a module is no filter that this host runs.
type Refusal struct {
	Reason string // one line: what is missing, unknown or false
	cause  error
}

// Error returns the reason.
func (r *Refusal) Error() string { return "proxy-wasm filter refused: " + r.Reason }

// Unwrap returns the engine's error, or nil.
func (r *Refusal) Unwrap() error { return r.cause }

func refused(format string, args ...any) *Refusal {
	err := fmt.Errorf(format, args...)
	return &Refusal{Reason: firstLine(err), cause: errors.Unwrap(err)}
}

var (
	errGone     = errors.New("filter instance ended")
	errClosed   = errors.New("filter is closed")
	errOverload = errors.New("too many streams in the filter")
)

// Trap is the error of a callback that did not return. The instance is replaced.
type Trap struct {
	Callback string // for example proxy_on_request_headers
	Cause    error  // the engine's error; errors.Is finds what a Meter returned
}

// Error names the callback and the trap in one line.
func (t *Trap) Error() string { return "trap in " + t.Callback + ": " + firstLine(t.Cause) }

// Unwrap returns the cause.
func (t *Trap) Unwrap() error { return t.Cause }

// Filter is a loaded module with its running instance. Its methods may be called concurrently.
type Filter struct {
	options  Options
	runtime  wazero.Runtime
	compiled wazero.CompiledModule
	log      logLines
	born     time.Time     // zero of the guest's monotonic clock
	closed   chan struct{} // closed when the runtime is

	mu     sync.Mutex // held while the guest runs
	vm     *vm        // nil when there is none
	ending ending

	use      sync.Mutex
	users    int  // requests and routes that hold the filter
	retiring bool // no new users; closes when there are none
}

// ending is how far the end of a filter has come.
type ending int

const (
	serving    ending = iota
	draining          // waits for streams
	finalizing        // proxy_on_done of the plugin context returned false
	ended
)

// Load compiles and starts a filter: _initialize and main, or _start; proxy_on_context_create,
// proxy_on_vm_start and proxy_on_configure for the plugin context. The error is a *Refusal when the module
// is at fault. The caller closes the filter, or gives it to a Proxy, which closes it when it is replaced.
func Load(ctx context.Context, wasm []byte, options Options) (*Filter, error) {
	f := &Filter{options: withDefaults(options), born: time.Now(), closed: make(chan struct{})}
	f.runtime = wazero.NewRuntimeWithConfig(ctx, f.options.runtimeConfig())
	if err := f.start(ctx, wasm); err != nil {
		_ = f.runtime.Close(context.WithoutCancel(ctx)) // frees memory only
		return nil, err
	}
	return f, nil
}

func withDefaults(o Options) Options {
	if o.MaxPages == 0 {
		o.MaxPages = defaultPages
	}
	if o.Meter == nil {
		o.Meter = NewFuelMeter(defaultFuel)
	}
	if o.PauseLimit == 0 {
		o.PauseLimit = defaultPauseLimit
	}
	if o.DoneLimit == 0 {
		o.DoneLimit = defaultDoneLimit
	}
	if o.callLimit == 0 {
		o.callLimit = defaultCallLimit
	}
	return o
}

func (o *Options) runtimeConfig() wazero.RuntimeConfig {
	c := wazero.NewRuntimeConfig()
	if o.Interpreter {
		c = wazero.NewRuntimeConfigInterpreter()
	}
	return c.WithMemoryLimitPages(o.MaxPages)
}

func (f *Filter) start(ctx context.Context, wasm []byte) error {
	if err := f.hostModules(ctx); err != nil {
		return fmt.Errorf("proxy-wasm host modules: %w", err)
	}
	compiled, err := f.runtime.CompileModule(ctx, wasm)
	if err != nil {
		return refused("compile: %w", err)
	}
	f.compiled = compiled
	if err := f.check(compiled); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.launch()
}

// hostModules makes the modules that a filter may import.
func (f *Filter) hostModules(ctx context.Context) error {
	if err := f.instantiateABI(ctx); err != nil {
		return err
	}
	if err := f.instantiateWASI(ctx); err != nil {
		return err
	}
	refill := func(_ context.Context, guest api.Module, _ []uint64) {
		f.overdue()
		if err := f.options.Meter.Refill(guest); err != nil {
			panic(err) // the engine makes a trap of it
		}
	}
	_, err := f.runtime.NewHostModuleBuilder(meterModule).NewFunctionBuilder().
		WithGoModuleFunction(api.GoModuleFunc(refill), nil, nil).Export(refillName).Instantiate(ctx)
	return err
}

// launch makes a new instance and takes it through its start. The lock is held.
func (f *Filter) launch() error {
	v := newVM(f)
	f.vm = v // host functions look it up, also while the module's start section runs
	if err := v.start(); err != nil {
		v.die()
		f.vm = nil
		return err
	}
	return nil
}

// living returns the instance, after a trap a new one. The lock is held.
func (f *Filter) living() (*vm, error) {
	if f.ending == ended {
		return nil, errClosed
	}
	if f.vm == nil {
		if err := f.launch(); err != nil {
			return nil, fmt.Errorf("restart of the filter: %w", err)
		}
	}
	return f.vm, nil
}

// moduleConfig gives the guest clocks and randomness, and nothing else of the host.
func (f *Filter) moduleConfig() wazero.ModuleConfig {
	return wazero.NewModuleConfig().WithName("").WithStartFunctions().
		WithSysWalltime().WithSysNanotime().WithRandSource(rand.Reader)
}

func (f *Filter) on(n defect.Name) bool { return f.options.Defects.On(n) }

// pairs is the codec of header maps.
func (f *Filter) pairs() codec {
	c := codec{order: binary.LittleEndian, lenient: f.on(defect.SandboxProxyTruncatedPairsOk)}
	if f.on(defect.SandboxProxyPairsBigEndian) {
		c.order = binary.BigEndian
	}
	return c
}

// Log returns the newest lines that the filter logged, oldest first, at most 200. It includes those of
// its start.
func (f *Filter) Log() []string { return f.log.all() }

// acquire keeps the filter from closing until release. It reports false once the filter retires.
func (f *Filter) acquire() bool {
	f.use.Lock()
	defer f.use.Unlock()
	if f.retiring {
		return false
	}
	f.users++
	return true
}

func (f *Filter) release() {
	f.use.Lock()
	f.users--
	last := f.retiring && f.users == 0
	f.use.Unlock()
	if last {
		f.drain()
	}
}

// retire lets the filter end when its users have gone.
func (f *Filter) retire() {
	f.use.Lock()
	last := !f.retiring && f.users == 0
	f.retiring = true
	f.use.Unlock()
	if last {
		f.drain()
	}
}

// Close lets requests that run in the filter end, then ends the plugin context and frees the instance. It
// returns the context's error when that comes first; the filter is then freed at once.
func (f *Filter) Close(ctx context.Context) error {
	f.retire()
	select {
	case <-f.closed:
		return nil
	case <-ctx.Done():
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ending != ended {
		f.free()
	}
	return fmt.Errorf("close of the filter: %w", ctx.Err())
}

// drain ends the filter as soon as no stream is left in it.
func (f *Filter) drain() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ending == serving {
		f.ending = draining
	}
	f.settle()
}

// settle goes on with the end of the filter where nothing holds it up any longer. The lock is held.
func (f *Filter) settle() {
	if f.ending == serving || f.ending == ended {
		return
	}
	if f.vm == nil {
		f.free()
		return
	}
	if f.ending == draining && len(f.vm.streams) == 0 {
		f.ending = finalizing
		f.vm.endPlugin()
	}
	if f.vm == nil || f.ending == finalizing && !f.vm.plugin.pending {
		f.free()
	}
}

// free closes the runtime. The lock is held.
func (f *Filter) free() {
	f.ending = ended
	if f.vm != nil {
		f.vm.die()
		f.vm = nil
	}
	_ = f.runtime.Close(context.Background()) // closes memory only: nothing is lost by an error
	close(f.closed)
}
