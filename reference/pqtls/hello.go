package pqtls

import (
	"crypto/tls"
	"errors"
	"slices"

	"golang.org/x/crypto/cryptobyte"
)

// Numbers of extensions (RFC 9846 section 4.3).
const (
	extSupportedGroups     = 10
	extSignatureAlgorithms = 13
	extPreSharedKey        = 41
	extSupportedVersions   = 43
	extKeyShare            = 51
)

// hello is what the wrapper connection wants to know of a ClientHello.
type hello struct {
	legacy     uint16   // legacy_version
	versions   []uint16 // of supported_versions; nil without the extension
	groups     []tls.CurveID
	hasGroups  bool
	hasShares  bool
	hasSchemes bool // signature_algorithms
	hasPSK     bool
}

var errHello = errors.New("pqtls: malformed ClientHello")

// parseHello reads the body of a ClientHello, without the four bytes of the handshake header. It
// looks at the extensions that it needs only; what it finds malformed crypto/tls refuses too, with
// decode_error, so its error is only a reason to step back.
func parseHello(body []byte) (hello, error) {
	var h hello
	var skipped, extensions cryptobyte.String
	s := cryptobyte.String(body)
	if !s.ReadUint16(&h.legacy) || !s.Skip(32) || !s.ReadUint8LengthPrefixed(&skipped) || !s.ReadUint16LengthPrefixed(&skipped) ||
		!s.ReadUint8LengthPrefixed(&skipped) {
		return hello{}, errHello
	}
	if s.Empty() {
		return h, nil
	}
	if !s.ReadUint16LengthPrefixed(&extensions) || !s.Empty() {
		return hello{}, errHello
	}
	for !extensions.Empty() {
		var number uint16
		var data cryptobyte.String
		if !extensions.ReadUint16(&number) || !extensions.ReadUint16LengthPrefixed(&data) || !h.extension(number, data) {
			return hello{}, errHello
		}
	}
	return h, nil
}

// extension notes one extension and reports whether it is well-formed and the first of its kind.
func (h *hello) extension(number uint16, data cryptobyte.String) bool {
	switch number {
	case extSupportedGroups:
		list, ok := uint16s(data.ReadUint16LengthPrefixed)
		if h.hasGroups || !ok {
			return false
		}
		h.hasGroups = true
		for _, g := range list {
			h.groups = append(h.groups, tls.CurveID(g))
		}
	case extSupportedVersions:
		list, ok := uint16s(data.ReadUint8LengthPrefixed)
		if h.versions != nil || !ok {
			return false
		}
		h.versions = list
	case extSignatureAlgorithms:
		first := !h.hasSchemes
		h.hasSchemes = true
		return first
	case extKeyShare:
		first := !h.hasShares
		h.hasShares = true
		return first
	case extPreSharedKey:
		first := !h.hasPSK
		h.hasPSK = true
		return first
	}
	return true
}

// uint16s reads a list of numbers that is not empty.
func uint16s(open func(*cryptobyte.String) bool) ([]uint16, bool) {
	var list cryptobyte.String
	if !open(&list) || list.Empty() {
		return nil, false
	}
	numbers := make([]uint16, 0, len(list)/2)
	for !list.Empty() {
		var n uint16
		if !list.ReadUint16(&n) {
			return nil, false
		}
		numbers = append(numbers, n)
	}
	return numbers, true
}

// tls13 reports whether the client can speak TLS 1.3.
func (h hello) tls13() bool { return slices.Contains(h.versions, tls.VersionTLS13) }

// tls12 reports whether the client can speak TLS 1.2 (RFC 9846 section 4.3.1).
func (h hello) tls12() bool {
	if h.versions == nil {
		return h.legacy >= tls.VersionTLS12
	}
	return slices.Contains(h.versions, tls.VersionTLS12)
}
