package router

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/fixtures/routes"
	"github.com/assay-bench/assay/results"
	scenario "github.com/assay-bench/assay/scenarios/router"
	"github.com/assay-bench/assay/suites"
)

var _ = add(apiRow(suites.Check{
	ID: "router/ops/engine", Title: "an engine that is not there is an error, and auto says which one runs",
	Kills: kill(reasonSilent, "router.engine-silent"),
}, "a router with engine onnxruntime decides with it, or is refused with a reason; auto names the engine and says why", []string{reasonMissing, reasonSilent, reasonUnsaid},
	apiCase{drive: func(ctx context.Context, b *bench) error {
		if err := b.taught(ctx, scenario.Settings{Engine: scenario.EngineAuto}, scenario.RowsCentroid); err != nil {
			return err
		}
		if _, err := b.decide(ctx, "auto", scenario.OfText(example(0, 0))); err != nil {
			return err
		}
		if _, err := b.stats(ctx, "stats"); err != nil {
			return err
		}
		if _, err := b.own(ctx, "onnx", http.MethodPut, "", scenario.Settings{Engine: scenario.EngineONNX}, nil); err != nil {
			return err
		}
		_, err := b.decide(ctx, "then", scenario.OfText(example(0, 0)))
		return err
	}, wrong: func(s *story) (string, string) {
		auto, ok := read[scenario.Decision](s, "auto")
		st, ok1 := read[scenario.RouterStats](s, "stats")
		then, ok2 := read[scenario.Decision](s, "then")
		p, refused := s.calls["onnx"].Problem()
		observed := fmt.Sprintf("auto took %q (%s); onnxruntime: %s, then %q decided", auto.Model.Engine, st.Engine.Detail, s.describe("onnx"), then.Model.Engine)
		switch {
		case !ok || !ok1 || !ok2:
			return reasonMissing, observed
		case s.calls["onnx"].Good() && then.Model.Engine != scenario.EngineONNX:
			return reasonSilent, observed
		case !s.calls["onnx"].Good() && (!refused || p.Reason != "engine" || p.Detail == ""):
			return reasonUnsaid, observed
		case auto.Model.Engine == "" || st.Engine.Used != auto.Model.Engine || st.Engine.Detail == "":
			return reasonUnsaid, observed
		}
		return "", observed
	}},
))

const parityTexts = 200

// both decides and embeds texts of the corpus with each engine.
func both(ctx context.Context, b *bench) error {
	c, err := b.learned(ctx)
	if err != nil {
		return err
	}
	texts := unseenTexts(c)[:parityTexts]
	for _, engine := range []string{scenario.EnginePure, scenario.EngineONNX} {
		x := Labelled{Name: engine, Corpus: routes.Digest()}
		var out scenario.Embedded
		if _, err := b.own(ctx, "", http.MethodPost, "/embed", scenario.EmbedRequest{Texts: texts, Engine: engine}, &out); err != nil {
			return err
		}
		var qs []scenario.DecideRequest
		for _, text := range texts {
			qs = append(qs, scenario.DecideRequest{Text: &text, Engine: engine})
		}
		ds, err := b.decideAll(ctx, "", qs...)
		if err != nil {
			return err
		}
		x.Model, x.Engine = out.Model.Digest, out.Model.Engine
		if len(ds) != len(texts) || len(out.Embeddings) != len(texts) {
			x.Broken = fmt.Sprintf("%d decisions and %d vectors for %d texts", len(ds), len(out.Embeddings), len(texts))
		}
		for _, d := range ds {
			x.Each = append(x.Each, Judged{Policy: d.Policy, Top: d.TopCosine})
		}
		x.Vectors = packed(out.Embeddings)
		if err := b.record(labelled, x); err != nil {
			return err
		}
	}
	return nil
}

// parity makes a check of both engines.
func parity(id, title, want, reason, defect string, wrong func(pure, onnx Labelled) (bool, string)) suites.Check {
	return suites.Check{
		ID: id, Title: title, Needs: []features.Feature{features.RouterONNX}, Cost: suites.Cost{Time: 400 * time.Millisecond},
		Kills: kill(reason, defect), Reasons: []string{reasonMissing, reasonSilent, reason},
		Drive: driving(both),
		Judge: judging(want, func(_ suites.Trace, s *story) suites.Finding {
			all := s.labels()
			pure, onnx := all[scenario.EnginePure], all[scenario.EngineONNX]
			switch {
			case len(pure.Each) != parityTexts || len(onnx.Each) != parityTexts:
				return s.fail(reasonMissing, fmt.Sprintf("%d and %d texts; %s %s", len(pure.Each), len(onnx.Each), pure.Broken, onnx.Broken))
			case pure.Engine != scenario.EnginePure || onnx.Engine != scenario.EngineONNX || pure.Model != onnx.Model:
				return s.fail(reasonSilent, fmt.Sprintf("engines %q and %q, models %q and %q", pure.Engine, onnx.Engine, pure.Model, onnx.Model))
			}
			bad, observed := wrong(pure, onnx)
			if bad {
				return s.fail(reason, observed)
			}
			return s.pass(observed, results.Figure{Name: "texts", Value: parityTexts})
		}),
	}
}

var _ = add(parity("router/onnx/parity-scores", "vectors and cosines of both engines agree", "no value of a vector and no greatest cosine is more than 1e-5 apart", reasonDiffers, "router.engine-differs",
	func(pure, onnx Labelled) (bool, string) {
		a, b, worst := pure.unpack(), onnx.unpack(), 0.0
		if len(a) != parityTexts || len(b) != parityTexts {
			return true, fmt.Sprintf("%d and %d vectors", len(a), len(b))
		}
		for i := range a {
			worst = max(worst, apart(a[i], b[i]), max(pure.Each[i].Top-onnx.Each[i].Top, onnx.Each[i].Top-pure.Each[i].Top))
		}
		return worst > closeTo, fmt.Sprintf("%d texts, the greatest difference is %.2g", parityTexts, worst)
	}))

var _ = add(parity("router/onnx/parity-argmax", "both engines choose the same policy", "the policies of all texts are equal", reasonDiffers, "router.engine-reversed",
	func(pure, onnx Labelled) (bool, string) {
		n := 0
		for i := range pure.Each {
			n += one(pure.Each[i].Policy != onnx.Each[i].Policy)
		}
		return n > 0, fmt.Sprintf("%d of %d texts differ", n, parityTexts)
	}))

var _ = addClaim(claim(features.RouterONNX, "router.onnx-absent", "a vector is made by the engine onnxruntime", []features.Feature{features.RouterAPI},
	driving(func(ctx context.Context, b *bench) error {
		if err := b.router(ctx, scenario.Settings{}); err != nil {
			return err
		}
		_, err := b.own(ctx, "vectors", http.MethodPost, "/embed", scenario.EmbedRequest{Texts: someTexts(), Engine: scenario.EngineONNX}, nil)
		return err
	}), func(s *story) (bool, string) {
		e, ok := read[scenario.Embedded](s, "vectors")
		return ok && len(e.Embeddings) == len(someTexts()) && e.Model.Engine == scenario.EngineONNX, s.describe("vectors") + ", engine " + e.Model.Engine
	}))
