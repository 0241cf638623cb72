// Package manifest says which model files may be loaded: a list of names and digests, signed by two keys of
// different kinds. It opens no files and makes no keys.
//
// The file is a DSSE envelope (github.com/secure-systems-lab/dsse, protocol 1.0.2) with a signature over its
// payload of each kind of key that the signer has, Ed25519 and ML-DSA-65 (FIPS 204): the first is what
// everybody has, the second holds against a quantum computer. Whoever trusts both keys demands both.
package manifest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/mldsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// The bounds of a manifest's file.
const (
	MaxBytes  = 1 << 20
	MaxModels = 1 << 10
)

// payloadType is the DSSE type of what is signed.
const payloadType = "application/vnd.assay.models+json"

// The names of the signatures.
const (
	keyEd25519 = "ed25519"
	keyMLDSA65 = "mldsa65"
)

// ErrFormat is wrapped where the bytes are no manifest.
var ErrFormat = errors.New("not a manifest of models")

// ErrSignature is wrapped where a signature is missing or does not verify.
var ErrSignature = errors.New("signature of the manifest")

// ErrNotListed is wrapped where a model is not what the manifest lists.
var ErrNotListed = errors.New("model is not in the manifest")

// Model is a model file that may be loaded.
type Model struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	SHA256  string `json:"sha256"` // of the file, lower-case hex
	Bytes   int64  `json:"bytes"`
	Licence string `json:"licence"` // SPDX expression
	Source  string `json:"source"`  // what it was made from, in a line
}

// Manifest lists models, by name.
type Manifest struct {
	Models []Model `json:"models"`
}

// Keys are what a manifest is verified with. One may be missing; each that is there must have signed.
type Keys struct {
	Ed25519 ed25519.PublicKey
	MLDSA65 *mldsa.PublicKey
}

// Signer holds the private keys. It signs with each that is there.
type Signer struct {
	Ed25519 ed25519.PrivateKey
	MLDSA65 *mldsa.PrivateKey
}

type envelope struct {
	PayloadType string      `json:"payloadType"`
	Payload     []byte      `json:"payload"`
	Signatures  []signature `json:"signatures"`
}

type signature struct {
	KeyID string `json:"keyid"`
	Sig   []byte `json:"sig"`
}

// Describe returns the entry of a model file.
func Describe(name, version, licence, source string, file []byte) Model {
	sum := sha256.Sum256(file)
	return Model{Name: name, Version: version, SHA256: hex.EncodeToString(sum[:]), Bytes: int64(len(file)), Licence: licence, Source: source}
}

// Sign returns the manifest as a signed file. The same manifest and keys give the same bytes: ML-DSA signs
// in its deterministic form. Errors wrap ErrFormat.
func (s Signer) Sign(m Manifest) ([]byte, error) {
	m.Models = slices.Clone(m.Models)
	slices.SortFunc(m.Models, func(a, b Model) int { return strings.Compare(a.Name, b.Name) })
	if err := m.check(); err != nil {
		return nil, err
	}
	payload, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	e, signed := envelope{PayloadType: payloadType, Payload: payload}, preAuth(payload)
	if s.Ed25519 != nil {
		e.Signatures = append(e.Signatures, signature{keyEd25519, ed25519.Sign(s.Ed25519, signed)})
	}
	if s.MLDSA65 != nil {
		sig, err := s.MLDSA65.SignDeterministic(signed, nil)
		if err != nil {
			return nil, err
		}
		e.Signatures = append(e.Signatures, signature{keyMLDSA65, sig})
	}
	if len(e.Signatures) == 0 {
		return nil, fmt.Errorf("%w: no key to sign with", ErrSignature)
	}
	out, err := json.MarshalIndent(e, "", "  ")
	return append(out, '\n'), err
}

// Public returns the keys that verify what s signs.
func (s Signer) Public() Keys {
	var k Keys
	if s.Ed25519 != nil {
		k.Ed25519 = s.Ed25519.Public().(ed25519.PublicKey)
	}
	if s.MLDSA65 != nil {
		k.MLDSA65 = s.MLDSA65.PublicKey()
	}
	return k
}

// preAuth is DSSE's pre-authentication encoding.
func preAuth(payload []byte) []byte {
	head := "DSSEv1 " + strconv.Itoa(len(payloadType)) + " " + payloadType + " " + strconv.Itoa(len(payload)) + " "
	return append([]byte(head), payload...)
}

