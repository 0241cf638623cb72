package tls

import (
	"bytes"
	"crypto"
	"crypto/mldsa"
	_ "crypto/sha1" // for the certificate ids that use them
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

var (
	oidBasic = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}
	oidSHA1  = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
)

// Bounds on a response that is read.
const (
	maxStaple    = 256 << 10
	maxResponses = 64
	maxDelegates = 8
	maxSerial    = 64 // bytes: RFC 5280 section 4.1.2.2 allows 20
	// maxSkew is how far the responder's clock may be ahead of ours.
	maxSkew = 5 * time.Minute
)

// signing is a signature algorithm of certificates and OCSP responses.
type signing struct {
	name string
	oid  asn1.ObjectIdentifier
	null bool // its parameters are NULL, else absent
	x509 x509.SignatureAlgorithm
}

func signings() []signing {
	return []signing{
		{"ML-DSA-44", asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 17}, false, x509.MLDSA44},
		{"ML-DSA-65", asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 18}, false, x509.MLDSA65},
		{"ML-DSA-87", asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 19}, false, x509.MLDSA87},
		{"ECDSA-SHA256", asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}, false, x509.ECDSAWithSHA256},
		{"ECDSA-SHA384", asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}, false, x509.ECDSAWithSHA384},
		{"RSA-SHA256", asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, true, x509.SHA256WithRSA},
		{"Ed25519", asn1.ObjectIdentifier{1, 3, 101, 112}, false, x509.PureEd25519},
	}
}

// algorithmOf is what the intermediate and the leaves of a kind sign with.
func algorithmOf(kind string) signing {
	name := map[string]string{MLDSA: "ML-DSA-65", ECDSA: "ECDSA-SHA256", RSA: "RSA-SHA256"}[kind]
	for _, s := range signings() {
		if s.name == name {
			return s
		}
	}
	panic("scenarios/tls: no signature algorithm for " + kind)
}

func isMLDSA(signer crypto.Signer) bool {
	_, ok := signer.(*mldsa.PrivateKey)
	return ok
}

// hashes are the digests that a certificate id may use.
func hashOf(oid asn1.ObjectIdentifier) crypto.Hash {
	switch {
	case oid.Equal(oidSHA1):
		return crypto.SHA1
	case oid.Equal(asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}):
		return crypto.SHA256
	case oid.Equal(asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}):
		return crypto.SHA384
	case oid.Equal(asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}):
		return crypto.SHA512
	}
	return 0
}

// StapleSeen is what an OCSP response says of the first certificate in it. It is not verified.
type StapleSeen struct {
	Status     StapleStatus
	Serial     string // hexadecimal, as big.Int writes it
	NameHash   []byte
	KeyHash    []byte
	ProducedAt time.Time
	ThisUpdate time.Time
	NextUpdate time.Time // zero: none
	Algorithm  string    // ML-DSA-65, ECDSA-SHA256 and so on; an unknown one is its object identifier
	Responses  int       // certificates that it speaks of
	Delegates  int       // certificates in it
	Bytes      int
}

// single is one SingleResponse.
type single struct {
	hash              crypto.Hash
	nameHash, keyHash []byte
	serial            *big.Int
	status            StapleStatus
	this, next        time.Time
}

// basic is a BasicOCSPResponse.
type basic struct {
	tbs        []byte
	producedAt time.Time
	singles    []single
	algorithm  asn1.ObjectIdentifier
	signature  []byte
	certs      [][]byte
}

// ParseStaple reads an OCSP response. It verifies nothing.
func ParseStaple(der []byte) (StapleSeen, error) {
	b, err := parseBasic(der)
	if err != nil {
		return StapleSeen{}, err
	}
	s := b.singles[0]
	seen := StapleSeen{
		Status: s.status, Serial: s.serial.Text(16), NameHash: s.nameHash, KeyHash: s.keyHash,
		ProducedAt: b.producedAt, ThisUpdate: s.this, NextUpdate: s.next,
		Algorithm: b.algorithm.String(), Responses: len(b.singles), Delegates: len(b.certs), Bytes: len(der),
	}
	if a, ok := b.known(); ok {
		seen.Algorithm = a.name
	}
	return seen, nil
}

func (b *basic) known() (signing, bool) {
	for _, s := range signings() {
		if s.oid.Equal(b.algorithm) {
			return s, true
		}
	}
	return signing{}, false
}

