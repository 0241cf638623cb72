package tls

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// maxChain bounds the certificates that are verified of one chain.
const maxChain = 16

// VerifiedChain verifies certificates as a peer sent them (DER, leaf first) up to a root of the PEM, for
// a name and at a time. It returns the length of the shortest chain, leaf and root included. An empty
// name is not compared. It depends on its arguments alone.
func VerifiedChain(certs [][]byte, roots, name string, at time.Time) (int, error) {
	if at.IsZero() {
		return 0, errors.New("verify chain: no time to verify it at")
	}
	if len(certs) == 0 || len(certs) > maxChain {
		return 0, fmt.Errorf("verify chain: %d certificates, want 1 to %d", len(certs), maxChain)
	}
	o := x509.VerifyOptions{
		DNSName: name, CurrentTime: at, Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if !o.Roots.AppendCertsFromPEM([]byte(roots)) {
		return 0, errors.New("verify chain: no certificate in the roots")
	}
	leaf, err := x509.ParseCertificate(certs[0])
	if err != nil {
		return 0, fmt.Errorf("verify chain: leaf: %w", err)
	}
	for i, der := range certs[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return 0, fmt.Errorf("verify chain: certificate %d: %w", i+1, err)
		}
		o.Intermediates.AddCert(c)
	}
	chains, err := leaf.Verify(o)
	if err != nil {
		return 0, fmt.Errorf("verify chain: %w", err)
	}
	shortest := len(chains[0])
	for _, c := range chains {
		shortest = min(shortest, len(c))
	}
	return shortest, nil
}
