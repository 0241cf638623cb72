package seal

import (
	"crypto"
	"crypto/ed25519"
	"crypto/mldsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
)

// The types of the PEM blocks in the two files of a pair of keys (RFC 7468).
const (
	privateBlock = "PRIVATE KEY" // PKCS #8
	publicBlock  = "PUBLIC KEY"  // SubjectPublicKeyInfo
)

// maxKeyFile bounds a file of keys; a public one has about 2.9 kB.
const maxKeyFile = 64 << 10

// ErrKey is wrapped where a file holds no pair of keys.
var ErrKey = errors.New("want an Ed25519 and an ML-DSA-65 key in PEM, as assay keys new makes them")

// Signer holds the two private keys of a publisher. Bundles are signed with both: Ed25519 (RFC 8032) is what every tool
// verifies, ML-DSA-65 (FIPS 204) holds against a quantum computer.
type Signer struct {
	ed ed25519.PrivateKey
	ml *mldsa.PrivateKey
}

// Keys are the two public keys of a publisher.
type Keys struct {
	ed ed25519.PublicKey
	ml *mldsa.PublicKey
}

// NewSigner makes a pair of keys.
func NewSigner() (*Signer, error) {
	_, ed, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	ml, err := mldsa.GenerateKey(mldsa.MLDSA65())
	return &Signer{ed, ml}, err
}

// Keys returns the public keys.
func (s *Signer) Keys() Keys { return Keys{s.ed.Public().(ed25519.PublicKey), s.ml.PublicKey()} }

// Marshal returns the file of the private keys: two PEM blocks of PKCS #8.
func (s *Signer) Marshal() ([]byte, error) {
	return marshal(privateBlock, x509.MarshalPKCS8PrivateKey, s.ed, s.ml)
}

// Marshal returns the file of the public keys: two PEM blocks of SubjectPublicKeyInfo.
func (k Keys) Marshal() ([]byte, error) {
	return marshal(publicBlock, x509.MarshalPKIXPublicKey, k.ed, k.ml)
}

func marshal(block string, encode func(any) ([]byte, error), keys ...any) (out []byte, err error) {
	for _, key := range keys {
		der, err := encode(key)
		if err != nil {
			return nil, err
		}
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: block, Bytes: der})...)
	}
	return out, nil
}

// ParseSigner reads the file of the private keys. Errors wrap ErrKey.
func ParseSigner(file []byte) (*Signer, error) {
	s := &Signer{}
	err := parse(file, privateBlock, x509.ParsePKCS8PrivateKey, func(key any) bool {
		switch key := key.(type) {
		case ed25519.PrivateKey:
			return set(&s.ed, key, s.ed != nil)
		case *mldsa.PrivateKey:
			return key.PublicKey().Parameters() == mldsa.MLDSA65() && set(&s.ml, key, s.ml != nil)
		}
		return false
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// ParseKeys reads the file of the public keys. Errors wrap ErrKey.
func ParseKeys(file []byte) (k Keys, err error) {
	err = parse(file, publicBlock, x509.ParsePKIXPublicKey, func(key any) bool {
		switch key := key.(type) {
		case ed25519.PublicKey:
			return set(&k.ed, key, k.ed != nil)
		case *mldsa.PublicKey:
			return key.Parameters() == mldsa.MLDSA65() && set(&k.ml, key, k.ml != nil)
		}
		return false
	})
	if err != nil {
		return Keys{}, err
	}
	return k, nil
}

func set[T any](to *T, key T, twice bool) bool {
	*to = key
	return !twice
}

// parse hands each key of a file to take, which refuses what it does not want.
func parse(file []byte, want string, decode func([]byte) (any, error), take func(any) bool) error {
	if len(file) > maxKeyFile {
		return fmt.Errorf("%d bytes, at most %d: %w", len(file), maxKeyFile, ErrKey)
	}
	for n := 1; ; n++ {
		block, rest := pem.Decode(file)
		switch {
		case block == nil && n == 1:
			return fmt.Errorf("no PEM block: %w", ErrKey)
		case block == nil && n == 2: // take refuses the second of a kind: two are both
			return fmt.Errorf("one of the two keys is missing: %w", ErrKey)
		case block == nil:
			return nil
		case block.Type != want:
			return fmt.Errorf("PEM block %d is a %.40q, want a %q: %w", n, block.Type, want, ErrKey)
		}
		key, err := decode(block.Bytes)
		if err != nil {
			return fmt.Errorf("PEM block %d: %w (%w)", n, ErrKey, err)
		}
		if !take(key) {
			return fmt.Errorf("PEM block %d is of another kind, or the second of its kind: %w", n, ErrKey)
		}
		file = rest
	}
}

// Fingerprint names the pair: the SHA-256 of both SubjectPublicKeyInfos, in hex.
func (k Keys) Fingerprint() string {
	h := sha256.New()
	for _, key := range []crypto.PublicKey{k.ed, k.ml} {
		h.Write(spki(key))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// spki encodes a key that parse or generation has made, which can not fail.
func spki(key crypto.PublicKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		panic("seal: " + err.Error())
	}
	return der
}
