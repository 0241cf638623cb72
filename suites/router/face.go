package router

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	scenario "github.com/assay-bench/assay/scenarios/router"
	"github.com/assay-bench/assay/suites"
)

const (
	reasonNoProblem   = "no-problem"   // an error is not a problem of RFC 9457
	reasonWrongStatus = "wrong-status" // refused with another status
)

// refusedCall is a call that must be refused with a status.
func refusedCall(id, title, method, path string, body any, status int) apiCase {
	return apiCase{id: id, title: title, drive: func(ctx context.Context, b *bench) error {
		if err := b.taught(ctx, scenario.Settings{}, scenario.RowsCentroid); err != nil {
			return err
		}
		_, err := b.state(ctx, "before")
		if err == nil {
			_, err = b.Own(ctx, "refused", method, path, body, nil) // an answer that is not JSON is what is looked for
		}
		if err == nil {
			_, err = b.state(ctx, "after")
		}
		return err
	}, wrong: func(s *story) (string, string) {
		c := s.calls["refused"]
		p, ok := c.Problem()
		observed := answered(c)
		before, _ := read[scenario.State](s, "before")
		after, ok1 := read[scenario.State](s, "after")
		switch {
		case !ok1 || before.Digest != after.Digest:
			return reasonHalfDone, fmt.Sprintf("version %d before, %d after", before.Version, after.Version)
		case c.Status < 300 && c.Status != 0:
			return reasonTaken, observed
		case c.Status >= 500:
			return reasonServerError, observed
		case !ok || p.Title == "" || p.Type == "":
			return reasonNoProblem, observed
		case p.Status != status:
			return reasonWrongStatus, observed
		}
		return "", observed
	}}
}

// problemRow is apiRow for calls whose answer may be anything.
func problemRow(c suites.Check, want string, own []string, cases ...apiCase) suites.Check {
	c = apiRow(c, want, own, cases...)
	find := c.Judge
	c.Judge = func(t suites.Trace) suites.Finding {
		s, err := tell(t.Evidence)
		if err != nil {
			return suites.Finding{Observed: err.Error()}
		}
		if x, there := s.calls["refused"]; there && !x.Answered() && x.Status != 0 {
			f := s.fail(reasonNoProblem, answered(x))
			f.Expected = want
			return f
		}
		return find(t)
	}
	return c
}

var _ = add(problemRow(suites.Check{
	ID: "router/face/problems", Title: "errors of the API are problem details",
	Kills: kill(reasonNoProblem, "router.problem-plain"),
}, "the status of the case, and a JSON object with type, title and status", []string{reasonNoProblem, reasonWrongStatus, reasonTaken, reasonServerError, reasonHalfDone},
	refusedCall("unknown-policy", "an unknown policy", http.MethodGet, "/policies/nobody", nil, 404),
	refusedCall("unknown-decision", "an unknown decision", http.MethodGet, "/decisions/none", nil, 404),
	refusedCall("unknown-version", "a version that never was", http.MethodGet, "/versions/999999", nil, 404),
	refusedCall("rollback-unknown", "a roll back to a version that never was", http.MethodPost, "/rollback", map[string]int{"version": 999999}, 404),
	refusedCall("not-json", "a body that is not JSON", http.MethodPost, "/decide", []byte(`{"text":`), 400),
	refusedCall("wrong-type", "a text that is a number", http.MethodPost, "/decide", []byte(`{"text":5}`), 400),
	refusedCall("both", "a text and a vector", http.MethodPost, "/decide", map[string]any{"text": "x", "vector": axis(0, 1)}, 400),
	refusedCall("neither", "neither text nor vector", http.MethodPost, "/decide", []byte(`{}`), 400),
	refusedCall("k", "k of 0", http.MethodPut, "", []byte(`{"k":0}`), 400),
	refusedCall("margin", "a margin that is no number", http.MethodPut, "", []byte(`{"margin":1e999}`), 400),
	refusedCall("eta", "an eta below 0", http.MethodPut, "", []byte(`{"feedback":{"eta":-1}}`), 400),
	refusedCall("model", "a model that is not loaded", http.MethodPut, "", []byte(`{"model":"nobody"}`), 404),
	refusedCall("outcome", "an outcome that there is not", http.MethodPost, "/feedback", []byte(`{"events":[{"decision":"x","outcome":"maybe"}]}`), 400),
))

var _ = add(problemRow(suites.Check{
	ID: "router/face/strict", Title: "members that nobody knows, repeated ones and further data are refused",
	Kills: killIn("unknown", reasonTaken, "router.unknown-member-ok"),
}, "400 as a problem, and no change", []string{reasonNoProblem, reasonWrongStatus, reasonTaken, reasonServerError, reasonHalfDone},
	refusedCall("unknown", "an unknown member", http.MethodPost, "/decide", []byte(`{"text":"rain","texts":[]}`), 400),
	refusedCall("unknown-deep", "an unknown member within", http.MethodPut, "/policies/p", []byte(`{"examples":["rain"],"split":{"backend":"b","share":0.1,"shares":1}}`), 400),
	refusedCall("repeated", "a member twice", http.MethodPost, "/decide", []byte(`{"text":"rain","text":"snow"}`), 400),
	refusedCall("further", "data after the value", http.MethodPost, "/decide", []byte(`{"text":"rain"} {}`), 400),
	refusedCall("utf8", "invalid UTF-8", http.MethodPost, "/decide", []byte("{\"text\":\"\xff\xfe\"}"), 400),
))

