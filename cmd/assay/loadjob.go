package main

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/assay-bench/assay/scenarios/load"
	"github.com/assay-bench/assay/scenarios/load/bundle"
	"github.com/assay-bench/assay/scenarios/load/scenario"
	"github.com/assay-bench/assay/scenarios/load/threshold"
	"github.com/assay-bench/assay/scenarios/target"
)

const (
	maxBodyFile = 64 << 20
	maxDataFile = 64 << 20
	maxTrace    = 512 << 20
)

// fromFile are the flags that a scenario file replaces.
var fromFile = []string{
	"rate", "duration", "stages", "poisson", "burst", "trace", "seed", "closed", "sweep", "method", "header", "body",
	"body-file", "body-json", "size", "data", "connections", "timeout",
}

// job puts flags and scenario file together. changed tells which flags were given.
func (f loadFlags) job(changed func(string) bool, args []string) (loadJob, error) {
	if len(args) > 1 || (len(args) == 0 && f.file == "") {
		return loadJob{}, fmt.Errorf("assay load takes one URL, got %d arguments; see: assay load --help", len(args))
	}
	job := loadJob{out: f.out, hosts: f.allowHosts, words: f.words}
	var err error
	if job.scenario, job.thresholds, err = f.scenarioOf(changed, args); err != nil {
		return job, err
	}
	if err := f.schedule(&job); err != nil {
		return job, err
	}
	if err := f.load(&job, len(args) > 0); err != nil {
		return job, err
	}
	if err := parseThresholds(f.thresholds, &job.thresholds); err != nil {
		return job, err
	}
	if job.options, err = f.options(job); err != nil {
		return job, err
	}
	if len(job.thresholds) > 0 && !job.options.Segment.Whole() {
		return job, errors.New("thresholds are judged on the whole load: give them to assay load merge, not to one segment")
	}
	return job, nil
}

// scenarioOf reads the scenario file, or makes a scenario of the flags.
func (f loadFlags) scenarioOf(changed func(string) bool, args []string) (scenario.Scenario, threshold.Set, error) {
	s, set := f.Scenario, threshold.Set{}
	if f.file == "" {
		s.Timeout = scenario.Duration(f.timeout)
		s.Executor, s.Target = scenario.OpenLoop, args[0]
		return s, set, f.request(&s)
	}
	for _, name := range fromFile {
		if changed(name) {
			return s, nil, fmt.Errorf("--%s and --scenario: the file says that", name)
		}
	}
	raw, err := readFile(f.file, scenario.MaxFile)
	if err != nil {
		return s, nil, err
	}
	file, err := scenario.Read(bytes.NewReader(raw))
	if err != nil {
		return s, nil, fmt.Errorf("%s: %w", f.file, err)
	}
	if _, s, err = file.Only(); err != nil {
		return s, nil, fmt.Errorf("%s: %w", f.file, err)
	}
	if len(args) > 0 {
		s.Target = args[0]
	}
	if s.Target == "" {
		return s, nil, fmt.Errorf("%s names no target: give a URL", f.file)
	}
	if file.Thresholds != nil {
		set = file.Thresholds
	}
	return s, set, nil
}

