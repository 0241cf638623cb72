package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-bench/assay/chaos/catalogue"
	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/results/seal"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/suites"
	"github.com/assay-bench/assay/suites/prove"
	"github.com/assay-bench/assay/suites/runner"
)

// outDir is where bundles go when --out names no folder.
const outDir = "assay-out"

// runFlags are the flags of assay run.
type runFlags struct {
	target       string
	seed         uint64
	out          string
	profile      string
	basis        string
	knownFailing string
	proof        string
	require      bool
	noProbe      bool
	json         bool
	plan         bool
	allowHosts   []string
	workers      int
	defects      []string
	readDeadline time.Duration
	tls          tlsFlags
	pace         time.Duration
	words        []string // profile and patterns as the user gave them, quoted
}

func (a *app) runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:     "run [PROFILE | PATTERN ...]",
		GroupID: "conformance",
		Short:   "drive a target, judge it and write a report",
		Long: `run drives a target through the checks of a profile (or those that the patterns
name), records evidence, judges it and writes a bundle with reports.

A pattern is an area (rpc), a check (rpc/wire/seq-echo), a glob (rpc/wire/*), and may
name a case and a fault: rpc/wire/length-limit#huge, rpc/wire/pipelining-order@proc/pause.

Without --target the reference stack is started as a child process on loopback.`,
		Example: `  assay run
  assay run conformance --target my-server.yaml
  assay run rpc --target thrift://127.0.0.1:9090
  assay run 'rpc/wire/length-*' --seed 7`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("seed") {
				f.seed = drawSeed()
			}
			return a.runRun(cmd.Context(), f, args)
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.target, "target", "t", "", "target file, or address such as grpc://host:port (default: the reference stack)")
	fl.Uint64Var(&f.seed, "seed", 0, "seed of all random choices (default: drawn and recorded)")
	fl.StringVarP(&f.out, "out", "o", "", "folder of the bundle (default: a new one under "+outDir+")")
	fl.StringVarP(&f.profile, "profile", "p", "", "quick, conformance, latency, chaos or full (default quick)")
	fl.StringVar(&f.basis, "basis", "standard", "rows that decide for targets other than the reference: standard or all")
	fl.StringVar(&f.knownFailing, "known-failing", "", "list of cases that are expected to fail")
	fl.StringVar(&f.proof, "proof", filepath.Join(outDir, "prove"), "bundle of assay prove, shown in the report if it fits this suite")
	fl.BoolVar(&f.require, "require", false, "exit 3 when something could not be run on this host")
	fl.BoolVar(&f.json, "json", false, "print report.json on standard output")
	fl.BoolVar(&f.plan, "plan", false, "print the plan and stop")
	fl.StringSliceVar(&f.allowHosts, "allow-host", nil, "host beyond loopback that may be dialled (repeatable)")
	fl.IntVar(&f.workers, "workers", 8, "cases at once")
	fl.BoolVar(&f.noProbe, "no-probe", false, "believe all claims without probing them")
	fl.StringArrayVar(&f.defects, "defect", nil, "plant a defect in the reference stack (repeatable; see: assay list defects)")
	fl.DurationVar(&f.readDeadline, "read-deadline", 5*time.Second, "read deadline of the reference stack")
	fl.StringVar(&f.tls.serverName, "sni", "", "server name to send to a tls:// address (default: its host)")
	fl.StringVar(&f.tls.roots, "ca", "", "PEM file of the roots that a tls:// address's chains must end in")
	fl.StringVar(&f.tls.app, "app", "", "application data that a tls:// address answers: echo, http or none (default none)")
	fl.DurationVar(&f.pace, "pace", 0, "least time between the starts of two cases")
	complete(cmd)
	return cmd
}

// drawSeed picks a seed for a run whose user gave none.
func drawSeed() uint64 {
	var b [4]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic(err) // the system has no randomness: nothing can go on
	}
	return uint64(binary.BigEndian.Uint32(b[:]))
}

func newRunID() string {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic(err)
	}
	return hex.EncodeToString(b[:])
}

