package tls

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"slices"
	"time"
)

// serverRun is one connection of a Server.
type serverRun struct {
	s     Server
	l     *link
	heard Heard
	from  source
	began time.Time

	hello  Hello // the last one
	seen   *HelloSeen
	script transcript
	suite  Suite // that the keys are made for
	algo   algorithms
	group  Group // agreed on; 0: none
	named  Group // in ServerHello
	psk    []byte
	chosen int // identity of the PSK

	sched     *schedule
	clientHS  []byte
	serverHS  []byte
	clientApp []byte
	serverApp []byte
	done      bool // the client's Finished was valid
	answered  bool
}

// Run serves one connection over conn and closes it. It returns when the client ends it, a wait is over, or
// ctx ends; each wait is bounded by s.Wait.
//
// Ending Completed means that the client's Finished was valid and no fatal alert followed. Where this end
// refuses the hello (no common group or suite), Detail says so and Ending is what the client then did.
func (s Server) Run(ctx context.Context, conn net.Conn) Heard {
	l, release := newLink(ctx, conn, s.Wait)
	defer release()
	defer func() { _ = conn.Close() }()
	r := &serverRun{s: s, l: l, from: seeded(s.Seed), began: time.Now()}
	return r.finish(r.run())
}

func (r *serverRun) finish(err error) Heard {
	r.heard.Ending = Completed
	if err != nil {
		s := stopOf(err)
		r.heard.Ending, r.heard.Alert = s.ending, s.alert
		if r.heard.Detail == "" {
			r.heard.Detail = s.detail
		}
	}
	if r.done && r.heard.Ending != Alerted {
		r.completed()
	} else if r.heard.Ending == Unreadable && r.l.in != nil {
		r.countUnread()
	}
	r.l.farewell(r.heard.Ending)
	r.heard.Records, r.heard.Protected = r.l.versions, r.l.protected
	r.heard.Up, r.heard.Down = r.l.down, r.l.up
	if r.heard.Took == 0 {
		r.heard.Took = time.Since(r.began)
	}
	return r.heard
}

// completed: after a valid Finished a close, a reset and silence are all ends of a complete connection.
// Only what cannot be read stays what it is.
func (r *serverRun) completed() {
	switch r.heard.Ending {
	case EOF, Reset, Silent:
		r.heard.Ending, r.heard.Alert = Completed, nil
	default:
		return
	}
	r.l.sendAlert(closeNotify)
	// A close with unread bytes would reset the connection under the close_notify.
	_ = r.l.linger(50 * time.Millisecond)
}

// countUnread goes on reading after a record that did not decrypt: what a client sends after that says
// whether it believes itself connected.
func (r *serverRun) countUnread() {
	for {
		rec, err := r.l.record()
		if err != nil {
			return
		}
		if rec.kind() != recordApplication {
			if rec.kind() == recordAlert && len(rec.payload) == 2 {
				r.heard.Alert = seenAlert(rec.payload[0], AlertCode(rec.payload[1]), false)
			}
			continue
		}
		if s := stopOf(r.l.unreadable(rec, "")); s.alert != nil {
			r.heard.Alert = s.alert
		}
	}
}

func (r *serverRun) run() error {
	r.heard.Stage = "hello"
	if err := r.readHello(); err != nil {
		return err
	}
	r.heard.Hello = r.seen
	r.heard.First, r.l.versions = r.l.versions[0], nil
	r.heard.Ticket = r.ticketOffered()
	if r.s.Legacy != nil {
		return r.legacy()
	}
	if err := r.negotiate(); err != nil {
		return err
	}
	if err := r.resume(); err != nil {
		return err
	}
	if err := r.respond(); err != nil {
		return err
	}
	if err := r.awaitClient(); err != nil {
		return err
	}
	return r.application()
}

// readHello reads a ClientHello that may come over any number of records.
func (r *serverRun) readHello() error {
	r.l.arm(r.l.wait)
	e, err := r.l.next()
	if err != nil {
		return err
	}
	if e.kind != recordHandshake || e.data[0] != msgClientHello {
		return garbled("handshake message of type %d in place of a ClientHello", e.data[0])
	}
	hello, err := ParseHello(e.data)
	if err != nil {
		return garbled("%v", err)
	}
	r.hello, r.seen = hello, seeHello(hello, len(e.data))
	r.script.add(e.data)
	return r.l.settled()
}

