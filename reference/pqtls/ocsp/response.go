package ocsp

import (
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// ErrorStatus is the responseStatus of a response without content (RFC 6960 section 4.2.1).
type ErrorStatus uint8

// The error statuses that the responder uses.
const (
	Malformed     ErrorStatus = 1
	InternalError ErrorStatus = 2
	TryLater      ErrorStatus = 3
	Unauthorized  ErrorStatus = 6
)

// Error says which status it is.
func (s ErrorStatus) Error() string {
	return fmt.Sprintf("ocsp: responder answers with status %d", uint8(s))
}

// Marshal encodes the five bytes of a response without content.
func (s ErrorStatus) Marshal() []byte { return []byte{0x30, 3, 0x0a, 1, byte(s)} }

// Template is what a responder signs. Nonce is copied from the request, if it had one.
type Template struct {
	ProducedAt time.Time
	Singles    []Single
	Nonce      []byte
}

// Signer is who signs. With Delegate the responder's certificate is sent along, as a delegated
// responder must; without, the responder is the issuer itself, whose certificate the client has.
type Signer struct {
	Key         crypto.Signer
	Certificate *x509.Certificate
	Delegate    bool
}

// Sign encodes and signs a response, the responder named byKey.
func Sign(t Template, by Signer) ([]byte, error) {
	if len(t.Singles) == 0 {
		return nil, errors.New("ocsp: a response about no certificate")
	}
	alg, err := algorithmFor(by.Key.Public())
	if err != nil {
		return nil, err
	}
	tbs, err := t.marshal(by.Certificate)
	if err != nil {
		return nil, err
	}
	sig, err := alg.sign(by.Key, tbs)
	if err != nil {
		return nil, fmt.Errorf("ocsp: sign a response: %w", err)
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { // OCSPResponse
		b.AddASN1Enum(0)
		b.AddASN1(tagged(0), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { // ResponseBytes
				b.AddASN1ObjectIdentifier(oidBasic)
				b.AddASN1(cbasn1.OCTET_STRING, func(b *cryptobyte.Builder) { addBasic(b, tbs, alg, sig, by) })
			})
		})
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("ocsp: encode a response: %w", err)
	}
	return der, nil
}

func addBasic(b *cryptobyte.Builder, tbs []byte, alg algorithm, sig []byte, by Signer) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { // BasicOCSPResponse
		b.AddBytes(tbs)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(alg.id)
			if alg.parameters {
				b.AddASN1NULL()
			}
		})
		b.AddASN1BitString(sig)
		if by.Delegate {
			b.AddASN1(tagged(0), func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(by.Certificate.Raw) })
			})
		}
	})
}

// marshal encodes the ResponseData.
func (t Template) marshal(responder *x509.Certificate) ([]byte, error) {
	name, err := keyHash(responder)
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(tagged(2), func(b *cryptobyte.Builder) { b.AddASN1OctetString(name) })
		b.AddASN1GeneralizedTime(t.ProducedAt.UTC())
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, s := range t.Singles {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { addSingle(b, s) })
			}
		})
		if len(t.Nonce) > 0 {
			b.AddASN1(tagged(1), func(b *cryptobyte.Builder) { addNonce(b, t.Nonce) })
		}
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("ocsp: encode response data: %w", err)
	}
	return der, nil
}

func addSingle(b *cryptobyte.Builder, s Single) {
	addCertID(b, s.ID)
	switch s.Status {
	case Good:
		b.AddASN1(cbasn1.Tag(0).ContextSpecific(), func(*cryptobyte.Builder) {})
	case Revoked:
		b.AddASN1(tagged(1), func(b *cryptobyte.Builder) {
			b.AddASN1GeneralizedTime(s.RevokedAt.UTC())
			if s.Reason != 0 { // unspecified is left out (RFC 5280 section 5.3.1)
				b.AddASN1(tagged(0), func(b *cryptobyte.Builder) { b.AddASN1Enum(int64(s.Reason)) })
			}
		})
	case Unknown:
		b.AddASN1(cbasn1.Tag(2).ContextSpecific(), func(*cryptobyte.Builder) {})
	default:
		b.SetError(fmt.Errorf("status %d", s.Status))
	}
	b.AddASN1GeneralizedTime(s.ThisUpdate.UTC())
	if !s.NextUpdate.IsZero() {
		b.AddASN1(tagged(0), func(b *cryptobyte.Builder) { b.AddASN1GeneralizedTime(s.NextUpdate.UTC()) })
	}
}

