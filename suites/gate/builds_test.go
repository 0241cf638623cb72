package gate_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assay-bench/assay/suites/gate"
)

// Rows: gate/preflight/toolchain.
func TestBuildsThatCanBeCompared(t *testing.T) {
	dir := t.TempDir()
	build := func(name string, flags ...string) string {
		t.Helper()
		out := filepath.Join(dir, name)
		args := append([]string{"build", "-o", out}, flags...)
		if text, err := exec.Command("go", append(args, "../../fixtures/services/cmd/echo")...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		return out
	}
	plain, stamped := build("plain"), build("stamped", "-ldflags=-X main.version=1.2.3")
	if c := gate.CompareBuilds(plain, stamped); len(c.Refused)+len(c.Listed) != 0 {
		t.Errorf("-X: %+v", c)
	}
	slow := build("slow", "-gcflags=-N -l")
	if c := gate.CompareBuilds(plain, slow); len(c.Refused) != 1 || !strings.Contains(c.Refused[0], "-N -l") {
		t.Errorf("without optimisation: %+v", c)
	}
	tagged := build("tagged", "-tags=other")
	if c := gate.CompareBuilds(plain, tagged); len(c.Refused) != 0 || len(c.Listed) != 1 {
		t.Errorf("another tag: %+v", c)
	}
	if c := gate.CompareBuilds(plain, "builds_test.go"); len(c.Refused)+len(c.Listed) != 0 {
		t.Errorf("a script has no build information: %+v", c)
	}
}
