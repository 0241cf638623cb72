package bent

import (
	"crypto"
	"crypto/mldsa"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/assay-bench/assay/reference/defect"
	"golang.org/x/crypto/cryptobyte"
)

// crooked is a server of the test's making: it answers a hello with what script sends, and then
// names what the client does.
type crooked struct {
	t     testing.TB
	rec   *records
	hello *clientHello
}

func (s *crooked) readHello() {
	msg, err := s.rec.message()
	if err == nil {
		s.hello, err = parseClientHello(msg, lax{})
	}
	if err != nil {
		s.t.Fatalf("client's hello: %v", err)
	}
}

// answer is a right ServerHello for the client's first share, bent.
func (s *crooked) answer(bend func(*serverHello)) []byte {
	h := &serverHello{
		random: random(32), session: s.hello.session, suite: 0x1301, hasShare: true, group: tls.X25519MLKEM768,
	}
	server := &server{hello: s.hello}
	var err error
	if h.share, _, err = server.exchange(h.group); err != nil {
		s.t.Fatal(err)
	}
	bend(h)
	return h.marshal13()
}

func (s *crooked) retry(id tls.CurveID) []byte {
	return s.answer(func(h *serverHello) { h.random, h.group = retryRandom[:], id })
}

func (s *crooked) send(msgs ...[]byte) {
	for _, msg := range msgs {
		s.rec.queue(typeHandshake, msg)
	}
	if err := s.rec.flush(); err != nil {
		s.t.Fatal(err)
	}
}

// reaction is what the client does next: an alert, a hello, or that it goes on with so many
// protected records.
func (s *crooked) reaction() string {
	sealed := 0
	for {
		typ, _, body, err := s.rec.raw()
		switch {
		case err != nil && sealed > 0:
			return fmt.Sprintf("%d sealed", sealed)
		case errors.Is(err, io.EOF):
			return "closed"
		case err != nil:
			return err.Error()
		case typ == typeAlert && len(body) == 2:
			return AlertName(body[1])
		case typ == typeHandshake && body[0] == msgClientHello:
			return "hello"
		case typ == typeHandshake && body[0] == msgClientKeyExchange:
			return "key exchange"
		case typ == typeData:
			sealed++
		}
	}
}

// against dials a server of the test's making.
func against(t testing.TB, cfg ClientConfig, script func(*crooked) string) (string, *Conn, error) {
	t.Helper()
	near, far := pair(t)
	done := make(chan string, 1)
	go func() {
		defer func() { _ = far.Close() }()
		_ = far.SetDeadline(time.Now().Add(patience))
		s := &crooked{t: t, rec: newRecords(far, version12)}
		s.rec.started = true
		s.readHello()
		done <- script(s)
	}()
	conn, err := Dial(near, cfg)
	if err == nil {
		_ = conn.Close()
	}
	return <-done, conn, err
}

// script is a case whose outcome is the client's reaction to a server of the test's making.
func script(run func(s *crooked) string) func(testing.TB, defect.Set) string {
	return func(t testing.TB, set defect.Set) string {
		cfg := clientConfig()
		cfg.Defects, cfg.TLS12 = set, true
		got, _, _ := against(t, cfg, run)
		return got
	}
}

// answered is a script of one bent ServerHello.
func answeredWith(bend func(*serverHello)) func(testing.TB, defect.Set) string {
	return script(func(s *crooked) string {
		s.send(s.answer(bend))
		return s.reaction()
	})
}

// halfClosed sends a bent ServerHello and ends the stream: a client that takes it misses the rest.
func halfClosed(bend func(*serverHello)) func(testing.TB, defect.Set) string {
	return script(func(s *crooked) string {
		s.send(s.answer(bend))
		_ = s.rec.conn.(*net.TCPConn).CloseWrite()
		return s.reaction()
	})
}

// offered names a property of the client's first hello.
func offered(look func(h *clientHello) string) func(testing.TB, defect.Set) string {
	return script(func(s *crooked) string { return look(s.hello) })
}

// bentKey signs in a way of the test's making.
type bentKey struct {
	public crypto.PublicKey
	sign   func(key *mldsa.PrivateKey, message []byte) ([]byte, error)
}

