package router

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/assay-bench/assay/results"
	scenario "github.com/assay-bench/assay/scenarios/router"
	"github.com/assay-bench/assay/suites"
)

const reasonUnsaid = "unsaid" // refused without a reason

// publisher signs the models of all cases: whom a target trusts is a setting of the whole.
var publisher = scenario.NewPublisher(0x61737361)

// trusted makes the target trust the publisher.
func (b *bench) trusted(ctx context.Context) error {
	c, err := b.whole(ctx, setup+"trust", http.MethodPut, "/models/trust", scenario.Trust{Ed25519: [][]byte{publisher.Public()}}, nil)
	if err == nil && !c.Good() {
		err = errUnset
	}
	return err
}

// upload sends a model and keeps its bytes out of the evidence: it is recorded as what came of it.
func (b *bench) upload(ctx context.Context, name string, m scenario.ModelUpload) (scenario.Call, error) {
	c, err := b.Call(ctx, "", http.MethodPost, "/models", m, nil)
	if err != nil {
		return c, err
	}
	c.Name, c.Request = name, fmt.Appendf(nil, `{"name":%q,"bytes":%d,"manifest":%d}`, m.Name, len(m.Data), len(m.Manifest))
	if err := b.record(scenario.Called, c); err != nil {
		return c, err
	}
	if !c.Answered() {
		return c, errDead
	}
	return c, nil
}

// loaded loads a model of the harness, which has to be taken.
func (b *bench) loaded(ctx context.Context, m scenario.ModelFile) error {
	file := m.Bytes()
	manifest, err := publisher.Manifest(m.Name, file)
	if err != nil {
		return err
	}
	c, err := b.upload(ctx, setup+"model "+m.Name, scenario.ModelUpload{Name: m.Name, Data: file, Manifest: manifest})
	if err == nil && !c.Good() {
		err = errUnset
	}
	return err
}

// The models of the harness: one that tells words apart, and one that does not.
var (
	otherModel = scenario.ModelFile{Name: "assay-other", Seed: 7}
	flatModel  = scenario.ModelFile{Name: "assay-flat", Seed: 8, Flat: true}
)

// modelCase uploads a model with a manifest, and looks at the list of models before and after.
func modelCase(id, title string, make func() (scenario.ModelUpload, error), wrong func(*story) (string, string)) apiCase {
	return apiCase{id: id, title: title, drive: func(ctx context.Context, b *bench) error {
		if err := b.trusted(ctx); err != nil {
			return err
		}
		if err := b.taught(ctx, scenario.Settings{}, scenario.RowsCentroid); err != nil {
			return err
		}
		if _, err := b.whole(ctx, "models 0", http.MethodGet, "/models", nil, nil); err != nil {
			return err
		}
		m, err := make()
		if err != nil {
			return err
		}
		if _, err := b.upload(ctx, "upload", m); err != nil {
			return err
		}
		if _, err := b.whole(ctx, "models 1", http.MethodGet, "/models", nil, nil); err != nil {
			return err
		}
		_, err = b.decide(ctx, "decide", scenario.OfText(example(0, 0)))
		return err
	}, wrong: wrong}
}

// refusedModel must be refused with 403 and one of the reasons; what was loaded stays, and decisions go on.
func refusedModel(id, title string, make func() (scenario.ModelUpload, error), reasons ...string) apiCase {
	return modelCase(id, title, make, func(s *story) (string, string) {
		p, refused := s.calls["upload"].Problem()
		before, ok := read[scenario.ModelList](s, "models 0")
		after, ok1 := read[scenario.ModelList](s, "models 1")
		observed := fmt.Sprintf("%s; %d models before, %d after; %s", s.describe("upload"), len(before.Models), len(after.Models), s.describe("decide"))
		switch {
		case s.calls["upload"].Good():
			return reasonTaken, observed
		case !refused || p.Status >= 500:
			return reasonServerError, observed
		case p.Status != http.StatusForbidden || !oneOf(p.Reason, reasons) || p.Detail == "":
			return reasonUnsaid, observed + fmt.Sprintf("; wanted 403 and one of %v", reasons)
		case !ok || !ok1 || len(before.Models) != len(after.Models) || !s.calls["decide"].Good():
			return reasonHalfDone, observed
		}
		return "", observed
	})
}

