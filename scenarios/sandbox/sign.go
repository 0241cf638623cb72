package sandbox

import (
	"crypto/ed25519"
	"crypto/mldsa"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
)

// Keys are the public keys of a tenant, of which each must have signed every module.
type Keys struct {
	Ed25519 []byte `json:"ed25519,omitempty"`
	MLDSA65 []byte `json:"mldsa65,omitempty"`
}

// Signatures are those of an upload.
type Signatures struct {
	Ed25519 []byte `json:"ed25519,omitempty"`
	MLDSA65 []byte `json:"mldsa65,omitempty"`
}

// Signer holds the private keys of a tenant. They are the harness's own and live as long as a case.
type Signer struct {
	ed  ed25519.PrivateKey
	dsa *mldsa.PrivateKey
}

// NewSigner makes a pair of keys.
func NewSigner() (*Signer, error) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("tenant key: %w", err)
	}
	dsa, err := mldsa.GenerateKey(mldsa.MLDSA65())
	if err != nil {
		return nil, fmt.Errorf("tenant key: %w", err)
	}
	return &Signer{ed, dsa}, nil
}

// Keys returns the public keys.
func (s *Signer) Keys() Keys {
	return Keys{Ed25519: s.ed.Public().(ed25519.PublicKey), MLDSA65: s.dsa.PublicKey().Bytes()}
}

// Sign signs with both keys.
func (s *Signer) Sign(message []byte) (Signatures, error) {
	pq, err := s.dsa.Sign(nil, message, nil)
	if err != nil {
		return Signatures{}, fmt.Errorf("sign a module: %w", err)
	}
	return Signatures{Ed25519: ed25519.Sign(s.ed, message), MLDSA65: pq}, nil
}

// SignedBytes is what both keys of a tenant sign for a version of a module.
func SignedBytes(tenant, name string, version uint64, wasm []byte) []byte {
	return fmt.Appendf(nil, "assay-sandbox/1\n%s\n%s\n%d\n%x\n", tenant, name, version, sha256.Sum256(wasm))
}
