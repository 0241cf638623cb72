package tls

import "slices"

// maxShares bounds how many shares of a hello are looked at: each costs a key agreement.
const maxShares = 64

// seeHello says what a ClientHello holds. A malformed extension leaves its field as far as it was read.
func seeHello(h Hello, bytes int) *HelloSeen {
	seen := &HelloSeen{Bytes: bytes, Suites: h.Suites, Extensions: []uint16{}}
	for _, e := range h.Extensions {
		seen.Extensions = append(seen.Extensions, e.Type)
		seen.extension(e)
	}
	shares, _ := h.Shares()
	for _, s := range shares[:min(len(shares), maxShares)] {
		seen.Shares = append(seen.Shares, ShareSeen{s.Group, len(s.Data), shareFault(s.Group, s.Data)})
	}
	return seen
}

func (s *HelloSeen) extension(e Extension) {
	c := cursor{b: e.Data}
	switch e.Type {
	case extServerName:
		s.ServerName = readName(e.Data)
	case extALPN:
		s.ALPN = readProtocols(e.Data)
	case extVersions:
		s.Versions, _ = numbers[uint16](c.vec8())
	case extGroups:
		s.Groups, _ = numbers[Group](c.vec16())
	case extSchemes:
		s.Schemes, _ = numbers[Scheme](c.vec16())
	case extPSKModes:
		s.Modes = c.vec8()
	case extStatus:
		s.Status = true
	case extEarlyData:
		s.Early = true
	case extPSK:
		tickets, _, _ := readTickets(e.Data)
		s.Tickets = len(tickets)
	}
}

func readName(data []byte) string {
	outer := cursor{b: data}
	list := cursor{b: outer.vec16()}
	for list.more() {
		kind, name := list.u8(), list.vec16()
		if kind == 0 && !list.bad {
			return string(name)
		}
	}
	return ""
}

func readProtocols(data []byte) []string {
	outer := cursor{b: data}
	list := cursor{b: outer.vec16()}
	var names []string
	for list.more() {
		if n := list.vec8(); !list.bad {
			names = append(names, string(n))
		}
	}
	return names
}

// readTickets gives the identities and binders of a pre_shared_key extension of a hello.
func readTickets(data []byte) (tickets, binders [][]byte, ok bool) {
	c := cursor{b: data}
	list := cursor{b: c.vec16()}
	for list.more() {
		t := list.vec16()
		list.u32()
		if !list.bad {
			tickets = append(tickets, t)
		}
	}
	rest := cursor{b: c.vec16()}
	for rest.more() {
		if b := rest.vec8(); !rest.bad {
			binders = append(binders, b)
		}
	}
	return tickets, binders, c.whole() && !list.bad && !rest.bad
}

// bindersLength is what a hello's transcript leaves out for the binders: their list with its length.
func bindersLength(binders [][]byte) int {
	n := 2
	for _, b := range binders {
		n += 1 + len(b)
	}
	return n
}

// serverHello is a ServerHello or HelloRetryRequest as read.
type serverHello struct {
	legacy     uint16
	random     [32]byte
	sessionID  []byte
	suite      Suite
	extensions []Extension
}

// retryRandom is SHA-256("HelloRetryRequest"), RFC 9846 section 4.2.3.
var retryRandom = [32]byte{
	0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
	0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
}

// The last bytes of a random that says that the server could do better, RFC 9846 section 4.2.3.
const (
	sentinel12 = "DOWNGRD\x01"
	sentinel11 = "DOWNGRD\x00"
)

// parseServerHello reads a whole handshake message.
func parseServerHello(b []byte) (serverHello, error) {
	c := cursor{b: b[4:]}
	h := serverHello{legacy: c.u16()}
	copy(h.random[:], c.take(32))
	h.sessionID = c.vec8()
	h.suite = Suite(c.u16())
	compression := c.u8()
	if c.bad || len(h.sessionID) > 32 || compression != 0 {
		return h, garbled("ServerHello of %d bytes: the fields before the extensions are malformed", len(b))
	}
	if c.whole() {
		return h, nil // a ServerHello of TLS 1.2 may end here
	}
	var err error
	if h.extensions, err = parseExtensions(c.vec16()); err != nil || !c.whole() {
		return h, garbled("ServerHello of %d bytes: malformed extensions", len(b))
	}
	return h, nil
}

func parseExtensions(b []byte) ([]Extension, error) {
	var list []Extension
	for c := (cursor{b: b}); c.more(); {
		e := Extension{Type: c.u16(), Data: c.vec16()}
		if c.bad {
			return nil, garbled("extension %d is cut off", len(list))
		}
		list = append(list, e)
	}
	return list, nil
}

func (h serverHello) find(ext uint16) ([]byte, bool) {
	i := slices.IndexFunc(h.extensions, func(e Extension) bool { return e.Type == ext })
	if i < 0 {
		return nil, false
	}
	return h.extensions[i].Data, true
}

func (h serverHello) retry() bool { return h.random == retryRandom }

// version is the negotiated one: that of supported_versions where it is there.
func (h serverHello) version() uint16 {
	if data, ok := h.find(extVersions); ok && len(data) == 2 {
		return uint16(data[0])<<8 | uint16(data[1])
	}
	return h.legacy
}

// group is the one that key_share of a HelloRetryRequest asks for; 0: none.
func (h serverHello) group() Group {
	data, _ := h.find(extKeyShare)
	if len(data) != 2 {
		return 0
	}
	return Group(uint16(data[0])<<8 | uint16(data[1]))
}

// share is the key_share of a ServerHello.
func (h serverHello) share() (KeyShare, bool, error) {
	data, ok := h.find(extKeyShare)
	if !ok {
		return KeyShare{}, false, nil
	}
	c := cursor{b: data}
	s := KeyShare{Group: Group(c.u16()), Data: c.vec16()}
	if !c.whole() {
		return s, true, garbled("ServerHello: malformed key_share of %d bytes", len(data))
	}
	return s, true, nil
}

func (h serverHello) sentinel() string {
	switch string(h.random[24:]) {
	case sentinel12:
		return "1.2"
	case sentinel11:
		return "1.1"
	}
	return ""
}
