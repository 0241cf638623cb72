package targettest

import (
	"os"
	"syscall"
	"testing"
)

// Script writes a program that can be run at once, also while other tests start processes: a child that they fork holds
// every open file until it runs its own program, and Linux starts none that is held for writing ("text file busy").
func Script(t testing.TB, path, text string) string {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}
