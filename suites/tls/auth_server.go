package tls

import (
	"context"
	"crypto/mldsa"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	drive "github.com/assay-bench/assay/scenarios/tls"
	wire "github.com/assay-bench/assay/scenarios/wire/tls"
	"github.com/assay-bench/assay/suites"
)

const (
	reasonWrongCertificate = "wrong-certificate" // of a kind, or signed in a way, that the client did not offer
	reasonUnverified       = "chain-unverified"  // it does not verify up to a root of the target
	reasonNoRoots          = "no-roots"          // the target names none, so that no chain can be judged
)

// withSchemes replaces what signatures an offer takes.
func withSchemes(o wire.Offer, schemes []wire.Scheme) wire.Offer {
	o.Schemes = schemes
	return o
}

// leafIsMLDSA tells whether a chain's leaf holds an ML-DSA key; ok is false where it can not be read.
func leafIsMLDSA(chain [][]byte) (yes, ok bool) {
	if len(chain) == 0 {
		return false, false
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return false, false
	}
	_, yes = leaf.PublicKey.(*mldsa.PublicKey)
	return yes, true
}

func describeChain(o wire.Outcome) string {
	text := describe(o)
	if f := o.Flight; f != nil && len(f.Certificates) > 0 {
		kind := "a leaf that can not be read"
		if yes, ok := leafIsMLDSA(f.Certificates); ok {
			kind = map[bool]string{true: "an ML-DSA leaf", false: "a classical leaf"}[yes]
		}
		text += fmt.Sprintf("; %d certificates, %s, signature scheme 0x%04x", len(f.Certificates), kind, uint16(f.Scheme))
	}
	return text
}

// simple is a check with a judge of its own on the handshake "probe" of one hello.
func simple(c suites.Check, at string, client func(*scenarios.Env) wire.Client, judge func(suites.Trace, drive.Seen, string) suites.Finding, want string) suites.Check {
	c.Covers, c.Explain = append(c.Covers, c.ID), explain
	if c.Cost.Time == 0 {
		c.Cost.Time = 100 * time.Millisecond
	}
	c.Drive = func(ctx context.Context, env *scenarios.Env) error {
		k := client(env)
		k.Wait = answerWait(env.Claims)
		_, err := drive.Probe(ctx, env, at, "probe", k)
		return err
	}
	c.Judge = func(t suites.Trace) suites.Finding {
		h, ok := seen(t, "probe")
		if !ok {
			return missing(want, "probe")
		}
		return judge(t, h, want)
	}
	return c
}

var _ = add(simple(suites.Check{
	ID: "tls/auth/mldsa-chain", Title: "a chain with an ML-DSA leaf verifies up to a root of the target",
	Needs:   []features.Feature{features.TLSServer, features.TLSMLDSA},
	Reasons: reasonsOf(serviceReasons(), []string{reasonWrongCertificate, reasonUnverified, reasonNoRoots}),
	Kills:   []suites.Kill{{Defect: "tls.mldsa-chain-incomplete", Reason: reasonUnverified}},
}, endpoint, func(env *scenarios.Env) wire.Client {
	return wire.Client{Offer: withSchemes(ordinary(env.Claims), pqSchemes())}
}, judgeChain, "an ML-DSA leaf, a signature by a scheme that was offered, and a chain that verifies: draft-ietf-tls-mldsa; RFC 9881"))

func judgeChain(t suites.Trace, h drive.Seen, want string) suites.Finding {
	o := h.Outcome
	observed := describeChain(o)
	if r := served(o, 0); r != "" || o.Flight == nil {
		return judged(t, orGarbled(r), want, observed, h.Cites)
	}
	if yes, ok := leafIsMLDSA(o.Flight.Certificates); !ok || !yes || !slices.Contains(pqSchemes(), o.Flight.Scheme) || !o.Flight.SignatureValid {
		return suites.Failing(reasonWrongCertificate, want, observed, h.Cites)
	}
	if t.Claims.TLS == nil || t.Claims.TLS.Roots == "" {
		return suites.Finding{
			Status: results.Inconclusive, Reason: reasonNoRoots, Expected: want, Cites: h.Cites,
			Observed: observed + "; the target names no roots to verify it with",
		}
	}
	n, err := drive.VerifiedChain(o.Flight.Certificates, t.Claims.TLS.Roots, t.Claims.TLS.ServerName, h.Wall)
	if err != nil {
		return suites.Failing(reasonUnverified, want, observed+"; "+err.Error(), h.Cites)
	}
	return suites.Passing(want, fmt.Sprintf("%s; it verifies with %d", observed, n), h.Cites)
}

func orGarbled(reason string) string {
	if reason == "" {
		return reasonGarbled
	}
	return reason
}

// fitCase is a choice of signature schemes and the kind of leaf that alone fits it.
type fitCase struct {
	id, title string
	schemes   []wire.Scheme
	fits      func(mldsaLeaf bool) bool
	want      string
}