// ParseResponse decodes a response of at most 64 KiB and verifies nothing. A response without content
// is an ErrorStatus.
func ParseResponse(der []byte) (*Response, error) {
	if len(der) > maxResponse {
		return nil, fmt.Errorf("ocsp: response of %d bytes, at most %d are read", len(der), maxResponse)
	}
	basic, err := readEnvelope(der)
	if err != nil {
		return nil, err
	}
	var tbs, alg cryptobyte.String
	var r Response
	if !basic.ReadASN1Element(&tbs, cbasn1.SEQUENCE) || !basic.ReadASN1(&alg, cbasn1.SEQUENCE) {
		return nil, errors.New("ocsp: malformed BasicOCSPResponse")
	}
	r.Signed = tbs
	if r.Algorithm, err = readAlgorithm(alg); err != nil {
		return nil, err
	}
	var sig asn1.BitString
	if !basic.ReadASN1BitString(&sig) || sig.BitLength%8 != 0 {
		return nil, errors.New("ocsp: malformed signature")
	}
	r.Signature = sig.Bytes
	if r.Certificates, err = readCertificates(&basic); err != nil {
		return nil, err
	}
	if !basic.Empty() {
		return nil, errors.New("ocsp: data after a BasicOCSPResponse")
	}
	if err := r.readData(tbs); err != nil {
		return nil, err
	}
	return &r, nil
}

// readEnvelope opens OCSPResponse and ResponseBytes and returns the content of BasicOCSPResponse.
func readEnvelope(der []byte) (cryptobyte.String, error) {
	var outer, bytes, seq, octets, basic cryptobyte.String
	var status int
	s := cryptobyte.String(der)
	if !s.ReadASN1(&outer, cbasn1.SEQUENCE) || !s.Empty() || !outer.ReadASN1Enum(&status) {
		return nil, errors.New("ocsp: not an OCSPResponse")
	}
	if status != 0 {
		if status < 0 || status > 6 || !outer.Empty() {
			return nil, fmt.Errorf("ocsp: response status %d", status)
		}
		return nil, ErrorStatus(status)
	}
	var id asn1.ObjectIdentifier
	if !outer.ReadASN1(&bytes, tagged(0)) || !outer.Empty() || !bytes.ReadASN1(&seq, cbasn1.SEQUENCE) || !bytes.Empty() ||
		!seq.ReadASN1ObjectIdentifier(&id) || !seq.ReadASN1(&octets, cbasn1.OCTET_STRING) || !seq.Empty() {
		return nil, errors.New("ocsp: malformed ResponseBytes")
	}
	if !id.Equal(oidBasic) {
		return nil, fmt.Errorf("ocsp: response of type %v, want id-pkix-ocsp-basic", id)
	}
	if !octets.ReadASN1(&basic, cbasn1.SEQUENCE) || !octets.Empty() {
		return nil, errors.New("ocsp: malformed BasicOCSPResponse")
	}
	return basic, nil
}

// readAlgorithm returns 0 for an algorithm that is not known here. ML-DSA and ECDSA have no parameters
// (RFC 9881 section 2, RFC 5758 section 3.2).
func readAlgorithm(s cryptobyte.String) (x509.SignatureAlgorithm, error) {
	var id asn1.ObjectIdentifier
	if !s.ReadASN1ObjectIdentifier(&id) {
		return 0, errors.New("ocsp: malformed algorithm")
	}
	alg, ok := algorithmByID(id)
	if !ok {
		return 0, nil
	}
	if alg.parameters && !s.SkipOptionalASN1(cbasn1.NULL) || !s.Empty() {
		return 0, fmt.Errorf("ocsp: %v with parameters", alg.name)
	}
	return alg.name, nil
}

func readCertificates(s *cryptobyte.String) ([]*x509.Certificate, error) {
	var wrapped, list cryptobyte.String
	var present bool
	if !s.ReadOptionalASN1(&wrapped, &present, tagged(0)) || present && (!wrapped.ReadASN1(&list, cbasn1.SEQUENCE) || !wrapped.Empty()) {
		return nil, errors.New("ocsp: malformed list of certificates")
	}
	var certs []*x509.Certificate
	for !list.Empty() {
		var one cryptobyte.String
		if len(certs) == maxCertificates {
			return nil, fmt.Errorf("ocsp: more than %d certificates in a response", maxCertificates)
		}
		if !list.ReadASN1Element(&one, cbasn1.SEQUENCE) {
			return nil, errors.New("ocsp: malformed list of certificates")
		}
		c, err := x509.ParseCertificate(one)
		if err != nil {
			return nil, fmt.Errorf("ocsp: certificate %d of a response: %w", len(certs), err)
		}
		certs = append(certs, c)
	}
	return certs, nil
}

