package tls

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/mldsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"fmt"
	"strings"
)

// String gives the registered name, or the number of a scheme that the prober does not know.
func (s Scheme) String() string {
	switch s {
	case ECDSAP256:
		return "ecdsa_secp256r1_sha256"
	case ECDSAP384:
		return "ecdsa_secp384r1_sha384"
	case RSAPSS256:
		return "rsa_pss_rsae_sha256"
	case Ed25519:
		return "ed25519"
	case MLDSA44:
		return "mldsa44"
	case MLDSA65:
		return "mldsa65"
	case MLDSA87:
		return "mldsa87"
	case rsaPKCS256:
		return "rsa_pkcs1_sha256"
	}
	return fmt.Sprintf("0x%04x", uint16(s))
}

// Contexts of CertificateVerify, RFC 9846 section 4.5.2.
const (
	serverContext = "TLS 1.3, server CertificateVerify"
	clientContext = "TLS 1.3, client CertificateVerify"
)

// signedContent is what CertificateVerify signs.
func signedContent(context string, digest []byte) []byte {
	return append([]byte(strings.Repeat(" ", 64)+context+"\x00"), digest...)
}

// schemeOf is the scheme that a key signs with; 0: the prober has none for it.
func schemeOf(key crypto.PublicKey) Scheme {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return ECDSAP256
		case elliptic.P384():
			return ECDSAP384
		}
	case *rsa.PublicKey:
		return RSAPSS256
	case ed25519.PublicKey:
		return Ed25519
	case *mldsa.PublicKey:
		switch k.Parameters() {
		case mldsa.MLDSA44():
			return MLDSA44
		case mldsa.MLDSA65():
			return MLDSA65
		case mldsa.MLDSA87():
			return MLDSA87
		}
	}
	return 0
}

// scheme is the one named by the identity, or that of its key.
func (i Identity) scheme() Scheme {
	if i.Scheme != 0 || i.Signer == nil {
		return i.Scheme
	}
	return schemeOf(i.Signer.Public())
}

// sign makes a signature as the key's own scheme does it. ML-DSA signs the content itself with an empty
// context, draft-ietf-tls-mldsa.
func sign(signer crypto.Signer, content []byte) ([]byte, error) {
	if signer == nil {
		return nil, fmt.Errorf("sign: the identity has no key")
	}
	switch scheme := schemeOf(signer.Public()); scheme {
	case ECDSAP256:
		d := sha256.Sum256(content)
		return signer.Sign(rand.Reader, d[:], crypto.SHA256)
	case ECDSAP384:
		d := sha512.Sum384(content)
		return signer.Sign(rand.Reader, d[:], crypto.SHA384)
	case RSAPSS256:
		d := sha256.Sum256(content)
		opts := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
		return signer.Sign(rand.Reader, d[:], opts)
	case Ed25519:
		return signer.Sign(rand.Reader, content, crypto.Hash(0))
	case MLDSA44, MLDSA65, MLDSA87:
		return signer.Sign(rand.Reader, content, &mldsa.Options{})
	}
	return nil, fmt.Errorf("sign: no scheme for a key of type %T", signer.Public())
}

// verify says whether a signature under a scheme is that of the certificate's key. A scheme that does not
// fit the key never verifies.
func verify(scheme Scheme, certificate, content, signature []byte) bool {
	cert, err := x509.ParseCertificate(certificate)
	if err != nil || scheme == 0 || schemeOf(cert.PublicKey) != scheme {
		return false
	}
	switch key := cert.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if scheme == ECDSAP384 {
			d := sha512.Sum384(content)
			return ecdsa.VerifyASN1(key, d[:], signature)
		}
		d := sha256.Sum256(content)
		return ecdsa.VerifyASN1(key, d[:], signature)
	case *rsa.PublicKey:
		d := sha256.Sum256(content)
		opts := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}
		return rsa.VerifyPSS(key, crypto.SHA256, d[:], signature, opts) == nil
	case ed25519.PublicKey:
		return len(key) == ed25519.PublicKeySize && ed25519.Verify(key, content, signature)
	case *mldsa.PublicKey:
		return mldsa.Verify(key, content, signature, nil) == nil
	}
	return false
}

// certificateMessage is a Certificate of TLS 1.3; a staple goes to the leaf's entry.
func certificateMessage(request []byte, chain [][]byte, staple []byte) []byte {
	var list []byte
	for i, der := range chain {
		list = appendVec24(list, der)
		var extensions []byte
		if i == 0 && staple != nil {
			status := appendVec24([]byte{1}, staple)
			extensions = appendVec16(append16(nil, extStatus), status)
		}
		list = appendVec16(list, extensions)
	}
	return message(msgCertificate, appendVec24(appendVec8(nil, request), list))
}

// certificates are the entries of a Certificate message of TLS 1.3.
type certificates struct {
	chain     [][]byte
	staple    []byte
	elsewhere bool // a staple in an entry that is not the leaf's
}

func parseCertificates(body []byte) (certificates, error) {
	var out certificates
	c := cursor{b: body}
	c.vec8()
	list := cursor{b: c.vec24()}
	for list.more() {
		der := list.vec24()
		extensions, err := parseExtensions(list.vec16())
		if list.bad || err != nil {
			return out, garbled("Certificate: entry %d is malformed", len(out.chain))
		}
		for _, e := range extensions {
			out.staples(e)
		}
		out.chain = append(out.chain, der)
	}
	if !c.whole() || list.bad {
		return out, garbled("Certificate of %d bytes is malformed", len(body))
	}
	return out, nil
}

// staples takes the OCSP response out of a status_request, RFC 9846 section 4.5.1.1.
func (c *certificates) staples(e Extension) {
	if e.Type != extStatus {
		return
	}
	status := cursor{b: e.Data}
	kind, response := status.u8(), status.vec24()
	switch {
	case len(c.chain) > 0:
		c.elsewhere = true
	case kind == 1 && status.whole():
		c.staple = response
	}
}

func verifyMessage(scheme Scheme, signature []byte) []byte {
	return message(msgCertificateVerify, appendVec16(append16(nil, uint16(scheme)), signature))
}

func parseVerify(body []byte) (Scheme, []byte, error) {
	c := cursor{b: body}
	scheme, signature := Scheme(c.u16()), c.vec16()
	if !c.whole() {
		return 0, nil, garbled("CertificateVerify of %d bytes is malformed", len(body))
	}
	return scheme, signature, nil
}