func (r *serverRun) ticketOffered() string {
	e, ok := r.hello.Find(extPSK)
	if !ok {
		return ""
	}
	tickets, _, _ := readTickets(e.Data)
	if len(tickets) == 0 {
		return ""
	}
	sum := sha256.Sum256(tickets[0])
	return hex.EncodeToString(sum[:])
}

// refuse sends an alert and gives the ending that the client makes of it.
func (r *serverRun) refuse(code AlertCode, detail string) error {
	r.l.sendAlert(code)
	r.heard.Detail = fmt.Sprintf("%s: sent %v", detail, code)
	return r.l.linger(min(briefWait, r.l.wait))
}

// negotiate settles suite and group, over a HelloRetryRequest where it must or is told to.
func (r *serverRun) negotiate() error {
	if !slices.Contains(r.seen.Versions, version13) {
		return r.refuse(70, "the client does not offer TLS 1.3")
	}
	if !r.pickSuite() {
		return r.refuse(handshakeFailure, "no common suite")
	}
	r.group = r.pickShared()
	want := r.pickCommon()
	if plan := r.s.Retry; plan != nil {
		return r.retry(plan.Group)
	}
	switch {
	case r.group != 0 || r.s.Bend.Group != 0:
		return nil
	case want != 0:
		return r.retry(want)
	}
	return r.refuse(handshakeFailure, "no common group")
}

// pickSuite takes the suite of the plan, or the first that the client offers too. The keys are made for the
// suite that the ServerHello names, where the prober speaks it.
func (r *serverRun) pickSuite() bool {
	choices := []Suite{AES128SHA256, AES256SHA384}
	if r.s.Suite != 0 {
		choices = []Suite{r.s.Suite}
	}
	for _, c := range choices {
		if slices.Contains(r.seen.Suites, c) {
			r.suite = c
			break
		}
	}
	if _, ok := algorithmsOf(r.s.Bend.Suite); ok {
		r.suite = r.s.Bend.Suite
	}
	var ok bool
	r.algo, ok = algorithmsOf(r.suite)
	return ok
}

func (r *serverRun) groups() []Group {
	if r.s.Groups == nil {
		return Groups()
	}
	return r.s.Groups
}

// pickShared is the group that the server prefers among those that the client sent a share of; 0: none.
func (r *serverRun) pickShared() Group {
	for _, g := range r.groups() {
		if _, ok := r.shareOf(g); ok {
			return g
		}
	}
	return 0
}

func (r *serverRun) pickCommon() Group {
	for _, g := range r.groups() {
		if slices.Contains(r.seen.Groups, g) {
			return g
		}
	}
	return 0
}

func (r *serverRun) shareOf(g Group) ([]byte, bool) {
	shares, err := r.hello.Shares()
	i := slices.IndexFunc(shares, func(s KeyShare) bool { return s.Group == g })
	if err != nil || i < 0 {
		return nil, false
	}
	return shares[i].Data, true
}

// retry asks for a hello with a share of g and reads it.
func (r *serverRun) retry(g Group) error {
	r.heard.Stage = "retry"
	r.script.retry(r.algo)
	if err := r.askAgain(g, true); err != nil {
		return err
	}
	r.heard.Second = r.seen
	if r.s.Retry != nil && r.s.Retry.Twice {
		if err := r.askAgain(g, false); err != nil {
			return err
		}
		return &stop{ending: Retried, detail: "the client followed a second HelloRetryRequest"}
	}
	if _, ok := r.shareOf(g); ok {
		if _, known := shapeOf(g); known {
			r.group = g
			return nil
		}
	}
	if r.s.Bend.Group != 0 {
		return nil
	}
	return &stop{ending: Retried, detail: fmt.Sprintf("the second hello came; there is no key for %v", g)}
}

func (r *serverRun) askAgain(g Group, compatible bool) error {
	hrr := r.retryRequest(g)
	r.script.add(hrr)
	r.l.version = r.recordVersion()
	out := r.l.frame(recordHandshake, hrr)
	if compatible && len(r.hello.SessionID) > 0 {
		out = append(out, r.l.changeCipherSpec()...)
	}
	r.l.write(out)
	return r.readHello()
}