func parseBasic(der []byte) (*basic, error) {
	if len(der) > maxStaple {
		return nil, fmt.Errorf("OCSP response: %d bytes, at most %d are read", len(der), maxStaple)
	}
	in := cryptobyte.String(der)
	var outer, wrapped, body cryptobyte.String
	var code int
	if !in.ReadASN1(&outer, tags.SEQUENCE) || !in.Empty() || !outer.ReadASN1Enum(&code) {
		return nil, errors.New("OCSP response: no OCSPResponse")
	}
	if code != 0 {
		return nil, fmt.Errorf("OCSP response: status %d is not successful", code)
	}
	var oid asn1.ObjectIdentifier
	if !outer.ReadASN1(&wrapped, explicit(0)) || !outer.Empty() || !wrapped.ReadASN1(&body, tags.SEQUENCE) || !wrapped.Empty() ||
		!body.ReadASN1ObjectIdentifier(&oid) || !oid.Equal(oidBasic) {
		return nil, errors.New("OCSP response: no basic response")
	}
	var octets, seq cryptobyte.String
	if !body.ReadASN1(&octets, tags.OCTET_STRING) || !body.Empty() || !octets.ReadASN1(&seq, tags.SEQUENCE) || !octets.Empty() {
		return nil, errors.New("OCSP response: no BasicOCSPResponse")
	}
	return readBasic(seq)
}

func readBasic(seq cryptobyte.String) (*basic, error) {
	b := &basic{}
	var data, algorithm cryptobyte.String
	var tbs cryptobyte.String
	if !seq.ReadASN1Element(&tbs, tags.SEQUENCE) {
		return nil, errors.New("OCSP response: no ResponseData")
	}
	b.tbs = tbs
	if !tbs.ReadASN1(&data, tags.SEQUENCE) {
		return nil, errors.New("OCSP response: no ResponseData")
	}
	if err := b.readData(data); err != nil {
		return nil, err
	}
	if !seq.ReadASN1(&algorithm, tags.SEQUENCE) || !algorithm.ReadASN1ObjectIdentifier(&b.algorithm) ||
		!seq.ReadASN1BitStringAsBytes(&b.signature) {
		return nil, errors.New("OCSP response: no signature")
	}
	var certs cryptobyte.String
	var present bool
	if !seq.ReadOptionalASN1(&certs, &present, explicit(0)) || !seq.Empty() {
		return nil, errors.New("OCSP response: bytes after the signature")
	}
	if present {
		return b, b.readCerts(certs)
	}
	return b, nil
}

func (b *basic) readCerts(field cryptobyte.String) error {
	var list cryptobyte.String
	if !field.ReadASN1(&list, tags.SEQUENCE) || !field.Empty() {
		return errors.New("OCSP response: no list of certificates")
	}
	for !list.Empty() {
		var cert cryptobyte.String
		if !list.ReadASN1Element(&cert, tags.SEQUENCE) || len(b.certs) == maxDelegates {
			return fmt.Errorf("OCSP response: certificate %d is broken or one too many", len(b.certs))
		}
		b.certs = append(b.certs, cert)
	}
	return nil
}

// readData reads ResponseData. Its version, its responder id and its extensions are skipped.
func (b *basic) readData(data cryptobyte.String) error {
	var id, list cryptobyte.String
	var tag tags.Tag
	if !data.SkipOptionalASN1(explicit(0)) || !data.ReadAnyASN1(&id, &tag) || tag != explicit(1) && tag != explicit(2) ||
		!data.ReadASN1GeneralizedTime(&b.producedAt) || !data.ReadASN1(&list, tags.SEQUENCE) ||
		!data.SkipOptionalASN1(explicit(1)) || !data.Empty() {
		return errors.New("OCSP response: broken ResponseData")
	}
	for !list.Empty() {
		var one cryptobyte.String
		if !list.ReadASN1(&one, tags.SEQUENCE) || len(b.singles) == maxResponses {
			return fmt.Errorf("OCSP response: single response %d is broken or one too many", len(b.singles))
		}
		s, err := readSingle(one)
		if err != nil {
			return err
		}
		b.singles = append(b.singles, s)
	}
	if len(b.singles) == 0 {
		return errors.New("OCSP response: speaks of no certificate")
	}
	return nil
}

func readSingle(in cryptobyte.String) (single, error) {
	s := single{serial: new(big.Int)}
	var id, algorithm, status, next cryptobyte.String
	var oid asn1.ObjectIdentifier
	if !in.ReadASN1(&id, tags.SEQUENCE) || !id.ReadASN1(&algorithm, tags.SEQUENCE) || !algorithm.ReadASN1ObjectIdentifier(&oid) ||
		!id.ReadASN1Bytes(&s.nameHash, tags.OCTET_STRING) || !id.ReadASN1Bytes(&s.keyHash, tags.OCTET_STRING) ||
		len(id) > maxSerial || !id.ReadASN1Integer(s.serial) || !id.Empty() {
		return s, errors.New("OCSP response: broken certificate id")
	}
	s.hash = hashOf(oid)
	var tag tags.Tag
	if !in.ReadAnyASN1(&status, &tag) {
		return s, errors.New("OCSP response: no certificate status")
	}
	switch tag {
	case tags.Tag(0).ContextSpecific():
		s.status = StapleGood
	case explicit(1):
		s.status = StapleRevoked
	case tags.Tag(2).ContextSpecific():
		s.status = StapleUnknown
	default:
		return s, fmt.Errorf("OCSP response: tag %#x is no certificate status", uint8(tag))
	}
	var present bool
	if !in.ReadASN1GeneralizedTime(&s.this) || !in.ReadOptionalASN1(&next, &present, explicit(0)) {
		return s, errors.New("OCSP response: no thisUpdate")
	}
	if present && (!next.ReadASN1GeneralizedTime(&s.next) || !next.Empty()) {
		return s, errors.New("OCSP response: broken nextUpdate")
	}
	if !in.SkipOptionalASN1(explicit(1)) || !in.Empty() {
		return s, errors.New("OCSP response: bytes after a single response")
	}
	return s, nil
}

