package client

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/pqtls"
)

// Bounds of a request's deadline.
const (
	defaultDeadline = 3 * time.Second
	maxDeadline     = 30 * time.Second
)

// Staple says what a dial demands of the OCSP response of the server's leaf.
type Staple string

// The staple modes.
const (
	StapleIgnore  Staple = "ignore"  // it is verified and reported, and decides nothing
	StapleCheck   Staple = "check"   // one that is there must be good
	StapleRequire Staple = "require" // it must be there and be good
)

// What became of a staple.
const (
	stapleAbsent  = "absent"
	stapleGood    = "good"
	stapleRefused = "refused"
)

// Request is one dial. Zero fields get the defaults named beside them.
type Request struct {
	Address    string              // host:port
	ServerName string              // the host of Address, which is verified and, being an address, not sent
	Roots      []*x509.Certificate // none: every chain is refused
	ALPN       []string
	Policy     pqtls.Policy  // pqtls.PreferPQ
	Groups     []tls.CurveID // restricts what the policy offers; no restriction
	MinVersion uint16        // tls.VersionTLS13; 1.2 has no post-quantum group, so RequirePQ offers 1.3 alone
	Staple     Staple        // StapleIgnore
	At         time.Time     // the clock of verification; now
	Send       []byte        // as many bytes must come back; nothing is exchanged when empty
	Pool       bool          // take from the pool and give back; else a fresh connection without sessions
	Identity   bool          // present the client certificate when it is asked for
	Deadline   time.Duration // for everything; 3 s, at most 30 s
}

func (r Request) deadline() time.Duration {
	return min(cmp.Or(max(r.Deadline, 0), defaultDeadline), maxDeadline)
}

// Result is what came of a dial.
type Result struct {
	Connected bool
	Group     tls.CurveID
	Class     pqtls.Class
	Version   uint16
	Retry     bool   // the server asked with a HelloRetryRequest
	Resumed   bool   // the connection resumed a session
	Reused    bool   // the connection served a request before
	ALPN      string // what was agreed on
	Chain     int    // certificates from leaf to root, or as many as were sent when none was built
	Staple    string // absent, good or refused
	Received  []byte
}

func (c *conn) result(reused bool) Result {
	return Result{Connected: true, Group: c.group, Class: c.class, Version: c.version, Retry: c.retry,
		Resumed: c.resumed, Reused: reused, ALPN: c.alpn, Chain: c.chain, Staple: c.staple}
}

// plan is a request with everything that follows from it.
type plan struct {
	Request
	name      string // to verify
	offered   []tls.CurveID
	classes   []pqtls.Class // that the offer can reach, post-quantum first
	base      key           // of the buckets; the class is filled in
	roots     *x509.CertPool
	identity  *tls.Certificate
	keepState func(*conn) // see keepSession
}

// plan checks a request.
func (c *Client) plan(r Request) (*plan, *Error) {
	r.Policy = cmp.Or(r.Policy, pqtls.PreferPQ)
	r.Staple = cmp.Or(r.Staple, StapleIgnore)
	r.MinVersion = cmp.Or(r.MinVersion, tls.VersionTLS13)
	host, _, err := net.SplitHostPort(r.Address)
	if err != nil {
		return nil, fail(DialFailed, "address: %v", err)
	}
	p := &plan{Request: r, name: cmp.Or(r.ServerName, host)}
	if err := p.choose(c.cfg.Defects); err != nil {
		c.countRefusal(p)
		return nil, err
	}
	if r.Policy == pqtls.RequirePQ && !slices.Contains(p.classes, pqtls.Classical) {
		p.MinVersion = tls.VersionTLS13
	}
	p.roots = x509.NewCertPool()
	for _, root := range r.Roots {
		p.roots.AddCert(root)
	}
	if r.Identity {
		if c.cfg.Identity == nil {
			return nil, fail(DialFailed, "the client has no certificate")
		}
		if p.identity, err = c.cfg.Identity(); err != nil {
			return nil, fail(DialFailed, "client certificate: %v", err)
		}
	}
	p.base = key{address: r.Address, sni: p.name, policy: r.Policy, trust: p.trust()}
	for _, protocol := range r.ALPN { // length first: no two lists read alike
		p.base.alpn += fmt.Sprintf("%d:%s,", len(protocol), protocol)
	}
	return p, nil
}

// choose settles which groups are offered.
func (p *plan) choose(planted defect.Set) *Error {
	p.offered = p.Policy.Groups()
	if planted.On(defect.PoolPolicyIgnored) || planted.On(defect.PoolPolicyCheckedLate) {
		p.offered = pqtls.AllGroups()
	}
	if planted.On(defect.TLSClientWithoutHybrid) {
		p.offered = pqtls.ClassicalGroups()
	}
	if len(p.Groups) > 0 {
		p.offered = slices.DeleteFunc(p.offered, func(g tls.CurveID) bool { return !slices.Contains(p.Groups, g) })
	}
	for _, class := range []pqtls.Class{pqtls.PQ, pqtls.Classical} {
		if slices.ContainsFunc(p.offered, func(g tls.CurveID) bool { return pqtls.ClassOf(g) == class }) {
			p.classes = append(p.classes, class)
		}
	}
	if len(p.offered) == 0 {
		return fail(PolicyRefused, "policy %s leaves none of the groups %s", p.Policy, names(p.Groups))
	}
	return nil
}

// fellBack reports whether a post-quantum group was offered and a classical one reached.
func (p *plan) fellBack(class pqtls.Class) bool {
	return class == pqtls.Classical && slices.Contains(p.classes, pqtls.PQ)
}

// trust digests what decides whom this dial trusts and as whom it appears.
func (p *plan) trust() string {
	digest := sha256.New()
	for _, root := range p.Roots {
		digest.Write(root.Raw) // self-delimiting
	}
	at := "now"
	if !p.At.IsZero() {
		at = p.At.UTC().Format(time.RFC3339Nano)
	}
	_, _ = fmt.Fprintf(digest, "%s %s %t", at, p.Staple, p.Identity) // a hash takes everything
	return hex.EncodeToString(digest.Sum(nil))
}

// now is the clock of verification and of tickets.
func (p *plan) now(clock Clock) time.Time {
	if p.At.IsZero() {
		return clock.Now()
	}
	return p.At
}

func names(groups []tls.CurveID) string {
	list := make([]string, 0, len(groups))
	for _, g := range groups {
		list = append(list, pqtls.GroupName(g))
	}
	return strings.Join(list, ", ")
}
