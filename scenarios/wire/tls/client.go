package tls

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"slices"
	"time"
)

// clientRun is one connection of a Client.
type clientRun struct {
	c     Client
	l     *link
	out   Outcome
	now   time.Time
	began time.Time
	keys  keyring

	hello  Hello // as last written
	binder []byte
	script transcript

	server    serverHello
	share     KeyShare
	algo      algorithms
	sched     *schedule
	psk       []byte
	clientHS  []byte // handshake traffic secrets
	serverHS  []byte
	request   []byte // context of a CertificateRequest
	requested bool
	serverApp []byte // application traffic secrets
	clientApp []byte
	master    []byte // resumption master secret; nil until both Finished are known
	evidence  bool   // something came that a server sends after the handshake
}

// Run makes one connection over conn and closes it. It returns when the exchange asked for is made, the
// peer ends it, a wait is over, or ctx ends, whichever is first; each wait is bounded by c.Wait.
//
// Ending EOF with an Alert is a close_notify before the exchange was complete. A bent hello is followed
// as far as there are keys: where the server takes a share that was changed, the ending is Answered.
func (c Client) Run(ctx context.Context, conn net.Conn) Outcome {
	l, release := newLink(ctx, conn, c.Wait)
	defer release()
	defer func() { _ = conn.Close() }()
	r := newClientRun(c, l)
	return r.finish(r.run())
}

func newClientRun(c Client, l *link) *clientRun {
	r := &clientRun{c: c, l: l, now: c.Now, began: time.Now()}
	if r.now.IsZero() {
		r.now = r.began
	}
	r.keys = keyring{from: seeded(c.Seed), same: c.Offer.SameECDH, pairs: map[Group]keyPair{}}
	return r
}

// finish puts the outcome together and tells the peer why this end stops.
func (r *clientRun) finish(err error) Outcome {
	r.out.Ending = Completed
	if err != nil {
		s := stopOf(err)
		r.out.Ending, r.out.Alert, r.out.Detail = s.ending, s.alert, s.detail
	}
	if r.out.Alert == nil {
		r.out.Alert = r.l.warned
	}
	r.l.farewell(r.out.Ending)
	r.out.Records, r.out.Up, r.out.Down, r.out.Flights = r.l.versions, r.l.up, r.l.down, r.l.turns
	if r.out.Took == 0 {
		r.out.Took = time.Since(r.began)
	}
	return r.out
}

// farewell tells the peer why this end stops, where the peer is still there.
func (l *link) farewell(e Ending) {
	switch e {
	case Garbled:
		l.sendAlert(decodeError)
	case Unreadable:
		l.sendAlert(badRecordMAC)
	case WrongFinished:
		l.sendAlert(decryptError)
	case Answered, Retried:
		l.sendAlert(userCanceled)
		l.sendAlert(closeNotify)
	}
}

func (r *clientRun) run() error {
	if err := r.sendFirst(); err != nil {
		return err
	}
	if err := r.awaitHello(); err != nil {
		return err
	}
	if r.out.Server.Version != version13 {
		return r.legacy()
	}
	if err := r.agree(); err != nil {
		return err
	}
	if err := r.readFlight(); err != nil {
		return err
	}
	if err := r.sendFlight(); err != nil {
		return err
	}
	return r.application()
}

func (r *clientRun) sendFirst() error {
	r.out.Stage = "hello"
	hello, err := r.c.Offer.hello(&r.keys, r.now)
	if err != nil {
		return err
	}
	if r.c.Bend != nil {
		r.c.Bend(&hello)
	}
	if s := r.c.Offer.Session; s != nil {
		r.binder = s.bind(&hello, nil, nil)
	}
	r.hello = hello
	raw := hello.Marshal()
	r.script.add(raw)
	r.c.Deliver.write(r.l, raw)
	return nil
}

