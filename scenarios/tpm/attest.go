package tpm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
)

// Constants of TPM 2.0 Library part 2 that an attestation is read by.
const (
	AttestMagic = 0xff544347 // TPM_GENERATED_VALUE
	AttestQuote = 0x8018     // TPM_ST_ATTEST_QUOTE

	algRSA    = 0x0001
	algSHA256 = 0x000b
	algNull   = 0x0010
	algRSASSA = 0x0014
	algRSAPSS = 0x0016
	algECDSA  = 0x0018
	algECC    = 0x0023
	curveP256 = 0x0003
)

// maxBanks bounds the PCR banks of a selection.
const maxBanks = 16

// Attest is a TPMS_ATTEST. What follows Restarts is there for a quote only.
type Attest struct {
	Magic    uint32
	Type     uint16
	Extra    []byte // qualifyingData
	Resets   uint32 // resetCount
	Restarts uint32 // restartCount
	Banks    []Bank
	Digest   []byte // of the selected PCRs
}

// Bank is one TPMS_PCR_SELECTION.
type Bank struct {
	Hash uint16
	PCRs []byte // a bit a PCR, the lowest bit of the first byte is PCR 0
}

// ParseAttest decodes a TPMS_ATTEST. Of what is no quote of a TPM it decodes the part that all have.
func ParseAttest(raw []byte) (*Attest, error) {
	in, a := cryptobyte.String(raw), &Attest{}
	var name, extra cryptobyte.String
	if !in.ReadUint32(&a.Magic) || !in.ReadUint16(&a.Type) || !in.ReadUint16LengthPrefixed(&name) || !in.ReadUint16LengthPrefixed(&extra) ||
		!in.Skip(8) || !in.ReadUint32(&a.Resets) || !in.ReadUint32(&a.Restarts) || !in.Skip(1+8) {
		return nil, fmt.Errorf("attestation of %d bytes: cut off in its head", len(raw))
	}
	a.Extra = extra
	if a.Magic != AttestMagic || a.Type != AttestQuote {
		return a, nil
	}
	var banks uint32
	if !in.ReadUint32(&banks) || banks > maxBanks {
		return nil, fmt.Errorf("attestation of %d bytes: %d PCR banks", len(raw), banks)
	}
	for range banks {
		var b Bank
		var pcrs cryptobyte.String
		if !in.ReadUint16(&b.Hash) || !in.ReadUint8LengthPrefixed(&pcrs) {
			return nil, fmt.Errorf("attestation of %d bytes: cut off in its PCR selection", len(raw))
		}
		b.PCRs = pcrs
		a.Banks = append(a.Banks, b)
	}
	var digest cryptobyte.String
	if !in.ReadUint16LengthPrefixed(&digest) || !in.Empty() {
		return nil, fmt.Errorf("attestation of %d bytes: does not end with its PCR digest", len(raw))
	}
	a.Digest = digest
	return a, nil
}

// Selects tells whether the selection is exactly these PCRs of the SHA-256 bank.
func (a *Attest) Selects(pcrs ...uint) bool {
	if len(a.Banks) != 1 || a.Banks[0].Hash != algSHA256 {
		return false
	}
	want := make([]byte, 3)
	for _, p := range pcrs {
		want[p/8] |= 1 << (p % 8)
	}
	return bytes.Equal(bytes.TrimRight(a.Banks[0].PCRs, "\x00"), bytes.TrimRight(want, "\x00"))
}

// PCRDigest is the digest of a quote over PCRs with these values.
func PCRDigest(values ...[]byte) []byte {
	sum := sha256.Sum256(bytes.Join(values, nil))
	return sum[:]
}

