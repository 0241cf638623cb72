package results_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/assay-bench/assay/results"
)

// A bundle of any origin may hold a pipe, or be on the way to a device: neither is replaced nor waited for.
func TestWriteFileAtomicRefusesPipes(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), results.VerdictsFile)
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := results.WriteFileAtomic(pipe, []byte("{}")); err == nil {
		t.Error("written")
	}
	if info, err := os.Lstat(pipe); err != nil || info.Mode()&fs.ModeNamedPipe == 0 {
		t.Errorf("now %v, %v", info, err)
	}
}
