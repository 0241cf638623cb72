package sandbox

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/tetratelabs/wazero"

	"github.com/assay-bench/assay/reference/defect"
)

const (
	cacheEntries = 1024  // more are dropped, oldest first
	sumName      = "sum" // hex SHA-256 of the entry's only other file
)

// errDamaged is a cache entry that cannot be used.
var errDamaged = errors.New("damaged cache entry")

// disk is the cache of compiled modules: a folder an entry, named by the digest of the rewritten module,
// in a folder a version of wazero. The files are native code, so the folder is the service's alone.
//
// wazero's own checksum covers the code but not the tables beside it. The digest that is kept beside each
// entry covers all of it; neither is authentication, which is what the mode of the folder is for.
type disk struct {
	dir     string
	defects defect.Set

	hits, misses, corrupt atomic.Int64
	locks                 [16]sync.Mutex // by digest
}

// openDisk makes or takes over the folder. It refuses one that others own or can read.
func openDisk(dir string, defects defect.Set) (*disk, error) {
	d := &disk{dir: filepath.Join(dir, "wazero-"+WazeroVersion), defects: defects}
	mode := fs.FileMode(0o700)
	if defects.On(defect.SandboxCacheOpen) {
		mode = 0o755
	}
	for _, folder := range []string{dir, d.dir} {
		if err := os.MkdirAll(folder, mode); err != nil {
			return nil, fmt.Errorf("compilation cache: %w", err)
		}
		if mode != 0o700 {
			if err := os.Chmod(folder, mode); err != nil {
				return nil, fmt.Errorf("compilation cache: %w", err)
			}
			continue
		}
		if err := private(folder); err != nil {
			return nil, fmt.Errorf("compilation cache: %w", err)
		}
	}
	return d, nil
}

// private fails for what is no folder of this user that nobody else can use.
func private(folder string) error {
	info, err := os.Lstat(folder)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is no folder", folder)
	case !owned(info):
		return fmt.Errorf("%s belongs to another user", folder)
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s has mode %04o, want 0700", folder, info.Mode().Perm())
	}
	return nil
}

// mode is the mode of the folder as text, for statistics.
func (d *disk) mode() string {
	info, err := os.Lstat(d.dir)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%04o", info.Mode().Perm())
}

// lock keeps two compilations of one digest apart.
func (d *disk) lock(digest string) (unlock func()) {
	l := &d.locks[digest[0]%16]
	l.Lock()
	return l.Unlock
}

// open returns wazero's view of the entry and whether it holds the compiled module. The caller holds the
// lock. An errDamaged is an entry that drop removes.
func (d *disk) open(digest string) (wazero.CompilationCache, bool, error) {
	entry := filepath.Join(d.dir, digest)
	hit, err := d.sound(entry)
	if err != nil {
		return nil, false, err
	}
	cache, err := wazero.NewCompilationCacheWithDir(entry)
	if err != nil {
		return nil, false, fmt.Errorf("compilation cache: %w", err)
	}
	return cache, hit, nil
}

// sound says whether the entry is there and as it was written.
func (d *disk) sound(entry string) (bool, error) {
	want, err := os.ReadFile(filepath.Join(entry, sumName))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(entry); errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return false, fmt.Errorf("%w: no digest", errDamaged) // a writer that did not come to its end
	}
	if err != nil {
		return false, fmt.Errorf("%w: %w", errDamaged, err)
	}
	got, err := sumOf(entry)
	if err != nil {
		return false, fmt.Errorf("%w: %w", errDamaged, err)
	}
	if got != string(want) {
		return false, fmt.Errorf("%w: its digest differs", errDamaged)
	}
	return true, nil
}

// sumOf is the digest of the compiled module in an entry, which has to hold exactly one.
func sumOf(entry string) (string, error) {
	files, err := filepath.Glob(filepath.Join(entry, "wazero-*", "*"))
	if err != nil || len(files) != 1 {
		return "", fmt.Errorf("%d compiled modules, want 1", len(files))
	}
	f, err := os.Open(files[0])
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // was read only
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// written completes an entry that wazero has filled.
func (d *disk) written(digest string) error {
	entry := filepath.Join(d.dir, digest)
	sum, err := sumOf(entry)
	if err != nil {
		return fmt.Errorf("compilation cache: entry: %w", err)
	}
	if err := os.WriteFile(filepath.Join(entry, sumName), []byte(sum), 0o600); err != nil {
		return fmt.Errorf("compilation cache: %w", err)
	}
	return d.trim()
}

// drop removes an entry, damaged or not.
func (d *disk) drop(digest string) error {
	if err := os.RemoveAll(filepath.Join(d.dir, digest)); err != nil {
		return fmt.Errorf("compilation cache: %w", err)
	}
	return nil
}

// trim drops the oldest entries above the bound.
func (d *disk) trim() error {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return fmt.Errorf("compilation cache: %w", err)
	}
	if len(entries) <= cacheEntries {
		return nil
	}
	age := func(e os.DirEntry) int64 {
		info, err := e.Info()
		if err != nil {
			return 0 // gone already
		}
		return info.ModTime().UnixNano()
	}
	ages := make(map[string]int64, len(entries))
	for _, e := range entries {
		ages[e.Name()] = age(e)
	}
	slices.SortFunc(entries, func(a, b os.DirEntry) int {
		if c := ages[a.Name()] - ages[b.Name()]; c != 0 {
			return int(max(-1, min(1, c)))
		}
		return strings.Compare(a.Name(), b.Name())
	})
	for _, e := range entries[:len(entries)-cacheEntries] {
		if err := d.drop(e.Name()); err != nil {
			return err
		}
	}
	return nil
}

// damaged tells whether an error of CompileModule comes from the cache.
func damaged(err error) bool {
	return errors.Is(err, errDamaged) || (err != nil && strings.Contains(err.Error(), "compilationcache:"))
}
