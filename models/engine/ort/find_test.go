package ort

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPlaces holds the order: what was given, the environment, then pip, npm and the system, nothing of the
// working directory.
func TestPlaces(t *testing.T) {
	env := map[string]string{
		"PYTHONPATH": "/py:relative", "VIRTUAL_ENV": "/venv", "HOME": "/home/u", "NODE_PATH": "/node:", "LD_LIBRARY_PATH": ".:/lib/x",
	}
	get := func(k string) string { return env[k] }
	all := places("", get)
	for _, p := range all {
		if !filepath.IsAbs(p) {
			t.Errorf("%q depends on the working directory", p)
		}
	}
	joined := strings.Join(all, "\n")
	last := -1
	for _, want := range []string{"/py/onnxruntime/capi", "/venv/lib/python3*/site-packages/onnxruntime/capi", "/node/onnxruntime-node/bin/napi-v*/" + runtime.GOOS, "/lib/x", "/usr/lib/*-linux-gnu"} {
		at := strings.Index(joined, want)
		if at <= last {
			t.Errorf("%q is at %d, after %d", want, at, last)
		}
		last = at
	}
	env[Environment] = "/env/lib.so"
	if diff := cmp.Diff([]string{"/env/lib.so"}, places("", get)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"/given"}, places("/given", get)); diff != "" {
		t.Error(diff)
	}
}

func TestCandidates(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("file names of Linux")
	}
	dir := t.TempDir()
	sub := filepath.Join(dir, "napi-v6", "x64")
	if err := os.MkdirAll(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(sub, "libonnxruntime.so.1")
	for _, name := range []string{file, filepath.Join(sub, "libonnxruntime_providers_shared.so")} {
		if err := os.WriteFile(name, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, place := range []string{file, sub, filepath.Join(dir, "napi-v*", "x64")} {
		if diff := cmp.Diff([]string{file}, candidates([]string{filepath.Join(dir, "none"), place})); diff != "" {
			t.Errorf("%s: %s", place, diff)
		}
	}
}

// TestLibraryAbsent is the part of router/onnx/library-absent that a library decides: a path without one, and
// a file that is none, are errors that name the path and what to do.
func TestLibraryAbsent(t *testing.T) {
	dir := t.TempDir()
	none := filepath.Join(dir, "libonnxruntime.so")
	wrong := filepath.Join(dir, "wrong.so")
	if err := os.WriteFile(wrong, []byte("no library"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{none, wrong} {
		_, err := Open(path)
		if err == nil || !strings.HasPrefix(err.Error(), ErrLibrary.Error()) {
			t.Errorf("%s: err = %v", path, err)
			continue
		}
		t.Log(err)
	}
	if err := missing([]string{"/a", "/b"}, "no library found"); !strings.Contains(err.Error(), "tried /a, /b; install it") || !strings.Contains(err.Error(), Environment) {
		t.Errorf("err = %v", err)
	}
}
