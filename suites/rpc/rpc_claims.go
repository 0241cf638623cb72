package rpc

import (
	"context"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/wire/rpcframe"
	"github.com/assay-bench/assay/suites"
)

const reasonAbsent = "absent"

// claimForm probes a transport form with one ordinary call.
func claimForm(f features.Feature, form rpcframe.Form, defect string) suites.Check {
	return suites.Check{
		ID: "claims/" + string(f), Title: "the claimed feature " + string(f) + " is there",
		Covers: []string{"claims/" + string(f)}, Needs: []features.Feature{f},
		Cost: suites.Cost{Time: 50 * time.Millisecond}, Explain: explain, Reasons: []string{reasonAbsent},
		Drive: func(ctx context.Context, env *scenarios.Env) error {
			b, err := goodCall(form)
			if err != nil {
				return err
			}
			c, err := once(ctx, env, "probe", form, b, env.Claims.Limits.Answer())
			if err != nil {
				return err
			}
			c.Close()
			return nil
		},
		Judge: func(t suites.Trace) suites.Finding {
			const want = "an ordinary call is answered"
			a := answerOf(exchangesOf(t), "probe", form)
			switch {
			case a.served():
				return suites.Passing(want, a.String(), a.cites())
			case a.kind == quiet && t.Noisy(t.Claims.Limits.Answer()):
				return suites.TooNoisy(want, a.String(), a.cites())
			}
			return suites.Failing(reasonAbsent, want, a.String(), a.cites())
		},
		Kills: []suites.Kill{{Defect: defect, Reason: reasonAbsent}},
	}
}

var (
	_ = addClaim(claimForm(features.RPCBuffered, rpcframe.Buffered, "rpc.refuse-buffered"))
	_ = addClaim(claimForm(features.RPCFramed, rpcframe.Framed, "rpc.refuse-framed"))
	_ = addClaim(claimForm(features.RPCTTHeader, rpcframe.TTHeader, "rpc.refuse-ttheader"))
	_ = addClaim(claimForm(features.RPCTTHeaderFramed, rpcframe.TTHeaderFramed, "rpc.refuse-ttheader-framed"))
	_ = addClaim(claimBehave())
)

// claimBehave probes the behave service in whichever form the target claims.
func claimBehave() suites.Check {
	c := claimForm(features.RPCBehave, rpcframe.Framed, "rpc.behave-absent")
	probes := map[features.Feature]suites.Check{}
	for _, form := range rpcframe.Forms() {
		probes[featureOf(form)] = claimForm(featureOf(form), form, "")
	}
	pick := func(claims interface{ Has(string) bool }) suites.Check {
		for _, form := range rpcframe.Forms() {
			if claims.Has(string(featureOf(form))) {
				return probes[featureOf(form)]
			}
		}
		return probes[features.RPCFramed]
	}
	c.Drive = func(ctx context.Context, env *scenarios.Env) error { return pick(env.Claims).Drive(ctx, env) }
	c.Judge = func(t suites.Trace) suites.Finding { return pick(t.Claims).Judge(t) }
	return c
}
