package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/assay-bench/assay/results"
)

// TestKilledRunLosesNothing kills the harness at 20 random moments of a run that freezes its target. What
// it had said to be done must be judged the same from what is on disk, everything else is Unproven, and no
// process survives, frozen ones included.
func TestKilledRunLosesNothing(t *testing.T) {
	const moments = 20
	rng := rand.New(rand.NewPCG(20, 26))
	for i := range moments {
		after := time.Duration(rng.Int64N(int64(2500 * time.Millisecond)))
		t.Run(fmt.Sprintf("%02d", i), func(t *testing.T) {
			t.Parallel()
			killOnce(t, after)
		})
	}
}

func killOnce(t *testing.T, after time.Duration) {
	dir := t.TempDir()
	own := filepath.Join(dir, "assay") // a name of its own, by which survivors can be told
	if err := os.Link(program, own); err != nil {
		t.Fatal(err)
	}
	bundle := filepath.Join(dir, "out")
	var said bytes.Buffer
	cmd := exec.Command(own, "run", "rpc/wire/pipelining-order", "rpc/wire/oneway-silent", "rpc/wire/seq-echo", "--seed", "1", "--out", bundle)
	cmd.Stderr = &said
	cmd.Env = append(os.Environ(), "CI=true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(after) // the random moment itself
	if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	cmd.Wait() // its error is the kill
	noSurvivors(t, own)
	if !exists(filepath.Join(bundle, results.RunFile)) {
		if strings.Contains(said.String(), "pass ") {
			t.Fatalf("a case was said to be done, and there is no bundle:\n%s", &said)
		}
		return
	}
	judgeKilled(t, bundle, said.String())
}

// judgeKilled judges the bundle and compares it with the lines that were printed before the kill.
func judgeKilled(t *testing.T, bundle, said string) {
	out, err := exec.Command(program, "judge", "--json", bundle).Output()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		t.Fatal(err)
	}
	var v results.Verdicts
	if err := json.Unmarshal(out, &v); err != nil {
		t.Fatalf("judge printed no verdicts: %v\n%s", err, out)
	}
	judged := map[string]results.Status{}
	for _, x := range v.Verdicts {
		name := x.Check
		if x.Case != "" {
			name += "#" + x.Case
		}
		if x.Under != "" {
			name += "@" + x.Under
		}
		judged[name] = x.Status
	}
	for line := range strings.Lines(said) {
		fields := strings.Fields(line)
		if len(fields) < 3 || fields[0] != "pass" || !strings.HasSuffix(line, "\n") {
			continue
		}
		if got := judged[fields[1]]; got != results.Pass {
			t.Errorf("%s was said to pass before the kill and is judged %s from the bundle", fields[1], got)
		}
	}
}

// noSurvivors waits until no process of the program under this name is left.
func noSurvivors(t *testing.T, own string) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		left := processesOf(own)
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("processes survive the harness: %q", left)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func processesOf(exe string) (out []string) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		target, err := os.Readlink(filepath.Join(d, "exe"))
		if err != nil || strings.TrimSuffix(target, " (deleted)") != exe {
			continue
		}
		line, err := os.ReadFile(filepath.Join(d, "cmdline"))
		if err == nil && len(line) > 0 { // a zombie has none
			out = append(out, filepath.Base(d)+": "+string(bytes.ReplaceAll(line, []byte{0}, []byte(" "))))
		}
	}
	return out
}
