package tpm

import (
	"os"
	"strings"
	"testing"
)

// missing skips a test for want of an outside program, but not where CI promises to have it.
func missing(t *testing.T, err error) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(err)
	}
	t.Skip(err)
}

func TestHere(t *testing.T) {
	if simulatorBuilt != (Here() == "" || !strings.Contains(Here(), "cgo")) && Here() != "" {
		t.Errorf("here: %q", Here())
	}
	err := &Missing{[]string{"no this", "no that"}}
	if err.Error() != "no TPM: no this; no that" {
		t.Error(err)
	}
}
