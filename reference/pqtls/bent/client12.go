package bent

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"slices"

	"github.com/assay-bench/assay/reference/defect"
	"golang.org/x/crypto/cryptobyte"
)

// accept12 judges a ServerHello that is not of TLS 1.3, RFC 9846 section 4.2.3.
func (c *client) accept12(h *serverHello) error {
	marked := bytes.HasPrefix(h.random[24:], []byte(sentinel12[:7])) && h.random[31] <= 1
	switch {
	case h.retry():
		return refuse(alertMissingExtension, "HelloRetryRequest without supported_versions")
	case marked && !c.on(defect.TLSClientSentinelIgnored):
		return refuse(alertIllegalParameter, "ServerHello with the sentinel of a downgrade")
	case !c.cfg.TLS12 || h.version != version12:
		return refuse(alertProtocolVersion, "ServerHello of version 0x%04x", h.version)
	case c.state.Retry:
		return refuse(alertIllegalParameter, "TLS 1.2 after a HelloRetryRequest")
	case !slices.Contains(suitesECDSA, h.suite) && !slices.Contains(suitesRSA, h.suite):
		return refuse(alertIllegalParameter, "cipher suite 0x%04x was not offered for TLS 1.2", h.suite)
	}
	c.state.Version = version12
	return nil
}

// flight12 reads the rest of the server's first flight and ends the handshake. With a planted defect
// that took what must be refused it goes on as far as it can: to a Finished of no value.
func (c *client) flight12() error {
	if err := c.readCertificate12(); err != nil {
		return err
	}
	msg, err := c.rec.message()
	if err == nil && msg[0] == msgCertificateStatus {
		msg, err = c.rec.message()
	}
	if err != nil {
		return err
	}
	id, err := c.keyExchange12(msg)
	if err != nil {
		return err
	}
	if err := c.readDone12(); err != nil {
		return err
	}
	if !c.on(defect.TLSClientSentinelIgnored) && !c.on(defect.TLSClientTLS12MldsaAccepted) {
		return refuse(alertHandshakeFailure, "TLS 1.2 ends after its first flight here")
	}
	return c.answer12(id)
}

func (c *client) readCertificate12() error {
	msg, err := c.rec.message()
	if err != nil {
		return err
	}
	s, err := body(msg, msgCertificate, "Certificate")
	if err != nil {
		return err
	}
	var list cryptobyte.String
	if !s.ReadUint24LengthPrefixed(&list) || !s.Empty() {
		return malformed("Certificate")
	}
	for !list.Empty() {
		var der cryptobyte.String
		if !list.ReadUint24LengthPrefixed(&der) {
			return malformed("Certificate")
		}
		if err := c.peer.add(der); err != nil {
			return err
		}
	}
	return c.trust()
}

// keyExchange12 reads ServerKeyExchange and returns its curve.
func (c *client) keyExchange12(msg []byte) (tls.CurveID, error) {
	s, err := body(msg, msgServerKeyExchange, "ServerKeyExchange")
	if err != nil {
		return 0, err
	}
	var kind uint8
	var id, scheme uint16
	var point, signature cryptobyte.String
	if !s.ReadUint8(&kind) || !s.ReadUint16(&id) || !s.ReadUint8LengthPrefixed(&point) || point.Empty() {
		return 0, malformed("ServerKeyExchange")
	}
	params := msg[4 : len(msg)-len(s)]
	if !s.ReadUint16(&scheme) || !s.ReadUint16LengthPrefixed(&signature) || !s.Empty() {
		return 0, malformed("signature of ServerKeyExchange")
	}
	g, known := groupOf(tls.CurveID(id))
	if kind != 3 || !known || g.postQuantum() || !slices.Contains(c.hello.groups, g.id) {
		return 0, refuse(alertIllegalParameter, "ServerKeyExchange of curve 0x%04x", id)
	}
	content := slices.Concat(c.hello.random, c.server.random, params)
	return g.id, c.verify12(c.peer.chain[0], tls.SignatureScheme(scheme), content, signature)
}

// verify12 judges the signature of a ServerKeyExchange. ML-DSA is not for TLS 1.2, says
// draft-ietf-tls-mldsa.
func (c *client) verify12(leaf *x509.Certificate, scheme tls.SignatureScheme, content, signature []byte) error {
	if slices.Contains(handshakeSchemes[:3], scheme) {
		if c.on(defect.TLSClientTLS12MldsaAccepted) {
			return nil
		}
		return refuse(alertIllegalParameter, "ServerKeyExchange signed with %v", scheme)
	}
	if !slices.Contains(c.schemes, scheme) {
		return refuse(alertIllegalParameter, "ServerKeyExchange with scheme 0x%04x, which was not offered", uint16(scheme))
	}
	if err := verify(leaf.PublicKey, scheme, content, signature); err != nil {
		return refuse(alertDecryptError, "ServerKeyExchange: %v", err)
	}
	return nil
}

// readDone12 reads up to ServerHelloDone; a CertificateRequest before it is not answered.
func (c *client) readDone12() error {
	msg, err := c.rec.message()
	if err == nil && msg[0] == msgCertificateRequest {
		msg, err = c.rec.message()
	}
	if err != nil {
		return err
	}
	s, err := body(msg, msgServerHelloDone, "ServerHelloDone")
	if err == nil && !s.Empty() {
		err = malformed("ServerHelloDone")
	}
	return err
}

// answer12 sends ClientKeyExchange, ChangeCipherSpec and a Finished that holds nothing, and returns
// what the server says to it.
func (c *client) answer12(id tls.CurveID) error {
	curve := map[tls.CurveID]ecdh.Curve{
		tls.X25519: ecdh.X25519(), tls.CurveP256: ecdh.P256(), tls.CurveP384: ecdh.P384(),
	}[id]
	own, err := curve.GenerateKey(rand.Reader)
	if err != nil {
		return refuse(alertInternalError, "key of %v: %v", id, err)
	}
	c.queue(message(msgClientKeyExchange, func(b *cryptobyte.Builder) {
		b.AddUint8LengthPrefixed(addBytes(own.PublicKey().Bytes()))
	}))
	c.rec.queue(typeCCS, []byte{1})
	c.rec.queue(typeHandshake, random(40)) // the length of a Finished under AES-GCM
	if err := c.rec.flush(); err != nil {
		return err
	}
	if _, err := c.rec.message(); err != nil {
		return err
	}
	return refuse(alertUnexpectedMessage, "the server answered a Finished of no value")
}
