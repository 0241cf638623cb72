package gate

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/assay-bench/assay/scenarios/duet"
)

// Bounds on a policy.
const (
	maxPolicyBytes = 64 << 10
	maxScenarios   = 30
	maxRequests    = 1000
	maxBodyBytes   = 1 << 20
)

// Policy is a gate.yaml: how both sides are built, started and asked, and how much worse the candidate may get.
type Policy struct {
	APIVersion string            `yaml:"apiVersion"`
	Kind       string            `yaml:"kind"`
	Name       string            `yaml:"name"`
	Build      string            `yaml:"build"` // command line; {out} is the file or folder to make
	Start      Start             `yaml:"start"`
	Counters   Counters          `yaml:"counters"`
	Profile    duet.ProfilePaths `yaml:"profile"` // for --profile
	Scenarios  []Scenario        `yaml:"scenarios"`
	Accepts    []Accept          `yaml:"accepts"`
	Creep      Creep             `yaml:"creep"`
}

// Start says how a side is started. {port} is the port to listen on, {out} what the build made.
type Start struct {
	Command []string          `yaml:"command"`
	Ready   string            `yaml:"ready"`   // path that answers 2xx; empty: a TCP connection is enough
	Timeout Duration          `yaml:"timeout"` // until ready; 10 s
	Warmup  Duration          `yaml:"warmup"`  // of a side before each epoch, at most; 5 s
	Env     map[string]string `yaml:"env"`
	Setup   string            `yaml:"setup"` // command line before each start
	// Processors: one (the default) runs both sides on the same one while one request is in flight, all leaves them to the
	// scheduler.
	Processors string `yaml:"processors"`
	Teardown   string `yaml:"teardown"` // command line after each end
	// Container is how a side is started that is a container image; Command is not needed where every side is one.
	Container *Container `yaml:"container"`
}

// Container says how an image is run.
type Container struct {
	Args []string `yaml:"args"` // after the image; without them its own
	// Port is what it listens on, published on {port} of 127.0.0.1. Without it the container shares the host's network
	// and listens on {port}.
	Port int `yaml:"port"`
}

// Counters is where the process shows how many heap allocations it made.
type Counters struct {
	Path   string `yaml:"path"`   // a page with a JSON object
	Allocs string `yaml:"allocs"` // dotted name of the field
}

// Scenario is a list of requests, sent in turn, and the metrics judged on them.
type Scenario struct {
	Name     string                  `yaml:"name"`
	Requests []Request               `yaml:"requests"`
	PerEpoch int                     `yaml:"requestsPerEpoch"` // an arm; 0: as many as the metrics and 320 ms want
	Metrics  map[string]MetricPolicy `yaml:"metrics"`
	// Thresholds are absolute bounds on the candidate, in k6's words: http_req_duration: ["p(99)<25"].
	Thresholds map[string][]string `yaml:"thresholds"`
	Mode       string              `yaml:"mode"`   // request (one in flight), slice (open loop) or block (saturation)
	Rate       float64             `yaml:"rate"`   // by slice: requests a second
	Users      int                 `yaml:"users"`  // by slice: connections; by block: requests in flight; 16
	Span       Duration            `yaml:"span"`   // of a slice, 80 to 250 ms; of a block, 2 to 5 s
	Within     Duration            `yaml:"within"` // the latency bound of goodput
}

// Request is one HTTP request.
type Request struct {
	Method  string            `yaml:"method"`
	Path    string            `yaml:"path"`
	Headers map[string]string `yaml:"headers"`
	Body    string            `yaml:"body"`
	Status  int               `yaml:"status"` // the one that is right; 0: any below 400
}

// MetricPolicy overrides what is usual for a metric.
type MetricPolicy struct {
	FailAbove Percent `yaml:"failAbove"`
	PassBelow Percent `yaml:"passBelow"`
	Margin    Percent `yaml:"margin"` // of errors alone: how much the share of failed requests may grow, absolute
	Gating    *bool   `yaml:"gating"`
}

// Accept lets one metric get worse, up to a bound, for a reason, until a day.
type Accept struct {
	Metric  string  `yaml:"metric"` // scenario/metric
	UpTo    Percent `yaml:"upTo"`
	Reason  string  `yaml:"reason"`
	Expires string  `yaml:"expires"` // the last day, as 2027-01-31
}

// Percent is a share, written as 2% or 0.02.
type Percent float64

