package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/assay-bench/assay/fixtures/routes"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/results/stats"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/router"
	"github.com/assay-bench/assay/scenarios/target"
	"github.com/assay-bench/assay/suites/runner"
)

// loadGenFlags are the flags of assay cost that its argument loadgen reads.
type loadGenFlags struct {
	target   string
	duration time.Duration // of each scenario, at least
	bound    time.Duration // of Server's p99
}

// command is what makes such a report.
func (g loadGenFlags) command() string {
	c := fmt.Sprintf("assay cost loadgen --duration %s --bound %s", g.duration, g.bound)
	if g.target != "" {
		c += " --target " + g.target
	}
	return c
}

// loadGenReport is LoadGen's scenarios, played at full length.
type loadGenReport struct {
	APIVersion string          `json:"apiVersion"`
	Kind       string          `json:"kind"`
	Command    string          `json:"command"`
	Target     string          `json:"target"`
	Go         string          `json:"go"`
	Host       string          `json:"host"`
	CPUs       int             `json:"cpus"`
	Load       string          `json:"load"` // load average when it began and ended
	Seed       uint64          `json:"seed"`
	Duration   time.Duration   `json:"duration"`
	Texts      int             `json:"texts"` // different ones, none of which a policy was learned from
	Played     []router.Played `json:"played"`
	Tried      []router.Played `json:"tried"` // runs of Server that looked for the highest rate
}

// Sizes of the scenarios, after LoadGen's rules: the queries below which early stopping says nothing are far fewer.
const (
	fullQueries = 1024
	firstRate   = 50.0  // queries a second that the search for Server's rate begins with
	lastRate    = 51200 // and ends with
	halvings    = 4     // of the step between a rate that holds and one that does not
)

func (a *app) runLoadGen(ctx context.Context, f costFlags) error {
	g := f.loadGen
	if g.duration < time.Second || g.duration > time.Hour {
		return usagef("--duration is %s, want 1s to 1h", g.duration)
	}
	if g.bound < time.Millisecond || g.bound > 10*time.Second {
		return usagef("--bound is %s, want 1ms to 10s", g.bound)
	}
	report, err := a.playLoadGen(ctx, g)
	if err != nil {
		return err
	}
	write := report.markdown
	if f.json {
		write = report.json
	}
	if f.out == "" {
		return write(a.out)
	}
	return writeWhole(f.out, write)
}

// playLoadGen starts the target, teaches a router of its own the corpus of service routes, and plays.
func (a *app) playLoadGen(ctx context.Context, g loadGenFlags) (_ *loadGenReport, err error) {
	suite, err := newSuite()
	if err != nil {
		return nil, err
	}
	chosen, err := chooseTarget(ctx, suite, runFlags{target: g.target, basis: "all", profile: "full", readDeadline: 5 * time.Second})
	if err != nil {
		return nil, usage(err)
	}
	dir, err := os.MkdirTemp("", "assay-loadgen-*")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	journal, closeJournal, err := openJournal(dir)
	if err != nil {
		return nil, err
	}
	children := runner.Children{Journal: journal}
	defer func() { err = errors.Join(err, children.Release(), closeJournal()) }()
	tgt, err := chosen.build(children.Own, func(results.Source, results.Kind, any) error { return nil })
	if err != nil {
		return nil, usage(err)
	}
	defer func() { err = errors.Join(err, tgt.Stop(context.WithoutCancel(ctx))) }()
	endpoints, err := tgt.Start(ctx)
	if err != nil {
		return nil, err
	}
	if endpoints[router.Endpoint] == "" {
		return nil, usagef("%s has no endpoint %s: the scenarios use the API of routers", chosen.meta.Name, router.Endpoint)
	}
	r := &loadGenReport{
		APIVersion: results.APIVersion, Kind: "loadgen", Command: g.command(), Target: chosen.meta.Name + " " + chosen.meta.Version, Go: runtime.Version(),
		Host: aboutHost().CPU, CPUs: runtime.NumCPU(), Seed: drawSeed(), Duration: g.duration,
	}
	api := router.NewAPI(measuringEnv(endpoints, scenarios.NewDialer(chosen.hosts, chosen.rate).DialContext))
	defer func() { err = errors.Join(err, api.Close(ctx)) }()
	texts, err := teachRoutes(ctx, api)
	if err != nil {
		return nil, err
	}
	r.Texts, r.Load = len(texts), loadAverage()
	err = r.play(ctx, api, texts, g, func(what string) { fmt.Fprintln(a.err, what) })
	r.Load += ", then " + loadAverage()
	return r, err
}

