package ocsp

import (
	"crypto"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var (
	oidNonce = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2} // RFC 9654
	oidBasic = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}
)

// tagged returns the tag of a constructed element [n].
func tagged(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific().Constructed() }

// Marshal encodes an unsigned request.
func (r Request) Marshal() ([]byte, error) {
	if len(r.IDs) == 0 {
		return nil, errors.New("ocsp: a request for no certificate")
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { // OCSPRequest
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { // TBSRequest
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for _, id := range r.IDs {
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { addCertID(b, id) })
				}
			})
			if len(r.Nonce) > 0 {
				b.AddASN1(tagged(2), func(b *cryptobyte.Builder) { addNonce(b, r.Nonce) })
			}
		})
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("ocsp: encode a request: %w", err)
	}
	return der, nil
}

func addCertID(b *cryptobyte.Builder, id CertID) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(hashOIDs[id.Hash])
			b.AddASN1NULL()
		})
		b.AddASN1OctetString(id.NameHash)
		b.AddASN1OctetString(id.KeyHash)
		b.AddASN1BigInt(id.Serial)
	})
}

// addNonce adds an Extensions with the nonce alone.
func addNonce(b *cryptobyte.Builder, nonce []byte) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oidNonce)
			b.AddASN1(cbasn1.OCTET_STRING, func(b *cryptobyte.Builder) { b.AddASN1OctetString(nonce) })
		})
	})
}

// ParseRequest decodes a request of at most 8 KiB and 16 certificates. A signature is skipped: who asks
// does not matter here.
func ParseRequest(der []byte) (Request, error) {
	if len(der) > maxRequest {
		return Request{}, fmt.Errorf("ocsp: request of %d bytes, at most %d are read", len(der), maxRequest)
	}
	var outer, tbs, list cryptobyte.String
	s := cryptobyte.String(der)
	if !s.ReadASN1(&outer, cbasn1.SEQUENCE) || !s.Empty() || !outer.ReadASN1(&tbs, cbasn1.SEQUENCE) ||
		!outer.SkipOptionalASN1(tagged(0)) || !outer.Empty() {
		return Request{}, errors.New("ocsp: not an OCSPRequest")
	}
	if !tbs.SkipOptionalASN1(tagged(0)) || !tbs.SkipOptionalASN1(tagged(1)) || !tbs.ReadASN1(&list, cbasn1.SEQUENCE) {
		return Request{}, errors.New("ocsp: malformed TBSRequest")
	}
	var r Request
	for !list.Empty() {
		id, err := readRequested(&list)
		if err != nil {
			return Request{}, err
		}
		if r.IDs = append(r.IDs, id); len(r.IDs) > maxIDs {
			return Request{}, fmt.Errorf("ocsp: request for more than %d certificates", maxIDs)
		}
	}
	if len(r.IDs) == 0 {
		return Request{}, errors.New("ocsp: request for no certificate")
	}
	var err error
	if r.Nonce, err = readExtensions(&tbs, 2); err != nil {
		return Request{}, err
	}
	if !tbs.Empty() {
		return Request{}, errors.New("ocsp: data after the last element of a TBSRequest")
	}
	return r, nil
}

func readRequested(list *cryptobyte.String) (CertID, error) {
	var one cryptobyte.String
	if !list.ReadASN1(&one, cbasn1.SEQUENCE) {
		return CertID{}, errors.New("ocsp: malformed Request")
	}
	id, err := readCertID(&one)
	if err != nil {
		return CertID{}, err
	}
	if !one.SkipOptionalASN1(tagged(0)) || !one.Empty() {
		return CertID{}, errors.New("ocsp: data after a certificate id")
	}
	return id, nil
}

func readCertID(s *cryptobyte.String) (CertID, error) {
	var seq, alg cryptobyte.String
	var oid asn1.ObjectIdentifier
	id := CertID{Serial: new(big.Int)}
	if !s.ReadASN1(&seq, cbasn1.SEQUENCE) || !seq.ReadASN1(&alg, cbasn1.SEQUENCE) ||
		!alg.ReadASN1ObjectIdentifier(&oid) || !alg.SkipOptionalASN1(cbasn1.NULL) || !alg.Empty() ||
		!seq.ReadASN1Bytes(&id.NameHash, cbasn1.OCTET_STRING) || !seq.ReadASN1Bytes(&id.KeyHash, cbasn1.OCTET_STRING) ||
		!seq.ReadASN1Integer(id.Serial) || !seq.Empty() {
		return CertID{}, errors.New("ocsp: malformed CertID")
	}
	h, ok := hashOf(oid)
	if !ok {
		return CertID{}, fmt.Errorf("ocsp: certificate id with unknown hash %v", oid)
	}
	if len(id.NameHash) != h.Size() || len(id.KeyHash) != h.Size() {
		return CertID{}, fmt.Errorf("ocsp: certificate id with hashes of %d and %d octets, want %d",
			len(id.NameHash), len(id.KeyHash), h.Size())
	}
	if id.Serial.Sign() < 0 || len(id.Serial.Bytes()) > maxSerial {
		return CertID{}, fmt.Errorf("ocsp: serial number of %d octets or below zero", len(id.Serial.Bytes()))
	}
	id.Hash = crypto.Hash(h)
	return id, nil
}

// readExtensions reads an optional Extensions in [tag] and returns the nonce in it. Other extensions
// are skipped unless they are critical.
func readExtensions(s *cryptobyte.String, tag uint8) ([]byte, error) {
	var wrapped, list cryptobyte.String
	var present bool
	if !s.ReadOptionalASN1(&wrapped, &present, tagged(tag)) {
		return nil, errors.New("ocsp: malformed extensions")
	}
	if !present {
		return nil, nil
	}
	if !wrapped.ReadASN1(&list, cbasn1.SEQUENCE) || !wrapped.Empty() {
		return nil, errors.New("ocsp: malformed extensions")
	}
	var nonce []byte
	for !list.Empty() {
		var one, value cryptobyte.String
		var id asn1.ObjectIdentifier
		var critical bool
		if !list.ReadASN1(&one, cbasn1.SEQUENCE) || !one.ReadASN1ObjectIdentifier(&id) ||
			!one.ReadOptionalASN1Boolean(&critical, cbasn1.BOOLEAN, false) ||
			!one.ReadASN1(&value, cbasn1.OCTET_STRING) || !one.Empty() {
			return nil, errors.New("ocsp: malformed extension")
		}
		switch {
		case id.Equal(oidNonce):
			if !value.ReadASN1Bytes(&nonce, cbasn1.OCTET_STRING) || !value.Empty() || len(nonce) == 0 || len(nonce) > maxNonce {
				return nil, errors.New("ocsp: malformed nonce")
			}
		case critical:
			return nil, fmt.Errorf("ocsp: unknown critical extension %v", id)
		}
	}
	return nonce, nil
}
