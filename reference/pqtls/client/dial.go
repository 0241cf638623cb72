package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/pqtls"
	"github.com/assay-bench/assay/reference/pqtls/bent"
	"github.com/assay-bench/assay/reference/pqtls/ocsp"
)

// failure is the error of a handshake. Again says that only the session that was offered is to blame.
type failure struct {
	*Error
	again bool
}

// attempt is one handshake.
type attempt struct {
	*Client
	*plan
	session any         // offered for resumption; nil is none
	from    pqtls.Class // of the session
	cache   *sessionCache
	resumed bool // as far as is known: the session was taken
	agreed  state
}

// dial makes a connection, whose reader runs.
func (c *Client) dial(ctx context.Context, p *plan, resume bool) (*conn, *failure) {
	dialer := net.Dialer{Control: c.cfg.Control}
	raw, err := dialer.DialContext(ctx, "tcp", p.Address)
	if err != nil {
		return nil, &failure{Error: classify(err, DialFailed)}
	}
	a := &attempt{Client: c, plan: p}
	if p.Pool {
		a.cache = new(sessionCache)
		if resume { // not before there is a connection: a ticket that was taken is gone
			a.session, a.from = c.pool.ticket(p.base, p.classes)
		}
	}
	socket := newSocket(raw)
	stream, err := a.handshake(ctx, socket)
	if err != nil {
		_ = raw.Close()
		return nil, a.failed(ctx, err)
	}
	c.completed(p, a.agreed)
	conn := newConn(socket, stream, a.agreed, c.cfg.Clock.Now())
	if !p.Policy.Accepts(conn.class) && !c.tolerates() {
		conn.close()
		return nil, &failure{Error: c.refuse(p, conn.state)}
	}
	if err := socket.SetDeadline(time.Time{}); err != nil {
		conn.close()
		return nil, &failure{Error: classify(err, Protocol)}
	}
	home := p.base
	home.class = conn.class
	a.settle(home)
	if !c.pool.adopt(conn, home) {
		conn.close()
		return nil, &failure{Error: fail(DialFailed, "the client is closed")}
	}
	return conn, nil
}

// tolerates are the planted defects of the check between handshake and first byte.
func (c *Client) tolerates() bool {
	return c.cfg.Defects.On(defect.PoolPolicyIgnored) || c.cfg.Defects.On(defect.PoolPolicyCheckedLate)
}

// settle directs the sessions of this connection to its bucket.
func (a *attempt) settle(k key) {
	if a.cache == nil {
		return
	}
	home := a.pool.sessions(k)
	a.cache.settle(home)
	a.plan.keepState = func(c *conn) { // bent keeps its sessions itself
		if stream, ok := c.stream.(*bent.Conn); ok {
			if s := stream.Session(); s != nil {
				home.add(s)
			}
		}
	}
}

// keepSession takes over the session of a fresh connection of package bent after its exchange.
func (p *plan) keepSession(c *conn) {
	if p.keepState != nil {
		p.keepState(c)
	}
}

func (a *attempt) handshake(ctx context.Context, socket *socket) (net.Conn, error) {
	if bent.NeedsClient(a.cfg.Defects) {
		return a.bentHandshake(ctx, socket)
	}
	conn := tls.Client(socket, a.config())
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	st := conn.ConnectionState()
	a.agreed.group, a.agreed.class = st.CurveID, pqtls.ClassOf(st.CurveID)
	a.agreed.version, a.agreed.alpn = st.Version, st.NegotiatedProtocol
	a.agreed.retry, a.agreed.resumed = st.HelloRetryRequest, st.DidResume
	return conn, nil
}

func (a *attempt) config() *tls.Config {
	config := &tls.Config{
		ServerName: a.name, RootCAs: a.roots, NextProtos: a.ALPN, CurvePreferences: a.offered,
		MinVersion: a.MinVersion, Time: func() time.Time { return a.now(a.cfg.Clock) },
		InsecureSkipVerify: a.cfg.Defects.On(defect.TLSClientChainUnverified),
		VerifyConnection:   a.verify,
	}
	if a.cache != nil {
		a.cache.offer, _ = a.session.(*tls.ClientSessionState)
		config.ClientSessionCache = a.cache
	}
	if a.identity != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return a.identity, nil }
	}
	return config
}

// verify runs inside the handshake, before the client's Finished: what it refuses ends with an alert
// and without a byte of application data.
func (a *attempt) verify(st tls.ConnectionState) error {
	a.resumed = st.DidResume
	if err := a.checkClass(st.CurveID, st.Version); err != nil {
		return err
	}
	chain := st.PeerCertificates
	if len(st.VerifiedChains) > 0 {
		chain = st.VerifiedChains[0]
	}
	if a.cfg.Defects.On(defect.TLSClientMldsaRefused) && chain[0].PublicKeyAlgorithm == x509.MLDSA {
		return fail(Verify, "planted: no ML-DSA chain is taken")
	}
	return a.checkStaple(chain, st.OCSPResponse)
}

// checkClass refuses to resume a session of the other class, whatever the server thinks of it. TLS 1.2
// resumes without a key exchange.
func (a *attempt) checkClass(group tls.CurveID, version uint16) error {
	if !a.resumed || version < tls.VersionTLS13 || pqtls.ClassOf(group) == a.from || a.cfg.Defects.On(defect.PoolClassShared) {
		return nil
	}
	return fail(Protocol, "the server resumes a %s session under %s", a.from, pqtls.GroupName(group))
}

