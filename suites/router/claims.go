package router

import (
	"context"
	"errors"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/scenarios"
	scenario "github.com/assay-bench/assay/scenarios/router"
	"github.com/assay-bench/assay/suites"
)

// claim probes a feature with what its control does.
func claim(f features.Feature, defect, want string, needs []features.Feature, try func(context.Context, *scenarios.Env) error, works func(*story) (bool, string), more ...string) suites.Check {
	return suites.Check{
		ID: "claims/" + string(f), Title: "the claimed feature " + string(f) + " is there",
		Needs: append([]features.Feature{f}, needs...), Reasons: []string{reasonAbsent},
		Drive: try,
		Judge: told(want, func(_ suites.Trace, s *story) suites.Finding {
			ok, observed := works(s)
			if !ok {
				return s.fail(reasonAbsent, observed)
			}
			return s.pass(observed)
		}),
		Kills: kill(reasonAbsent, append([]string{defect}, more...)...),
	}
}

var _ = addClaim(exclusive(claim(features.RouterOpenAI, "router.openai-absent", "a request for the router's choice is answered by an upstream",
	nil, driveChat, (*story).chatWorks)))

var _ = addClaim(claim(features.RouterAPI, "router.absent", "policies are learned, a text decided, and feedback on it is taken", nil,
	driving(func(ctx context.Context, b *bench) error {
		if err := b.taught(ctx, scenario.Settings{}, scenario.RowsExamples); err != nil {
			return err
		}
		d, err := b.decide(ctx, "decide", scenario.OfText(example(2, 1)))
		if err == nil {
			_, err = b.feedback(ctx, "feedback", scenario.FeedbackEvent{Decision: d.Decision, Outcome: scenario.Confirmed, Source: "probe"})
		}
		return err
	}), func(s *story) (bool, string) {
		ok, observed := s.apiWorks()
		answer, taken := read[scenario.FeedbackAnswer](s, "feedback")
		return ok && taken && len(answer.Results) == 1, observed + "; " + s.describe("feedback")
	}, "router.feedback-absent"))

var _ = addClaim(exclusive(claim(features.RouterGRPC, "router.grpc-absent", "a policy is set and a text decided over gRPC", nil, driveGRPC, (*story).grpcWorks)))

var _ = addClaim(claim(features.RouterMultimodal, "router.multimodal-absent", "a text is answered by an upstream", []features.Feature{features.RouterAPI},
	func(ctx context.Context, env *scenarios.Env) (err error) {
		up, err := scenario.OpenUpstreams(ctx, env, 1)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, up.Close(ctx)) }()
		return driving(func(ctx context.Context, b *bench) error {
			return invoke([]string{"text"}, words())(ctx, &fleet{b, up})
		})(ctx, env)
	}, func(s *story) (bool, string) {
		reason, observed := reached(s)
		return reason == "", observed
	}))

// exclusive keeps other cases away: a router is told of upstreams as a whole.
func exclusive(c suites.Check) suites.Check {
	c.Cost.Exclusive = true
	return c
}
