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
)

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
