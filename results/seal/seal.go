// Package seal makes a bundle content-addressed: the manifest lists every file with its digest, and the
// digest of the manifest is the bundle's identity. It signs statements on that identity and on the verdicts:
// in-toto test-result and figures in DSSE envelopes, each with Ed25519 and ML-DSA-65. It does not judge.
package seal

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/assay-bench/assay/results"
)

// Manifest is manifest.json.
type Manifest struct {
	APIVersion  string `json:"apiVersion"`
	SuiteDigest string `json:"suiteDigest"`
	Executed    int    `json:"executed"` // executed checks: what a later run may not fall below
	Files       []File `json:"files"`
}

// File is one file of the bundle.
type File struct {
	Path   string `json:"path"` // with slashes, relative to the bundle
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// ErrMismatch is wrapped when a bundle is not what its manifest says.
var ErrMismatch = errors.New("the bundle is not what its manifest says")

// views are rendered from the sealed files and therefore stand outside the manifest, as do statements on its digest; the
// journal is a tool of the host's, not evidence.
var views = map[string]bool{
	results.ManifestFile: true, results.JournalFile: true, "report.html": true, "report.md": true, "report.json": true,
	"junit.xml": true, "conformance.yaml": true, StatementFile: true, MeasurementFile: true,
}

// Write hashes every file of the bundle in dir and writes its manifest.
func Write(dir string, suiteDigest string, executed int) error {
	files, err := list(dir)
	if err != nil {
		return err
	}
	raw, err := results.MarshalIndent(Manifest{results.APIVersion, suiteDigest, executed, files})
	if err != nil {
		return err
	}
	return results.WriteFileAtomic(filepath.Join(dir, results.ManifestFile), raw)
}

// Check compares a bundle with its manifest; the first difference is named. A file that the manifest
// does not list is a difference too.
func Check(dir string) (Manifest, error) {
	var m Manifest
	now, err := list(dir) // first: it refuses what can not be read to an end
	if err != nil {
		return m, err
	}
	raw, err := os.ReadFile(filepath.Join(dir, results.ManifestFile))
	if err != nil {
		return m, fmt.Errorf("%w: %w", ErrMismatch, err)
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return m, fmt.Errorf("%w: manifest.json: %w", ErrMismatch, err)
	}
	if m.APIVersion != results.APIVersion {
		return m, fmt.Errorf("manifest.json: field apiVersion is %q: %w", m.APIVersion, results.ErrVersion)
	}
	return m, compare(m.Files, now)
}

func compare(sealed, now []File) error {
	have := map[string]File{}
	for _, f := range now {
		have[f.Path] = f
	}
	for _, want := range sealed {
		got, ok := have[want.Path]
		switch {
		case !ok:
			return fmt.Errorf("%w: %s is missing", ErrMismatch, want.Path)
		case got != want:
			return fmt.Errorf("%w: %s has %d bytes with SHA-256 %s, sealed were %d with %s",
				ErrMismatch, want.Path, got.Size, got.SHA256, want.Size, want.SHA256)
		}
		delete(have, want.Path)
	}
	for _, f := range now {
		if _, extra := have[f.Path]; extra {
			return fmt.Errorf("%w: %s is not in it", ErrMismatch, f.Path)
		}
	}
	return nil
}

// list hashes the sealed files, sorted by path.
func list(dir string) ([]File, error) {
	var out []File
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			return nil
		}
		if !d.Type().IsRegular() { // a view too: reading a pipe would never end
			return fmt.Errorf("%w: %s is no regular file", ErrMismatch, rel)
		}
		if views[rel] || ofTrial(rel) {
			return nil
		}
		f, err := digest(path)
		f.Path = rel
		out = append(out, f)
		return err
	})
	sort.Slice(out, func(i, j int) bool { return out[i].Path < out[j].Path })
	return out, err
}

// ofTrial tells whether a file belongs to a trial of assay prove, whose own manifest lists it; that
// manifest is in the outer one.
func ofTrial(rel string) bool {
	rest, inside := strings.CutPrefix(rel, "proof/")
	_, name, nested := strings.Cut(rest, "/")
	return inside && nested && name != results.ManifestFile
}

func digest(path string) (File, error) {
	f, err := os.Open(path)
	if err != nil {
		return File{}, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	return File{Size: n, SHA256: hex.EncodeToString(h.Sum(nil))}, err
}
