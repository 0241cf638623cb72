package face

import (
	"cmp"
	"crypto/ed25519"
	"crypto/mldsa"
	"net/http"
	"strconv"

	"github.com/assay-bench/assay/reference/sandbox"
)

// tenantRequest is the body of PUT /tenants/{tenant}.
type tenantRequest struct {
	Tier sandbox.Tier `json:"tier"`
	Keys signatures   `json:"keys"`
}

// signatures are bytes a scheme: public keys or signatures.
type signatures struct {
	Ed25519 []byte `json:"ed25519"`
	MLDSA65 []byte `json:"mldsa65"`
}

type tenantAnswer struct {
	Tenant string       `json:"tenant"`
	Tier   sandbox.Tier `json:"tier"`
}

func (f *Face) setTenant(r *http.Request, q *tenantRequest) (any, error) {
	id, err := name("tenant", r.PathValue("tenant"))
	if err != nil {
		return nil, err
	}
	tenant, err := q.tenant()
	if err != nil {
		return nil, err
	}
	box, err := f.core.tenants()
	if err != nil {
		return nil, err
	}
	return tenantAnswer{id, q.Tier}, box.SetTenant(id, tenant)
}

func (q *tenantRequest) tenant() (sandbox.Tenant, error) {
	t := sandbox.Tenant{Tier: q.Tier}
	if _, ok := q.Tier.Quota(); !ok {
		return t, bad("tier is %.32q, want free, pro or enterprise", q.Tier)
	}
	if n := len(q.Keys.Ed25519); n != 0 {
		if n != ed25519.PublicKeySize {
			return t, bad("keys.ed25519 has %d bytes, want %d", n, ed25519.PublicKeySize)
		}
		t.Ed25519 = q.Keys.Ed25519
	}
	if len(q.Keys.MLDSA65) != 0 {
		key, err := mldsa.NewPublicKey(mldsa.MLDSA65(), q.Keys.MLDSA65)
		if err != nil {
			return t, bad("keys.mldsa65: %v", err)
		}
		t.MLDSA65 = key
	}
	return t, nil
}

// uploadRequest is the body of PUT /tenants/{tenant}/modules/{module}.
type uploadRequest struct {
	Wasm       []byte              `json:"wasm"`
	Version    uint64              `json:"version"`
	ABI        sandbox.ABI         `json:"abi"`
	Engine     sandbox.Engine      `json:"engine"`
	Exports    []sandbox.Signature `json:"exports"`
	Signatures signatures          `json:"signatures"`
	Canary     *sandbox.Canary     `json:"canary"`
}

func (f *Face) publish(r *http.Request, q *uploadRequest) (any, error) {
	tenant, module, err := names(r)
	if err != nil {
		return nil, err
	}
	upload, err := q.upload()
	if err != nil {
		return nil, err
	}
	box, err := f.core.tenants()
	if err != nil {
		return nil, err
	}
	return box.Upload(r.Context(), tenant, module, upload)
}

func (q *uploadRequest) upload() (sandbox.Upload, error) {
	u := sandbox.Upload{
		Wasm: q.Wasm, Version: q.Version, ABI: cmp.Or(q.ABI, sandbox.Plain), Engine: cmp.Or(q.Engine, sandbox.Compiler),
		Exports: q.Exports, Signatures: sandbox.Signatures(q.Signatures), Canary: q.Canary,
	}
	switch u.ABI {
	case sandbox.Plain, sandbox.Buffer, sandbox.Proxy:
	default:
		return u, bad("abi is %.32q, want plain, buffer or proxy", u.ABI)
	}
	switch u.Engine {
	case sandbox.Compiler, sandbox.Interpreter:
	default:
		return u, bad("engine is %.32q, want compiler or interpreter", u.Engine)
	}
	return u, nil
}

// names takes tenant and module out of the path.
func names(r *http.Request) (tenant, module string, err error) {
	if tenant, err = name("tenant", r.PathValue("tenant")); err != nil {
		return "", "", err
	}
	module, err = name("module", r.PathValue("module"))
	return tenant, module, err
}

func (f *Face) remove(r *http.Request) (any, error) {
	tenant, module, err := names(r)
	if err != nil {
		return nil, err
	}
	box, err := f.core.tenants()
	if err != nil {
		return nil, err
	}
	return nil, box.Remove(tenant, module)
}

func (f *Face) removeTenant(r *http.Request) (any, error) {
	tenant, err := name("tenant", r.PathValue("tenant"))
	if err != nil {
		return nil, err
	}
	box, err := f.core.tenants()
	if err != nil {
		return nil, err
	}
	return nil, box.RemoveTenant(tenant)
}

// callRequest is the body of POST /tenants/{tenant}/modules/{module}/invoke.
type callRequest struct {
	Function string   `json:"function"`
	Args     []string `json:"args"`
	Input    []byte   `json:"input"`
}

func (f *Face) invoke(r *http.Request, q *callRequest) (any, error) {
	tenant, module, err := names(r)
	if err != nil {
		return nil, err
	}
	if q.Function == "" {
		return nil, bad("function is empty")
	}
	box, err := f.core.tenants()
	if err != nil {
		return nil, err
	}
	return box.Invoke(r.Context(), tenant, module, sandbox.Call(*q))
}

func (f *Face) stats(*http.Request) (any, error) {
	box, err := f.core.tenants()
	if err != nil {
		return nil, err
	}
	return box.Stats(), nil
}

type auditAnswer struct {
	Events []sandbox.Event `json:"events"`
}

func (f *Face) audit(r *http.Request) (any, error) {
	var since uint64
	if text := r.FormValue("since"); text != "" {
		var err error
		if since, err = strconv.ParseUint(text, 10, 64); err != nil {
			return nil, bad("since is %.32q, want the number of an event", text)
		}
	}
	box, err := f.core.tenants()
	if err != nil {
		return nil, err
	}
	return auditAnswer{box.Audit(since)}, nil
}

type collectAnswer struct {
	PauseMicros int64 `json:"pauseMicros"`
}

// collect runs the collector: how long that takes tells how long a guest kept the world from stopping.
func (f *Face) collect(*http.Request) (any, error) {
	return collectAnswer{sandbox.Collect().Microseconds()}, nil
}
