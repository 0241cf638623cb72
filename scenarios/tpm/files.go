package tpm

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
)

// Bounds on what is read of a cache's folder.
const (
	maxFiles = 64
	maxFile  = 1 << 20
)

// Folder is the cache's folder, which the harness owns.
type Folder struct {
	env *scenarios.Env
	dir string
}

// NewFolder makes an empty folder that only this user can read.
func NewFolder(env *scenarios.Env) (*Folder, error) {
	dir, err := os.MkdirTemp("", "assay-cache-")
	if err != nil {
		return nil, fmt.Errorf("cache folder: %w", err)
	}
	return &Folder{env, dir}, nil
}

// Dir is its path.
func (f *Folder) Dir() string { return f.dir }

// Remove removes it with all that is in it.
func (f *Folder) Remove() error { return os.RemoveAll(f.dir) }

// Snapshot is the content of a folder's regular files by their path in it.
type Snapshot map[string][]byte

// Names lists the files in order.
func (s Snapshot) Names() []string { return slices.Sorted(maps.Keys(s)) }

// Snapshot reads all regular files. A target that fills the folder beyond bounds is read in part.
func (f *Folder) Snapshot() (Snapshot, error) {
	out := Snapshot{}
	err := filepath.WalkDir(f.dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || len(out) >= maxFiles {
			return nil // gone since it was listed, or enough
		}
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil || !info.Mode().IsRegular() || info.Size() > maxFile {
			return nil
		}
		raw, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		name, relErr := filepath.Rel(f.dir, path)
		if err = errors.Join(err, relErr); err != nil {
			return err
		}
		out[name] = raw
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cache folder: %w", err)
	}
	return out, nil
}

// Meddling is the evidence of files that the harness changed.
type Meddling struct {
	What  string   `json:"what"`
	Files []string `json:"files"`
	Bytes int      `json:"bytes"` // in them
}

// Restore makes the folder's files those of a snapshot: others are removed.
func (f *Folder) Restore(what string, s Snapshot) error {
	if err := f.Write(s); err != nil {
		return err
	}
	return f.env.Record(Meddled, Meddling{what, s.Names(), s.size()})
}

func (s Snapshot) size() (n int) {
	for _, raw := range s {
		n += len(raw)
	}
	return n
}

// Write is Restore without evidence, for many small changes in a row.
func (f *Folder) Write(s Snapshot) error {
	now, err := f.Snapshot()
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if _, kept := s[name]; kept {
			continue
		}
		if err := os.Remove(filepath.Join(f.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cache folder: %w", err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s)) {
		raw := s[name]
		if bytes.Equal(now[name], raw) {
			continue
		}
		if err := os.WriteFile(filepath.Join(f.dir, name), raw, 0o600); err != nil {
			return fmt.Errorf("cache folder: %w", err)
		}
	}
	return nil
}

// Flipped returns a copy of the snapshot in which one byte of one file is inverted.
func (s Snapshot) Flipped(name string, offset int) Snapshot {
	out := maps.Clone(s)
	raw := bytes.Clone(s[name])
	raw[offset] ^= 0xff
	out[name] = raw
	return out
}

// Swapped returns a copy of the snapshot in which two files have each other's content.
func (s Snapshot) Swapped(a, b string) Snapshot {
	out := maps.Clone(s)
	out[a], out[b] = s[b], s[a]
	return out
}

// Search is the evidence of a search of the folder for what must not be there.
type Search struct {
	Name  string `json:"name"`
	For   string `json:"for"`   // what was looked for, in words
	Files int    `json:"files"` // looked through
	Bytes int    `json:"bytes"` // in them
	Found string `json:"found,omitempty"`
}

// window is how many bytes in a row count as found: random ones do not occur by chance.
const window = 16

// Search looks through all files for any 16 bytes in a row of a secret, raw, in hex, or in base64, and
// records whether there are any.
func (f *Folder) Search(name, what string, secret []byte) error {
	s, err := f.Snapshot()
	if err != nil {
		return err
	}
	return f.env.Put(results.FromScenario, Searched, Search{name, what, len(s), s.size(), s.find(secret)})
}

// SearchBytes is Search in bytes that the target handed out.
func (f *Folder) SearchBytes(name, what string, in, secret []byte) error {
	s := Snapshot{"answer": in}
	return f.env.Put(results.FromScenario, Searched, Search{name, what, 1, len(in), s.find(secret)})
}

// find describes the first place where a window of a secret is.
func (s Snapshot) find(secret []byte) string {
	for _, name := range s.Names() {
		raw := s[name]
		lower := bytes.ToLower(raw)
		for from := 0; from+window <= len(secret); from += window {
			part := secret[from : from+window]
			for _, found := range []struct {
				how string
				at  int
			}{
				{"raw", bytes.Index(raw, part)},
				{"hex", bytes.Index(lower, []byte(hex.EncodeToString(part)))},
				{"base64", indexBase64(raw, part)},
			} {
				if found.at >= 0 {
					return fmt.Sprintf("%s holds bytes %d to %d in %s at offset %d", name, from, from+window, found.how, found.at)
				}
			}
		}
	}
	return ""
}

// indexBase64 finds bytes in base64 text, whichever of the three alignments they have there.
func indexBase64(text, part []byte) int {
	for shift := range 3 {
		whole := part[(3-shift)%3:]
		whole = whole[:len(whole)/3*3]
		if at := bytes.Index(text, []byte(base64.StdEncoding.EncodeToString(whole))); at >= 0 {
			return at
		}
	}
	return -1
}
