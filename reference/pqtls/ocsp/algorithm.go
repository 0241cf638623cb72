package ocsp

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/mldsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
)

// algorithm is one signature algorithm of responses.
type algorithm struct {
	name       x509.SignatureAlgorithm
	id         asn1.ObjectIdentifier
	hash       crypto.Hash // 0: the message itself is signed
	parameters bool        // NULL is sent as parameters
}

// algorithms is the closed list; everything else is an unknown signature.
func algorithms() []algorithm {
	return []algorithm{
		{x509.MLDSA44, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 17}, 0, false},
		{x509.MLDSA65, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 18}, 0, false},
		{x509.MLDSA87, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 19}, 0, false},
		{x509.ECDSAWithSHA256, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}, crypto.SHA256, false},
		{x509.ECDSAWithSHA384, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}, crypto.SHA384, false},
		{x509.ECDSAWithSHA512, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}, crypto.SHA512, false},
		{x509.SHA256WithRSA, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, crypto.SHA256, true},
		{x509.SHA384WithRSA, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 12}, crypto.SHA384, true},
		{x509.SHA512WithRSA, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 13}, crypto.SHA512, true},
	}
}

func algorithmByID(id asn1.ObjectIdentifier) (algorithm, bool) {
	for _, a := range algorithms() {
		if a.id.Equal(id) {
			return a, true
		}
	}
	return algorithm{}, false
}

// algorithmFor returns the algorithm with which a key signs.
func algorithmFor(public crypto.PublicKey) (algorithm, error) {
	want := x509.UnknownSignatureAlgorithm
	switch k := public.(type) {
	case *mldsa.PublicKey:
		switch k.Parameters() {
		case mldsa.MLDSA44():
			want = x509.MLDSA44
		case mldsa.MLDSA65():
			want = x509.MLDSA65
		case mldsa.MLDSA87():
			want = x509.MLDSA87
		}
	case *ecdsa.PublicKey:
		want = x509.ECDSAWithSHA256
	case *rsa.PublicKey:
		want = x509.SHA256WithRSA
	}
	for _, a := range algorithms() {
		if a.name == want {
			return a, nil
		}
	}
	return algorithm{}, fmt.Errorf("ocsp: no signature algorithm for a key of type %T", public)
}

// sign signs a message, or its hash where the algorithm has one.
func (a algorithm) sign(key crypto.Signer, message []byte) ([]byte, error) {
	if a.hash != 0 {
		message = digest(a.hash, message)
	}
	return key.Sign(rand.Reader, message, a.hash)
}
