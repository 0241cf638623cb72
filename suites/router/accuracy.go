package router

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/assay-bench/assay/fixtures/routes"
	"github.com/assay-bench/assay/results"
	scenario "github.com/assay-bench/assay/scenarios/router"
	"github.com/assay-bench/assay/suites"
)

// Labelled is the evidence of texts of the corpus with what the target made of them.
type Labelled struct {
	Name    string   `json:"name"` // train, validation, test, outside-validation or outside
	Corpus  string   `json:"corpus"`
	Model   string   `json:"model"` // digest that the answers name
	Engine  string   `json:"engine"`
	Each    []Judged `json:"each,omitempty"`
	Vectors string   `json:"vectors,omitempty"` // base64 of little-endian float32, one vector after another
	Broken  string   `json:"broken,omitempty"`
}

// Judged is a text: the policy that is right, empty where none is, and what was decided.
type Judged struct {
	Right  string  `json:"right,omitempty"`
	Policy string  `json:"policy"` // with the greatest sum of votes
	Top    float64 `json:"top"`    // greatest cosine
}

const labelled results.Kind = "router-labelled"

// corpusBatch is how many texts a call has.
const corpusBatch = 256

// learned makes a router with a policy for each route of the corpus, learned from its training texts as the target sees fit.
func (b *bench) learned(ctx context.Context) (routes.Corpus, error) {
	c, err := routes.Load()
	if err != nil {
		return c, err
	}
	if err := b.router(ctx, scenario.Settings{}); err != nil {
		return c, err
	}
	all := map[string]scenario.Policy{}
	for _, r := range c.Routes {
		all[r.ID] = scenario.Policy{Examples: r.Train}
	}
	return c, b.policies(ctx, "policies", all)
}

// text of a corpus and the route that it belongs to, if any.
type textOf struct{ text, route string }

func inScope(c routes.Corpus, pick func(routes.Route) []string) (out []textOf) {
	for _, r := range c.Routes {
		for _, text := range pick(r) {
			out = append(out, textOf{text, r.ID})
		}
	}
	return out
}

func outside(texts []string) (out []textOf) {
	for _, text := range texts {
		out = append(out, textOf{text: text})
	}
	return out
}

// label decides texts and records what came of them.
func (b *bench) label(ctx context.Context, name string, texts []textOf) error {
	x := Labelled{Name: name, Corpus: routes.Digest()}
	for chunk := range slices.Chunk(texts, corpusBatch) {
		var qs []scenario.DecideRequest
		for _, t := range chunk {
			qs = append(qs, scenario.DecideRequest{Text: &t.text})
		}
		ds, err := b.decideAll(ctx, "", qs...)
		if err != nil {
			return err
		}
		if len(ds) != len(chunk) {
			x.Broken = fmt.Sprintf("%d decisions for %d texts", len(ds), len(chunk))
			break
		}
		for i, d := range ds {
			j := Judged{Right: chunk[i].route, Top: d.TopCosine}
			if len(d.Votes) > 0 {
				j.Policy = d.Votes[0].Policy
			}
			x.Each, x.Model, x.Engine = append(x.Each, j), d.Model.Digest, d.Model.Engine
		}
	}
	return b.record(labelled, x)
}

// vectorise records the vectors of texts.
func (b *bench) vectorise(ctx context.Context, name string, texts []textOf) error {
	x, all := Labelled{Name: name, Corpus: routes.Digest()}, []scenario.Embedding(nil)
	for chunk := range slices.Chunk(texts, corpusBatch) {
		var plain []string
		for _, t := range chunk {
			plain = append(plain, t.text)
		}
		e, err := b.embed(ctx, "", plain...)
		if err != nil {
			return err
		}
		all = append(all, e.Embeddings...)
		x.Model, x.Engine = e.Model.Digest, e.Model.Engine
	}
	for _, t := range texts {
		x.Each = append(x.Each, Judged{Right: t.route})
	}
	x.Vectors = packed(all)
	return b.record(labelled, x)
}

// packed are vectors as Labelled has them. One of another length leaves its place out, so that their number
// is not that of the texts.
func packed(all []scenario.Embedding) string {
	var raw []byte
	for _, e := range all {
		if len(e.Vector) != scenario.Dimension {
			continue
		}
		for _, value := range e.Vector {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(float32(value)))
		}
	}
	return base64.StdEncoding.EncodeToString(raw)
}

