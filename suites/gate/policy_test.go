package gate_test

import (
	"strings"
	"testing"

	"github.com/assay-bench/assay/suites/gate"
)

func TestTemplateIsAPolicy(t *testing.T) {
	args := []string{"-listen", "127.0.0.1:{port}"}
	p, err := gate.ParsePolicy([]byte(gate.Template(gate.Service{Name: "x", Main: "./cmd/server", Args: args})))
	if err != nil {
		t.Fatal(err)
	}
	if p.Build != "go build -o {out} ./cmd/server" || len(p.Metrics()) != 3 || p.Start.Ready != "" || p.Scenarios[0].Requests[0].Path != "/" {
		t.Errorf("%+v", p)
	}
	p, err = gate.ParsePolicy([]byte(gate.Template(gate.Service{
		Name: "a: b", Main: ".", Env: map[string]string{"PORT": "{port}"}, Ready: "/ready", Paths: []string{"/a", "/b"}, Counters: true,
	})))
	if err != nil || p.Name != "a: b" || p.Start.Env["PORT"] != "{port}" || p.Start.Ready != "/ready" || len(p.Scenarios[0].Requests) != 2 || p.Counters.Path == "" {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestDefaultsOfAPullRequest(t *testing.T) {
	p, err := gate.ParsePolicy([]byte(strings.Replace(policyText, "    metrics: {p50: {}, p90: {gating: false}}\n", "", 1) +
		"counters: {path: /debug/vars, allocs: memstats.Mallocs}\n"))
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, m := range p.Metrics() {
		if !m.Gating {
			t.Errorf("%s does not gate", m.ID())
		}
		ids = append(ids, m.ID())
	}
	if got := strings.Join(ids, " "); got != "s/allocs s/cpu s/p50 s/p90" {
		t.Errorf("metrics %s", got)
	}
}

func TestPoliciesThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct{ from, to, says string }{
		"another kind":         {"kind: Gate", "kind: Target", "want assay/v1 and Gate"},
		"no port":              {`"{port}"`, `"8080"`, "{port}"},
		"unknown field":        {"name: sample", "nmae: sample", "nmae"},
		"unknown metric":       {"p50: {}", "p51: {}", `"p51" is none of`},
		"relative path":        {"path: /", "path: home", "does not begin with /"},
		"no request":           {"requests: [{path: /}]", "requests: []", "0 requests"},
		"share of nothing":     {"p50: {}", "p50: {failAbove: much}", "is no share"},
		"scenario with slash":  {"name: s\n", "name: s/t\n", "without /"},
		"no scenario":          {"scenarios:", "scenarios: []\nunused:", "unused"},
		"accepts for nothing":  {"name: sample", "name: sample\naccepts: [{metric: s/p77, upTo: 2%, reason: r, expires: 2027-01-01}]", "no metric"},
		"accepts with no day":  {"name: sample", "name: sample\naccepts: [{metric: s/p50, upTo: 2%, reason: r, expires: soon}]", "expires as"},
		"counters half given":  {"name: sample", "name: sample\ncounters: {path: /x}", "go together"},
		"ready without slash":  {"start: {command", "start: {ready: ok, command", "start.ready"},
		"time without a unit":  {"start: {command", "start: {timeout: 5, command", "no time with a unit"},
		"too large to be read": {"name: sample", "name: " + strings.Repeat("x", 70_000), "bytes of policy"},
	} {
		text := strings.Replace(policyText, c.from, c.to, 1)
		if text == policyText {
			t.Fatalf("%s: the policy has no %q", name, c.from)
		}
		if _, err := gate.ParsePolicy([]byte(text)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}

func FuzzParsePolicy(f *testing.F) {
	f.Add([]byte(policyText))
	f.Add([]byte(gate.Template(gate.Service{Name: "s", Main: ".", Args: []string{"{port}"}})))
	f.Add([]byte("scenarios: [{metrics: {p50: {failAbove: 1e400%}}}]"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := gate.ParsePolicy(raw)
		if err != nil {
			return
		}
		if _, err := gate.NewCourse(p, gate.Options{}); err == nil && len(p.Metrics()) == 0 {
			t.Error("a course without a metric")
		}
	})
}
