package tls

import (
	"context"
	"fmt"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/scenarios"
	drive "github.com/assay-bench/assay/scenarios/tls"
	wire "github.com/assay-bench/assay/scenarios/wire/tls"
	"github.com/assay-bench/assay/suites"
)

const reasonAbsent = "absent"

// hello is one connection of a claim's probe and what shows that the feature is there.
type hello struct {
	name  string
	at    string
	offer func(*scenarios.Env) wire.Client
	there func(wire.Outcome) bool
}

// serverClaim probes a feature of a server with one or more hellos; all must show it.
func serverClaim(f features.Feature, want, defect string, hellos ...hello) suites.Check {
	id := "claims/" + string(f)
	return suites.Check{
		ID: id, Title: "the claimed feature " + string(f) + " is there",
		Covers: []string{id}, Needs: []features.Feature{f},
		Cost: suites.Cost{Time: 100 * time.Millisecond}, Explain: explain, Reasons: []string{reasonAbsent},
		Kills: []suites.Kill{{Defect: defect, Reason: reasonAbsent}},
		Drive: func(ctx context.Context, env *scenarios.Env) error {
			for _, h := range hellos {
				c := h.offer(env)
				c.Wait = answerWait(env.Claims)
				if _, err := drive.Probe(ctx, env, h.at, h.name, c); err != nil {
					return err
				}
			}
			return nil
		},
		Judge: func(t suites.Trace) suites.Finding { return judgeClaim(t, want, hellos) },
	}
}

func judgeClaim(t suites.Trace, want string, hellos []hello) suites.Finding {
	var cites []uint64
	observed := ""
	for _, h := range hellos {
		s, ok := seen(t, h.name)
		if !ok {
			return suites.Failing(reasonAbsent, want, "no handshake "+h.name+" is in the evidence", cites)
		}
		cites = joined(cites, s.Cites)
		observed = describeChain(s.Outcome)
		switch {
		case h.there(s.Outcome):
		case s.Outcome.Ending == wire.Silent && t.Noisy(answerWait(t.Claims)):
			return suites.TooNoisy(want, observed, cites)
		default:
			return suites.Failing(reasonAbsent, want, observed, cites)
		}
	}
	return suites.Passing(want, observed, cites)
}

func completed(o wire.Outcome) bool {
	return o.Ending == wire.Completed && o.Flight != nil && o.Flight.FinishedValid
}

// completedWith adds a condition on the server's flight.
func completedWith(f func(wire.Outcome) bool) func(wire.Outcome) bool {
	return func(o wire.Outcome) bool { return completed(o) && f(o) }
}

// leafKind demands an ML-DSA leaf, or a classical one.
func leafKind(mldsaLeaf bool) func(wire.Outcome) bool {
	return completedWith(func(o wire.Outcome) bool {
		pq, ok := leafIsMLDSA(o.Flight.Certificates)
		return ok && pq == mldsaLeaf
	})
}

// fixedOffer makes a client of an offer that does not depend on the target.
func fixedOffer(o wire.Offer) func(*scenarios.Env) wire.Client {
	return func(*scenarios.Env) wire.Client { return wire.Client{Offer: o} }
}

// common makes a client of the ordinary offer with the signatures that are given; nil: all.
func common(schemes []wire.Scheme) func(*scenarios.Env) wire.Client {
	return func(env *scenarios.Env) wire.Client {
		return wire.Client{Offer: withSchemes(ordinary(env.Claims), schemes)}
	}
}

func addGroupClaims() bool {
	for _, g := range pqGroups() {
		addClaim(serverClaim(g.feature, "a handshake with "+g.group.String()+" alone completes", "tls.without-"+g.id,
			hello{"probe", endpoint, fixedOffer(alone(g.group)), completedWith(func(o wire.Outcome) bool {
				return o.Server != nil && o.Server.Group == g.group
			})}))
	}
	return true
}

var (
	_ = addClaim(serverClaim(features.TLSServer, "a handshake of TLS 1.3 completes", "tls.absent",
		hello{"probe", endpoint, common(nil), completed}))
	_ = addGroupClaims()
	_ = addClaim(serverClaim(features.TLSTLS12, "a ServerHello of TLS 1.2", "tls.without-tls12",
		hello{"probe", endpoint, func(*scenarios.Env) wire.Client { return legacy(classicalGroups()...) }, func(o wire.Outcome) bool {
			return o.Legacy != nil && o.Server != nil && o.Server.Version == version12
		}}))
	_ = addClaim(serverClaim(features.TLSMLDSA, "an ML-DSA leaf for a client that offers ML-DSA alone", "tls.without-mldsa",
		hello{"probe", endpoint, common(pqSchemes()), leafKind(true)}))
	_ = addClaim(serverClaim(features.TLSTickets, "a NewSessionTicket", "tls.without-tickets",
		hello{"probe", endpoint, func(env *scenarios.Env) wire.Client {
			return wire.Client{Offer: ordinary(env.Claims), Tickets: 1}
		}, func(o wire.Outcome) bool { return completed(o) && len(o.Tickets) > 0 }}))
	_ = addClaim(serverClaim(features.TLSStaple, "an OCSP response in the entry of the leaf", "tls.staple-missing",
		hello{"probe", endpoint, func(env *scenarios.Env) wire.Client {
			c := wire.Client{Offer: ordinary(env.Claims)}
			c.Offer.Status = true
			return c
		}, completedWith(func(o wire.Outcome) bool { return len(o.Flight.Staple) > 0 })}))
	_ = addClaim(serverClaim(features.TLSDual, "an ML-DSA leaf for a client with ML-DSA alone, a classical one for a client without it",
		"tls.without-mldsa",
		hello{"classical", endpoint, common(classicalSchemes()), leafKind(false)},
		hello{"mldsa", endpoint, common(pqSchemes()), leafKind(true)}))
	_ = addClaim(serverClaim(features.TLSMutual, "a CertificateRequest", "tls.mutual-cert-not-asked",
		hello{"probe", endpointMutual, common(nil), func(o wire.Outcome) bool {
			return o.Flight != nil && o.Flight.FinishedValid && o.Flight.Requested
		}}))
	_ = addClaim(serverClaim(features.TLSClassical, "a handshake with classical groups completes", "tls.absent",
		hello{"probe", endpointClassical, fixedOffer(wire.Offer{
			Groups: classicalGroups(), Shares: []wire.Group{wire.X25519, wire.P256},
		}), completed}))
	_ = addClaim(serverClaim(features.TLSMLDSAOnly, fmt.Sprintf("an ML-DSA leaf at the endpoint %s", endpointMLDSA), "tls.absent",
		hello{"probe", endpointMLDSA, common(nil), leafKind(true)}))
)