func oneOf(x string, set []string) bool {
	for _, y := range set {
		if x == y {
			return true
		}
	}
	return false
}

// signed makes an upload of bytes under a manifest by somebody that lists other bytes, or the same.
func signed(by scenario.Publisher, name string, file, lists []byte) func() (scenario.ModelUpload, error) {
	return func() (scenario.ModelUpload, error) {
		manifest, err := by.Manifest(name, lists)
		return scenario.ModelUpload{Name: name, Data: file, Manifest: manifest}, err
	}
}

func listedModel(name string, file []byte) func() (scenario.ModelUpload, error) {
	return signed(publisher, name, file, file)
}

// modelRow is apiRow for checks that change what the whole target trusts or has loaded.
func modelRow(c suites.Check, want string, own []string, cases ...apiCase) suites.Check {
	c = apiRow(c, want, own, cases...)
	c.Cost.Exclusive = true
	if c.Cost.Time == 0 {
		c.Cost.Time = 60 * time.Millisecond
	}
	return c
}

var _ = add(modelRow(suites.Check{
	ID: "router/ops/model-signed", Title: "a model is loaded only under a manifest of a trusted publisher that lists its digest",
	Kills: kills(killIn("unlisted", reasonTaken, "router.model-unlisted"), killIn("stranger", reasonTaken, "router.manifest-unsigned")),
}, "403 with the reason; models and decisions as before", []string{reasonTaken, reasonServerError, reasonUnsaid, reasonHalfDone},
	refusedModel("bare", "no manifest", func() (scenario.ModelUpload, error) {
		return scenario.ModelUpload{Name: "assay-bare", Data: scenario.ModelFile{Name: "assay-bare", Seed: 20}.Bytes()}, nil
	}, "manifest-missing"),
	refusedModel("stranger", "a manifest of somebody else", func() (scenario.ModelUpload, error) {
		file := scenario.ModelFile{Name: "assay-stranger", Seed: 21}.Bytes()
		return signed(scenario.NewPublisher(1), "assay-stranger", file, file)()
	}, "manifest-signature"),
	refusedModel("altered", "a manifest that was altered after it was signed", func() (scenario.ModelUpload, error) {
		m, err := listedModel("assay-altered", scenario.ModelFile{Name: "assay-altered", Seed: 22}.Bytes())()
		if err != nil {
			return m, err
		}
		m.Manifest, err = scenario.Altered(m.Manifest)
		return m, err
	}, "manifest-signature"),
	refusedModel("unlisted", "a manifest that lists another digest", signed(publisher, "assay-unlisted",
		scenario.ModelFile{Name: "assay-unlisted", Seed: 23}.Bytes(), []byte("another file")), "digest-unlisted"),
))

// bad are files that are no model, each under a manifest that lists it.
func badModels() (out []apiCase) {
	whole := scenario.ModelFile{Name: "assay-bad", Seed: 30}.Bytes()
	for _, k := range []struct {
		id, title string
		file      []byte
	}{
		{"truncated", "a model that is cut in half", whole[:len(whole)/2]},
		{"tail", "a model with bytes after its end", append(bytes.Clone(whole), "more"...)},
		{"foreign", "a file that is none of any format", []byte(strings.Repeat("not a model ", 100))},
		{"empty", "one byte", []byte{0}},
		{"onnx", "the beginning of an ONNX file", []byte("\x08\x09\x12\x05assay\x3a\xff\xff\xff\xff\x7f")},
		{"header", "a header that is longer than the file", append([]byte("assaymdl\xff\xff\x0f\x00"), "{}"...)},
		{"rows", "rows that do not fit the vocabulary", scenario.ModelFile{Name: "assay-bad", Seed: 31, Bend: func(s map[string][]byte) { s["rows"] = s["rows"][1:] }}.Bytes()},
	} {
		out = append(out, refusedModel(k.id, k.title, listedModel("assay-bad-"+k.id, k.file), "truncated", "oversized", "operator", "metadata", "shape", "format"))
	}
	return out
}