// Open verifies a signed file and returns what it lists. Errors wrap ErrSignature or ErrFormat; nothing of
// the payload is read before every key that is there has verified.
func Open(file []byte, keys Keys) (*Manifest, error) {
	if keys.Ed25519 == nil && keys.MLDSA65 == nil {
		return nil, fmt.Errorf("%w: no key to verify with", ErrSignature)
	}
	if n := len(keys.Ed25519); n != 0 && n != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%w: an %s key of %d bytes, want %d", ErrSignature, keyEd25519, n, ed25519.PublicKeySize)
	}
	if len(file) > MaxBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrFormat, len(file), MaxBytes)
	}
	var e envelope
	if err := strict(file, &e); err != nil {
		return nil, err
	}
	if e.PayloadType != payloadType {
		return nil, fmt.Errorf("%w: the payload's type is %q, want %q", ErrFormat, e.PayloadType, payloadType)
	}
	signed := preAuth(e.Payload)
	if keys.Ed25519 != nil {
		if err := e.verify(keyEd25519, func(sig []byte) bool { return ed25519.Verify(keys.Ed25519, signed, sig) }); err != nil {
			return nil, err
		}
	}
	if keys.MLDSA65 != nil {
		if err := e.verify(keyMLDSA65, func(sig []byte) bool { return mldsa.Verify(keys.MLDSA65, signed, sig, nil) == nil }); err != nil {
			return nil, err
		}
	}
	m := &Manifest{}
	if err := strict(e.Payload, m); err != nil {
		return nil, err
	}
	return m, m.check()
}

// verify demands exactly one signature of a name, and that it holds.
func (e *envelope) verify(keyID string, holds func([]byte) bool) error {
	found := 0
	for _, s := range e.Signatures {
		if s.KeyID != keyID {
			continue
		}
		if found++; !holds(s.Sig) {
			return fmt.Errorf("%w: %s does not verify", ErrSignature, keyID)
		}
	}
	if found != 1 {
		return fmt.Errorf("%w: %d of %s, want 1", ErrSignature, found, keyID)
	}
	return nil
}

// strict decodes one JSON value without unknown fields.
func strict(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%w: offset %d: %w", ErrFormat, d.InputOffset(), err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: offset %d: more than one value", ErrFormat, d.InputOffset())
	}
	return nil
}

func (m *Manifest) check() error {
	if len(m.Models) == 0 || len(m.Models) > MaxModels {
		return fmt.Errorf("%w: %d models, want 1 to %d", ErrFormat, len(m.Models), MaxModels)
	}
	for i, x := range m.Models {
		digest, err := hex.DecodeString(x.SHA256)
		switch {
		case x.Name == "":
			return fmt.Errorf("%w: model %d has no name", ErrFormat, i)
		case i > 0 && m.Models[i-1].Name >= x.Name:
			return fmt.Errorf("%w: model %q is there twice or out of order", ErrFormat, x.Name)
		case err != nil || len(digest) != sha256.Size || strings.ToLower(x.SHA256) != x.SHA256:
			return fmt.Errorf("%w: model %q: sha256 is %q, want 64 lower-case hex digits", ErrFormat, x.Name, x.SHA256)
		}
	}
	return nil
}

// Check returns nil if the file is the model of that name. Errors wrap ErrNotListed and say whether the name
// is missing or the digest differs.
func (m *Manifest) Check(name string, file []byte) error {
	i := slices.IndexFunc(m.Models, func(x Model) bool { return x.Name == name })
	if i < 0 {
		return fmt.Errorf("%w: no model %q", ErrNotListed, name)
	}
	sum := sha256.Sum256(file)
	if got := hex.EncodeToString(sum[:]); got != m.Models[i].SHA256 {
		return fmt.Errorf("%w: %q has the digest %s, the manifest says %s", ErrNotListed, name, got, m.Models[i].SHA256)
	}
	return nil
}

// Find returns the entry of a digest (lower-case hex), for a model that is known by nothing else.
func (m *Manifest) Find(digest string) (Model, bool) {
	i := slices.IndexFunc(m.Models, func(x Model) bool { return x.SHA256 == digest })
	if i < 0 {
		return Model{}, false
	}
	return m.Models[i], true
}

// keysFile is Keys as they are written down.
type keysFile struct {
	Ed25519 []byte `json:"ed25519,omitempty"`
	MLDSA65 []byte `json:"mldsa65,omitempty"`
}

// MarshalJSON writes the public keys in base64.
func (k Keys) MarshalJSON() ([]byte, error) {
	f := keysFile{Ed25519: k.Ed25519}
	if k.MLDSA65 != nil {
		f.MLDSA65 = k.MLDSA65.Bytes()
	}
	return json.Marshal(f)
}

// UnmarshalJSON reads the public keys. Errors wrap ErrFormat; no key at all is one.
func (k *Keys) UnmarshalJSON(b []byte) error {
	var f keysFile
	if err := strict(b, &f); err != nil {
		return err
	}
	if n := len(f.Ed25519); (n == 0 && len(f.MLDSA65) == 0) || (n != 0 && n != ed25519.PublicKeySize) {
		return fmt.Errorf("%w: an ed25519 key of %d bytes and an mldsa65 key of %d", ErrFormat, n, len(f.MLDSA65))
	}
	*k = Keys{Ed25519: f.Ed25519}
	if len(f.MLDSA65) == 0 {
		return nil
	}
	var err error
	if k.MLDSA65, err = mldsa.NewPublicKey(mldsa.MLDSA65(), f.MLDSA65); err != nil {
		return fmt.Errorf("%w: mldsa65 key: %w", ErrFormat, err)
	}
	return nil
}
