package router_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/assay-bench/assay/models/manifest"
	"github.com/assay-bench/assay/models/ngram"
	"github.com/assay-bench/assay/models/static"
	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/router"
	"github.com/assay-bench/assay/reference/router/backend"
)

// publisher signs models of the test's own.
type publisher struct{ key ed25519.PrivateKey }

func trusted(t *testing.T, s *router.Service) publisher {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Trust([][]byte{public}); err != nil {
		t.Fatal(err)
	}
	return publisher{private}
}

func (p publisher) sign(t *testing.T, name string, file []byte) []byte {
	t.Helper()
	signed, err := manifest.Signer{Ed25519: p.key}.Sign(manifest.Manifest{Models: []manifest.Model{
		manifest.Describe(name, "1", "Apache-2.0", "a test", file),
	}})
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// trained is a small model of other vectors than the default one's.
func trained(t *testing.T) []byte {
	t.Helper()
	c := ngram.DefaultConfig(1)
	c.Epochs, c.Buckets = 2, 512
	m, err := ngram.Train([]string{"bills", "weather"}, []ngram.Example{
		{Text: "send me my invoice", Class: 0}, {Text: "refund my payment", Class: 0}, {Text: "change my billing address", Class: 0},
		{Text: "will it rain tomorrow", Class: 1}, {Text: "weather forecast for lisbon", Class: 1}, {Text: "is a storm coming", Class: 1},
		{Text: "write a function that sorts a list", Class: 1}, {Text: "fix this syntax error", Class: 1}, {Text: "explain the stack trace", Class: 1},
	}, c)
	if err != nil {
		t.Fatal(err)
	}
	file, err := m.File()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func TestModelsAreVerified(t *testing.T) {
	s := service(t)
	p := trusted(t, s)
	other := publisher{ed25519.NewKeyFromSeed(make([]byte, 32))}
	file := trained(t)
	swapped := bytes.Clone(static.File())
	swapped[len(swapped)-1] ^= 1
	cases := []struct {
		name           string
		file, manifest []byte
		reason         string
	}{
		{"no manifest", file, nil, "manifest-missing"},
		{"no envelope", file, []byte("{}"), "manifest-format"},
		{"another publisher", file, other.sign(t, "m", file), "manifest-signature"},
		{"another file", swapped, p.sign(t, "m", file), "digest-unlisted"},
		{"a swapped part", swapped, p.sign(t, "m", swapped), "metadata"},
		{"truncated", file[:len(file)/2], p.sign(t, "m", file[:len(file)/2]), "format"},
		{"no model", []byte("hello"), p.sign(t, "m", []byte("hello")), "format"},
	}
	seen := 0
	for _, c := range cases {
		seen++
		_, err := s.Load("m", c.file, c.manifest)
		if e, ok := errors.AsType[*router.Error](err); !ok || e.Kind != router.Refused || e.Reason != c.reason {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if len(s.Models().Models) != 1 || seen == 0 {
		t.Error("a refused model is there")
	}
	info, err := s.Load("m", file, p.sign(t, "m", file))
	if err != nil || info.Format != "ngram" || len(s.Models().Models) != 2 {
		t.Errorf("%+v %v", info, err)
	}
}

// rolling is a taught router of a service with a second model m.
func rolling(t *testing.T, defects ...defect.Name) (*router.Router, router.ModelInfo) {
	t.Helper()
	s := service(t, defects...)
	if _, err := s.Set("test", router.Settings{Engine: router.PureGo}); err != nil {
		t.Fatal(err)
	}
	r, err := s.Router("test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.SetPolicies(map[string]router.Policy{
		"bills":   {Examples: []string{"send me my invoice", "refund my payment", "change my billing address"}},
		"weather": {Examples: []string{"will it rain tomorrow", "weather forecast for lisbon", "is a storm coming"}},
	}); err != nil {
		t.Fatal(err)
	}
	file := trained(t)
	info, err := s.Load("m", file, trusted(t, s).sign(t, "m", file))
	if err != nil {
		t.Fatal(err)
	}
	return r, info
}

func TestCanaryTakesItsShare(t *testing.T) {
	r, info := rolling(t)
	if _, err := r.SetRollout(router.Rollout{Model: "m", Mode: "canary", Share: of(0.3)}); err != nil {
		t.Fatal(err)
	}
	text, canary := "refund it", 0
	arms := map[string]string{}
	for i := range 600 {
		key := string(rune('a'+i%300)) + "-key"
		d, err := r.Decide(t.Context(), router.DecideRequest{Text: &text, Key: key})
		if err != nil {
			t.Fatal(err)
		}
		if before, ok := arms[key]; ok && before != d.Model.Variant {
			t.Fatal("a key changed its arm")
		}
		arms[key] = d.Model.Variant
		if d.Model.Variant == router.Canary {
			canary++
			if d.Model.Digest != info.Digest {
				t.Fatal("the canary names another model")
			}
		}
	}
	if canary < 120 || canary > 240 {
		t.Errorf("%d of 600", canary)
	}
}

// TestCanaryRollsBack: feedback that rejects what a canary decided ends it.
func TestCanaryRollsBack(t *testing.T) {
	r, _ := rolling(t)
	stable := r.State()
	if _, err := r.SetRollout(router.Rollout{Model: "m", Mode: "canary", Share: of(1.0)}); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		d := decide(t, r, "refund it")
		if _, err := r.Feedback([]router.FeedbackEvent{{Decision: d.Decision, Outcome: router.Rejected, Source: "s"}}); err != nil {
			t.Fatal(err)
		}
	}
	got := r.Rollout()
	if got.State != "rolled-back" || got.Reason != "rejected" || got.Trial.Rejected != 20 {
		t.Errorf("%+v", got)
	}
	if d := decide(t, r, "refund it"); d.Model.Variant != router.Stable || d.Version != stable.Version || d.VersionDigest != stable.Digest {
		t.Errorf("%+v", d)
	}
}

func TestCanaryIsGuarded(t *testing.T) {
	r, _ := rolling(t)
	if _, err := r.SetGuard([]router.Example{{Text: "what does my bill cost", Policy: "bills"}, {Text: "umbrella or sunshine", Policy: "weather"}, {Text: "sunny skies", Policy: "weather"}}); err != nil {
		t.Fatal(err)
	}
	_, err := r.SetRollout(router.Rollout{Model: "m", Mode: "canary"})
	if e, ok := errors.AsType[*router.Error](err); !ok || e.Reason != "guard" {
		t.Errorf("%v", err)
	}
}

// TestPromotionFailsNoDecision: decisions go on while the model is replaced, and each names a model that it
// was made with.
func TestPromotionFailsNoDecision(t *testing.T) {
	r, info := rolling(t)
	if _, err := r.SetRollout(router.Rollout{Model: "m", Mode: "shadow"}); err != nil {
		t.Fatal(err)
	}
	old, text := r.State(), "refund my payment"
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 300 {
				d, err := r.Decide(t.Context(), router.DecideRequest{Text: &text})
				if err != nil || (d.Model.Digest == info.Digest) != (d.Version > old.Version) {
					t.Errorf("%v %+v", err, d)
					return
				}
			}
		})
	}
	time.Sleep(time.Millisecond) // so that some decisions come before
	state, err := r.Promote()
	all.Wait()
	if err != nil || state.Model.Digest != info.Digest || r.Rollout().State != "promoted" || r.Stats().Shadow.Compared == 0 {
		t.Errorf("%+v %v %+v", state, err, r.Rollout())
	}
	back, err := r.Rollback(old.Version)
	if err != nil || back.Model.Digest != old.Model.Digest || back.Digest != old.Digest {
		t.Errorf("%+v %v", back, err)
	}
}

