package tls

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/scenarios"
	prober "github.com/assay-bench/assay/scenarios/tls"
	wire "github.com/assay-bench/assay/scenarios/wire/tls"
	"github.com/assay-bench/assay/suites"
)

func poolNeeds() []features.Feature { return []features.Feature{features.TLSClient, features.TLSLab} }

// Reasons of checks on resumption by a client.
const (
	reasonNoneOffered = "no-ticket-offered" // the second connection offered nothing to resume
	reasonPSKWithout  = "psk-without-dhe"
	reasonTicketTwice = "ticket-reused"
	reasonEarlyData   = "early-data"
	reasonOtherClass  = "ticket-in-other-class"
)

// resuming makes dials one after another, each on a connection of its own: the server sends tickets and the
// idle limit closes what the pool would keep.
func resuming(ctx context.Context, env *scenarios.Env, reqs ...prober.DialRequest) error {
	return poolTrap(ctx, env, poolLimits{MaxAgeMillis: 1}, wire.Server{Tickets: 2}, func(trap *prober.Trap) error {
		for i, req := range reqs {
			if i > 0 {
				if err := pause(ctx, 10*time.Millisecond); err != nil { // beyond the age limit of the pool
					return err
				}
			}
			if err := through(ctx, env, trap, fmt.Sprintf("dial-%d", i), req); err != nil {
				return err
			}
		}
		return nil
	})
}

// offeringTicket lists the connections whose hello offered a ticket.
func offeringTicket(hs []prober.SeenHeard) []prober.SeenHeard {
	return slices.DeleteFunc(slices.Clone(hs), func(h prober.SeenHeard) bool { return h.Heard.Hello == nil || h.Heard.Hello.Tickets == 0 })
}

// clientResumption is a check on the hellos that offer a ticket.
func clientResumption(c suites.Check, dials []prober.DialRequest, want string, wrong func([]prober.SeenHeard) (reason, observed string), own string) suites.Check {
	c.Drive = func(ctx context.Context, env *scenarios.Env) error { return resuming(ctx, env, dials...) }
	c.Judge = func(t suites.Trace) suites.Finding {
		s, failed := readPool(t)
		if failed != nil {
			return *failed
		}
		hs := offeringTicket(s.heard)
		if len(hs) == 0 {
			return suites.Failing(reasonNoneOffered, want, fmt.Sprintf("none of %d hellos offers a ticket", len(s.heard)), s.cites)
		}
		if reason, observed := wrong(hs); reason != "" {
			return suites.Failing(reason, want, observed, s.cites)
		}
		return suites.Passing(want, fmt.Sprintf("%d of %d hellos offer a ticket", len(hs), len(s.heard)), s.cites)
	}
	return pooled(c, reasonNoneOffered, own)
}

func twice() []prober.DialRequest { return make([]prober.DialRequest, 2) }

var (
	_ = add(clientResumption(suites.Check{
		ID: "tls/resume/dhe-kept-by-client", Title: "a client resumes with a fresh key share only",
		Covers: []string{"tls/resume/dhe-only"},
		Kills:  killsIn("tlsclient.psk-ke-offered", reasonPSKWithout, ""),
	}, twice(), "psk_key_exchange_modes holds psk_dhe_ke (1) alone, beside a share: assay TLS rules", func(hs []prober.SeenHeard) (string, string) {
		for _, h := range hs {
			if hello := h.Heard.Hello; !slices.Equal(hello.Modes, []uint8{1}) || len(hello.Shares) == 0 {
				return reasonPSKWithout, fmt.Sprintf("modes %d, %d shares", hello.Modes, len(hello.Shares))
			}
		}
		return "", ""
	}, reasonPSKWithout))

	_ = add(clientResumption(suites.Check{
		ID: "tls/resume/no-early-data", Title: "the pool sends no 0-RTT",
		Covers: []string{"tls/resume/no-early-data"},
		Kills:  killsIn("tlsclient.early-data-offered", reasonEarlyData, ""),
	}, twice(), "no early_data in a resumed hello", func(hs []prober.SeenHeard) (string, string) {
		for _, h := range hs {
			if h.Heard.Hello.Early {
				return reasonEarlyData, "early_data is offered"
			}
		}
		return "", ""
	}, reasonEarlyData))

	_ = add(clientResumption(suites.Check{
		ID: "tls/resume/ticket-once", Title: "a ticket is not offered twice",
		Covers: []string{"tls/resume/ticket-once"},
		Kills:  killsIn("pool.ticket-reused", reasonTicketTwice, ""),
	}, make([]prober.DialRequest, 4), "every hello offers another ticket (RFC 9846 section C.4)", func(hs []prober.SeenHeard) (string, string) {
		seen := map[string]bool{}
		for _, h := range hs {
			if seen[h.Heard.Ticket] {
				return reasonTicketTwice, "a ticket is offered by two hellos"
			}
			seen[h.Heard.Ticket] = true
		}
		return "", ""
	}, reasonTicketTwice))

	_ = add(pooled(suites.Check{
		ID: "tls/resume/class-bound-by-client", Title: "a ticket is offered only in the group class that it came in",
		Covers: []string{"tls/resume/class-bound"},
		Cases: []suites.Case{
			{ID: "hybrid-then-classical", Title: "of a hybrid connection, to a classical one"},
			{ID: "classical-then-hybrid", Title: "of a classical connection, to a hybrid one"},
		},
		Drive: func(ctx context.Context, env *scenarios.Env) error {
			pq, classical := prober.DialRequest{Groups: []string{"X25519MLKEM768"}}, prober.DialRequest{Groups: []string{"X25519"}}
			if env.Key.Case == "hybrid-then-classical" {
				return resuming(ctx, env, pq, classical, pq)
			}
			return resuming(ctx, env, classical, pq, classical)
		},
		Judge: func(t suites.Trace) suites.Finding {
			const want = "the second hello, of the other class, offers no ticket; the third, of the same class, does"
			s, failed := readPool(t)
			if failed != nil {
				return *failed
			}
			if len(s.heard) != 3 || s.heard[1].Heard.Hello == nil || s.heard[2].Heard.Hello == nil {
				return suites.Failing(reasonNoneOffered, want, fmt.Sprintf("%d connections: %s", len(s.heard), describeHeard(s.heard)), s.cites)
			}
			other, same := s.heard[1].Heard.Hello.Tickets, s.heard[2].Heard.Hello.Tickets
			observed := fmt.Sprintf("the second offers %d tickets, the third %d", other, same)
			switch {
			case other > 0:
				return suites.Failing(reasonOtherClass, want, observed, s.cites)
			case same == 0:
				return suites.Failing(reasonNoneOffered, want, observed, s.cites)
			}
			return suites.Passing(want, observed, s.cites)
		},
		Kills: killsIn("pool.class-shared", reasonOtherClass, "hybrid-then-classical", "classical-then-hybrid"),
	}, reasonNoneOffered, reasonOtherClass))
)
