package tpm

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha1" // names certificates in OCSP, and protects nothing
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
)

// Answered is the evidence of a request to the harness's OCSP responder.
type Answered struct {
	N      int    `json:"n"`                // counted from 1
	Serial string `json:"serial,omitempty"` // asked about, in hex
	Bytes  int    `json:"bytes"`            // of the request
	SHA256 string `json:"sha256,omitempty"` // of the answer, where it says good
	Status string `json:"status"`           // good, unauthorized, malformed, not-ready
}

// Certificate is a leaf with its issuer and the issuer's key, which signs OCSP responses.
type Certificate struct {
	leaf, issuer *x509.Certificate
	key          crypto.Signer
}

// ParseCertificate reads what /open hands out.
func ParseCertificate(o Opened) (*Certificate, error) {
	leaf, err := parsePEM("leaf", o.Leaf)
	if err != nil {
		return nil, err
	}
	issuer, err := parsePEM("issuer", o.Issuer)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode([]byte(o.IssuerKey))
	if block == nil {
		return nil, errors.New("issuerKey: no PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("issuerKey: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("issuerKey: a %T does not sign", key)
	}
	return &Certificate{leaf, issuer, signer}, nil
}

func parsePEM(what, text string) (*x509.Certificate, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, fmt.Errorf("%s: no PEM", what)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return c, nil
}

// Response encodes an OCSP response of RFC 6960 that says that the leaf is good from thisUpdate to
// nextUpdate.
func (c *Certificate) Response(thisUpdate, nextUpdate time.Time) ([]byte, error) {
	public, err := x509.MarshalPKIXPublicKey(c.key.Public())
	if err != nil {
		return nil, fmt.Errorf("OCSP response: %w", err)
	}
	algorithm, null, err := c.algorithm()
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(explicit(2), func(b *cryptobyte.Builder) { b.AddASN1OctetString(keyHash(public)) })
		b.AddASN1GeneralizedTime(thisUpdate.UTC())
		b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) { c.single(b, thisUpdate, nextUpdate) })
		})
	})
	data, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("OCSP response: %w", err)
	}
	signature, err := c.sign(data)
	if err != nil {
		return nil, fmt.Errorf("OCSP response: %w", err)
	}
	var basic cryptobyte.Builder
	basic.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(data)
		addAlgorithm(b, algorithm, null)
		b.AddASN1BitString(signature)
	})
	inner, err := basic.Bytes()
	if err != nil {
		return nil, fmt.Errorf("OCSP response: %w", err)
	}
	var out cryptobyte.Builder
	out.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Enum(0)
		b.AddASN1(explicit(0), func(b *cryptobyte.Builder) {
			b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1})
				b.AddASN1OctetString(inner)
			})
		})
	})
	return out.Bytes()
}

// single encodes the content of a SingleResponse.
func (c *Certificate) single(b *cryptobyte.Builder, thisUpdate, nextUpdate time.Time) {
	name := sha1.Sum(c.issuer.RawSubject)
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		addAlgorithm(b, asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}, true)
		b.AddASN1OctetString(name[:])
		b.AddASN1OctetString(keyHash(c.issuer.RawSubjectPublicKeyInfo))
		b.AddASN1BigInt(c.leaf.SerialNumber)
	})
	b.AddASN1(tags.Tag(0).ContextSpecific(), func(*cryptobyte.Builder) {})
	b.AddASN1GeneralizedTime(thisUpdate.UTC())
	b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { b.AddASN1GeneralizedTime(nextUpdate.UTC()) })
}

// algorithm is the signature algorithm of the issuer's key, with SHA-256 where it hashes.
func (c *Certificate) algorithm() (oid asn1.ObjectIdentifier, null bool, err error) {
	switch c.issuer.PublicKeyAlgorithm {
	case x509.ECDSA:
		return asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}, false, nil
	case x509.RSA:
		return asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, true, nil
	}
	// An ML-DSA key has the object identifier of its signatures (RFC 9881 section 2).
	var info struct {
		Algorithm struct{ OID asn1.ObjectIdentifier }
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(c.issuer.RawSubjectPublicKeyInfo, &info); err != nil {
		return nil, false, fmt.Errorf("issuer's key: %w", err)
	}
	if mldsa := (asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3}); len(info.Algorithm.OID) != 9 || !info.Algorithm.OID[:8].Equal(mldsa) {
		return nil, false, fmt.Errorf("issuer's key: %s is neither ECDSA, RSA nor ML-DSA", info.Algorithm.OID)
	}
	return info.Algorithm.OID, false, nil
}

func (c *Certificate) sign(data []byte) ([]byte, error) {
	switch c.issuer.PublicKeyAlgorithm {
	case x509.ECDSA, x509.RSA:
		digest := sha256.Sum256(data)
		return c.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	}
	return c.key.Sign(rand.Reader, data, crypto.Hash(0))
}

// explicit is the tag of an explicit context-specific field.
func explicit(n uint8) tags.Tag { return tags.Tag(n).ContextSpecific().Constructed() }

func addAlgorithm(b *cryptobyte.Builder, oid asn1.ObjectIdentifier, null bool) {
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		if null {
			b.AddASN1NULL()
		}
	})
}

