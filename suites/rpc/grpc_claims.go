package rpc

import (
	"context"
	"net/http"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/fixtures/idl/behavepb"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/grpc"
	"github.com/assay-bench/assay/suites"
)

var (
	_ = addClaim(grpcClaim(features.GRPCInterop, "grpc.empty-unary-fails", "EmptyCall and FullDuplexCall of the interop service are answered",
		driveClaimInterop,
		func(g *grpcTrial) {
			judgeEmptyUnary(g)
			if c, ok := g.good(grpcBefore); ok {
				g.sizes(c, grpcGoodSize)
			}
		}))
	_ = addClaim(grpcClaim(features.GRPCBehave, "grpc.behave-absent", "Echo of the behave service returns the body",
		driveClaimBehave,
		func(g *grpcTrial) {
			c, ok := g.good(grpcProbe)
			if ok && (len(c.Received) != 1 || grpcField[string](c.Received[0], "body") != "YXNzYXk=") {
				g.object(reasonAbsent, "want the body %q back: %s", grpcClaimBody, c)
			}
		}))
	_ = addClaim(grpcClaim(features.GRPCHealth, "health.absent", "the health of the whole server is answered",
		func(d grpcDriver) error { return driveHealth(d.ctx, d.env, "") },
		func(g *grpcTrial) {
			c, ok := g.good(healthLabel(""))
			if s := healthStatus(c); ok && s != "SERVING" && s != "NOT_SERVING" {
				g.object(reasonAbsent, "the status is %q: %s", s, c)
			}
		}))
	_ = addClaim(claimAdmin())
)

// driveClaimInterop makes a second call with content, because a server that answers anything with
// nothing answers EmptyCall well.
func driveClaimInterop(d grpcDriver) error {
	if err := driveEmptyUnary(d); err != nil {
		return err
	}
	_, err := d.good(grpcBefore)
	return err
}

// grpcClaimBody is what the probe of the behave service sends; YXNzYXk= in JSON.
const grpcClaimBody = "assay"

func driveClaimBehave(d grpcDriver) error {
	_, err := d.client.Unary(d.ctx, grpcProbe, behavepb.Behave_Echo_FullMethodName,
		&behavepb.Msg{Body: []byte(grpcClaimBody)}, new(behavepb.Msg), grpc.Options{})
	return err
}

// grpcClaim probes a feature with one good call; whatever is wrong with it means that it is absent.
func grpcClaim(f features.Feature, defect, want string, drive func(grpcDriver) error, judge func(*grpcTrial)) suites.Check {
	return suites.Check{
		ID: "claims/" + string(f), Title: "the claimed feature " + string(f) + " is there",
		Covers: []string{"claims/" + string(f)}, Needs: []features.Feature{f},
		Cost: suites.Cost{Time: 50 * time.Millisecond}, Explain: grpcExplain, Reasons: []string{reasonAbsent},
		Drive: func(ctx context.Context, env *scenarios.Env) error { return withGRPC(ctx, env, drive) },
		Judge: func(t suites.Trace) suites.Finding {
			g := grpcTrialOf(t, want)
			judge(g)
			return grpcAsAbsent(g.finding())
		},
		Kills: []suites.Kill{{Defect: defect, Reason: reasonAbsent}},
	}
}

// grpcAsAbsent gives every failure the one reason of a probe.
func grpcAsAbsent(f suites.Finding) suites.Finding {
	if f.Reason != "" && f.Reason != suites.ReasonHostNoise {
		f.Reason = reasonAbsent
	}
	return f
}

func claimAdmin() suites.Check {
	c := grpcClaim(features.AdminHTTP, "admin.absent", "", nil, nil)
	c.Explain = healthExplain
	c.Drive = func(ctx context.Context, env *scenarios.Env) error {
		if err := healthGet(ctx, env, healthLive); err != nil {
			return err
		}
		return healthGet(ctx, env, healthReady)
	}
	c.Judge = func(t suites.Trace) suites.Finding {
		f := judgeHealthGet(t, healthLive)
		f.Expected = "GET /healthz is answered 200, GET /readyz 200 or 503"
		ready := healthAnswerOf(t, healthReady)
		f.Cites = joined(f.Cites, ready.cites)
		f.Observed += "; " + ready.observed
		if f.Reason == "" && ready.status != http.StatusOK && ready.status != http.StatusServiceUnavailable {
			f = suites.Failing(reasonAbsent, f.Expected, f.Observed, f.Cites)
		}
		return grpcAsAbsent(f)
	}
	return c
}
