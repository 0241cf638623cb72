package tls

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/scenarios"
	drive "github.com/assay-bench/assay/scenarios/tls"
	wire "github.com/assay-bench/assay/scenarios/wire/tls"
	"github.com/assay-bench/assay/suites"
)

const (
	reasonNoStaple     = "no-staple"
	reasonStapleBad    = "staple-refused"   // a response that does not speak for the leaf
	reasonStaplePlace  = "staple-elsewhere" // in another entry than the leaf's
	reasonUnasked      = "staple-unasked"
	reasonNotRefreshed = "not-refreshed"
	reasonOlder        = "older-staple" // the new response was produced before the old one
	reasonNoRefresh    = "lab-refused"  // the target's lab did not take the order to refresh
)

const clauseStaple = "RFC 9846 section 4.5.1.1"

var _ = add(suites.Check{
	ID: "tls/ocsp/staple-sent", Title: "an OCSP response is stapled to the leaf when it is asked for, and only then",
	Covers: []string{"tls/ocsp/staple-sent"}, Needs: []features.Feature{features.TLSServer, features.TLSStaple},
	Cases: []suites.Case{{ID: "asked", Title: "with status_request"}, {ID: "not-asked", Title: "without status_request"}},
	Cost:  suites.Cost{Time: 100 * time.Millisecond}, Explain: explain,
	Reasons: reasonsOf(serviceReasons(), []string{reasonNoStaple, reasonStapleBad, reasonStaplePlace, reasonUnasked}),
	Drive: func(ctx context.Context, env *scenarios.Env) error {
		c := wire.Client{Offer: ordinary(env.Claims), Wait: answerWait(env.Claims)}
		c.Offer.Status = env.Key.Case == "asked"
		_, err := drive.Probe(ctx, env, endpoint, "probe", c)
		return err
	},
	Judge: judgeStapled,
	Kills: kills(
		killsIn("tls.staple-missing", reasonNoStaple, "asked"),
		killsIn("tls.staple-unasked", reasonUnasked, "not-asked"),
	),
})

func judgeStapled(t suites.Trace) suites.Finding {
	want := "no OCSP response: " + clauseStaple
	if t.Key.Case == "asked" {
		want = "an OCSP response in the entry of the leaf that verifies and says good: " + clauseStaple + "; RFC 6960 section 3.2"
	}
	h, ok := seen(t, "probe")
	if !ok {
		return missing(want, "probe")
	}
	o := h.Outcome
	reason, observed := served(o, 0), describe(o)
	if reason == "" && o.Flight == nil {
		reason = reasonGarbled
	}
	if reason == "" {
		var more string
		if t.Key.Case == "asked" {
			reason, more = stapleReason(t, h)
		} else if len(o.Flight.Staple) > 0 || o.Flight.StapleElsewhere {
			reason, more = reasonUnasked, fmt.Sprintf("a response of %d bytes", len(o.Flight.Staple))
		}
		observed += "; " + more
	}
	return judged(t, reason, want, observed, h.Cites)
}

// stapleReason tells why the staple does not speak for the leaf, or nothing, and what it says. The issuer is
// another certificate that was sent, in any order (RFC 9846 section 4.5.1), or a root of the target.
func stapleReason(t suites.Trace, h drive.Seen) (reason, observed string) {
	f := h.Outcome.Flight
	switch {
	case len(f.Staple) == 0 && f.StapleElsewhere:
		return reasonStaplePlace, "no response in the entry of the leaf, and one in another"
	case len(f.Staple) == 0:
		return reasonNoStaple, "no response"
	case len(f.Certificates) == 0:
		return reasonGarbled, "a response, and no certificate"
	}
	observed = fmt.Sprintf("a response of %d bytes", len(f.Staple))
	issuers := f.Certificates[1:min(len(f.Certificates), maxIssued)]
	if t.Claims.TLS != nil {
		issuers = slices.Concat(issuers, certificatesOf(t.Claims.TLS.Roots))
	}
	why := "the issuer of the leaf is not known"
	for i, issuer := range issuers {
		err := drive.CheckStaple(f.Staple, f.Certificates[0], issuer, h.Wall)
		if err == nil {
			return "", observed + " that verifies"
		}
		if i == 0 { // the likeliest issuer says most
			why = err.Error()
		}
	}
	return reasonStapleBad, observed + ": " + why
}

