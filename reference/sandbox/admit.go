package sandbox

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/sandbox/rewrite"
)

// mixedFor is how long answers are mixed; see defect.SandboxReloadMixed.
const mixedFor = 300 * time.Millisecond

// candidate is an upload on its way through admission.
type candidate struct {
	Upload
	tenant    *tenant
	name      string
	newest    uint64 // version that serves
	unsigned  bool   // of Run, which has no tenants
	digest    string
	module    *rewrite.Module
	rewritten []byte
	info      rewrite.Info
	cached    bool
}

// Admit takes a module through every step up to the rewrite, for a host that runs it by itself. Versions of
// one name are compared with those that were committed. The error is a *Refusal or wraps ErrUnknown.
func (s *Sandbox) Admit(ctx context.Context, tenantID, name string, u Upload) (*Admitted, error) {
	t, err := s.tenant(tenantID)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	newest := t.proxies[name]
	t.mu.Unlock()
	c := &candidate{Upload: u, tenant: t, name: name, newest: newest}
	if err := s.admit(ctx, c); err != nil {
		return nil, s.refused(c, err)
	}
	commit := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.proxies[name] = max(t.proxies[name], u.Version)
	}
	return &Admitted{Wasm: c.rewritten, Info: c.info, Digest: c.digest, Quota: *t.quota.Load(), commit: commit}, nil
}

// Upload admits a version and lets the name serve it. Calls in flight end on the version that they began
// with. The error is a *Refusal, after which the old version serves on, or wraps ErrUnknown or ErrClosed.
func (s *Sandbox) Upload(ctx context.Context, tenantID, name string, u Upload) (Published, error) {
	t, err := s.tenant(tenantID)
	if err != nil {
		return Published{}, err
	}
	if u.ABI == "" {
		u.ABI = Plain
	}
	if u.Engine == "" {
		u.Engine = Compiler
	}
	m, made, err := t.module(name)
	if err != nil {
		return Published{}, s.refused(&candidate{tenant: t, name: clip(name)}, err)
	}
	m.upload.Lock()
	defer m.upload.Unlock()
	c := &candidate{Upload: u, tenant: t, name: name, newest: m.newest}
	v, err := s.build(ctx, c)
	if err != nil {
		if made {
			t.forget(name, m)
		}
		if s.cfg.Defects.On(defect.SandboxRefusedReplaces) {
			m.swap(nil)
		}
		return Published{}, s.refused(c, err)
	}
	if err := s.publish(m, v); err != nil {
		return Published{}, err
	}
	v.event(EventPublished, fmt.Sprintf("version %d, digest %s", u.Version, c.digest))
	return Published{Version: u.Version, Digest: c.digest, FuelSites: c.info.FuelSites, CompiledFromCache: c.cached}, nil
}

// publish lets the name serve the version. The caller holds m.upload.
func (s *Sandbox) publish(m *module, v *version) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		v.release()
		return fmt.Errorf("publish %s: %w", v.name, ErrClosed)
	}
	if s.cfg.Defects.On(defect.SandboxReloadMixed) {
		m.mix()
	}
	m.newest = v.number
	m.swap(v)
	return nil
}

// swap lets calls that begin from now on see v.
func (m *module) swap(v *version) {
	if old := m.live.Swap(v); old != nil {
		old.replace()
	}
}

// mix holds the version that serves for a while longer.
func (m *module) mix() {
	old := m.acquire()
	if old == nil {
		return
	}
	x := &mixture{old: old, until: time.Now().Add(mixedFor)}
	m.mixed.Store(x)
	time.AfterFunc(mixedFor, func() {
		m.mixed.CompareAndSwap(x, nil)
		old.release()
	})
}

// module finds or makes the name. made says that the caller has to forget it when nothing comes of it.
func (t *tenant) module(name string) (m *module, made bool, err error) {
	if !named(name) {
		return nil, false, refuse(StepSignature, "module name %q cannot be signed", clip(name))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if m, ok := t.modules[name]; ok {
		return m, false, nil
	}
	if len(t.modules) >= MaxModules {
		return nil, false, refuse(StepSize, "the tenant has %d modules, at most %d are allowed", len(t.modules), MaxModules)
	}
	m = &module{}
	t.modules[name] = m
	return m, true, nil
}

// forget removes a name that serves nothing.
func (t *tenant) forget(name string, m *module) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.modules[name] == m && m.live.Load() == nil {
		delete(t.modules, name)
	}
}