func (a *app) runRun(ctx context.Context, f runFlags, args []string) error {
	suite, err := newSuite()
	if err != nil {
		return err
	}
	if f.basis != "standard" && f.basis != "all" {
		return usagef("--basis is %q, want standard or all", f.basis)
	}
	chosen, err := chooseTarget(ctx, suite, f)
	if err != nil {
		return usage(err)
	}
	for _, w := range args {
		f.words = append(f.words, quote(w))
	}
	if f.profile != "" {
		f.words = append(f.words, "--profile", f.profile)
	}
	patterns := takeProfile(&f, args)
	hosts := append(append([]string{}, f.allowHosts...), chosen.hosts...)
	plan, err := suite.Plan(suites.Selection{
		Patterns: patterns, Profile: f.profile, Probing: !f.noProbe,
		Barred: barred(ctx, chosen), Reproduce: reproduce(f),
	})
	if errors.Is(err, suites.ErrNothingRuns) {
		return coded{results.ExitHarness, err}
	}
	if err != nil {
		return usage(err)
	}
	if err := applyKnownFailing(suite, &plan, f.knownFailing); err != nil {
		return usage(err)
	}
	run := describeRun(suite, f, plan, chosen, patterns, hosts)
	run.Proof = readProof(suite, f.proof)
	a.printPlan(run, plan)
	if f.plan {
		return nil
	}
	dir := f.out
	if dir == "" {
		dir = filepath.Join(outDir, run.Started.Format("20060102T150405Z")+"-"+run.ID[:6])
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return usagef("%s is not empty: choose another folder with --out", dir)
	}
	show := a.progress(run, plan.Expected)
	bundle, err := runner.Session{
		Suite: suite, Run: run, Dir: dir, Dialer: scenarios.NewDialer(hosts, chosen.rate), Fault: catalogue.Find,
		Workers: f.workers, Pace: f.pace, Progress: show.event, Journal: openJournal, Target: asTarget(chosen.build),
	}.Conduct(ctx)
	show.end()
	if err != nil {
		return a.runFailed(ctx, dir, err)
	}
	return a.runDone(bundle, f)
}

// runFailed says what can still be had of a run that did not finish.
func (a *app) runFailed(ctx context.Context, dir string, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		err = fmt.Errorf("interrupted; what was recorded can be judged: assay judge %s", dir)
	}
	if exists(filepath.Join(dir, results.RunFile)) {
		return coded{results.ExitHarness, err}
	}
	return coded{results.ExitUsage, err} // nothing was begun: the folder or the target was wrong
}

func (a *app) runDone(bundle *results.Bundle, f runFlags) error {
	if err := writeViews(bundle); err != nil {
		return err
	}
	if f.json {
		if err := a.printView(bundle, "json"); err != nil {
			return err
		}
	} else if err := a.printView(bundle, "text"); err != nil {
		return err
	}
	fmt.Fprintf(a.err, "report: %s\n", filepath.Join(bundle.Dir, "report.html"))
	code := bundle.Verdicts.Exit
	if code == results.ExitPass && f.require && len(bundle.Run.NotRun) > 0 {
		fmt.Fprintf(a.err, "assay: %s could not be run on this host, and --require was given\n", plural(len(bundle.Run.NotRun), "case"))
		code = results.ExitInconclusive
	}
	return finish(code)
}

// takeProfile lets the first argument be a profile's name.
func takeProfile(f *runFlags, args []string) []string {
	if len(args) == 0 || f.profile != "" {
		return args
	}
	for _, p := range suites.Profiles() {
		if p.Name == args[0] {
			f.profile = p.Name
			return args[1:]
		}
	}
	return args
}

// reproduce returns the command that runs one case alone.
func reproduce(f runFlags) func(results.Key) string {
	return func(key results.Key) string {
		words := []string{"assay", "run", quote(suites.Pattern(key))}
		if strings.HasPrefix(key.Check, suites.FrameKey.Check+"/") { // what the whole run showed needs the whole run
			words = append([]string{"assay", "run"}, f.words...)
		}
		if f.target != "" {
			words = append(words, "--target", quote(f.target))
		}
		words = append(words, f.tls.words()...)
		for _, d := range f.defects {
			words = append(words, "--defect", d)
		}
		if f.readDeadline != 5*time.Second {
			words = append(words, "--read-deadline", f.readDeadline.String())
		}
		if f.basis != "standard" {
			words = append(words, "--basis", f.basis)
		}
		for _, h := range f.allowHosts {
			words = append(words, "--allow-host", quote(h))
		}
		return strings.Join(append(words, "--seed", fmt.Sprint(f.seed)), " ")
	}
}