// request reads headers and body.
func (f loadFlags) request(s *scenario.Scenario) error {
	given := 0
	for _, text := range []string{s.Body, f.bodyFile, f.bodyJSON} {
		given += len(text[:min(len(text), 1)])
	}
	if given > 1 {
		return errors.New("--body, --body-file and --body-json: give one")
	}
	if f.bodyJSON != "" {
		s.Body, s.JSON = f.bodyJSON, true
	}
	if f.bodyFile != "" {
		raw, err := readFile(f.bodyFile, maxBodyFile)
		if err != nil {
			return err
		}
		s.Body = string(raw)
	}
	for _, h := range f.headers {
		name, value, ok := strings.Cut(h, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return fmt.Errorf("--header %.60q: want 'Name: value'", h)
		}
		if s.Headers == nil {
			s.Headers = map[string]string{}
		}
		s.Headers[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	return nil
}

// schedule sets when the job sends.
func (f loadFlags) schedule(job *loadJob) error {
	var err error
	if f.file != "" {
		if job.scenario.Executor == scenario.ConstantVUs {
			job.users, job.schedule.Duration = job.scenario.VUs, time.Duration(job.scenario.Duration)
			return nil
		}
		job.schedule, err = job.scenario.Schedule()
		return err
	}
	kinds := 0
	for _, given := range []bool{len(f.stages) > 0, f.burst > 0, f.trace != "", f.closed > 0, f.sweep != ""} {
		if given {
			kinds++
		}
	}
	if kinds > 1 {
		return errors.New("--stages, --burst, --trace, --closed and --sweep: give one")
	}
	job.schedule = load.Schedule{Kind: load.Const, Rate: f.rate, Duration: f.duration, Seed: f.Seed}
	if f.poisson {
		job.schedule.Kind = load.Poisson
	}
	switch {
	case f.closed > 0:
		job.users = f.closed
		return nil
	case f.sweep != "":
		job.steps, err = parseSweep(f.sweep)
		return err
	case f.trace != "":
		return f.replay(job)
	case len(f.stages) > 0:
		job.schedule = load.Schedule{Kind: load.Stages, Rate: f.rate, Seed: f.Seed, Random: f.poisson}
		job.schedule.Stages, err = parseStages(f.stages)
		if err != nil {
			return err
		}
	case f.burst > 0:
		job.schedule.Kind, job.schedule.Burst = load.Burst, f.burst
	}
	return job.schedule.Validate()
}

func (f loadFlags) replay(job *loadJob) error {
	raw, err := readFile(f.trace, maxTrace)
	if err != nil {
		return err
	}
	offsets, err := load.ReadTrace(bytes.NewReader(raw))
	job.schedule = load.Schedule{Kind: load.Trace, Trace: offsets}
	return err
}

// parseStages reads 10s:100 as: within 10 s to 100 arrivals per second.
func parseStages(texts []string) ([]load.Stage, error) {
	var list []load.Stage
	for _, text := range texts {
		span, rate, _ := strings.Cut(text, ":")
		d, err := time.ParseDuration(span)
		r, rerr := strconv.ParseFloat(rate, 64)
		if err != nil || rerr != nil {
			return nil, fmt.Errorf("--stages %.40q: want DURATION:RATE such as 30s:500", text)
		}
		list = append(list, load.Stage{Rate: r, Duration: d})
	}
	return list, nil
}

// load sets what the job sends. named tells that the command line names the host.
func (f loadFlags) load(job *loadJob, named bool) error {
	s := job.scenario
	s.Rate, s.StartRate, s.TimeUnit, s.Stages = job.peak(), 0, 0, nil // for how much is in flight
	var err error
	if job.config, err = s.Config(func(name string) ([]byte, error) { return readFile(name, maxDataFile) }); err != nil {
		return err
	}
	if f.trace != "" {
		job.config.InFlight = 1 << 20 // a trace may send everything at once: the protocol's bound holds
	}
	if job.config.TLS.Config, err = f.tls.config(); err != nil {
		return err
	}
	job.config.Dial = job.dialer(named).DialContext
	return nil
}

// options sets how the job runs.
func (f loadFlags) options(job loadJob) (load.Options, error) {
	opt := load.Options{LatenessBound: f.latencyBound / 100, Timeout: job.scenario.RequestTimeout(), Drain: f.drain, HostLimit: f.hostLimit, Version: toolVersion()}
	if opt.LatenessBound == 0 {
		opt.LatenessBound = bundle.LatencyBound(job.thresholds)
	}
	var err error
	if opt.Segment, err = parseSegment(f.segment, os.LookupEnv); err != nil {
		return opt, err
	}
	if !opt.Segment.Whole() && (job.users > 0 || len(job.steps) > 0) {
		return opt, errors.New("--segment divides a schedule: it goes neither with --closed nor with --sweep")
	}
	if f.startAt != "" {
		if opt.StartAt, err = time.Parse(time.RFC3339Nano, f.startAt); err != nil {
			return opt, fmt.Errorf("--start-at %.40q: want an absolute time such as 2026-01-02T15:04:05Z", f.startAt)
		}
	}
	return opt, nil
}

// defaultMetric is the metric of a bare expression.
func defaultMetric(e threshold.Expression) string {
	switch e.Aggregation {
	case "rate":
		return "failed"
	case "count":
		return "requests"
	}
	return "response"
}

// parseThresholds adds METRIC:EXPRESSION, or a bare expression, to a set.
func parseThresholds(texts []string, set *threshold.Set) error {
	if *set == nil {
		*set = threshold.Set{}
	}
	for _, text := range texts {
		metric, expression := "", text
		if at := strings.LastIndex(text[:strings.IndexAny(text+"<", "<>=!")], ":"); at >= 0 {
			metric, expression = text[:at], text[at+1:]
		}
		e, err := threshold.Parse(expression)
		if err != nil {
			return err
		}
		if metric == "" {
			metric = defaultMetric(e)
		}
		(*set)[metric] = append((*set)[metric], threshold.Rule{Expression: e})
	}
	return set.Check()
}

func rootPool(path string) (*x509.CertPool, error) {
	pem, err := target.ReadRoots(path)
	if err != nil {
		return nil, fmt.Errorf("--ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(pem)) {
		return nil, fmt.Errorf("--ca: %s holds no certificate", path)
	}
	return pool, nil
}

// commandWords repeats the command line for a reader who wants the same run.
func commandWords(cmd *cobra.Command, args []string) []string {
	words := strings.Fields(cmd.CommandPath())
	for _, arg := range args {
		words = append(words, quote(arg))
	}
	cmd.Flags().Visit(func(fl *pflag.Flag) {
		if fl.Name == "out" || fl.Name == "save" || fl.Name == "format" {
			return
		}
		if list, ok := fl.Value.(pflag.SliceValue); ok {
			for _, v := range list.GetSlice() {
				words = append(words, "--"+fl.Name, quote(v))
			}
			return
		}
		if fl.Value.Type() == "bool" {
			words = append(words, "--"+fl.Name+"="+fl.Value.String())
			return
		}
		words = append(words, "--"+fl.Name, quote(fl.Value.String()))
	})
	return words
}
