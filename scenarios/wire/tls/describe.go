package tls

import (
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"
)

// Directions of a stream for Describe.
const (
	FromClient = "client"
	FromServer = "server"
)

// maxLines bounds a description.
const maxLines = 400

// Describe decodes the raw bytes of one direction of a connection, a line for each record, message and
// extension. direction is FromClient or FromServer; with another text the keys of both are tried.
// Protected records are decrypted where keyLog, lines of the NSS key log format, has their secrets. What
// cannot be read is said so and left out: hostile bytes give a short text and no error.
func Describe(direction string, stream []byte, keyLog []string) string {
	d := describer{keys: logHalves(direction, keyLog)}
	d.stream(stream)
	return d.out.String()
}

type describer struct {
	out     strings.Builder
	lines   int
	keys    []*half // in the order of their use
	pending []byte
}

func (d *describer) line(format string, args ...any) {
	d.lines++
	switch {
	case d.lines < maxLines:
		fmt.Fprintf(&d.out, format+"\n", args...)
	case d.lines == maxLines:
		d.out.WriteString("and more\n")
	}
}

// logHalves reads the secrets of a direction; the length of a secret tells the suite. Lines that are
// malformed or of another purpose are passed over.
func logHalves(direction string, keyLog []string) []*half {
	labels := []string{logClientHandshake, logServerHandshake, logClientTraffic, logServerTraffic}
	var halves []*half
	for i, label := range labels {
		if (direction == FromClient && i%2 == 1) || (direction == FromServer && i%2 == 0) {
			continue
		}
		for _, line := range keyLog {
			fields := strings.Fields(line)
			if len(fields) == 3 && fields[0] == label {
				if h, ok := logHalf(fields[2]); ok {
					halves = append(halves, h)
				}
			}
		}
	}
	return halves
}

func logHalf(text string) (*half, bool) {
	secret, err := hex.DecodeString(text)
	if err != nil {
		return nil, false
	}
	for _, s := range []Suite{AES128SHA256, AES256SHA384} {
		if a, _ := algorithmsOf(s); a.size == len(secret) {
			h, err := newHalf(a, secret)
			return h, err == nil
		}
	}
	return nil, false
}

func (d *describer) stream(b []byte) {
	for len(b) > 0 && d.lines < maxLines {
		if len(b) < 5 {
			d.line("%d bytes of a record's header", len(b))
			return
		}
		var r record
		copy(r.header[:], b)
		n := int(r.header[3])<<8 | int(r.header[4])
		if k := r.kind(); k < recordChange || k > recordApplication {
			d.line("no TLS record: %s", brief(b))
			return
		}
		if len(b) < 5+n {
			d.line("record %s 0x%04x, %d of %d bytes", recordName(r.kind()), r.version(), len(b)-5, n)
			return
		}
		r.payload, b = b[5:5+n], b[5+n:]
		d.record(r)
	}
}

func recordName(kind uint8) string {
	switch kind {
	case recordChange:
		return "change_cipher_spec"
	case recordAlert:
		return "alert"
	case recordHandshake:
		return "handshake"
	case recordApplication:
		return "application_data"
	}
	return fmt.Sprintf("type %d", kind)
}

func (d *describer) record(r record) {
	if r.kind() != recordApplication {
		d.line("record %s 0x%04x, %d bytes", recordName(r.kind()), r.version(), len(r.payload))
		d.content(r.kind(), r.payload)
		return
	}
	kind, payload, padding, ok := d.open(r)
	switch {
	case ok:
		d.line("record protected 0x%04x, %d bytes: %s, %d bytes, padding %d",
			r.version(), len(r.payload), recordName(kind), len(payload), padding)
		d.content(kind, payload)
	case len(r.payload) == sealedAlert:
		d.line("record protected 0x%04x, %d bytes, not decrypted: the length of an alert", r.version(), len(r.payload))
	default:
		d.line("record protected 0x%04x, %d bytes, not decrypted", r.version(), len(r.payload))
	}
}

// open tries the secrets in the order of their use and forgets those before the one that fits.
func (d *describer) open(r record) (kind uint8, payload []byte, padding int, ok bool) {
	for i, h := range d.keys {
		if kind, payload, padding, err := h.open(r); err == nil {
			d.keys = d.keys[i:]
			return kind, payload, padding, true
		}
	}
	return 0, nil, 0, false
}