func TestHealthWeighs(t *testing.T) {
	r := taught(t, router.Settings{})
	for _, name := range []string{"fast", "slow"} {
		if _, err := r.SetBackend(name, backend.Spec{URL: "http://127.0.0.1:1/v1", Model: name}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.SetPolicies(map[string]router.Policy{
		"bills": {Examples: []string{"refund my payment"}, Backends: []string{"fast"}}, "code": {Examples: []string{"sort a list"}, Backends: []string{"slow"}},
	}); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		for name, latency := range map[string]time.Duration{"fast": 10 * time.Millisecond, "slow": 40 * time.Millisecond} {
			if _, err := r.Observe(name, latency, name == "slow"); err != nil {
				t.Fatal(err)
			}
		}
	}
	w, sum := r.Weights(time.Time{}).Weights, 0.0
	for _, share := range w {
		sum += share
	}
	if w["code"] > w["bills"]/10 || sum < 1-1e-12 || sum > 1+1e-12 {
		t.Errorf("%v", w)
	}
}

func TestOrder(t *testing.T) {
	var s backend.Set
	cheap := s.Put("cheap", backend.Spec{Cost: 1, Priority: 1})
	quick := s.Put("quick", backend.Spec{Cost: 5, Priority: 2})
	best := s.Put("best", backend.Spec{Cost: 9, Priority: 9})
	s.Observe(cheap, 50*time.Millisecond, false)
	s.Observe(quick, 5*time.Millisecond, false)
	s.Observe(best, 20*time.Millisecond, false)
	all := []*backend.Backend{best, cheap, quick}
	for objective, want := range map[string]*backend.Backend{"": best, backend.Cost: cheap, backend.Latency: quick, backend.Priority: best} {
		if got := backend.Order(all, objective)[0]; got != want {
			t.Errorf("%s: %s", objective, got.Name)
		}
	}
}

func TestCacheIsCounted(t *testing.T) {
	r := taught(t, router.Settings{Cache: of(2)})
	var digests []string
	for _, text := range []string{"refund it", "refund it", "rain", "code", "refund it"} {
		d := decide(t, r, text)
		raw, err := json.Marshal(d.Vector)
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, string(raw))
	}
	if c := r.Stats().Cache; c.Hits != 1 || c.Misses != 4 || c.Entries != 2 || c.Capacity != 2 {
		t.Errorf("%+v", c)
	}
	if digests[0] != digests[1] || digests[0] != digests[4] || digests[0] == digests[2] {
		t.Error("vectors of the cache differ")
	}
}

