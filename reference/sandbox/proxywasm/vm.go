package proxywasm

import (
	"context"
	"errors"
	"time"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/tetratelabs/wazero/api"
)

const (
	pluginID   = 1
	maxStreams = 1024 // contexts at a time, also those that wait for proxy_done

	minTick = 5 * time.Millisecond
	maxTick = time.Hour
)

var errOverdue = errors.New("call took too long")

// scope is a context of the ABI: the plugin's, or that of a stream.
type scope struct {
	id       uint32
	pending  bool        // proxy_on_done returned false and proxy_done was not called
	deadline *time.Timer // ends pending
}

// vm is one instance of the module. Everything in it is guarded by the filter's lock.
type vm struct {
	f         *Filter
	guest     api.Module // nil until instantiated
	functions map[string]api.Function
	plugin    scope
	streams   map[uint32]*stream
	lastID    uint32

	active     *stream // the effective context; nil is the plugin's
	began      time.Time
	allocating bool // the guest's allocator runs, called from a host function

	completed  []*stream // contexts to delete, nil for the plugin's
	finalizing bool

	period time.Duration
	timer  *time.Timer
	dead   bool
}

func newVM(f *Filter) *vm {
	return &vm{f: f, functions: make(map[string]api.Function), streams: make(map[uint32]*stream),
		plugin: scope{id: pluginID}, lastID: pluginID}
}

// start takes the instance from nothing to configured. The error is a *Refusal.
func (v *vm) start() error {
	v.began = time.Now()
	guest, err := v.f.runtime.InstantiateModule(context.Background(), v.f.compiled, v.f.moduleConfig())
	if err != nil {
		return refused("instantiate: %w", err)
	}
	v.guest = guest
	for name := range guestTypes {
		if fn := guest.ExportedFunction(name); fn != nil {
			v.functions[name] = fn
		}
	}
	if err := v.initialize(); err != nil {
		return refused("%w", err)
	}
	return v.configure()
}

// initialize runs the module's own start-up (Proxy-Wasm 0.2.1, Integration).
func (v *vm) initialize() error {
	if _, err := v.enter(nil, startFunction, 0); err != nil {
		return err
	}
	if v.functions[onInitialize] == nil {
		_, err := v.enter(nil, onStart, 0)
		return err
	}
	if _, err := v.enter(nil, onInitialize, 0); err != nil {
		return err
	}
	_, err := v.enter(nil, onMain, 0, 0, 0)
	return err
}

// configure makes the plugin context and gives it its configurations.
func (v *vm) configure() error {
	create := func() error { _, err := v.enter(nil, onContextCreate, 0, pluginID, 0); return err }
	accept := func(name string, configuration []byte) error {
		ok, err := v.enter(nil, name, 1, pluginID, uint64(len(configuration)))
		if err == nil && ok == 0 && !v.f.on(defect.SandboxProxyConfigIgnored) {
			err = errors.New(name + " returned false")
		}
		return err
	}
	steps := []func() error{create,
		func() error { return accept(onVMStart, v.f.options.VMConfiguration) },
		func() error { return accept(onConfigure, v.f.options.Configuration) },
	}
	if v.f.on(defect.SandboxProxyStartBeforeCreate) {
		steps[0], steps[1] = steps[1], steps[0]
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return refused("%w", err)
		}
	}
	return nil
}

// enter calls a function of the guest for a context, nil for the plugin's. A function that the guest does
// not export is not called: the result is then otherwise. After a *Trap the instance is dead.
func (v *vm) enter(active *stream, name string, otherwise uint32, args ...uint64) (uint32, error) {
	fn := v.functions[name]
	if fn == nil {
		return otherwise, nil
	}
	if v.dead {
		return 0, errGone
	}
	v.active, v.began = active, time.Now()
	v.f.options.Meter.Begin(v.guest)
	results, err := fn.Call(context.Background(), args...)
	v.active = nil
	if err != nil {
		v.die()
		return 0, &Trap{Callback: name, Cause: err}
	}
	v.finalize()
	if v.dead { // the end of another context trapped
		return 0, errGone
	}
	if len(results) == 0 {
		return 0, nil
	}
	return uint32(results[0]), nil
}

// overdue ends a call of a guest that spends its time in host functions. Fuel does not see that time.
func (f *Filter) overdue() {
	if f.vm != nil && time.Since(f.vm.began) > f.options.callLimit {
		panic(errOverdue) // the engine makes a trap of it
	}
}

// die frees the instance and wakes all that wait for it.
func (v *vm) die() {
	if v.dead {
		return
	}
	v.dead = true
	v.setTick(0)
	v.plugin.stop()
	for _, s := range v.streams {
		s.stop()
		s.wakeUp()
	}
	clear(v.streams)
	if v.guest != nil {
		_ = v.guest.Close(context.Background()) // frees memory only
	}
	if v.f.vm == v {
		v.f.vm = nil
	}
}

