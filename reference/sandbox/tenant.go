package sandbox

import (
	"crypto/ed25519"
	"crypto/mldsa"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/assay-bench/assay/reference/defect"
)

// tenant is a Tenant with what it runs and what that cost.
type tenant struct {
	id    string
	quota atomic.Pointer[Quota]

	running, runningMax atomic.Int64
	instances, memory   atomic.Int64
	calls, fuel, micros atomic.Int64
	allowance           allowance

	mu      sync.Mutex // guards the rest
	set     Tenant
	modules map[string]*module
	proxies map[string]uint64 // newest version of each filter
	traps   map[string]int64
	refused map[string]int64
}

// module is a name that versions of a module serve under.
type module struct {
	upload sync.Mutex // one upload at a time
	live   atomic.Pointer[version]
	newest uint64 // guarded by upload
	mixed  atomic.Pointer[mixture]
}

// mixture is the old version that answers under the new one's number; see defect.SandboxReloadMixed.
type mixture struct {
	old   *version
	until time.Time
}

// acquire returns the version that serves, held until release, or nil.
func (m *module) acquire() *version {
	for {
		v := m.live.Load()
		if v == nil || v.retain() {
			return v
		}
	}
}

// SetTenant makes a tenant or changes one; its modules stay. The error wraps ErrTenant.
func (s *Sandbox) SetTenant(id string, t Tenant) error {
	quota, ok := t.Tier.Quota()
	switch {
	case !ok:
		return fmt.Errorf("%w: no tier %q", ErrTenant, clip(string(t.Tier)))
	case !named(id):
		return fmt.Errorf("%w: name %q", ErrTenant, clip(id))
	case t.Ed25519 != nil && len(t.Ed25519) != ed25519.PublicKeySize:
		return fmt.Errorf("%w: ed25519 key has %d bytes", ErrTenant, len(t.Ed25519))
	case t.MLDSA65 != nil && t.MLDSA65.Parameters() != mldsa.MLDSA65():
		return fmt.Errorf("%w: mldsa65 key has other parameters", ErrTenant)
	}
	old, err := s.place(id, t, quota)
	if err != nil {
		return err
	}
	for _, m := range old {
		if v := m.acquire(); v != nil { // pooled instances have the old quota
			v.dropIdle()
			v.release()
		}
	}
	s.audit.add(id, "", EventTenant, string(t.Tier))
	return nil
}

// place stores the tenant and returns the modules that it had.
func (s *Sandbox) place(id string, set Tenant, quota Quota) (map[string]*module, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("set tenant %s: %w", id, ErrClosed)
	}
	t, ok := s.tenants[id]
	if !ok {
		if len(s.tenants) >= MaxTenants {
			return nil, fmt.Errorf("%w: there are %d already", ErrTenant, MaxTenants)
		}
		t = &tenant{id: id, modules: map[string]*module{}, proxies: map[string]uint64{},
			traps: map[string]int64{}, refused: map[string]int64{}}
		s.tenants[id] = t
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.set = set
	t.quota.Store(&quota)
	return maps.Clone(t.modules), nil
}

// RemoveTenant takes a tenant and all its modules out of service; calls under way end as they would have. Its
// counters go with it.
func (s *Sandbox) RemoveTenant(id string) error {
	t, err := s.tenant(id)
	if err != nil {
		return err
	}
	t.mu.Lock()
	names := slices.Collect(maps.Keys(t.modules))
	t.mu.Unlock()
	for _, name := range names {
		if err := s.Remove(id, name); err != nil && !errors.Is(err, ErrUnknown) { // another call was first
			return err
		}
	}
	s.mu.Lock()
	delete(s.tenants, id)
	s.mu.Unlock()
	s.audit.add(id, "", EventRemoved, "tenant")
	return nil
}

// named says whether a name can be signed: it is one line and short.
func named(name string) bool {
	if name == "" || len(name) > 64 {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}

func (s *Sandbox) tenant(id string) (*tenant, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t, ok := s.tenants[id]
	if !ok {
		return nil, fmt.Errorf("%w: tenant %q", ErrUnknown, clip(id))
	}
	return t, nil
}

// serving returns the version of a module that serves, held until release.
func (s *Sandbox) serving(id, name string) (*module, *version, error) {
	t, err := s.tenant(id)
	if err != nil {
		return nil, nil, err
	}
	t.mu.Lock()
	m := t.modules[name]
	t.mu.Unlock()
	if m != nil {
		if v := m.acquire(); v != nil {
			return m, v, nil
		}
	}
	return nil, nil, fmt.Errorf("%w: module %q of tenant %s", ErrUnknown, clip(name), id)
}

// enter takes one of the tier's places; leave gives it back.
func (t *tenant) enter(defects defect.Set) error {
	limit := int64(t.quota.Load().Instances)
	for {
		n := t.running.Load()
		if n >= limit && !defects.On(defect.SandboxInstancesUnlimited) {
			return &Busy{Tenant: t.id, Running: int(n)}
		}
		if t.running.CompareAndSwap(n, n+1) {
			for most := t.runningMax.Load(); n+1 > most && !t.runningMax.CompareAndSwap(most, n+1); {
				most = t.runningMax.Load()
			}
			return nil
		}
	}
}

func (t *tenant) tier() Tier {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.set.Tier
}

func (t *tenant) leave() { t.running.Add(-1) }

func (t *tenant) charge(fuel, micros int64) {
	t.calls.Add(1)
	t.fuel.Add(fuel)
	t.micros.Add(micros)
}

func (t *tenant) trapped(class string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.traps[class]++
}

func (t *tenant) refusedAt(step string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refused[step]++
}
