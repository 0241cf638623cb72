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

// clientClaim probes a claim of a client with one dial to a server that does nothing wrong.
func clientClaim(f features.Feature, kind string, wanted func(wire.Heard) string, defect string) suites.Check {
	return suites.Check{
		ID: "claims/" + string(f), Title: "the claimed feature " + string(f) + " is there",
		Covers: []string{"claims/" + string(f)}, Needs: []features.Feature{f},
		Cost: suites.Cost{Time: 100 * time.Millisecond}, Explain: explainClient, Reasons: []string{reasonClientAbsent},
		Drive: func(ctx context.Context, env *scenarios.Env) error {
			return springTrap(ctx, env, trapCase{kind: kind, server: wire.Server{Echo: true}})
		},
		Judge: func(t suites.Trace) suites.Finding {
			const want = "the client completes a handshake"
			heard, err := prober.Heards(t.Evidence)
			if err != nil {
				return suites.Failing(reasonClientAbsent, want, err.Error(), nil)
			}
			hs := heard["trap"]
			cites := citesOf(hs)
			if dials, err := prober.Dials(t.Evidence); err == nil && len(dials) > 0 {
				cites = append(cites, dials[0].Cites...)
			}
			best, said := furthest(hs)
			switch {
			case !said || !best.FinishedValid:
				return suites.Failing(reasonClientAbsent, want, describeHeard(hs), cites)
			case wanted(best) != "":
				return suites.Failing(reasonClientAbsent, want, wanted(best), cites)
			}
			return suites.Passing(want, describeHeard(hs), cites)
		},
		Kills: []suites.Kill{{Defect: defect, Reason: reasonClientAbsent}},
	}
}

const reasonClientAbsent = "client-absent"

func anything(wire.Heard) string { return "" }

var (
	_ = addClaim(clientClaim(features.TLSClient, "ecdsa", anything, "tlsclient.absent"))
	_ = addClaim(clientClaim(features.TLSClientDSA, "mldsa", anything, "tlsclient.mldsa-refused"))
	_ = addClaim(clientClaim(features.TLSClientPQ, "ecdsa", func(h wire.Heard) string {
		if !slices.Contains(h.Hello.Groups, wire.X25519MLKEM768) {
			return fmt.Sprintf("the hello offers %v", h.Hello.Groups)
		}
		return ""
	}, "tlsclient.without-hybrid"))

	_ = addClaim(suites.Check{
		ID: "claims/tls.lab", Title: "the claimed feature tls.lab is there",
		Covers: []string{"claims/tls.lab"}, Needs: []features.Feature{features.TLSLab},
		Cost: suites.Cost{Time: 20 * time.Millisecond}, Reasons: []string{reasonClientAbsent},
		Drive: func(ctx context.Context, env *scenarios.Env) error {
			var counters poolCounters
			return prober.Lab(ctx, env, "GET", "/pool", nil, &counters)
		},
		Judge: func(t suites.Trace) suites.Finding {
			const want = "GET /pool answers with the pool's counters"
			labs, err := prober.Labs(t.Evidence)
			if err != nil || len(labs) == 0 {
				return suites.Failing(reasonClientAbsent, want, fmt.Sprintf("%d calls are recorded (%v)", len(labs), err), nil)
			}
			l := labs[len(labs)-1]
			if l.Broken != "" || l.Status != 200 {
				return suites.Failing(reasonClientAbsent, want, fmt.Sprintf("status %d %s", l.Status, l.Broken), l.Cites)
			}
			return suites.Passing(want, "it does", l.Cites)
		},
		Kills: []suites.Kill{{Defect: "pool.absent", Reason: reasonClientAbsent}},
	})
)
