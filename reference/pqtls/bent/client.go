package bent

import (
	"bytes"
	"crypto/hmac"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/assay-bench/assay/reference/defect"
)

// blindWait is how long a client that took what it must not waits for a flight that it can read,
// before it goes on without.
const blindWait = 500 * time.Millisecond

// blindData is the application data of such a client.
const blindData = "sent without a verified server\n"

// Dial does the handshake of a client on conn. After an error conn is closed; the error is an
// *AlertError when either side refused the other.
func Dial(conn net.Conn, cfg ClientConfig) (*Conn, error) {
	return newClient(conn, cfg).dial()
}

func newClient(conn net.Conn, cfg ClientConfig) *client {
	if cfg.Now.IsZero() {
		cfg.Now = time.Now()
	}
	return &client{cfg: cfg, suites: suites, schemes: offeredSchemes, conn: conn, rec: newRecords(conn, 0x0301)}
}

func (c *client) dial() (*Conn, error) {
	if err := c.conn.SetDeadline(time.Now().Add(orDefault(c.cfg.Deadline))); err != nil {
		_ = c.conn.Close()
		return nil, fmt.Errorf("deadline of handshake: %w", err)
	}
	established, err := c.handshake()
	if err == nil {
		err = c.conn.SetDeadline(time.Time{})
	}
	if err != nil {
		err = c.fail(err)
		_ = c.conn.Close()
		return nil, err
	}
	return established, nil
}

// client is one handshake.
type client struct {
	cfg        ClientConfig
	suites     []suite               // offered
	schemes    []tls.SignatureScheme // offered
	conn       net.Conn
	rec        *records
	hello      *clientHello
	server     *serverHello
	private    []*ephemeral
	session    *session // offered
	suite      suite
	keys       *schedule
	transcript []byte
	asked      []tls.SignatureScheme // by a CertificateRequest, nil: none came
	blind      bool                  // a planted defect took what leaves no common secret
	changed    bool                  // ChangeCipherSpec was sent
	retries    int
	state      State
	peer       certificates
}

func (c *client) on(n defect.Name) bool { return c.cfg.Defects.On(n) }

// fail sends the alert that an error calls for, and returns the error with the alert that was sent.
func (c *client) fail(err error) error {
	var refused *AlertError
	if !errors.As(err, &refused) || !refused.Sent || c.on(defect.TLSClientAlertsDropped) {
		return err
	}
	if c.on(defect.TLSClientWrongAlert) {
		refused = &AlertError{Code: alertHandshakeFailure, Sent: true, Why: refused.Why}
		err = refused
	}
	_ = c.conn.SetWriteDeadline(time.Now().Add(time.Second))
	_ = c.rec.alert(refused.Code) // the server may be gone
	linger(c.conn)
	return err
}

func (c *client) handshake() (*Conn, error) {
	if err := c.sendHello(); err != nil {
		return nil, err
	}
	if err := c.readHello(); err != nil {
		return nil, err
	}
	if c.state.Version == version12 {
		return nil, c.flight12()
	}
	if err := c.agree(); err != nil {
		return nil, err
	}
	return c.finishOrGoBlind()
}

// finishOrGoBlind ends the handshake. After a planted defect that leaves no common secret it does so
// without the server's flight, as if all were well.
func (c *client) finishOrGoBlind() (*Conn, error) {
	if c.blind {
		if err := c.conn.SetReadDeadline(time.Now().Add(blindWait)); err != nil {
			return nil, err
		}
	}
	err := c.readFlight()
	if err == nil {
		return c.sendFlight()
	}
	if !c.goesOn(err) {
		return nil, err
	}
	c.keys.finish(c.transcript)
	established, err := c.sendFlight()
	if err != nil {
		return nil, err
	}
	_, err = established.Write([]byte(blindData))
	return established, err
}

// goesOn reports whether a planted defect makes the client pass over a flight that it can not read.
func (c *client) goesOn(err error) bool {
	var refused *AlertError
	if errors.As(err, &refused) && refused.Sent {
		return c.blind || refused.Code == alertBadRecordMAC && c.on(defect.TLSClientImplicitRejectionIgnored)
	}
	var wait net.Error
	return c.blind && errors.As(err, &wait) && wait.Timeout()
}

