package bent

import (
	"crypto/sha256"
	"crypto/tls"
	"slices"

	"golang.org/x/crypto/cryptobyte"
)

// Handshake message types, RFC 9846 section 4.
const (
	msgClientHello         = 1
	msgServerHello         = 2
	msgNewSessionTicket    = 4
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
	msgMessageHash         = 254
)

// Extension types, RFC 9846 section 4.3.
const (
	extServerName        = 0
	extStatusRequest     = 5
	extGroups            = 10
	extPointFormats      = 11
	extSignatures        = 13
	extALPN              = 16
	extMasterSecret      = 23
	extPSK               = 41
	extEarlyData         = 42
	extVersions          = 43
	extCookie            = 44
	extPSKModes          = 45
	extSignaturesInChain = 50
	extKeyShare          = 51
	extRenegotiation     = 0xff01
)

const (
	version12 = 0x0303
	version13 = 0x0304
)

// retryRandom marks a ServerHello as a HelloRetryRequest.
var retryRandom = sha256.Sum256([]byte("HelloRetryRequest"))

// sentinel12 ends the random of a TLS 1.2 ServerHello of a server that speaks TLS 1.3.
const sentinel12 = "DOWNGRD\x01"

type share struct {
	group tls.CurveID
	data  []byte
}

type identity struct {
	ticket []byte
	age    uint32
}

// clientHello is a parsed or written ClientHello. A nil list is an extension that is absent; a list
// that is present and empty is not nil.
type clientHello struct {
	raw           []byte // with its header
	version       uint16
	random        []byte
	session       []byte
	suites        []uint16
	serverName    string
	versions      []uint16
	groups        []tls.CurveID
	schemes       []tls.SignatureScheme
	shares        []share
	alpn          []string
	modes         []byte
	identities    []identity
	binders       [][]byte
	binderBytes   int // length of the list of binders with its own length
	cookie        []byte
	staple        bool
	earlyData     bool
	renegotiation bool // renegotiation_info, RFC 5746
}

// lax are the planted leniencies of parsing.
type lax struct {
	trailing   bool  // bytes after the shares are skipped
	duplicate  bool  // a second key_share is skipped
	emptyShare uint8 // alert for a share of zero bytes, decode_error if zero
}

func (h *clientHello) offers(version uint16) bool {
	if h.versions == nil {
		return version == version12 && h.version >= version12
	}
	return slices.Contains(h.versions, version)
}

func (h *clientHello) shareOf(g tls.CurveID) []byte {
	for _, s := range h.shares {
		if s.group == g {
			return s.data
		}
	}
	return nil
}

// parseClientHello reads a whole message. Errors are AlertErrors.
func parseClientHello(raw []byte, lax lax) (*clientHello, error) {
	h := &clientHello{raw: raw}
	s := cryptobyte.String(raw)
	var typ uint8
	var body, session, list, compression cryptobyte.String
	if !s.ReadUint8(&typ) || typ != msgClientHello {
		return nil, refuse(alertUnexpectedMessage, "message of type %d in place of ClientHello", typ)
	}
	if !s.ReadUint24LengthPrefixed(&body) || !s.Empty() ||
		!body.ReadUint16(&h.version) || !body.ReadBytes(&h.random, 32) ||
		!body.ReadUint8LengthPrefixed(&session) || len(session) > 32 ||
		!body.ReadUint16LengthPrefixed(&list) ||
		!body.ReadUint8LengthPrefixed(&compression) || len(compression) == 0 {
		return nil, malformed("ClientHello")
	}
	h.session = session
	if h.suites = uint16s(list); len(h.suites) == 0 {
		return nil, malformed("list of cipher suites")
	}
	if !slices.Contains(compression, 0) {
		return nil, refuse(alertIllegalParameter, "no null compression")
	}
	if body.Empty() { // no extensions: TLS 1.2 at best
		return h, nil
	}
	if err := h.extensions(body, lax); err != nil {
		return nil, err
	}
	if h.offers(version13) && len(compression) != 1 {
		return nil, refuse(alertIllegalParameter, "compression offered with TLS 1.3")
	}
	return h, nil
}

// uint16s reads a list to its end; nil if the bytes are odd.
func uint16s(s cryptobyte.String) []uint16 {
	out := make([]uint16, 0, len(s)/2)
	for !s.Empty() {
		var v uint16
		if !s.ReadUint16(&v) {
			return nil
		}
		out = append(out, v)
	}
	return out
}