// refreshes is how often the response is looked at after the order to refresh it, refreshPause apart. The
// times in a response are whole seconds, so that within one second a new response can equal the old one.
const (
	refreshes    = 10
	refreshPause = 250 * time.Millisecond
)

var _ = add(suites.Check{
	ID: "tls/ocsp/refresh", Title: "a new OCSP response takes the place of the old one, and none is missing meanwhile",
	Covers: []string{"tls/ocsp/refresh"}, Needs: []features.Feature{features.TLSServer, features.TLSStaple, features.TLSLab},
	Cost: suites.Cost{Time: 2 * time.Second}, Explain: explain,
	Reasons: reasonsOf(serviceReasons(), []string{reasonNoStaple, reasonNotRefreshed, reasonOlder, reasonNoRefresh}),
	Drive:   driveRefresh, Judge: judgeRefresh,
	Kills: []suites.Kill{{Defect: "tls.staple-not-refreshed", Reason: reasonNotRefreshed}},
})

// driveRefresh looks at the response, then orders a new one and looks again until it differs.
func driveRefresh(ctx context.Context, env *scenarios.Env) error {
	before, err := lookAtStaple(ctx, env, "before")
	if err != nil || len(before) == 0 {
		return err
	}
	tick := time.NewTicker(refreshPause)
	defer tick.Stop()
	for i := range refreshes {
		if err := drive.Lab(ctx, env, "POST", "/ocsp/refresh", struct{}{}, nil); err != nil {
			return err
		}
		after, err := lookAtStaple(ctx, env, fmt.Sprintf("after-%d", i))
		if err != nil || !bytes.Equal(before, after) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func lookAtStaple(ctx context.Context, env *scenarios.Env, name string) ([]byte, error) {
	c := wire.Client{Offer: ordinary(env.Claims), Wait: answerWait(env.Claims)}
	c.Offer.Status = true
	o, err := drive.Probe(ctx, env, endpoint, name, c)
	if err != nil || o.Flight == nil {
		return nil, err
	}
	return o.Flight.Staple, nil
}

func judgeRefresh(t suites.Trace) suites.Finding {
	const want = "another response, not produced earlier, after the order to refresh it, and a response on every connection: assay TLS rules"
	before, ok := seen(t, "before")
	if !ok {
		return missing(want, "before")
	}
	if r, observed := stapled(before); r != "" {
		return judged(t, r, want, observed, before.Cites)
	}
	cites := before.Cites
	for i := range refreshes {
		after, ok := seen(t, fmt.Sprintf("after-%d", i))
		if !ok {
			break
		}
		cites = joined(before.Cites, after.Cites)
		if r, observed := stapled(after); r != "" {
			return judged(t, r, want, observed, cites)
		}
		if !bytes.Equal(before.Outcome.Flight.Staple, after.Outcome.Flight.Staple) {
			return judgeReplaced(want, before, after, cites)
		}
	}
	if calls, err := drive.Labs(t.Evidence); err == nil && len(calls) > 0 && calls[0].Broken != "" {
		return suites.Failing(reasonNoRefresh, want, "POST /ocsp/refresh: "+calls[0].Broken, joined(cites, calls[0].Cites))
	}
	return suites.Failing(reasonNotRefreshed, want, "the same response each time", cites)
}

// stapled tells why a handshake has no response, or nothing.
func stapled(h drive.Seen) (reason, observed string) {
	if r := served(h.Outcome, 0); r != "" {
		return r, describe(h.Outcome)
	}
	if h.Outcome.Flight == nil || len(h.Outcome.Flight.Staple) == 0 {
		return reasonNoStaple, describe(h.Outcome) + "; no response"
	}
	return "", ""
}

func judgeReplaced(want string, before, after drive.Seen, cites []uint64) suites.Finding {
	older, err := drive.ParseStaple(before.Outcome.Flight.Staple)
	if err != nil {
		return suites.Failing(reasonGarbled, want, err.Error(), cites)
	}
	newer, err := drive.ParseStaple(after.Outcome.Flight.Staple)
	if err != nil {
		return suites.Failing(reasonGarbled, want, err.Error(), cites)
	}
	observed := fmt.Sprintf("produced at %s, then at %s", older.ProducedAt.Format(time.RFC3339), newer.ProducedAt.Format(time.RFC3339))
	if newer.ProducedAt.Before(older.ProducedAt) {
		return suites.Failing(reasonOlder, want, observed, cites)
	}
	return suites.Passing(want, observed, cites)
}