// sendHello writes the first hello, in a record of version 0x0301 as RFC 9846 section 5.1 allows.
func (c *client) sendHello() error {
	h := &clientHello{
		random: random(32), session: random(32), schemes: c.schemes, alpn: c.cfg.ALPN, staple: c.cfg.AskStaple,
		versions: []uint16{version13}, modes: []byte{1},
	}
	for _, offered := range c.suites {
		h.suites = append(h.suites, offered.id)
	}
	if net.ParseIP(c.cfg.ServerName) == nil { // addresses are not sent, RFC 6066 section 3
		h.serverName = strings.TrimSuffix(c.cfg.ServerName, ".")
	}
	if c.cfg.TLS12 {
		h.versions = append(h.versions, version12)
		h.suites = slices.Concat(h.suites, suitesECDSA, suitesRSA)
	}
	if c.on(defect.TLSClientPskKeOffered) {
		h.modes = []byte{1, 0}
	}
	c.hello = h
	if err := c.chooseShares(); err != nil {
		return err
	}
	c.offerSession()
	c.write()
	err := c.rec.flush()
	c.rec.version = version12
	if c.on(defect.TLSClientRecordVersionOdd) {
		c.rec.version = version13
	}
	return err
}

// write queues the hello, its binder set, and leaves it out of the transcript until the suite is known.
func (c *client) write() {
	c.hello.marshal()
	if c.session != nil {
		n := len(c.hello.raw) - len(c.hello.binders[0]) - 3 // one binder with its lengths
		binder := newSchedule(c.session.suite, c.session.psk).binder(slices.Concat(c.transcript, c.hello.raw[:n]))
		copy(c.hello.raw[len(c.hello.raw)-len(binder):], binder)
	}
	c.rec.queue(typeHandshake, c.hello.raw)
}

// chooseShares shares the preferred group, and X25519 beside a post-quantum one.
func (c *client) chooseShares() error {
	offered := inPreference(c.cfg.Groups, tls.MLKEM1024)
	if len(offered) == 0 {
		return fmt.Errorf("tls: no usable group among %v", c.cfg.Groups)
	}
	for i, g := range offered {
		c.hello.groups = append(c.hello.groups, g.id)
		if i > 0 && (g.id != tls.X25519 || !offered[0].postQuantum()) {
			continue
		}
		if err := c.share(g); err != nil {
			return err
		}
	}
	return nil
}

// share makes a key of the group and adds its share to the hello.
func (c *client) share(g group) error {
	key, err := g.generate()
	if err != nil {
		return err
	}
	c.private = append(c.private, key)
	c.hello.shares = append(c.hello.shares, share{g.id, c.bendShare(key)})
	return nil
}

func (c *client) bendShare(key *ephemeral) []byte {
	g, curve, kem := key.group, key.parts[0], key.parts[1]
	if g.postQuantum() && c.on(defect.TLSClientShareCoefficient) {
		kem = slices.Clone(kem)
		kem[0], kem[1] = 0x01, kem[1]&0xf0|0x0d // coefficient 0 is 0xd01 = 3,329
	}
	if g.hybrid() && c.on(defect.TLSClientShareSwapped) {
		g.kemFirst = !g.kemFirst
	}
	data := g.join(curve, kem)
	if g.postQuantum() && c.on(defect.TLSClientSharePadded) {
		data = append(data, 0)
	}
	return data
}

func (c *client) offerSession() {
	s, ok := c.cfg.Session.(*session)
	if !ok || s == nil || !s.usable(c.cfg.ServerName, c.cfg.Now) {
		return
	}
	c.session = s
	age := uint32(c.cfg.Now.Sub(s.received)/time.Millisecond) + s.ageAdd
	c.hello.identities = []identity{{s.ticket, age}}
	c.hello.binders = [][]byte{make([]byte, s.suite.hash.Size())}
	c.hello.earlyData = c.on(defect.TLSClientEarlyDataOffered)
}

