package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/load"
	"github.com/assay-bench/assay/scenarios/load/bundle"
	"github.com/assay-bench/assay/scenarios/load/proto"
	"github.com/assay-bench/assay/scenarios/load/scenario"
	"github.com/assay-bench/assay/scenarios/load/threshold"
)

// loadFlags are the flags of assay load.
type loadFlags struct {
	scenario.Scenario // what flags and file say together
	file              string
	thresholds        []string
	rate              float64
	duration, timeout time.Duration
	drain             time.Duration
	stages, headers   []string
	poisson           bool
	burst             int
	trace             string
	closed            int
	sweep             string
	segment, startAt  string
	bodyFile          string
	bodyJSON          string
	tls               loadTLS
	allowHosts        []string
	hostLimit         float64
	latencyBound      time.Duration
	out               loadOut
	words             []string // the command line, quoted
}

// loadTLS says how a target's certificate is checked and which groups are offered.
type loadTLS struct {
	serverName, roots string
	insecure          bool
	groups            []string
}

// loadOut says where results go.
type loadOut struct{ dir, save, format string }

func (o *loadOut) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVarP(&o.dir, "out", "o", "", "write a bundle with reports into this folder")
	fl.StringVar(&o.save, "save", "", "write the result with its histograms to this file, for assay load merge")
	fl.StringVar(&o.format, "format", "text", "what standard output gets: text, markdown, json or html")
}