func TestEngineAbsent(t *testing.T) {
	if _, loaded := router.Engine(""); loaded {
		t.Skip("ONNX Runtime is here")
	}
	s := service(t)
	_, err := s.Set("x", router.Settings{Engine: router.ONNXRuntime})
	if e, ok := errors.AsType[*router.Error](err); !ok || e.Reason != "engine" {
		t.Errorf("%v", err)
	}
	if _, err := s.Router("x"); err == nil {
		t.Error("a refused router is there")
	}
	state, err := s.Set("x", router.Settings{Engine: router.Auto})
	if err != nil || state.Model.Engine != router.PureGo {
		t.Errorf("%+v %v", state, err)
	}
	if e := s.Models().Engine; e.Used != router.PureGo || e.Detail == "" {
		t.Errorf("%+v", e)
	}
}

// TestTowersReadTheRequest: with the model towers the same text has another vector when the request is another,
// and with the default model it has not.
func TestTowersReadTheRequest(t *testing.T) {
	text := "where is my order"
	at := time.Date(2026, 1, 31, 9, 0, 0, 0, time.UTC)
	requests := []*router.RequestFeatures{
		nil, {URL: "/billing/1", Region: "eu", UserAgent: "curl/8", AccessTimes: []time.Time{at.Add(-time.Hour)}},
		{URL: "/search", Region: "us", ASN: 3320, LatencyMillis: 900, ErrorCode: 503},
	}
	for model, want := range map[string]int{router.Towers: len(requests), "": 1} {
		r := taught(t, router.Settings{Model: model})
		vectors := map[[128]float32]bool{}
		for range 2 {
			for _, q := range requests {
				d, err := r.Decide(t.Context(), router.DecideRequest{Text: &text, Request: q, At: at, Explain: true})
				if err != nil {
					t.Fatal(err)
				}
				vectors[[128]float32(d.Vector)] = true
			}
		}
		if len(vectors) != want {
			t.Errorf("model %q: %d vectors, want %d", model, len(vectors), want)
		}
	}
	r := taught(t, router.Settings{Model: router.Towers})
	_, err := r.Decide(t.Context(), router.DecideRequest{Text: &text, Request: &router.RequestFeatures{ErrorCode: 7}})
	if e, ok := errors.AsType[*router.Error](err); !ok || e.Kind != router.Bad {
		t.Errorf("a code that is none: %v", err)
	}
}