// keyHash is the SHA-1 of the bits of a SubjectPublicKeyInfo's key.
func keyHash(spki []byte) []byte {
	in := cryptobyte.String(spki)
	var inner, algorithm cryptobyte.String
	var bits asn1.BitString
	if !in.ReadASN1(&inner, tags.SEQUENCE) || !inner.ReadASN1(&algorithm, tags.SEQUENCE) || !inner.ReadASN1BitString(&bits) {
		return nil // the certificate would not have been parsed
	}
	h := sha1.Sum(bits.RightAlign())
	return h[:]
}

// requestedSerial reads the serial number that an OCSPRequest asks about first.
func requestedSerial(raw []byte) (*big.Int, error) {
	in := cryptobyte.String(raw)
	var request, tbs, list, one, id, algorithm cryptobyte.String
	if !in.ReadASN1(&request, tags.SEQUENCE) || !request.ReadASN1(&tbs, tags.SEQUENCE) ||
		!tbs.SkipOptionalASN1(explicit(0)) || !tbs.SkipOptionalASN1(explicit(1)) || !tbs.ReadASN1(&list, tags.SEQUENCE) ||
		!list.ReadASN1(&one, tags.SEQUENCE) || !one.ReadASN1(&id, tags.SEQUENCE) || !id.ReadASN1(&algorithm, tags.SEQUENCE) ||
		!id.SkipASN1(tags.OCTET_STRING) || !id.SkipASN1(tags.OCTET_STRING) || len(id) > 66 {
		return nil, errors.New("no OCSPRequest")
	}
	serial := new(big.Int)
	if !id.ReadASN1Integer(serial) {
		return nil, errors.New("OCSPRequest without a serial number")
	}
	return serial, nil
}

// maxRequest bounds a request to the responder.
const maxRequest = 16 << 10

// Responder is an OCSP responder of the harness on loopback. It says good of one certificate, each time
// with a thisUpdate of its own, so that its answers differ.
type Responder struct {
	env      *scenarios.Env
	listener net.Listener
	server   *http.Server
	loop     sync.WaitGroup

	mu       sync.Mutex
	about    *Certificate
	validity time.Duration
	asked    int
	failure  error
}

// StartResponder starts a responder that answers once it is told a certificate.
func StartResponder(ctx context.Context, env *scenarios.Env) (*Responder, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("OCSP responder: %w", err)
	}
	r := &Responder{env: env, listener: l, validity: time.Hour}
	r.server = &http.Server{Handler: http.HandlerFunc(r.serve), ReadTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10}
	r.loop.Go(func() {
		if err := r.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			r.fail(err)
		}
	})
	return r, nil
}

// URL is where it listens.
func (r *Responder) URL() string { return "http://" + r.listener.Addr().String() + "/" }

// Answer makes it answer for a certificate, for so long from the moment of each answer.
func (r *Responder) Answer(about *Certificate, validity time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.about, r.validity = about, validity
}

// Close ends it, and returns the first error of the harness itself.
func (r *Responder) Close() error {
	err := r.server.Close()
	r.loop.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(err, r.failure)
}

func (r *Responder) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failure == nil {
		r.failure = err
	}
}

func (r *Responder) serve(w http.ResponseWriter, q *http.Request) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, q.Body, maxRequest))
	if q.Method == http.MethodGet { // RFC 6960 appendix A.1
		raw, err = base64.StdEncoding.DecodeString(strings.TrimPrefix(q.URL.Path, "/"))
	}
	answer, said := r.answer(raw, err)
	if err := r.env.Put(results.FromUpstream, Responded, said); err != nil {
		r.fail(err)
	}
	w.Header().Set("Content-Type", "application/ocsp-response")
	_, _ = w.Write(answer) // a client that went away is no error
}

// answer makes the response to a request and the evidence of it.
func (r *Responder) answer(raw []byte, err error) ([]byte, Answered) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	said := Answered{N: r.asked, Bytes: len(raw)}
	serial, parseErr := requestedSerial(raw)
	refuse := func(status string, code byte) ([]byte, Answered) {
		said.Status = status
		return []byte{0x30, 3, 0x0a, 1, code}, said
	}
	if err = errors.Join(err, parseErr); err != nil {
		return refuse("malformed", 1)
	}
	said.Serial = serial.Text(16)
	if r.about == nil {
		return refuse("not-ready", 3)
	}
	if serial.Cmp(r.about.leaf.SerialNumber) != 0 {
		return refuse("unauthorized", 6)
	}
	now := time.Now()
	// A second earlier each time: the encoding has no fractions, and equal answers could not be told apart.
	response, err := r.about.Response(now.Add(-time.Minute-time.Duration(r.asked)*time.Second), now.Add(r.validity))
	if err != nil {
		if r.failure == nil {
			r.failure = err
		}
		return refuse("not-ready", 2)
	}
	said.Status, said.SHA256 = "good", Digest(response)
	return response, said
}

// Digest is the SHA-256 of a response in hex, as Answered has it.
func Digest(response []byte) string {
	sum := sha256.Sum256(response)
	return hex.EncodeToString(sum[:])
}

// Forgery is an attestation that the harness made, for /verify to refuse.
type Forgery struct {
	Name      string `json:"name"`
	Attest    []byte `json:"attest"`
	Signature []byte `json:"signature"`
	Error     string `json:"error,omitempty"` // why it could not be made
}
