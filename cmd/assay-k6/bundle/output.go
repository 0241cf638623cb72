// Package bundle is the output "assay". Every run has it: it adds the threshold on dropped iterations to
// what the script asks for. With a folder (-o assay=DIR) it also writes assay's bundle: run.json, evidence,
// HDR histograms in place of k6's raw values, verdicts, and the seal over them.
package bundle

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"time"

	"github.com/sirupsen/logrus"

	"go.k6.io/k6/lib/fsext"
	"go.k6.io/k6/metrics"
	"go.k6.io/k6/output"

	"github.com/assay-bench/assay/cmd/assay-k6/args"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios/k6"
)

// Name is the output's name on the command line.
const Name = "assay"

// Output is the guard of a run and the writer of its bundle.
type Output struct {
	dir    string // empty: guard only
	script string
	digest string // of the script
	logger logrus.FieldLogger
	thrown *thrown

	thresholds map[string]metrics.Thresholds
	guarded    bool // the threshold on dropped iterations is ours
	began      time.Time
	writer     *results.Writer
	recorder   *results.Recorder
	run        results.Run
	tally      *tally
	refused    error // of the evidence: reported when the run ends
}

var (
	_ output.WithThresholds        = (*Output)(nil)
	_ output.WithStopWithTestError = (*Output)(nil)
)

// New refuses a folder that is in use before the run begins.
func New(p output.Params) (output.Output, error) {
	o := &Output{dir: p.ConfigArgument, logger: p.Logger, script: scriptName(p.ScriptPath), tally: newTally()}
	if o.dir != "" {
		if entries, err := os.ReadDir(o.dir); err == nil && len(entries) > 0 {
			return nil, fmt.Errorf("%s is not empty: choose another folder with -o assay=DIR", o.dir)
		}
		o.digest = scriptDigest(p.FS, p.ScriptPath)
	}
	o.guarded = guard(p.ScriptOptions.Thresholds)
	o.thrown = watch(p.Logger)
	return o, nil
}

// guard adds the threshold on dropped iterations to the script's thresholds. k6 shares that map with its
// engine, and without any thresholds the configuration has it (package args).
func guard(thresholds map[string]metrics.Thresholds) bool {
	if own, ok := thresholds[args.Dropped]; ok {
		return len(own.Thresholds) == 1 && own.Thresholds[0].Source == args.NoneDropped
	}
	if thresholds == nil {
		return false
	}
	ours := metrics.NewThresholds([]string{args.NoneDropped})
	if err := ours.Parse(); err != nil {
		panic(err) // the expression is a constant
	}
	thresholds[args.Dropped] = ours
	return true
}

func scriptName(u *url.URL) string {
	if u == nil {
		return "script"
	}
	return path.Base(u.Path)
}

// scriptDigest returns the SHA-256 of the script's file, or nothing where it is not a file.
func scriptDigest(fs fsext.Fs, u *url.URL) string {
	if fs == nil || u == nil {
		return ""
	}
	raw, err := fsext.ReadFile(fs, u.Path)
	if err != nil {
		return "" // standard input, or an archive
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// Description says in k6's banner what the output does.
func (o *Output) Description() string {
	if o.dir == "" {
		return "assay (dropped iterations fail the run)"
	}
	return "assay (" + o.dir + ")"
}

// SetThresholds takes what k6 is going to judge, ours among them.
func (o *Output) SetThresholds(all map[string]metrics.Thresholds) { o.thresholds = all }

// Start creates the bundle, so that a run that is killed leaves one.
func (o *Output) Start() error {
	o.began = time.Now()
	if o.dir == "" {
		return nil
	}
	o.run = describe(o.began, o.script, o.digest, o.dir)
	k6.Plan(&o.run, o.script, o.scriptThresholds(), o.run.Plan[0].Reproduce)
	for name := range o.thresholds {
		o.tally.want(name)
	}
	w, err := results.Create(o.dir, o.run)
	if err != nil {
		return err
	}
	o.writer, o.recorder = w, results.NewRecorder(w.Evidence(), results.ClockSince(o.began))
	return o.record(results.FromHost, results.Started, started{Script: o.script, SHA256: o.digest})
}

// started is the first piece of evidence: what was run.
type started struct {
	Script string `json:"script"`
	SHA256 string `json:"sha256,omitempty"`
}

// scriptThresholds are the expressions that the script, not the guard, asks for.
func (o *Output) scriptThresholds() map[string][]string {
	out := map[string][]string{}
	for name, ts := range o.thresholds {
		for _, t := range ts.Thresholds {
			if !o.ours(name) {
				out[name] = append(out[name], t.Source)
			}
		}
	}
	return out
}

func (o *Output) ours(metric string) bool { return o.guarded && metric == args.Dropped }

func (o *Output) record(from results.Source, kind results.Kind, data any) error {
	_, err := o.recorder.Record(results.Key{Check: k6.GeneratorCheck}, from, kind, data)
	return err
}

// GeneratorResult is a container of samples without samples: what the executor assay-open-loop hands to
// this output beside those that every output gets.
type GeneratorResult struct{ k6.Generator }

// GetSamples returns none.
func (GeneratorResult) GetSamples() []metrics.Sample { return nil }

// AddMetricSamples counts. k6 never calls it concurrently, and one sample costs a map look-up and one
// histogram increment, so nothing is put off.
func (o *Output) AddMetricSamples(containers []metrics.SampleContainer) {
	if o.dir == "" {
		return
	}
	for _, c := range containers {
		if g, ok := c.(GeneratorResult); ok {
			o.refused = errors.Join(o.refused, o.generated(g.Generator))
			continue
		}
		for _, s := range c.GetSamples() {
			o.tally.add(s)
		}
	}
}

// generated records the result of an open-loop scenario and keeps its histograms.
func (o *Output) generated(g k6.Generator) error {
	if g.Result == nil {
		return o.record(results.FromScenario, k6.Generated, g)
	}
	for name, raw := range g.Result.Histograms {
		if kind, ok := curves[name]; ok {
			if err := o.save(g.Scenario+"--"+kind, raw); err != nil {
				return err
			}
		}
	}
	whole, err := g.Result.Encode()
	if err != nil {
		return err
	}
	if err := o.writer.WriteFile(ResultDir+"/"+fileName(g.Scenario)+".json", whole); err != nil {
		return err
	}
	return o.record(results.FromScenario, k6.Generated, g)
}

// ResultDir holds the whole result of each open-loop scenario, histograms too, as assay load merge reads it.
const ResultDir = "load"

func (o *Output) save(name string, raw []byte) error {
	return o.writer.WriteFile(results.HistogramDir+"/"+fileName(name)+".hdr", raw)
}

// Stop is not called: k6 calls StopWithTestError where that exists.
func (o *Output) Stop() error { return o.StopWithTestError(nil) }
