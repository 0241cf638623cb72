package router

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/assay-bench/assay/results"
	scenario "github.com/assay-bench/assay/scenarios/router"
	"github.com/assay-bench/assay/suites"
)

const (
	reasonWrongLength = "wrong-length" // a vector has not 128 values
	reasonNotUnit     = "not-unit"     // its norm is not 1
	reasonDiffers     = "differs"      // equal texts have different vectors
	reasonMissing     = "missing"      // an answer lacks what was asked for
)

// someTexts are one unseen text of each intent, and one example.
func someTexts() (out []string) {
	for _, in := range scenario.Intents() {
		out = append(out, in.Unseen...)
		out = append(out, in.Examples[0])
	}
	return out
}

// vectors reads an answer that must have a vector for each of n texts.
func (s *story) vectors(name string, n int) ([]scenario.Embedding, string) {
	e, ok := read[scenario.Embedded](s, name)
	if !ok || len(e.Embeddings) != n {
		return nil, fmt.Sprintf("%s; %d vectors for %d texts", s.describe(name), len(e.Embeddings), n)
	}
	return e.Embeddings, ""
}

func embedSome(ctx context.Context, b *bench) error {
	if err := b.router(ctx, scenario.Settings{}); err != nil {
		return err
	}
	_, err := b.embed(ctx, "vectors", someTexts()...)
	return err
}

var _ = add(apiRow(suites.Check{
	ID: "router/vector/dimension", Title: "vectors have 128 values", Kills: kill(reasonWrongLength, "router.vector-short"),
}, "128 finite numbers for each text", []string{reasonWrongLength, reasonMissing},
	apiCase{drive: embedSome, wrong: func(s *story) (string, string) {
		all, why := s.vectors("vectors", len(someTexts()))
		if why != "" {
			return reasonMissing, why
		}
		for i, e := range all {
			if len(e.Vector) != scenario.Dimension || !finite(e.Vector) {
				return reasonWrongLength, fmt.Sprintf("vector %d has %d values", i, len(e.Vector))
			}
		}
		return "", fmt.Sprintf("%d vectors of %d values", len(all), scenario.Dimension)
	}},
))

var _ = add(apiRow(suites.Check{
	ID: "router/vector/unit-norm", Title: "vectors have length 1", Kills: kill(reasonNotUnit, "router.vector-unnormalised"),
}, "the L2 norm of each is 1 ± 1e-5", []string{reasonNotUnit, reasonMissing},
	apiCase{drive: embedSome, wrong: func(s *story) (string, string) {
		all, why := s.vectors("vectors", len(someTexts()))
		if why != "" {
			return reasonMissing, why
		}
		worst := 0.0
		for _, e := range all {
			worst = max(worst, math.Abs(norm(e.Vector)-1))
		}
		observed := fmt.Sprintf("%d vectors, the worst norm is %.2g off 1", len(all), worst)
		if worst > 1e-5 {
			return reasonNotUnit, observed
		}
		return "", observed
	}},
))