func (a *app) loadCommand() *cobra.Command {
	var f loadFlags
	cmd := &cobra.Command{
		Use: "load URL", GroupID: "conformance",
		Short: "put an open-loop load on one address and measure it",
		Long: `load sends requests at a given rate, whatever the target does, and measures every
latency from the moment at which the request was due. All arrivals are accounted for,
and a result whose generator was itself late is INVALID: inconclusive, not slow.

` + schemeHelp() + `
A threshold is written as in k6, with the metric before it: 'response:p(95)<200',
'failed:rate<0.01', 'requests:count>1000'. Times are milliseconds.

Exit codes:  0 thresholds hold, 1 one is broken or nothing was answered, 2 usage,
             3 the result is INVALID or was interrupted, 4 nothing could be sent`,
		Example: `  assay load http://127.0.0.1:8080/ --rate 500 --duration 30s --threshold 'response:p(99)<50'
  assay load grpc://127.0.0.1:50051/grpc.testing.TestService/EmptyCall --rate 2000 --poisson
  assay load ttheader://127.0.0.1:9000 --stages 10s:100,30s:1000 --out result
  assay load tls://127.0.0.1:8443 --rate 200 --groups X25519MLKEM768 --insecure
  assay load http://127.0.0.1:8080/ --sweep 100..6400x2 --duration 5s
  assay load http://host:80/ --rate 4000 --segment 2/4 --start-at 2026-01-02T15:04:05Z --save 2.json
  assay load merge 1.json 2.json 3.json 4.json --threshold 'response:p(99)<50'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			f.words = commandWords(cmd, args)
			return a.runLoad(cmd.Context(), cmd, f, args)
		},
	}
	f.add(cmd)
	cmd.AddCommand(a.loadMergeCommand())
	return cmd
}

func (f *loadFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.file, "scenario", "", "scenario file, as assay-k6 takes it, in place of the flags below")
	fl.Float64VarP(&f.rate, "rate", "r", 100, "arrivals per second; with --stages the rate at the start")
	fl.DurationVarP(&f.duration, "duration", "d", 10*time.Second, "of the schedule, or of each step of a sweep")
	fl.StringSliceVar(&f.stages, "stages", nil, "DURATION:RATE,…: the rate moves linearly to each")
	fl.BoolVar(&f.poisson, "poisson", false, "arrivals at random, independently of each other")
	fl.IntVar(&f.burst, "burst", 0, "arrivals that are due at once; the rate stays the mean")
	fl.StringVar(&f.trace, "trace", "", "file of offsets to replay, one a line")
	fl.Uint64Var(&f.Seed, "seed", 1, "seed of random arrivals")
	fl.IntVar(&f.closed, "closed", 0, "this many users that wait for their replies, in place of a schedule")
	fl.StringVar(&f.sweep, "sweep", "", "FROM..TOxFACTOR or FROM..TO+STEP: a curve of latency over the rate")
	fl.StringVarP(&f.Method, "method", "X", "", "HTTP method (GET, with a body POST)")
	fl.StringArrayVarP(&f.headers, "header", "H", nil, "'Name: value' (repeatable)")
	fl.StringVar(&f.Body, "body", "", "body of each request")
	fl.StringVar(&f.bodyFile, "body-file", "", "file with the body of each request")
	fl.StringVar(&f.bodyJSON, "body-json", "", "JSON body, encoded as the protocol demands")
	fl.IntVar(&f.Size, "size", 0, fmt.Sprintf("bytes of a payload that is not given (%d)", proto.DefaultSize))
	fl.StringVar(&f.Data, "data", "", ".csv or .jsonl file of rows for {{name}} in URL, headers and body")
	fl.IntVarP(&f.Connections, "connections", "c", 0, "connections (default: as many as the load needs); over HTTP/1.1 and TLS they bound what is in flight, and the queue before them is part of the test")
	fl.DurationVar(&f.timeout, "timeout", load.DefaultTimeout, "of a request")
	fl.DurationVar(&f.drain, "drain", 0, "wait after the last arrival (default: the timeout)")
	fl.StringVar(&f.segment, "segment", "", "share of this generator: 2/8, or 2/3:5,3,2 for unequal ones; index/8 in a pod of an Indexed Job")
	fl.StringVar(&f.startAt, "start-at", "", "common start of all generators, as 2026-01-02T15:04:05Z")
	fl.StringArrayVar(&f.thresholds, "threshold", nil, "METRIC:EXPRESSION (repeatable)")
	fl.StringVar(&f.tls.serverName, "sni", "", "server name (default: the URL's host)")
	fl.StringVar(&f.tls.roots, "ca", "", "PEM file of the roots that certificates must end in")
	fl.BoolVar(&f.tls.insecure, "insecure", false, "do not check certificates")
	fl.StringSliceVar(&f.tls.groups, "groups", nil, "key exchange groups to offer, in order: X25519MLKEM768,X25519")
	fl.StringSliceVar(&f.allowHosts, "allow-host", nil, "host that a scenario file may name (repeatable)")
	fl.DurationVar(&f.latencyBound, "latency-bound", 0, "smallest latency that is judged: a valid generator is late by at most a hundredth of it (default: the smallest threshold, else the p99 response)")
	fl.Float64Var(&f.hostLimit, "host-limit", load.DefaultHostLimit, "largest share of its time that the generator of a valid result waits for a processor; 1: any")
	f.out.add(cmd)
}

func schemeHelp() string {
	var b strings.Builder
	b.WriteString("The URL's scheme is the protocol:\n")
	for _, s := range proto.Schemes() {
		fmt.Fprintf(&b, "  %-18s %s\n", s.Name, s.Meaning)
	}
	return b.String()
}

// loadJob is a load ready to be run.
type loadJob struct {
	scenario   scenario.Scenario
	schedule   load.Schedule
	config     proto.Config
	options    load.Options
	thresholds threshold.Set
	users      int // of the closed model; 0: open
	steps      []float64
	hosts      []string
	words      []string
	out        loadOut
}

// leanHeap lets less garbage pile up than usual: what the intervals of a soak leave behind would else be as much
// again as all that lives. Calibrations run with it, so that they measure the same instrument.
func leanHeap() {
	const percent = 50
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}

func (a *app) runLoad(ctx context.Context, cmd *cobra.Command, f loadFlags, args []string) error {
	leanHeap()
	job, err := f.job(cmd.Flags().Changed, args)
	if err != nil {
		return usage(err)
	}
	if err := checkFormat(job.out.format); err != nil {
		return usage(err)
	}
	b, err := newLoadBundle(job.out.dir, a.describeLoad(job))
	if err != nil {
		return usage(err)
	}
	if err := a.sendLoad(ctx, job, b); err != nil {
		return loadError(errors.Join(err, b.abandon()))
	}
	return a.finishLoad(b, job.out)
}

// loadError gives an error that came before any result its exit code: 4 when nothing could be sent.
func loadError(err error) error {
	for _, mine := range []error{proto.ErrConfig, load.ErrSchedule, scenario.ErrFile, threshold.ErrSyntax, load.ErrMerge, load.ErrFormat} {
		if errors.Is(err, mine) {
			return coded{results.ExitUsage, err}
		}
	}
	return coded{results.ExitHarness, err}
}

// sendLoad sends one load, or one for each step of a sweep.
func (a *app) sendLoad(ctx context.Context, job loadJob, b *loadBundle) error {
	if len(job.steps) > 0 {
		return a.sweepLoad(ctx, job, b)
	}
	l, err := a.oneLoad(ctx, job)
	if err != nil {
		return err
	}
	return b.add("load", l)
}

// oneLoad opens the protocol and runs one load.
func (a *app) oneLoad(ctx context.Context, job loadJob) (bundle.Load, error) {
	s, err := proto.Open(ctx, job.config)
	if err != nil {
		return bundle.Load{}, err
	}
	defer s.Close()
	opt := job.options
	opt.BoundedPool = s.Bounded
	show := a.loadProgress(job.length())
	opt.Progress = show.report
	fmt.Fprintf(a.err, "load: %s\n", oneLine(s.Note))
	awake, err := a.stayAwake()
	if err != nil {
		return bundle.Load{}, err
	}
	defer awake.Stop()
	var r *load.Result
	if job.users > 0 {
		r, err = load.RunClosed(ctx, load.Closed{Duration: job.schedule.Duration}, &load.Pool{Callers: s.Users(job.users)}, opt)
	} else {
		r, err = load.Run(ctx, job.schedule, s.Via, opt)
	}
	show.end()
	if err != nil {
		return bundle.Load{}, err
	}
	if awake.Any() {
		r.Notes = append(r.Notes, "host: a real-time class, processors kept awake")
	}
	l := bundle.NewLoad(r, job.thresholds)
	l.URL, l.Sends = job.config.URL.Redacted(), s.Note
	return l, nil
}

// length is how long the job sends.
func (j loadJob) length() time.Duration { return j.schedule.Length() }

// tlsConfig builds what the flags say; nil when they say nothing.
func (t loadTLS) config() (*tls.Config, error) {
	if t.serverName == "" && t.roots == "" && !t.insecure && len(t.groups) == 0 {
		return nil, nil
	}
	groups, err := proto.ParseGroups(t.groups)
	if err != nil {
		return nil, err
	}
	cfg := &tls.Config{
		ServerName: t.serverName, MinVersion: tls.VersionTLS12, CurvePreferences: groups,
		InsecureSkipVerify: t.insecure, // asked for by --insecure alone
	}
	if t.roots != "" {
		if cfg.RootCAs, err = rootPool(t.roots); err != nil {
			return nil, err
		}
	}
	return cfg, nil
}

// dialer allows the host that the command line names.
func (j loadJob) dialer(named bool) *scenarios.Dialer {
	hosts := j.hosts
	if named {
		hosts = append([]string{j.config.URL.Hostname()}, hosts...)
	}
	const least = 50 // connections per second
	return scenarios.NewDialer(hosts, max(least, 2*j.peak()))
}

func (j loadJob) peak() float64 {
	peak := max(j.schedule.Rate, float64(j.users))
	for _, g := range j.schedule.Stages {
		peak = max(peak, g.Rate)
	}
	for _, r := range j.steps {
		peak = max(peak, r)
	}
	return peak
}

// readFile reads a file of bounded size.
func readFile(name string, most int64) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.Size() > most {
		return nil, fmt.Errorf("%s has %d bytes, the limit is %d", name, info.Size(), most)
	}
	return os.ReadFile(name)
}
