package sandbox

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/assay-bench/assay/fixtures/wasm"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/host"
	scenario "github.com/assay-bench/assay/scenarios/sandbox"
)

// setup begins the names of calls that have to succeed before anything can be judged.
const setup = "set "

// bench is what a drive has of a sandbox: the API, and tenants of its own with one pair of keys.
type bench struct {
	env     *scenarios.Env
	api     *scenario.API
	signer  *scenario.Signer
	version uint64 // the last one that was used
	stem    string // of the names of this drive's tenants
	tenants []string
	modules map[string][]string // by tenant
	dead    bool                // the target stopped answering: nothing more is asked of it
}

// driving makes a drive on a bench. What was published is removed at its end.
func driving(f func(context.Context, *bench) error) func(context.Context, *scenarios.Env) error {
	return func(ctx context.Context, env *scenarios.Env) error { return drive(ctx, env, f) }
}

func drive(ctx context.Context, env *scenarios.Env, f func(context.Context, *bench) error) (err error) {
	signer, err := scenario.NewSigner()
	if err != nil {
		return err
	}
	// Names and versions grow with the clock, so that a second attempt at a case, or its control, meets
	// nothing that the first left behind.
	now := uint64(env.Clock.Now() / time.Microsecond)
	b := &bench{
		env: env, api: scenario.NewAPI(env), signer: signer, version: 16 * now, modules: map[string][]string{},
		stem: plain("t"+env.Token) + "-" + strconv.FormatUint(now, 36),
	}
	defer b.api.Close()
	defer func() { err = errors.Join(err, b.leave(context.WithoutCancel(ctx))) }()
	return f(ctx, b)
}

// plain keeps of a name what every sandbox takes, at most 26 characters.
func plain(name string) string {
	name = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return -1
	}, strings.ToLower(name))
	return name[:min(len(name), 26)]
}

// leave removes what the drive published. It is done also when the drive's time is over: a sandbox has
// room for few tenants.
func (b *bench) leave(ctx context.Context) error {
	for _, t := range b.tenants {
		for _, m := range b.modules[t] {
			if b.dead {
				return nil
			}
			if c, err := b.api.Remove(ctx, "", t, m); b.note(c) != nil || err != nil {
				return err
			}
		}
		if _, err := b.api.Drop(ctx, "", t); err != nil || b.dead {
			return err
		}
	}
	return nil
}

// errDead ends a drive whose target stopped answering: what was recorded says so.
var errDead = errors.New("the target does not answer")

// note remembers that the target stopped answering.
func (b *bench) note(c scenario.Call) error {
	if !c.Answered() {
		b.dead = true
		return errDead
	}
	return nil
}

// tenant makes a tenant.
func (b *bench) tenant(ctx context.Context, tag string, tier scenario.Tier) (string, error) {
	name := b.stem + "-" + tag
	b.tenants = append(b.tenants, name)
	c, err := b.api.SetTenant(ctx, setup+"tenant "+tag, name, tier, b.signer.Keys())
	if err != nil {
		return name, err
	}
	return name, b.set(c)
}

// set ends a drive whose preparation was refused; the judge finds that in the evidence.
func (b *bench) set(c scenario.Call) error {
	if err := b.note(c); err != nil {
		return err
	}
	if !c.Good() {
		return errUnset
	}
	return nil
}

var errUnset = errors.New("the target refused what the case begins with")

// ends turns the ends of a drive that the evidence explains into none.
func ends(err error) error {
	if errors.Is(err, errDead) || errors.Is(err, errUnset) {
		return nil
	}
	return err
}

// next is a version that is greater than all before it.
func (b *bench) next() uint64 {
	b.version++
	return b.version
}

// signed makes an upload of a module as it has to be.
func (b *bench) signed(tenant, module string, code []byte) (scenario.Upload, error) {
	u := scenario.Upload{Tenant: tenant, Module: module, Wasm: code, Version: b.next(), ABI: "plain", Engine: "compiler"}
	return u, b.sign(&u)
}

// sign signs an upload anew.
func (b *bench) sign(u *scenario.Upload) (err error) {
	u.Signatures, err = b.signer.Sign(scenario.SignedBytes(u.Tenant, u.Module, u.Version, u.Wasm))
	return err
}

// try uploads and remembers the module.
func (b *bench) try(ctx context.Context, name string, u scenario.Upload) (scenario.Call, error) {
	c, err := b.api.Upload(ctx, name, u)
	if err != nil {
		return c, err
	}
	if c.Good() {
		b.modules[u.Tenant] = append(b.modules[u.Tenant], u.Module)
	}
	return c, b.note(c)
}

// publish uploads a module that has to be taken.
func (b *bench) publish(ctx context.Context, tenant, module string, code []byte, bend ...func(*scenario.Upload)) error {
	u, err := b.signed(tenant, module, code)
	if err != nil {
		return err
	}
	for _, f := range bend {
		f(&u)
	}
	c, err := b.try(ctx, setup+"upload "+module, u)
	if err != nil {
		return err
	}
	return b.set(c)
}

// serve makes a tenant with one fixture, published under the fixture's name.
func (b *bench) serve(ctx context.Context, tag string, tier scenario.Tier, guest string, bend ...func(*scenario.Upload)) (tenant string, err error) {
	if tenant, err = b.tenant(ctx, tag, tier); err != nil {
		return tenant, err
	}
	return tenant, b.publish(ctx, tenant, guest, wasm.Module(guest), bend...)
}

func interpreted(u *scenario.Upload) { u.Engine = "interpreter" }
func buffered(u *scenario.Upload)    { u.ABI = "buffer" }

// invoke calls a function; an answer of whatever kind is no error.
func (b *bench) invoke(ctx context.Context, name, tenant, module, function string, args ...string) (scenario.Call, error) {
	return b.call(ctx, name, tenant, module, scenario.Invocation{Function: function, Args: args})
}

func (b *bench) call(ctx context.Context, name, tenant, module string, in scenario.Invocation) (scenario.Call, error) {
	c, err := b.api.Invoke(ctx, name, tenant, module, in)
	if err != nil {
		return c, err
	}
	return c, b.note(c)
}

// stats reads the counters under a name.
func (b *bench) stats(ctx context.Context, name string) (scenario.Stats, error) {
	return b.api.Stats(ctx, name)
}

// Clock is the evidence of a reading of the processor time that the target's processes have used.
type Clock struct {
	Name  string        `json:"name"`
	CPU   time.Duration `json:"cpu"`
	Known bool          `json:"known"` // its processes run on this host and could be read
}

// clocked is the kind of Clock.
const clocked results.Kind = "sandbox-cpu"

// clock reads the processor time of the target's processes, where they run on this host.
func (b *bench) clock(name string) error {
	c := Clock{Name: name}
	if len(b.env.Processes) > 0 {
		if tree, err := b.env.Processes[0].Tree(); err == nil {
			c.CPU, err = host.ProcessCPU(tree)
			c.Known = err == nil
		}
	}
	return b.env.Put(results.FromHost, clocked, c)
}

// until asks for the counters, at most for three seconds, until they are as they should be. The last
// answer is recorded under the name.
func (b *bench) until(ctx context.Context, name string, fine func(scenario.Stats) bool) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for range 60 {
		s, err := b.api.Stats(ctx, "")
		if err != nil {
			return err
		}
		if _, kept := s.Tenants[b.tenants[0]]; !kept || fine(s) { // without accounts asking again is of no use
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	_, err := b.stats(ctx, name)
	return err
}