var _ = add(apiRow(suites.Check{
	ID: "router/vector/deterministic", Title: "the same text has the same bits",
	Kills: kills(killIn("repeat", reasonDiffers, "router.vector-nondeterministic"), killIn("order", reasonDiffers, "router.vector-order")),
}, "vectors are equal value for value", []string{reasonDiffers, reasonMissing},
	apiCase{id: "repeat", title: "asked 4 times, alone and among others", drive: func(ctx context.Context, b *bench) error {
		if err := b.router(ctx, scenario.Settings{}); err != nil {
			return err
		}
		for i := range 4 {
			if _, err := b.embed(ctx, named("vectors-%d", i), someTexts()...); err != nil {
				return err
			}
			if _, err := b.embed(ctx, named("alone-%d", i), someTexts()[0]); err != nil {
				return err
			}
		}
		return nil
	}, wrong: func(s *story) (string, string) {
		first, why := s.vectors("vectors-0", len(someTexts()))
		if why != "" {
			return reasonMissing, why
		}
		for i := range 4 {
			again, why := s.vectors(named("vectors-%d", i), len(first))
			alone, why1 := s.vectors(named("alone-%d", i), 1)
			if why+why1 != "" {
				return reasonMissing, why + why1
			}
			for k := range again {
				if !sameVector(first[k].Vector, again[k].Vector) || k == 0 && !sameVector(first[0].Vector, alone[0].Vector) {
					return reasonDiffers, fmt.Sprintf("text %d, round %d: the vectors are %.2g apart", k, i, apart(first[k].Vector, again[k].Vector))
				}
			}
		}
		return "", fmt.Sprintf("%d texts, 4 rounds", len(first))
	}},
	apiCase{id: "order", title: "asked in one order and in the other", drive: func(ctx context.Context, b *bench) error {
		if err := b.router(ctx, scenario.Settings{}); err != nil {
			return err
		}
		texts := someTexts()
		if _, err := b.embed(ctx, "forth", texts...); err != nil {
			return err
		}
		slices.Reverse(texts)
		_, err := b.embed(ctx, "back", texts...)
		return err
	}, wrong: func(s *story) (string, string) {
		n := len(someTexts())
		forth, why := s.vectors("forth", n)
		back, why1 := s.vectors("back", n)
		if why+why1 != "" {
			return reasonMissing, why + why1
		}
		for i := range forth {
			if !sameVector(forth[i].Vector, back[n-1-i].Vector) {
				return reasonDiffers, fmt.Sprintf("text %d: the vectors are %.2g apart", i, apart(forth[i].Vector, back[n-1-i].Vector))
			}
		}
		return "", fmt.Sprintf("%d texts in both orders", n)
	}},
))

// apart is the greatest difference of two vectors.
func apart(a, b []float64) float64 {
	if len(a) != len(b) {
		return math.Inf(1)
	}
	most := 0.0
	for i := range a {
		most = max(most, math.Abs(a[i]-b[i]))
	}
	return most
}

const (
	reasonEmbedded   = "embedded"    // a text without features has a vector, or was decided
	reasonReached    = "engine-used" // it reached the engine
	reasonNotCounted = "not-counted" // the counters do not show what was done
)

// featureless are texts without anything that a model could know.
func featureless() []string { return []string{"", " \t\n", "?!… --- ((( )))", "\ue000\ue001 \ue002"} }

var _ = add(apiRow(suites.Check{
	ID: "router/vector/unknown-text", Title: "a text without known features never reaches an engine",
	Kills: kills(kill(reasonEmbedded, "router.unknown-embedded"), kill(reasonServerError, "router.unknown-fails"), kill(reasonNotCounted, "router.engine-uncounted")),
}, "an abstention with reason unknown-text, no vector, no call of the engine; a known text is one call", []string{reasonEmbedded, reasonReached, reasonServerError, reasonNotCounted, reasonMissing},
	apiCase{drive: func(ctx context.Context, b *bench) error {
		if err := b.taught(ctx, scenario.Settings{}, scenario.RowsExamples); err != nil {
			return err
		}
		if _, err := b.stats(ctx, "stats 0"); err != nil {
			return err
		}
		for i, text := range featureless() {
			if _, err := b.decide(ctx, named("decide-%d", i), scenario.OfText(text)); err != nil {
				return err
			}
		}
		if _, err := b.stats(ctx, "stats 1"); err != nil {
			return err
		}
		for _, text := range someTexts()[:3] {
			if _, err := b.decide(ctx, "known", scenario.OfText(text)); err != nil {
				return err
			}
		}
		_, err := b.stats(ctx, "stats 2")
		return err
	}, wrong: judgeFeatureless},
))

