package duet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/assay-bench/assay/scenarios/target"
)

// buildLimit bounds one build.
const buildLimit = 30 * time.Minute

// Built is one side, ready to be started.
type Built struct {
	Given    string // what the user wrote
	Out      string // the program, or what {out} stands for
	Dir      string // where it runs
	Revision string // commit; empty for a program that was there
	Digest   string // SHA-256 of the program, or of an image's configuration
	Image    bool   // Digest names an image that docker has
}

// Sources says how the words for a side become a program.
type Sources struct {
	Repository string // folder of the git checkout
	Build      string // command line that makes {out}
	Scratch    string // folder for worktrees and programs; the caller removes it
}

// ErrNotComparable is wrapped for a side that is a stored result: only what runs side by side is compared.
var ErrNotComparable = errors.New("not comparable")

// Resolve makes a side from a word: a program that is there, "." (the working tree), a container image (image:tag), a
// git revision, "merge-base:REVISION", or "last-release" (the newest tag that HEAD descends from). label names files.
// Errors say what to do.
func (s Sources) Resolve(ctx context.Context, label, word string) (Built, error) {
	b := Built{Given: word, Dir: s.Repository}
	info, err := os.Stat(word)
	switch {
	case err == nil && !info.IsDir():
		if b.Out, err = filepath.Abs(word); err != nil {
			return b, err
		}
	case err == nil && exists(filepath.Join(word, "run.json")):
		return b, fmt.Errorf("%w: %s is a stored result; give the program or the revision that it measured, which then runs side by side, or compare through a pinned reference: --baseline REFERENCE --against %s", ErrNotComparable, word, word)
	case word == ".":
		if b.Out, err = s.build(ctx, label, s.Repository); err != nil {
			return b, err
		}
	case isImage(word):
		b.Image = true
		b.Revision, b.Digest, err = resolveImage(ctx, word)
		return b, err
	default:
		if b.Revision, err = s.commit(ctx, word); err != nil {
			return b, err
		}
		if b.Dir, err = s.worktree(ctx, label, b.Revision); err != nil {
			return b, err
		}
		if b.Out, err = s.build(ctx, label, b.Dir); err != nil {
			return b, err
		}
	}
	b.Digest, err = digest(b.Out)
	return b, err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// commit finds the commit that a word names.
func (s Sources) commit(ctx context.Context, word string) (string, error) {
	args := []string{"rev-parse", "--verify", "--quiet", word + "^{commit}"}
	switch ref, base := strings.CutPrefix(word, "merge-base:"); {
	case base:
		args = []string{"merge-base", "HEAD", ref}
	case word == "last-release":
		tag, err := s.git(ctx, "describe", "--tags", "--abbrev=0", "HEAD")
		if err != nil {
			return "", fmt.Errorf("last-release: no tag that HEAD descends from: %w", s.shallow(ctx, err))
		}
		args = []string{"rev-parse", "--verify", "--quiet", tag + "^{commit}"}
	}
	commit, err := s.git(ctx, args...)
	if err != nil {
		return "", fmt.Errorf("%s is no program, and no revision of %s: %w", word, s.Repository, s.shallow(ctx, err))
	}
	return commit, nil
}

// shallow adds what to do where history is missing.
func (s Sources) shallow(ctx context.Context, err error) error {
	if is, gitErr := s.git(ctx, "rev-parse", "--is-shallow-repository"); gitErr == nil && is == "true" {
		return fmt.Errorf("%w; this clone is shallow: git fetch --unshallow", err)
	}
	return err
}

func (s Sources) git(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", s.Repository}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w %s", args[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSpace(string(out)), nil
}

// worktree checks a commit out beside the repository's own tree, without touching that.
func (s Sources) worktree(ctx context.Context, label, commit string) (string, error) {
	dir := filepath.Join(s.Scratch, label)
	_, err := s.git(ctx, "worktree", "add", "--detach", "--force", dir, commit)
	return dir, err
}

// Release forgets the worktrees that Resolve made; the folder itself is the caller's.
func (s Sources) Release(ctx context.Context) error {
	for _, label := range Arms {
		dir := filepath.Join(s.Scratch, label.String())
		if exists(filepath.Join(dir, ".git")) {
			if _, err := s.git(ctx, "worktree", "remove", "--force", dir); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s Sources) build(ctx context.Context, label, dir string) (string, error) {
	if s.Build == "" {
		return "", errors.New("the policy has no build: it makes a program of a revision")
	}
	out := filepath.Join(s.Scratch, label+".out")
	limited, cancel := context.WithTimeout(ctx, buildLimit)
	defer cancel()
	ran, err := target.RunHook(limited, dir, s.Build, map[string]string{"out": out})
	if err != nil {
		return "", fmt.Errorf("build of the %s: %w", label, err)
	}
	if ran.Exit != 0 || ran.Late {
		return "", fmt.Errorf("build of the %s: %s: %s: %s", label, s.Build, ran.State, strings.TrimSpace(ran.Output))
	}
	if !exists(out) {
		return "", fmt.Errorf("build of the %s: %s made no %s", label, s.Build, "{out}")
	}
	return out, nil
}

// digest hashes a program, or every file of a folder with its name.
func digest(path string) (string, error) {
	h := sha256.New()
	err := filepath.WalkDir(path, func(name string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if name != path {
			fmt.Fprintf(h, "%s\x00", strings.TrimPrefix(name, path))
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		_, err = io.Copy(h, f)
		return errors.Join(err, f.Close())
	})
	return hex.EncodeToString(h.Sum(nil)), err
}