func (r *serverRun) retryRequest(g Group) []byte {
	extensions := extension(nil, extVersions, append16(nil, version13))
	if g != 0 {
		extensions = extension(extensions, extKeyShare, append16(nil, uint16(g)))
	}
	suite := r.suite
	if p := r.s.Retry; p != nil {
		if p.Cookie != nil {
			extensions = extension(extensions, extCookie, appendVec16(nil, p.Cookie))
		}
		if p.Suite != 0 {
			suite = p.Suite
		}
	}
	return r.helloMessage(retryRandom, suite, extensions)
}

func extension(list []byte, kind uint16, data []byte) []byte {
	return appendVec16(append16(list, kind), data)
}

// helloMessage is a ServerHello of TLS 1.3 or a HelloRetryRequest.
func (r *serverRun) helloMessage(random [32]byte, suite Suite, extensions []byte) []byte {
	echo := r.hello.SessionID
	if r.s.Bend.SessionID != nil {
		echo = r.s.Bend.SessionID(slices.Clone(echo))
	}
	body := append(append16(nil, version12), random[:]...)
	body = append(append16(appendVec8(body, echo), uint16(suite)), 0)
	return message(msgServerHello, appendVec16(body, extensions))
}

func (r *serverRun) recordVersion() uint16 {
	if v := r.s.Bend.RecordVersion; v != 0 {
		return v
	}
	return version12
}

// awaitClient reads what the client makes of the flight, up to its Finished.
func (r *serverRun) awaitClient() error {
	r.l.arm(r.l.wait)
	for !r.done {
		e, err := r.l.next()
		if err != nil {
			return err
		}
		if e.kind != recordHandshake {
			return garbled("application data before Finished")
		}
		r.heard.Stage = "flight"
		if err := r.clientMessage(e.data); err != nil {
			return err
		}
		r.script.add(e.data)
	}
	return nil
}

// clientMessage takes one message of the client's flight; the transcript does not hold it yet.
func (r *serverRun) clientMessage(m []byte) error {
	r.heard.Messages = append(r.heard.Messages, m[0])
	switch m[0] {
	case msgCertificate:
		list, err := parseCertificates(m[4:])
		r.heard.Certificates = list.chain
		return err
	case msgCertificateVerify:
		scheme, signature, err := parseVerify(m[4:])
		r.heard.Scheme = scheme
		if err == nil && len(r.heard.Certificates) > 0 {
			content := signedContent(clientContext, r.algo.digest(r.script.b))
			r.heard.SignatureValid = verify(scheme, r.heard.Certificates[0], content, signature)
		}
		return err
	case msgFinished:
		r.done = hmac.Equal(m[4:], r.algo.finished(r.clientHS, r.script.b))
		r.heard.FinishedValid = r.done
		if !r.done {
			return &stop{ending: WrongFinished}
		}
		return nil
	}
	return garbled("handshake message of type %d in the client's flight", m[0])
}

// application serves a client that accepted, until it ends or falls silent.
func (r *serverRun) application() error {
	r.heard.Stage, r.heard.Took = "finished", time.Since(r.began)
	if err := r.l.settled(); err != nil {
		return err
	}
	if err := r.applicationKeys(); err != nil {
		return err
	}
	r.issue()
	for {
		r.l.arm(r.l.wait)
		e, err := r.l.next()
		if err != nil {
			return err
		}
		if e.kind == recordHandshake {
			if e.data[0] != msgKeyUpdate {
				return garbled("handshake message of type %d after the handshake", e.data[0])
			}
			if r.l.in, err = r.l.in.updated(); err != nil {
				return err
			}
			continue
		}
		r.data(e.data)
	}
}

func (r *serverRun) data(b []byte) {
	r.heard.Stage = "application"
	r.heard.App = append(r.heard.App, b[:min(len(b), maxApp-len(r.heard.App))]...)
	switch {
	case r.s.Echo:
		r.l.write(r.l.frame(recordApplication, b))
	case len(r.s.Answer) > 0 && !r.answered:
		r.answered = true
		r.l.write(r.l.frame(recordApplication, r.s.Answer))
	}
}
