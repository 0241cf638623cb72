package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/assay-bench/assay/results"
)

// The programs, built once: tests run what users run.
var assayK6, assay string

func TestMain(m *testing.M) { os.Exit(mainOfTests(m)) }

func mainOfTests(m *testing.M) int {
	if os.Getenv("ASSAY_K6_TEST_INSIDE") != "" {
		return m.Run() // the programs are built already
	}
	dir, err := os.MkdirTemp("", "assay-k6-bin-*")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	assayK6, assay = filepath.Join(dir, "assay-k6"), filepath.Join(dir, "assay")
	for _, build := range [][]string{{".", assayK6, "."}, {"../..", assay, "./cmd/assay"}} {
		cmd := exec.Command("go", "build", "-o", build[1], build[2])
		cmd.Dir = build[0]
		if out, err := cmd.CombinedOutput(); err != nil {
			panic(string(out))
		}
	}
	return m.Run()
}

// ran is a finished program.
type ran struct {
	code        int
	out, errOut string
}

// limit ends a program that does not end by itself.
const limit = 2 * time.Minute

// run runs a program of the module in a folder of its own, with further environment.
func run(t *testing.T, env []string, program string, args ...string) ran {
	t.Helper()
	var out, errOut strings.Builder
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	stop := time.AfterFunc(limit, func() { _ = cmd.Process.Kill() })
	defer stop.Stop()
	err := cmd.Run()
	r := ran{out: out.String(), errOut: errOut.String()}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		r.code = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	return r
}

// k6 runs a script with a bundle and returns both.
func k6(t *testing.T, script string, args ...string) (ran, *results.Bundle) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "script.js")
	if err := os.WriteFile(path, []byte(script), 0o644); err != nil {
		t.Fatal(err)
	}
	return k6File(t, nil, path, args...)
}

func k6File(t *testing.T, env []string, path string, args ...string) (ran, *results.Bundle) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "bundle")
	r := run(t, env, assayK6, append([]string{"run", "-o", "assay=" + dir, path}, args...)...)
	b, err := results.Open(dir)
	if errors.Is(err, results.ErrNoBundle) {
		return r, nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return r, b
}

// verdict returns the verdict on a row, and fails the test where there is none.
func verdict(t *testing.T, b *results.Bundle, check, name string) results.Verdict {
	t.Helper()
	if b == nil || b.Verdicts == nil {
		t.Fatal("no bundle with verdicts")
	}
	for _, v := range b.Verdicts.Verdicts {
		if v.Check == check && v.Case == name {
			return v
		}
	}
	t.Fatalf("no verdict on %s %q in %+v", check, name, b.Verdicts.Verdicts)
	return results.Verdict{}
}

// stack starts the reference stack and returns its endpoints and the roots of its certificates, in a file.
func stack(t *testing.T) (endpoints map[string]string, roots, sni string) {
	t.Helper()
	cmd := exec.Command(assay, "up", "--watch-stdin")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var ready struct {
		Endpoints map[string]string `json:"endpoints"`
		Claims    struct {
			TLS struct{ ServerName, Roots string } `json:"tls"`
		} `json:"claims"`
	}
	if err := json.Unmarshal(line, &ready); err != nil {
		t.Fatal(err)
	}
	roots = filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, []byte(ready.Claims.TLS.Roots), 0o644); err != nil {
		t.Fatal(err)
	}
	return ready.Endpoints, roots, ready.Claims.TLS.ServerName
}