// unpack reads the vectors of Labelled.
func (x Labelled) unpack() (out [][]float64) {
	raw, err := base64.StdEncoding.DecodeString(x.Vectors)
	if err != nil {
		return nil
	}
	for chunk := range slices.Chunk(raw, 4*scenario.Dimension) {
		if len(chunk) < 4*scenario.Dimension {
			return nil
		}
		v := make([]float64, scenario.Dimension)
		for i := range v {
			v[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(chunk[4*i:])))
		}
		out = append(out, v)
	}
	return out
}

const (
	reasonNotAbove      = "not-above-zero" // the router does no better than always naming one route
	reasonUninformative = "uninformative"  // its cosines do not tell right from wrong decisions
	neighboursOf        = 5                // of the k-NN baseline
)

var _ = add(suites.Check{
	ID: "router/decide/baselines", Title: "accuracy on a corpus of routes, beside Oracle, Zero, random and k-NN",
	Covers:  []string{"router/decide/baselines", "router/abstain/risk-coverage"},
	Cost:    suites.Cost{Time: 1500 * time.Millisecond, Exclusive: true},
	Kills:   kills(kill(reasonNotAbove, "router.decides-first"), kill(reasonUninformative, "router.cosines-inverted")),
	Reasons: []string{reasonMissing, reasonNotAbove, reasonUninformative},
	Drive: driving(func(ctx context.Context, b *bench) error {
		c, err := b.learned(ctx)
		if err != nil {
			return err
		}
		train, test := inScope(c, func(r routes.Route) []string { return r.Train }), inScope(c, func(r routes.Route) []string { return r.Test })
		return first(
			b.label(ctx, "validation", inScope(c, func(r routes.Route) []string { return r.Validation })),
			b.label(ctx, "test", test),
			b.label(ctx, "outside", outside(c.Test)),
			b.vectorise(ctx, "train vectors", train),
			b.vectorise(ctx, "test vectors", test),
		)
	}),
	Judge: judging("accuracy above Zero by an interval that excludes 0; the area under risk over coverage below that of a random order", func(_ suites.Trace, s *story) suites.Finding { return judgeAccuracy(s) }),
})

// labels collects the evidence by name.
func (s *story) labels() map[string]Labelled {
	out := map[string]Labelled{}
	for _, e := range s.rest {
		var x Labelled
		if e.Kind == labelled && e.Decode(&x) == nil && x.Broken == "" && len(x.Each) > 0 {
			out[x.Name] = x
		}
	}
	return out
}

