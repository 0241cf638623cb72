package bent

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/mldsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"

	"github.com/assay-bench/assay/reference/defect"
)

// Contexts of a CertificateVerify, RFC 9846 section 4.5.2.
const (
	serverContext = "TLS 1.3, server CertificateVerify"
	clientContext = "TLS 1.3, client CertificateVerify"
)

// handshakeSchemes are the signatures taken in a CertificateVerify.
var handshakeSchemes = []tls.SignatureScheme{
	tls.MLDSA44, tls.MLDSA65, tls.MLDSA87,
	tls.ECDSAWithP256AndSHA256, tls.ECDSAWithP384AndSHA384,
	tls.PSSWithSHA256, tls.PSSWithSHA384, tls.PSSWithSHA512,
}

// offeredSchemes are those and the ones that certificates alone (and TLS 1.2) may use.
var offeredSchemes = append(slices.Clone(handshakeSchemes),
	tls.PKCS1WithSHA256, tls.PKCS1WithSHA384, tls.PKCS1WithSHA512)

// schemesOf returns the schemes that a key signs with, the preferred one first.
func schemesOf(key crypto.PublicKey) []tls.SignatureScheme {
	switch k := key.(type) {
	case *mldsa.PublicKey:
		switch k.Parameters() {
		case mldsa.MLDSA44():
			return []tls.SignatureScheme{tls.MLDSA44}
		case mldsa.MLDSA65():
			return []tls.SignatureScheme{tls.MLDSA65}
		case mldsa.MLDSA87():
			return []tls.SignatureScheme{tls.MLDSA87}
		}
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}
		case elliptic.P384():
			return []tls.SignatureScheme{tls.ECDSAWithP384AndSHA384}
		}
	case *rsa.PublicKey:
		return []tls.SignatureScheme{tls.PSSWithSHA256, tls.PSSWithSHA384, tls.PSSWithSHA512}
	}
	return nil
}

// signed is the content that a CertificateVerify covers.
func signed(context string, s suite, transcript []byte) []byte {
	b := make([]byte, 0, 64+len(context)+1+s.hash.Size())
	for range 64 {
		b = append(b, 0x20)
	}
	b = append(append(b, context...), 0)
	return append(b, s.sum(transcript)...)
}

func hashOf(scheme tls.SignatureScheme) crypto.Hash {
	switch scheme {
	case tls.ECDSAWithP256AndSHA256, tls.PSSWithSHA256, tls.PKCS1WithSHA256:
		return crypto.SHA256
	case tls.ECDSAWithP384AndSHA384, tls.PSSWithSHA384, tls.PKCS1WithSHA384:
		return crypto.SHA384
	case tls.PSSWithSHA512, tls.PKCS1WithSHA512:
		return crypto.SHA512
	}
	return 0 // ML-DSA signs the message itself
}

func digest(hash crypto.Hash, message []byte) []byte {
	if hash == 0 {
		return message
	}
	h := hash.New()
	h.Write(message)
	return h.Sum(nil)
}

func pss(scheme tls.SignatureScheme) bool {
	return scheme == tls.PSSWithSHA256 || scheme == tls.PSSWithSHA384 || scheme == tls.PSSWithSHA512
}

func sign(key crypto.PrivateKey, scheme tls.SignatureScheme, message []byte) ([]byte, error) {
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, refuse(alertInternalError, "key of type %T does not sign", key)
	}
	hash := hashOf(scheme)
	var opts crypto.SignerOpts = hash
	if pss(scheme) {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
	}
	signature, err := signer.Sign(rand.Reader, digest(hash, message), opts)
	if err != nil {
		return nil, refuse(alertInternalError, "signature with %v: %v", scheme, err)
	}
	return signature, nil
}

var errSignature = errors.New("signature does not verify")

// verify checks a signature by the kind of the key, with the hash of the scheme.
func verify(key crypto.PublicKey, scheme tls.SignatureScheme, message, signature []byte) error {
	hash := hashOf(scheme)
	ok := false
	switch k := key.(type) {
	case *mldsa.PublicKey: // refuses any length but the right one; the context is empty
		ok = mldsa.Verify(k, message, signature, nil) == nil
	case *ecdsa.PublicKey:
		ok = hash != 0 && ecdsa.VerifyASN1(k, digest(hash, message), signature)
	case *rsa.PublicKey:
		if pss(scheme) {
			opts := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}
			ok = rsa.VerifyPSS(k, hash, digest(hash, message), signature, opts) == nil
		} else if hash != 0 {
			ok = rsa.VerifyPKCS1v15(k, hash, digest(hash, message), signature) == nil
		}
	}
	if !ok {
		return fmt.Errorf("%v by %T: %w", scheme, key, errSignature)
	}
	return nil
}

// verifyPeer judges a CertificateVerify: the scheme was offered, fits the key, and the signature holds.
func verifyPeer(set defect.Set, offered []tls.SignatureScheme, key crypto.PublicKey, scheme tls.SignatureScheme, message, signature []byte) error {
	fits := schemesOf(key)
	if !slices.Contains(handshakeSchemes, scheme) || !slices.Contains(offered, scheme) {
		return refuse(alertIllegalParameter, "CertificateVerify with scheme 0x%04x, which was not offered", uint16(scheme))
	}
	if !slices.Contains(fits, scheme) {
		if !set.On(defect.TLSClientSchemeUnchecked) || len(fits) == 0 {
			return refuse(alertIllegalParameter, "CertificateVerify with %v does not fit a key of type %T", scheme, key)
		}
		scheme = fits[0]
	}
	err := verify(key, scheme, message, signature)
	if err == nil || set.On(defect.TLSClientContextIgnored) && otherwiseSigned(key, signature) {
		return nil
	}
	return refuse(alertDecryptError, "CertificateVerify: %v", err)
}

// otherwiseSigned takes a signature of ML-DSA that does not verify for one with a context or over a
// pre-hash, and takes it on trust: it only looks at the length.
func otherwiseSigned(key crypto.PublicKey, signature []byte) bool {
	k, ok := key.(*mldsa.PublicKey)
	return ok && len(signature) == k.Parameters().SignatureSize()
}
