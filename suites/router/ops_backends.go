package router

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/backends"
	scenario "github.com/assay-bench/assay/scenarios/router"
	"github.com/assay-bench/assay/suites"
)

// fleet is a router of the case's own with backends at upstreams of the harness, which the chat API reaches
// under auto:NAME.
type fleet struct {
	*bench
	up *scenario.Bed
}

// fleetRow makes a check of one case that drives a fleet of n upstreams.
func fleetRow(c suites.Check, n int, want string, own []string, drive func(context.Context, *fleet) error, wrong func(*story) (string, string)) suites.Check {
	c.Needs = append(c.Needs, features.RouterOpenAI)
	c.Reasons = append(c.Reasons, own...)
	if c.Cost.Time == 0 {
		c.Cost.Time = 200 * time.Millisecond
	}
	c.Drive = func(ctx context.Context, env *scenarios.Env) (err error) {
		up, err := scenario.OpenUpstreams(ctx, env, n)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, up.Close(ctx)) }()
		return driving(func(ctx context.Context, b *bench) error { return drive(ctx, &fleet{b, up}) })(ctx, env)
	}
	c.Judge = judging(want, func(_ suites.Trace, s *story) suites.Finding {
		reason, observed := wrong(s)
		return s.verdict(reason, observed)
	})
	return c
}

// backend registers upstream i under its name.
func (f *fleet) backend(ctx context.Context, i int, spec scenario.Backend) error {
	name := fmt.Sprintf("%s%d", backends.OpenAIPrefix, i+1)
	spec.URL, spec.Model = "http://"+f.up.Addr(i)+"/v1", backends.OpenAIModel(name)
	return f.must(ctx, "backend "+name, http.MethodPut, "/backends/"+name, spec, nil)
}

// served makes a router with the policy x, which everything goes to, over backends.
func (f *fleet) served(ctx context.Context, p scenario.Policy, specs ...scenario.Backend) error {
	if err := f.router(ctx, scenario.Settings{}); err != nil {
		return err
	}
	for i, spec := range specs {
		if err := f.backend(ctx, i, spec); err != nil {
			return err
		}
	}
	p.Examples = scenario.Intents()[1].Examples
	return f.policies(ctx, "policies", map[string]scenario.Policy{"x": p})
}

// chat asks for the choice of the case's router.
func (f *fleet) chat(ctx context.Context, name, text string, headers http.Header) error {
	q := scenario.Ask{Model: "auto:" + f.Router(), Messages: scenario.User(text)}
	_, err := f.up.SendWith(ctx, name, q, headers)
	return err
}

// at names the upstreams that got a request.
func (s *story) at(name string) (out []string) {
	for _, a := range s.chatsAt(name) {
		out = append(out, a.Backend)
	}
	return out
}

var _ = add(fleetRow(suites.Check{
	ID: "router/ops/objective", Title: "cost, latency and priority each pick their backend", Kills: kill(reasonAstray, "router.objective-ignored"),
}, 3, "the cheapest, the fastest and the one with the greatest priority are asked under their objectives", []string{reasonAstray, reasonNotForwarded, reasonTwice, reasonOtherAnswer},
	func(ctx context.Context, f *fleet) error {
		err := f.served(ctx, scenario.Policy{Backends: []string{"openai-1", "openai-2", "openai-3"}},
			scenario.Backend{Cost: 3, Priority: 1}, scenario.Backend{Cost: 1, Priority: 2}, scenario.Backend{Cost: 2, Priority: 9})
		for i, millis := range []int{40, 90, 100} {
			if err != nil {
				return err
			}
			err = f.must(ctx, named("observed %d", i+1), http.MethodPost, fmt.Sprintf("/backends/openai-%d/observations", i+1), map[string]any{"latencyMillis": millis, "error": false}, nil)
		}
		for _, objective := range objectives {
			if err == nil {
				err = f.chat(ctx, objective.name, example(1, 0), http.Header{"X-Router-Objective": {objective.name}})
			}
		}
		return err
	}, func(s *story) (string, string) {
		var parts []string
		for _, o := range objectives {
			if reason, observed := s.passedOn(o.name); reason != "" {
				return reason, observed
			}
			parts = append(parts, o.name+" at "+s.at(o.name)[0])
			if s.at(o.name)[0] != o.want {
				return reasonAstray, strings.Join(parts, ", ") + ", wanted " + o.want
			}
		}
		return "", strings.Join(parts, ", ")
	}))