var _ = add(modelRow(suites.Check{
	ID: "router/onnx/bad-model", Title: "a damaged model is refused, and what is loaded stays",
	Kills: kill(reasonTaken, "router.model-bad-taken"),
}, "403 with a reason; models and decisions as before", []string{reasonTaken, reasonServerError, reasonUnsaid, reasonHalfDone}, badModels()...))

var _ = add(modelRow(suites.Check{
	ID: "router/vector/version-bound", Title: "tokenizer, weights and table of a model are one version",
	Kills: kill(reasonTaken, "router.model-bad-taken"),
}, "403: a model whose vocabulary is that of another one is refused, naming the mismatch", []string{reasonTaken, reasonServerError, reasonUnsaid, reasonHalfDone},
	refusedModel("", "", listedModel("assay-swapped", scenario.ModelFile{Name: "assay-swapped", Seed: 32, Bend: func(s map[string][]byte) {
		words := bytes.Split(s["vocabulary"], []byte("\n"))
		words[5], words[6] = words[6], words[5]
		s["vocabulary"] = bytes.Join(words, []byte("\n"))
	}}.Bytes()), "metadata"),
))

// Spans are the finished spans of a trace.
type Spans struct {
	Spans []struct {
		Name       string            `json:"name"`
		Attributes map[string]string `json:"attributes"`
	} `json:"spans"`
}

const (
	reasonUncoloured = "uncoloured" // a span does not name the model that made its decision
	reasonStale      = "stale"      // a decision names another model than the one that is live
)

// spansOf asks for the spans of a decision.
func (b *bench) spansOf(ctx context.Context, name string, d scenario.Decision) error {
	_, err := b.whole(ctx, name, http.MethodGet, "/spans?trace="+d.Trace, nil, nil)
	return err
}

// coloured tells whether every span of a trace names the model of its decision.
func (s *story) coloured(decision, spans string) (reason, observed string) {
	d, ok := read[scenario.Decision](s, decision)
	all, ok1 := read[Spans](s, spans)
	if !ok || !ok1 || len(all.Spans) == 0 || d.Trace == "" {
		return reasonMissing, fmt.Sprintf("%s; %s, %d spans of trace %q", s.describe(decision), s.describe(spans), len(all.Spans), d.Trace)
	}
	for _, x := range all.Spans {
		if v := x.Attributes["model_version"]; v != d.Model.Digest {
			return reasonUncoloured, fmt.Sprintf("span %s has model_version %q, its decision %q", x.Name, v, d.Model.Digest)
		}
	}
	return "", fmt.Sprintf("%d spans name %.20s", len(all.Spans), d.Model.Digest)
}

