// Package ocsp is the Online Certificate Status Protocol (RFC 6960) of the TLS reference: a codec for
// requests and responses, verification as a TLS client does it, a responder and a stapler. Unlike
// golang.org/x/crypto/ocsp it signs and verifies with ML-DSA (RFC 9881), and it checks that a response
// is about the certificate at hand. It keeps no files.
//
// Every parser takes DER of bounded length and refuses what is left over.
package ocsp

import (
	"bytes"
	"crypto"
	_ "crypto/sha1" // hash of the certificate id that every responder knows
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"time"
)

// Bounds of what is parsed.
const (
	maxRequest      = 8 << 10  // bytes of a request
	maxResponse     = 64 << 10 // bytes of a response: an ML-DSA one with a delegate is 9 KB
	maxIDs          = 16       // certificates of a request or a response
	maxCertificates = 4        // delegates of a response
	maxNonce        = 128      // octets, RFC 9654 section 2.1
	maxSerial       = 20       // octets, RFC 5280 section 4.1.2.2
)

// Status is the state of a certificate in a response.
type Status uint8

// The states of RFC 6960 section 2.2.
const (
	Good Status = iota + 1
	Revoked
	Unknown
)

// String returns the name that RFC 6960 gives the state.
func (s Status) String() string {
	switch s {
	case Good:
		return "good"
	case Revoked:
		return "revoked"
	case Unknown:
		return "unknown"
	}
	return fmt.Sprintf("status %d", uint8(s))
}

// CertID names a certificate by its issuer and serial number (RFC 6960 section 4.1.1).
type CertID struct {
	Hash     crypto.Hash // SHA1, SHA256, SHA384 or SHA512
	NameHash []byte      // of the issuer's distinguished name
	KeyHash  []byte      // of the issuer's public key, without tag, length and unused bits
	Serial   *big.Int
}

// NewCertID returns the id of a serial number under an issuer.
func NewCertID(hash crypto.Hash, serial *big.Int, issuer *x509.Certificate) (CertID, error) {
	if _, ok := hashOIDs[hash]; !ok {
		return CertID{}, fmt.Errorf("ocsp: certificate ids do not use %v", hash)
	}
	key, err := keyBits(issuer)
	if err != nil {
		return CertID{}, err
	}
	return CertID{hash, digest(hash, issuer.RawSubject), digest(hash, key), serial}, nil
}

// From reports whether the id names a certificate of issuer.
func (id CertID) From(issuer *x509.Certificate) bool {
	want, err := NewCertID(id.Hash, id.Serial, issuer)
	return err == nil && bytes.Equal(want.NameHash, id.NameHash) && bytes.Equal(want.KeyHash, id.KeyHash)
}

var hashOIDs = map[crypto.Hash]asn1.ObjectIdentifier{
	crypto.SHA1:   {1, 3, 14, 3, 2, 26},
	crypto.SHA256: {2, 16, 840, 1, 101, 3, 4, 2, 1},
	crypto.SHA384: {2, 16, 840, 1, 101, 3, 4, 2, 2},
	crypto.SHA512: {2, 16, 840, 1, 101, 3, 4, 2, 3},
}

func hashOf(id asn1.ObjectIdentifier) (crypto.Hash, bool) {
	for h, o := range hashOIDs {
		if o.Equal(id) {
			return h, true
		}
	}
	return 0, false
}

func digest(h crypto.Hash, data []byte) []byte {
	d := h.New()
	d.Write(data)
	return d.Sum(nil)
}

// keyBits returns the subjectPublicKey of a certificate without tag, length and unused bits.
func keyBits(cert *x509.Certificate) ([]byte, error) {
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(cert.RawSubjectPublicKeyInfo, &info); err != nil {
		return nil, fmt.Errorf("ocsp: public key of %v: %w", cert.Subject, err)
	}
	return info.Key.RightAlign(), nil
}

// keyHash is the byKey form of a responder id: SHA-1 by definition (RFC 6960 section 4.2.1).
func keyHash(cert *x509.Certificate) ([]byte, error) {
	key, err := keyBits(cert)
	if err != nil {
		return nil, err
	}
	return digest(crypto.SHA1, key), nil
}

// Single is what a response says of one certificate. Times have whole seconds. A zero NextUpdate means
// that newer information is always available.
type Single struct {
	ID         CertID
	Status     Status
	RevokedAt  time.Time // with Revoked
	Reason     int       // with Revoked; RFC 5280 section 5.3.1
	ThisUpdate time.Time
	NextUpdate time.Time
}

// Response is a parsed response. Nothing of it has been verified.
type Response struct {
	ProducedAt   time.Time
	KeyHash      []byte // of the responder, when it is named byKey
	Name         []byte // of the responder in DER, when it is named byName
	Singles      []Single
	Nonce        []byte
	Certificates []*x509.Certificate
	Algorithm    x509.SignatureAlgorithm // 0 when it is none of those known here
	Signed       []byte                  // tbsResponseData
	Signature    []byte
}

// Request is a status request.
type Request struct {
	IDs   []CertID
	Nonce []byte
}
