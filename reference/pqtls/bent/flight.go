package bent

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
)

// maxChain bounds the certificates taken from a peer.
const maxChain = 10

// body checks the type of a message and returns its content.
func body(msg []byte, want byte, name string) (cryptobyte.String, error) {
	if len(msg) < 4 {
		return nil, malformed(name)
	}
	if msg[0] != want {
		return nil, refuse(alertUnexpectedMessage, "message of type %d in place of %s", msg[0], name)
	}
	return cryptobyte.String(msg[4:]), nil
}

func marshalEncryptedExtensions(alpn string) []byte {
	return message(msgEncryptedExtensions, func(b *cryptobyte.Builder) {
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			if alpn == "" {
				return
			}
			addExtension(b, extALPN, func(b *cryptobyte.Builder) {
				b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
					b.AddUint8LengthPrefixed(addBytes([]byte(alpn)))
				})
			})
		})
	})
}

// parseEncryptedExtensions returns the protocol chosen among those offered, "" for none.
func parseEncryptedExtensions(msg []byte, offered *clientHello) (string, error) {
	s, err := body(msg, msgEncryptedExtensions, "EncryptedExtensions")
	if err != nil {
		return "", err
	}
	var alpn string
	seen := map[uint16]bool{}
	err = eachExtension(s, "EncryptedExtensions", func(typ uint16, data cryptobyte.String) error {
		if seen[typ] {
			return refuse(alertIllegalParameter, "extension %d is there twice", typ)
		}
		seen[typ] = true
		var err error
		switch typ {
		case extALPN:
			alpn, err = chosenProtocol(data, offered.alpn)
		case extServerName:
			if offered.serverName == "" {
				err = refuse(alertUnsupportedExtension, "server_name was not offered")
			}
		case extEarlyData:
			if !offered.earlyData {
				err = refuse(alertUnsupportedExtension, "early_data was not offered")
			}
		case extGroups: // for later connections only
		case extVersions, extKeyShare, extPSK, extCookie, extStatusRequest, extSignatures, extPSKModes:
			err = refuse(alertIllegalParameter, "%s in EncryptedExtensions", extensionName(typ))
		default:
			err = refuse(alertUnsupportedExtension, "extension %d was not offered", typ)
		}
		return err
	})
	return alpn, err
}

func chosenProtocol(data cryptobyte.String, offered []string) (string, error) {
	names, ok := parseProtocols(data)
	switch {
	case len(offered) == 0:
		return "", refuse(alertUnsupportedExtension, "ALPN was not offered")
	case !ok || len(names) != 1:
		return "", malformed("ALPN")
	case !slices.Contains(offered, names[0]):
		return "", refuse(alertIllegalParameter, "protocol %q was not offered", names[0])
	}
	return names[0], nil
}

func marshalCertificateRequest() []byte {
	return message(msgCertificateRequest, func(b *cryptobyte.Builder) {
		b.AddUint8(0)
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			addExtension(b, extSignatures, func(b *cryptobyte.Builder) {
				b.AddUint16LengthPrefixed(addUint16s(offeredSchemes))
			})
		})
	})
}

// parseCertificateRequest returns the signature schemes that the server takes.
func parseCertificateRequest(msg []byte) ([]tls.SignatureScheme, error) {
	s, err := body(msg, msgCertificateRequest, "CertificateRequest")
	if err != nil {
		return nil, err
	}
	var context cryptobyte.String
	if !s.ReadUint8LengthPrefixed(&context) {
		return nil, malformed("CertificateRequest")
	}
	if len(context) > 0 {
		return nil, refuse(alertIllegalParameter, "CertificateRequest of the handshake has a context")
	}
	var schemes []tls.SignatureScheme
	err = eachExtension(s, "CertificateRequest", func(typ uint16, data cryptobyte.String) error {
		if typ != extSignatures {
			return nil
		}
		var list cryptobyte.String
		if !data.ReadUint16LengthPrefixed(&list) || !data.Empty() {
			return malformed("signature_algorithms")
		}
		schemes = convert[tls.SignatureScheme](uint16s(list))
		return nil
	})
	if err == nil && len(schemes) == 0 {
		err = refuse(alertMissingExtension, "CertificateRequest without signature_algorithms")
	}
	return schemes, err
}

// marshalCertificate writes a Certificate of TLS 1.3; a staple goes to the leaf's entry.
func marshalCertificate(chain [][]byte, staple []byte) []byte {
	return message(msgCertificate, func(b *cryptobyte.Builder) {
		b.AddUint8(0)
		b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) {
			for i, der := range chain {
				b.AddUint24LengthPrefixed(addBytes(der))
				b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
					if i == 0 && len(staple) > 0 {
						addStaple(b, staple)
					}
				})
			}
		})
	})
}

func addStaple(b *cryptobyte.Builder, staple []byte) {
	addExtension(b, extStatusRequest, func(b *cryptobyte.Builder) {
		b.AddUint8(1)
		b.AddUint24LengthPrefixed(addBytes(staple))
	})
}

// certificates is a parsed Certificate message.
type certificates struct {
	chain  []*x509.Certificate
	staple []byte
}