func adversarialCases() (out []apiCase) {
	for _, o := range odd() {
		out = append(out, apiCase{id: o.id, title: o.title, drive: func(ctx context.Context, b *bench) error {
			if err := b.taught(ctx, scenario.Settings{Fallback: scenario.Intents()[0].Name}, scenario.RowsExamples); err != nil {
				return err
			}
			if _, err := b.decide(ctx, "odd", scenario.OfText(o.text)); err != nil {
				return err
			}
			_, err := b.decide(ctx, "again", scenario.OfText(o.text))
			return err
		}, wrong: judgeAdversarial})
	}
	return out
}

func judgeAdversarial(s *story) (string, string) {
	d, ok := read[scenario.Decision](s, "odd")
	again, ok1 := read[scenario.Decision](s, "again")
	observed := fmt.Sprintf("%s, policy %q, abstained %v %s, top cosine %.4f", s.describe("odd"), d.Policy, d.Abstained, d.Reason, d.TopCosine)
	switch {
	case s.calls["odd"].Status >= 500:
		return reasonServerError, observed
	case !ok || !ok1 || d.Policy == "":
		return reasonMissing, observed
	case !finite(append([]float64{d.TopCosine, d.Margin}, d.Vector...)) || d.TopCosine > 1+closeTo || len(d.Vector) > 0 && !near(norm(d.Vector), 1):
		return reasonNotFinite, observed
	case d.Policy != again.Policy || d.TopCosine != again.TopCosine || !slices.Equal(d.Vector, again.Vector):
		return reasonDiffers, observed + fmt.Sprintf("; again policy %q, top cosine %.4f", again.Policy, again.TopCosine)
	}
	return "", observed
}

var _ = add(apiRow(suites.Check{
	ID: "router/decide/adversarial", Title: "any text is decided or abstained from, twice alike",
	Kills: kills(killIn("punctuation", reasonServerError, "router.unknown-fails"),
		killIn("homoglyphs", reasonNotFinite, "router.vector-unnormalised")),
}, "a policy, or the fallback with a reason; finite numbers; the same twice", []string{reasonMissing, reasonServerError, reasonNotFinite, reasonDiffers}, adversarialCases()...))

const reasonUnreported = "unreported" // an answer out of the cache does not say so

// cacheTexts have the same length.
var cacheTexts = []string{"will it rain tomorrow", "send me a new invoice", "sort a slice of ints."}

var _ = add(apiRow(suites.Check{
	ID: "router/decide/cache-exact", Title: "a cache that was asked for changes no vector, and is reported",
	Kills: kill(reasonDiffers, "router.cache-stale"),
}, "with a cache the vectors are those without; the second answer says cached, the counters of hits and misses agree", []string{reasonMissing, reasonDiffers, reasonUnreported},
	apiCase{drive: func(ctx context.Context, b *bench) error {
		for round, cache := range []int{0, 64, 64} {
			if round < 2 {
				if err := b.router(ctx, scenario.Settings{Cache: cache}); err != nil {
					return err
				}
				if err := b.policies(ctx, named("policies %d", round), taught(scenario.RowsCentroid)); err != nil {
					return err
				}
			}
			for i, text := range cacheTexts {
				if _, err := b.decide(ctx, fmt.Sprintf("decide-%d-%d", round, i), scenario.OfText(text)); err != nil {
					return err
				}
			}
		}
		_, err := b.stats(ctx, "stats")
		return err
	}, wrong: func(s *story) (string, string) {
		for i := range cacheTexts {
			var ds [3]scenario.Decision
			for round := range 3 {
				d, ok := read[scenario.Decision](s, fmt.Sprintf("decide-%d-%d", round, i))
				if !ok {
					return reasonMissing, s.describe(fmt.Sprintf("decide-%d-%d", round, i))
				}
				ds[round] = d
			}
			switch {
			case !sameVector(ds[0].Vector, ds[1].Vector) || !sameVector(ds[0].Vector, ds[2].Vector):
				return reasonDiffers, fmt.Sprintf("text %d: %.2g and %.2g away from the vector without a cache", i, apart(ds[0].Vector, ds[1].Vector), apart(ds[0].Vector, ds[2].Vector))
			case ds[0].Cached || ds[1].Cached || !ds[2].Cached:
				return reasonUnreported, fmt.Sprintf("text %d: cached %v without a cache, then %v and %v", i, ds[0].Cached, ds[1].Cached, ds[2].Cached)
			}
		}
		st, ok := read[scenario.RouterStats](s, "stats")
		observed := fmt.Sprintf("%d hits, %d misses", st.Cache.Hits, st.Cache.Misses)
		switch {
		case !ok:
			return reasonMissing, s.describe("stats")
		case st.Cache.Hits < int64(len(cacheTexts)):
			return reasonUnreported, observed
		}
		return "", observed
	}},
))