// write sends the first hello the way that is asked for.
func (d Delivery) write(l *link, raw []byte) {
	out := d.records(raw)
	if d.Segments <= 0 {
		l.write(out)
		return
	}
	for len(out) > 0 {
		n := min(d.Segments, len(out))
		l.write(out[:n])
		if out = out[n:]; len(out) > 0 && !pause(l.ctx, d.Pause) {
			return
		}
	}
}

// pause waits for d; false: the context ended first.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (d Delivery) records(raw []byte) []byte {
	version := d.RecordVersion
	if version == 0 {
		version = 0x0301
	}
	var out []byte
	if d.EmptyFirst {
		out = plainRecord(recordHandshake, version, nil)
	}
	for _, n := range d.Records {
		n = max(0, min(n, len(raw)))
		out = append(out, plainRecord(recordHandshake, version, raw[:n])...)
		raw = raw[n:]
	}
	for len(raw) > 0 {
		n := min(len(raw), maxPlain)
		out = append(out, plainRecord(recordHandshake, version, raw[:n])...)
		raw = raw[n:]
	}
	return out
}

// awaitHello reads up to the ServerHello, over a HelloRetryRequest where one comes.
func (r *clientRun) awaitHello() error {
	hello, raw, err := r.nextHello()
	if err != nil {
		return err
	}
	if hello.retry() {
		if err := r.retry(hello, raw); err != nil {
			return err
		}
		if hello, raw, err = r.nextHello(); err != nil {
			return err
		}
		if hello.retry() {
			return &stop{ending: Retried, detail: "a second HelloRetryRequest"}
		}
	}
	r.script.add(raw)
	r.server = hello
	r.out.Stage = "server-hello"
	return r.seeServer()
}

func (r *clientRun) nextHello() (serverHello, []byte, error) {
	r.l.arm(r.l.wait)
	e, err := r.l.next()
	if err != nil {
		return serverHello{}, nil, err
	}
	if e.kind != recordHandshake || e.data[0] != msgServerHello {
		return serverHello{}, nil, garbled("handshake message of type %d in place of a ServerHello", e.data[0])
	}
	h, err := parseServerHello(e.data)
	return h, e.data, err
}

// seeServer notes what the ServerHello holds.
func (r *clientRun) seeServer() error {
	h := r.server
	share, ok, err := h.share()
	seen := &ServerSeen{Version: h.version(), Suite: h.suite, Sentinel: h.sentinel(), Extensions: []uint16{}}
	seen.SessionID = bytes.Equal(h.sessionID, r.hello.SessionID)
	_, seen.PSK = h.find(extPSK)
	for _, e := range h.extensions {
		seen.Extensions = append(seen.Extensions, e.Type)
	}
	r.share, seen.Group, seen.Share = share, share.Group, len(share.Data)
	r.out.Server = seen
	switch {
	case err != nil:
		return err
	case r.c.StopAtHello:
		return &stop{ending: Answered}
	case seen.Version == version13 && !ok:
		return &stop{ending: Answered, detail: "the ServerHello has no key_share"}
	}
	return nil
}

// retry notes a HelloRetryRequest and writes the second hello.
func (r *clientRun) retry(h serverHello, raw []byte) error {
	cookie, _ := h.find(extCookie)
	r.out.Stage = "retry"
	r.out.Retry = &RetrySeen{Group: h.group(), Suite: h.suite, Cookie: max(0, len(cookie)-2),
		SessionID: bytes.Equal(h.sessionID, r.hello.SessionID)}
	if r.c.StopAtHello || r.c.StopAtRetry {
		return &stop{ending: Retried}
	}
	if err := r.l.settled(); err != nil {
		return err
	}
	a, ok := algorithmsOf(h.suite)
	if !ok {
		return &stop{ending: Retried, detail: fmt.Sprintf("suite %v is not spoken", h.suite)}
	}
	r.script.retry(a)
	r.script.add(raw)
	second, err := r.second(h, a)
	if err != nil {
		return err
	}
	if r.c.Second != nil {
		r.c.Second(&second)
	}
	if s := r.c.Offer.Session; s != nil && r.binder != nil {
		r.binder = s.bind(&second, r.script.b, r.binder)
	}
	r.hello = second
	out := second.Marshal()
	r.script.add(out)
	r.l.write(append(r.compatibility(), r.l.frame(recordHandshake, out)...))
	return nil
}