// readHello reads ServerHello, following HelloRetryRequest.
func (c *client) readHello() error {
	for {
		msg, err := c.rec.message()
		if err != nil {
			return err
		}
		h, err := parseServerHello(msg)
		if err != nil {
			return err
		}
		previous := c.server
		c.server = h
		if h.selected == 0 {
			return c.accept12(h)
		}
		if err := c.checkHello(h, previous); err != nil {
			return err
		}
		if !h.retry() {
			c.transcript = slices.Concat(c.transcript, c.hello.raw, msg)
			return nil
		}
		if err := c.retry(h); err != nil {
			return err
		}
	}
}

// checkHello holds ServerHello and HelloRetryRequest to RFC 9846 sections 4.2.3 and 4.2.4.
func (c *client) checkHello(h, retry *serverHello) error {
	switch {
	case h.selected != version13 || h.version != version12:
		return refuse(alertIllegalParameter, "versions 0x%04x and 0x%04x in ServerHello", h.version, h.selected)
	case !bytes.Equal(h.session, c.hello.session) && !c.on(defect.TLSClientSessionIDUnchecked):
		return refuse(alertIllegalParameter, "legacy_session_id_echo is not what was sent")
	}
	if err := c.checkSuite(h, retry); err != nil {
		return err
	}
	for _, typ := range h.extensions {
		offered := typ == extVersions || typ == extKeyShare ||
			h.retry() && typ == extCookie || !h.retry() && typ == extPSK && c.session != nil
		if !offered {
			return refuse(alertUnsupportedExtension, "extension %d in ServerHello was not offered", typ)
		}
	}
	c.state.Version = version13
	return nil
}

func (c *client) suiteOf(id uint16) (suite, bool) {
	i := slices.IndexFunc(c.suites, func(s suite) bool { return s.id == id })
	if i < 0 {
		return suite{}, false
	}
	return c.suites[i], true
}

func (c *client) checkSuite(h, retry *serverHello) error {
	s, known := c.suiteOf(h.suite)
	changed := retry != nil && retry.suite != h.suite
	if (!known || changed) && !c.on(defect.TLSClientSuiteUnchecked) {
		return refuse(alertIllegalParameter, "cipher suite 0x%04x was not offered or changed after the retry", h.suite)
	}
	switch {
	case !known: // a suite that this package has no cipher for goes under the keys of another
		c.suite, c.blind = suites[0], true
	case changed:
		c.suite, c.blind = s, true
	default:
		c.suite = s
	}
	return nil
}

// retry answers a HelloRetryRequest with the second hello.
func (c *client) retry(h *serverHello) error {
	c.retries++
	again := c.retries > 1
	if again && (c.retries > 2 || !c.on(defect.TLSClientSecondRetryFollowed)) {
		return refuse(alertUnexpectedMessage, "second HelloRetryRequest")
	}
	if !h.hasShare && len(h.cookie) == 0 {
		return refuse(alertIllegalParameter, "HelloRetryRequest changes nothing")
	}
	if again {
		c.blind = true // no transcript is defined for this
		c.transcript = slices.Concat(c.transcript, c.hello.raw, h.raw)
	} else {
		c.transcript = slices.Concat(messageHash(c.suite, c.hello.raw), h.raw)
	}
	c.state.Retry = true
	c.hello.cookie, c.hello.earlyData = h.cookie, false
	if h.hasShare {
		if err := c.reshare(h.group, again); err != nil {
			return err
		}
	}
	if c.session != nil && c.session.suite.id != c.suite.id { // RFC 9846 section 4.2.2
		c.session, c.hello.identities, c.hello.binders = nil, nil, nil
	}
	c.changeCipherSpec()
	c.write()
	return c.rec.flush()
}

