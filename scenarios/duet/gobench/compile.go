// Package gobench compiles the Go benchmarks of a revision and runs them, a fresh process at a time. It measures and has
// no opinion: suites/gate decides.
package gobench

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Program is the compiled test program of one package.
type Program struct {
	Path   string // of the file; empty where the package has no benchmarks
	Dir    string // of the package, in which it runs
	Digest string // SHA-256 of the file
}

// Compile compiles every package that matches the patterns and has a benchmark in its test files, by import path. Paths of
// the checkout do not get into the programs, so that equal sources give equal programs. Errors are those of the go command.
func Compile(ctx context.Context, dir, scratch string, patterns []string) (map[string]Program, error) {
	out := map[string]Program{}
	packages, err := list(ctx, dir, patterns)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(scratch, 0o755); err != nil {
		return nil, err
	}
	for i, p := range packages {
		has, err := p.benchmarks()
		if err != nil || !has {
			if err != nil {
				return nil, err
			}
			continue
		}
		file := filepath.Join(scratch, fmt.Sprintf("%d.test", i))
		if _, err := goCommand(ctx, dir, "test", "-c", "-trimpath", "-buildvcs=false", "-o", file, p.ImportPath); err != nil {
			return nil, err
		}
		sum, err := digestOf(file)
		if err != nil {
			return nil, err
		}
		out[p.ImportPath] = Program{Path: file, Dir: p.Dir, Digest: sum}
	}
	return out, nil
}

type listed struct {
	ImportPath, Dir           string
	TestGoFiles, XTestGoFiles []string
}

func list(ctx context.Context, dir string, patterns []string) ([]listed, error) {
	raw, err := goCommand(ctx, dir, append([]string{"list", "-json=ImportPath,Dir,TestGoFiles,XTestGoFiles"}, patterns...)...)
	if err != nil {
		return nil, err
	}
	var out []listed
	for dec := json.NewDecoder(bytes.NewReader(raw)); ; {
		var p listed
		switch err := dec.Decode(&p); {
		case errors.Is(err, io.EOF):
			return out, nil
		case err != nil:
			return nil, fmt.Errorf("go list: %w", err)
		}
		out = append(out, p)
	}
}

// benchmarks tells whether the test files of a package have any, without compiling them.
func (p listed) benchmarks() (bool, error) {
	for _, name := range slices.Concat(p.TestGoFiles, p.XTestGoFiles) {
		raw, err := os.ReadFile(filepath.Join(p.Dir, name))
		if err != nil {
			return false, err
		}
		if bytes.Contains(raw, []byte("func Benchmark")) {
			return true, nil
		}
	}
	return false, nil
}

func goCommand(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s in %s: %w: %s", args[0], dir, err, strings.TrimSpace(tail(stderr.String())))
	}
	return out, nil
}

// tail is the end of a text, where compilers say what is wrong.
func tail(s string) string {
	const most = 2 << 10
	return s[max(0, len(s)-most):]
}

func digestOf(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), errors.Join(err, f.Close())
}

// Digest is one SHA-256 over the programs of a side, by import path.
func Digest(programs map[string]Program) string {
	h := sha256.New()
	for _, path := range slices.Sorted(maps.Keys(programs)) {
		fmt.Fprintf(h, "%s\x00%s\n", path, programs[path].Digest)
	}
	return hex.EncodeToString(h.Sum(nil))
}
