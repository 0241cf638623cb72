// Package pki is the certificate authority of the TLS reference: a root and an intermediate of one
// kind of key, which issue, rotate and revoke leaves. It opens no sockets and writes no files; keys
// live in memory only.
//
// Profile of a leaf (RFC 5280, RFC 9881), which CheckProfile verifies:
//
//   - version 3, a positive serial number of 16 octets
//   - keyUsage, critical: digitalSignature alone
//   - extendedKeyUsage: exactly one of serverAuth, clientAuth, OCSPSigning
//   - basicConstraints, critical: not a CA
//   - subject and authority key identifiers of 20 octets (RFC 7093 section 2, method 1)
//   - a server has subject alternative names; a responder has id-pkix-ocsp-nocheck (RFC 6960 section
//     4.2.2.2.1)
//   - validity within that of its issuer
//
// Every field has a fixed length as long as the names are the same, so that the size of an ML-DSA
// chain is a constant.
//
// Tried: a seeded source of randomness for repeatable certificates. Lost: crypto/ecdsa and crypto/rsa
// ignore the source they are given.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/mldsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"time"
)

// Kind is the kind of key that an authority and its leaves have.
type Kind uint8

// The kinds of authority.
const (
	MLDSA Kind = iota + 1 // ML-DSA-87 root, ML-DSA-65 intermediate and leaves
	ECDSA                 // P-256 throughout
	RSA                   // 2,048 bits throughout
)

// String returns the name of the kind as the documents of the reference write it.
func (k Kind) String() string {
	switch k {
	case MLDSA:
		return "mldsa"
	case ECDSA:
		return "ecdsa"
	case RSA:
		return "rsa"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Use is what a leaf is for.
type Use uint8

// The uses of a leaf, each with an extended key usage of its own.
const (
	Server    Use = iota + 1 // id-kp-serverAuth
	Client                   // id-kp-clientAuth
	Responder                // id-kp-OCSPSigning
)

func (u Use) extKeyUsage() (x509.ExtKeyUsage, error) {
	switch u {
	case Server:
		return x509.ExtKeyUsageServerAuth, nil
	case Client:
		return x509.ExtKeyUsageClientAuth, nil
	case Responder:
		return x509.ExtKeyUsageOCSPSigning, nil
	}
	return 0, fmt.Errorf("pki: unknown use %d", u)
}

// Lifetimes. The leaf's is the default of Request.NotAfter.
const (
	rootLife         = 10 * 365 * 24 * time.Hour
	intermediateLife = 5 * 365 * 24 * time.Hour
	leafLife         = 90 * 24 * time.Hour
	backdate         = time.Hour // clocks of peers may be behind
)

// Options configure an Authority. Zero fields get the defaults named beside them.
type Options struct {
	Kind  Kind             // MLDSA
	Name  string           // organisation in every subject; "assay reference"
	Now   func() time.Time // time.Now
	Circl bool             // ML-DSA keys sign with circl instead of the standard library
	Root  crypto.Signer    // key of the root, for example one that a TPM keeps; a new one
}

func (o Options) withDefaults() Options {
	if o.Kind == 0 {
		o.Kind = MLDSA
	}
	if o.Name == "" {
		o.Name = "assay reference"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Authority is a root and an intermediate of one kind, and the register of the leaves they issued.
// All methods may be called concurrently.
type Authority struct {
	opts Options
	cas  func() (pair, error) // made once

	mu     sync.Mutex
	issued map[string]*record // by serial number, in hex
	crl    int64              // number of the last revocation list
}

// pair is the certificates and keys of an authority.
type pair struct {
	root, intermediate       *x509.Certificate
	rootKey, intermediateKey crypto.Signer
}

// New returns an authority. ML-DSA and ECDSA keys are made at once; RSA keys, which take up to a
// second, at the first use.
func New(o Options) (*Authority, error) {
	o = o.withDefaults()
	if o.Kind > RSA {
		return nil, fmt.Errorf("pki: unknown kind of authority %d", o.Kind)
	}
	a := &Authority{opts: o, issued: make(map[string]*record)}
	a.cas = sync.OnceValues(a.build)
	if o.Kind == RSA {
		return a, nil
	}
	if _, err := a.cas(); err != nil {
		return nil, err
	}
	return a, nil
}

// Kind returns the kind of the authority.
func (a *Authority) Kind() Kind { return a.opts.Kind }

// Root returns the root certificate.
func (a *Authority) Root() (*x509.Certificate, error) {
	p, err := a.cas()
	return p.root, err
}

// Issuer returns the intermediate, which signs leaves, revocation lists and OCSP responses, and its
// key.
func (a *Authority) Issuer() (*x509.Certificate, crypto.Signer, error) {
	p, err := a.cas()
	return p.intermediate, p.intermediateKey, err
}

func (a *Authority) build() (pair, error) {
	var p pair
	var err error
	if p.rootKey = a.opts.Root; p.rootKey == nil {
		if p.rootKey, err = a.newKey(true); err != nil {
			return pair{}, err
		}
	}
	if p.intermediateKey, err = a.newKey(false); err != nil {
		return pair{}, err
	}
	now := a.opts.Now()
	root := a.caTemplate("root", now, rootLife)
	if p.root, err = create(root, root, p.rootKey.Public(), p.rootKey); err != nil {
		return pair{}, fmt.Errorf("pki: %v root: %w", a.opts.Kind, err)
	}
	intermediate := a.caTemplate("intermediate", now, intermediateLife)
	intermediate.MaxPathLenZero = true
	if p.intermediate, err = create(intermediate, p.root, p.intermediateKey.Public(), p.rootKey); err != nil {
		return pair{}, fmt.Errorf("pki: %v intermediate: %w", a.opts.Kind, err)
	}
	return p, nil
}

func (a *Authority) caTemplate(role string, now time.Time, life time.Duration) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               a.subject(a.opts.Kind.String() + " " + role),
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(life),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
}

func (a *Authority) subject(common string) pkix.Name {
	return pkix.Name{Organization: []string{a.opts.Name}, CommonName: common}
}

// newKey makes a key of the authority's kind; root ML-DSA keys are stronger than the others.
func (a *Authority) newKey(root bool) (crypto.Signer, error) {
	switch a.opts.Kind {
	case ECDSA:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case RSA:
		return rsa.GenerateKey(rand.Reader, 2048)
	}
	parameters := mldsa.MLDSA65()
	if root {
		parameters = mldsa.MLDSA87()
	}
	seed := make([]byte, mldsa.PrivateKeySize)
	_, _ = rand.Read(seed) // never fails: it ends the process instead
	if a.opts.Circl {
		return NewCirclSigner(parameters, seed)
	}
	return NewMLDSASigner(parameters, seed)
}

// create signs a certificate and parses it, so that what is kept is what was sent.
func create(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	id, err := keyID(public)
	if err != nil {
		return nil, err
	}
	template.SubjectKeyId = id
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// newSerial returns a serial number of exactly 16 octets in DER, 126 bits of them random.
func newSerial() *big.Int {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails: it ends the process instead
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b)
}

var errNoIssuer = errors.New("pki: certificate has no issuer in this authority")