// objectives with the backend that is the best by each. That by latency comes first: every answer is observed.
var objectives = []struct{ name, want string }{{"latency", "openai-1"}, {"cost", "openai-2"}, {"priority", "openai-3"}}

// splitKeys are how many keys a split is asked about, each twice.
const (
	splitKeys  = 120
	splitShare = 0.4
)

const reasonShare = "wrong-share" // the share of an arm is not what was asked for

var _ = add(fleetRow(suites.Check{
	ID: "router/ops/split", Title: "an A/B split keeps a key at its backend and follows its share", Cost: took(400 * time.Millisecond),
	Kills: kills(kill(reasonShare, "router.split-ignored"), kill(reasonWanders, "router.split-random")),
}, 2, "120 keys, each twice: the same backend both times, and 40 ± 14 % of the keys at the second one", []string{reasonMissing, reasonWanders, reasonShare},
	func(ctx context.Context, f *fleet) error {
		err := f.served(ctx, scenario.Policy{Backends: []string{"openai-1", "openai-2"}, Split: &scenario.Split{Backend: "openai-2", Share: splitShare}}, scenario.Backend{}, scenario.Backend{})
		for round := range 2 {
			var qs []scenario.DecideRequest
			for i := range splitKeys {
				text := example(1, 0)
				qs = append(qs, scenario.DecideRequest{Text: &text, Key: named("key-%d", i)})
			}
			if err == nil {
				_, err = f.decideAll(ctx, named("round-%d", round), qs...)
			}
		}
		return err
	}, func(s *story) (string, string) {
		a, ok := read[scenario.Decisions](s, "round-0")
		b, ok1 := read[scenario.Decisions](s, "round-1")
		if !ok || !ok1 || len(a.Decisions) != splitKeys || len(b.Decisions) != splitKeys {
			return reasonMissing, s.describe("round-0") + "; " + s.describe("round-1")
		}
		second, wandered := 0, 0
		for i, d := range a.Decisions {
			second += one(d.Backend == "openai-2")
			wandered += one(d.Backend != b.Decisions[i].Backend)
		}
		share := float64(second) / splitKeys
		observed := fmt.Sprintf("%d of %d keys at the second backend, %d changed", second, splitKeys, wandered)
		switch {
		case wandered > 0:
			return reasonWanders, observed
		case math.Abs(share-splitShare) > 0.14: // three standard deviations
			return reasonShare, observed
		}
		return "", observed
	}))

const reasonNoCopy = "no-copy" // the shadow got no copy

var _ = add(fleetRow(suites.Check{
	ID: "router/ops/shadow", Title: "a shadow backend gets a copy, and its answer is thrown away", Cost: took(300 * time.Millisecond),
	Kills: kills(kill(reasonNoCopy, "router.shadow-missing"), kill(reasonOtherAnswer, "router.shadow-answers")),
}, 2, "both upstreams get the request; the answer is the first one's", []string{reasonNotForwarded, reasonNoCopy, reasonOtherAnswer},
	func(ctx context.Context, f *fleet) error {
		err := f.served(ctx, scenario.Policy{Backends: []string{"openai-1"}, Shadow: "openai-2"}, scenario.Backend{}, scenario.Backend{})
		if err == nil {
			err = f.chat(ctx, "ask", example(1, 0), nil)
		}
		return first(err, f.settle(ctx, "later", 1, func(n int) bool { return n >= 1 }))
	}, func(s *story) (string, string) {
		c := s.chats["ask"]
		all := append(s.chatsAt("ask"), s.chatsAt("later")...)
		observed := chatted(c) + "; " + arrived(s.arrivals["ask"]) + "; later " + arrived(s.arrivals["later"])
		var main, copied bool
		for _, a := range all {
			main = main || a.Backend == "openai-1"
			copied = copied || a.Backend == "openai-2"
		}
		switch {
		case c.Status == 200 && !strings.HasPrefix(said(c), "openai-1 "):
			return reasonOtherAnswer, observed
		case !main || c.Status != 200:
			return reasonNotForwarded, observed
		case !copied:
			return reasonNoCopy, observed
		}
		return "", observed
	}))