// second makes the hello that follows a HelloRetryRequest, RFC 9846 section 4.2.2: as the first, with the
// share asked for, the cookie, and no early data.
func (r *clientRun) second(h serverHello, a algorithms) (Hello, error) {
	next, err := ParseHello(r.hello.Marshal())
	if err != nil {
		next = r.hello // so bent that it cannot be read: its fields still serve
	}
	if g := h.group(); g != 0 {
		data, err := r.keys.share(g)
		if err != nil {
			return Hello{}, err
		}
		next.SetShares([]KeyShare{{g, data}}) // in its place: a server may compare both hellos
	}
	if cookie, ok := h.find(extCookie); ok {
		next.Set(extCookie, cookie)
	}
	next.Remove(extEarlyData)
	if s := r.c.Offer.Session; s != nil {
		if b, ok := algorithmsOf(s.Suite); ok && b.size != a.size {
			next.Remove(extPSK)
		}
	}
	return next, nil
}

// compatibility is the dummy change_cipher_spec, once a connection, where the hello has a session id.
func (r *clientRun) compatibility() []byte {
	if len(r.hello.SessionID) == 0 {
		return nil
	}
	return r.l.changeCipherSpec()
}

// pair finds the private keys for the share that the server answered. false: the share that went out is
// not one of ours.
func (r *clientRun) pair() (keyPair, bool) {
	shares, err := r.hello.Shares()
	if err != nil {
		return keyPair{}, false
	}
	for _, s := range shares {
		if s.Group == r.share.Group {
			pair, ok := r.keys.pairs[s.Group]
			return pair, ok && bytes.Equal(pair.share, s.Data)
		}
	}
	return keyPair{}, false
}

// agree computes the handshake secrets.
func (r *clientRun) agree() error {
	if err := r.l.settled(); err != nil {
		return err
	}
	a, ok := algorithmsOf(r.server.suite)
	if !ok {
		return &stop{ending: Answered, detail: fmt.Sprintf("suite %v is not spoken", r.server.suite)}
	}
	r.algo = a
	pair, ok := r.pair()
	if !ok {
		return &stop{ending: Answered, detail: fmt.Sprintf("no key for a share of %v as it was sent", r.share.Group)}
	}
	parts, err := pair.agree(r.share.Data)
	if err != nil {
		return garbled("%v", err)
	}
	if err := r.resumed(); err != nil {
		return err
	}
	r.sched = r.handshakeSchedule(combine(pair.group, parts))
	r.clientHS = r.sched.derive("c hs traffic", r.script.b)
	r.serverHS = r.sched.derive("s hs traffic", r.script.b)
	r.log(logClientHandshake, r.clientHS)
	r.log(logServerHandshake, r.serverHS)
	if r.l.in, err = newHalf(a, r.serverHS); err != nil {
		return err
	}
	return r.others(pair, parts)
}

func (r *clientRun) resumed() error {
	s := r.c.Offer.Session
	if !r.out.Server.PSK {
		return nil
	}
	if s == nil {
		return &stop{ending: Answered, detail: "the server takes a PSK that was not offered"}
	}
	if b, ok := algorithmsOf(s.Suite); !ok || b.size != r.algo.size {
		return &stop{ending: Answered, detail: "the server takes a PSK under another hash"}
	}
	r.psk, r.out.Resumed = s.Secret, true
	return nil
}

func (r *clientRun) handshakeSchedule(shared []byte) *schedule {
	s := newSchedule(r.algo, r.psk)
	s.next(shared)
	return s
}

func (r *clientRun) log(label string, secret []byte) {
	r.out.KeyLog = append(r.out.KeyLog, keyLogLine(label, r.hello.Random, secret))
}

