package pki

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// maxPEM bounds what ParsePEM reads; an ML-DSA chain of three is 27 KB.
const maxPEM = 1 << 20

// EncodePEM returns the certificates one after another.
func EncodePEM(certs ...*x509.Certificate) string {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return string(out)
}

// ParsePEM reads the certificates of a PEM text of at most 1 MiB. A text without any is an error.
func ParsePEM(text string) ([]*x509.Certificate, error) {
	if len(text) > maxPEM {
		return nil, fmt.Errorf("pki: %d bytes of PEM, at most %d are read", len(text), maxPEM)
	}
	var certs []*x509.Certificate
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("pki: PEM block %d is a %q, want a certificate", len(certs), block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("pki: certificate %d: %w", len(certs), err)
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, errors.New("pki: no certificate in the PEM text")
	}
	return certs, nil
}

// ParseRequestPEM reads one certificate signing request.
func ParseRequestPEM(text string) (*x509.CertificateRequest, error) {
	if len(text) > maxPEM {
		return nil, fmt.Errorf("pki: %d bytes of PEM, at most %d are read", len(text), maxPEM)
	}
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("pki: no certificate signing request in the PEM text")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("pki: certificate signing request: %w", err)
	}
	return csr, nil
}

// EncodeKeyPEM returns a private key in PKCS#8; a circl-backed key as the standard library's.
func EncodeKeyPEM(key crypto.Signer) (string, error) {
	var plain crypto.PrivateKey = key
	if c, ok := key.(*CirclSigner); ok {
		plain = c.std
	}
	der, err := x509.MarshalPKCS8PrivateKey(plain)
	if err != nil {
		return "", fmt.Errorf("pki: encode a private key: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), nil
}

// Roots returns the root certificates of authorities as PEM. It makes the keys of an RSA authority.
func Roots(authorities ...*Authority) (string, error) {
	var text string
	for _, a := range authorities {
		root, err := a.Root()
		if err != nil {
			return "", err
		}
		text += EncodePEM(root)
	}
	return text, nil
}

// Pool returns a pool of the roots of authorities. It makes the keys of an RSA authority.
func Pool(authorities ...*Authority) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	for _, a := range authorities {
		root, err := a.Root()
		if err != nil {
			return nil, err
		}
		pool.AddCert(root)
	}
	return pool, nil
}
