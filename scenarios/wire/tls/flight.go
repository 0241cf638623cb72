package tls

import (
	"bytes"
	"crypto/hmac"
)

// readFlight reads the server's flight up to its Finished.
func (r *clientRun) readFlight() error {
	r.l.arm(r.l.wait)
	for r.out.Flight == nil || !r.out.Flight.FinishedValid {
		e, err := r.l.next()
		if err != nil {
			return err
		}
		if r.out.Flight == nil {
			r.out.Stage, r.out.Flight = "flight", &FlightSeen{Messages: []uint8{}}
		}
		if e.kind != recordHandshake {
			return garbled("application data in the server's flight")
		}
		r.out.Flight.Messages = append(r.out.Flight.Messages, e.data[0])
		err = r.flightMessage(e.data)
		r.out.Flight.Padding = r.l.padding
		if err != nil {
			return err
		}
		r.script.add(e.data)
	}
	return nil
}

// flightMessage takes one message; the transcript does not hold it yet. Order is noted, not judged.
func (r *clientRun) flightMessage(m []byte) error {
	f, body := r.out.Flight, m[4:]
	switch m[0] {
	case msgEncryptedExtensions:
		return f.encryptedExtensions(body)
	case msgCertificateRequest:
		c := cursor{b: body}
		r.request = c.vec8()
		if _, err := parseExtensions(c.vec16()); err != nil || !c.whole() {
			return garbled("CertificateRequest of %d bytes is malformed", len(body))
		}
		f.Requested, r.requested = true, true
	case msgCertificate:
		list, err := parseCertificates(body)
		f.Certificates, f.Staple, f.StapleElsewhere = list.chain, bytes.Clone(list.staple), list.elsewhere
		return err
	case msgCertificateVerify:
		return r.certificateVerify(body)
	case msgFinished:
		f.FinishedValid = hmac.Equal(body, r.algo.finished(r.serverHS, r.script.b))
		if !f.FinishedValid {
			return &stop{ending: WrongFinished}
		}
	default:
		return garbled("handshake message of type %d in the server's flight", m[0])
	}
	return nil
}

func (f *FlightSeen) encryptedExtensions(body []byte) error {
	c := cursor{b: body}
	list, err := parseExtensions(c.vec16())
	if err != nil || !c.whole() {
		return garbled("EncryptedExtensions of %d bytes are malformed", len(body))
	}
	for _, e := range list {
		f.Parameters += 4 + len(e.Data)
		if e.Type != extALPN {
			continue
		}
		if names := readProtocols(e.Data); len(names) > 0 {
			f.ALPN = names[0]
		}
	}
	return nil
}

func (r *clientRun) certificateVerify(body []byte) error {
	scheme, signature, err := parseVerify(body)
	if err != nil {
		return err
	}
	f := r.out.Flight
	f.Scheme, f.Signature = scheme, len(signature)
	if len(f.Certificates) > 0 {
		content := signedContent(serverContext, r.algo.digest(r.script.b))
		f.SignatureValid = verify(scheme, f.Certificates[0], content, signature)
	}
	return nil
}

// legacy reads the first flight of a server that chose an older version, and stops.
func (r *clientRun) legacy() error {
	if v := r.out.Server.Version; v != version12 {
		return &stop{ending: Answered, detail: "a version that is not spoken"}
	}
	r.out.Stage, r.out.Legacy = "flight", &LegacySeen{Messages: []uint8{}}
	r.l.arm(r.l.wait)
	for {
		e, err := r.l.next()
		if err != nil {
			return err
		}
		if e.kind != recordHandshake {
			return garbled("application data in the server's flight")
		}
		r.out.Legacy.Messages = append(r.out.Legacy.Messages, e.data[0])
		if e.data[0] == msgServerHelloDone {
			return &stop{ending: Answered, detail: "TLS 1.2"}
		}
		if err := r.out.Legacy.message(e.data); err != nil {
			return err
		}
	}
}

// message reads a message of RFC 5246 section 7.4; those that say nothing about the key exchange are only
// listed.
func (l *LegacySeen) message(m []byte) error {
	c := cursor{b: m[4:]}
	switch m[0] {
	case msgCertificate:
		list := cursor{b: c.vec24()}
		for list.more() {
			if der := list.vec24(); !list.bad {
				l.Certificates = append(l.Certificates, der)
			}
		}
		if list.bad || !c.whole() {
			return garbled("Certificate of %d bytes is malformed", len(m)-4)
		}
	case msgServerKeyExchange:
		kind := c.u8()
		l.Group = Group(c.u16())
		c.vec8()
		l.Scheme = Scheme(c.u16())
		c.vec16()
		if kind != 3 || !c.whole() {
			return garbled("ServerKeyExchange of %d bytes has no named group", len(m)-4)
		}
	case msgCertificateRequest, msgCertificateStatus, msgTicket:
	default:
		return garbled("handshake message of type %d in a flight of TLS 1.2", m[0])
	}
	return nil
}
