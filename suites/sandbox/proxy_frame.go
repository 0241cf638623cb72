package sandbox

import (
	"context"
	"fmt"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/fixtures/wasm"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	box "github.com/assay-bench/assay/scenarios/sandbox"
	"github.com/assay-bench/assay/suites"
)

// filterCase is a filter, the requests that go through it, and what must be seen, as data.
type filterCase struct {
	id, title       string
	filter          string // of fixtures/wasm
	configuration   string
	vmConfiguration string
	requests        []map[string]string // headers of each, one after another: request-0, request-1, …
	refused         bool                // the load must be refused
	// wrong says what is not as the specification demands: a reason of the check's set, and what was seen.
	wrong func(box.SeenProxy) (reason, observed string)
	// custom takes the place of the requests where they are not one after another.
	custom func(context.Context, *scenarios.Env, *box.Upstream) error
}

// Reasons that filterRow gives.
const (
	reasonFilterRefused = "filter-refused"  // a filter that must load does not
	reasonFilterLoaded  = "filter-loaded"   // a filter that must be refused is not
	reasonReached       = "request-reached" // a refused filter got a request
	reasonNoExchange    = "no-exchange"     // no answer of HTTP came through the proxy
)

// filterRow makes a check of cases. Its control is a filter that does nothing but say its version.
func filterRow(c suites.Check, clause, want string, own []string, cases ...filterCase) suites.Check {
	find := func(id string) filterCase {
		for _, k := range cases {
			if k.id == id {
				return k
			}
		}
		return cases[0]
	}
	if len(cases) > 1 || cases[0].id != "" {
		for _, k := range cases {
			c.Cases = append(c.Cases, suites.Case{ID: k.id, Title: k.title})
		}
	}
	c.Covers = []string{c.ID}
	c.Needs = append([]features.Feature{features.SandboxProxy}, c.Needs...)
	c.Cost = suites.Cost{Time: 300 * time.Millisecond, Exclusive: true} // the proxy has one chain of filters
	c.Reasons = append([]string{reasonFilterRefused, reasonFilterLoaded, reasonReached, reasonNoExchange}, own...)
	c.Control = &suites.Control{Drive: controlProxy, Judge: judgeProxyControl}
	c.Drive = func(ctx context.Context, env *scenarios.Env) error { return driveFilter(ctx, env, find(env.Key.Case)) }
	c.Judge = func(t suites.Trace) suites.Finding { return judgeFilter(t, find(t.Key.Case), want+" ("+clause+")") }
	return c
}

func driveFilter(ctx context.Context, env *scenarios.Env, k filterCase) error {
	return behind(env, func(up *box.Upstream) error {
		f := box.Filter{Wasm: wasm.Module(k.filter), Configuration: k.configuration, VMConfiguration: k.vmConfiguration}
		loaded, err := box.Load(ctx, env, "filter", f, up.Addr())
		if err != nil || !loaded.OK && !k.refused {
			return err
		}
		if k.custom != nil {
			return k.custom(ctx, env, up)
		}
		requests := k.requests
		if len(requests) == 0 {
			requests = []map[string]string{nil}
		}
		for i, headers := range requests {
			if _, err := box.Through(ctx, env, fmt.Sprintf("request-%d", i), headers); err != nil {
				return err
			}
		}
		return nil
	})
}

// behind runs f with an upstream of its own and records what arrived there.
func behind(env *scenarios.Env, f func(*box.Upstream) error) error {
	up, err := box.StartUpstream(env)
	if err != nil {
		return err
	}
	err = f(up)
	if cerr := up.Close(); err == nil {
		err = cerr
	}
	return err
}

func controlProxy(ctx context.Context, env *scenarios.Env) error {
	return behind(env, func(up *box.Upstream) error {
		loaded, err := box.Load(ctx, env, "control", box.Filter{Wasm: wasm.Module("proxy-version-1")}, up.Addr())
		if err != nil || !loaded.OK {
			return err
		}
		_, err = box.Through(ctx, env, "control", nil)
		return err
	})
}

func judgeProxyControl(evidence []results.Evidence) (bool, string) {
	s, err := box.Proxying(evidence)
	if err != nil {
		return false, err.Error()
	}
	x, l := s.Exchanges["control"], s.Loads["control"]
	ok := l.OK && x.Status == 200 && x.Header("x-assay-version") == "1" && len(s.Arrivals) == 1
	return ok, fmt.Sprintf("the filter proxy-version-1: %s; %s; %d requests reached the upstream", loading(l), exchange(x), len(s.Arrivals))
}

func loading(l box.Loading) string {
	switch {
	case l.OK:
		return "loaded"
	case l.Broken != "":
		return "not loaded: " + l.Broken
	}
	return fmt.Sprintf("refused (%s): %s", l.Step, l.Reason)
}

func exchange(x box.Exchange) string {
	if x.Broken != "" || x.Status == 0 {
		return "no answer through the proxy " + x.Broken
	}
	return fmt.Sprintf("answer %d %q, report %q", x.Status, x.Body, x.Header("x-assay-report"))
}

func judgeFilter(t suites.Trace, k filterCase, want string) suites.Finding {
	s, err := box.Proxying(t.Evidence)
	if err != nil {
		return suites.Failing(reasonNoExchange, want, err.Error(), nil)
	}
	l, observed := s.Loads["filter"], ""
	for i := range max(1, len(k.requests)) {
		observed += "; " + exchange(s.Exchanges[fmt.Sprintf("request-%d", i)])
	}
	observed = loading(l) + observed + fmt.Sprintf("; %d requests reached the upstream", len(s.Arrivals))
	switch {
	case l.Name == "": // nothing is known of the load
		return suites.Failing(reasonNoExchange, want, "no load is in the evidence", s.Cites)
	case k.refused && l.OK:
		return suites.Failing(reasonFilterLoaded, want, observed, s.Cites)
	case k.refused && l.Broken != "":
		return suites.Failing(reasonNoExchange, want, observed, s.Cites)
	case k.refused:
		for _, a := range s.Arrivals {
			if len(a.Headers["x-assay-reached"]) > 0 {
				return suites.Failing(reasonReached, want, observed, s.Cites)
			}
		}
		return suites.Passing(want, observed, s.Cites)
	case !l.OK:
		return suites.Failing(reasonFilterRefused, want, observed, s.Cites)
	}
	for _, name := range sortedNames(s.Exchanges) {
		if x := s.Exchanges[name]; x.Status == 0 {
			return suites.Failing(reasonNoExchange, want, name+": "+exchange(x), s.Cites)
		}
	}
	if reason, seen := k.wrong(s); reason != "" {
		return suites.Failing(reason, want, seen+"; "+observed, s.Cites)
	}
	return suites.Passing(want, observed, s.Cites)
}

// reported compares items of the report of request-0 with what must stand there. A value may be one of several.
func reported(reason string, want map[string][]string) func(box.SeenProxy) (string, string) {
	return func(s box.SeenProxy) (string, string) {
		report := s.Exchanges["request-0"].Report()
		for _, name := range sortedNames(want) {
			if !oneOf(report[name], want[name]) {
				return reason, fmt.Sprintf("%s is %q, want one of %q", name, report[name], want[name])
			}
		}
		return "", ""
	}
}
