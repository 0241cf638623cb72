package duet

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// Checkout makes the sources of a side from a word, without building anything: a folder, or a revision as for Resolve. The
// folder of a revision is the one that corresponds to the repository's.
func (s Sources) Checkout(ctx context.Context, label, word string) (Built, error) {
	b := Built{Given: word}
	info, err := os.Stat(word)
	switch {
	case err == nil && exists(filepath.Join(word, "run.json")):
		return b, fmt.Errorf("%w: %s is a stored result; give the revision or folder that it measured, which then runs side by side", ErrNotComparable, word)
	case err == nil && info.IsDir():
		b.Dir, err = filepath.Abs(word)
		return b, err
	case err == nil:
		return b, fmt.Errorf("%s is a file: want a folder with a Go module, or a revision", word)
	}
	if b.Revision, err = s.commit(ctx, word); err != nil {
		return b, err
	}
	within, err := s.git(ctx, "rev-parse", "--show-prefix")
	if err != nil {
		return b, err
	}
	root, err := s.worktree(ctx, label, b.Revision)
	b.Dir = filepath.Join(root, filepath.FromSlash(within))
	return b, err
}
