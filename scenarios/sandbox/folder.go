package sandbox

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/assay-bench/assay/scenarios"
)

// maxFiles bounds what is looked at in the folder of compiled modules.
const maxFiles = 10_000

// Folder is the evidence of a look at the folder of compiled modules, by its path in GET /stats.
type Folder struct {
	Name    string `json:"name"` // of the look, within the case
	Dir     string `json:"dir"`
	Mode    uint32 `json:"mode"`  // permission bits
	Owner   int    `json:"owner"` // user id; -1: this system does not tell
	Own     int    `json:"own"`   // the user id that the harness runs under
	Files   int    `json:"files"`
	Loosest uint32 `json:"loosest"`          // the permission bits of all files in it, joined
	Broken  string `json:"broken,omitempty"` // why it can not be looked at
}

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
	files := map[string]Digest{}
	err = filepath.WalkDir(f.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // gone meanwhile, or nothing to read
		}
		if len(files) == maxFiles {
			return fs.SkipAll
		}
		if info, err := d.Info(); err == nil {
			f.Loosest |= uint32(info.Mode().Perm())
		}
		if raw, err := os.ReadFile(path); err == nil {
			files[path] = DigestOf(raw)
		}
		return nil
	})
	f.Files = len(files)
	return files, err
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
// is the file's digest after that.
func Flip(env *scenarios.Env, name, path string) (Digest, error) {
	raw, err := os.ReadFile(path)
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
	raw, err := os.ReadFile(path)
	if err != nil {
		d.Gone = clip(err.Error())
	} else {
		d.Is = DigestOf(raw)
	}
	return env.Record(Damaged, d)
}
