package ocsp

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/assay-bench/assay/reference/pqtls/pki"
)

// maxValidity bounds how long a response of this responder is valid.
const maxValidity = 4 * time.Hour

// ResponderOptions configure a Responder. Zero fields get the defaults named beside them.
type ResponderOptions struct {
	Now      func() time.Time // time.Now
	Validity time.Duration    // from thisUpdate to nextUpdate; 1 h, at most 4 h
	Delegate bool             // sign with a delegated responder certificate, not with the issuer's key
}

// Responder answers for the leaves of one authority, by POST and GET (RFC 6960 appendix A).
type Responder struct {
	authority *pki.Authority
	now       func() time.Time
	validity  time.Duration
	delegate  *pki.Source // nil: the issuer signs
}

// NewResponder returns a responder for the leaves of a.
func NewResponder(a *pki.Authority, o ResponderOptions) (*Responder, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Validity == 0 {
		o.Validity = time.Hour
	}
	if o.Validity < time.Second || o.Validity > maxValidity {
		return nil, fmt.Errorf("ocsp: validity %v, want 1 s to %v", o.Validity, maxValidity)
	}
	r := &Responder{authority: a, now: o.Now, validity: o.Validity}
	if o.Delegate {
		r.delegate = a.Source(pki.Request{Use: pki.Responder, Common: "ocsp responder"})
	}
	return r, nil
}

// Respond answers an encoded request. It never fails: trouble is an encoded error status.
func (r *Responder) Respond(request []byte) []byte {
	der, err := r.respond(request)
	if err == nil {
		return der
	}
	if status, ok := errors.AsType[ErrorStatus](err); ok {
		return status.Marshal()
	}
	return InternalError.Marshal()
}

func (r *Responder) respond(der []byte) ([]byte, error) {
	request, err := ParseRequest(der)
	if err != nil {
		return nil, Malformed
	}
	issuer, key, err := r.authority.Issuer()
	if err != nil {
		return nil, err
	}
	now := r.now().Truncate(time.Second)
	t := Template{ProducedAt: now, Nonce: request.Nonce}
	for _, id := range request.IDs {
		if !id.From(issuer) {
			return nil, Unauthorized // not authoritative for the issuer (RFC 6960 section 2.3)
		}
		t.Singles = append(t.Singles, r.single(id, now))
	}
	by := Signer{Key: key, Certificate: issuer}
	if r.delegate != nil {
		if by, err = r.delegated(); err != nil {
			return nil, err
		}
	}
	return Sign(t, by)
}

func (r *Responder) delegated() (Signer, error) {
	cert, err := r.delegate.Certificate()
	if err != nil {
		return Signer{}, err
	}
	key, err := asSigner(cert.PrivateKey)
	return Signer{Key: key, Certificate: cert.Leaf, Delegate: true}, err
}

func (r *Responder) single(id CertID, now time.Time) Single {
	s := Single{ID: id, Status: Good, ThisUpdate: now, NextUpdate: now.Add(r.validity)}
	switch known := r.authority.Status(id.Serial); known.State {
	case pki.Revoked:
		s.Status, s.RevokedAt, s.Reason = Revoked, known.At, known.Reason
	case pki.Unknown:
		s.Status = Unknown
	}
	return s
}

// ServeHTTP answers POST with the request as body, and GET with the request in base64 as path.
func (r *Responder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var der []byte
	var err error
	switch req.Method {
	case http.MethodPost:
		der, err = io.ReadAll(http.MaxBytesReader(w, req.Body, maxRequest))
	case http.MethodGet:
		if len(req.URL.Path) > maxRequest*2 {
			err = errors.New("path too long")
			break
		}
		der, err = base64.StdEncoding.DecodeString(strings.TrimLeft(req.URL.Path, "/"))
	default:
		w.Header().Set("Allow", "GET, POST")
		http.Error(w, "GET or POST", http.StatusMethodNotAllowed)
		return
	}
	answer := Malformed.Marshal()
	if err == nil {
		answer = r.Respond(der)
	}
	w.Header().Set("Content-Type", "application/ocsp-response")
	w.Header().Set("Cache-Control", "no-store") // a revocation shows at once
	_, _ = w.Write(answer)                      // the client is gone when this fails
}

// Ask encodes a request for the status of leaf, with SHA-1 hashes, which every responder knows (RFC
// 5019 section 2.1.1).
func Ask(leaf, issuer *x509.Certificate) ([]byte, error) {
	id, err := NewCertID(defaultHash, leaf.SerialNumber, issuer)
	if err != nil {
		return nil, err
	}
	return Request{IDs: []CertID{id}}.Marshal()
}
