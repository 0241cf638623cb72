package router

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	scenario "github.com/assay-bench/assay/scenarios/router"
)

// bench is what a drive has of a router: the API, with a router of its own.
type bench struct {
	*scenario.API
	env *scenarios.Env
}

// Ends of a drive that the evidence explains.
var (
	errDead  = errors.New("the target does not answer")
	errUnset = errors.New("the target refused what the case begins with")
)

// driving makes a drive on a bench. The router is removed at its end.
func driving(f func(context.Context, *bench) error) func(context.Context, *scenarios.Env) error {
	return func(ctx context.Context, env *scenarios.Env) (err error) {
		b := &bench{scenario.NewAPI(env), env}
		defer func() { err = errors.Join(err, b.Close(ctx)) }()
		if err := f(ctx, b); !errors.Is(err, errDead) && !errors.Is(err, errUnset) {
			return err
		}
		return nil
	}
}

// own calls an operation of the router of the case; an answer of whatever kind is no error, none is errDead.
func (b *bench) own(ctx context.Context, name, method, path string, body, into any) (scenario.Call, error) {
	c, err := b.Own(ctx, name, method, path, body, into)
	if err == nil && !c.Answered() {
		err = errDead
	}
	return c, err
}

// whole calls an operation of the target as a whole.
func (b *bench) whole(ctx context.Context, name, method, path string, body, into any) (scenario.Call, error) {
	c, err := b.Call(ctx, name, method, path, body, into)
	if err == nil && !c.Answered() {
		err = errDead
	}
	return c, err
}

// must is for calls without which the case says nothing: a refusal ends the drive.
func (b *bench) must(ctx context.Context, name, method, path string, body, into any) error {
	c, err := b.own(ctx, setup+name, method, path, body, into)
	if err == nil && !c.Good() {
		return errUnset
	}
	return err
}

// router makes the case's router.
func (b *bench) router(ctx context.Context, s scenario.Settings) error {
	return b.must(ctx, "router", http.MethodPut, "", s, nil)
}

// policies sets policies as one version.
func (b *bench) policies(ctx context.Context, name string, all map[string]scenario.Policy) error {
	return b.must(ctx, name, http.MethodPost, "/policies", scenario.PolicyBatch{Policies: all}, nil)
}

// taught makes a router with a policy for each intent, learned from its examples.
func (b *bench) taught(ctx context.Context, s scenario.Settings, rows string) error {
	if err := b.router(ctx, s); err != nil {
		return err
	}
	return b.policies(ctx, "policies", taught(rows))
}

func taught(rows string) map[string]scenario.Policy {
	all := map[string]scenario.Policy{}
	for _, in := range scenario.Intents() {
		all[in.Name] = scenario.Policy{Examples: in.Examples, Rows: rows}
	}
	return all
}

func (b *bench) decide(ctx context.Context, name string, q scenario.DecideRequest) (d scenario.Decision, err error) {
	_, err = b.own(ctx, name, http.MethodPost, "/decide", q, &d)
	return d, err
}

// decideAll asks for several decisions at once.
func (b *bench) decideAll(ctx context.Context, name string, qs ...scenario.DecideRequest) (all []scenario.Decision, err error) {
	var out scenario.Decisions
	_, err = b.own(ctx, name, http.MethodPost, "/decide-batch", scenario.DecideBatch{Requests: qs}, &out)
	return out.Decisions, err
}

func (b *bench) embed(ctx context.Context, name string, texts ...string) (scenario.Embedded, error) {
	var out scenario.Embedded
	_, err := b.own(ctx, name, http.MethodPost, "/embed", scenario.EmbedRequest{Texts: texts}, &out)
	return out, err
}

func (b *bench) stats(ctx context.Context, name string) (out scenario.RouterStats, err error) {
	_, err = b.own(ctx, name, http.MethodGet, "/stats", nil, &out)
	return out, err
}

func (b *bench) state(ctx context.Context, name string) (out scenario.State, err error) {
	_, err = b.own(ctx, name, http.MethodGet, "", nil, &out)
	return out, err
}

// version reads a version with all its rows.
func (b *bench) version(ctx context.Context, name string, v int64) (out scenario.Version, err error) {
	_, err = b.own(ctx, name, http.MethodGet, fmt.Sprintf("/versions/%d", v), nil, &out)
	return out, err
}

// feedback sends one batch of outcomes.
func (b *bench) feedback(ctx context.Context, name string, events ...scenario.FeedbackEvent) (out scenario.FeedbackAnswer, err error) {
	_, err = b.own(ctx, name, http.MethodPost, "/feedback", scenario.FeedbackBatch{Events: events}, &out)
	return out, err
}

// record puts a further fact into evidence.
func (b *bench) record(kind results.Kind, data any) error { return b.env.Record(kind, data) }
