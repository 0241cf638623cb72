package tls

import (
	"bytes"
	"net/netip"
	"slices"
	"time"
)

// rsaPKCS256 is offered for the signatures inside certificates only.
const rsaPKCS256 Scheme = 0x0401

// legacySuites are offered beside the suites of TLS 1.3 when TLS 1.2 is offered too:
// ECDHE_{ECDSA,RSA}_WITH_AES_{128,256}_GCM.
var legacySuites = [...]Suite{0xc02b, 0xc02f, 0xc02c, 0xc030}

// keyring holds a client's key pairs and makes each only once.
type keyring struct {
	from  source
	same  bool // groups on the same curve share a key
	pairs map[Group]keyPair
}

// share gives the bytes of a fresh share; of a group that is not known, bytes of its length or one byte.
func (k *keyring) share(g Group) ([]byte, error) {
	if _, ok := shapeOf(g); !ok {
		return k.from("share "+g.String(), max(g.ClientShare(), 1)), nil
	}
	pair, ok := k.pairs[g]
	if !ok {
		var err error
		if pair, err = newKeyPair(g, k.from, k.purpose(g)); err != nil {
			return nil, err
		}
		k.pairs[g] = pair
	}
	return slices.Clone(pair.share), nil
}

func (k *keyring) purpose(g Group) string {
	s, _ := shapeOf(g)
	if !k.same {
		return g.String()
	}
	switch s.point {
	case 65:
		return P256.String()
	case 97:
		return P384.String()
	}
	return X25519.String()
}

// hello builds the well-formed ClientHello of an offer.
func (o Offer) hello(keys *keyring, now time.Time) (Hello, error) {
	h := Hello{LegacyVersion: version12, SessionID: keys.from("session id", 32), Compression: []byte{0}}
	copy(h.Random[:], keys.from("client random", 32))
	versions := o.Versions
	if versions == nil {
		versions = []uint16{version13}
	}
	h.Suites = o.suites(slices.Contains(versions, version12))
	o.name(&h)
	h.Add(Extension{extGroups, appendVec16(nil, appendNumbers(nil, o.Groups))})
	h.Add(Extension{extSchemes, appendVec16(nil, appendNumbers(nil, o.schemes()))})
	if len(o.ALPN) > 0 {
		h.Add(Extension{extALPN, protocols(o.ALPN)})
	}
	if o.Status {
		h.Add(Extension{extStatus, []byte{1, 0, 0, 0, 0}})
	}
	if slices.Contains(versions, version12) {
		h.Add(Extension{extPointFormats, []byte{1, 0}})
		h.Add(Extension{Type: extMasterSecret})
		h.Add(Extension{extRenegotiation, []byte{0}})
	}
	h.Add(Extension{extVersions, appendVec8(nil, appendNumbers(nil, versions))})
	if err := o.shares(&h, keys); err != nil {
		return Hello{}, err
	}
	h.Add(Extension{extPSKModes, []byte{1, 1}}) // servers send tickets only to who names a mode
	if o.Session != nil {
		h.Extensions = append(h.Extensions, Extension{extPSK, o.Session.offer(now)})
	}
	h.pad(o.Size)
	return h, nil
}

func (o Offer) suites(legacy bool) []Suite {
	if o.Suites != nil {
		return slices.Clone(o.Suites)
	}
	both := []Suite{AES128SHA256, AES256SHA384}
	if legacy {
		both = append(both, legacySuites[:]...)
	}
	return both
}

func (o Offer) schemes() []Scheme {
	if o.Schemes != nil {
		return o.Schemes
	}
	return []Scheme{MLDSA65, MLDSA87, MLDSA44, ECDSAP256, ECDSAP384, Ed25519, RSAPSS256, rsaPKCS256}
}

// name adds server_name; an address must not be sent in it (RFC 6066 section 3).
func (o Offer) name(h *Hello) {
	if _, err := netip.ParseAddr(o.ServerName); err == nil || o.ServerName == "" {
		return
	}
	entry := appendVec16([]byte{0}, []byte(o.ServerName))
	h.Add(Extension{extServerName, appendVec16(nil, entry)})
}

func (o Offer) shares(h *Hello, keys *keyring) error {
	groups := o.Shares
	if groups == nil && len(o.Groups) > 0 {
		groups = o.Groups[:1]
	}
	var list []KeyShare
	for _, g := range groups {
		data, err := keys.share(g)
		if err != nil {
			return err
		}
		list = append(list, KeyShare{g, data})
	}
	h.SetShares(list)
	return nil
}

func protocols(names []string) []byte {
	var list []byte
	for _, n := range names {
		list = appendVec8(list, []byte(n))
	}
	return appendVec16(nil, list)
}

// pad adds a padding extension (RFC 7685) so that the message gets size bytes, where it is shorter by the
// four bytes of an extension's header at least.
func (h *Hello) pad(size int) {
	if n := size - len(h.Marshal()) - 4; n >= 0 {
		h.Add(Extension{extPadding, make([]byte, min(n, 65000))})
	}
}

// offer is the pre_shared_key extension with a binder of zeros.
func (s *Session) offer(now time.Time) []byte {
	age := uint32(now.Sub(s.Received).Milliseconds()) + s.AgeAdd
	identity := append32(appendVec16(nil, s.Ticket), age)
	a, ok := algorithmsOf(s.Suite)
	if !ok {
		a.size = 32
	}
	return appendVec16(appendVec16(nil, identity), appendVec8(nil, make([]byte, a.size)))
}

// blank gives where the binder of the one ticket goes, and the length of the message before its binders.
// false: the hello has no single last binder of that size, or it holds something else than what is
// expected there, so that somebody bent it.
func (h *Hello) blank(size int, expected []byte) (binder []byte, before int, ok bool) {
	n := len(h.Extensions)
	if n == 0 || len(h.Trailing) > 0 || h.Extensions[n-1].Type != extPSK {
		return nil, 0, false
	}
	data := h.Extensions[n-1].Data
	head := len(data) - size - 3
	if head < 0 || !bytes.Equal(data[head:head+3], []byte{0, byte(size + 1), byte(size)}) {
		return nil, 0, false
	}
	if !bytes.Equal(data[head+3:], expected) {
		return nil, 0, false
	}
	return data[head+3:], len(h.Marshal()) - size - 3, true
}

// bind computes the binder over the transcript before this hello and the hello itself, where the binder
// still is what expected says. It returns the binder written, nil for none.
func (s *Session) bind(h *Hello, before, expected []byte) []byte {
	a, ok := algorithmsOf(s.Suite)
	if !ok {
		return nil
	}
	if expected == nil {
		expected = make([]byte, a.size)
	}
	place, cut, ok := h.blank(a.size, expected)
	if !ok {
		return nil
	}
	raw := h.Marshal()
	copy(place, a.binder(s.Secret, slices.Concat(before, raw[:cut])))
	return slices.Clone(place)
}