// refused counts and records a refusal.
func (s *Sandbox) refused(c *candidate, err error) error {
	r, ok := errors.AsType[*Refusal](err)
	if !ok {
		return err
	}
	c.tenant.refusedAt(r.Step)
	s.audit.add(c.tenant.id, c.name, EventRefused, r.Error())
	s.cfg.Logger.Info("upload refused", "tenant", c.tenant.id, "module", c.name, "step", r.Step, "reason", r.Reason)
	switch {
	case s.cfg.Defects.On(defect.SandboxRefusedAs500):
		return errors.New(r.Error())
	case s.cfg.Defects.On(defect.SandboxRefusedElsewhere):
		return &Refusal{Step: "upload", Reason: r.Reason}
	case s.cfg.Defects.On(defect.SandboxRefusedUnnamed):
		return &Refusal{Step: r.Step}
	}
	return r
}

// admit runs the steps that need no compiler.
func (s *Sandbox) admit(ctx context.Context, c *candidate) error {
	sum := sha256.Sum256(c.Wasm)
	c.digest = hex.EncodeToString(sum[:])
	steps := []func(context.Context, *candidate) error{s.checkSize, s.checkSigned, s.checkStructure, s.validate, s.rewrite}
	if s.cfg.Defects.On(defect.SandboxAdmissionReversed) {
		steps[1], steps[2] = steps[2], steps[1]
	}
	for _, step := range steps {
		if err := step(ctx, c); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("admission of %s: %w", c.name, err)
		}
	}
	return nil
}

func (s *Sandbox) checkSize(_ context.Context, c *candidate) error {
	if len(c.Wasm) > MaxModuleBytes && !s.cfg.Defects.On(defect.SandboxCapsUnchecked) {
		return refuse(StepSize, "module has %d bytes, at most %d are allowed", len(c.Wasm), MaxModuleBytes)
	}
	return nil
}

func (s *Sandbox) checkSigned(_ context.Context, c *candidate) error {
	if c.unsigned {
		return nil
	}
	c.tenant.mu.Lock()
	set := c.tenant.set
	c.tenant.mu.Unlock()
	if err := s.verify(set, scope{c.tenant.id, c.name, c.Version}, c.digest, c.Signatures); err != nil {
		return err
	}
	if c.Version <= c.newest && !s.cfg.Defects.On(defect.SandboxVersionRollback) {
		return refuse(StepVersion, "version %d is not greater than %d", c.Version, c.newest)
	}
	return nil
}

func (s *Sandbox) checkStructure(_ context.Context, c *candidate) (err error) {
	if c.module, err = rewrite.Parse(c.Wasm); err != nil {
		return refuse(StepStructure, "%v", err)
	}
	if err := c.module.Check(s.limits(c)); err != nil {
		return refuse(StepStructure, "%v", err)
	}
	if s.cfg.Defects.On(defect.SandboxExportUnchecked) {
		return nil
	}
	return c.checkExports()
}

func (s *Sandbox) limits(c *candidate) rewrite.Limits {
	d := s.cfg.Defects
	pages := c.tenant.quota.Load().Pages
	l := rewrite.Limits{
		Bytes: MaxModuleBytes, Functions: MaxFunctions, Locals: MaxLocals, DataBytes: MaxDataBytes,
		TableEntries: MaxTableEntries, Globals: MaxGlobals, MinPages: pages,
		KnownImport: func(module, name string, params, results []rewrite.ValueType) bool {
			return d.On(defect.SandboxImportUnchecked) || s.offers.known(module, name, params, results) ||
				c.ABI == Proxy && module == "env" && strings.HasPrefix(name, "proxy_")
		},
	}
	if d.On(defect.SandboxCapsUnchecked) {
		l.Bytes, l.Functions, l.Locals, l.DataBytes, l.Globals = 0, 0, 0, 0, 0
	}
	if d.On(defect.SandboxTableUnchecked) {
		l.TableEntries = 0
	}
	if d.On(defect.SandboxInitialUnchecked) {
		l.MinPages = 0
	}
	return l
}

// checkExports compares the module's exports with those that were declared and those that the ABI needs.
func (c *candidate) checkExports() error {
	have := map[string]rewrite.Export{}
	for _, e := range c.module.Exports() {
		have[e.Name] = e
	}
	want := c.Exports
	if c.ABI == Buffer {
		if have["memory"].Kind != rewrite.Memory {
			return refuse(StepStructure, "export %q: missing, or no memory", "memory")
		}
		want = append(slices.Clone(want), Signature{Name: "alloc", Params: []string{"i32"}, Results: []string{"i32"}})
	}
	for _, w := range want {
		e, ok := have[w.Name]
		switch {
		case !ok:
			return refuse(StepStructure, "export %q: missing", clip(w.Name))
		case e.Kind != rewrite.Function:
			return refuse(StepStructure, "export %q: a %s, want a function", clip(w.Name), e.Kind)
		case !slices.Equal(typeNames(e.Params), w.Params) || !slices.Equal(typeNames(e.Results), w.Results):
			return refuse(StepStructure, "export %q: type %v -> %v, want %v -> %v", clip(w.Name),
				typeNames(e.Params), typeNames(e.Results), w.Params, w.Results)
		}
	}
	return nil
}

