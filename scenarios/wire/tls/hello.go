package tls

import (
	"errors"
	"fmt"
	"slices"
)

// Extension numbers, RFC 9846 section 4.3.
const (
	extServerName    = 0
	extStatus        = 5
	extGroups        = 10
	extPointFormats  = 11
	extSchemes       = 13
	extALPN          = 16
	extPadding       = 21
	extMasterSecret  = 23
	extPSK           = 41
	extEarlyData     = 42
	extVersions      = 43
	extCookie        = 44
	extPSKModes      = 45
	extKeyShare      = 51
	extRenegotiation = 0xff01
)

// Handshake message types, RFC 9846 section 4 and RFC 5246 section 7.4.
const (
	msgClientHello         = 1
	msgServerHello         = 2
	msgTicket              = 4
	msgEncryptedExtensions = 8
	msgCertificate         = 11
	msgServerKeyExchange   = 12
	msgCertificateRequest  = 13
	msgServerHelloDone     = 14
	msgCertificateVerify   = 15
	msgClientKeyExchange   = 16
	msgFinished            = 20
	msgCertificateStatus   = 22
	msgKeyUpdate           = 24
	msgHash                = 254
)

const (
	version12 = 0x0303
	version13 = 0x0304
)

// Find gives the first extension of a type, to be changed in place.
func (h *Hello) Find(ext uint16) (*Extension, bool) {
	for i := range h.Extensions {
		if h.Extensions[i].Type == ext {
			return &h.Extensions[i], true
		}
	}
	return nil, false
}

// Remove takes away every extension of a type.
func (h *Hello) Remove(ext uint16) {
	h.Extensions = slices.DeleteFunc(h.Extensions, func(e Extension) bool { return e.Type == ext })
}

// Set replaces the data of the first extension of a type, or adds the extension.
func (h *Hello) Set(ext uint16, data []byte) {
	if e, ok := h.Find(ext); ok {
		e.Data = data
		return
	}
	h.Add(Extension{Type: ext, Data: data})
}

// Add puts an extension at the end, but before a pre_shared_key that is last: RFC 9846 section 4.3.11
// wants that one there.
func (h *Hello) Add(e Extension) {
	if n := len(h.Extensions); n > 0 && h.Extensions[n-1].Type == extPSK {
		h.Extensions = slices.Insert(h.Extensions, n-1, e)
		return
	}
	h.Extensions = append(h.Extensions, e)
}

// Shares reads the first key_share extension. None gives none; a malformed one is an error.
func (h *Hello) Shares() ([]KeyShare, error) {
	e, ok := h.Find(extKeyShare)
	if !ok {
		return nil, nil
	}
	outer := cursor{b: e.Data}
	list := cursor{b: outer.vec16()}
	if !outer.whole() {
		return nil, errors.New("key_share: the list does not fill the extension")
	}
	var shares []KeyShare
	for list.more() {
		s := KeyShare{Group: Group(list.u16()), Data: list.vec16()}
		if list.bad {
			return nil, fmt.Errorf("key_share: entry %d is cut off", len(shares))
		}
		shares = append(shares, s)
	}
	return shares, nil
}

// SetShares writes the key_share extension.
func (h *Hello) SetShares(shares []KeyShare) {
	var list []byte
	for _, s := range shares {
		list = appendVec16(append16(list, uint16(s.Group)), s.Data)
	}
	h.Set(extKeyShare, appendVec16(nil, list))
}

// EditShare replaces the data of every share of a group by what f makes of it. f gets a copy.
func (h *Hello) EditShare(g Group, f func([]byte) []byte) {
	shares, err := h.Shares()
	if err != nil {
		return
	}
	for i, s := range shares {
		if s.Group == g {
			shares[i].Data = f(slices.Clone(s.Data))
		}
	}
	h.SetShares(shares)
}

// Marshal gives the handshake message, its four bytes of header included. A field that is longer than
// its length can say goes out with the length cut off: such a hello is malformed and cannot be read back.
func (h Hello) Marshal() []byte {
	b := append16(nil, h.LegacyVersion)
	b = append(b, h.Random[:]...)
	b = appendVec8(b, h.SessionID)
	b = appendVec16(b, appendNumbers(nil, h.Suites))
	b = appendVec8(b, h.Compression)
	var list []byte
	for _, e := range h.Extensions {
		list = appendVec16(append16(list, e.Type), e.Data)
	}
	b = appendVec16(b, list)
	return message(msgClientHello, append(b, h.Trailing...))
}

// ParseHello reads a handshake message that Marshal, or a client, wrote. What follows the extensions is
// in Trailing; a hello without extensions is taken, as RFC 5246 section 7.4.1.2 allows it.
func ParseHello(b []byte) (Hello, error) {
	m := cursor{b: b}
	kind := m.u8()
	c := cursor{b: m.vec24()}
	if !m.whole() || kind != msgClientHello {
		return Hello{}, fmt.Errorf("client hello: type %d, %d bytes, is no whole ClientHello", kind, len(b))
	}
	h := Hello{LegacyVersion: c.u16()}
	copy(h.Random[:], c.take(32))
	h.SessionID = c.vec8()
	suites, even := numbers[Suite](c.vec16())
	h.Suites, h.Compression = suites, c.vec8()
	if c.bad || !even || len(h.SessionID) > 32 {
		return Hello{}, errors.New("client hello: the fields before the extensions are malformed")
	}
	if len(c.b) == 0 {
		return h, nil
	}
	list := cursor{b: c.vec16()}
	if c.bad {
		return Hello{}, errors.New("client hello: the extensions are cut off")
	}
	for list.more() {
		e := Extension{Type: list.u16(), Data: list.vec16()}
		if list.bad {
			return Hello{}, fmt.Errorf("client hello: extension %d is cut off", len(h.Extensions))
		}
		h.Extensions = append(h.Extensions, e)
	}
	h.Trailing = c.b
	return h, nil
}
