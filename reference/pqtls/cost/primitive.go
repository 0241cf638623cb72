package cost

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/mldsa"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/cloudflare/circl/kem"
	circlkem "github.com/cloudflare/circl/kem/mlkem/mlkem768"
	circldsa "github.com/cloudflare/circl/sign/mldsa/mldsa65"
)

// Primitive is what one operation costs, beside the same one of a second implementation where there is one.
type Primitive struct {
	Name  string        `json:"name"`
	N     int           `json:"n"`
	P10   time.Duration `json:"p10Nanos"`
	P50   time.Duration `json:"p50Nanos"`
	P90   time.Duration `json:"p90Nanos"`
	Circl time.Duration `json:"circlP50Nanos,omitempty"`
}

// Ratio is how many times slower the standard library is; 0 where nothing else was measured.
func (p Primitive) Ratio() float64 {
	if p.Circl == 0 {
		return 0
	}
	return float64(p.P50) / float64(p.Circl)
}

type operation struct {
	name  string
	std   func() error
	circl func() error // nil: none
}

// Primitives measures the operations that a handshake is made of, the two implementations in turn.
func Primitives(n int) ([]Primitive, error) {
	ops, err := operations()
	if err != nil {
		return nil, err
	}
	var out []Primitive
	for _, op := range ops {
		var std, other []time.Duration
		for range n {
			d, err := timed(op.std)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", op.name, err)
			}
			std = append(std, d)
			if op.circl == nil {
				continue
			}
			if d, err = timed(op.circl); err != nil {
				return nil, fmt.Errorf("%s (circl): %w", op.name, err)
			}
			other = append(other, d)
		}
		slices.Sort(std)
		p := Primitive{Name: op.name, N: n, P10: std[n/10], P50: std[n/2], P90: std[n*9/10]}
		if len(other) > 0 {
			slices.Sort(other)
			p.Circl = other[n/2]
		}
		out = append(out, p)
	}
	return out, nil
}

func timed(f func() error) (time.Duration, error) {
	began := time.Now()
	err := f()
	return time.Since(began), err
}

func operations() ([]operation, error) {
	out, err := kemOperations()
	if err != nil {
		return nil, err
	}
	for _, c := range []struct {
		name  string
		curve ecdh.Curve
	}{{"X25519", ecdh.X25519()}, {"P-256", ecdh.P256()}, {"P-384", ecdh.P384()}} {
		ours, err := c.curve.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		out = append(out,
			operation{name: c.name + " keygen", std: func() error { _, err := c.curve.GenerateKey(rand.Reader); return err }},
			operation{name: c.name + " ECDH", std: func() error { _, err := ours.ECDH(ours.PublicKey()); return err }})
	}
	signing, err := signOperations()
	return append(out, signing...), err
}

func kemOperations() ([]operation, error) {
	dk, err := mlkem.GenerateKey768()
	if err != nil {
		return nil, err
	}
	encoded := dk.EncapsulationKey().Bytes()
	_, ct := dk.EncapsulationKey().Encapsulate()
	scheme := circlkem.Scheme()
	var theirs kem.PrivateKey
	pk, theirs, err := scheme.GenerateKeyPair()
	if err != nil {
		return nil, err
	}
	packed, err := pk.MarshalBinary()
	if err != nil {
		return nil, err
	}
	theirCT, _, err := scheme.Encapsulate(pk)
	if err != nil {
		return nil, err
	}
	return []operation{
		{"ML-KEM-768 keygen", func() error { _, err := mlkem.GenerateKey768(); return err },
			func() error { _, _, err := scheme.GenerateKeyPair(); return err }},
		{"ML-KEM-768 parse and encapsulate", func() error {
			k, err := mlkem.NewEncapsulationKey768(encoded)
			if err == nil {
				k.Encapsulate()
			}
			return err
		}, func() error {
			k, err := scheme.UnmarshalBinaryPublicKey(packed)
			if err == nil {
				_, _, err = scheme.Encapsulate(k)
			}
			return err
		}},
		{"ML-KEM-768 decapsulate", func() error { _, err := dk.Decapsulate(ct); return err },
			func() error { _, err := scheme.Decapsulate(theirs, theirCT); return err }},
	}, nil
}

func signOperations() ([]operation, error) {
	message := make([]byte, 130) // about as long as what CertificateVerify signs
	var out []operation
	for _, p := range []struct {
		name   string
		params mldsa.Parameters
	}{{"ML-DSA-44", mldsa.MLDSA44()}, {"ML-DSA-65", mldsa.MLDSA65()}, {"ML-DSA-87", mldsa.MLDSA87()}} {
		key, err := mldsa.GenerateKey(p.params)
		if err != nil {
			return nil, err
		}
		signature, err := key.Sign(nil, message, crypto.Hash(0))
		if err != nil {
			return nil, err
		}
		signing := operation{name: p.name + " sign", std: func() error { _, err := key.Sign(nil, message, crypto.Hash(0)); return err }}
		verifying := operation{name: p.name + " verify", std: func() error { return mldsa.Verify(key.PublicKey(), message, signature, nil) }}
		if p.name == "ML-DSA-65" {
			pub, priv, err := circldsa.GenerateKey(rand.Reader)
			if err != nil {
				return nil, err
			}
			theirs := make([]byte, circldsa.SignatureSize)
			if err := circldsa.SignTo(priv, message, nil, false, theirs); err != nil {
				return nil, err
			}
			signing.circl = func() error { return circldsa.SignTo(priv, message, nil, false, make([]byte, circldsa.SignatureSize)) }
			verifying.circl = func() error {
				if !circldsa.Verify(pub, message, nil, theirs) {
					return fmt.Errorf("signature does not verify")
				}
				return nil
			}
		}
		out = append(out, signing, verifying)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(message)
	return append(out,
		operation{name: "ECDSA P-256 sign", std: func() error { _, err := ecdsa.SignASN1(rand.Reader, ec, digest[:]); return err }},
		operation{name: "Ed25519 sign", std: func() error { ed25519.Sign(ed, message); return nil }},
		operation{name: "RSA-2048 PSS sign", std: func() error {
			_, err := rsa.SignPSS(rand.Reader, rsaKey, crypto.SHA256, digest[:], nil)
			return err
		}},
	), nil
}
