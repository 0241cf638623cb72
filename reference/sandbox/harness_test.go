package sandbox

import (
	"context"
	"crypto/ed25519"
	"crypto/mldsa"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/assay-bench/assay/fixtures/wasm"
	"github.com/assay-bench/assay/models/engine"
	"github.com/assay-bench/assay/reference/defect"
)

// rig is a sandbox with a tenant a tier, all with the same keys.
type rig struct {
	*Sandbox
	tb    testing.TB
	ed    ed25519.PrivateKey
	ml    *mldsa.PrivateKey
	last  uint64
	tiers []Tier

	edOnly bool // sign with Ed25519 alone, for tenants without the other key
}

func newRig(tb testing.TB, cfg Config) *rig {
	tb.Helper()
	if cfg.Dir == "" {
		cfg.Dir = filepath.Join(tb.TempDir(), "cache")
	}
	s, err := New(tb.Context(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			tb.Error(err)
		}
	})
	return newRigOn(tb, s)
}

func newRigOn(tb testing.TB, s *Sandbox) *rig {
	tb.Helper()
	var err error
	r := &rig{Sandbox: s, tb: tb, tiers: []Tier{Free, Pro, Enterprise}}
	r.ed = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	if r.ml, err = mldsa.NewPrivateKey(mldsa.MLDSA65(), make([]byte, mldsa.PrivateKeySize)); err != nil {
		tb.Fatal(err)
	}
	for _, tier := range r.tiers {
		r.tenant(string(tier), tier)
	}
	return r
}

func (r *rig) tenant(id string, tier Tier) {
	r.tb.Helper()
	err := r.SetTenant(id, Tenant{Tier: tier, Ed25519: r.ed.Public().(ed25519.PublicKey), MLDSA65: r.ml.PublicKey()})
	if err != nil {
		r.tb.Fatal(err)
	}
}

// sign fills in the version, where it is 0, and the signatures.
func (r *rig) sign(tenant, name string, u Upload) Upload {
	r.tb.Helper()
	if u.Version == 0 {
		r.last++
		u.Version = r.last
	}
	message := SignedBytes(tenant, name, u.Version, u.Wasm)
	u.Signatures.Ed25519 = ed25519.Sign(r.ed, message)
	if r.edOnly {
		return u
	}
	signed, err := r.ml.SignDeterministic(message, nil)
	if err != nil {
		r.tb.Fatal(err)
	}
	u.Signatures.MLDSA65 = signed
	return u
}

func (r *rig) try(tenant, name string, u Upload) (Published, error) {
	r.tb.Helper()
	return r.Upload(r.tb.Context(), tenant, name, r.sign(tenant, name, u))
}

// publish uploads a guest under its own name.
func (r *rig) publish(tenant, guest string, u Upload) Published {
	r.tb.Helper()
	u.Wasm = wasm.Module(guest)
	p, err := r.try(tenant, guest, u)
	if err != nil {
		r.tb.Fatalf("%s: %v", guest, err)
	}
	return p
}

func (r *rig) call(tenant, guest, function string, args ...string) (Answer, error) {
	r.tb.Helper()
	return r.Invoke(r.tb.Context(), tenant, guest, Call{Function: function, Args: args})
}

// result is the one result of a call that has to succeed.
func (r *rig) result(tenant, guest, function string, args ...string) string {
	r.tb.Helper()
	a, err := r.call(tenant, guest, function, args...)
	if err != nil || len(a.Results) != 1 {
		r.tb.Fatalf("%s %s %v: %v, %v", guest, function, args, a.Results, err)
	}
	return a.Results[0]
}

// class is the class of a call that has to trap.
func class(tb testing.TB, err error) string {
	tb.Helper()
	trap, ok := errors.AsType[*Trap](err)
	if !ok {
		tb.Fatalf("got %v, want a trap", err)
	}
	return trap.Class
}

// step is the step of an upload that has to be refused.
func step(tb testing.TB, err error) string {
	tb.Helper()
	r, ok := errors.AsType[*Refusal](err)
	if !ok {
		tb.Fatalf("got %v, want a refusal", err)
	}
	return r.Step
}

func bad(names ...defect.Name) Config { return Config{Defects: defect.Of(names...)} }

// oneModel is the model that the guest nn asks for.
type oneModel struct{ engine.Model }

func (m oneModel) Find(name string) (engine.Model, bool) { return m.Model, name == m.Name() }

func linear43() oneModel {
	w := make([][]float32, 4)
	for i := range w {
		for j := range 3 {
			w[i] = append(w[i], float32((i+1)*(j+1))/10)
		}
	}
	return oneModel{engine.NewLinear("linear-4x3", w, []float32{0, 1, 2})}
}
