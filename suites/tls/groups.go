package tls

import (
	"encoding/hex"
	"slices"

	"github.com/assay-bench/assay/fixtures/features"
	wire "github.com/assay-bench/assay/scenarios/wire/tls"
)

// The endpoints of a target that these checks drive.
const (
	endpoint          = "tls"
	endpointClassical = "tls-classical"
	endpointMLDSA     = "tls-mldsa"
	endpointMutual    = "tls-mutual"
)

// Extensions that cases bend, RFC 9846 section 4.3.
const (
	extGroups      = 10
	extSchemes     = 13
	extSchemesCert = 50
	extKeyShare    = 51
)

const version12 = 0x0303

// pqGroup is a post-quantum group with the feature that claims it. Its id names cases.
type pqGroup struct {
	id      string
	group   wire.Group
	feature features.Feature
}

// pqGroups lists the post-quantum groups, hybrids first.
func pqGroups() []pqGroup {
	return []pqGroup{
		{"x25519mlkem768", wire.X25519MLKEM768, features.TLSX25519},
		{"secp256r1mlkem768", wire.SecP256r1MLKEM768, features.TLSP256},
		{"secp384r1mlkem1024", wire.SecP384r1MLKEM1024, features.TLSP384},
		{"mlkem1024", wire.MLKEM1024, features.TLSMLKEM1024},
	}
}

// hybrids lists the groups that have an ECDH part too.
func hybrids() []pqGroup {
	return slices.DeleteFunc(pqGroups(), func(g pqGroup) bool {
		ecdh, _, _ := g.group.Parts()
		return ecdh == 0
	})
}

func classicalGroups() []wire.Group { return []wire.Group{wire.X25519, wire.P256, wire.P384} }

// classicalSchemes are signatures without ML-DSA, ECDSA first; pqSchemes are ML-DSA alone.
func classicalSchemes() []wire.Scheme {
	return []wire.Scheme{wire.ECDSAP256, wire.ECDSAP384, wire.Ed25519, wire.RSAPSS256}
}

func pqSchemes() []wire.Scheme { return []wire.Scheme{wire.MLDSA65, wire.MLDSA87, wire.MLDSA44} }

// ordinary offers what such a target surely has in common with the prober: the classical groups and the
// first post-quantum one that it claims, with shares, so that no HelloRetryRequest is due.
func ordinary(claims interface{ Has(string) bool }) wire.Offer {
	o := wire.Offer{Groups: classicalGroups(), Shares: classicalGroups()}
	for _, g := range pqGroups() {
		if claims.Has(string(g.feature)) {
			o.Groups = append([]wire.Group{g.group}, o.Groups...)
			o.Shares = append([]wire.Group{g.group}, o.Shares...)
			return o
		}
	}
	return o
}

// alone offers one group with a share of it.
func alone(g wire.Group) wire.Offer {
	return wire.Offer{Groups: []wire.Group{g}, Shares: []wire.Group{g}}
}

// bent is a client that offers one group with a share whose bytes are changed.
func bent(g wire.Group, f func([]byte) []byte) wire.Client {
	return wire.Client{
		Offer: alone(g), StopAtHello: true,
		Bend: func(h *wire.Hello) { h.EditShare(g, f) },
	}
}

// removing is a bend that takes extensions away.
func removing(exts ...uint16) func(*wire.Hello) {
	return func(h *wire.Hello) {
		for _, x := range exts {
			h.Remove(x)
		}
	}
}

// parts cuts a client share in two; both are copies. What has not the length of a share is not cut: it is
// both.
func parts(g wire.Group, share []byte) (ecdh, kem []byte) {
	ecdhLen, kemLen, kemFirst := g.Parts()
	switch {
	case len(share) != ecdhLen+kemLen:
		return slices.Clone(share), slices.Clone(share)
	case kemFirst:
		return slices.Clone(share[kemLen:]), slices.Clone(share[:kemLen])
	}
	return slices.Clone(share[:ecdhLen]), slices.Clone(share[ecdhLen:])
}

// kemPart and ecdhPart are benders that leave one part alone; swapped puts the parts in the wrong order.
func kemPart(g wire.Group) func([]byte) []byte {
	return func(s []byte) []byte { _, kem := parts(g, s); return kem }
}

func ecdhPart(g wire.Group) func([]byte) []byte {
	return func(s []byte) []byte { ecdh, _ := parts(g, s); return ecdh }
}

func swapped(g wire.Group) func([]byte) []byte {
	return func(s []byte) []byte {
		ecdh, kem := parts(g, s)
		if _, _, kemFirst := g.Parts(); kemFirst {
			return slices.Concat(ecdh, kem)
		}
		return slices.Concat(kem, ecdh)
	}
}

func truncated(s []byte) []byte { return s[:max(len(s)-1, 0)] }
func padded(s []byte) []byte    { return append(s, 0) }
func firstByte(s []byte) []byte { return s[:min(len(s), 1)] }
func emptied([]byte) []byte     { return nil }

// coefficient sets a 12-bit coefficient of the ML-KEM part: two take three bytes, little-endian (FIPS 203
// section 4.2.1, ByteEncode with d = 12).
func coefficient(g wire.Group, index int, value uint16) func([]byte) []byte {
	ecdhLen, _, kemFirst := g.Parts()
	return func(s []byte) []byte {
		at := index / 2 * 3
		if !kemFirst {
			at += ecdhLen
		}
		if at+2 >= len(s) {
			return s
		}
		if index%2 == 0 {
			s[at], s[at+1] = byte(value), s[at+1]&0xf0|byte(value>>8)
		} else {
			s[at+1], s[at+2] = s[at+1]&0x0f|byte(value<<4), byte(value>>4)
		}
		return s
	}
}

// replacingECDH overwrites the ECDH part of a hybrid share with what f makes of it.
func replacingECDH(g wire.Group, f func([]byte) []byte) func([]byte) []byte {
	return func(s []byte) []byte {
		ecdh, kem := parts(g, s)
		if _, _, kemFirst := g.Parts(); kemFirst {
			return slices.Concat(kem, f(ecdh))
		}
		return slices.Concat(f(ecdh), kem)
	}
}

// compressedPrefix marks a point as compressed and leaves its length alone; offCurve moves it off the
// curve.
func compressedPrefix(p []byte) []byte {
	if len(p) > 0 {
		p[0] = 2
	}
	return p
}

func offCurve(p []byte) []byte {
	if len(p) > 0 {
		p[len(p)-1] ^= 1
	}
	return p
}

// zeroPoint and lowOrder are X25519 values whose result is all zero (RFC 7748 section 6.1); the second is
// a point of order 8.
func zeroPoint(p []byte) []byte { return make([]byte, len(p)) }

func lowOrder([]byte) []byte {
	b, _ := hex.DecodeString("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")
	return b
}

// basePoint is the generator of P-256, a well-formed share that needs no key of ours.
func basePoint() []byte {
	b, _ := hex.DecodeString("04" +
		"6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296" +
		"4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5")
	return b
}

// stretched makes a share of n bytes.
func stretched(n int) func([]byte) []byte {
	return func(s []byte) []byte {
		for len(s) < n && len(s) > 0 {
			s = append(s, s[:min(len(s), n-len(s))]...)
		}
		return s
	}
}