// quote protects a word from the shell where it needs that.
func quote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-=@:#") == "" && s[0] != '#' {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func applyKnownFailing(suite *suites.Suite, plan *suites.Plan, path string) error {
	if path == "" {
		return nil
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	list, err := suites.ReadKnownFailing(path, raw)
	if err != nil {
		return err
	}
	return list.Apply(suite, plan, time.Now())
}

func describeRun(suite *suites.Suite, f runFlags, plan suites.Plan, chosen *chosenTarget, patterns, hosts []string) results.Run {
	profile := f.profile
	if profile == "" {
		profile = suites.Profiles()[0].Name
	}
	return results.Run{
		APIVersion: results.APIVersion, Kind: "run", ID: newRunID(), Tool: aboutTool(),
		Suite:  results.Suite{Version: suites.Version, Digest: suite.Digest()},
		Target: chosen.meta, Host: aboutHost(), Seed: f.seed, Profile: profile, Patterns: patterns,
		Basis: f.basis, Probing: !f.noProbe, Started: time.Now().UTC().Truncate(time.Second),
		Plan: plan.Planned, Requirements: plan.Requirements, LeftOut: plan.LeftOut, NotRun: plan.NotRun, AllowHosts: hosts,
		Calibration: lastCalibration(),
	}
}

// readProof takes the proof of an earlier assay prove if it is of this very suite.
func readProof(suite *suites.Suite, dir string) *results.Proof {
	if _, err := seal.Check(dir); err != nil {
		return nil
	}
	b, err := results.Open(dir)
	if err != nil || b.Run.Proof == nil || b.Run.Proof.SuiteDigest != suite.Digest() {
		return nil
	}
	return b.Run.Proof
}

// barred says why a case can not run on this host, by asking the fault's drivers and by what the harness
// can see of the target's process.
func barred(ctx context.Context, chosen *chosenTarget) func(suites.Check, results.Key) string {
	drivers, here := map[string]string{}, map[string]string{}
	return func(c suites.Check, key results.Key) string {
		if why := chosen.beyondReach(c, key); why != "" {
			return why
		}
		if c.Here != nil && !chosen.ours { // what this program lacks here, the reference in it does not claim
			if _, asked := here[c.ID]; !asked {
				here[c.ID] = c.Here()
			}
			if here[c.ID] != "" {
				return here[c.ID]
			}
		}
		if !chosen.owned && (c.Locality != suites.Anywhere || strings.HasPrefix(key.Under, "proc/")) {
			return "needs the target's process on this host, and this target was started by someone else"
		}
		if key.Under == "" {
			return ""
		}
		if !chosen.local {
			return "faults never leave this machine, and this target is not on it"
		}
		name, _, _ := strings.Cut(key.Under, "=")
		why, asked := drivers[name]
		if !asked {
			why = probeFault(ctx, name)
			drivers[name] = why
		}
		return why
	}
}

// beyondReach says which endpoint a case needs that a bare address can not have.
func (c *chosenTarget) beyondReach(check suites.Check, key results.Key) string {
	if c.endpoints == nil {
		return ""
	}
	for _, need := range check.NeedsOf(key.Case) {
		if e, ok := features.Find(string(need)); ok && c.endpoints[e.Endpoint] == "" {
			return fmt.Sprintf("needs %s (%s), which an address alone does not offer: write a target file", e.Title, need)
		}
	}
	return ""
}

func probeFault(ctx context.Context, name string) string {
	f, err := catalogue.Find(name)
	if err != nil {
		return err.Error()
	}
	if _, err := runner.Driver(ctx, f); err != nil {
		return err.Error()
	}
	return ""
}

// proven lists the requirements that an earlier proof of this suite covers.
func proven(suite *suites.Suite, dir string) (map[string]bool, bool) {
	p := readProof(suite, dir)
	if p == nil {
		return nil, false
	}
	return prove.Proven(suite, p), true
}