var _ = add(apiRow(suites.Check{
	ID: "router/ops/model-identity", Title: "decisions and their spans name the model that made them",
	Kills: kill(reasonUncoloured, "router.spans-uncoloured"),
}, "the digest of a decision is that of a loaded model and of the router's state; each span of its trace has it as model_version", []string{reasonMissing, reasonUncoloured, reasonStale},
	apiCase{drive: func(ctx context.Context, b *bench) error {
		if err := b.taught(ctx, scenario.Settings{}, scenario.RowsCentroid); err != nil {
			return err
		}
		d, err := b.decide(ctx, "decide", scenario.OfText(example(1, 0)))
		if err == nil {
			err = b.spansOf(ctx, "spans", d)
		}
		if err == nil {
			_, err = b.whole(ctx, "models", http.MethodGet, "/models", nil, nil)
		}
		if err == nil {
			_, err = b.state(ctx, "state")
		}
		return err
	}, wrong: func(s *story) (string, string) {
		if reason, observed := s.coloured("decide", "spans"); reason != "" {
			return reason, observed
		}
		d, _ := read[scenario.Decision](s, "decide")
		st, _ := read[scenario.State](s, "state")
		models, _ := read[scenario.ModelList](s, "models")
		for _, m := range models.Models {
			if m.Digest == d.Model.Digest && m.Name == d.Model.Name && st.Model.Digest == d.Model.Digest {
				return "", "model " + m.Name + " " + m.Digest
			}
		}
		return reasonStale, fmt.Sprintf("the decision names %q, the router's state %q", d.Model.Digest, st.Model.Digest)
	}},
))

// Swapped are the decisions of a case that were made while a model was promoted.
type Swapped struct {
	Decisions int            `json:"decisions"`
	Failed    int            `json:"failed"`
	Broken    string         `json:"broken,omitempty"`
	Models    map[string]int `json:"models"` // decisions by the digest that they name
}

const swapped results.Kind = "router-swapped"

var _ = add(modelRow(suites.Check{
	ID: "router/ops/model-swap", Title: "a model is swapped without a failed call", Cost: suites.Cost{Time: 400 * time.Millisecond},
	Kills: kills(kill(reasonLost, "router.model-swap-fails"), kill(reasonStale, "router.model-stale"), kill(reasonUncoloured, "router.spans-old-model")),
}, "every decision meanwhile succeeds and names one of the two models; afterwards decisions, spans and state name the new one",
	[]string{reasonMissing, reasonLost, reasonStale, reasonUncoloured},
	apiCase{drive: func(ctx context.Context, b *bench) error {
		if err := b.trusted(ctx); err != nil {
			return err
		}
		if err := b.loaded(ctx, otherModel); err != nil {
			return err
		}
		if err := b.taught(ctx, scenario.Settings{}, scenario.RowsCentroid); err != nil {
			return err
		}
		if _, err := b.decide(ctx, "before", scenario.OfText(example(1, 0))); err != nil {
			return err
		}
		if err := b.must(ctx, "rollout", http.MethodPut, "/rollout", scenario.Rollout{Model: otherModel.Name, Mode: "shadow"}, nil); err != nil {
			return err
		}
		if err := b.swap(ctx); err != nil {
			return err
		}
		d, err := b.decide(ctx, "after", scenario.OfText(example(1, 0)))
		if err == nil {
			err = b.spansOf(ctx, "spans", d)
		}
		if err == nil {
			_, err = b.state(ctx, "state")
		}
		return err
	}, wrong: judgeSwap},
))

// swap decides from several callers while the model of the rollout is promoted.
func (b *bench) swap(ctx context.Context) error {
	x := Swapped{Models: map[string]int{}}
	var mu sync.Mutex
	var wg sync.WaitGroup
	errs := make([]error, 4)
	begun, promoted := make(chan struct{}, 4*64), make(chan struct{})
	for k := range errs {
		wg.Go(func() {
			for i, after := 0, 0; after < 20 && i < 2000; i++ {
				text := example(i%upstreamsOf, i)
				var d scenario.Decision
				c, err := b.Own(ctx, "", http.MethodPost, "/decide", scenario.DecideRequest{Text: &text}, &d)
				if err != nil {
					errs[k] = err
					return
				}
				mu.Lock()
				x.Decisions++
				if !c.Good() {
					x.Failed++
					x.Broken = answered(c)
				} else {
					x.Models[d.Model.Digest]++
				}
				mu.Unlock()
				select {
				case begun <- struct{}{}:
				default:
				}
				select {
				case <-promoted:
					after++
				default:
				}
			}
		})
	}
	for range 40 { // so that the promotion falls among decisions
		<-begun
	}
	_, err := b.own(ctx, setup+"promote", http.MethodPost, "/rollout/promote", nil, nil)
	close(promoted)
	wg.Wait()
	if err := errorOf(err, errs); err != nil {
		return err
	}
	return b.record(swapped, x)
}