func fitCases() []fitCase {
	return []fitCase{
		{
			"classical-only", "a client without ML-DSA", classicalSchemes(),
			func(pq bool) bool { return !pq }, "a classical leaf",
		},
		{
			"mldsa-only", "a client with ML-DSA alone", pqSchemes(),
			func(pq bool) bool { return pq }, "an ML-DSA leaf",
		},
		{
			"default", "a client that offers ML-DSA first, and classical signatures", append(pqSchemes(), classicalSchemes()...),
			func(pq bool) bool { return true }, "a leaf of either kind: which is the server's policy",
		},
	}
}

var _ = add(fitsClient())

func fitsClient() suites.Check {
	c := suites.Check{
		ID: "tls/auth/certificate-fits-client", Title: "a server with two certificates sends one that the client can verify",
		Covers:  []string{"tls/auth/certificate-fits-client"},
		Needs:   []features.Feature{features.TLSServer, features.TLSDual},
		Cost:    suites.Cost{Time: 100 * time.Millisecond},
		Explain: explain, Reasons: reasonsOf(serviceReasons(), []string{reasonWrongCertificate}),
		Kills: killsIn("tls.certificate-always-mldsa", reasonWrongCertificate, "classical-only"),
		Drive: func(ctx context.Context, env *scenarios.Env) error {
			for _, k := range fitCases() {
				if k.id == env.Key.Case {
					_, err := drive.Probe(ctx, env, endpoint, "probe", wire.Client{
						Offer: withSchemes(ordinary(env.Claims), k.schemes), Wait: answerWait(env.Claims),
					})
					return err
				}
			}
			return fmt.Errorf("no case %q", env.Key.Case)
		},
		Judge: judgeFit,
	}
	for _, k := range fitCases() {
		c.Cases = append(c.Cases, suites.Case{ID: k.id, Title: k.title})
	}
	return c
}

func judgeFit(t suites.Trace) suites.Finding {
	for _, k := range fitCases() {
		if k.id != t.Key.Case {
			continue
		}
		want := k.want + ", and a signature by a scheme that was offered: RFC 9846 section 4.5.1.2"
		h, ok := seen(t, "probe")
		if !ok {
			return missing(want, "probe")
		}
		return judged(t, fitReason(k, h.Outcome), want, describeChain(h.Outcome), h.Cites)
	}
	return missing("a case that exists", t.Key.Case)
}

func fitReason(k fitCase, o wire.Outcome) string {
	offered := func(s wire.Scheme) bool {
		for _, x := range k.schemes {
			if x == s {
				return true
			}
		}
		return false
	}
	if o.Flight != nil && len(o.Flight.Certificates) > 0 {
		pq, readable := leafIsMLDSA(o.Flight.Certificates)
		if !readable || !k.fits(pq) || (o.Flight.Scheme != 0 && !offered(o.Flight.Scheme)) {
			return reasonWrongCertificate
		}
	}
	if r := served(o, 0); r != "" || o.Flight == nil || !o.Flight.SignatureValid {
		return orGarbled(r)
	}
	return ""
}

const clauseNoCertificate = "RFC 9846 section 4.5.1.2: a fatal alert, or a chain that the client then refuses"

var _ = add(simple(suites.Check{
	ID: "tls/auth/no-usable-certificate", Title: "a server whose certificates do not suit the client says so",
	Needs: []features.Feature{features.TLSClassical},
	Control: completing(endpointClassical, fixedOffer(wire.Offer{
		Groups: classicalGroups(), Shares: []wire.Group{wire.X25519, wire.P256},
	})),
	Reasons: reasonsOf(refusalReasons(), []string{reasonWrongCertificate}),
	Kills:   []suites.Kill{{Defect: "tls.no-certificate-hangs", Reason: reasonSilent}},
}, endpointClassical, func(*scenarios.Env) wire.Client {
	return wire.Client{Offer: wire.Offer{
		Groups: classicalGroups(), Shares: []wire.Group{wire.X25519, wire.P256}, Schemes: []wire.Scheme{wire.MLDSA65},
	}}
}, judgeNoCertificate, "handshake_failure (40), or a classical chain: "+clauseNoCertificate))

func judgeNoCertificate(t suites.Trace, h drive.Seen, want string) suites.Finding {
	o := h.Outcome
	reason := refusedBy(o, []string{"handshake_failure"})
	if o.Flight != nil && len(o.Flight.Certificates) > 0 {
		reason = "" // a client that does not know the scheme refuses it
		if o.Flight.Scheme == wire.MLDSA65 {
			reason = reasonWrongCertificate // it claims a scheme that a classical server can not have
		}
	}
	return judged(t, reason, want, describeChain(o), h.Cites)
}

var _ = add(serverCases{endpoint: endpointMLDSA, cases: []serverCase{{
	id: "tls12", title: "a client of TLS 1.2 and a server with an ML-DSA certificate alone", client: legacy(classicalGroups()...),
	due: refuse("assay TLS rules; RFC 5246 section 7.4.1.3 describes handshake_failure without demanding it"),
}}}.check(suites.Check{
	ID: "tls/auth/tls12-peer-refused", Title: "a server with an ML-DSA certificate alone never serves TLS 1.2",
	Needs: []features.Feature{features.TLSMLDSAOnly},
	Kills: killsIn("tls.mldsa-in-tls12", reasonAccepted, "tls12"),
}))