// others tries the first protected record of a hybrid under the secrets that a wrong implementation would
// use: parts swapped, one part alone, or the server's share with its parts swapped.
func (r *clientRun) others(pair keyPair, parts secrets) error {
	s, _ := shapeOf(pair.group)
	if s.curve == nil || s.kem == 0 {
		return nil
	}
	first, err := r.firstProtected()
	if err != nil || first == nil {
		return err
	}
	other := s
	other.kemFirst = !s.kemFirst
	wrong := map[string][]byte{
		"swapped":   other.join(parts.ecdh, parts.kem),
		"kem-only":  parts.kem,
		"ecdh-only": parts.ecdh,
	}
	if parts, err := pair.agreeSwapped(r.share.Data); err == nil {
		wrong["share-swapped"] = combine(pair.group, parts)
	}
	r.out.Others = map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(wrong)) {
		secret := r.handshakeSchedule(wrong[name]).derive("s hs traffic", r.script.b)
		h, err := newHalf(r.algo, secret)
		if err != nil {
			return err
		}
		_, _, _, err = h.open(*first)
		r.out.Others[name] = err != errUndecryptable
	}
	return nil
}

// firstProtected looks at the first protected record and leaves it to be read again. nil: another record
// comes first that next will judge.
func (r *clientRun) firstProtected() (*record, error) {
	r.l.arm(r.l.wait)
	for {
		rec, err := r.l.record()
		if err != nil {
			return nil, err
		}
		if rec.kind() == recordChange && bytes.Equal(rec.payload, []byte{1}) {
			continue
		}
		r.l.held = &rec
		if rec.kind() != recordApplication {
			return nil, nil
		}
		return &rec, nil
	}
}

// sendFlight writes the client's part of the handshake and changes to the application keys.
func (r *clientRun) sendFlight() error {
	if err := r.applicationSecrets(); err != nil {
		return err
	}
	var out []byte
	if r.out.Retry == nil {
		out = r.compatibility()
	}
	var err error
	if r.l.out, err = newHalf(r.algo, r.clientHS); err != nil {
		return err
	}
	messages, err := r.authenticate()
	if err != nil {
		return err
	}
	finished := message(msgFinished, r.algo.finished(r.clientHS, r.script.b))
	r.script.add(finished)
	for _, m := range append(messages, finished) {
		out = append(out, r.l.frame(recordHandshake, m)...)
	}
	r.l.write(out)
	r.out.Took = time.Since(r.began)
	r.master = r.sched.derive("res master", r.script.b)
	r.l.out, err = newHalf(r.algo, r.clientApp)
	return err
}

func (r *clientRun) applicationSecrets() error {
	if err := r.l.settled(); err != nil {
		return err
	}
	r.out.Stage = "finished"
	r.sched.next(nil)
	r.clientApp = r.sched.derive("c ap traffic", r.script.b)
	r.serverApp = r.sched.derive("s ap traffic", r.script.b)
	r.log(logClientTraffic, r.clientApp)
	r.log(logServerTraffic, r.serverApp)
	var err error
	r.l.in, err = newHalf(r.algo, r.serverApp)
	return err
}

// authenticate makes Certificate and CertificateVerify where the server asked for them.
func (r *clientRun) authenticate() ([][]byte, error) {
	if !r.requested {
		return nil, nil
	}
	id := r.c.Offer.Identity
	if id == nil || len(id.Chain) == 0 {
		empty := certificateMessage(r.request, nil, nil)
		r.script.add(empty)
		return [][]byte{empty}, nil
	}
	cert := certificateMessage(r.request, id.Chain, nil)
	r.script.add(cert)
	scheme := id.scheme()
	signature, err := sign(id.Signer, signedContent(clientContext, r.algo.digest(r.script.b)))
	if err != nil {
		return nil, err
	}
	if r.c.CertificateVerify != nil {
		r.c.CertificateVerify(&scheme, &signature)
	}
	verify := verifyMessage(scheme, signature)
	r.script.add(verify)
	return [][]byte{cert, verify}, nil
}