// measuringEnv is the environment of a measurement that keeps no evidence.
func measuringEnv(at target.Endpoints, dial scenarios.DialFunc) *scenarios.Env {
	return &scenarios.Env{
		Token: "loadgen", Endpoints: at, Dial: dial, Clock: results.ClockSince(time.Now()), Rand: rand.New(rand.NewPCG(1, 1)),
		Put: func(results.Source, results.Kind, any) error { return nil },
	}
}

// teachRoutes learns the training texts of the corpus and returns the other ones.
func teachRoutes(ctx context.Context, api *router.API) (unseen []string, err error) {
	c, err := routes.Load()
	if err != nil {
		return nil, err
	}
	all := map[string]router.Policy{}
	for _, r := range c.Routes {
		all[r.ID] = router.Policy{Examples: r.Train}
		unseen = slices.Concat(unseen, r.Validation, r.Test)
	}
	for _, step := range []struct {
		method, path string
		body         any
	}{{http.MethodPut, "", router.Settings{}}, {http.MethodPost, "/policies", router.PolicyBatch{Policies: all}}} {
		call, err := api.Own(ctx, "", step.method, step.path, step.body, nil)
		if err != nil {
			return nil, err
		}
		if !call.Good() {
			return nil, usagef("%s %s: status %d %s: the target is no router of this API", call.Method, call.Path, call.Status, call.Broken)
		}
	}
	return append(unseen, c.Test...), nil
}

func (r *loadGenReport) play(ctx context.Context, api *router.API, texts []string, g loadGenFlags, say func(string)) error {
	least := router.Streams{Queries: fullQueries, Duration: g.duration}
	for _, play := range []func() (router.Played, error){
		func() (router.Played, error) { return api.Stream(ctx, router.SingleStream, least, 1, texts) },
		func() (router.Played, error) {
			return api.Stream(ctx, router.MultiStream, least, router.MultiSamples, texts)
		},
		func() (router.Played, error) { return api.Offline(ctx, router.LeastOffline, texts) },
		func() (router.Played, error) { return r.highest(ctx, api, texts, g, say) },
	} {
		x, err := play()
		if err != nil {
			return err
		}
		say(fmt.Sprintf("%s: %d queries in %s", x.Scenario, x.Queries, x.Duration.Round(time.Millisecond)))
		r.Played = append(r.Played, x)
		if x.Failed > 0 {
			return fmt.Errorf("%s: %d of %d decisions failed: %s", x.Scenario, x.Failed, x.N, x.Broken)
		}
	}
	return nil
}

// highest looks for the highest rate whose p99 is shown to be under the bound: doubling, then halving the step, with
// short runs; the rate found is confirmed by a run of the full duration, and lowered by a tenth until one holds.
func (r *loadGenReport) highest(ctx context.Context, api *router.API, texts []string, g loadGenFlags, say func(string)) (router.Played, error) {
	least, err := stats.MinPassing(0, 0.99, router.StopConfidence)
	if err != nil {
		return router.Played{}, err
	}
	seed := r.Seed
	try := func(rate float64, duration time.Duration) (router.Played, error) {
		seed++
		x, err := api.Serve(ctx, router.Serve{Rate: rate, Duration: duration, Bound: g.bound, Seed: seed}, texts)
		say(fmt.Sprintf("Server at %.0f a second: p99 %s, %d over the bound, held: %t", rate, x.P99.Round(time.Microsecond), x.Over, x.Met()))
		return x, err
	}
	enough := func(rate float64) time.Duration { // for a verdict, with a few queries over the bound
		return time.Duration(3 * float64(least) / rate * float64(time.Second))
	}
	short := func(rate float64) (bool, error) {
		x, err := try(rate, max(2*time.Second, enough(rate)))
		r.Tried = append(r.Tried, x)
		return x.Met(), err
	}
	held, rate := 0.0, firstRate
	for ; rate <= lastRate; rate *= 2 {
		ok, err := short(rate)
		if err != nil {
			return router.Played{}, err
		}
		if !ok {
			break
		}
		held = rate
	}
	step := rate - held
	for i := 0; i < halvings && held > 0 && rate <= lastRate; i++ {
		step /= 2
		ok, err := short(held + step)
		if err != nil {
			return router.Played{}, err
		}
		if ok {
			held += step
		}
	}
	for rate = max(held, firstRate); ; rate *= 0.9 {
		x, err := try(rate, max(g.duration, enough(rate)))
		if err != nil || x.Met() || rate < firstRate/2 {
			return x, err
		}
		r.Tried = append(r.Tried, x)
	}
}