// reshare replaces the shares by one of the group that was asked for.
func (c *client) reshare(id tls.CurveID, again bool) error {
	offered := slices.Contains(c.hello.groups, id) && c.hello.shareOf(id) == nil
	if !offered && !again && !c.on(defect.TLSClientRetryGroupUnchecked) {
		return refuse(alertIllegalParameter, "HelloRetryRequest to %v, which was not offered or is shared already", id)
	}
	c.hello.shares, c.private = nil, nil
	if g, known := groupOf(id); known {
		return c.share(g)
	}
	c.hello.shares = []share{{id, random(kyberClientShare)}}
	return nil
}

// changeCipherSpec is sent once before the second flight, RFC 9846 appendix D.4.
func (c *client) changeCipherSpec() {
	if !c.changed {
		c.rec.queue(typeCCS, []byte{1})
		c.changed = true
	}
}

// agree computes the secrets from ServerHello and changes to the handshake keys.
func (c *client) agree() error {
	h := c.server
	c.state.Group = h.group
	var psk []byte
	if h.psk {
		if h.identity != 0 || c.session.suite.id != c.suite.id {
			return refuse(alertIllegalParameter, "identity %d under suite 0x%04x was not offered", h.identity, h.suite)
		}
		psk = c.session.psk
		c.state.Resumed = true
	}
	secret, err := c.secret(h)
	if err != nil {
		return err
	}
	c.keys = newSchedule(c.suite, psk)
	c.keys.share(secret, c.transcript)
	c.changeCipherSpec()
	c.rec.write(newHalf(c.suite, c.keys.clientHandshake))
	return c.rec.read(newHalf(c.suite, c.keys.serverHandshake))
}

// secret computes the shared secret of the server's share.
func (c *client) secret(h *serverHello) ([]byte, error) {
	if !h.hasShare {
		if h.psk && slices.Contains(c.hello.modes, 0) {
			return nil, nil
		}
		return nil, refuse(alertMissingExtension, "ServerHello without key_share")
	}
	i := slices.IndexFunc(c.private, func(e *ephemeral) bool { return e.group.id == h.group })
	if i < 0 {
		if !c.on(defect.TLSClientServerGroupUnchecked) {
			return nil, refuse(alertIllegalParameter, "ServerHello of group %v, for which there is no share", h.group)
		}
		c.blind = true
		return random(32), nil
	}
	secret, err := c.private[i].secret(h.share, false)
	if err == nil {
		return secret, nil
	}
	if secret = c.bendSecret(c.private[i], h.share, err); secret == nil {
		return nil, refuse(alertIllegalParameter, "%v", err)
	}
	c.blind = true
	return secret, nil
}

// bendSecret is what a planted defect makes of a share that can not be used, nil for none.
func (c *client) bendSecret(own *ephemeral, data []byte, err error) []byte {
	g := own.group
	taken := g.postQuantum() && c.on(defect.TLSClientCiphertextLengthUnchecked) ||
		!g.postQuantum() && c.on(defect.TLSClientShareGroupUnchecked)
	switch {
	case errors.Is(err, errZero) && c.on(defect.TLSClientZeroSecretAccepted):
		secret, _ := own.secret(data, true) // nil if something else is wrong with it
		return secret
	case len(data) != g.serverShare() && taken:
		if secret, err := own.secret(fit(data, g.serverShare()), true); err == nil {
			return secret
		}
		return random(64)
	}
	return nil
}

// readFlight reads the server's flight up to Finished.
func (c *client) readFlight() error {
	msg, err := c.rec.message()
	if err != nil {
		return err
	}
	if c.state.ALPN, err = parseEncryptedExtensions(msg, c.hello); err != nil {
		return err
	}
	c.transcript = append(c.transcript, msg...)
	if c.server.psk {
		c.peer = c.session.peer
	} else if err := c.readCertificates(); err != nil {
		return err
	}
	return c.readFinished()
}

func (c *client) readCertificates() error {
	msg, err := c.rec.message()
	if err != nil {
		return err
	}
	if msg[0] == msgCertificateRequest {
		if c.asked, err = parseCertificateRequest(msg); err != nil {
			return err
		}
		c.transcript = append(c.transcript, msg...)
		if msg, err = c.rec.message(); err != nil {
			return err
		}
	}
	if c.peer, err = parseCertificate(msg, c.cfg.AskStaple); err != nil {
		return err
	}
	if err := c.trust(); err != nil {
		return err
	}
	c.transcript = append(c.transcript, msg...)
	return c.readCertificateVerify()
}