func (h *clientHello) extensions(body cryptobyte.String, lax lax) error {
	seen := map[uint16]bool{}
	return eachExtension(body, "ClientHello", func(typ uint16, data cryptobyte.String) error {
		if seen[extPSK] {
			return refuse(alertIllegalParameter, "pre_shared_key is not the last extension")
		}
		if seen[typ] {
			if typ == extKeyShare && lax.duplicate {
				return nil
			}
			return refuse(alertIllegalParameter, "extension %d is there twice", typ)
		}
		seen[typ] = true
		return h.extension(typ, data, lax)
	})
}

// eachExtension walks a block of extensions that reaches to the end of body.
func eachExtension(body cryptobyte.String, where string, f func(typ uint16, data cryptobyte.String) error) error {
	var block cryptobyte.String
	if !body.ReadUint16LengthPrefixed(&block) || !body.Empty() {
		return malformed("extensions of " + where)
	}
	for !block.Empty() {
		var typ uint16
		var data cryptobyte.String
		if !block.ReadUint16(&typ) || !block.ReadUint16LengthPrefixed(&data) {
			return malformed("extensions of " + where)
		}
		if err := f(typ, data); err != nil {
			return err
		}
	}
	return nil
}

func (h *clientHello) extension(typ uint16, data cryptobyte.String, lax lax) error {
	var list cryptobyte.String
	ok := true
	switch typ {
	case extServerName:
		h.serverName, ok = parseServerName(data)
	case extGroups:
		ok = data.ReadUint16LengthPrefixed(&list) && data.Empty() && len(list) > 0
		h.groups = convert[tls.CurveID](uint16s(list))
		ok = ok && len(h.groups) > 0
	case extSignatures:
		ok = data.ReadUint16LengthPrefixed(&list) && data.Empty() && len(list) > 0
		h.schemes = convert[tls.SignatureScheme](uint16s(list))
		ok = ok && len(h.schemes) > 0
	case extVersions:
		ok = data.ReadUint8LengthPrefixed(&list) && data.Empty()
		h.versions = uint16s(list)
		ok = ok && len(h.versions) > 0
	case extALPN:
		h.alpn, ok = parseProtocols(data)
	case extPSKModes:
		ok = data.ReadUint8LengthPrefixed(&list) && data.Empty() && len(list) > 0
		h.modes = list
	case extCookie:
		ok = data.ReadUint16LengthPrefixed(&list) && data.Empty() && len(list) > 0
		h.cookie = list
	case extStatusRequest:
		var kind uint8
		h.staple = data.ReadUint8(&kind) && kind == 1
	case extRenegotiation:
		h.renegotiation = true
	case extEarlyData:
		h.earlyData, ok = true, data.Empty()
	case extPSK:
		ok = h.preShared(data)
	case extKeyShare:
		return h.keyShares(data, lax)
	}
	if !ok {
		return malformed(extensionName(typ))
	}
	return nil
}

func extensionName(typ uint16) string {
	names := map[uint16]string{
		extServerName: "server_name", extStatusRequest: "status_request", extGroups: "supported_groups",
		extSignatures: "signature_algorithms", extALPN: "application_layer_protocol_negotiation",
		extPSK: "pre_shared_key", extEarlyData: "early_data", extVersions: "supported_versions",
		extCookie: "cookie", extPSKModes: "psk_key_exchange_modes", extKeyShare: "key_share",
	}
	if name, known := names[typ]; known {
		return name
	}
	return "extension"
}

func convert[T ~uint16](in []uint16) []T {
	if in == nil {
		return nil
	}
	out := make([]T, len(in))
	for i, v := range in {
		out[i] = T(v)
	}
	return out
}

func parseServerName(data cryptobyte.String) (string, bool) {
	var list, name cryptobyte.String
	var kind uint8
	ok := data.ReadUint16LengthPrefixed(&list) && data.Empty() &&
		list.ReadUint8(&kind) && list.ReadUint16LengthPrefixed(&name) && len(name) > 0
	return string(name), ok
}

func parseProtocols(data cryptobyte.String) ([]string, bool) {
	var list cryptobyte.String
	if !data.ReadUint16LengthPrefixed(&list) || !data.Empty() || list.Empty() {
		return nil, false
	}
	var out []string
	for !list.Empty() {
		var name cryptobyte.String
		if !list.ReadUint8LengthPrefixed(&name) || name.Empty() {
			return nil, false
		}
		out = append(out, string(name))
	}
	return out, true
}

func (h *clientHello) keyShares(data cryptobyte.String, lax lax) error {
	var list cryptobyte.String
	if !data.ReadUint16LengthPrefixed(&list) || !data.Empty() && !lax.trailing {
		return malformed("key_share")
	}
	h.shares = []share{}
	for !list.Empty() {
		var id uint16
		var key cryptobyte.String
		if !list.ReadUint16(&id) || !list.ReadUint16LengthPrefixed(&key) {
			return malformed("key_share")
		}
		if key.Empty() { // key_exchange<1..2^16-1>, RFC 9846 section 4.3.8
			if lax.emptyShare != 0 {
				return refuse(lax.emptyShare, "share of zero bytes")
			}
			return malformed("key_share: zero bytes of key_exchange")
		}
		h.shares = append(h.shares, share{tls.CurveID(id), key})
	}
	return nil
}