// loadAverage says how busy the host is: the load average of the last minute.
func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(b), " ")
	return first
}

func (r *loadGenReport) json(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	return e.Encode(r)
}

func (r *loadGenReport) markdown(w io.Writer) error {
	var b strings.Builder
	round := func(d time.Duration) string { return d.Round(time.Microsecond).String() }
	fmt.Fprintf(&b, "# LoadGen's scenarios over the router's decide operation\n\n`%s`: %s, %s, %s, %d CPUs, load average %s, seed %d. Each scenario is played for at least %s and %d queries,\n",
		r.Command, strings.TrimSpace(r.Target), r.Go, r.Host, r.CPUs, r.Load, r.Seed, r.Duration, fullQueries)
	fmt.Fprintf(&b, "over HTTP on loopback, with %d texts that no policy was learned from, in turn, and no cache of vectors. LoadGen asks for 600 s; early stopping (confidence 0.99,\ntolerance 0) is what makes shorter runs valid: its estimate is a higher percentile, by as much as few queries demand.\n\n", r.Texts)
	b.WriteString("| scenario | queries | samples | duration | samples a second | p50 | p90 | p99 | by early stopping |\n|---|--:|--:|--:|--:|--:|--:|--:|---|\n")
	for _, x := range r.Played {
		fmt.Fprintf(&b, "| %s | %d | %d | %s | %.0f | %s | %s | %s | %s |\n", x.Scenario, x.Queries, x.N, x.Duration.Round(time.Millisecond), x.Rate, round(x.P50), round(x.P90), round(x.P99), earlyStopped(x))
	}
	b.WriteString("\nServer: Poisson arrivals, open loop, latency from the intended send time. These runs looked for its rate:\n\n| queries a second | queries | p99 | over the bound | generator late, p99 | held |\n|--:|--:|--:|--:|--:|---|\n")
	for _, x := range r.Tried {
		fmt.Fprintf(&b, "| %.0f | %d | %s | %d | %s | %s |\n", x.Target, x.N, round(x.P99), x.Over, round(x.Late), cmp.Or(x.Shortfall(), "yes"))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// earlyStopped is the last column of a scenario.
func earlyStopped(x router.Played) string {
	var out []string
	for _, e := range x.Early {
		if e.Estimate == 0 {
			out = append(out, fmt.Sprintf("p%.0f needs %d queries", 100*e.Percentile, e.Least))
		} else {
			out = append(out, fmt.Sprintf("p%.0f %s, %d slowest discarded", 100*e.Percentile, e.Estimate.Round(time.Microsecond), e.Discard))
		}
	}
	switch {
	case x.Scenario == router.Offline:
		return fmt.Sprintf("no percentile; at least %d samples", router.LeastOffline)
	case x.Scenario == router.Server && x.Met():
		out = append(out, fmt.Sprintf("p99 under %s at %.0f a second, %d over it", x.Bound, x.Target, x.Over))
	case x.Scenario == router.Server:
		out = append(out, fmt.Sprintf("not shown, %d over %s: %s", x.Over, x.Bound, x.Shortfall()))
	}
	return strings.Join(out, "; ")
}