func judgeSwap(s *story) (string, string) {
	x, ok := the[Swapped](s, swapped)
	before, ok1 := read[scenario.Decision](s, "before")
	after, ok2 := read[scenario.Decision](s, "after")
	st, ok3 := read[scenario.State](s, "state")
	observed := fmt.Sprintf("%d decisions, %d failed, by model %v", x.Decisions, x.Failed, x.Models)
	switch {
	case x.Failed > 0 || ok && ok1 && !ok2:
		return reasonLost, observed + ": " + x.Broken + "; " + s.describe("after")
	case !ok || !ok1 || !ok3:
		return reasonMissing, observed
	case before.Model.Digest == after.Model.Digest || st.Model.Digest != after.Model.Digest || after.Model.Name != otherModel.Name:
		return reasonStale, fmt.Sprintf("%s; before %q, after %q, state %q", observed, before.Model.Digest, after.Model.Digest, st.Model.Digest)
	}
	for _, digest := range sortedKeys(x.Models) {
		if digest != before.Model.Digest && digest != after.Model.Digest {
			return reasonStale, observed
		}
	}
	if reason, why := s.coloured("after", "spans"); reason != "" {
		return reason, why
	}
	return "", observed
}

const reasonNotEnded = "not-ended" // a canary that feedback rejects goes on

// canaryKeys are the keys that a canary is asked about.
const canaryKeys = 120

// canary loads a model, teaches policies and sets the guard set.
func (b *bench) canary(ctx context.Context, m scenario.ModelFile) error {
	return first(b.trusted(ctx), b.loaded(ctx, m), b.taught(ctx, scenario.Settings{Feedback: generousGuard()}, scenario.RowsCentroid),
		b.must(ctx, "guard", http.MethodPut, "/guard", scenario.GuardSet{Examples: guardTexts()}, nil))
}

// generousGuard limits no source, and lets the guard set lose half of its accuracy.
func generousGuard() *scenario.FeedbackSettings {
	return &scenario.FeedbackSettings{RatePerMinute: 1_000_000, Share: 1, GuardLoss: 50}
}

// keyed asks for a decision for each key.
func (b *bench) keyed(ctx context.Context, name string) ([]scenario.Decision, error) {
	var qs []scenario.DecideRequest
	for i := range canaryKeys {
		text := example(i%upstreamsOf, i)
		qs = append(qs, scenario.DecideRequest{Text: &text, Key: named("key-%d", i)})
	}
	return b.decideAll(ctx, name, qs...)
}

