//go:build unix

package results_test

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/assay-bench/assay/results"
)

// The test binary is also the child that is killed, and the one whose disk is full.
func TestMain(m *testing.M) {
	var err error
	switch os.Getenv("ASSAY_TEST_CHILD") {
	case "":
		os.Exit(m.Run())
	case "record":
		err = recordForever(os.Getenv("ASSAY_TEST_DIR"))
	case "full":
		err = writeBeyondLimit(os.Getenv("ASSAY_TEST_DIR"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func child(t *testing.T, what, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "ASSAY_TEST_CHILD="+what, "ASSAY_TEST_DIR="+dir)
	return cmd
}

// recordForever prints the number of each piece of evidence after Record has returned.
func recordForever(dir string) error {
	w, err := results.Create(dir, aRun())
	if err != nil {
		return err
	}
	rec := results.NewRecorder(w.Evidence(), &steps{})
	for i := 0; ; i++ {
		step := map[string]any{"bytes": results.BytesOf(bytes.Repeat([]byte{byte(i)}, i*97%900))}
		seq, err := rec.Record(keyA, results.FromScenario, results.Received, step)
		if err != nil {
			return err
		}
		fmt.Println(seq)
	}
}

// TestKilledRunLosesNothing kills a recording process at random moments: whatever Record returned for
// is in the bundle.
func TestKilledRunLosesNothing(t *testing.T) {
	const kills = 20
	rng := rand.New(rand.NewPCG(20, 26))
	for i := range kills {
		dir := filepath.Join(t.TempDir(), "b")
		after := 1 + rng.IntN(400)
		printed := killAfter(t, child(t, "record", dir), after)
		b, err := results.Open(dir)
		if err != nil {
			t.Fatalf("kill %d after %d records: %v", i+1, after, err)
		}
		if printed < uint64(after) || uint64(len(b.Evidence)) < printed {
			t.Errorf("kill %d after %d records: %d were printed, %d are in the bundle", i+1, after, printed, len(b.Evidence))
		}
		if b.Verdicts != nil || b.Run.ID != aRun().ID {
			t.Errorf("kill %d: %+v", i+1, b.Run)
		}
		for _, e := range b.Evidence {
			var step struct{ Bytes results.Bytes }
			if err := e.Decode(&step); err != nil {
				t.Fatal(err)
			}
			if _, whole := step.Bytes.Whole(); !whole {
				t.Fatalf("kill %d: evidence %d is not whole", i+1, e.Seq)
			}
		}
	}
}

// killAfter reads n numbers, kills the process and returns the last number that it printed.
func killAfter(t *testing.T, cmd *exec.Cmd, n int) (printed uint64) {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	for i := 0; ; i++ {
		if i == n {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		line, err := lines.ReadString('\n')
		if err != nil {
			break
		}
		if _, err := fmt.Sscanf(line, "%d\n", &printed); err != nil {
			t.Fatalf("the child printed %q: %v", line, err)
		}
	}
	if err := cmd.Wait(); err == nil || stderr.Len() > 0 {
		t.Fatalf("the child was not killed: %v, %s", err, &stderr)
	}
	return printed
}

const fileLimit = 4096

// writeBeyondLimit lets the kernel refuse a write half way.
func writeBeyondLimit(dir string) error {
	signal.Ignore(syscall.SIGXFSZ)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: fileLimit, Max: fileLimit}); err != nil {
		return err
	}
	err := results.WriteFileAtomic(filepath.Join(dir, "file"), bytes.Repeat([]byte("new"), fileLimit))
	fmt.Println(err)
	return nil
}

func TestWriteFileAtomicOnFullDisk(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := results.WriteFileAtomic(path, []byte("old")); err != nil {
		t.Fatal(err)
	}
	out, err := child(t, "full", dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), "write "+path) {
		t.Errorf("the child said %q, want the error of a write", out)
	}
	if got := tree(t, dir); read(t, path) != "old" || len(got) != 1 {
		t.Errorf("after a failed write there are %q, the file holds %.20q", got, read(t, path))
	}
}
