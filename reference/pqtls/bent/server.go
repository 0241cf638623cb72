package bent

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/hmac"
	"crypto/mldsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/assay-bench/assay/reference/defect"
)

// Serve does the handshake of a server on conn, then sends back what it receives until the client
// closes. It closes conn. The error is an *AlertError when either side refused the other.
func Serve(conn net.Conn, cfg ServerConfig) error {
	return newServer(conn, cfg).serve()
}

func (s *server) serve() error {
	defer func() { _ = s.conn.Close() }()
	if err := s.conn.SetDeadline(time.Now().Add(orDefault(s.cfg.Deadline))); err != nil {
		return fmt.Errorf("deadline of handshake: %w", err)
	}
	established, err := s.handshake()
	if err != nil {
		return s.fail(err)
	}
	if s.cfg.Established != nil {
		s.cfg.Established(established.State())
	}
	defer func() { _ = established.Close() }()
	return established.echo()
}

// server is one handshake.
type server struct {
	cfg        ServerConfig
	suites     []suite // taken, in order of preference
	conn       net.Conn
	rec        *records
	hello      *clientHello
	suite      suite
	keys       *schedule
	transcript []byte
	psk        *ticketState
	pskAt      int // index of the chosen identity
	state      State
}

func newServer(conn net.Conn, cfg ServerConfig) *server {
	s := &server{cfg: cfg, suites: suites, conn: conn, rec: newRecords(conn, version12)}
	s.state.Version = version13
	if s.on(defect.TLSRecordVersionOdd) {
		s.rec.version = version13
	}
	if s.on(defect.TLSEmptyRecordHangs) {
		s.rec.onEmpty = errHang
	}
	return s
}

func (s *server) on(n defect.Name) bool { return s.cfg.Defects.On(n) }

// fail ends the connection as the error asks for and returns it.
func (s *server) fail(err error) error {
	var refused *AlertError
	switch {
	case errors.Is(err, errHang):
		s.hang()
	case errors.As(err, &refused) && refused.Sent:
		_ = s.rec.alert(refused.Code) // the client may be gone
		linger(s.conn)
	}
	return err
}

// hang leaves the connection open without a word until the client goes or the limit is reached.
func (s *server) hang() {
	if s.conn.SetDeadline(time.Now().Add(hangLimit)) == nil {
		_, _ = io.Copy(io.Discard, s.conn)
	}
}

func (s *server) handshake() (*Conn, error) {
	if err := s.readHello(); err != nil {
		return nil, err
	}
	switch {
	case s.hello.offers(version13):
		return s.handshake13()
	case s.cfg.TLS12 && s.hello.offers(version12):
		return nil, s.flight12()
	}
	return nil, refuse(alertProtocolVersion, "no common version")
}

// readHello reads the first or second ClientHello.
func (s *server) readHello() error {
	first := s.hello == nil
	msg, err := s.rec.message()
	if err != nil {
		return err
	}
	switch {
	case first && s.on(defect.TLSRecordVersionStrict) && s.rec.seen == 0x0301:
		return refuse(alertProtocolVersion, "record of version 0x0301")
	case s.on(defect.TLSFragmentsRefused) && s.rec.pieces > 1:
		return refuse(alertDecodeError, "hello in %d records", s.rec.pieces)
	case s.on(defect.TLSLongHelloRefused) && len(msg) > 4096:
		return refuse(alertDecodeError, "hello of %d bytes", len(msg))
	}
	s.hello, err = parseClientHello(msg, s.lax())
	return err
}

func (s *server) lax() lax {
	l := lax{
		trailing:  s.on(defect.TLSTrailingDataIgnored),
		duplicate: s.on(defect.TLSDuplicateExtensionIgnored),
	}
	if s.on(defect.TLSEmptyShareWrongAlert) {
		l.emptyShare = alertIllegalParameter
	}
	return l
}

