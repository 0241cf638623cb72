package ocsp

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/assay-bench/assay/reference/defect"
)

// Code says why a response is refused.
type Code string

// The reasons of a refusal.
const (
	CodeGarbage   Code = "staple_garbage"   // not a response
	CodeIssuer    Code = "staple_issuer"    // about another issuer's certificate
	CodeSerial    Code = "staple_serial"    // about another certificate of the issuer
	CodeSignature Code = "staple_signature" // not signed by the issuer or its delegate
	CodeDelegate  Code = "staple_delegate"  // signed by a certificate that may not sign
	CodeWindow    Code = "staple_window"    // not yet or no longer valid
	CodeRevoked   Code = "staple_revoked"
	CodeUnknown   Code = "staple_unknown"
)

// Refusal is the error of Verify.
type Refusal struct {
	Code Code
	Err  error
}

// Error names the code and the cause.
func (r *Refusal) Error() string { return fmt.Sprintf("ocsp: %s: %v", r.Code, r.Err) }

// Unwrap returns the cause.
func (r *Refusal) Unwrap() error { return r.Err }

func refuse(code Code, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Err: fmt.Errorf(format, args...)}
}

// CodeOf returns the code of an error of Verify, or the empty string.
func CodeOf(err error) Code {
	if r, ok := errors.AsType[*Refusal](err); ok {
		return r.Code
	}
	return ""
}

// Options of Verify. Skew widens the validity of a response at both ends.
type Options struct {
	Skew    time.Duration
	Defects defect.Set
}

// Verify checks that a response is a valid statement that leaf is good now: that it is about leaf and
// issuer (RFC 6960 section 3.2 items 1 and 2), signed by issuer or a delegate (items 3 and 4), within
// thisUpdate and nextUpdate (items 5 and 6), and the status. A response without nextUpdate is refused,
// as nothing bounds its age. Every error is a *Refusal; the response comes along when only its status
// is refused.
//
// The order is that of the cost: a response about another certificate is refused before its signature
// is looked at.
func Verify(der []byte, leaf, issuer *x509.Certificate, now time.Time, o Options) (*Response, error) {
	r, err := ParseResponse(der)
	if err != nil {
		return nil, &Refusal{Code: CodeGarbage, Err: err}
	}
	single, err := r.about(leaf, issuer, o.Defects)
	if err != nil {
		return nil, err
	}
	if err := r.checkSigner(issuer, now, o); err != nil {
		return nil, err
	}
	if !o.Defects.On(defect.OCSPWindowUnchecked) {
		if err := single.checkWindow(now, o.Skew); err != nil {
			return nil, err
		}
	}
	if !o.Defects.On(defect.OCSPStatusIgnored) {
		if err := single.checkStatus(); err != nil {
			return r, err
		}
	}
	return r, nil
}

// about returns the statement about leaf, or the reason why there is none.
func (r *Response) about(leaf, issuer *x509.Certificate, planted defect.Set) (Single, error) {
	fromIssuer := false
	for _, s := range r.Singles {
		issued := planted.On(defect.OCSPIssuerUnchecked) || s.ID.From(issuer)
		same := planted.On(defect.OCSPSerialUnchecked) || s.ID.Serial.Cmp(leaf.SerialNumber) == 0
		if issued && same {
			return s, nil
		}
		fromIssuer = fromIssuer || issued
	}
	if fromIssuer {
		return Single{}, refuse(CodeSerial, "response about serial number %x, the certificate has %x",
			r.Singles[0].ID.Serial, leaf.SerialNumber)
	}
	return Single{}, refuse(CodeIssuer, "response about a certificate of another issuer than %v", issuer.Subject)
}

// checkSigner verifies the signature under the issuer's key, or under that of a delegate in the
// response.
func (r *Response) checkSigner(issuer *x509.Certificate, now time.Time, o Options) error {
	signer := issuer
	if !r.namedAs(issuer) {
		i := slices.IndexFunc(r.Certificates, r.namedAs)
		if i < 0 {
			if o.Defects.On(defect.OCSPSignatureUnchecked) {
				return nil
			}
			return refuse(CodeSignature, "the responder is neither the issuer nor a certificate of the response")
		}
		signer = r.Certificates[i]
		if err := checkDelegate(signer, issuer, now, o); err != nil {
			return err
		}
	}
	if o.Defects.On(defect.OCSPSignatureUnchecked) {
		return nil
	}
	if r.Algorithm == x509.UnknownSignatureAlgorithm {
		return refuse(CodeSignature, "unknown signature algorithm")
	}
	if err := signer.CheckSignature(r.Algorithm, r.Signed, r.Signature); err != nil {
		return &Refusal{Code: CodeSignature, Err: err}
	}
	return nil
}

// namedAs reports whether the responder id is that of cert.
func (r *Response) namedAs(cert *x509.Certificate) bool {
	if r.KeyHash == nil {
		return bytes.Equal(r.Name, cert.RawSubject)
	}
	hash, err := keyHash(cert)
	return err == nil && bytes.Equal(hash, r.KeyHash)
}

// checkDelegate verifies that issuer itself made cert a responder (RFC 6960 section 4.2.2.2).
func checkDelegate(cert, issuer *x509.Certificate, now time.Time, o Options) error {
	if err := cert.CheckSignatureFrom(issuer); err != nil || !bytes.Equal(cert.RawIssuer, issuer.RawSubject) {
		return refuse(CodeDelegate, "the responder's certificate is not of the issuer %v", issuer.Subject)
	}
	if now.Before(cert.NotBefore.Add(-o.Skew)) || now.After(cert.NotAfter.Add(o.Skew)) {
		return refuse(CodeDelegate, "the responder's certificate is valid from %v to %v", cert.NotBefore, cert.NotAfter)
	}
	if !o.Defects.On(defect.OCSPDelegateEkuUnchecked) && !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) {
		return refuse(CodeDelegate, "the responder's certificate lacks id-kp-OCSPSigning")
	}
	return nil
}

// checkWindow wants thisUpdate <= now < nextUpdate, each widened by skew.
func (s Single) checkWindow(now time.Time, skew time.Duration) error {
	switch {
	case s.NextUpdate.IsZero():
		return refuse(CodeWindow, "no nextUpdate")
	case now.Before(s.ThisUpdate.Add(-skew)):
		return refuse(CodeWindow, "valid from %v, it is %v", s.ThisUpdate, now)
	case !now.Before(s.NextUpdate.Add(skew)):
		return refuse(CodeWindow, "valid until %v, it is %v", s.NextUpdate, now)
	}
	return nil
}

func (s Single) checkStatus() error {
	switch s.Status {
	case Good:
		return nil
	case Revoked:
		return refuse(CodeRevoked, "revoked at %v for reason %d", s.RevokedAt, s.Reason)
	}
	return refuse(CodeUnknown, "the responder does not know the certificate")
}