// application makes the exchange that was asked for and gives the server time to refuse.
func (r *clientRun) application() error {
	asked := len(r.c.Send) > 0 || r.c.Want > 0 || r.c.Tickets > 0
	if asked {
		r.out.Stage = "application"
	}
	if len(r.c.Send) > 0 {
		r.l.write(r.l.frame(recordApplication, r.c.Send))
	}
	if err := r.exchange(); err != nil {
		return err
	}
	r.l.sendAlert(closeNotify)
	s := stopOf(r.drain(briefWait))
	if s.ending == Alerted {
		return s
	}
	return nil
}

// exchange waits for what was asked for; with nothing asked, for a sign that the server goes on.
func (r *clientRun) exchange() error {
	if r.c.Want <= 0 && r.c.Tickets <= 0 {
		return r.glance()
	}
	r.l.arm(r.l.wait)
	for len(r.out.App) < min(r.c.Want, maxApp) || len(r.out.Tickets) < r.c.Tickets {
		err := r.later()
		if err == nil {
			continue
		}
		if len(r.out.App) >= r.c.Want && stopOf(err).ending == Silent {
			return nil // tickets are waited for only as far as the wait allows
		}
		return err
	}
	return nil
}

// glance waits shortly for a ticket, data or an end. Silence is no fault, and neither is a close_notify.
func (r *clientRun) glance() error {
	r.l.arm(min(briefWait, r.l.wait))
	for !r.evidence {
		err := r.later()
		if err == nil {
			continue
		}
		s := stopOf(err)
		if (s.ending == Silent && r.l.ctx.Err() == nil) || (s.ending == EOF && s.alert != nil) {
			return nil
		}
		return err
	}
	return nil
}

// drain reads until the peer ends or d is over.
func (r *clientRun) drain(d time.Duration) error {
	r.l.arm(min(d, r.l.wait))
	for {
		if err := r.later(); err != nil {
			return err
		}
	}
}

// later takes one thing that a server sends after the handshake.
func (r *clientRun) later() error {
	e, err := r.l.next()
	if err != nil {
		return err
	}
	r.evidence = true
	if e.kind == recordApplication {
		r.out.App = append(r.out.App, e.data[:min(len(e.data), maxApp-len(r.out.App))]...)
		return nil
	}
	switch e.data[0] {
	case msgTicket:
		return r.ticket(e.data[4:])
	case msgKeyUpdate:
		r.l.in, err = r.l.in.updated()
		return err
	}
	return garbled("handshake message of type %d after the handshake", e.data[0])
}

func (r *clientRun) ticket(body []byte) error {
	c := cursor{b: body}
	lifetime := time.Duration(c.u32()) * time.Second
	add, nonce, ticket := c.u32(), c.vec8(), c.vec16()
	extensions, err := parseExtensions(c.vec16())
	if err != nil || !c.whole() {
		return garbled("NewSessionTicket of %d bytes is malformed", len(body))
	}
	if len(r.out.Tickets) >= 64 {
		return nil
	}
	sum := sha256.Sum256(ticket)
	seen := TicketSeen{Lifetime: lifetime, Bytes: len(ticket), SHA256: hex.EncodeToString(sum[:])}
	for _, e := range extensions {
		if e.Type == extEarlyData {
			early := cursor{b: e.Data}
			seen.Early = early.u32()
		}
	}
	r.out.Tickets = append(r.out.Tickets, seen)
	r.out.Sessions = append(r.out.Sessions, &Session{
		Ticket: bytes.Clone(ticket), Secret: r.algo.resumption(r.master, nonce), AgeAdd: add, Lifetime: lifetime,
		Received: r.now.Add(time.Since(r.began)), Suite: r.server.suite, Group: r.share.Group,
	})
	return nil
}