func (s *server) handshake13() (*Conn, error) {
	if err := s.checkHello(); err != nil {
		return nil, err
	}
	if err := s.chooseSuite(); err != nil {
		return nil, err
	}
	id, err := s.chooseGroup()
	if err != nil {
		return nil, err
	}
	s.state.Group = id
	if s.hello.shareOf(id) == nil && !s.answersUnshared(id) {
		if err := s.retry(id); err != nil {
			return nil, err
		}
	}
	alpn, err := s.chooseProtocol()
	if err != nil {
		return nil, err
	}
	s.state.ALPN = alpn
	if err := s.chooseTicket(id); err != nil {
		return nil, err
	}
	if err := s.sendFlight(id); err != nil {
		return nil, err
	}
	return s.readFlight()
}

// checkHello holds the hello to RFC 9846 section 9.2.
func (s *server) checkHello() error {
	h := s.hello
	if h.groups == nil && h.shares != nil && s.on(defect.TLSNoGroupsAccepted) {
		for _, sh := range h.shares {
			h.groups = append(h.groups, sh.group)
		}
	}
	if h.shares == nil && h.groups != nil && s.on(defect.TLSNoKeyShareRetried) {
		h.shares = []share{}
	}
	if h.schemes == nil && s.on(defect.TLSNoSigalgsAccepted) {
		h.schemes = handshakeSchemes
	}
	switch {
	case h.groups == nil:
		return refuse(alertMissingExtension, "no supported_groups")
	case h.shares == nil:
		return refuse(alertMissingExtension, "no key_share")
	case h.schemes == nil && h.identities == nil:
		return refuse(alertMissingExtension, "no signature_algorithms")
	case h.identities != nil && h.modes == nil:
		return refuse(alertMissingExtension, "pre_shared_key without psk_key_exchange_modes")
	}
	return s.bendShares()
}

// bendShares is where planted defects look at the lists of groups and shares.
func (s *server) bendShares() error {
	h := s.hello
	switch {
	case len(h.shares) == 0 && s.on(defect.TLSEmptySharesFatal):
		return refuse(alertIllegalParameter, "empty list of shares")
	case s.on(defect.TLSShareListHangs) && !orderly(h.groups, h.shares):
		return errHang
	case s.on(defect.TLSUnknownGroupFatal) && slices.ContainsFunc(h.groups, unregistered):
		return refuse(alertIllegalParameter, "unknown group in supported_groups")
	case s.on(defect.TLSSharedEcdhHangs) && sharesKey(h):
		return errHang
	}
	return nil
}

// orderly reports whether shares are listed, in the order of the groups and without repetition.
func orderly(groups []tls.CurveID, shares []share) bool {
	last := -1
	for _, sh := range shares {
		at := slices.Index(groups, sh.group)
		if at <= last {
			return false
		}
		last = at
	}
	return true
}

// unregistered reports whether the registry of TLS groups has no such group in use.
func unregistered(id tls.CurveID) bool {
	switch {
	case id >= 0x0001 && id <= 0x0029, id >= 0x0100 && id <= 0x0104, id >= 0x0200 && id <= 0x0202, id >= 0x11EB && id <= 0x11EE:
		return false
	}
	return true
}

// sharesKey reports whether the hybrid and the classical share hold the same X25519 key.
func sharesKey(h *clientHello) bool {
	hybrid, classical := h.shareOf(tls.X25519MLKEM768), h.shareOf(tls.X25519)
	return classical != nil && bytes.HasSuffix(hybrid, classical)
}

func (s *server) chooseSuite() error {
	for _, c := range s.suites {
		if slices.Contains(s.hello.suites, c.id) {
			s.suite = c
			return nil
		}
	}
	return refuse(alertHandshakeFailure, "no common cipher suite")
}