func judgeFeatureless(s *story) (string, string) {
	for i := range featureless() {
		name := named("decide-%d", i)
		d, ok := read[scenario.Decision](s, name)
		observed := fmt.Sprintf("%.20q: %s, abstained %v, reason %q, vector of %d", featureless()[i], s.describe(name), d.Abstained, d.Reason, len(d.Vector))
		switch {
		case s.calls[name].Status >= 500:
			return reasonServerError, observed
		case !ok:
			return reasonMissing, observed
		case !d.Abstained || d.Reason != "unknown-text" || len(d.Vector) > 0:
			return reasonEmbedded, observed
		}
	}
	var n [3]int64
	for i := range n {
		st, ok := read[scenario.RouterStats](s, named("stats %d", i))
		if !ok {
			return reasonMissing, s.describe(named("stats %d", i))
		}
		n[i] = st.EngineCalls
	}
	observed := fmt.Sprintf("calls of the engine: %d before, %d after %d texts without features, %d after 3 others", n[0], n[1], len(featureless()), n[2])
	switch {
	case n[1] != n[0]:
		return reasonReached, observed
	case n[2] != n[1]+3:
		return reasonNotCounted, observed
	}
	return "", observed
}

var _ = add(apiRow(suites.Check{
	ID: "router/vector/unseen-dropped", Title: "what no training has seen changes nothing", Kills: kill(reasonDiffers, "router.unseen-counted"),
}, "a word of characters of the private use area leaves the vector as it is", []string{reasonDiffers, reasonMissing},
	apiCase{drive: func(ctx context.Context, b *bench) error {
		if err := b.router(ctx, scenario.Settings{}); err != nil {
			return err
		}
		text := scenario.Intents()[1].Examples[1]
		_, err := b.embed(ctx, "vectors", text, text+" \ue123\ue124\ue125", "\ue126 "+text)
		return err
	}, wrong: func(s *story) (string, string) {
		all, why := s.vectors("vectors", 3)
		if why != "" {
			return reasonMissing, why
		}
		for i := range all {
			if !sameVector(all[0].Vector, all[i].Vector) {
				return reasonDiffers, fmt.Sprintf("vector %d is %.2g away", i, apart(all[0].Vector, all[i].Vector))
			}
		}
		return "", "three equal vectors"
	}},
))

const (
	reasonUnlimited = "unlimited" // a text beyond the limit was taken
	reasonTooSlow   = "too-slow"  // it took longer than the bound
	reasonNoLimit   = "no-limit"  // the refusal does not say what the limit is
)

// longBound is what a text of 1 MiB may take, with the harness's own part of sending it.
const longBound = 100 * time.Millisecond

var _ = add(suites.Check{
	ID: "router/vector/long-input", Title: "long texts are bounded in time", Cost: suites.Cost{Time: 300 * time.Millisecond, Exclusive: true},
	Kills:   kill(reasonUnlimited, "router.long-unbounded"),
	Reasons: []string{reasonUnlimited, reasonTooSlow, reasonNoLimit, reasonMissing},
	Drive: driving(func(ctx context.Context, b *bench) error {
		if err := b.taught(ctx, scenario.Settings{}, scenario.RowsExamples); err != nil {
			return err
		}
		lengths := map[string]int{"beyond": 1<<20 + 1, "fits": 1 << 20}
		for _, name := range sortedKeys(lengths) {
			n := lengths[name]
			text := strings.Repeat("will it rain tomorrow or not? ", n/30+1)[:n]
			if _, err := b.own(ctx, name, http.MethodPost, "/decide", scenario.DecideRequest{Text: &text}, nil); err != nil {
				return err
			}
		}
		return nil
	}),
	Judge: judging("1 MiB is decided or refused within 100 ms; one byte more is 413 with the limit", func(t suites.Trace, s *story) suites.Finding {
		fits, beyond := s.calls["fits"], s.calls["beyond"]
		p, refused := beyond.Problem()
		observed := fmt.Sprintf("1 MiB: %s after %s; one byte more: %s", answered(fits), fits.Took.Round(time.Millisecond), answered(beyond))
		switch within := t.Within(fits.Took, 0, longBound); {
		case !refused || p.Status != http.StatusRequestEntityTooLarge:
			return s.fail(reasonUnlimited, observed)
		case p.Limit <= 0:
			return s.fail(reasonNoLimit, observed)
		case !fits.Good() && fits.Status != http.StatusRequestEntityTooLarge:
			return s.fail(reasonMissing, observed)
		case within == suites.TooLate:
			return s.fail(reasonTooSlow, observed)
		case within == suites.Unsure:
			return s.noisy(observed)
		}
		return s.pass(observed, results.Figure{Name: "decision on 1 MiB", Value: fits.Took.Seconds(), Unit: "seconds"})
	}),
})