// StapleFault is why an OCSP response does not speak for a certificate.
type StapleFault struct {
	Code string // garbage, issuer, serial, signature, delegate, window, revoked or unknown
	Text string
}

func (f *StapleFault) Error() string { return "OCSP response: " + f.Code + ": " + f.Text }

func fault(code, format string, args ...any) error {
	return &StapleFault{code, fmt.Sprintf(format, args...)}
}

// CheckStaple tells whether an OCSP response says at a time that the leaf is good: certificate id,
// signature of the issuer or of its delegate, times and status of RFC 6960 section 3.2. Leaf and issuer
// are DER. An error is a *StapleFault.
func CheckStaple(der, leaf, issuer []byte, at time.Time) error {
	b, err := parseBasic(der)
	if err != nil {
		return fault("garbage", "%v", err)
	}
	leafCert, err := x509.ParseCertificate(leaf)
	if err != nil {
		return fault("serial", "the leaf: %v", err)
	}
	issuerCert, err := x509.ParseCertificate(issuer)
	if err != nil {
		return fault("issuer", "the issuer: %v", err)
	}
	s, err := b.find(leafCert, issuerCert)
	if err != nil {
		return err
	}
	if err := b.verify(issuerCert, at); err != nil {
		return err
	}
	return s.current(at)
}

// find returns the single response for a leaf.
func (b *basic) find(leaf, issuer *x509.Certificate) (single, error) {
	issued := false
	for _, s := range b.singles {
		if !s.names(issuer) {
			continue
		}
		issued = true
		if s.serial.Cmp(leaf.SerialNumber) == 0 {
			return s, nil
		}
	}
	if !issued {
		return single{}, fault("issuer", "no certificate id names the issuer %q", issuer.Subject)
	}
	return single{}, fault("serial", "no certificate id has the serial %x", leaf.SerialNumber)
}

func (s single) names(issuer *x509.Certificate) bool {
	if s.hash == 0 {
		return false
	}
	sum := func(b []byte) []byte {
		h := s.hash.New()
		h.Write(b)
		return h.Sum(nil)
	}
	return bytes.Equal(s.nameHash, sum(issuer.RawSubject)) &&
		bytes.Equal(s.keyHash, sum(keyBits(issuer.RawSubjectPublicKeyInfo)))
}

// verify checks the signature, by the issuer or by a delegate that it certified.
func (b *basic) verify(issuer *x509.Certificate, at time.Time) error {
	a, ok := b.known()
	if !ok {
		return fault("signature", "unknown algorithm %s", b.algorithm)
	}
	own := issuer.CheckSignature(a.x509, b.tbs, b.signature)
	if own == nil {
		return nil
	}
	for _, der := range b.certs {
		cert, err := x509.ParseCertificate(der)
		if err != nil || cert.CheckSignature(a.x509, b.tbs, b.signature) != nil {
			continue
		}
		return delegated(cert, issuer, at)
	}
	return fault("signature", "neither the issuer nor a delegate signed it: %v", own)
}

// delegated checks an authorized responder by RFC 6960 section 4.2.2.2.
func delegated(cert, issuer *x509.Certificate, at time.Time) error {
	if err := cert.CheckSignatureFrom(issuer); err != nil {
		return fault("delegate", "not certified by the issuer: %v", err)
	}
	if at.Before(cert.NotBefore) || at.After(cert.NotAfter) {
		return fault("delegate", "its certificate is not valid at %s", at.UTC().Format(time.RFC3339))
	}
	for _, use := range cert.ExtKeyUsage {
		if use == x509.ExtKeyUsageOCSPSigning {
			return nil
		}
	}
	return fault("delegate", "its certificate lacks id-kp-OCSPSigning")
}

func (s single) current(at time.Time) error {
	if s.this.After(at.Add(maxSkew)) {
		return fault("window", "thisUpdate %s is in the future", s.this.Format(time.RFC3339))
	}
	if !s.next.IsZero() && s.next.Before(at) {
		return fault("window", "nextUpdate %s is over", s.next.Format(time.RFC3339))
	}
	if s.status != StapleGood {
		return fault(string(s.status), "the certificate %x is %s", s.serial, s.status)
	}
	return nil
}

// Serial is the hexadecimal serial number of a certificate, as StapleSeen has it.
func Serial(der []byte) (string, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return "", fmt.Errorf("certificate: %w", err)
	}
	return cert.SerialNumber.Text(16), nil
}