func (k bentKey) Public() crypto.PublicKey { return k.public }
func (k bentKey) Sign(_ io.Reader, message []byte, _ crypto.SignerOpts) ([]byte, error) {
	return k.sign(pki().mldsa.PrivateKey.(*mldsa.PrivateKey), message)
}

// signedBy is the end of a handshake with a server whose CertificateVerify is made by sign under the
// scheme of the key public, nil for the right one.
func signedBy(public crypto.PublicKey, sign func(*mldsa.PrivateKey, []byte) ([]byte, error)) func(testing.TB, defect.Set) string {
	return func(t testing.TB, set defect.Set) string {
		cert := pki().mldsa
		if public == nil {
			public = cert.PrivateKey.(crypto.Signer).Public()
		}
		cert.PrivateKey = bentKey{public, sign}
		_, got := dialed(t, defect.Set{}, func(s *ServerConfig) { s.Certificates = []tls.Certificate{cert} },
			func(c *ClientConfig) { c.Defects = set })
		return got
	}
}

func plainly(k *mldsa.PrivateKey, m []byte) ([]byte, error) { return k.Sign(nil, m, nil) }

func inContext(k *mldsa.PrivateKey, m []byte) ([]byte, error) {
	return k.Sign(nil, m, &mldsa.Options{Context: "x"})
}

func flipped(k *mldsa.PrivateKey, m []byte) ([]byte, error) {
	s, err := k.Sign(nil, m, nil)
	s[100] ^= 1
	return s, err
}

func ml44() crypto.PublicKey { return must(mldsa.GenerateKey(mldsa.MLDSA44())).Public() }

// flight12 is the first flight of TLS 1.2 with a random's end and a scheme of ServerKeyExchange.
func flight12(end string, scheme tls.SignatureScheme) func(testing.TB, defect.Set) string {
	return func(t testing.TB, set defect.Set) string {
		cert := pki().ecdsa
		if scheme == tls.MLDSA65 {
			cert = pki().mldsa
		}
		return script(func(s *crooked) string {
			server := &server{hello: s.hello}
			hello := random(32)
			copy(hello[24:], end)
			g, _ := groupOf(tls.CurveP256)
			key, err := g.generate()
			if err != nil {
				t.Fatal(err)
			}
			params := params12(g.id, key.parts[0])
			signature, err := sign(cert.PrivateKey, scheme, slices.Concat(s.hello.random, hello, params))
			if err != nil {
				t.Fatal(err)
			}
			s.send(server.hello12(hello, suitesECDSA[0], ""), certificate12(cert.Certificate),
				message(msgServerKeyExchange, func(b *cryptobyte.Builder) {
					b.AddBytes(params)
					b.AddUint16(uint16(scheme))
					b.AddUint16LengthPrefixed(addBytes(signature))
				}), message(msgServerHelloDone, func(*cryptobyte.Builder) {}))
			return s.reaction()
		})(t, set)
	}
}

// resumedHello names a property of the hello of a resumption.
func resumedHello(look func(h *clientHello) string) func(testing.TB, defect.Set) string {
	return func(t testing.TB, set defect.Set) string {
		near, _ := start(t, serverConfig())
		first, err := Dial(near, clientConfig())
		if err != nil {
			t.Fatal(err)
		}
		echoed(t, first, 1)
		cfg := clientConfig()
		cfg.Defects, cfg.Session = set, first.Session()
		got, _, _ := against(t, cfg, func(s *crooked) string {
			if len(s.hello.identities) != 1 {
				return "no ticket"
			}
			return look(s.hello)
		})
		return got
	}
}

func shorter(h *serverHello) { h.share = cutBy1(h.share) }

func retries(groups ...tls.CurveID) func(*crooked) string {
	return func(s *crooked) string {
		got := ""
		for i, id := range groups {
			if i > 0 {
				s.readHello()
			}
			s.hello.shares = nil // answer needs none of a group that was shared
			s.send(s.retry(id))
		}
		got = s.reaction()
		return got
	}
}

func corruptCiphertext(h *serverHello) { copy(h.share[:1088], random(1088)) }