const reasonNotFinite = "not-finite" // what is not a number came in, or went out

// badVectors are vectors that no router may take. JSON has no NaN: the texts are what clients write.
func badVectors() []struct{ id, title, vector string } {
	zeros := func(n int, first string) string { return "[" + first + strings.Repeat(",0", n-1) + "]" }
	return []struct{ id, title, vector string }{
		{"zero", "a vector of zeroes", zeros(scenario.Dimension, "0")},
		{"nan", "NaN", zeros(scenario.Dimension, "NaN")},
		{"huge", "a number beyond a double's range", zeros(scenario.Dimension, "1e999")},
		{"overflow", "a number beyond a float32's range", zeros(scenario.Dimension, "1e39")},
		{"text", "the text NaN", zeros(scenario.Dimension, `"NaN"`)},
		{"null", "null", zeros(scenario.Dimension, "null")},
		{"short", "127 values", zeros(scenario.Dimension-1, "1")},
		{"long", "129 values", zeros(scenario.Dimension+1, "1")},
		{"empty", "no value", "[]"},
	}
}

func badVectorCases() (out []apiCase) {
	for _, v := range badVectors() {
		out = append(out, apiCase{
			id: v.id, title: v.title,
			drive: func(ctx context.Context, b *bench) error {
				if err := b.taught(ctx, scenario.Settings{}, scenario.RowsCentroid); err != nil {
					return err
				}
				_, err := b.state(ctx, "before")
				if err == nil {
					_, err = b.own(ctx, "decide", http.MethodPost, "/decide", fmt.Appendf(nil, `{"vector":%s}`, v.vector), nil)
				}
				if err == nil {
					_, err = b.own(ctx, "policy", http.MethodPut, "/policies/bad", fmt.Appendf(nil, `{"vectors":[%s]}`, v.vector), nil)
				}
				if err == nil {
					_, err = b.state(ctx, "after")
				}
				return err
			},
			wrong: func(s *story) (string, string) {
				observed := s.describe("decide") + "; " + s.describe("policy")
				for _, name := range []string{"decide", "policy"} {
					switch st := s.calls[name].Status; {
					case st < 300:
						return reasonNotFinite, observed
					case st >= 500:
						return reasonServerError, observed
					}
				}
				before, ok := read[scenario.State](s, "before")
				after, ok1 := read[scenario.State](s, "after")
				if !ok || !ok1 || before.Version != after.Version || before.Digest != after.Digest {
					return reasonHalfDone, fmt.Sprintf("version %d before, %d after", before.Version, after.Version)
				}
				return "", observed
			},
		})
	}
	return out
}

const reasonHalfDone = "half-done" // what was refused has left something behind

var _ = add(apiRow(suites.Check{
	ID: "router/vector/finite", Title: "vectors that are none are refused, for decisions and for policies",
	Kills: kills(killIn("zero", reasonNotFinite, "router.nan-taken")),
}, "400 to 499, and the version stays", []string{reasonNotFinite, reasonServerError, reasonHalfDone}, badVectorCases()...))