// VerifyAttest verifies the signature over an attestation. It takes a TPMT_SIGNATURE and a TPMT_PUBLIC
// of ECDSA on P-256 or of RSA, with SHA-256.
func VerifyAttest(attest, signature, public []byte) error {
	key, err := parsePublic(public)
	if err != nil {
		return err
	}
	in := cryptobyte.String(signature)
	var scheme, hash uint16
	if !in.ReadUint16(&scheme) || !in.ReadUint16(&hash) || hash != algSHA256 {
		return fmt.Errorf("signature of %d bytes: no TPMT_SIGNATURE with SHA-256", len(signature))
	}
	digest := sha256.Sum256(attest)
	var first, second cryptobyte.String
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		if scheme != algECDSA || !in.ReadUint16LengthPrefixed(&first) || !in.ReadUint16LengthPrefixed(&second) || !in.Empty() {
			return fmt.Errorf("signature of %d bytes: no TPMT_SIGNATURE of ECDSA", len(signature))
		}
		if len(first) > 32 || len(second) > 32 || !ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(first), new(big.Int).SetBytes(second)) {
			return errors.New("the signature does not verify")
		}
		return nil
	case *rsa.PublicKey:
		if !in.ReadUint16LengthPrefixed(&first) || !in.Empty() {
			return fmt.Errorf("signature of %d bytes: no TPMT_SIGNATURE of RSA", len(signature))
		}
		if scheme == algRSAPSS {
			return rsa.VerifyPSS(key, crypto.SHA256, digest[:], first, nil)
		}
		if scheme == algRSASSA {
			return rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], first)
		}
	}
	return fmt.Errorf("signature scheme %#x does not fit the key", scheme)
}

// parsePublic decodes a TPMT_PUBLIC.
func parsePublic(raw []byte) (crypto.PublicKey, error) {
	in := cryptobyte.String(raw)
	var kind, symmetric, scheme, ignored uint16
	var policy cryptobyte.String
	if !in.ReadUint16(&kind) || !in.Skip(2+4) || !in.ReadUint16LengthPrefixed(&policy) ||
		!in.ReadUint16(&symmetric) || symmetric != algNull || !in.ReadUint16(&scheme) || scheme != algNull && !in.ReadUint16(&ignored) {
		return nil, fmt.Errorf("public key of %d bytes: no TPMT_PUBLIC of a signing key", len(raw))
	}
	switch kind {
	case algECC:
		return parsePoint(in)
	case algRSA:
		return parseModulus(in)
	}
	return nil, fmt.Errorf("public key of type %#x: want ECC or RSA", kind)
}

func parsePoint(in cryptobyte.String) (crypto.PublicKey, error) {
	var curve, kdf uint16
	var x, y cryptobyte.String
	if !in.ReadUint16(&curve) || curve != curveP256 || !in.ReadUint16(&kdf) || kdf != algNull ||
		!in.ReadUint16LengthPrefixed(&x) || !in.ReadUint16LengthPrefixed(&y) || !in.Empty() || len(x) > 32 || len(y) > 32 {
		return nil, errors.New("public key: no point on P-256")
	}
	point := make([]byte, 65)
	point[0] = 4
	copy(point[33-len(x):33], x)
	copy(point[65-len(y):], y)
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	return key, nil
}

func parseModulus(in cryptobyte.String) (crypto.PublicKey, error) {
	var bits uint16
	var exponent uint32
	var modulus cryptobyte.String
	if !in.ReadUint16(&bits) || !in.ReadUint32(&exponent) || !in.ReadUint16LengthPrefixed(&modulus) || !in.Empty() ||
		bits < 2048 || bits > 4096 || len(modulus) != int(bits)/8 {
		return nil, errors.New("public key: no RSA modulus of 2,048 to 4,096 bits")
	}
	if exponent == 0 {
		exponent = 65537 // part 2, TPMS_RSA_PARMS: zero is the default
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: int(exponent)}, nil
}

// SignAsOther signs an attestation with a fresh key that no TPM has, as TPMT_SIGNATURE.
func SignAsOther(attest []byte) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(attest)
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddUint16(algECDSA)
	b.AddUint16(algSHA256)
	for _, n := range []*big.Int{r, s} {
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(n.FillBytes(make([]byte, 32))) })
	}
	return b.Bytes()
}
