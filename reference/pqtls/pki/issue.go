package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/mldsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"
)

// Request says what a leaf is to be. NotBefore and NotAfter default to an hour ago and 90 days from
// now and are cut to the validity of the issuer.
type Request struct {
	Use       Use
	Common    string // common name of the subject; the first name when empty
	Names     []string
	IPs       []net.IP
	NotBefore time.Time
	NotAfter  time.Time
}

// Issue makes a key and a leaf for it. The chain of the answer is leaf and intermediate.
func (a *Authority) Issue(r Request) (*tls.Certificate, error) {
	key, err := a.newKey(false)
	if err != nil {
		return nil, fmt.Errorf("pki: key of a leaf: %w", err)
	}
	leaf, err := a.issue(key.Public(), r)
	if err != nil {
		return nil, err
	}
	issuer, err := a.cas()
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{
		Certificate: [][]byte{leaf.Raw, issuer.intermediate.Raw}, PrivateKey: key, Leaf: leaf,
	}, nil
}

// Sign issues a leaf for the key of a certificate signing request. The request proves possession of
// the key and decides nothing else: names, usage and validity come from r. Its common name is taken
// when r has none and it is a plain name. The result is leaf and intermediate.
func (a *Authority) Sign(csr *x509.CertificateRequest, r Request) ([]*x509.Certificate, error) {
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("pki: signature of the signing request: %w", err)
	}
	if err := a.acceptsKey(csr.PublicKey); err != nil {
		return nil, err
	}
	if r.Common == "" && plainName(csr.Subject.CommonName) {
		r.Common = csr.Subject.CommonName
	}
	leaf, err := a.issue(csr.PublicKey, r)
	if err != nil {
		return nil, err
	}
	issuer, err := a.cas()
	if err != nil {
		return nil, err
	}
	return []*x509.Certificate{leaf, issuer.intermediate}, nil
}

// acceptsKey refuses keys of another kind, and weaker ones than the authority makes itself.
func (a *Authority) acceptsKey(public crypto.PublicKey) error {
	switch k := public.(type) {
	case *mldsa.PublicKey:
		if a.opts.Kind == MLDSA && k.Parameters() != mldsa.MLDSA44() {
			return nil
		}
	case *ecdsa.PublicKey:
		if a.opts.Kind == ECDSA && k.Curve == elliptic.P256() {
			return nil
		}
	case *rsa.PublicKey:
		if a.opts.Kind == RSA && k.N.BitLen() >= 2048 && k.N.BitLen() <= 4096 {
			return nil
		}
	}
	return fmt.Errorf("pki: a %v authority does not certify this key of type %T", a.opts.Kind, public)
}

// plainName reports whether s is a name of letters, digits, dots, dashes and underlines.
func plainName(s string) bool {
	if s == "" || len(s) > 64 { // ub-common-name of RFC 5280
		return false
	}
	for _, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

func (a *Authority) issue(public crypto.PublicKey, r Request) (*x509.Certificate, error) {
	ca, err := a.cas()
	if err != nil {
		return nil, err
	}
	template, err := a.leafTemplate(r, ca.intermediate)
	if err != nil {
		return nil, err
	}
	leaf, err := create(template, ca.intermediate, public, ca.intermediateKey)
	if err != nil {
		return nil, fmt.Errorf("pki: issue a leaf: %w", err)
	}
	if err := a.register(leaf); err != nil {
		return nil, err
	}
	return leaf, nil
}

func (a *Authority) leafTemplate(r Request, issuer *x509.Certificate) (*x509.Certificate, error) {
	usage, err := r.Use.extKeyUsage()
	if err != nil {
		return nil, err
	}
	if r.Use == Server && len(r.Names)+len(r.IPs) == 0 {
		return nil, errors.New("pki: a server certificate needs a name or an address")
	}
	if r.Common == "" && len(r.Names) > 0 {
		r.Common = r.Names[0]
	}
	notBefore, notAfter, err := a.validity(r, issuer)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: newSerial(), Subject: a.subject(r.Common),
		NotBefore: notBefore, NotAfter: notAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage},
		BasicConstraintsValid: true,
		DNSNames:              slices.Clone(r.Names), IPAddresses: slices.Clone(r.IPs),
	}
	if r.Use == Responder {
		t.ExtraExtensions = []pkix.Extension{{Id: oidNoCheck, Value: asn1.NullBytes}}
	}
	return t, nil
}

func (a *Authority) validity(r Request, issuer *x509.Certificate) (notBefore, notAfter time.Time, err error) {
	now := a.opts.Now()
	notBefore, notAfter = r.NotBefore, r.NotAfter
	if notBefore.IsZero() {
		notBefore = now.Add(-backdate)
	}
	if notAfter.IsZero() {
		notAfter = now.Add(leafLife)
	}
	if notBefore.Before(issuer.NotBefore) {
		notBefore = issuer.NotBefore
	}
	if notAfter.After(issuer.NotAfter) {
		notAfter = issuer.NotAfter
	}
	if !notBefore.Before(notAfter) {
		return notBefore, notAfter, fmt.Errorf("pki: no validity left between %v and %v", notBefore, notAfter)
	}
	return notBefore, notAfter, nil
}

// keyID is the subject key identifier: the leftmost 160 bits of the SHA-256 of the key's bit string.
func keyID(public crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("pki: encode a public key: %w", err)
	}
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &info); err != nil {
		return nil, fmt.Errorf("pki: decode a public key: %w", err)
	}
	sum := sha256.Sum256(info.Key.RightAlign())
	return sum[:20], nil
}
