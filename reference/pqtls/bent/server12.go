package bent

import (
	"crypto/rand"
	"crypto/tls"
	"slices"

	"github.com/assay-bench/assay/reference/defect"
	"golang.org/x/crypto/cryptobyte"
)

// Cipher suites of TLS 1.2 for the two kinds of keys, RFC 8422 and RFC 5289.
var (
	suitesECDSA = []uint16{0xc02b, 0xc02c, 0xcca9}
	suitesRSA   = []uint16{0xc02f, 0xc030, 0xcca8}
)

const (
	suiteFallback      = 0x5600 // TLS_FALLBACK_SCSV, RFC 7507
	suiteRenegotiation = 0x00ff // TLS_EMPTY_RENEGOTIATION_INFO_SCSV, RFC 5746
)

// flight12 sends the first flight of TLS 1.2 and ends the handshake at the client's answer.
func (s *server) flight12() error {
	s.state.Version = version12
	if slices.Contains(s.hello.suites, suiteFallback) {
		return refuse(alertFallback, "a client that speaks TLS 1.3 fell back to TLS 1.2")
	}
	id, key, err := s.key12()
	if err != nil {
		return err
	}
	cert, suite, scheme, err := s.certificate12()
	if err != nil {
		return err
	}
	alpn, err := s.chooseProtocol()
	if err != nil {
		return err
	}
	hello := random(32)
	if !s.on(defect.TLSNoDowngradeSentinel) {
		copy(hello[24:], sentinel12)
	}
	params := params12(id, key)
	signature, err := sign(cert.PrivateKey, scheme, slices.Concat(s.hello.random, hello, params))
	if err != nil {
		return err
	}
	s.queue(s.hello12(hello, suite, alpn))
	s.queue(certificate12(cert.Certificate))
	s.queue(message(msgServerKeyExchange, func(b *cryptobyte.Builder) {
		b.AddBytes(params)
		b.AddUint16(uint16(scheme))
		b.AddUint16LengthPrefixed(addBytes(signature))
	}))
	s.queue(message(msgServerHelloDone, func(*cryptobyte.Builder) {}))
	if err := s.rec.flush(); err != nil {
		return err
	}
	if _, err := s.rec.message(); err != nil {
		return err
	}
	return refuse(alertHandshakeFailure, "TLS 1.2 ends after its first flight here")
}

// key12 chooses an elliptic curve that the client takes and makes a point of it.
func (s *server) key12() (tls.CurveID, []byte, error) {
	offered := s.hello.groups
	if offered == nil {
		offered = []tls.CurveID{tls.CurveP256} // RFC 8422 section 4 leaves the choice to the server
	}
	for _, g := range inPreference(s.cfg.Groups) {
		hybrid := g.id == tls.X25519MLKEM768 && s.on(defect.TLSTls12Hybrid)
		if !slices.Contains(offered, g.id) || g.postQuantum() && !hybrid {
			continue
		}
		own, err := g.curve.GenerateKey(rand.Reader)
		if err != nil {
			return 0, nil, refuse(alertInternalError, "key of %v: %v", g.id, err)
		}
		// A point of TLS 1.2 has at most 255 bytes, so that a planted hybrid shows its curve part only.
		return g.id, own.PublicKey().Bytes(), nil
	}
	return 0, nil, refuse(alertHandshakeFailure, "no common curve in TLS 1.2")
}

// certificate12 takes the first certificate whose key and suite the client takes. ML-DSA is none of
// them: draft-ietf-tls-mldsa is for TLS 1.3.
func (s *server) certificate12() (*tls.Certificate, uint16, tls.SignatureScheme, error) {
	for i := range s.cfg.Certificates {
		cert := &s.cfg.Certificates[i]
		schemes, usable := handshakeSchemes, suitesRSA
		if isMLDSA(cert) && !s.on(defect.TLSMldsaInTLS12) {
			continue
		}
		if !isMLDSA(cert) {
			schemes = s.schemes12()
		}
		scheme, ok := suitable(cert, schemes)
		if !ok {
			continue
		}
		if isMLDSA(cert) || scheme == tls.ECDSAWithP256AndSHA256 || scheme == tls.ECDSAWithP384AndSHA384 {
			usable = suitesECDSA
		}
		for _, suite := range usable {
			if slices.Contains(s.hello.suites, suite) {
				return cert, suite, scheme, nil
			}
		}
	}
	return nil, 0, 0, refuse(alertHandshakeFailure, "no certificate suits a client of TLS 1.2")
}

// schemes12 are the client's; without the extension those of this package, for none of SHA-1 is here.
func (s *server) schemes12() []tls.SignatureScheme {
	if s.hello.schemes == nil {
		return handshakeSchemes
	}
	return s.hello.schemes
}

func (s *server) hello12(random []byte, suite uint16, alpn string) []byte {
	return message(msgServerHello, func(b *cryptobyte.Builder) {
		b.AddUint16(version12)
		b.AddBytes(random)
		b.AddUint8LengthPrefixed(addBytes(nil))
		b.AddUint16(suite)
		b.AddUint8(0)
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			if s.hello.renegotiation || slices.Contains(s.hello.suites, suiteRenegotiation) {
				addExtension(b, extRenegotiation, addBytes([]byte{0}))
			}
			if s.hello.groups != nil {
				addExtension(b, extPointFormats, addBytes([]byte{1, 0}))
			}
			if alpn != "" {
				addExtension(b, extALPN, func(b *cryptobyte.Builder) {
					b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
						b.AddUint8LengthPrefixed(addBytes([]byte(alpn)))
					})
				})
			}
		})
	})
}

// params12 are the ServerECDHParams of RFC 8422 section 5.4.
func params12(id tls.CurveID, point []byte) []byte {
	var b cryptobyte.Builder
	b.AddUint8(3) // named_curve
	b.AddUint16(uint16(id))
	b.AddUint8LengthPrefixed(addBytes(point))
	return b.BytesOrPanic()
}

func certificate12(chain [][]byte) []byte {
	return message(msgCertificate, func(b *cryptobyte.Builder) {
		b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) {
			for _, der := range chain {
				b.AddUint24LengthPrefixed(addBytes(der))
			}
		})
	})
}