// chooseGroup prefers post-quantum groups, then shared ones, then its own order.
func (s *server) chooseGroup() (tls.CurveID, error) {
	if s.on(defect.TLSKyberDraftSelected) && slices.Contains(s.hello.groups, groupKyberDraft) {
		return groupKyberDraft, nil
	}
	var common []group
	for _, g := range inPreference(s.cfg.Groups) {
		if slices.Contains(s.hello.groups, g.id) {
			common = append(common, g)
		}
	}
	if len(common) == 0 {
		if s.on(defect.TLSFallbackUnoffered) {
			return tls.X25519, nil
		}
		return 0, refuse(alertHandshakeFailure, "no common group")
	}
	slices.SortStableFunc(common, func(a, b group) int { return s.rank(b) - s.rank(a) })
	return common[0].id, nil
}

func (s *server) rank(g group) int {
	rank := 0
	if g.postQuantum() && !s.on(defect.TLSClassicalPreferred) {
		rank += 2
	}
	if s.hello.shareOf(g.id) != nil {
		rank++
	}
	return rank
}

// answersUnshared reports whether a group is answered though the client shared nothing for it.
func (s *server) answersUnshared(id tls.CurveID) bool {
	return s.on(defect.TLSFallbackUnoffered) && !slices.Contains(s.hello.groups, id)
}

// retry asks for a share of the group and reads the second hello.
func (s *server) retry(id tls.CurveID) error {
	first := s.hello
	s.state.Retry = true
	ask := &serverHello{
		random: retryRandom[:], session: first.session, suite: s.suite.id, hasShare: true, group: id,
	}
	msg := ask.marshal13()
	s.transcript = slices.Concat(messageHash(s.suite, first.raw), msg)
	s.rec.queue(typeHandshake, msg)
	s.changeCipherSpec(first)
	if err := s.rec.flush(); err != nil {
		return err
	}
	if first.earlyData {
		s.rec.skip = maxCipher
	}
	if err := s.readHello(); err != nil {
		return err
	}
	return s.checkSecond(first, id)
}

// checkSecond holds the second hello to RFC 9846 section 4.2.2: one share, of the group asked for.
func (s *server) checkSecond(first *clientHello, id tls.CurveID) error {
	h := s.hello
	if !h.offers(version13) || !bytes.Equal(first.random, h.random) ||
		!bytes.Equal(first.session, h.session) || !slices.Equal(first.suites, h.suites) {
		return refuse(alertIllegalParameter, "second hello differs from the first")
	}
	if s.on(defect.TLSSecondShareUnchecked) {
		return nil
	}
	if len(h.shares) != 1 || h.shares[0].group != id {
		return refuse(alertIllegalParameter, "second hello does not have exactly one share of %v", id)
	}
	return nil
}

// changeCipherSpec goes with a client that asks for the compatibility mode, RFC 9846 appendix D.4.
func (s *server) changeCipherSpec(h *clientHello) {
	if len(h.session) > 0 {
		s.rec.queue(typeCCS, []byte{1})
	}
}

func (s *server) chooseProtocol() (string, error) {
	if len(s.hello.alpn) == 0 || len(s.cfg.ALPN) == 0 {
		return "", nil
	}
	for _, name := range s.cfg.ALPN {
		if slices.Contains(s.hello.alpn, name) {
			return name, nil
		}
	}
	return "", refuse(alertNoApplication, "no common protocol among %q", s.hello.alpn)
}

// chooseTicket looks for a ticket of the class of the group. One that does not fit is no error.
func (s *server) chooseTicket(id tls.CurveID) error {
	g, _ := groupOf(id)
	if !s.cfg.Tickets || !slices.Contains(s.hello.modes, 1) {
		return nil
	}
	for i, offered := range s.hello.identities {
		if i == 5 { // as many as are worth the trouble
			break
		}
		t, ok := openTicket(offered.ticket, s.cfg.place(), time.Now())
		if !ok || t.suite != s.suite.id || t.pq != g.postQuantum() {
			continue
		}
		want := newSchedule(s.suite, t.psk).binder(slices.Concat(s.transcript, s.hello.unbound()))
		if !hmac.Equal(want, s.hello.binders[i]) {
			return refuse(alertDecryptError, "binder of ticket %d does not verify", i)
		}
		s.psk, s.pskAt = &t, i
		return nil
	}
	return nil
}

