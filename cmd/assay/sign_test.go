package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/results/seal"
)

// report/verify/recomputes: verdicts are computed, not read. Whoever holds the keys can seal and sign a doctored bundle
// anew, and it does not verify all the same: neither a verdict nor evidence can be changed alone.
func TestDoctoredAndSignedAgain(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "key")
	command(t, results.ExitPass, "keys", "new", keys)
	for name, tt := range map[string]struct{ file, old, new, want string }{
		"a verdict":         {results.VerdictsFile, `"status": "pass"`, `"status": "not-claimed"`, "recorded not-claimed , the evidence gives pass"},
		"evidence":          {results.EvidenceFile, `"kind":"controlled"`, `"kind":"contrived"`, "recorded pass , the evidence gives fail control-failed"},
		"what was executed": {results.RunFile, `"seed": 7`, `"seed": 8`, "run.json has"},
	} {
		out := filepath.Join(t.TempDir(), "out")
		command(t, results.ExitPass, "run", "rpc/wire/seq-echo", "--seed", "7", "--out", out)
		command(t, results.ExitPass, "sign", out, "--key", keys)
		m, err := seal.Check(out)
		if err != nil {
			t.Fatal(err)
		}
		doctor(t, filepath.Join(out, tt.file), tt.old, tt.new)
		if tt.file != results.RunFile { // a seed is no verdict: only the seal tells
			resign(t, out, keys, m)
		}
		if said := command(t, results.ExitFail, "verify", out, "--key", keys+publicSuffix); !strings.Contains(said, tt.want) {
			t.Errorf("%s doctored: verify says %s", name, said)
		}
	}
}

func doctor(t *testing.T, path, old, replacement string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(raw, []byte(old)) {
		t.Fatalf("%s has no %s to doctor", path, old)
	}
	if err := os.WriteFile(path, bytes.ReplaceAll(raw, []byte(old), []byte(replacement)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// resign seals and signs a bundle as its publisher would.
func resign(t *testing.T, out, keys string, m seal.Manifest) {
	t.Helper()
	if err := seal.Write(out, m.SuiteDigest, m.Executed); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(keys)
	if err != nil {
		t.Fatal(err)
	}
	s, err := seal.ParseSigner(raw)
	if err != nil {
		t.Fatal(err)
	}
	b, err := results.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Sign(b); err != nil {
		t.Fatal(err)
	}
}

// command runs the program, which starts itself as the target, and returns what it printed.
func command(t *testing.T, want results.Exit, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	out, err := cmd.CombinedOutput()
	if got := results.Exit(cmd.ProcessState.ExitCode()); got != want {
		t.Fatalf("assay %s: exit %d, want %d (%v)\n%s", strings.Join(args, " "), got, want, err, out)
	}
	return string(out)
}

// A bundle of a load is signed with its figures.
func TestSignedLoad(t *testing.T) {
	keys, out := filepath.Join(t.TempDir(), "key"), filepath.Join(t.TempDir(), "out")
	command(t, results.ExitPass, "keys", "new", keys)
	url := webServer(t, func(*http.Request) {})
	o := assayLoad(t.Context(), t, with(url, "-r", "100", "-d", "200ms", "--threshold", "response:p(99)<60000", "--out", out)...)
	if o.exit != results.ExitPass {
		t.Fatalf("exit %d\n%s%s", o.exit, o.out, o.err)
	}
	command(t, results.ExitPass, "sign", out, "--key", keys)
	command(t, results.ExitPass, "verify", out, "--key", keys+publicSuffix)
	raw, err := os.ReadFile(filepath.Join(out, seal.MeasurementFile))
	if err != nil {
		t.Fatal(err)
	}
	var e struct{ Payload []byte }
	if err := json.Unmarshal(raw, &e); err != nil || !bytes.Contains(e.Payload, []byte(`"figures":[{"name":`)) {
		t.Errorf("the measurement has no figures (%v): %s", err, e.Payload)
	}
}
