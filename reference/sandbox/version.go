package sandbox

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/sandbox/rewrite"
)

// recycledPause is how long a view is held while its buffer serves others; see defect.SandboxViewRecycled.
const recycledPause = 30 * time.Millisecond

// version is one compiled version of a module with its pool. It lives as long as someone holds it: the name
// that it serves under, and every call.
type version struct {
	sandbox *Sandbox
	tenant  *tenant
	name    string
	number  uint64
	abi     ABI
	engine  Engine
	info    rewrite.Info

	runtime  wazero.Runtime
	cache    wazero.CompilationCache // nil without one
	compiled wazero.CompiledModule

	refs     atomic.Int64
	replaced atomic.Bool
	cut      atomic.Bool // calls in flight have to end

	mu       sync.Mutex // guards the rest
	idle     []*instance
	snapshot *snapshot // written before the version is published
	pooled   bool
}

func (v *version) defects() defect.Set { return v.sandbox.cfg.Defects }

func (v *version) event(event, detail string) {
	v.sandbox.audit.add(v.tenant.id, v.name, event, detail)
}

// hidden says whether an export belongs to the rewriter.
func (v *version) hidden(name string) bool { return strings.HasPrefix(name, "__assay_") }

// retain fails once nobody holds the version.
func (v *version) retain() bool {
	for {
		n := v.refs.Load()
		if n == 0 {
			return false
		}
		if v.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release frees the version when it was the last hold.
func (v *version) release() {
	if v.refs.Add(-1) > 0 {
		return
	}
	v.dropIdle()
	v.closeRuntime()
	if v.replaced.Load() {
		v.event(EventDrained, fmt.Sprintf("version %d", v.number))
	}
	v.sandbox.versions.Done()
}

func (v *version) closeRuntime() {
	ctx := context.Background()
	if v.runtime != nil {
		_ = v.runtime.Close(ctx) // all instances are closed: nothing can fail
	}
	if v.cache != nil {
		_ = v.cache.Close(ctx) // likewise
	}
}

// replace ends the version's service; calls in flight go on.
func (v *version) replace() {
	v.replaced.Store(true)
	if v.defects().On(defect.SandboxReloadDrops) {
		v.cut.Store(true)
	}
	v.dropIdle()
	v.release()
}

func (v *version) dropIdle() {
	v.mu.Lock()
	idle := v.idle
	v.idle = nil
	v.mu.Unlock()
	for _, i := range idle {
		i.close()
	}
}

// take returns an instance in its first state.
func (v *version) take(ctx context.Context, turn *turn) (*instance, error) {
	v.mu.Lock()
	if n := len(v.idle); n > 0 {
		i := v.idle[n-1]
		v.idle = v.idle[:n-1]
		v.mu.Unlock()
		return i, nil
	}
	v.mu.Unlock()
	i, err := v.instantiate(ctx, turn)
	if errors.Is(err, errInitialPages) {
		return nil, &Trap{Class: ClassQuota, Text: err.Error()}
	}
	return i, err
}

// put takes an instance back after a call that ended with err: into the pool when it can be made equal to a
// fresh one, else it is closed.
func (v *version) put(i *instance, err error) {
	v.sandbox.spare.leave(i.linear.buf)
	why := v.unfit(i, err)
	if why == "" && v.keep(i) {
		return
	}
	if why != "" {
		v.event(EventDiscarded, i.id+": "+why)
	}
	i.close()
}

// unfit says why an instance cannot be reused, or resets it and says nothing.
func (v *version) unfit(i *instance, err error) string {
	d := v.defects()
	if trap, ok := errors.AsType[*Trap](err); ok && trap.Class != ClassGuest {
		fuel := strings.HasPrefix(trap.Text, "fuel exhausted") || trap.Class == ClassDeadline
		kept := fuel && d.On(defect.SandboxFuelKeepsInstance) || !fuel && d.On(defect.SandboxTrappedReused)
		if !kept || i.mod.IsClosed() {
			return "it trapped: " + trap.Class
		}
		i.restore(v.snapshot)
		return ""
	}
	if !i.reset() {
		return "its memory grew or its descriptors changed"
	}
	return ""
}

// linearQuota is how many bytes the memory of an instance may have.
func (v *version) linearQuota() uint64 {
	pages := v.tenant.quota.Load().Pages
	if v.defects().On(defect.SandboxPagesUnlimited) {
		largest, _ := Enterprise.Quota()
		pages = largest.Pages
	}
	if v.defects().On(defect.SandboxPagesHalved) {
		pages /= 2
	}
	return uint64(pages) * pageBytes
}

// keep puts an instance into the pool unless that is full or closed.
func (v *version) keep(i *instance) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.sandbox
	if !v.pooled || s.cfg.Unpooled || s.spare.shared || s.spare.recycled || v.replaced.Load() ||
		i.linear.quota != v.linearQuota() || len(v.idle) >= v.tenant.quota.Load().Instances {
		return false
	}
	i.waited = true
	v.idle = append(v.idle, i)
	return true
}

// call runs one call on an instance of its own.
func (v *version) call(ctx context.Context, c Call) (Answer, error) {
	turn := newTurn(v)
	if err := turn.begin(ctx); err != nil {
		return Answer{}, v.noted(&Trap{Class: ClassDeadline, Text: err.Error()})
	}
	defer turn.leave()
	i, err := v.take(ctx, turn)
	if err != nil {
		return Answer{}, v.noted(err)
	}
	i.meter.turn = turn
	a, err := i.serve(ctx, c)
	v.put(i, err)
	if v.sandbox.spare.recycled {
		time.Sleep(recycledPause)
	}
	return a, v.noted(err)
}

// noted counts a trap.
func (v *version) noted(err error) error {
	if trap, ok := errors.AsType[*Trap](err); ok {
		v.tenant.trapped(trap.Class)
		v.event(EventTrap, trap.Error())
	}
	return err
}