// UnmarshalYAML reads 2% and 0.02 alike.
func (p *Percent) UnmarshalYAML(raw []byte) error {
	text := strings.Trim(strings.TrimSpace(string(raw)), `"'`)
	scale := 1.0
	if rest, ok := strings.CutSuffix(text, "%"); ok {
		text, scale = strings.TrimSpace(rest), 0.01
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || !(v*scale >= 0 && v*scale <= 10) {
		return fmt.Errorf("%q is no share from 0%% to 1000%%", text)
	}
	*p = Percent(v * scale)
	return nil
}

// Duration is a time with its unit, such as 10s.
type Duration time.Duration

// UnmarshalYAML reads Go's notation.
func (d *Duration) UnmarshalYAML(raw []byte) error {
	v, err := time.ParseDuration(strings.Trim(strings.TrimSpace(string(raw)), `"'`))
	if err != nil || v < 0 {
		return fmt.Errorf("%q is no time with a unit, such as 10s", raw)
	}
	*d = Duration(v)
	return nil
}

// usual are the margins and looks of the metrics that have some (gate.md section 2; those of cpu and allocs are
// held by TestErrorRates, which does not ask what it is that is noisy).
func usual() map[string]Metric {
	return map[string]Metric{
		duet.P50:    {Fail: 0.02, Pass: 0.05, Looks: shortLooks(), Gating: true},
		duet.P90:    {Fail: 0.03, Pass: 0.10, Looks: shortLooks(), Gating: true},
		duet.P99:    {Fail: 0.03, Pass: 0.10, Looks: longLooks(), Gating: true},
		duet.CPU:    {Fail: 0.02, Pass: 0.05, Looks: shortLooks(), Gating: true},
		duet.Allocs: {Fail: 0.02, Pass: 0.05, Looks: shortLooks(), Gating: true},
		duet.Mean:   {Fail: 0.02, Pass: 0.05, Looks: shortLooks()},
		duet.Peak:   {Fail: 0.05, Pass: 0.10, Looks: shortLooks()},
		duet.Wire:   {Fail: 0.01, Pass: 0.02, Looks: shortLooks()},
		duet.Errors: {Absolute: true, Looks: shortLooks(), Gating: true},
		// Goodput has no margins of its own yet: those of throughput, and it does not gate unless asked to.
		duet.Throughput: {Higher: true, Fail: 0.02, Pass: 0.05, Looks: shortLooks(), Gating: true},
		duet.Goodput:    {Higher: true, Fail: 0.02, Pass: 0.05, Looks: shortLooks()},
	}
}

// ParsePolicy reads a gate.yaml. All that is wrong with its values is told at once, a line each.
func ParsePolicy(raw []byte) (Policy, error) {
	var p Policy
	if len(raw) > maxPolicyBytes {
		return p, fmt.Errorf("%d bytes of policy, at most %d", len(raw), maxPolicyBytes)
	}
	if err := yaml.UnmarshalWithOptions(raw, &p, yaml.Strict()); err != nil {
		return p, err
	}
	return p, p.validate()
}

func (p Policy) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if p.APIVersion != "assay/v1" || p.Kind != "Gate" {
		bad("apiVersion %q and kind %q: want assay/v1 and Gate", p.APIVersion, p.Kind)
	}
	for _, err := range p.Start.validate() {
		bad("%w", err)
	}
	if p.Start.Ready != "" && !strings.HasPrefix(p.Start.Ready, "/") {
		bad("start.ready: %q does not begin with /", p.Start.Ready)
	}
	if (p.Counters.Path == "") != (p.Counters.Allocs == "") {
		bad("counters: path and allocs go together")
	}
	if err := p.Profile.Check(); err != nil {
		bad("profile: %w", err)
	}
	if n := len(p.Scenarios); n == 0 || n > maxScenarios {
		bad("scenarios: %d, want 1 to %d", n, maxScenarios)
	}
	names := map[string]bool{}
	for i, s := range p.Scenarios {
		if names[s.Name] {
			bad("scenarios[%d]: the name %q is there twice", i, s.Name)
		}
		names[s.Name] = true
		errs = append(errs, s.validate(i)...)
	}
	errs = append(errs, p.badAccepts()...)
	errs = append(errs, p.badCreep()...)
	return errors.Join(errs...)
}

// Where both sides run.
const (
	oneProcessor  = "one"
	allProcessors = "all"
)

func (s Start) validate() (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	words := strings.Join(append(slices.Clone(s.Command), slices.Collect(maps.Values(s.Env))...), " ")
	switch {
	case len(s.Command) == 0 && s.Container == nil:
		bad("start.command: missing")
	case len(s.Command) > 0 && !strings.Contains(words, "{port}"):
		bad("start.command: {port} stands neither in it nor in start.env, so that two processes could not run side by side")
	}
	if s.Processors != "" && s.Processors != oneProcessor && s.Processors != allProcessors {
		bad("start.processors: %q: want %s or %s", s.Processors, oneProcessor, allProcessors)
	}
	if c := s.Container; c != nil {
		inside := strings.Join(append(slices.Clone(c.Args), slices.Collect(maps.Values(s.Env))...), " ")
		switch {
		case c.Port < 0 || c.Port > 65535:
			bad("start.container.port: %d is no port", c.Port)
		case c.Port == 0 && !strings.Contains(inside, "{port}"):
			bad("start.container: name the port that it listens on, or {port} in args or start.env")
		case c.Port > 0 && s.Ready == "":
			bad("start.container: a published port takes connections before the service does: name start.ready")
		}
	}
	return errs
}