// readData decodes a ResponseData.
func (r *Response) readData(tbs cryptobyte.String) error {
	var data, list cryptobyte.String
	if !tbs.ReadASN1(&data, cbasn1.SEQUENCE) || !data.SkipOptionalASN1(tagged(0)) {
		return errors.New("ocsp: malformed ResponseData")
	}
	if err := r.readResponder(&data); err != nil {
		return err
	}
	if !data.ReadASN1GeneralizedTime(&r.ProducedAt) || !data.ReadASN1(&list, cbasn1.SEQUENCE) {
		return errors.New("ocsp: malformed ResponseData")
	}
	for !list.Empty() {
		if len(r.Singles) == maxIDs {
			return fmt.Errorf("ocsp: response about more than %d certificates", maxIDs)
		}
		var one cryptobyte.String
		if !list.ReadASN1(&one, cbasn1.SEQUENCE) {
			return errors.New("ocsp: malformed SingleResponse")
		}
		s, err := readSingle(one)
		if err != nil {
			return err
		}
		r.Singles = append(r.Singles, s)
	}
	if len(r.Singles) == 0 {
		return errors.New("ocsp: response about no certificate")
	}
	var err error
	if r.Nonce, err = readExtensions(&data, 1); err != nil {
		return err
	}
	if !data.Empty() {
		return errors.New("ocsp: data after the last element of a ResponseData")
	}
	return nil
}

func (r *Response) readResponder(data *cryptobyte.String) error {
	var name, key cryptobyte.String
	switch {
	case data.PeekASN1Tag(tagged(1)):
		var dn cryptobyte.String
		if !data.ReadASN1(&name, tagged(1)) || !name.ReadASN1Element(&dn, cbasn1.SEQUENCE) || !name.Empty() {
			return errors.New("ocsp: malformed responder name")
		}
		r.Name = dn
	default:
		if !data.ReadASN1(&key, tagged(2)) || !key.ReadASN1Bytes(&r.KeyHash, cbasn1.OCTET_STRING) || !key.Empty() || len(r.KeyHash) != 20 {
			return errors.New("ocsp: malformed responder key hash")
		}
	}
	return nil
}

func readSingle(s cryptobyte.String) (Single, error) {
	var one Single
	var err error
	if one.ID, err = readCertID(&s); err != nil {
		return Single{}, err
	}
	if err := one.readStatus(&s); err != nil {
		return Single{}, err
	}
	var next cryptobyte.String
	var present bool
	if !s.ReadASN1GeneralizedTime(&one.ThisUpdate) || !s.ReadOptionalASN1(&next, &present, tagged(0)) ||
		present && (!next.ReadASN1GeneralizedTime(&one.NextUpdate) || !next.Empty()) {
		return Single{}, errors.New("ocsp: malformed times of a SingleResponse")
	}
	if _, err := readExtensions(&s, 1); err != nil {
		return Single{}, err
	}
	if !s.Empty() {
		return Single{}, errors.New("ocsp: data after a SingleResponse")
	}
	return one, nil
}

func (s *Single) readStatus(from *cryptobyte.String) error {
	var body, reason cryptobyte.String
	var tag cbasn1.Tag
	if !from.ReadAnyASN1(&body, &tag) {
		return errors.New("ocsp: malformed status")
	}
	switch tag {
	case cbasn1.Tag(0).ContextSpecific():
		s.Status = Good
	case cbasn1.Tag(2).ContextSpecific():
		s.Status = Unknown
	case tagged(1):
		s.Status = Revoked
		var present bool
		if !body.ReadASN1GeneralizedTime(&s.RevokedAt) || !body.ReadOptionalASN1(&reason, &present, tagged(0)) ||
			present && (!reason.ReadASN1Enum(&s.Reason) || !reason.Empty() || s.Reason < 0 || s.Reason > 10) {
			return errors.New("ocsp: malformed revocation")
		}
	default:
		return fmt.Errorf("ocsp: status with tag %#x", uint8(tag))
	}
	if !body.Empty() {
		return errors.New("ocsp: data after a status")
	}
	return nil
}