// sendFlight sends all from ServerHello to Finished.
func (s *server) sendFlight(id tls.CurveID) error {
	cert, scheme, err := s.chooseCertificate()
	if err != nil {
		return err
	}
	serverShare, secret, err := s.exchange(id)
	if err != nil {
		return err
	}
	hello := &serverHello{
		random: random(32), session: s.hello.session, suite: s.suite.id,
		hasShare: true, group: id, share: serverShare,
	}
	var psk []byte
	if s.psk != nil {
		hello.psk, hello.identity, psk = true, uint16(s.pskAt), s.psk.psk
		s.state.Resumed = true
		if s.on(defect.TLSPskWithoutDhe) {
			hello.hasShare, secret = false, nil
		}
	}
	s.transcript = append(s.transcript, s.hello.raw...)
	s.queue(hello.marshal13())
	if !s.state.Retry {
		s.changeCipherSpec(s.hello)
	}
	s.keys = newSchedule(s.suite, psk)
	s.keys.share(secret, s.transcript)
	s.rec.write(newHalf(s.suite, s.keys.serverHandshake))
	if s.on(defect.TLSPaddedFlight) {
		s.rec.pad = 64
	}
	s.queue(marshalEncryptedExtensions(s.state.ALPN))
	if s.psk == nil {
		if err := s.authenticate(cert, scheme); err != nil {
			return err
		}
	}
	return s.finish(id)
}

// queue adds a handshake message to the flight and to the transcript.
func (s *server) queue(msg []byte) {
	s.transcript = append(s.transcript, msg...)
	s.rec.queue(typeHandshake, msg)
}

// chooseCertificate takes the first certificate that the client can verify; none for a resumption.
func (s *server) chooseCertificate() (*tls.Certificate, tls.SignatureScheme, error) {
	if s.psk != nil {
		return nil, 0, nil
	}
	if s.hello.schemes == nil {
		return nil, 0, refuse(alertMissingExtension, "no signature_algorithms and no usable ticket")
	}
	for i := range s.cfg.Certificates {
		cert := &s.cfg.Certificates[i]
		taken := s.hello.schemes
		if s.on(defect.TLSCertificateAlwaysMldsa) && isMLDSA(cert) {
			taken = handshakeSchemes
		}
		if scheme, ok := suitable(cert, taken); ok {
			return cert, scheme, nil
		}
	}
	if s.on(defect.TLSNoCertificateHangs) {
		return nil, 0, errHang
	}
	return nil, 0, refuse(alertHandshakeFailure, "no certificate suits the client")
}

func isMLDSA(cert *tls.Certificate) bool {
	signer, ok := cert.PrivateKey.(crypto.Signer)
	if ok {
		_, ok = signer.Public().(*mldsa.PublicKey)
	}
	return ok
}

func (s *server) authenticate(cert *tls.Certificate, scheme tls.SignatureScheme) error {
	if s.cfg.RequireClientCert {
		s.queue(marshalCertificateRequest())
	}
	var staple []byte
	if s.cfg.Staple != nil && (s.hello.staple || s.on(defect.TLSStapleUnasked)) {
		staple = s.cfg.Staple()
	}
	s.state.Staple = staple
	s.queue(marshalCertificate(cert.Certificate, staple))
	signature, err := sign(cert.PrivateKey, scheme, signed(serverContext, s.suite, s.transcript))
	if err != nil {
		return err
	}
	s.queue(marshalCertificateVerify(scheme, signature))
	return nil
}

// finish ends the server's flight and sends it.
func (s *server) finish(id tls.CurveID) error {
	data := s.keys.finished(s.keys.serverHandshake, s.transcript)
	if g, _ := groupOf(id); g.hybrid() && s.on(defect.TLSHybridFlightCorrupt) {
		data[0] ^= 1
	}
	s.queue(message(msgFinished, addBytes(data)))
	s.keys.finish(s.transcript)
	if err := s.rec.flush(); err != nil {
		return err
	}
	s.rec.pad = 0
	s.rec.write(newHalf(s.suite, s.keys.serverApp))
	if s.hello.earlyData {
		s.rec.skip = maxCipher
	}
	return s.rec.read(newHalf(s.suite, s.keys.clientHandshake))
}

