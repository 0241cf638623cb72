package tls

import (
	"crypto"
	"crypto/rand"
	"crypto/sha1" // names certificates in OCSP, and protects nothing
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// StapleStatus is the status that an OCSP response gives a certificate.
type StapleStatus string

// The statuses of RFC 6960 section 4.2.1.
const (
	StapleGood    StapleStatus = "good"
	StapleRevoked StapleStatus = "revoked"
	StapleUnknown StapleStatus = "unknown"
)

// StapleDelegate says who signs an OCSP response in place of the issuer.
type StapleDelegate string

// The delegates.
const (
	DelegateNone        StapleDelegate = ""             // the issuer signs
	DelegateEKU         StapleDelegate = "eku"          // certified by the issuer with id-kp-OCSPSigning
	DelegateNoEKU       StapleDelegate = "no-eku"       // certified by the issuer without it
	DelegateOtherIssuer StapleDelegate = "other-issuer" // certified with it by an authority of the same names
)

// StaplePlan says what an OCSP response shall hold. The zero value is a good response for the
// authority's common leaf, from five minutes ago, valid for three hours.
type StaplePlan struct {
	Leaf         []byte       // DER of the certificate that it is for; nil: the common leaf
	Status       StapleStatus // empty: good
	Serial       *big.Int     // nil: the leaf's
	NameHash     []byte       // issuerNameHash; nil: SHA-1 of the issuer's name
	KeyHash      []byte       // issuerKeyHash; nil: SHA-1 of the issuer's key
	ThisUpdate   time.Time    // zero: five minutes ago
	NextUpdate   time.Time    // zero: three hours from now
	NoNextUpdate bool
	ProducedAt   time.Time // zero: as ThisUpdate
	// FlipSignature inverts the last bit of the signature.
	FlipSignature bool
	OtherSigner   bool // a stranger's key signs, and no certificate says whose
	Delegate      StapleDelegate
	Garbage       bool // bytes that are no OCSP response
}

// Staple encodes an OCSP response of RFC 6960 as the plan says.
func (p *PKI) Staple(plan StaplePlan) []byte {
	if plan.Garbage {
		return []byte("\x30\x82\x7f\xffthis is no OCSP response")
	}
	leaf := p.leaf
	if plan.Leaf != nil {
		leaf = plan.Leaf
	}
	plan.fill(must(x509.ParseCertificate(leaf)), p.inter.cert, time.Now())
	signer, cert := p.stapleSigner(plan)
	tbs := plan.responseData(signer.Public())
	signature := must(signData(signer, tbs))
	if plan.FlipSignature {
		signature[len(signature)-1] ^= 1
	}
	return response(tbs, algorithmOf(p.kind), signature, cert)
}

// fill completes a plan.
func (s *StaplePlan) fill(leaf, issuer *x509.Certificate, now time.Time) {
	if s.Serial == nil {
		s.Serial = leaf.SerialNumber
	}
	if s.NameHash == nil {
		h := sha1.Sum(issuer.RawSubject)
		s.NameHash = h[:]
	}
	if s.KeyHash == nil {
		h := sha1.Sum(keyBits(issuer.RawSubjectPublicKeyInfo))
		s.KeyHash = h[:]
	}
	if s.ThisUpdate.IsZero() {
		s.ThisUpdate = now.Add(-5 * time.Minute)
	}
	if s.NextUpdate.IsZero() {
		s.NextUpdate = now.Add(3 * time.Hour)
	}
	if s.ProducedAt.IsZero() {
		s.ProducedAt = s.ThisUpdate
	}
}

// stapleSigner returns the signing key, and the DER of a delegate's certificate where there is one.
func (p *PKI) stapleSigner(plan StaplePlan) (crypto.Signer, []byte) {
	if plan.OtherSigner {
		return p.other().leafKey, nil
	}
	if plan.Delegate == DelegateNone {
		return p.inter.key, nil
	}
	template := p.leafTemplate(&identity{names: []string{"ocsp.test"}})
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}
	if plan.Delegate == DelegateNoEKU {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	from, key := p.inter, p.leafKey
	if plan.Delegate == DelegateOtherIssuer {
		from = p.other().inter
	}
	return key, from.issue(template, key.Public())
}

// signData signs as certificates are signed: ML-DSA the data itself, others its SHA-256.
func signData(signer crypto.Signer, data []byte) ([]byte, error) {
	if isMLDSA(signer) {
		return signer.Sign(rand.Reader, data, crypto.Hash(0))
	}
	h := sha256.Sum256(data)
	return signer.Sign(rand.Reader, h[:], crypto.SHA256)
}

// responseData encodes the ResponseData of RFC 6960 section 4.2.1.
func (s *StaplePlan) responseData(signer crypto.PublicKey) []byte {
	var b cryptobyte.Builder
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(explicit(2), func(b *cryptobyte.Builder) { // responderID byKey
			h := sha1.Sum(keyBits(must(x509.MarshalPKIXPublicKey(signer))))
			b.AddASN1OctetString(h[:])
		})
		b.AddASN1GeneralizedTime(s.ProducedAt.UTC())
		b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1(tags.SEQUENCE, s.single) })
	})
	return b.BytesOrPanic()
}

// single encodes the content of a SingleResponse.
func (s *StaplePlan) single(b *cryptobyte.Builder) {
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		addAlgorithm(b, oidSHA1, true)
		b.AddASN1OctetString(s.NameHash)
		b.AddASN1OctetString(s.KeyHash)
		b.AddASN1BigInt(s.Serial)
	})
	switch s.Status {
	case StapleRevoked:
		b.AddASN1(explicit(1), func(b *cryptobyte.Builder) { b.AddASN1GeneralizedTime(s.ThisUpdate.UTC()) })
	case StapleUnknown:
		b.AddASN1(tags.Tag(2).ContextSpecific(), func(*cryptobyte.Builder) {})
	default:
		b.AddASN1(tags.Tag(0).ContextSpecific(), func(*cryptobyte.Builder) {})
	}
	b.AddASN1GeneralizedTime(s.ThisUpdate.UTC())
	if !s.NoNextUpdate {
		b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { b.AddASN1GeneralizedTime(s.NextUpdate.UTC()) })
	}
}

// response wraps signed data into a successful OCSPResponse.
func response(tbs []byte, algorithm signing, signature, cert []byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Enum(0)
		b.AddASN1(explicit(0), func(b *cryptobyte.Builder) {
			b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(oidBasic)
				b.AddASN1(tags.OCTET_STRING, func(b *cryptobyte.Builder) {
					b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddBytes(tbs)
						addAlgorithm(b, algorithm.oid, algorithm.null)
						b.AddASN1BitString(signature)
						if cert != nil {
							b.AddASN1(explicit(0), func(b *cryptobyte.Builder) {
								b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(cert) })
							})
						}
					})
				})
			})
		})
	})
	return b.BytesOrPanic()
}

// explicit is the tag of an explicit context-specific field.
func explicit(n uint8) tags.Tag { return tags.Tag(n).ContextSpecific().Constructed() }

func addAlgorithm(b *cryptobyte.Builder, oid asn1.ObjectIdentifier, null bool) {
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		if null {
			b.AddASN1NULL()
		}
	})
}

// keyBits returns the bits of a SubjectPublicKeyInfo's key, of which OCSP takes the hash.
func keyBits(spki []byte) []byte {
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if rest, err := asn1.Unmarshal(spki, &info); err != nil || len(rest) > 0 {
		return nil
	}
	return info.Key.RightAlign()
}
