package cost

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/mldsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"time"
)

// chain is a leaf below an intermediate below a root. Names and serials are the same in all, so that bytes
// differ only by keys and signatures.
type chain struct {
	name string
	leaf tls.Certificate
	root *x509.Certificate
}

type maker func() (crypto.Signer, error)

func mldsaKey(p mldsa.Parameters) maker {
	return func() (crypto.Signer, error) { return mldsa.GenerateKey(p) }
}

func makers(name string) (leaf, inter, root maker, ok bool) {
	one := func(m maker) (maker, maker, maker, bool) { return m, m, m, true }
	switch name {
	case "ECDSA P-256":
		return one(func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) })
	case "Ed25519":
		return one(func() (crypto.Signer, error) { _, key, err := ed25519.GenerateKey(rand.Reader); return key, err })
	case "RSA-2048":
		return one(func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) })
	case "ML-DSA-44":
		return one(mldsaKey(mldsa.MLDSA44()))
	case "ML-DSA-65":
		return one(mldsaKey(mldsa.MLDSA65()))
	case "ML-DSA-87":
		return one(mldsaKey(mldsa.MLDSA87()))
	case "65/65/87":
		return mldsaKey(mldsa.MLDSA65()), mldsaKey(mldsa.MLDSA65()), mldsaKey(mldsa.MLDSA87()), true
	}
	return nil, nil, nil, false
}

// Chains lists the chains that can be measured: root, intermediate and leaf alike, but for 65/65/87, which
// is leaf, intermediate and root.
func Chains() []string {
	return []string{"ECDSA P-256", "Ed25519", "RSA-2048", "ML-DSA-44", "ML-DSA-65", "ML-DSA-87", "65/65/87"}
}

func newChain(name string) (chain, error) {
	leafKey, interKey, rootKey, ok := makers(name)
	if !ok {
		return chain{}, fmt.Errorf("chain %q: want one of %q", name, Chains())
	}
	var keys [3]crypto.Signer
	for i, m := range []maker{rootKey, interKey, leafKey} {
		k, err := m()
		if err != nil {
			return chain{}, fmt.Errorf("chain %s: %w", name, err)
		}
		keys[i] = k
	}
	now := time.Now()
	template := func(serial int64, cn string, ca bool) *x509.Certificate {
		t := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: cn}, BasicConstraintsValid: true, IsCA: ca,
			NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		}
		if ca {
			t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
		} else {
			t.ExtKeyUsage, t.DNSNames = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, []string{Name}
		}
		return t
	}
	root, err := sign(template(1, "root", true), nil, keys[0], keys[0])
	if err != nil {
		return chain{}, fmt.Errorf("chain %s: root: %w", name, err)
	}
	inter, err := sign(template(2, "intermediate", true), root, keys[1], keys[0])
	if err != nil {
		return chain{}, fmt.Errorf("chain %s: intermediate: %w", name, err)
	}
	leaf, err := sign(template(3, "leaf", false), inter, keys[2], keys[1])
	if err != nil {
		return chain{}, fmt.Errorf("chain %s: leaf: %w", name, err)
	}
	return chain{name, tls.Certificate{Certificate: [][]byte{leaf.Raw, inter.Raw}, PrivateKey: keys[2], Leaf: leaf}, root}, nil
}

func sign(template, parent *x509.Certificate, key, by crypto.Signer) (*x509.Certificate, error) {
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}