// readFlight reads the client's answer and sends a ticket.
func (s *server) readFlight() (*Conn, error) {
	if s.cfg.RequireClientCert && s.psk == nil {
		if err := s.readCertificate(); err != nil {
			return nil, err
		}
	}
	msg, err := s.rec.message()
	if err != nil {
		return nil, err
	}
	data, err := body(msg, msgFinished, "Finished")
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(data, s.keys.finished(s.keys.clientHandshake, s.transcript)) {
		return nil, refuse(alertDecryptError, "the client's Finished does not verify")
	}
	s.transcript = append(s.transcript, msg...)
	if err := s.rec.read(newHalf(s.suite, s.keys.clientApp)); err != nil {
		return nil, err
	}
	s.rec.done, s.rec.skip = true, 0
	if err := s.sendTicket(); err != nil {
		return nil, err
	}
	return &Conn{Conn: s.conn, rec: s.rec, state: s.state, fail: s.fail}, nil
}

func (s *server) readCertificate() error {
	msg, err := s.rec.message()
	if err != nil {
		return err
	}
	got, err := parseCertificate(msg, false)
	if err != nil {
		return err
	}
	if len(got.chain) == 0 {
		return refuse(alertCertificateRequired, "the client has no certificate")
	}
	if !s.on(defect.TLSMutualCertUnverified) {
		err := trust(got.chain, s.cfg.ClientRoots, "", x509.ExtKeyUsageClientAuth, time.Now())
		if err != nil {
			return err
		}
	}
	s.state.Chain = got.chain
	s.transcript = append(s.transcript, msg...)
	return s.readCertificateVerify(got.chain[0])
}

func (s *server) readCertificateVerify(leaf *x509.Certificate) error {
	msg, err := s.rec.message()
	if err != nil {
		return err
	}
	scheme, signature, err := parseCertificateVerify(msg)
	if err != nil {
		return err
	}
	if !s.on(defect.TLSMutualSignatureUnchecked) {
		content := signed(clientContext, s.suite, s.transcript)
		if err := verifyPeer(defect.Set{}, offeredSchemes, leaf.PublicKey, scheme, content, signature); err != nil {
			return err
		}
	}
	s.transcript = append(s.transcript, msg...)
	return nil
}

// sendTicket sends one ticket to a client that can use it.
func (s *server) sendTicket() error {
	g, known := groupOf(s.state.Group)
	if !s.cfg.Tickets || !known || !slices.Contains(s.hello.modes, 1) {
		return nil
	}
	nonce := []byte{0}
	state := ticketState{
		suite: s.suite.id, pq: g.postQuantum(), issued: time.Now(),
		psk: s.keys.resumption(s.transcript, nonce),
	}
	add := random(4)
	return s.rec.send(typeHandshake, newTicket{
		lifetime: uint32(ticketLifetime / time.Second),
		ageAdd:   uint32(add[0])<<24 | uint32(add[1])<<16 | uint32(add[2])<<8 | uint32(add[3]),
		nonce:    nonce, ticket: state.seal(s.cfg.place()),
	}.marshal())
}

// exchange answers the client's share of a group.
func (s *server) exchange(id tls.CurveID) (serverShare, secret []byte, err error) {
	g, known := groupOf(id)
	if !known { // only the Kyber draft can be selected so, and nobody has its secret
		return random(kyberServerShare), random(64), nil
	}
	clientShare := s.hello.shareOf(id)
	switch {
	case clientShare == nil: // nothing was shared: only planted defects come here
		return s.answer(g, nil)
	case len(clientShare) != g.clientShare():
		if !s.takesLength(g) {
			return nil, nil, s.malformedShare(g, fmt.Errorf("share has %d bytes, not %d", len(clientShare), g.clientShare()))
		}
		clientShare = fit(clientShare, g.clientShare())
		if serverShare, secret, err = s.answer(g, clientShare); err == nil {
			return serverShare, secret, nil
		}
		return s.answer(g, nil)
	}
	serverShare, secret, err = s.answer(g, clientShare)
	if err != nil {
		return nil, nil, s.malformedShare(g, err)
	}
	return serverShare, secret, nil
}