var clientCases = map[defect.Name]serverCase{
	defect.TLSClientShareSwapped: {offered(func(h *clientHello) string {
		sh := h.shares[0].data
		_, _, err := mlkem768.encapsulate(sh[:1184])
		return fmt.Sprint(len(sh), err == nil)
	}), "1216 true", "1216 false"},
	defect.TLSClientSharePadded: {offered(func(h *clientHello) string { return fmt.Sprint(len(h.shares[0].data)) }), "1216", "1217"},
	defect.TLSClientShareCoefficient: {offered(func(h *clientHello) string {
		d := h.shares[0].data
		return fmt.Sprint(int(d[0])|int(d[1]&15)<<8 < 3329)
	}), "true", "false"},
	defect.TLSClientCiphertextLengthUnchecked: {answeredWith(shorter), "illegal_parameter", "3 sealed"},
	defect.TLSClientZeroSecretAccepted: {
		answeredWith(func(h *serverHello) { clear(h.share[1088:]) }), "illegal_parameter", "3 sealed"},
	defect.TLSClientImplicitRejectionIgnored: {script(func(s *crooked) string {
		s.send(s.answer(corruptCiphertext))
		s.rec.out = newHalf(suites[0], random(32))
		s.send(marshalEncryptedExtensions(""))
		return s.reaction()
	}), "1 sealed", "3 sealed"},
	defect.TLSClientShareGroupUnchecked: {
		answeredWith(func(h *serverHello) { h.group = tls.X25519 }), "illegal_parameter", "3 sealed"},
	defect.TLSClientRetryGroupUnchecked: {script(retries(tls.X25519)), "illegal_parameter", "hello"},
	defect.TLSClientSecondRetryFollowed: {script(retries(tls.CurveP256, tls.CurveP384)), "unexpected_message", "hello"},
	defect.TLSClientServerGroupUnchecked: {
		answeredWith(func(h *serverHello) { h.group, h.share = tls.CurveP384, random(97) }), "illegal_parameter", "3 sealed"},
	defect.TLSClientSessionIDUnchecked: {
		halfClosed(func(h *serverHello) { h.session = random(32) }), "illegal_parameter", "closed"},
	defect.TLSClientSuiteUnchecked: {
		answeredWith(func(h *serverHello) { h.suite = 0x1303 }), "illegal_parameter", "3 sealed"},
	defect.TLSClientSentinelIgnored:    {flight12(sentinel12, tls.ECDSAWithP256AndSHA256), "illegal_parameter", "key exchange"},
	defect.TLSClientTLS12MldsaAccepted: {flight12("", tls.MLDSA65), "illegal_parameter", "key exchange"},
	defect.TLSClientRecordVersionOdd:   {laterVersion, "0x0303", "0x0304"},
	defect.TLSClientAlertsDropped:      {answeredWith(shorter), "illegal_parameter", "closed"},
	defect.TLSClientWrongAlert:         {answeredWith(shorter), "illegal_parameter", "handshake_failure"},
	defect.TLSClientSignatureUnchecked: {signedBy(nil, flipped), "decrypt_error", "connected"},
	defect.TLSClientSchemeUnchecked:    {signedBy(ml44(), plainly), "illegal_parameter", "connected"},
	defect.TLSClientContextIgnored:     {signedBy(nil, inContext), "decrypt_error", "connected"},
	defect.TLSClientPskKeOffered:       {offered(func(h *clientHello) string { return fmt.Sprint(h.modes) }), "[1]", "[1 0]"},
	defect.TLSClientEarlyDataOffered:   {resumedHello(func(h *clientHello) string { return fmt.Sprint(h.earlyData) }), "false", "true"},
}

// laterVersion is the version of the client's record after its first hello.
func laterVersion(t testing.TB, set defect.Set) string {
	cfg := clientConfig()
	cfg.Defects = set
	got, _, _ := against(t, cfg, func(s *crooked) string {
		if s.rec.seen != 0x0301 {
			t.Errorf("first hello in a record of version 0x%04x", s.rec.seen)
		}
		s.send(s.retry(tls.CurveP256))
		s.readHello()
		return fmt.Sprintf("0x%04x", s.rec.seen)
	})
	return got
}

