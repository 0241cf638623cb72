package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/assay-bench/assay/reports"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/results/seal"
	"github.com/assay-bench/assay/scenarios/load"
	"github.com/assay-bench/assay/scenarios/load/bundle"
)

// loadFile is the mergeable result within a bundle of a load.
const loadFile = "load.json"

// loadBundle is the bundle of a load, on disk or, where nobody asked for files, in memory.
type loadBundle struct {
	run    results.Run
	writer *results.Writer // nil: in memory
	record *results.Recorder
	hists  map[string][]byte
	last   *load.Result
}

func newLoadBundle(dir string, run results.Run) (*loadBundle, error) {
	b := &loadBundle{run: run, hists: map[string][]byte{}}
	var to io.Writer = io.Discard
	if dir != "" {
		var err error
		if b.writer, err = results.Create(dir, run); err != nil {
			return nil, err
		}
		to = b.writer.Evidence()
	}
	b.record = results.NewRecorder(to, results.ClockSince(run.Started))
	return b, nil
}

// describeLoad fills run.json.
func (a *app) describeLoad(job loadJob) results.Run {
	run := results.Run{
		APIVersion: results.APIVersion, Kind: bundle.Kind, ID: newRunID(), Tool: aboutTool(), Host: aboutHost(),
		Suite: results.Suite{Version: "load-" + bundle.Version, Digest: bundle.Digest()},
		Seed:  job.schedule.Seed, Basis: "all", Profile: bundle.Kind, Started: time.Now().UTC().Truncate(time.Second), AllowHosts: job.hosts,
		Calibration: lastCalibration(),
	}
	if job.config.URL != nil {
		run.Target = results.Target{Name: job.config.URL.Redacted(), Kind: "remote", Role: "endpoint",
			Endpoints: map[string]string{job.config.URL.Scheme: job.config.URL.Host}}
	}
	bundle.Plan(&run, job.thresholds, strings.Join(job.words, " "))
	return run
}

// kindsOfFile names the histograms of a bundle as reports know them.
var kindsOfFile = map[string]string{
	load.ResponseOK: "response", load.ResponseAll: "all", load.Service: "service", load.Lateness: "lateness",
}

// add records one load under a name, with its histograms.
func (b *loadBundle) add(name string, l bundle.Load) error {
	b.last = l.Result
	if err := b.put(bundle.Loaded, l); err != nil {
		return err
	}
	for kind, file := range kindsOfFile {
		if l.Result.Quantiles[kind].Count == 0 {
			continue
		}
		path := name + "--" + file + ".hdr"
		b.hists[path] = l.Result.Histograms[kind]
		if b.writer != nil {
			if err := b.writer.WriteFile(filepath.Join(results.HistogramDir, path), l.Result.Histograms[kind]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *loadBundle) put(kind results.Kind, data any) error {
	_, err := b.record.Record(results.Key{Check: bundle.GeneratorCheck}, results.FromScenario, kind, data)
	return err
}

// abandon closes a bundle without a result.
func (b *loadBundle) abandon() error {
	if b.writer == nil {
		return nil
	}
	return b.writer.Close()
}

// seal judges the evidence and completes the bundle.
func (b *loadBundle) seal() (*results.Bundle, error) {
	evidence := b.record.All()
	v := bundle.Verdicts(b.run, evidence)
	if b.writer == nil {
		return &results.Bundle{Run: b.run, Evidence: evidence, Verdicts: &v, Histograms: b.hists}, nil
	}
	raw, err := b.last.Encode()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(b.writer.WriteFile(loadFile, raw), b.writer.Close()); err != nil {
		return nil, err
	}
	if err := b.writer.WriteVerdicts(v, uint64(len(evidence))); err != nil {
		return nil, err
	}
	if err := seal.Write(b.writer.Dir(), bundle.Digest(), v.Executed); err != nil {
		return nil, err
	}
	sealed, err := results.Open(b.writer.Dir())
	if err != nil {
		return nil, err
	}
	return sealed, writeViews(sealed)
}

func checkFormat(name string) error {
	_, err := reports.Find(name)
	return err
}

// finishLoad seals, saves and prints.
func (a *app) finishLoad(b *loadBundle, out loadOut) error {
	sealed, err := b.seal()
	if err != nil {
		return err
	}
	if out.save != "" {
		raw, err := b.last.Encode()
		if err != nil {
			return err
		}
		if err := writeOutput(out.save, raw); err != nil {
			return err
		}
		fmt.Fprintf(a.err, "result: %s\n", out.save)
	}
	if err := a.printView(sealed, cmp.Or(out.format, "text")); err != nil {
		return err
	}
	if sealed.Dir != "" {
		fmt.Fprintf(a.err, "report: %s\n", filepath.Join(sealed.Dir, "report.html"))
	}
	if sealed.Verdicts.Exit == results.ExitInconclusive {
		a.adviseLoad(b.last)
	}
	return finish(sealed.Verdicts.Exit)
}

// readLoad reads a saved result: a file, or the folder of a bundle.
func readLoad(path string) (*load.Result, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		path = filepath.Join(path, loadFile)
	}
	const most = 64 << 20
	raw, err := readFile(path, most)
	if err != nil {
		return nil, err
	}
	r, err := load.Decode(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}