func (h *clientHello) preShared(data cryptobyte.String) bool {
	var ids, binders cryptobyte.String
	if !data.ReadUint16LengthPrefixed(&ids) || ids.Empty() {
		return false
	}
	h.binderBytes = len(data)
	if !data.ReadUint16LengthPrefixed(&binders) || !data.Empty() {
		return false
	}
	for !ids.Empty() {
		var ticket cryptobyte.String
		var age uint32
		if !ids.ReadUint16LengthPrefixed(&ticket) || ticket.Empty() || !ids.ReadUint32(&age) {
			return false
		}
		h.identities = append(h.identities, identity{ticket, age})
	}
	for !binders.Empty() {
		var binder cryptobyte.String
		if !binders.ReadUint8LengthPrefixed(&binder) || len(binder) < 32 {
			return false
		}
		h.binders = append(h.binders, binder)
	}
	return len(h.binders) == len(h.identities)
}

// unbound is the hello up to its binders.
func (h *clientHello) unbound() []byte { return h.raw[:len(h.raw)-h.binderBytes] }

// message builds a handshake message.
func message(typ byte, body func(b *cryptobyte.Builder)) []byte {
	var b cryptobyte.Builder
	b.AddUint8(typ)
	b.AddUint24LengthPrefixed(body)
	return b.BytesOrPanic() // the callers' lengths are bounded far below those of the fields
}

func addExtension(b *cryptobyte.Builder, typ uint16, body func(b *cryptobyte.Builder)) {
	b.AddUint16(typ)
	b.AddUint16LengthPrefixed(body)
}

func addUint16s[T ~uint16](list []T) func(b *cryptobyte.Builder) {
	return func(b *cryptobyte.Builder) {
		for _, v := range list {
			b.AddUint16(uint16(v))
		}
	}
}

func addBytes(data []byte) func(b *cryptobyte.Builder) {
	return func(b *cryptobyte.Builder) { b.AddBytes(data) }
}

// marshal writes the hello and keeps it in raw. Binders are written as zero bytes, to be set in place.
func (h *clientHello) marshal() {
	h.raw = message(msgClientHello, func(b *cryptobyte.Builder) {
		b.AddUint16(version12)
		b.AddBytes(h.random)
		b.AddUint8LengthPrefixed(addBytes(h.session))
		b.AddUint16LengthPrefixed(addUint16s(h.suites))
		b.AddBytes([]byte{1, 0})
		b.AddUint16LengthPrefixed(h.addExtensions)
	})
}

func (h *clientHello) addExtensions(b *cryptobyte.Builder) {
	list16 := func(add func(b *cryptobyte.Builder)) func(b *cryptobyte.Builder) {
		return func(b *cryptobyte.Builder) { b.AddUint16LengthPrefixed(add) }
	}
	list8 := func(add func(b *cryptobyte.Builder)) func(b *cryptobyte.Builder) {
		return func(b *cryptobyte.Builder) { b.AddUint8LengthPrefixed(add) }
	}
	if h.serverName != "" {
		addExtension(b, extServerName, list16(func(b *cryptobyte.Builder) {
			b.AddUint8(0)
			b.AddUint16LengthPrefixed(addBytes([]byte(h.serverName)))
		}))
	}
	if h.staple {
		addExtension(b, extStatusRequest, addBytes([]byte{1, 0, 0, 0, 0}))
	}
	addExtension(b, extGroups, list16(addUint16s(h.groups)))
	addExtension(b, extSignatures, list16(addUint16s(h.schemes)))
	if len(h.alpn) > 0 {
		addExtension(b, extALPN, list16(func(b *cryptobyte.Builder) {
			for _, name := range h.alpn {
				b.AddUint8LengthPrefixed(addBytes([]byte(name)))
			}
		}))
	}
	if slices.Contains(h.versions, version12) {
		addExtension(b, extPointFormats, addBytes([]byte{1, 0}))
		addExtension(b, extRenegotiation, addBytes([]byte{0}))
	}
	addExtension(b, extVersions, list8(addUint16s(h.versions)))
	if len(h.cookie) > 0 {
		addExtension(b, extCookie, list16(addBytes(h.cookie)))
	}
	addExtension(b, extPSKModes, list8(addBytes(h.modes)))
	addExtension(b, extKeyShare, list16(func(b *cryptobyte.Builder) {
		for _, s := range h.shares {
			b.AddUint16(uint16(s.group))
			b.AddUint16LengthPrefixed(addBytes(s.data))
		}
	}))
	if h.earlyData {
		addExtension(b, extEarlyData, addBytes(nil))
	}
	h.addPreShared(b)
}

