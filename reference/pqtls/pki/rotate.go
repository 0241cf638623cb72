package pki

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync"
)

// Source holds the leaf in use for one request and replaces it on demand. The first leaf is issued at
// the first use. All methods may be called concurrently.
type Source struct {
	authority *Authority
	request   Request

	mu   sync.Mutex // also held while the first leaf is issued
	cert *tls.Certificate
}

// Source returns a source of leaves for r.
func (a *Authority) Source(r Request) *Source { return &Source{authority: a, request: r} }

// Kind returns the kind of the leaves.
func (s *Source) Kind() Kind { return s.authority.opts.Kind }

// Certificate returns the leaf in use with its chain. It must not be modified.
func (s *Source) Certificate() (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cert != nil {
		return s.cert, nil
	}
	cert, err := s.authority.Issue(s.request)
	if err != nil {
		return nil, err
	}
	s.cert = cert
	return cert, nil
}

// GetCertificate is Certificate in the form that tls.Config wants.
func (s *Source) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return s.Certificate()
}

// Rotate issues a new leaf under the same authority and puts it to use. prepare, unless nil, sees the
// leaf before any peer does: it is the place to fetch its OCSP response. When it fails the old leaf
// stays.
func (s *Source) Rotate(ctx context.Context, prepare func(context.Context, *tls.Certificate) error) (*tls.Certificate, error) {
	cert, err := s.authority.Issue(s.request)
	if err != nil {
		return nil, err
	}
	if prepare != nil {
		if err := prepare(ctx, cert); err != nil {
			return nil, fmt.Errorf("pki: prepare the new leaf %x: %w", cert.Leaf.SerialNumber, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cert = cert
	return cert, nil
}