func (s *server) takesLength(g group) bool {
	return g.postQuantum() && s.on(defect.TLSShareLengthUnchecked) ||
		!g.postQuantum() && s.on(defect.TLSClassicalShareLengthUnchecked)
}

// malformedShare is the answer to a share that can not be used.
func (s *server) malformedShare(g group, why error) error {
	code := uint8(alertIllegalParameter)
	if g.postQuantum() {
		switch {
		case s.on(defect.TLSShareHangs):
			return errHang
		case s.on(defect.TLSShareCloses):
			return errSilent
		case s.on(defect.TLSShareWrongAlert):
			code = alertDecodeError
		}
	}
	return refuse(code, "share of %v: %v", g.id, why)
}

// answer computes share and secret. Without a client share both are fresh: nobody has the secret.
func (s *server) answer(g group, clientShare []byte) (serverShare, secret []byte, err error) {
	var curve, kem answered
	var curveShare, key []byte
	if clientShare != nil {
		curveShare, key = g.split(clientShare)
	}
	if g.curve != nil {
		if curve, err = s.answerCurve(g, curveShare); err != nil {
			return nil, nil, err
		}
	}
	if g.kem != nil {
		if kem, err = s.answerKEM(g, key); err != nil {
			return nil, nil, err
		}
	}
	if !g.hybrid() {
		return g.join(curve.share, kem.share), g.join(curve.secret, kem.secret), nil
	}
	serverShare, secret = s.bendHybrid(g, curve, kem)
	return serverShare, secret, nil
}

// answered is one part of a hybrid's answer.
type answered struct{ share, secret []byte }

func (s *server) bendHybrid(g group, curve, kem answered) (serverShare, secret []byte) {
	serverShare, secret = g.join(curve.share, kem.share), g.join(curve.secret, kem.secret)
	swapped := g
	swapped.kemFirst = !g.kemFirst
	switch {
	case s.on(defect.TLSServerShareSwapped):
		serverShare = swapped.join(curve.share, kem.share)
	case s.on(defect.TLSServerSharePadded):
		serverShare = append(serverShare, 0)
	}
	switch {
	case s.on(defect.TLSSecretSwapped):
		secret = swapped.join(curve.secret, kem.secret)
	case s.on(defect.TLSSecretKemOnly):
		secret = kem.secret
	}
	return serverShare, secret
}

func (s *server) answerCurve(g group, clientShare []byte) (answered, error) {
	own, err := g.curve.GenerateKey(rand.Reader)
	if err != nil {
		return answered{}, refuse(alertInternalError, "key of %v: %v", g.id, err)
	}
	size := map[ecdh.Curve]int{ecdh.P384(): 48}[g.curve]
	size = max(size, 32)
	out := answered{share: own.PublicKey().Bytes()}
	if clientShare == nil {
		out.secret = random(size)
		return out, nil
	}
	out.secret, err = agree(own, clientShare)
	switch {
	case errors.Is(err, errZero) && s.on(defect.TLSZeroSecretAccepted):
		out.secret, err = make([]byte, size), nil
	case errors.Is(err, errPoint) && g.hybrid() && s.on(defect.TLSPointUnchecked):
		out.secret, err = random(size), nil
	}
	return out, err
}

func (s *server) answerKEM(g group, key []byte) (answered, error) {
	if key == nil {
		return answered{random(g.kem.ciphertext), random(32)}, nil
	}
	secret, ciphertext, err := g.kem.encapsulate(key)
	if err != nil && s.on(defect.TLSKemKeyUnchecked) {
		secret, ciphertext, err = g.kem.encapsulate(reduced(key))
	}
	return answered{ciphertext, secret}, err
}