func (d *describer) content(kind uint8, b []byte) {
	switch kind {
	case recordAlert:
		if len(b) == 2 {
			d.line("  alert level %d %v", b[0], AlertCode(b[1]))
		}
	case recordHandshake:
		d.handshake(b)
	case recordApplication:
		d.line("  %s", brief(b))
	}
}

func (d *describer) handshake(b []byte) {
	d.pending = append(d.pending, b...)
	for len(d.pending) >= 4 {
		n := 4 + (int(d.pending[1])<<16 | int(d.pending[2])<<8 | int(d.pending[3]))
		if len(d.pending) < n {
			return
		}
		m := d.pending[:n]
		d.pending = d.pending[n:]
		d.message(m)
	}
}

func (d *describer) message(m []byte) {
	c := cursor{b: m[4:]}
	switch m[0] {
	case msgClientHello:
		d.clientHello(m)
	case msgServerHello:
		d.serverHello(m)
	case msgEncryptedExtensions:
		d.line("  EncryptedExtensions, %d bytes", len(m))
		list, _ := parseExtensions(c.vec16())
		d.extensions(list, false)
	case msgCertificate:
		d.certificates(m)
	case msgCertificateVerify:
		scheme, signature, err := parseVerify(m[4:])
		d.line("  CertificateVerify %v, signature %d bytes%s", scheme, len(signature), malformed(err))
	case msgTicket:
		lifetime, _, _, ticket := c.u32(), c.u32(), c.vec8(), c.vec16()
		d.line("  NewSessionTicket, lifetime %d s, ticket %d bytes", lifetime, len(ticket))
	default:
		d.line("  %s, %d bytes", MessageName(m[0]), len(m))
	}
}

// MessageName names a type of handshake message.
func MessageName(kind uint8) string {
	switch kind {
	case msgTicket:
		return "NewSessionTicket"
	case msgEncryptedExtensions:
		return "EncryptedExtensions"
	case msgCertificate:
		return "Certificate"
	case msgCertificateVerify:
		return "CertificateVerify"
	case msgServerKeyExchange:
		return "ServerKeyExchange"
	case msgCertificateRequest:
		return "CertificateRequest"
	case msgServerHelloDone:
		return "ServerHelloDone"
	case msgClientKeyExchange:
		return "ClientKeyExchange"
	case msgFinished:
		return "Finished"
	case msgCertificateStatus:
		return "CertificateStatus"
	case msgKeyUpdate:
		return "KeyUpdate"
	}
	return fmt.Sprintf("handshake message of type %d", kind)
}

func malformed(err error) string {
	if err != nil {
		return ", malformed"
	}
	return ""
}

func (d *describer) clientHello(m []byte) {
	h, err := ParseHello(m)
	if err != nil {
		d.line("  ClientHello, %d bytes, malformed: %v", len(m), err)
		return
	}
	d.line("  ClientHello, %d bytes, version 0x%04x, random %x, session id %d bytes, suites %s",
		len(m), h.LegacyVersion, h.Random[:4], len(h.SessionID), words(h.Suites))
	d.extensions(h.Extensions, true)
	if len(h.Trailing) > 0 {
		d.line("    trailing %d bytes", len(h.Trailing))
	}
}

func (d *describer) serverHello(m []byte) {
	h, err := parseServerHello(m)
	if err != nil {
		d.line("  ServerHello, %d bytes, malformed", len(m))
		return
	}
	name := "ServerHello"
	if h.retry() {
		name = "HelloRetryRequest"
	}
	d.line("  %s, %d bytes, version 0x%04x, random %x, session id %d bytes, suite %v",
		name, len(m), h.version(), h.random[:4], len(h.sessionID), h.suite)
	if s := h.sentinel(); s != "" {
		d.line("    downgrade sentinel of TLS %s", s)
	}
	d.extensions(h.extensions, false)
}