func (s *scope) stop() {
	s.pending = false
	if s.deadline != nil {
		s.deadline.Stop()
	}
}

// open makes a stream context.
func (v *vm) open(s *stream) error {
	if len(v.streams) >= maxStreams {
		return errOverload
	}
	v.lastID++
	for v.lastID <= pluginID || v.streams[v.lastID] != nil { // after four thousand million streams
		v.lastID++
	}
	s.vm, s.id = v, v.lastID
	v.streams[s.id] = s
	_, err := v.enter(s, onContextCreate, 0, uint64(s.id), pluginID)
	return err
}

// endStream ends a stream context: proxy_on_done, then proxy_on_log and proxy_on_delete, after proxy_done
// when proxy_on_done returned false (Proxy-Wasm 0.2.1, Context lifecycle).
func (v *vm) endStream(s *stream) {
	s.phase = phaseDone
	if v.f.on(defect.SandboxProxyLogBeforeDone) {
		if _, err := v.enter(s, onLog, 0, uint64(s.id)); err != nil {
			return
		}
	}
	if v.endScope(s, &s.scope) {
		v.deleteStream(s)
	}
}

func (v *vm) deleteStream(s *stream) {
	s.stop()
	s.phase = phaseLog
	if !v.f.on(defect.SandboxProxyLogBeforeDone) {
		if _, err := v.enter(s, onLog, 0, uint64(s.id)); err != nil {
			return
		}
	}
	s.phase = phaseOver
	// A trap here has ended the instance and with it the context: nothing is left to do.
	_, _ = v.enter(s, onDelete, 0, uint64(s.id))
	delete(v.streams, s.id)
}

// endPlugin ends the plugin context in the same way.
func (v *vm) endPlugin() {
	if v.endScope(nil, &v.plugin) {
		v.deletePlugin()
	}
}

func (v *vm) deletePlugin() {
	v.plugin.stop()
	if _, err := v.enter(nil, onLog, 0, pluginID); err == nil {
		_, _ = v.enter(nil, onDelete, 0, pluginID) // as above
	}
}

// endScope calls proxy_on_done and reports whether the context may be deleted at once. If not, it waits
// for proxy_done, no longer than the filter's limit.
func (v *vm) endScope(s *stream, c *scope) bool {
	done, err := v.enter(s, onDone, 1, uint64(c.id))
	if err != nil {
		return false
	}
	if done != 0 || v.f.on(defect.SandboxProxyDoneIgnored) {
		return true
	}
	c.pending = true
	c.deadline = time.AfterFunc(v.f.options.DoneLimit, func() {
		v.f.mu.Lock()
		defer v.f.mu.Unlock()
		if v.complete(s) {
			v.finalize()
			v.f.settle()
		}
	})
	return false
}

// complete marks a context that waits for proxy_done as done. It reports false for any other context.
func (v *vm) complete(s *stream) bool {
	c := &v.plugin
	if s != nil {
		c = &s.scope
	}
	if !c.pending {
		return false
	}
	c.stop()
	v.completed = append(v.completed, s)
	return true
}

// finalize deletes the contexts that are complete. It runs after each call into the guest.
func (v *vm) finalize() {
	if v.finalizing {
		return
	}
	v.finalizing = true
	defer func() { v.finalizing = false }()
	for len(v.completed) > 0 && !v.dead {
		s := v.completed[0]
		v.completed = v.completed[1:]
		if s == nil {
			v.deletePlugin()
		} else {
			v.deleteStream(s)
		}
	}
}

// setTick changes the period of proxy_on_tick, in milliseconds; 0 ends it. The guest gets no shorter
// period than minTick, and none that would run over.
func (v *vm) setTick(milliseconds uint32) {
	if v.timer != nil {
		v.timer.Stop()
		v.timer = nil
	}
	if milliseconds == 0 || v.dead {
		return
	}
	v.period = min(max(time.Duration(milliseconds)*time.Millisecond, minTick), maxTick)
	v.arm()
}

func (v *vm) arm() {
	var timer *time.Timer
	timer = time.AfterFunc(v.period, func() {
		v.f.mu.Lock()
		defer v.f.mu.Unlock()
		if v.timer != timer { // another period was set, or the instance ended, while this one waited
			return
		}
		v.tick(timer)
	})
	v.timer = timer
}

// tick calls proxy_on_tick and arms the timer again, so that ticks never pile up.
func (v *vm) tick(timer *time.Timer) {
	if _, err := v.enter(nil, onTick, 0, pluginID); err == nil && v.timer == timer {
		v.arm()
	}
	v.f.settle()
}