// checkStaple verifies the OCSP response. The chain begins with leaf and issuer.
func (a *attempt) checkStaple(chain []*x509.Certificate, staple []byte) error {
	a.agreed.chain, a.agreed.staple = len(chain), stapleAbsent
	if len(staple) == 0 {
		if a.Staple == StapleRequire {
			return fail(StapleMissing, "the server stapled no OCSP response")
		}
		return nil
	}
	a.agreed.staple = stapleRefused
	if len(chain) < 2 {
		if a.Staple == StapleIgnore {
			return nil
		}
		return fail(Code(ocsp.CodeIssuer), "the issuer of the leaf is not known")
	}
	_, err := ocsp.Verify(staple, chain[0], chain[1], a.now(a.cfg.Clock), ocsp.Options{Skew: a.cfg.Skew, Defects: a.cfg.Defects})
	if err == nil {
		a.agreed.staple = stapleGood
		return nil
	}
	if a.Staple == StapleIgnore {
		return nil
	}
	return fail(Code(ocsp.CodeOf(err)), "%v", err)
}

// bentHandshake is the handshake with a defect that crypto/tls can not have.
func (a *attempt) bentHandshake(ctx context.Context, socket *socket) (net.Conn, error) {
	deadline, _ := ctx.Deadline()
	stop := context.AfterFunc(ctx, func() { _ = socket.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	conn, err := bent.Dial(socket, bent.ClientConfig{
		ServerName: a.name, Groups: a.offered, Roots: a.roots, ALPN: a.ALPN, Certificate: a.identity,
		Session: a.session, AskStaple: true, TLS12: a.MinVersion < tls.VersionTLS13,
		Defects: a.cfg.Defects, Deadline: max(time.Until(deadline), time.Millisecond), Now: a.now(a.cfg.Clock),
	})
	if err != nil {
		return nil, err
	}
	st := conn.State()
	a.resumed = st.Resumed
	a.agreed = state{group: st.Group, class: pqtls.ClassOf(st.Group), version: st.Version,
		retry: st.Retry, resumed: st.Resumed, alpn: st.ALPN}
	if err = a.checkClass(st.Group, st.Version); err == nil {
		err = a.checkStaple(a.built(st.Chain), st.Staple)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// built returns the chain up to a root, or what was sent when there is none.
func (a *attempt) built(sent []*x509.Certificate) []*x509.Certificate {
	if len(sent) == 0 {
		return nil
	}
	between := x509.NewCertPool()
	for _, c := range sent[1:] {
		between.AddCert(c)
	}
	chains, err := sent[0].Verify(x509.VerifyOptions{Roots: a.roots, Intermediates: between, CurrentTime: a.now(a.cfg.Clock)})
	if err != nil {
		return sent
	}
	return chains[0]
}

// failed classifies the error of a handshake.
func (a *attempt) failed(ctx context.Context, err error) *failure {
	if ctx.Err() != nil {
		return &failure{Error: fail(Deadline, "handshake: %v", errors.Join(ctx.Err(), err))}
	}
	f := &failure{Error: classify(err, Protocol)}
	if own, ok := errors.AsType[*Error](err); ok && a.resumed && a.session != nil {
		// The class or the staple of the session no longer fits: a session keeps the response of the
		// handshake that made it.
		f.Error, f.again = own, true
		return f
	}
	if name, ok := remoteAlert(err); ok && a.Policy == pqtls.RequirePQ && noCommonGround(name) {
		a.countRefusal(a.plan)
		f.Error = fail(PolicyRefused, "the server takes no group of policy %s: it sent the alert %s", a.Policy, name)
	}
	return f
}

// noCommonGround tells the alerts of a server that knows none of the groups, or no TLS 1.3.
func noCommonGround(alert string) bool {
	return alert == bent.AlertName(40) || alert == bent.AlertName(70) || alert == bent.AlertName(71)
}

// completed counts a handshake and says so when it fell back.
func (c *Client) completed(p *plan, st state) {
	fallback := p.fellBack(st.class)
	times := 1
	if c.cfg.Defects.On(defect.PoolCountersDrift) {
		times = 2
	}
	c.pool.count(func(n *counts) { n.handshake(st, fallback, times) })
	c.cfg.metrics.handshakes.WithLabelValues(pqtls.GroupName(st.group), fmt.Sprint(st.resumed)).Inc()
	if st.retry {
		c.cfg.metrics.retries.Inc()
	}
	if fallback {
		c.cfg.metrics.fallbacks.WithLabelValues(string(p.Policy)).Inc()
		c.cfg.Logger.Warn("fallback to a classical key exchange", "address", p.Address, "sni", p.name,
			"policy", p.Policy, "group", pqtls.GroupName(st.group), "version", tls.VersionName(st.version))
	}
}

// refuse is the end of a connection of a class that the policy forbids.
func (c *Client) refuse(p *plan, st state) *Error {
	c.countRefusal(p)
	return fail(PolicyRefused, "policy %s, the server reached %s", p.Policy, pqtls.GroupName(st.group))
}

func (c *Client) countRefusal(p *plan) {
	c.pool.count(func(n *counts) { n.PolicyRefused++ })
	c.cfg.metrics.refused.Inc()
	c.cfg.Logger.Warn("dial refused by policy", "address", p.Address, "sni", p.name, "policy", p.Policy)
}