func (c *client) trust() error {
	if len(c.peer.chain) == 0 {
		return refuse(alertDecodeError, "Certificate of the server without certificates")
	}
	if c.on(defect.TLSClientChainUnverified) {
		return nil
	}
	return trust(c.peer.chain, c.cfg.Roots, c.cfg.ServerName, x509.ExtKeyUsageServerAuth, c.cfg.Now)
}

func (c *client) readCertificateVerify() error {
	msg, err := c.rec.message()
	if err != nil {
		return err
	}
	scheme, signature, err := parseCertificateVerify(msg)
	if err != nil {
		return err
	}
	if !c.on(defect.TLSClientSignatureUnchecked) {
		content := signed(serverContext, c.suite, c.transcript)
		err := verifyPeer(c.cfg.Defects, c.schemes, c.peer.chain[0].PublicKey, scheme, content, signature)
		if err != nil {
			return err
		}
	}
	c.transcript = append(c.transcript, msg...)
	return nil
}

func (c *client) readFinished() error {
	msg, err := c.rec.message()
	if err != nil {
		return err
	}
	data, err := body(msg, msgFinished, "Finished")
	if err != nil {
		return err
	}
	if !hmac.Equal(data, c.keys.finished(c.keys.serverHandshake, c.transcript)) {
		return refuse(alertDecryptError, "the server's Finished does not verify")
	}
	c.transcript = append(c.transcript, msg...)
	c.keys.finish(c.transcript)
	return c.rec.read(newHalf(c.suite, c.keys.serverApp))
}

// sendFlight sends the client's certificate, if one was asked for, and Finished.
func (c *client) sendFlight() (*Conn, error) {
	if c.asked != nil {
		if err := c.queueCertificate(); err != nil {
			return nil, err
		}
	}
	c.queue(message(msgFinished, addBytes(c.keys.finished(c.keys.clientHandshake, c.transcript))))
	if err := c.rec.flush(); err != nil {
		return nil, err
	}
	c.rec.write(newHalf(c.suite, c.keys.clientApp))
	c.rec.in, c.rec.hand, c.rec.done = newHalf(c.suite, c.keys.serverApp), nil, true
	c.state.Chain, c.state.Staple = c.peer.chain, c.peer.staple
	return &Conn{Conn: c.conn, rec: c.rec, state: c.state, fail: c.fail, keep: c.keep}, nil
}

// queue adds a handshake message to the flight and to the transcript.
func (c *client) queue(msg []byte) {
	c.transcript = append(c.transcript, msg...)
	c.rec.queue(typeHandshake, msg)
}

// queueCertificate answers a CertificateRequest; without a suitable certificate the list is empty.
func (c *client) queueCertificate() error {
	var scheme tls.SignatureScheme
	suits := false
	if c.cfg.Certificate != nil {
		scheme, suits = suitable(c.cfg.Certificate, c.asked)
	}
	if !suits {
		c.queue(marshalCertificate(nil, nil))
		return nil
	}
	c.queue(marshalCertificate(c.cfg.Certificate.Certificate, nil))
	signature, err := sign(c.cfg.Certificate.PrivateKey, scheme, signed(clientContext, c.suite, c.transcript))
	if err != nil {
		return err
	}
	c.queue(marshalCertificateVerify(scheme, signature))
	return nil
}

// keep makes a session of a ticket.
func (c *client) keep(t newTicket) any {
	return &session{
		suite: c.suite, psk: c.keys.resumption(c.transcript, t.nonce), ticket: t.ticket, ageAdd: t.ageAdd,
		received: c.cfg.Now, lifetime: min(time.Duration(t.lifetime)*time.Second, ticketLifetime),
		name: c.cfg.ServerName, peer: c.peer,
	}
}