// settle looks at the upstreams, for at most a second, until as many requests have arrived at upstream i as
// is fine since it was started; what arrived is recorded under the name.
func (f *fleet) settle(ctx context.Context, name string, i int, fine func(int) bool) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 50 {
		n, err := f.up.Count(ctx, i)
		if err != nil || fine(n) {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return f.up.Look(ctx, name)
}

var _ = add(fleetRow(suites.Check{
	ID: "router/ops/retry", Title: "a backend that fails before its first byte is replaced by the policy's next one",
	Kills: kill(reasonNotRecovered, "router.retry-missing"),
}, 2, "the first backend resets the connection; the second one's answer comes back", []string{reasonNotRecovered, reasonNotForwarded},
	func(ctx context.Context, f *fleet) error {
		err := f.served(ctx, scenario.Policy{Backends: []string{"openai-1", "openai-2"}}, scenario.Backend{}, scenario.Backend{})
		if err == nil {
			err = f.up.Fault(ctx, 0, backends.FaultRefuse)
		}
		if err == nil {
			err = f.chat(ctx, "ask", example(1, 0), nil)
		}
		return err
	}, func(s *story) (string, string) {
		c := s.chats["ask"]
		observed := chatted(c) + "; " + arrived(s.arrivals["ask"])
		switch {
		case !slices.Contains(s.at("ask"), "openai-1"):
			return reasonNotForwarded, observed
		case c.Status != 200 || !strings.HasPrefix(said(c), "openai-2 "):
			return reasonNotRecovered, observed
		}
		return "", observed
	}))

const (
	reasonOneAsked = "one-asked" // only one of the two best policies was asked
	reasonWaited   = "waited"    // a dispatch waited for its backends
)

var _ = add(fleetRow(suites.Check{
	ID: "router/ops/dispatch", Title: "a dispatch asks the backends of the two best policies and does not wait", Cost: suites.Cost{Time: 800 * time.Millisecond, Exclusive: true},
	Kills: kills(kill(reasonOneAsked, "router.dispatch-one"), kill(reasonWaited, "router.dispatch-blocks")),
}, 3, "202 while both backends, which take 400 ms, have not answered; both answers are there later", []string{reasonMissing, reasonOneAsked, reasonWaited},
	func(ctx context.Context, f *fleet) error {
		if err := f.router(ctx, scenario.Settings{}); err != nil {
			return err
		}
		all := taught(scenario.RowsExamples)
		for i, in := range scenario.Intents() {
			if err := f.backend(ctx, i, scenario.Backend{}); err != nil {
				return err
			}
			p := all[in.Name]
			p.Backends = []string{named("openai-%d", i+1)}
			all[in.Name] = p
			if err := f.up.Fault(ctx, i, backends.FaultSlow); err != nil {
				return err
			}
		}
		if err := f.policies(ctx, "policies", all); err != nil {
			return err
		}
		return f.dispatch(ctx, "will my invoice be wrong when it rains tomorrow")
	}, judgeDispatch))

// Dispatch is what a router says of requests that it sent on without waiting.
type Dispatch struct {
	Dispatch string            `json:"dispatch"`
	Decision scenario.Decision `json:"decision"`
	Answers  []struct {
		Policy  string `json:"policy"`
		Backend string `json:"backend"`
		State   string `json:"state"`
		Output  string `json:"output"`
	} `json:"answers"`
}

// dispatch sends a text on, then asks for at most two seconds until its answers are there.
func (f *fleet) dispatch(ctx context.Context, text string) error {
	var d Dispatch
	if _, err := f.own(ctx, "dispatch", http.MethodPost, "/dispatches", scenario.OfText(text), &d); err != nil {
		return err
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for range 40 {
		var now Dispatch
		if _, err := f.own(ctx, "", http.MethodGet, "/dispatches/"+d.Dispatch, nil, &now); err != nil {
			return err
		}
		if len(now.Answers) > 0 && !slices.ContainsFunc(now.states(), func(s string) bool { return s == "pending" }) {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if _, err := f.own(ctx, "dispatched", http.MethodGet, "/dispatches/"+d.Dispatch, nil, nil); err != nil {
		return err
	}
	return f.up.Look(ctx, "dispatch")
}

func (d Dispatch) states() (out []string) {
	for _, a := range d.Answers {
		out = append(out, a.State)
	}
	return out
}

func judgeDispatch(s *story) (string, string) {
	d, ok := read[Dispatch](s, "dispatch")
	later, ok1 := read[Dispatch](s, "dispatched")
	sent := s.calls["dispatch"]
	observed := fmt.Sprintf("status %d after %s, states %v, later %v; %s", sent.Status, sent.Took.Round(time.Millisecond), d.states(), later.states(), arrived(s.arrivals["dispatch"]))
	switch {
	case !ok || !ok1 || sent.Status != http.StatusAccepted:
		return reasonMissing, s.describe("dispatch") + "; " + observed
	case sent.Took >= backends.SlowBy:
		return reasonWaited, observed
	case len(later.Answers) != 2 || len(s.chatsAt("dispatch")) != 2:
		return reasonOneAsked, observed
	}
	for _, a := range later.Answers {
		if a.State != "answered" || !strings.HasPrefix(a.Output, a.Backend+" ") || a.Policy != d.Decision.Policy && a.Policy != d.Decision.Second {
			return reasonMissing, observed
		}
	}
	return "", observed
}

var _ = add(apiRow(suites.Check{
	ID: "router/decide/health-weights", Title: "observed latency and errors of its backends lower a policy's weight",
	Kills: kill(reasonWrongSum, "router.health-ignored"),
}, "weights follow health: moving averages with factor 0.2, health max(0.05, (1 − error rate) × min(1, median ÷ latency))", []string{reasonMissing, reasonNotOne, reasonWrongSum},
	apiCase{drive: func(ctx context.Context, b *bench) error {
		if err := b.router(ctx, scenario.Settings{}); err != nil {
			return err
		}
		all := map[string]scenario.Policy{}
		for i, p := range []string{"a", "b", "c"} {
			if err := b.must(ctx, "backend "+p, http.MethodPut, "/backends/"+p, scenario.Backend{URL: "http://127.0.0.1:9/v1", Model: "m"}, nil); err != nil {
				return err
			}
			all[p] = scenario.Policy{Vectors: [][]float64{axis(float64(i), 1)}, Backends: []string{p}}
		}
		if err := b.policies(ctx, "policies", all); err != nil {
			return err
		}
		for _, o := range observations {
			if err := b.must(ctx, "observed "+o.backend+named(" %d", o.n), http.MethodPost, "/backends/"+o.backend+"/observations", map[string]any{"latencyMillis": o.millis, "error": o.failed}, nil); err != nil {
				return err
			}
		}
		_, err := b.own(ctx, "weights", http.MethodGet, "/weights?at="+atNoon, nil, nil)
		return err
	}, wrong: func(s *story) (string, string) {
		w, ok := read[scenario.Weights](s, "weights")
		if !ok || len(w.Weights) != 3 {
			return reasonMissing, s.describe("weights")
		}
		want := healthShares()
		observed := fmt.Sprintf("weights %v, computed %v", w.Weights, want)
		sum := 0.0
		for _, p := range sortedKeys(want) {
			sum += w.Weights[p]
			if math.Abs(w.Weights[p]-want[p]) > 1e-6 {
				return reasonWrongSum, observed
			}
		}
		if math.Abs(sum-1) > 1e-9 {
			return reasonNotOne, observed
		}
		return "", observed
	}},
))

// observations are reported of three backends: one is slow, one fails.
var observations = []struct {
	backend string
	n       int
	millis  float64
	failed  bool
}{
	{"a", 0, 10, false}, {"a", 1, 20, false}, {"b", 0, 100, false}, {"b", 1, 200, false}, {"c", 0, 10, false}, {"c", 1, 10, true},
}

// healthShares are the weights that the observations give.
func healthShares() map[string]float64 {
	latency, failure := map[string]float64{}, map[string]float64{}
	for _, o := range observations {
		failed := float64(one(o.failed))
		if o.n == 0 {
			latency[o.backend], failure[o.backend] = o.millis, failed
			continue
		}
		latency[o.backend] += 0.2 * (o.millis - latency[o.backend])
		failure[o.backend] += 0.2 * (failed - failure[o.backend])
	}
	var all []float64
	for _, p := range sortedKeys(latency) {
		all = append(all, latency[p])
	}
	slices.Sort(all)
	median, out, sum := all[(len(all)-1)/2], map[string]float64{}, 0.0
	for _, p := range sortedKeys(latency) {
		out[p] = max(0.05, (1-failure[p])*min(1, median/latency[p]))
		sum += out[p]
	}
	for p := range out {
		out[p] /= sum
	}
	return out
}