func (s Scenario) validate(i int) (errs []error) {
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("scenarios[%d]: %s", i, fmt.Sprintf(format, args...)))
	}
	if s.Name == "" || strings.ContainsAny(s.Name, "/# \t\n") {
		bad("name %q: want one word without / and #", s.Name)
	}
	if n := len(s.Requests); n == 0 || n > maxRequests {
		bad("%d requests, want 1 to %d", n, maxRequests)
	}
	for j, r := range s.Requests {
		if !strings.HasPrefix(r.Path, "/") {
			bad("requests[%d]: path %q does not begin with /", j, r.Path)
		}
		if len(r.Body) > maxBodyBytes {
			bad("requests[%d]: body of %d bytes, at most %d", j, len(r.Body), maxBodyBytes)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Metrics)) {
		if err := s.checkMetric(name, s.Metrics[name]); err != nil {
			bad("metrics: %v", err)
		}
	}
	if _, err := s.bounds(); err != nil {
		bad("thresholds: %v", err)
	}
	if err := s.checkMode(); err != nil {
		bad("%v", err)
	}
	return errs
}

func (s Scenario) checkMetric(name string, o MetricPolicy) error {
	known := usual()
	_, ok := known[name]
	switch {
	case !ok:
		return fmt.Errorf("%q is none of %s", name, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
	case name == duet.Errors && (o.Margin == 0 || o.Margin >= 1 || o.FailAbove != 0 || o.PassBelow != 0):
		return errors.New("errors wants a margin below 100% and nothing else: how much the share of failed requests may grow, as 0.5%")
	case name != duet.Errors && o.Margin != 0:
		return fmt.Errorf("%s: a margin is for errors; this metric has failAbove and passBelow", name)
	case name == duet.Throughput && s.Mode != "block":
		return errors.New("throughput is measured in mode block")
	case name == duet.Goodput && (s.Within == 0 || s.Mode != "block" && s.Mode != "slice"):
		return errors.New("goodput wants within, the latency that still counts, and mode slice or block")
	}
	return nil
}

// checkMode holds what only one mode has to that mode.
func (s Scenario) checkMode() error {
	span := time.Duration(s.Span)
	switch s.Mode {
	case "", "request":
		if s.Rate != 0 || s.Users != 0 || span != 0 || s.Within != 0 {
			return errors.New("rate, users, span and within are for mode slice or block")
		}
		if s.PerEpoch < 0 {
			return fmt.Errorf("requestsPerEpoch: %d", s.PerEpoch)
		}
		return nil
	case "slice":
		if span != 0 && (span < duet.ShortSlice || span > duet.LongSlice) {
			return fmt.Errorf("span %v: a slice is %v to %v long", span, duet.ShortSlice, duet.LongSlice)
		}
	case "block":
		if span != 0 && (span < duet.ShortBlock || span > duet.LongBlock) {
			return fmt.Errorf("span %v: a block is %v to %v long", span, duet.ShortBlock, duet.LongBlock)
		}
		if s.Rate != 0 {
			return errors.New("rate is for mode slice: a block takes what it can")
		}
	default:
		return fmt.Errorf("mode %q is none of request, slice, block", s.Mode)
	}
	if s.PerEpoch != 0 {
		return errors.New("requestsPerEpoch is for mode request")
	}
	if s.Rate > maxRate {
		return fmt.Errorf("rate %v a second, at most %v", s.Rate, maxRate)
	}
	return s.driven(nil).Check()
}

// maxRate is more than any of these engines sends.
const maxRate = 1e6

func (p Policy) badAccepts() (errs []error) {
	known := map[string]bool{}
	for _, m := range p.Metrics() {
		known[m.ID()] = true
	}
	for i, a := range p.Accepts {
		_, err := time.Parse(time.DateOnly, a.Expires)
		switch {
		case !known[a.Metric]:
			errs = append(errs, fmt.Errorf("accepts[%d]: no metric %q in this policy", i, a.Metric))
		case a.Reason == "" || a.UpTo <= 0 || err != nil:
			errs = append(errs, fmt.Errorf("accepts[%d]: want upTo above 0%%, a reason, and expires as 2027-01-31", i))
		}
	}
	return errs
}

// Metrics lists what is judged, by scenario: what the policy names, or the defaults of a pull request (cpu, p50, p90,
// and allocs where they are counted).
func (p Policy) Metrics() []Metric {
	var out []Metric
	for _, s := range p.Scenarios {
		named := s.Metrics
		if len(named) == 0 {
			named = map[string]MetricPolicy{duet.CPU: {}, duet.P50: {}, duet.P90: {}}
			if s.Mode == "block" { // latency under saturation is that of a queue
				named = map[string]MetricPolicy{duet.CPU: {}, duet.Throughput: {}}
			}
			if p.Counters.Path != "" {
				named[duet.Allocs] = MetricPolicy{}
			}
		}
		for _, name := range slices.Sorted(maps.Keys(named)) {
			m := usual()[name]
			m.Scenario, m.Name = s.Name, name
			named[name].override(&m)
			out = append(out, m)
		}
	}
	return out
}

func (o MetricPolicy) override(m *Metric) {
	if o.FailAbove > 0 {
		m.Fail = float64(o.FailAbove)
	}
	if o.PassBelow > 0 {
		m.Pass = float64(o.PassBelow)
	}
	if o.Margin > 0 {
		m.Fail, m.Pass = float64(o.Margin), float64(o.Margin)
	}
	if o.Gating != nil {
		m.Gating = *o.Gating
	}
}

// accepted returns the entry that lets a metric get worse on a day, if there is one.
func (p Policy) accepted(id string, day time.Time) (Accept, bool) {
	for _, a := range p.Accepts {
		last, err := time.Parse(time.DateOnly, a.Expires)
		if err == nil && a.Metric == id && !day.UTC().Truncate(24*time.Hour).After(last) {
			return a, true
		}
	}
	return Accept{}, false
}

// instrument is how the epochs of this policy are measured.
func (p Policy) instrument() string {
	if p.Start.Processors == allProcessors {
		return duet.Instrument + " on all processors"
	}
	return duet.Instrument
}

// Program returns how a side is run. out is what the build made.
func (p Policy) Program(out, dir string) *duet.Program {
	prog := &duet.Program{
		Argv: p.Start.Command, Out: out, Dir: dir, Setup: p.Start.Setup, Teardown: p.Start.Teardown,
		Ready: p.Start.Ready, Timeout: time.Duration(p.Start.Timeout), Requests: map[string][]duet.Request{},
		Counters: duet.Counters{Path: p.Counters.Path, Field: p.Counters.Allocs},
	}
	for _, name := range slices.Sorted(maps.Keys(p.Start.Env)) {
		prog.Env = append(prog.Env, name+"="+p.Start.Env[name])
	}
	for _, s := range p.Scenarios {
		for _, r := range s.Requests {
			header := http.Header{}
			for name, v := range r.Headers {
				header.Set(name, v)
			}
			prog.Requests[s.Name] = append(prog.Requests[s.Name],
				duet.Request{Method: r.Method, Path: r.Path, Header: header, Body: []byte(r.Body), Status: r.Status})
		}
	}
	return prog
}

// Containers returns how a side is run that is an image. Errors: the policy does not say how.
func (p Policy) Containers(id string) (*duet.Program, error) {
	if p.Start.Container == nil {
		return nil, errors.New("the policy has no start.container: it says how an image is run")
	}
	prog := p.Program("", "")
	prog.Argv, prog.Image = nil, &duet.Image{ID: id, Args: p.Start.Container.Args, Port: p.Start.Container.Port}
	return prog, nil
}

// Measured are the scenarios as the driver wants them.
func (p Policy) Measured() []duet.Scenario {
	metrics := map[string][]string{}
	for _, m := range p.Metrics() {
		metrics[m.Scenario] = append(metrics[m.Scenario], m.Name)
	}
	var out []duet.Scenario
	for _, s := range p.Scenarios {
		out = append(out, s.driven(metrics[s.Name]))
	}
	return out
}

// driven is a scenario as the driver wants it.
func (s Scenario) driven(metrics []string) duet.Scenario {
	out := duet.Scenario{
		Name: s.Name, Metrics: metrics, Requests: s.PerEpoch, Rate: s.Rate, Users: s.Users,
		Span: time.Duration(s.Span), Within: time.Duration(s.Within),
	}
	switch s.Mode {
	case "slice":
		out.Mode, out.Users = duet.BySlice, cmp.Or(out.Users, duet.UsualUsers)
		out.Span = cmp.Or(out.Span, duet.UsualSlice)
	case "block":
		out.Mode, out.Users = duet.ByBlock, cmp.Or(out.Users, duet.UsualUsers)
		out.Span = cmp.Or(out.Span, duet.ShortBlock)
	}
	bounds, _ := s.bounds() // validated
	for _, b := range bounds {
		if b.limit > 0 && !slices.Contains(out.Limits, b.limit) {
			out.Limits = append(out.Limits, b.limit)
		}
	}
	return out
}