func judgeAccuracy(s *story) suites.Finding {
	all := s.labels()
	test, train, vectors := all["test"], all["train vectors"], all["test vectors"]
	trained, tested := train.unpack(), vectors.unpack()
	if len(test.Each) == 0 || len(all["validation"].Each) == 0 || len(all["outside"].Each) == 0 || len(trained) != len(train.Each) || len(tested) != len(test.Each) {
		return s.fail(reasonMissing, fmt.Sprintf("%d texts of the test split were decided, %d and %d have vectors", len(test.Each), len(trained), len(tested)))
	}
	n := float64(len(test.Each))
	right, zero, knn := 0, 0, 0
	majority := majorityOf(train.Each)
	for i, j := range test.Each {
		right += one(j.Policy == j.Right)
		zero += one(majority == j.Right)
		knn += one(nearestLabel(tested[i], trained, train.Each) == j.Right)
	}
	accuracy, half := float64(right)/n, interval(float64(right)/n, n)
	gain := float64(right-zero) / n
	gainHalf := 1.96 * math.Sqrt((accuracy+float64(zero)/n-gain*gain)/n)
	risk, coverage := riskCoverage(test.Each)
	area, random := mean(risk), 1-accuracy
	threshold := quantileOf(all["validation"].Each, 0.05)
	figures := []results.Figure{
		{Name: "accuracy", Value: accuracy, Unit: "ratio"}, {Name: "accuracy ±", Value: half, Unit: "ratio"}, {Name: "texts", Value: n},
		{Name: "Oracle", Value: 1, Unit: "ratio"}, {Name: "Zero (majority)", Value: float64(zero) / n, Unit: "ratio"},
		{Name: "random", Value: 1 / float64(distinct(train.Each)), Unit: "ratio"}, {Name: "k-NN", Value: float64(knn) / n, Unit: "ratio"},
		{Name: "threshold", Value: threshold}, {Name: "in scope rejected", Value: below(test.Each, threshold), Unit: "ratio"},
		{Name: "out of scope recalled", Value: below(all["outside"].Each, threshold), Unit: "ratio"},
		{Name: "area under risk-coverage", Value: area, Unit: "ratio"},
	}
	for i := range risk {
		figures = append(figures, results.Figure{Name: fmt.Sprintf("risk at coverage %.2f", coverage[i]), Value: risk[i], Unit: "ratio"})
	}
	observed := fmt.Sprintf("accuracy %.1f ± %.1f %% of %d texts, Oracle 100, Zero %.1f, random %.1f, k-NN %.1f; at the 5 %% quantile %.1f %% in scope rejected, %.1f %% out of scope recalled; area under risk-coverage %.3f, of a random order %.3f; model %.20s by %s",
		100*accuracy, 100*half, len(test.Each), 100*float64(zero)/n, 100/float64(distinct(train.Each)), 100*float64(knn)/n,
		100*below(test.Each, threshold), 100*below(all["outside"].Each, threshold), area, random, test.Model, test.Engine)
	switch {
	case gain-gainHalf <= 0:
		return s.fail(reasonNotAbove, observed)
	case area >= 0.85*random && random > 0.05: // a router without errors has nothing to tell apart
		return s.fail(reasonUninformative, observed)
	}
	return s.pass(observed, figures...)
}

// interval is half of the 95 % interval of a proportion.
func interval(p, n float64) float64 { return 1.96 * math.Sqrt(p*(1-p)/n) }

func majorityOf(all []Judged) string {
	count := map[string]int{}
	for _, j := range all {
		count[j.Right]++
	}
	best := ""
	for _, r := range sortedKeys(count) {
		if best == "" || count[r] > count[best] {
			best = r
		}
	}
	return best
}

func distinct(all []Judged) int {
	seen := map[string]bool{}
	for _, j := range all {
		seen[j.Right] = true
	}
	return len(seen)
}

// nearestLabel is plain k-NN: the label that most of the nearest training texts have, ties by label.
func nearestLabel(v []float64, trained [][]float64, labels []Judged) string {
	type at struct {
		cosine float64
		label  string
	}
	all := make([]at, len(trained))
	for i := range trained {
		all[i] = at{dot(v, trained[i]), labels[i].Right}
	}
	slices.SortStableFunc(all, func(a, b at) int { return cmp.Compare(b.cosine, a.cosine) })
	var near []Judged
	for _, a := range all[:min(neighboursOf, len(all))] {
		near = append(near, Judged{Right: a.label})
	}
	return majorityOf(near)
}

// riskPoints is how many points a curve has.
const riskPoints = 21

// riskCoverage is the share of wrong decisions among the most certain ones, by greatest cosine, at points of
// coverage from about 0.05 to 1. The axis rises.
func riskCoverage(all []Judged) (risk, coverage []float64) {
	sorted := slices.Clone(all)
	slices.SortStableFunc(sorted, func(a, b Judged) int { return cmp.Compare(b.Top, a.Top) })
	for p := 1; p <= riskPoints; p++ {
		n := max(1, len(sorted)*p/riskPoints)
		wrong := 0
		for _, j := range sorted[:n] {
			wrong += one(j.Policy != j.Right)
		}
		risk, coverage = append(risk, float64(wrong)/float64(n)), append(coverage, float64(n)/float64(len(sorted)))
	}
	return risk, coverage
}

func mean(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}

// quantileOf is the quantile of the greatest cosines.
func quantileOf(all []Judged, q float64) float64 {
	var tops []float64
	for _, j := range all {
		tops = append(tops, j.Top)
	}
	slices.Sort(tops)
	return tops[int(q*float64(len(tops)))]
}

// below is the share whose greatest cosine is below a threshold.
func below(all []Judged, threshold float64) float64 {
	n := 0
	for _, j := range all {
		n += one(j.Top < threshold)
	}
	return float64(n) / float64(len(all))
}