func (h *clientHello) addPreShared(b *cryptobyte.Builder) {
	if len(h.identities) == 0 {
		return
	}
	addExtension(b, extPSK, func(b *cryptobyte.Builder) {
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			for _, id := range h.identities {
				b.AddUint16LengthPrefixed(addBytes(id.ticket))
				b.AddUint32(id.age)
			}
		})
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			for _, binder := range h.binders {
				b.AddUint8LengthPrefixed(addBytes(binder))
			}
		})
	})
}

// serverHello is a ServerHello or HelloRetryRequest.
type serverHello struct {
	raw        []byte
	version    uint16 // legacy_version
	random     []byte
	session    []byte
	suite      uint16
	selected   uint16 // supported_versions, 0 if absent
	hasShare   bool
	group      tls.CurveID
	share      []byte // nil in a HelloRetryRequest
	cookie     []byte
	psk        bool
	identity   uint16
	extensions []uint16 // types in order
	alpn       []string // TLS 1.2 only
}

func (h *serverHello) retry() bool { return string(h.random) == string(retryRandom[:]) }

// parseServerHello reads a whole message. Errors are AlertErrors.
func parseServerHello(raw []byte) (*serverHello, error) {
	h := &serverHello{raw: raw}
	s := cryptobyte.String(raw)
	var typ, compression uint8
	var body, session cryptobyte.String
	if !s.ReadUint8(&typ) || typ != msgServerHello {
		return nil, refuse(alertUnexpectedMessage, "message of type %d in place of ServerHello", typ)
	}
	if !s.ReadUint24LengthPrefixed(&body) || !s.Empty() || !body.ReadUint16(&h.version) ||
		!body.ReadBytes(&h.random, 32) || !body.ReadUint8LengthPrefixed(&session) || len(session) > 32 ||
		!body.ReadUint16(&h.suite) || !body.ReadUint8(&compression) {
		return nil, malformed("ServerHello")
	}
	h.session = session
	if compression != 0 {
		return nil, refuse(alertIllegalParameter, "compression method %d", compression)
	}
	if body.Empty() {
		return h, nil
	}
	return h, eachExtension(body, "ServerHello", h.extension)
}

func (h *serverHello) extension(typ uint16, data cryptobyte.String) error {
	if slices.Contains(h.extensions, typ) {
		return refuse(alertIllegalParameter, "extension %d is there twice", typ)
	}
	h.extensions = append(h.extensions, typ)
	ok := true
	var list cryptobyte.String
	switch typ {
	case extVersions:
		ok = data.ReadUint16(&h.selected) && data.Empty()
	case extKeyShare:
		var id uint16
		ok = data.ReadUint16(&id)
		h.hasShare, h.group = true, tls.CurveID(id)
		if ok && !h.retry() {
			ok = data.ReadUint16LengthPrefixed(&list) && len(list) > 0
			h.share = list
		}
		ok = ok && data.Empty()
	case extCookie:
		ok = data.ReadUint16LengthPrefixed(&list) && data.Empty() && len(list) > 0
		h.cookie = list
	case extPSK:
		ok = data.ReadUint16(&h.identity) && data.Empty()
		h.psk = true
	case extALPN:
		h.alpn, ok = parseProtocols(data)
	}
	if !ok {
		return malformed(extensionName(typ) + " of ServerHello")
	}
	return nil
}

// marshal13 writes a ServerHello or HelloRetryRequest of TLS 1.3.
func (h *serverHello) marshal13() []byte {
	return message(msgServerHello, func(b *cryptobyte.Builder) {
		b.AddUint16(version12)
		b.AddBytes(h.random)
		b.AddUint8LengthPrefixed(addBytes(h.session))
		b.AddUint16(h.suite)
		b.AddUint8(0)
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			addExtension(b, extVersions, func(b *cryptobyte.Builder) { b.AddUint16(version13) })
			if h.hasShare {
				addExtension(b, extKeyShare, func(b *cryptobyte.Builder) {
					b.AddUint16(uint16(h.group))
					if !h.retry() {
						b.AddUint16LengthPrefixed(addBytes(h.share))
					}
				})
			}
			if h.psk {
				addExtension(b, extPSK, func(b *cryptobyte.Builder) { b.AddUint16(h.identity) })
			}
		})
	})
}

// messageHash replaces the first hello in the transcript after a HelloRetryRequest, RFC 9846
// section 4.5.1.
func messageHash(s suite, hello []byte) []byte {
	return message(msgMessageHash, addBytes(s.sum(hello)))
}