// parseCertificate reads a Certificate of TLS 1.3. The chain may be empty.
func parseCertificate(msg []byte, stapleAsked bool) (certificates, error) {
	var out certificates
	s, err := body(msg, msgCertificate, "Certificate")
	if err != nil {
		return out, err
	}
	var context, list cryptobyte.String
	if !s.ReadUint8LengthPrefixed(&context) || !s.ReadUint24LengthPrefixed(&list) || !s.Empty() {
		return out, malformed("Certificate")
	}
	if len(context) > 0 {
		return out, refuse(alertIllegalParameter, "Certificate of the handshake has a context")
	}
	for !list.Empty() {
		var der, block cryptobyte.String
		if !list.ReadUint24LengthPrefixed(&der) || !list.ReadUint16LengthPrefixed(&block) {
			return out, malformed("Certificate")
		}
		if err := out.entry(der, block, stapleAsked); err != nil {
			return out, err
		}
	}
	return out, nil
}

func (c *certificates) entry(der, block cryptobyte.String, stapleAsked bool) error {
	leaf := len(c.chain) == 0
	if err := c.add(der); err != nil {
		return err
	}
	for !block.Empty() {
		var typ uint16
		var data, response cryptobyte.String
		var kind uint8
		if !block.ReadUint16(&typ) || !block.ReadUint16LengthPrefixed(&data) {
			return malformed("extensions of Certificate")
		}
		if typ != extStatusRequest || !stapleAsked {
			return refuse(alertUnsupportedExtension, "extension %d in Certificate was not offered", typ)
		}
		if !data.ReadUint8(&kind) || kind != 1 || !data.ReadUint24LengthPrefixed(&response) || !data.Empty() || response.Empty() {
			return malformed("status_request of Certificate")
		}
		if leaf {
			c.staple = response
		}
	}
	return nil
}

func (c *certificates) add(der []byte) error {
	if len(c.chain) == maxChain {
		return refuse(alertBadCertificate, "chain of more than %d certificates", maxChain)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return refuse(alertBadCertificate, "certificate %d: %v", len(c.chain), err)
	}
	c.chain = append(c.chain, cert)
	return nil
}

// trust verifies a chain. The name is "" for a client's.
func trust(chain []*x509.Certificate, roots *x509.CertPool, name string, usage x509.ExtKeyUsage, now time.Time) error {
	if roots == nil {
		roots = x509.NewCertPool() // nil would mean those of the system
	}
	between := x509.NewCertPool()
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		DNSName: name, Roots: roots, Intermediates: between, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{usage},
	})
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &unknown):
		return refuse(alertUnknownCA, "chain: %v", err)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return refuse(alertCertificateExpired, "chain: %v", err)
	}
	return refuse(alertBadCertificate, "chain: %v", err)
}

func marshalCertificateVerify(scheme tls.SignatureScheme, signature []byte) []byte {
	return message(msgCertificateVerify, func(b *cryptobyte.Builder) {
		b.AddUint16(uint16(scheme))
		b.AddUint16LengthPrefixed(addBytes(signature))
	})
}

func parseCertificateVerify(msg []byte) (tls.SignatureScheme, []byte, error) {
	s, err := body(msg, msgCertificateVerify, "CertificateVerify")
	if err != nil {
		return 0, nil, err
	}
	var scheme uint16
	var signature cryptobyte.String
	if !s.ReadUint16(&scheme) || !s.ReadUint16LengthPrefixed(&signature) || !s.Empty() {
		return 0, nil, malformed("CertificateVerify")
	}
	return tls.SignatureScheme(scheme), signature, nil
}

// suitable returns the first scheme of the certificate's key that the peer takes.
func suitable(cert *tls.Certificate, taken []tls.SignatureScheme) (tls.SignatureScheme, bool) {
	signer, ok := cert.PrivateKey.(crypto.Signer)
	if !ok {
		return 0, false
	}
	for _, scheme := range schemesOf(signer.Public()) {
		if slices.Contains(taken, scheme) {
			return scheme, true
		}
	}
	return 0, false
}

// newTicket is a NewSessionTicket as a client reads it.
type newTicket struct {
	lifetime, ageAdd uint32
	nonce, ticket    []byte
}

func (t newTicket) marshal() []byte {
	return message(msgNewSessionTicket, func(b *cryptobyte.Builder) {
		b.AddUint32(t.lifetime)
		b.AddUint32(t.ageAdd)
		b.AddUint8LengthPrefixed(addBytes(t.nonce))
		b.AddUint16LengthPrefixed(addBytes(t.ticket))
		b.AddUint16(0)
	})
}

func parseNewTicket(msg []byte) (newTicket, error) {
	var t newTicket
	s, err := body(msg, msgNewSessionTicket, "NewSessionTicket")
	if err != nil {
		return t, err
	}
	var nonce, ticket cryptobyte.String
	if !s.ReadUint32(&t.lifetime) || !s.ReadUint32(&t.ageAdd) || !s.ReadUint8LengthPrefixed(&nonce) ||
		!s.ReadUint16LengthPrefixed(&ticket) || ticket.Empty() {
		return t, malformed("NewSessionTicket")
	}
	t.nonce, t.ticket = nonce, ticket
	return t, eachExtension(s, "NewSessionTicket", func(uint16, cryptobyte.String) error { return nil })
}
