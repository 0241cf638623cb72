package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/assay-bench/assay/reports"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/results/seal"
	"github.com/assay-bench/assay/suites"
	"github.com/assay-bench/assay/suites/prove"
	"github.com/assay-bench/assay/suites/runner"
)

// sameSeal compares what manifest and verdicts say of the bundle with the bundle.
func sameSeal(m seal.Manifest, b *results.Bundle) error {
	switch v := b.Verdicts; {
	case b.Torn:
		return errors.New("evidence.jsonl: the last line is cut off, and the bundle is sealed all the same")
	case m.SuiteDigest != b.Run.Suite.Digest, v.SuiteDigest != b.Run.Suite.Digest:
		return errors.New("manifest.json, verdicts.json and run.json name different suites")
	case m.Executed != v.Executed:
		return fmt.Errorf("manifest.json says that %d checks were executed, verdicts.json %d", m.Executed, v.Executed)
	}
	for i := 1; i < len(b.Evidence); i++ {
		if b.Evidence[i].At < b.Evidence[i-1].At || b.Evidence[0].At < 0 {
			return fmt.Errorf("evidence %d lies before evidence %d in time", b.Evidence[i].Seq, b.Evidence[i-1].Seq)
		}
	}
	return nil
}

// sameProof computes the proof of assay prove again from the bundles of its trials. Other bundles have none of their own.
func sameProof(suite *suites.Suite, b *results.Bundle) error {
	if b.Run.Proof == nil || b.Run.Kind != "prove" {
		return nil
	}
	bundles := map[string]*results.Bundle{}
	trials, err := os.ReadDir(filepath.Join(b.Dir, "proof"))
	if err != nil {
		return fmt.Errorf("the trials of the proof are missing: %w", err)
	}
	for _, t := range trials {
		dir := filepath.Join(b.Dir, "proof", t.Name())
		manifest, err := seal.Check(dir)
		if err != nil {
			return fmt.Errorf("trial %s: %w", t.Name(), err)
		}
		trial, err := results.Open(dir)
		if err != nil {
			return fmt.Errorf("trial %s: %w", t.Name(), err)
		}
		if trial.Verdicts == nil {
			return fmt.Errorf("trial %s has no verdicts", t.Name())
		}
		err = errors.Join(sameSeal(manifest, trial), suite.CheckPlan(trial.Run, trial.Evidence),
			sameVerdicts(*trial.Verdicts, runner.Verdicts(suite, trial.Run, trial.Evidence)))
		if err != nil {
			return fmt.Errorf("trial %s: %w", t.Name(), err)
		}
		bundles[t.Name()] = trial
	}
	computed, err := prove.Assemble(prove.Options{
		Sentinels: sentinels(),
		Suite:     suite, Known: knownDefects(), Hollow: hollowKinds(), Started: b.Run.Proof.Started,
	}, bundles)
	if err != nil {
		return err
	}
	x, xerr := results.Marshal(b.Run.Proof)
	y, yerr := results.Marshal(computed)
	if err := errors.Join(xerr, yerr); err != nil {
		return err
	}
	if !bytes.Equal(x, y) {
		return errors.New("run.json: the proof is not what its trials come to")
	}
	return nil
}

// sameVerdicts compares recorded verdicts with recomputed ones, byte for byte, and names the first that
// differs.
func sameVerdicts(recorded, computed results.Verdicts) error {
	if len(recorded.Verdicts) != len(computed.Verdicts) {
		return fmt.Errorf("verdicts.json has %d verdicts, the evidence gives %d", len(recorded.Verdicts), len(computed.Verdicts))
	}
	for i, r := range recorded.Verdicts {
		c := computed.Verdicts[i]
		a, aerr := results.Marshal(r)
		b, berr := results.Marshal(c)
		if err := errors.Join(aerr, berr); err != nil {
			return err
		}
		if !bytes.Equal(a, b) {
			return fmt.Errorf("verdict %s: recorded %s %s, the evidence gives %s %s", r.Key(), r.Status, r.Reason, c.Status, c.Reason)
		}
	}
	if recorded.Exit != computed.Exit || recorded.Executed != computed.Executed {
		return fmt.Errorf("verdicts.json says exit %d with %d executed, the evidence gives %d with %d",
			recorded.Exit, recorded.Executed, computed.Exit, computed.Executed)
	}
	return nil
}

// sameViews renders every view that stands in the bundle again and compares.
func sameViews(b *results.Bundle) error {
	for _, f := range reports.All() {
		name := reports.File(f)
		if name == "" {
			continue
		}
		have, err := os.ReadFile(filepath.Join(b.Dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		var buf bytes.Buffer
		if err := f.Write(&buf, b); err != nil {
			return err
		}
		if !bytes.Equal(have, buf.Bytes()) {
			return fmt.Errorf("%s is not what the bundle renders to", name)
		}
	}
	return nil
}
