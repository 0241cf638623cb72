package face

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/assay-bench/assay/reference/pqtls/ocsp"
	"github.com/assay-bench/assay/reference/pqtls/pki"
)

// maxOCSP bounds an OCSP request that is looked at to find its authority.
const maxOCSP = 64 << 10

// house is the PKI of the reference.
type house struct {
	mldsa, ecdsa, rsa             *pki.Authority
	mldsaLeaf, ecdsaLeaf, rsaLeaf *pki.Source // of all servers
	identity                      *pki.Source // of the client
	responders                    []answering // ML-DSA first
	clientRoots                   *x509.CertPool
	roots                         string // PEM
}

// answering is an authority with its responder.
type answering struct {
	issuer    *x509.Certificate
	responder *ocsp.Responder
}

// newHouse makes everything but RSA keys, which wait until a client needs them.
func newHouse() (*house, error) {
	h := &house{}
	for kind, into := range map[pki.Kind]**pki.Authority{pki.MLDSA: &h.mldsa, pki.ECDSA: &h.ecdsa, pki.RSA: &h.rsa} {
		authority, err := pki.New(pki.Options{Kind: kind})
		if err != nil {
			return nil, err
		}
		*into = authority
	}
	leaf := pki.Request{Use: pki.Server, Names: []string{ServerName, "localhost"},
		IPs: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}}
	h.mldsaLeaf, h.ecdsaLeaf, h.rsaLeaf = h.mldsa.Source(leaf), h.ecdsa.Source(leaf), h.rsa.Source(leaf)
	h.identity = h.mldsa.Source(pki.Request{Use: pki.Client, Common: "assay reference client"})
	for _, authority := range []*pki.Authority{h.mldsa, h.ecdsa} {
		issuer, _, err := authority.Issuer()
		if err != nil {
			return nil, err
		}
		responder, err := ocsp.NewResponder(authority, ocsp.ResponderOptions{})
		if err != nil {
			return nil, err
		}
		h.responders = append(h.responders, answering{issuer, responder})
	}
	var err error
	if h.clientRoots, err = pki.Pool(h.mldsa); err != nil {
		return nil, err
	}
	h.roots, err = pki.Roots(h.mldsa, h.ecdsa)
	return h, err
}

// issued returns the leaf in use of a source, and its issuer.
func (h *house) issued(source *pki.Source) (leaf, issuer *x509.Certificate, err error) {
	cert, err := source.Certificate()
	if err != nil {
		return nil, nil, err
	}
	issuer, err = x509.ParseCertificate(cert.Certificate[1])
	return cert.Leaf, issuer, err
}

// source asks the responder of a leaf's authority without a network.
func (h *house) source() ocsp.Source {
	return ocsp.SourceFunc(func(ctx context.Context, leaf, issuer *x509.Certificate) ([]byte, time.Time, error) {
		for _, a := range h.responders {
			if a.issuer.Equal(issuer) {
				return a.responder.Response(ctx, leaf, issuer)
			}
		}
		return nil, time.Time{}, fmt.Errorf("no responder for certificates of %v", issuer.Subject)
	})
}

// responder answers over HTTP for all authorities. What belongs to none goes to the first, which says so.
func (h *house) responder() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		chosen := h.responders[0]
		if request, err := ocsp.ParseRequest(readOCSP(w, r)); err == nil && len(request.IDs) > 0 {
			for _, a := range h.responders {
				if request.IDs[0].From(a.issuer) {
					chosen = a
				}
			}
		}
		chosen.responder.ServeHTTP(w, r)
	})
}

// readOCSP returns the request in r, which can be read again afterwards.
func readOCSP(w http.ResponseWriter, r *http.Request) []byte {
	if r.Method != http.MethodPost {
		der, err := base64.StdEncoding.DecodeString(strings.TrimLeft(r.URL.Path, "/"))
		if err != nil {
			return nil
		}
		return der
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxOCSP))
	if err != nil {
		body = nil // the responder calls it malformed
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return body
}

// revoke marks a leaf of any authority as revoked now.
func (h *house) revoke(serial *big.Int) error {
	var errs []error
	for _, authority := range []*pki.Authority{h.mldsa, h.ecdsa, h.rsa} {
		err := authority.Revoke(serial, 0, time.Now())
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
