package tls

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/mldsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	wire "github.com/assay-bench/assay/scenarios/wire/tls"
)

// The kinds of authorities.
const (
	MLDSA = "mldsa" // ML-DSA-87 root, ML-DSA-65 intermediate and leaf
	ECDSA = "ecdsa" // P-256 throughout
	RSA   = "rsa"   // 2,048 bits throughout
)

// Validity of what the authorities issue, about the time of the first use in the process.
const (
	validBefore = time.Hour
	validAfter  = 24 * time.Hour
)

// PKI is an authority of the harness with one intermediate and the key of its leaves. It is safe for
// concurrent use.
type PKI struct {
	kind    string
	made    time.Time
	root    issuer
	inter   issuer
	leafKey crypto.Signer
	leaf    []byte
	other   func() *PKI // an authority of the same names with other keys
}

// issuer is a certificate of an authority with its key.
type issuer struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// The authorities live as long as the process, so that a run makes each only once, at its first use.
var (
	mldsaPKI = sync.OnceValue(func() *PKI { return newPKI(MLDSA) })
	ecdsaPKI = sync.OnceValue(func() *PKI { return newPKI(ECDSA) })
	rsaPKI   = sync.OnceValue(func() *PKI { return newPKI(RSA) })
)

// Authority returns the harness's authority of a kind. It panics on another kind than the constants.
func Authority(kind string) *PKI {
	switch kind {
	case MLDSA:
		return mldsaPKI()
	case ECDSA:
		return ecdsaPKI()
	case RSA:
		return rsaPKI()
	}
	panic(fmt.Sprintf("scenarios/tls: no authority of kind %q", kind))
}

// newPKI makes an authority. It panics where the host can not make keys: no case could be driven.
func newPKI(kind string) *PKI {
	p := &PKI{kind: kind, made: time.Now(), leafKey: newKey(kind, false)}
	p.root = selfSigned(p.authority("root"), newKey(kind, true))
	p.inter = p.root.certify(p.authority("intermediate"), newKey(kind, false))
	p.leaf = p.inter.issue(p.leafTemplate(&identity{}), p.leafKey.Public())
	p.other = sync.OnceValue(func() *PKI { return newPKI(kind) })
	return p
}

func newKey(kind string, root bool) crypto.Signer {
	switch kind {
	case ECDSA:
		return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	case RSA:
		return must(rsa.GenerateKey(rand.Reader, 2048))
	}
	if root {
		return must(mldsa.GenerateKey(mldsa.MLDSA87()))
	}
	return must(mldsa.GenerateKey(mldsa.MLDSA65()))
}

// must is for what fails only where the host has no randomness or forbids an algorithm.
func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprintf("scenarios/tls: make a certificate: %v", err))
	}
	return v
}

func (p *PKI) authority(what string) *x509.Certificate {
	return &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{"assay harness"}, CommonName: p.kind + " " + what},
		NotBefore:             p.made.Add(-validBefore),
		NotAfter:              p.made.Add(validAfter),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
}

func selfSigned(template *x509.Certificate, key crypto.Signer) issuer {
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	return issuer{must(x509.ParseCertificate(der)), key}
}

func (i issuer) issue(template *x509.Certificate, public crypto.PublicKey) []byte {
	return must(x509.CreateCertificate(rand.Reader, template, i.cert, public, i.key))
}

func (i issuer) certify(template *x509.Certificate, key crypto.Signer) issuer {
	return issuer{must(x509.ParseCertificate(i.issue(template, key.Public()))), key}
}

// Roots is the PEM of the root to trust.
func (p *PKI) Roots() string { return pemOf(p.root.cert.Raw) }

// Intermediate is the DER of the certificate that issues the leaves and signs the staples.
func (p *PKI) Intermediate() []byte { return p.inter.cert.Raw }

// RootsPEM is the PEM of the roots of several kinds.
func RootsPEM(kinds ...string) string {
	var b strings.Builder
	for _, k := range kinds {
		b.WriteString(Authority(k).Roots())
	}
	return b.String()
}

func pemOf(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// identity collects the options of an Identity.
type identity struct {
	otherRoot, noIntermediate, withRoot, expired, otherKey, client bool
	names                                                          []string
	staple                                                         *StaplePlan
}

// plain says that the certificate is the common one.
func (i *identity) plain() bool { return !i.expired && !i.client && len(i.names) == 0 }

// Option changes an Identity.
type Option func(*identity)

// UnknownRoot takes chain and key from a second authority of the same names, which nobody trusts.
func UnknownRoot() Option { return func(i *identity) { i.otherRoot = true } }

// NoIntermediate leaves the intermediate out of the chain.
func NoIntermediate() Option { return func(i *identity) { i.noIntermediate = true } }

// WithRoot sends the root too.
func WithRoot() Option { return func(i *identity) { i.withRoot = true } }

// Expired ends the leaf's validity half an hour ago.
func Expired() Option { return func(i *identity) { i.expired = true } }

// OtherKey signs with another key than the certificate's.
func OtherKey() Option { return func(i *identity) { i.otherKey = true } }

// ClientUse makes a certificate for clients: id-kp-clientAuth in place of id-kp-serverAuth.
func ClientUse() Option { return func(i *identity) { i.client = true } }

// Names replaces the names of the certificate: host names or IP addresses.
func Names(names ...string) Option { return func(i *identity) { i.names = names } }

// Stapled adds an OCSP response for the identity's own leaf.
func Stapled(plan StaplePlan) Option { return func(i *identity) { i.staple = &plan } }

// Identity is a chain, leaf and intermediate, for server.test, localhost, 127.0.0.1 and ::1 with its
// key. Without options it is the same leaf each time.
func (p *PKI) Identity(options ...Option) wire.Identity {
	var i identity
	for _, o := range options {
		o(&i)
	}
	from := p
	if i.otherRoot {
		from = p.other()
	}
	leaf := from.leaf
	if !i.plain() {
		leaf = from.inter.issue(from.leafTemplate(&i), from.leafKey.Public())
	}
	id := wire.Identity{Chain: [][]byte{leaf}, Signer: from.leafKey, Scheme: p.scheme()}
	if !i.noIntermediate {
		id.Chain = append(id.Chain, from.inter.cert.Raw)
	}
	if i.withRoot {
		id.Chain = append(id.Chain, from.root.cert.Raw)
	}
	if i.otherKey {
		id.Signer = from.other().leafKey
	}
	if i.staple != nil {
		plan := *i.staple
		if plan.Leaf == nil {
			plan.Leaf = leaf
		}
		id.Staple = from.Staple(plan)
	}
	return id
}

func (p *PKI) scheme() wire.Scheme {
	switch p.kind {
	case ECDSA:
		return wire.ECDSAP256
	case RSA:
		return wire.RSAPSS256
	}
	return wire.MLDSA65
}

func (p *PKI) leafTemplate(i *identity) *x509.Certificate {
	names := i.names
	if len(names) == 0 {
		names = []string{"server.test", "localhost", "127.0.0.1", "::1"}
	}
	t := &x509.Certificate{
		Subject:     pkix.Name{Organization: []string{"assay harness"}, CommonName: names[0]},
		NotBefore:   p.made.Add(-validBefore),
		NotAfter:    p.made.Add(validAfter),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if i.client {
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	if i.expired {
		t.NotAfter = p.made.Add(-validBefore / 2)
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	return t
}