func TestClientDefects(t *testing.T) {
	ran := 0
	for _, e := range defect.Catalogue() {
		if !NeedsClient(defect.Of(e.Name)) {
			continue
		}
		ran++
		t.Run(string(e.Name), func(t *testing.T) {
			t.Parallel()
			c, known := clientCases[e.Name]
			if !known {
				t.Fatal("no case shows this defect")
			}
			if got := c.observe(t, defect.Set{}); got != c.right {
				t.Errorf("without the defect: %s, want %s", got, c.right)
			}
			if got := c.observe(t, defect.Of(e.Name)); got != c.wrong {
				t.Errorf("with the defect: %s, want %s", got, c.wrong)
			}
		})
	}
	if ran == 0 || ran != len(clientCases) || ran != len(clientDefects) {
		t.Fatalf("%d defects in the catalogue, %d cases, %d claimed", ran, len(clientCases), len(clientDefects))
	}
}

// TestClientAlerts has the rest of the malformed servers: what a client without defects answers.
func TestClientAlerts(t *testing.T) {
	for name, c := range map[string]serverCase{
		"longer":          {answeredWith(func(h *serverHello) { h.share = append(h.share, 0) }), "illegal_parameter", ""},
		"ciphertext only": {answeredWith(func(h *serverHello) { h.share = h.share[:1088] }), "illegal_parameter", ""},
		"unoffered group": {answeredWith(func(h *serverHello) { h.group = groupKyberDraft }), "illegal_parameter", ""},
		"retry unoffered": {script(retries(groupKyberDraft)), "illegal_parameter", ""},
		"not the retry's": {script(func(s *crooked) string {
			first := s.answer(func(*serverHello) {})
			s.send(s.retry(tls.CurveP256))
			s.readHello()
			s.send(first)
			return s.reaction()
		}), "illegal_parameter", ""},
		"suite changed": {script(func(s *crooked) string {
			changed := s.answer(func(h *serverHello) { h.suite = 0x1302 })
			s.send(s.retry(tls.CurveP256))
			s.readHello()
			s.send(changed)
			return s.reaction()
		}), "illegal_parameter", ""},
		"same retry twice": {script(retries(tls.CurveP256, tls.CurveP256)), "unexpected_message", ""},
		"no share":         {answeredWith(func(h *serverHello) { h.hasShare = false }), "missing_extension", ""},
		"unasked ticket":   {answeredWith(func(h *serverHello) { h.psk = true }), "unsupported_extension", ""},
		"old mark":         {flight12("DOWNGRD\x00", tls.ECDSAWithP256AndSHA256), "illegal_parameter", ""},
		"TLS 1.2":          {flight12("", tls.ECDSAWithP256AndSHA256), "handshake_failure", ""},
		"short": {signedBy(nil, func(k *mldsa.PrivateKey, m []byte) ([]byte, error) {
			s, err := plainly(k, m)
			return s[1:], err
		}), "decrypt_error", ""},
		"long": {signedBy(nil, func(k *mldsa.PrivateKey, m []byte) ([]byte, error) {
			s, err := plainly(k, m)
			return append(s, 0), err
		}), "decrypt_error", ""},
		"right": {signedBy(nil, plainly), "connected", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := c.observe(t, defect.Set{}); got != c.right {
				t.Errorf("%s, want %s", got, c.right)
			}
		})
	}
}

// TestBlindClient sees that a client that took a useless share believes itself connected.
func TestBlindClient(t *testing.T) {
	cfg := clientConfig()
	cfg.Defects = defect.Of(defect.TLSClientCiphertextLengthUnchecked)
	_, conn, err := against(t, cfg, func(s *crooked) string {
		s.send(s.answer(shorter))
		return s.reaction()
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := conn.State(); got.Group != tls.X25519MLKEM768 || len(got.Chain) != 0 {
		t.Errorf("state %+v", got)
	}
}

func TestSecondRetryToUnknownGroupIsBounded(t *testing.T) {
	cfg := clientConfig()
	cfg.Defects = defect.Of(defect.TLSClientSecondRetryFollowed)
	got, _, err := against(t, cfg, func(s *crooked) string {
		return retries(tls.CurveP256, tls.CurveP384, tls.SecP256r1MLKEM768)(s)
	})
	if got != "unexpected_message" || alertOf(err) != alertUnexpectedMessage {
		t.Errorf("third retry: %s, %v", got, err)
	}
}
