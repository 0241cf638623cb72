package sandbox

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/assay-bench/assay/scenarios"
)

// Bounds of what is read in the folder of compiled modules: the target says where it is.
const (
	maxFiles  = 10_000
	maxFile   = 64 << 20  // bytes of a file
	maxFolder = 512 << 20 // bytes in all
)

// Folder is the evidence of a look at the folder of compiled modules, by its path in GET /stats. Files are
// looked at only in a folder that is this user's alone: any other may be anything.
type Folder struct {
	Name   string `json:"name"` // of the look, within the case
	Dir    string `json:"dir"`
	Mode   uint32 `json:"mode"`  // permission bits
	Owner  int    `json:"owner"` // user id; -1: this system does not tell
	Own    int    `json:"own"`   // the user id that the harness runs under
	Files  int    `json:"files"`
	Broken string `json:"broken,omitempty"` // why it can not be looked at
}

// Private tells whether the folder is this user's alone.
func (f Folder) Private() bool { return f.Broken == "" && f.Mode == 0o700 && f.Owner == f.Own }

// Examine looks at a folder and records what it is. It returns its files by path, with their digests.
func Examine(env *scenarios.Env, name, dir string) (map[string]Digest, error) {
	f := Folder{Name: name, Dir: dir, Owner: -1, Own: os.Getuid()}
	files, err := f.look()
	if err != nil {
		f.Broken = clip(err.Error())
	}
	return files, env.Record(Examined, f)
}

func (f *Folder) look() (map[string]Digest, error) {
	if !filepath.IsAbs(f.Dir) {
		return nil, fmt.Errorf("%q is no absolute path", clip(f.Dir))
	}
	info, err := os.Lstat(f.Dir)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%s is no folder", f.Dir)
	}
	f.Mode = uint32(info.Mode().Perm())
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		f.Owner = int(s.Uid)
	}
	if !f.Private() {
		return nil, nil
	}
	files, total := map[string]Digest{}, 0
	err = filepath.WalkDir(f.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // gone meanwhile, or nothing to read
		}
		if len(files) == maxFiles || total > maxFolder {
			return fs.SkipAll
		}
		if raw, err := readFile(path); err == nil {
			files[path] = DigestOf(raw)
			total += len(raw)
		}
		return nil
	})
	f.Files = len(files)
	return files, err
}

// readFile reads a regular file of a modest size.
func readFile(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // was read only
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no file (%w)", path, err)
	}
	raw, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(raw) > maxFile {
		err = fmt.Errorf("%s has more than %d bytes", path, maxFile)
	}
	return raw, err
}

// Damage is the evidence of an altered file.
type Damage struct {
	Name  string `json:"name"` // within the case
	File  string `json:"file"` // without its folder
	Was   Digest `json:"was"`
	Is    Digest `json:"is"`
	Later bool   `json:"later,omitempty"` // Is was read later, nothing was altered
	Gone  string `json:"gone,omitempty"`  // the file could not be read: text
}

// Flip inverts the bits of a byte in the middle of a file of the target and records it. What it returns
// is the file's digest after that. Whoever calls it sees to it that the file is the target's own.
func Flip(env *scenarios.Env, name, path string) (Digest, error) {
	raw, err := readFile(path)
	if err != nil || len(raw) == 0 {
		return Digest{}, fmt.Errorf("damage %s (%d bytes): %w", path, len(raw), err)
	}
	was := DigestOf(raw)
	raw[len(raw)/2] ^= 0xff
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		return Digest{}, fmt.Errorf("damage %s: %w", path, err)
	}
	is := DigestOf(raw)
	return is, env.Record(Damaged, Damage{Name: name, File: filepath.Base(path), Was: was, Is: is})
}

// Reread records what a file that was altered is now.
func Reread(env *scenarios.Env, name, path string, was Digest) error {
	d := Damage{Name: name, File: filepath.Base(path), Was: was, Later: true}
	raw, err := readFile(path)
	if err != nil {
		d.Gone = clip(err.Error())
	} else {
		d.Is = DigestOf(raw)
	}
	return env.Record(Damaged, d)
}
