package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A result that was asked for in /dev/null must not take its place: as root it once did, for every program of the host.
func TestOutputsDoNotReplacePipes(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(pipe, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, link} {
		reader, err := os.OpenFile(pipe, os.O_RDWR, 0) // opens at once
		if err != nil {
			t.Fatal(err)
		}
		if err := writeOutput(path, []byte("said")); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 4)
		if _, err := reader.Read(got); err != nil || string(got) != "said" {
			t.Errorf("%s: %q, %v", path, got, err)
		}
		if err := reader.Close(); err != nil {
			t.Error(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode()&fs.ModeNamedPipe == 0 {
			t.Errorf("%s is now %v, %v", path, info, err)
		}
	}
	if err := writeOutput(dir, nil); err == nil {
		t.Error("a folder was written to")
	}
	file := filepath.Join(dir, "new", "file")
	for _, text := range []string{"longer", "text"} {
		if err := writeOutput(file, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != text {
			t.Errorf("%q, %v", got, err)
		}
	}
}