// validate compiles the original in an interpreter: what the rewriter adds must not make a module valid.
func (s *Sandbox) validate(ctx context.Context, c *candidate) error {
	if s.cfg.Defects.On(defect.SandboxFuelForgeable) {
		return nil
	}
	r := wazero.NewRuntimeWithConfig(ctx, s.runtimeConfig(Interpreter))
	defer func() { _ = r.Close(ctx) }() // nothing runs in it
	if err := contain(func() error { _, err := r.CompileModule(ctx, c.Wasm); return err }); err != nil {
		return refuse(StepValidation, "%s", clipLong(err.Error()))
	}
	return nil
}

func (s *Sandbox) rewrite(_ context.Context, c *candidate) (err error) {
	c.rewritten, c.info, err = rewrite.Rewrite(c.module, rewrite.Options{
		Depth: s.callDepth(), Start: true, TableEntries: MaxTableEntries, Defects: s.rewriterDefects(),
	})
	if err != nil {
		return refuse(StepRewrite, "%v", err)
	}
	return nil
}

// rewriterDefects leaves out unmetered loops: they would never end and hold up the collector. The meter
// plants that defect, with a bound.
func (s *Sandbox) rewriterDefects() defect.Set {
	names := slices.DeleteFunc(s.cfg.Defects.Names(), func(n defect.Name) bool { return n == defect.SandboxCPUUnmetered })
	return defect.Of(names...)
}

// contain turns a panic over a hostile module into an error.
func contain(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("engine: %v", p)
		}
	}()
	return do()
}

// clipLong bounds a reason to its first line.
func clipLong(text string) string {
	text, _, _ = strings.Cut(text, "\n")
	return text[:min(len(text), logBytes)]
}

func (s *Sandbox) runtimeConfig(e Engine) wazero.RuntimeConfig {
	c := wazero.NewRuntimeConfigCompiler()
	if e == Interpreter {
		c = wazero.NewRuntimeConfigInterpreter()
	}
	largest, _ := Enterprise.Quota()
	pages := largest.Pages
	if s.cfg.Defects.On(defect.SandboxInitialUnchecked) {
		pages *= 4
	}
	return c.WithCoreFeatures(api.CoreFeaturesV2).WithMemoryLimitPages(pages).WithDebugInfoEnabled(false).
		WithCloseOnContextDone(s.cfg.Defects.On(defect.SandboxStartUnmetered))
}

// callDepth is how many frames of a guest may be in use at once.
func (s *Sandbox) callDepth() uint32 {
	if s.cfg.Defects.On(defect.SandboxDepthShallow) {
		return MaxCallDepth / 10
	}
	return MaxCallDepth
}

