package coldstart

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestGuestsAreBuiltFromTheirSource builds each committed module again.
func TestGuestsAreBuiltFromTheirSource(t *testing.T) {
	tool, err := exec.LookPath("wat2wasm")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("wat2wasm (wabt) is missing: the committed modules were not compared with their source")
		}
		t.Skip("NOT RUN: wat2wasm (wabt) is missing, the committed modules were not compared with their source")
	}
	seen := 0
	for _, name := range []string{"small", "testdata/hostile", "testdata/wide"} {
		seen++
		built := filepath.Join(t.TempDir(), "built.wasm")
		if out, err := exec.CommandContext(t.Context(), tool, name+".wat", "-o", built).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
		want, err := os.ReadFile(built)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(name + ".wasm")
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(want, got) {
			t.Errorf("%s.wasm is not what %s.wat gives: run go generate", name, name)
		}
	}
	if seen == 0 {
		t.Fatal("no guests")
	}
}
