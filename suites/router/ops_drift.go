package router

import (
	"context"
	"fmt"
	"net/http"
	"time"

	scenario "github.com/assay-bench/assay/scenarios/router"
	"github.com/assay-bench/assay/suites"
)

const (
	reasonSilent     = "silent"      // drift raises no alert
	reasonFalseAlarm = "false-alarm" // an alert without drift
)

// driftThreshold is in nats (the design).
const driftThreshold = 0.15

// strange are texts of a kind that no policy has examples of.
func strange(i int) string {
	words := []string{"quark", "lepton", "boson", "hadron", "gluon", "neutrino", "muon", "tauon"}
	return fmt.Sprintf("%s %s %s %s %s", words[i%8], words[(i+3)%8], words[(i+5)%8], words[(i/8)%8], words[(i/3)%8])
}

// drifting decides n texts and asks for the drift.
func drifting(text func(int) string) func(context.Context, *bench) error {
	return func(ctx context.Context, b *bench) error {
		if err := b.taught(ctx, scenario.Settings{}, scenario.RowsCentroid); err != nil {
			return err
		}
		for i := 0; i < 240; i += 60 {
			var qs []scenario.DecideRequest
			for k := range 60 {
				text := text(i + k)
				qs = append(qs, scenario.DecideRequest{Text: &text})
			}
			if _, err := b.decideAll(ctx, "", qs...); err != nil {
				return err
			}
		}
		_, err := b.own(ctx, "drift", http.MethodGet, "/drift", nil, nil)
		return err
	}
}

// drift reads what the router measured.
func (s *story) drift() (d scenario.Drift, reason, observed string) {
	d, ok := read[scenario.Drift](s, "drift")
	observed = fmt.Sprintf("tokens %.3f nats, features %.3f nats, of %d texts against %d, threshold %g, alert %v", d.Tokens, d.Features, d.N, d.Reference, d.Threshold, d.Alert)
	if !ok || d.N == 0 || d.Threshold != driftThreshold || d.Minimum > 240 || !finite([]float64{d.Tokens, d.Features}) {
		return d, reasonMissing, s.describe("drift") + "; " + observed
	}
	return d, "", observed
}

var _ = add(apiRow(suites.Check{
	ID: "router/ops/drift", Title: "drift above the threshold raises an alert, and what is like the examples none", Cost: took(200 * time.Millisecond),
	Kills: kills(killIn("strange", reasonSilent, "router.drift-silent"), killIn("alike", reasonFalseAlarm, "router.drift-always")),
}, "the divergence is above 0.15 nats for texts of another kind, with an alert, and below for the examples themselves, without", []string{reasonMissing, reasonSilent, reasonFalseAlarm},
	apiCase{id: "strange", title: "texts of another kind", drive: drifting(strange), wrong: func(s *story) (string, string) {
		d, reason, observed := s.drift()
		if reason == "" && (!d.Alert || max(d.Tokens, d.Features) <= driftThreshold) {
			reason = reasonSilent
		}
		return reason, observed
	}},
	apiCase{id: "alike", title: "the examples, in turn", drive: drifting(func(i int) string { return example(i%upstreamsOf, i/upstreamsOf) }), wrong: func(s *story) (string, string) {
		d, reason, observed := s.drift()
		if reason == "" && (d.Alert || max(d.Tokens, d.Features) > driftThreshold) {
			reason = reasonFalseAlarm
		}
		return reason, observed
	}},
))
