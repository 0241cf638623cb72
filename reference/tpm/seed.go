package tpm

import (
	"context"
	"crypto"
	"crypto/mldsa"
	"fmt"
	"io"
	"time"
)

// SealSeed seals the 32-byte seed of an ML-DSA key under the present PCR values. The seed is the whole
// private key (FIPS 204 section 6.1).
func (d *Device) SealSeed(ctx context.Context, seed []byte) (Blob, error) {
	if len(seed) != mldsa.PrivateKeySize {
		return Blob{}, &Error{Code: CodeLimit, Op: "seal seed", Err: fmt.Errorf("%d bytes", len(seed))}
	}
	return d.Seal(ctx, seed)
}

// OpenSeed returns a signer whose private key exists only while it signs. It opens the seed once, to
// learn the public key and to show that it can be opened.
func (d *Device) OpenSeed(ctx context.Context, blob Blob, params mldsa.Parameters) (*SeedSigner, error) {
	signer := &SeedSigner{device: d, blob: blob, params: params, deadline: d.cfg.Deadline}
	key, err := signer.open(ctx)
	if err != nil {
		return nil, err
	}
	signer.public = key.PublicKey()
	return signer, nil
}

// SeedSigner is a crypto.Signer over a sealed ML-DSA seed. Each signature opens the seed in the TPM
// and forgets it afterwards.
type SeedSigner struct {
	device   *Device
	blob     Blob
	params   mldsa.Parameters
	public   *mldsa.PublicKey
	deadline time.Duration
}

// Public returns the *mldsa.PublicKey.
func (s *SeedSigner) Public() crypto.PublicKey { return s.public }

// Sign signs message, which is not hashed before: opts.HashFunc() must be 0.
func (s *SeedSigner) Sign(random io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	key, err := s.open(context.Background()) // crypto.Signer has no context; the device's deadline holds
	if err != nil {
		return nil, err
	}
	return key.Sign(random, message, opts)
}

func (s *SeedSigner) open(ctx context.Context) (*mldsa.PrivateKey, error) {
	seed, err := s.device.Unseal(ctx, s.blob)
	if err != nil {
		return nil, err
	}
	defer clear(seed)
	key, err := mldsa.NewPrivateKey(s.params, seed)
	if err != nil {
		return nil, &Error{Code: CodeTampered, Op: "open seed", Err: err}
	}
	return key, nil
}