// build admits, compiles and tries a version. It is held once, for the name that it will serve.
func (s *Sandbox) build(ctx context.Context, c *candidate) (*version, error) {
	if err := s.admit(ctx, c); err != nil {
		return nil, err
	}
	switch {
	case c.ABI == Proxy:
		return nil, refuse(StepStructure, "a proxy filter cannot be invoked")
	case c.ABI != Plain && c.ABI != Buffer:
		return nil, refuse(StepStructure, "no ABI %q", clip(string(c.ABI)))
	case c.Engine != Compiler && c.Engine != Interpreter:
		return nil, refuse(StepCompile, "no engine %q", clip(string(c.Engine)))
	case c.Engine == Interpreter && s.cfg.Defects.On(defect.SandboxInterpreterAbsent):
		return nil, refuse(StepCompile, "the engine interpreter is not there")
	}
	select {
	case s.compiling <- struct{}{}:
		defer func() { <-s.compiling }()
	case <-ctx.Done():
		return nil, fmt.Errorf("admission of %s: %w", c.name, ctx.Err())
	}
	v, err := s.compile(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := s.try(ctx, c, v); err != nil {
		v.release()
		return nil, err
	}
	return v, nil
}

// compile makes the version's runtime and compiles the rewritten module in it, from the disk cache where
// that has it. A damaged entry is a miss.
func (s *Sandbox) compile(ctx context.Context, c *candidate) (*version, error) {
	v := &version{
		sandbox: s, tenant: c.tenant, name: c.name, number: c.Version, abi: c.ABI, engine: c.Engine, info: c.info,
		pooled: (!mutates(c.Wasm) || s.cfg.Defects.On(defect.SandboxTableKept)) &&
			(!c.info.WideGlobals || s.cfg.Defects.On(defect.SandboxGlobalsKept)),
	}
	err := s.load(ctx, c, v)
	if err == nil {
		if err = v.link(ctx, v.runtime, v.compiled); err != nil {
			v.closeRuntime()
		}
	}
	if err != nil {
		return nil, refuse(StepCompile, "%s", clipLong(err.Error()))
	}
	v.refs.Store(1)
	s.versions.Add(1)
	return v, nil
}

func (s *Sandbox) load(ctx context.Context, c *candidate, v *version) error {
	if s.disk == nil || c.Engine == Interpreter { // wazero keeps nothing of the interpreter
		return s.loadFrom(ctx, c, v, nil)
	}
	sum := sha256.Sum256(c.rewritten)
	digest := hex.EncodeToString(sum[:])
	defer s.disk.lock(digest)()
	err := s.loadCached(ctx, c, v, digest)
	if !damaged(err) || s.cfg.Defects.On(defect.SandboxCacheCorruptFails) {
		return err
	}
	s.disk.corrupt.Add(1)
	v.event(EventCorrupt, digest)
	s.cfg.Logger.Warn("damaged cache entry dropped", "digest", digest, "error", err)
	if err := s.disk.drop(digest); err != nil {
		return err
	}
	return s.loadCached(ctx, c, v, digest)
}

func (s *Sandbox) loadCached(ctx context.Context, c *candidate, v *version, digest string) error {
	cache, hit, err := s.disk.open(digest)
	if err != nil {
		return err
	}
	if err := s.loadFrom(ctx, c, v, cache); err != nil {
		return err
	}
	if c.cached = hit; hit {
		s.disk.hits.Add(1)
		return nil
	}
	s.disk.misses.Add(1)
	if err := s.disk.written(digest); err != nil {
		v.closeRuntime()
		return err
	}
	return nil
}

func (s *Sandbox) loadFrom(ctx context.Context, c *candidate, v *version, cache wazero.CompilationCache) error {
	config := s.runtimeConfig(c.Engine)
	if cache != nil {
		config = config.WithCompilationCache(cache)
	}
	v.cache, v.runtime = cache, wazero.NewRuntimeWithConfig(ctx, config)
	if s.cfg.Defects.On(defect.SandboxRecursionUnmetered) {
		ctx = boundRecursion(ctx)
	}
	err := contain(func() (err error) { v.compiled, err = v.runtime.CompileModule(ctx, c.rewritten); return err })
	if err != nil {
		v.closeRuntime()
		return fmt.Errorf("compile: %w", err)
	}
	return nil
}

// try instantiates the version once, runs its canary and leaves the instance in the pool.
func (s *Sandbox) try(ctx context.Context, c *candidate, v *version) error {
	if s.cfg.Defects.On(defect.SandboxTableUnchecked) &&
		c.module.Check(rewrite.Limits{TableEntries: MaxTableEntries}) != nil {
		return nil // the planted defect admits it; nothing makes its table
	}
	turn := newTurn(v)
	if err := turn.begin(ctx); err != nil {
		return fmt.Errorf("admission of %s: %w", c.name, err)
	}
	defer turn.leave()
	i, err := v.instantiate(ctx, turn)
	if errors.Is(err, errInitialPages) {
		return err
	}
	if err != nil {
		return refuse(StepInstantiate, "%s", clipLong(err.Error()))
	}
	if c.Canary == nil || s.cfg.Defects.On(defect.SandboxCanaryIgnored) {
		v.put(i, nil)
		return nil
	}
	call := Call{Function: c.Canary.Function, Args: c.Canary.Args}
	if c.ABI == Buffer && len(call.Args) == 1 {
		if f, err := i.export(call.Function); err == nil && f.takesBuffer() {
			call.Args, call.Input = nil, []byte(c.Canary.Args[0])
		}
	}
	a, err := i.serve(ctx, call)
	v.put(i, err)
	if err != nil {
		return refuse(StepCanary, "%s", clipLong(err.Error()))
	}
	if !sameResults(c.ABI, a, c.Canary.Results) {
		return refuse(StepCanary, "function %q gave %.64q, want %.64q", clip(call.Function), shown(a), c.Canary.Results)
	}
	return nil
}

func shown(a Answer) []string {
	if len(a.Results) == 0 && a.Output != nil {
		return []string{string(a.Output[:min(len(a.Output), 64)])}
	}
	return a.Results
}