var _ = add(modelRow(suites.Check{
	ID: "router/ops/canary", Title: "a canary keeps to its share, to the guard set, and ends when feedback rejects it", Cost: suites.Cost{Time: 150 * time.Millisecond},
	Kills: kills(killIn("share", reasonShare, "router.canary-everywhere"), killIn("guarded", reasonTaken, "router.canary-unguarded"), killIn("rejected", reasonNotEnded, "router.canary-stays")),
}, "30 ± 13 % of the keys, the same twice; a model that loses on the guard set is refused with reason guard; after 20 rejections the stable model decides alone",
	[]string{reasonMissing, reasonShare, reasonWanders, reasonTaken, reasonUnsaid, reasonNotEnded},
	apiCase{id: "share", title: "a canary for 30 % of the keys", drive: func(ctx context.Context, b *bench) error {
		err := b.canary(ctx, otherModel)
		if err == nil {
			err = b.must(ctx, "rollout", http.MethodPut, "/rollout", scenario.Rollout{Model: otherModel.Name, Mode: "canary", Share: 0.3}, nil)
		}
		if err == nil {
			_, err = b.keyed(ctx, "round-0")
		}
		if err == nil {
			_, err = b.keyed(ctx, "round-1")
		}
		return err
	}, wrong: judgeCanaryShare},
	apiCase{id: "guarded", title: "a model that tells no two texts apart", drive: func(ctx context.Context, b *bench) error {
		err := b.canary(ctx, flatModel)
		if err == nil {
			_, err = b.own(ctx, "rollout", http.MethodPut, "/rollout", scenario.Rollout{Model: flatModel.Name, Mode: "canary", Share: 0.3}, nil)
		}
		return err
	}, wrong: func(s *story) (string, string) {
		p, refused := s.calls["rollout"].Problem()
		switch {
		case s.calls["rollout"].Good():
			return reasonTaken, s.describe("rollout")
		case !refused || p.Status != http.StatusConflict || p.Reason != "guard":
			return reasonUnsaid, s.describe("rollout")
		}
		return "", s.describe("rollout")
	}},
	apiCase{id: "rejected", title: "a canary whose decisions are rejected", drive: func(ctx context.Context, b *bench) error {
		err := b.canary(ctx, otherModel)
		if err == nil {
			err = b.must(ctx, "rollout", http.MethodPut, "/rollout", scenario.Rollout{Model: otherModel.Name, Mode: "canary", Share: 0.5}, nil)
		}
		ds, err1 := b.keyed(ctx, "round-0")
		if err = first(err, err1); err != nil {
			return err
		}
		var events []scenario.FeedbackEvent
		for _, d := range ds {
			outcome := scenario.Confirmed
			if d.Model.Variant == "canary" {
				outcome = scenario.Rejected
			}
			events = append(events, scenario.FeedbackEvent{Decision: d.Decision, Outcome: outcome, Source: "users"})
		}
		if _, err := b.feedback(ctx, "feedback", events...); err != nil {
			return err
		}
		if _, err := b.own(ctx, "state of rollout", http.MethodGet, "/rollout", nil, nil); err != nil {
			return err
		}
		_, err = b.keyed(ctx, "round-1")
		return err
	}, wrong: func(s *story) (string, string) {
		r, ok := read[scenario.RolloutState](s, "state of rollout")
		n, ok1 := s.canaries("round-1")
		observed := fmt.Sprintf("rollout %s, reason %q; %d canary decisions afterwards", r.State, r.Reason, n)
		switch {
		case !ok || !ok1:
			return reasonMissing, s.describe("feedback") + "; " + s.describe("state of rollout")
		case r.State != "rolled-back" || n > 0:
			return reasonNotEnded, observed
		case r.Reason != "rejected":
			return reasonUnsaid, observed
		}
		return "", observed
	}},
))

// canaries counts the decisions of a batch that a canary made.
func (s *story) canaries(name string) (n int, ok bool) {
	all, ok := read[scenario.Decisions](s, name)
	for _, d := range all.Decisions {
		n += one(d.Model.Variant == "canary")
	}
	return n, ok && len(all.Decisions) == canaryKeys
}

func judgeCanaryShare(s *story) (string, string) {
	n, ok := s.canaries("round-0")
	m, ok1 := s.canaries("round-1")
	if !ok || !ok1 {
		return reasonMissing, s.describe("round-0") + "; " + s.describe("round-1")
	}
	a, _ := read[scenario.Decisions](s, "round-0")
	b, _ := read[scenario.Decisions](s, "round-1")
	observed := fmt.Sprintf("%d, then %d of %d keys had the canary", n, m, canaryKeys)
	for i := range a.Decisions {
		if a.Decisions[i].Model.Digest != b.Decisions[i].Model.Digest {
			return reasonWanders, fmt.Sprintf("%s; key %d changed", observed, i)
		}
	}
	if math.Abs(float64(n)/canaryKeys-0.3) > 0.13 { // three standard deviations
		return reasonShare, observed
	}
	return "", observed
}
