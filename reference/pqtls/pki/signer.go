package pki

import (
	"crypto"
	"crypto/mldsa"
	"errors"
	"fmt"
	"io"

	"github.com/cloudflare/circl/sign/mldsa/mldsa44"
	"github.com/cloudflare/circl/sign/mldsa/mldsa65"
	"github.com/cloudflare/circl/sign/mldsa/mldsa87"
)

// NewMLDSASigner returns the standard library's key for a seed of 32 bytes.
func NewMLDSASigner(parameters mldsa.Parameters, seed []byte) (crypto.Signer, error) {
	key, err := mldsa.NewPrivateKey(parameters, seed)
	if err != nil {
		return nil, fmt.Errorf("pki: %v key: %w", parameters, err)
	}
	return key, nil
}

// CirclSigner is an ML-DSA key that signs with circl, which takes about a third of the time of the
// standard library. Its public key is the standard library's, so that crypto/tls and crypto/x509 take
// it for one of theirs.
type CirclSigner struct {
	std  *mldsa.PrivateKey
	sign func(message, context []byte) ([]byte, error)
}

// NewCirclSigner returns a circl-backed key for a seed of 32 bytes, the same key as NewMLDSASigner's.
func NewCirclSigner(parameters mldsa.Parameters, seed []byte) (*CirclSigner, error) {
	std, err := mldsa.NewPrivateKey(parameters, seed)
	if err != nil {
		return nil, fmt.Errorf("pki: %v key: %w", parameters, err)
	}
	s := [32]byte(seed)
	switch parameters {
	case mldsa.MLDSA44():
		_, key := mldsa44.NewKeyFromSeed(&s)
		return &CirclSigner{std, func(m, ctx []byte) ([]byte, error) {
			sig := make([]byte, mldsa44.SignatureSize)
			return sig, mldsa44.SignTo(key, m, ctx, true, sig)
		}}, nil
	case mldsa.MLDSA65():
		_, key := mldsa65.NewKeyFromSeed(&s)
		return &CirclSigner{std, func(m, ctx []byte) ([]byte, error) {
			sig := make([]byte, mldsa65.SignatureSize)
			return sig, mldsa65.SignTo(key, m, ctx, true, sig)
		}}, nil
	case mldsa.MLDSA87():
		_, key := mldsa87.NewKeyFromSeed(&s)
		return &CirclSigner{std, func(m, ctx []byte) ([]byte, error) {
			sig := make([]byte, mldsa87.SignatureSize)
			return sig, mldsa87.SignTo(key, m, ctx, true, sig)
		}}, nil
	}
	return nil, fmt.Errorf("pki: circl has no %v", parameters)
}

// Public returns a *mldsa.PublicKey.
func (s *CirclSigner) Public() crypto.PublicKey { return s.std.Public() }

// Seed returns the 32 bytes from which the key is made.
func (s *CirclSigner) Seed() []byte { return s.std.Bytes() }

// Sign signs a message, not its hash (RFC 9881 section 3), with fresh randomness. The context string
// of *mldsa.Options is honoured.
func (s *CirclSigner) Sign(_ io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts != nil && opts.HashFunc() != 0 {
		return nil, errors.New("pki: this ML-DSA key signs messages only, no hashes and no mu")
	}
	var context []byte
	if o, ok := opts.(*mldsa.Options); ok && o != nil {
		context = []byte(o.Context)
	}
	return s.sign(message, context)
}