// words joins at most 24 values.
func words[T any](list []T) string {
	var text []string
	for _, v := range list[:min(len(list), 24)] {
		text = append(text, fmt.Sprint(v))
	}
	if len(list) > 24 {
		text = append(text, fmt.Sprintf("and %d more", len(list)-24))
	}
	return strings.Join(text, " ")
}

func (d *describer) extensions(list []Extension, client bool) {
	for _, e := range list {
		d.line("    %s", e.describe(client))
	}
}

func (e Extension) describe(client bool) string {
	c := cursor{b: e.Data}
	switch e.Type {
	case extServerName:
		return fmt.Sprintf("server_name %q", cut(readName(e.Data)))
	case extALPN:
		return fmt.Sprintf("alpn %q", cut(strings.Join(readProtocols(e.Data), " ")))
	case extGroups:
		list, _ := numbers[Group](c.vec16())
		return "supported_groups " + words(list)
	case extSchemes:
		list, _ := numbers[Scheme](c.vec16())
		return "signature_algorithms " + words(list)
	case extKeyShare:
		return "key_share " + e.keyShare(client)
	case extVersions:
		if !client {
			return fmt.Sprintf("supported_versions 0x%04x", c.u16())
		}
		list, _ := numbers[uint16](c.vec8())
		return fmt.Sprintf("supported_versions %04x", list[:min(len(list), 24)])
	case extPSK:
		if !client {
			return fmt.Sprintf("pre_shared_key, identity %d", c.u16())
		}
		tickets, _, _ := readTickets(e.Data)
		return fmt.Sprintf("pre_shared_key, %d tickets, %d bytes", len(tickets), len(e.Data))
	case extPSKModes:
		return fmt.Sprintf("psk_key_exchange_modes %v", c.vec8())
	}
	return fmt.Sprintf("%s, %d bytes", extensionName(e.Type), len(e.Data))
}

func extensionName(kind uint16) string {
	switch kind {
	case extStatus:
		return "status_request"
	case extPadding:
		return "padding"
	case extEarlyData:
		return "early_data"
	case extCookie:
		return "cookie"
	}
	return fmt.Sprintf("extension 0x%04x", kind)
}

// keyShare tells the three forms apart: a client's list, a server's entry, and the group that a
// HelloRetryRequest asks for.
func (e Extension) keyShare(client bool) string {
	if client {
		h := Hello{Extensions: []Extension{e}}
		shares, err := h.Shares()
		var list []string
		for _, s := range shares[:min(len(shares), 24)] {
			list = append(list, fmt.Sprintf("%v %d bytes %s", s.Group, len(s.Data), brief(s.Data[:min(len(s.Data), 4)])))
		}
		return strings.Join(list, ", ") + malformed(err)
	}
	if len(e.Data) == 2 {
		c := cursor{b: e.Data}
		return fmt.Sprintf("asks for %v", Group(c.u16()))
	}
	s, _, err := serverHello{extensions: []Extension{e}}.share()
	return fmt.Sprintf("%v %d bytes %s%s", s.Group, len(s.Data), brief(s.Data[:min(len(s.Data), 4)]), malformed(err))
}

// certificates reads both forms; that of TLS 1.2 has neither context nor extensions.
func (d *describer) certificates(m []byte) {
	list, err := parseCertificates(m[4:])
	if err != nil {
		legacy := LegacySeen{}
		if err = legacy.message(m); err == nil {
			list.chain = legacy.Certificates
		}
	}
	d.line("  Certificate, %d bytes, %d entries%s", len(m), len(list.chain), malformed(err))
	for _, der := range list.chain[:min(len(list.chain), 8)] {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			d.line("    %d bytes, malformed", len(der))
			continue
		}
		d.line("    %d bytes, %v, subject %q, issuer %q", len(der), cert.PublicKeyAlgorithm, cut(cert.Subject.String()), cut(cert.Issuer.String()))
	}
	if list.staple != nil {
		d.line("    OCSP response, %d bytes", len(list.staple))
	}
}

// brief shows the first bytes in hex.
func brief(b []byte) string {
	if len(b) > 16 {
		return fmt.Sprintf("%x.. (%d bytes)", b[:16], len(b))
	}
	return fmt.Sprintf("%x", b)
}

func cut(s string) string {
	if len(s) > 100 {
		return s[:100] + ".."
	}
	return s
}
