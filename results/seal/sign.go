package seal

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/mldsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/assay-bench/assay/results"
)

// payloadType is the DSSE type of in-toto statements.
const payloadType = "application/vnd.in-toto+json"

// maxEnvelope bounds a signed statement: 100,000 names of tests.
const maxEnvelope = 16 << 20

// ErrSignature is wrapped where a signature is missing, is by another key or does not verify, and where a signed
// statement is not what the bundle comes to.
var ErrSignature = errors.New("the bundle is not signed by these keys")

// Sign writes the statements of a sealed and judged bundle, each with both signatures (DSSE v1). The same bundle and
// keys give the same bytes: Ed25519 and ML-DSA's deterministic form need no randomness.
func (s *Signer) Sign(b *results.Bundle) error {
	all, err := statements(b)
	if err != nil {
		return err
	}
	envelopes, err := dsse.NewEnvelopeSigner(s.signers()...)
	if err != nil {
		return err
	}
	for _, st := range all {
		e, err := envelopes.SignPayload(context.Background(), payloadType, st.payload)
		if err != nil {
			return fmt.Errorf("%s: %w", st.file, err)
		}
		raw, err := results.MarshalIndent(e)
		if err != nil {
			return err
		}
		if err := results.WriteFileAtomic(filepath.Join(b.Dir, st.file), raw); err != nil {
			return err
		}
	}
	return nil
}

// Signed are the statements of a bundle as they lie on disk.
type Signed struct{ payloads map[string][]byte }

// Signatures reads the statements of the bundle in dir and verifies each with both keys: one signature that is missing,
// by another key or wrong is an error, which wraps ErrSignature. Nothing of a payload is looked at.
func (k Keys) Signatures(dir string) (Signed, error) {
	s, err := read(dir, func(e *dsse.Envelope) ([]byte, error) {
		v, err := dsse.NewMultiEnvelopeVerifier(2, k.verifiers()...)
		if err != nil {
			return nil, err
		}
		accepted, payload, err := v.VerifyAndDecode(context.Background(), e)
		if err != nil {
			return nil, fmt.Errorf("%d of 2 signatures verify", len(accepted))
		}
		return payload, nil
	})
	if err == nil && s.payloads[StatementFile] == nil {
		err = fmt.Errorf("%s is missing: %w", StatementFile, ErrSignature)
	}
	return s, err
}

// Unverified reads the statements of the bundle in dir without looking at their signatures.
func Unverified(dir string) (Signed, error) {
	return read(dir, func(e *dsse.Envelope) ([]byte, error) { return e.DecodeB64Payload() })
}

func read(dir string, open func(e *dsse.Envelope) ([]byte, error)) (Signed, error) {
	s := Signed{map[string][]byte{}}
	for _, file := range statementFiles {
		raw, err := readBounded(filepath.Join(dir, file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return s, err
		}
		e, err := parseEnvelope(raw)
		if err != nil {
			return s, fmt.Errorf("%s: %w", file, err)
		}
		if s.payloads[file], err = open(e); err != nil {
			return s, fmt.Errorf("%s: %w: %w", file, err, ErrSignature)
		}
	}
	return s, nil
}

// Check compares the statements with what the bundle comes to. With must, one that is missing is an error too. Errors
// wrap ErrSignature.
func (s Signed) Check(b *results.Bundle, must bool) error {
	all, err := statements(b)
	if err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, st := range all {
		wanted[st.file] = true
		payload, there := s.payloads[st.file]
		switch {
		case !there && (must || len(s.payloads) > 0):
			return fmt.Errorf("%s is missing: %w", st.file, ErrSignature)
		case there && !bytes.Equal(payload, st.payload):
			return fmt.Errorf("%s is signed, but says something else than this bundle: %w", st.file, ErrSignature)
		}
	}
	for _, file := range statementFiles {
		if _, there := s.payloads[file]; there && !wanted[file] {
			return fmt.Errorf("%s: this bundle measures nothing: %w", file, ErrSignature)
		}
	}
	return nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxEnvelope+1))
	if err == nil && len(raw) > maxEnvelope {
		err = fmt.Errorf("%s has more than %d bytes: %w", path, maxEnvelope, ErrSignature)
	}
	return raw, err
}

// parseEnvelope reads an envelope with two signatures; what they sign is not looked at.
func parseEnvelope(raw []byte) (*dsse.Envelope, error) {
	var e dsse.Envelope
	if err := json.Unmarshal(raw, &e); err != nil {
		return nil, fmt.Errorf("not a DSSE envelope: %w: %w", err, ErrSignature)
	}
	switch {
	case e.PayloadType != payloadType:
		return nil, fmt.Errorf("payloadType is %.60q, want %q: %w", e.PayloadType, payloadType, ErrSignature)
	case len(e.Signatures) != 2:
		return nil, fmt.Errorf("%d signatures, want 2: %w", len(e.Signatures), ErrSignature)
	}
	return &e, nil
}

// key is one key as the DSSE library wants it. Its id is explicit: the library makes none for ML-DSA.
type key struct {
	id     string
	public crypto.PublicKey
	sign   func(message []byte) ([]byte, error)
	verify func(message, sig []byte) error
}

func (k key) KeyID() (string, error)                           { return k.id, nil }
func (k key) Public() crypto.PublicKey                         { return k.public }
func (k key) Sign(_ context.Context, m []byte) ([]byte, error) { return k.sign(m) }
func (k key) Verify(_ context.Context, m, sig []byte) error    { return k.verify(m, sig) }

func newKey(kind string, public crypto.PublicKey, verify func(message, sig []byte) error) key {
	sum := sha256.Sum256(spki(public))
	return key{id: kind + "-" + hex.EncodeToString(sum[:16]), public: public, verify: verify}
}

func (k Keys) both() [2]key {
	return [2]key{
		newKey("ed25519", k.ed, func(m, sig []byte) error {
			if !ed25519.Verify(k.ed, m, sig) {
				return ErrSignature
			}
			return nil
		}),
		newKey("mldsa65", k.ml, func(m, sig []byte) error { return mldsa.Verify(k.ml, m, sig, nil) }),
	}
}

func (k Keys) verifiers() (out []dsse.Verifier) {
	for _, key := range k.both() {
		out = append(out, key)
	}
	return out
}

func (s *Signer) signers() []dsse.Signer {
	both := s.Keys().both()
	both[0].sign = func(m []byte) ([]byte, error) { return ed25519.Sign(s.ed, m), nil }
	both[1].sign = func(m []byte) ([]byte, error) { return s.ml.SignDeterministic(m, nil) }
	return []dsse.Signer{both[0], both[1]}
}
