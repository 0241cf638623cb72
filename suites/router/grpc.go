package router

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/scenarios"
	scenario "github.com/assay-bench/assay/scenarios/router"
	"github.com/assay-bench/assay/suites"
)

// overGRPC finds a call of the gRPC API.
func (s *story) overGRPC(name string) (scenario.GRPCCall, string) {
	for _, e := range s.rest {
		var c scenario.GRPCCall
		if e.Kind == scenario.CalledGRPC && e.Decode(&c) == nil && c.Name == name {
			return c, fmt.Sprintf("%s over gRPC: %s %s", name, c.Code, c.Message)
		}
	}
	return scenario.GRPCCall{}, name + " was not asked over gRPC"
}

// driveGRPC sets a policy and decides a text, over gRPC alone.
func driveGRPC(ctx context.Context, env *scenarios.Env) (err error) {
	g, err := scenario.NewGRPC(env, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	if ok, err := g.SetPolicy(ctx, "set", "probe", scenario.Intents()[1].Examples); err != nil || !ok {
		return err
	}
	return g.Decide(ctx, "decide", example(1, 0))
}

func (s *story) grpcWorks() (ok bool, observed string) {
	set, what := s.overGRPC("set")
	d, then := s.overGRPC("decide")
	return set.Code == "OK" && d.Code == "OK" && d.Decision != nil && d.Decision.Policy != "", what + "; " + then
}

var _ = add(apiRow(suites.Check{
	ID: "router/face/grpc-parity", Title: "HTTP and gRPC give the same decision",
	Needs: []features.Feature{features.RouterGRPC}, Kills: kill(reasonDiffers, "router.vector-order"),
}, "policy, votes, neighbours, version and vector of a text are equal over both faces", []string{reasonMissing, reasonDiffers},
	apiCase{drive: func(ctx context.Context, b *bench) (err error) {
		if err := b.taught(ctx, scenario.Settings{}, scenario.RowsExamples); err != nil {
			return err
		}
		g, err := scenario.NewGRPC(b.env, b.Router())
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, g.Close()) }()
		for i, text := range someTexts()[:6] {
			if _, err := b.decide(ctx, named("http-%d", i), scenario.OfText(text)); err != nil {
				return err
			}
			if err := g.Decide(ctx, named("grpc-%d", i), text); err != nil {
				return err
			}
		}
		return nil
	}, wrong: func(s *story) (string, string) {
		for i := range 6 {
			h, ok := read[scenario.Decision](s, named("http-%d", i))
			g, what := s.overGRPC(named("grpc-%d", i))
			if !ok || g.Decision == nil {
				return reasonMissing, s.describe(named("http-%d", i)) + "; " + what
			}
			d := g.Decision
			if h.Policy != d.Policy || h.Version != d.Version || h.VersionDigest != d.VersionDigest || !slices.Equal(h.Votes, d.Votes) || !sameFloats(h.Vector, d.Vector) || len(h.Neighbours) != len(d.Neighbours) {
				return reasonDiffers, fmt.Sprintf("text %d: %q with vector %.2g apart, over gRPC %q", i, h.Policy, apart(h.Vector, d.Vector), d.Policy)
			}
		}
		return "", "6 texts, equal over both faces"
	}},
))

// sameFloats compares vectors as float32: the shortest decimals of one face are not the bits of the other.
func sameFloats(a, b []float64) bool {
	return len(a) > 0 && slices.EqualFunc(a, b, func(x, y float64) bool {
		return math.Float32bits(float32(x)) == math.Float32bits(float32(y))
	})
}
