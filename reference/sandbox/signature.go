package sandbox

import (
	"crypto/ed25519"
	"crypto/mldsa"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"sync"

	"github.com/assay-bench/assay/reference/defect"
)

// SignedBytes are what a tenant's keys sign: the module by its digest, for one name, version and tenant.
func SignedBytes(tenant, name string, version uint64, wasm []byte) []byte {
	digest := sha256.Sum256(wasm)
	return scope{tenant, name, version}.signed(hex.EncodeToString(digest[:]))
}

// scope is what a signature is good for.
type scope struct {
	tenant, name string
	version      uint64
}

func (c scope) signed(digest string) []byte {
	return []byte("assay-sandbox/1\n" + c.tenant + "\n" + c.name + "\n" +
		strconv.FormatUint(c.version, 10) + "\n" + digest + "\n")
}

// scopes are those that uploads have named, newest last; kept only with defect.SandboxScopeUnchecked.
type scopes struct {
	mu   sync.Mutex
	seen []scope
}

func (s *scopes) add(c scope) []scope {
	const most = 256
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.seen) == most {
		s.seen = slices.Delete(s.seen, 0, 1)
	}
	s.seen = append(s.seen, c)
	return slices.Clone(s.seen)
}

// verify checks that every key of the tenant signed the module in this scope.
func (s *Sandbox) verify(t Tenant, c scope, digest string, given Signatures) error {
	if t.Ed25519 == nil && t.MLDSA65 == nil {
		return refuse(StepSignature, "tenant %s has no key", c.tenant)
	}
	accepted := []scope{c}
	if s.cfg.Defects.On(defect.SandboxScopeUnchecked) {
		accepted = s.scopes.add(c)
	}
	signedBy := func(check func(message []byte) bool) bool {
		return s.cfg.Defects.On(defect.SandboxSignatureUnchecked) ||
			slices.ContainsFunc(accepted, func(c scope) bool { return check(c.signed(digest)) })
	}
	for _, key := range []struct {
		name      string
		set       bool
		signature []byte
		check     func(message []byte) bool
	}{
		{"ed25519", t.Ed25519 != nil, given.Ed25519, func(m []byte) bool {
			return ed25519.Verify(t.Ed25519, m, given.Ed25519)
		}},
		{"mldsa65", t.MLDSA65 != nil, given.MLDSA65, func(m []byte) bool {
			return mldsa.Verify(t.MLDSA65, m, given.MLDSA65, nil) == nil
		}},
	} {
		switch {
		case !key.set:
		case len(key.signature) == 0:
			if !s.cfg.Defects.On(defect.SandboxUnsignedTaken) {
				return refuse(StepSignature, "no %s signature", key.name)
			}
		case !signedBy(key.check):
			return refuse(StepSignature, "%s signature does not fit module, tenant, name and version", key.name)
		}
	}
	return nil
}
