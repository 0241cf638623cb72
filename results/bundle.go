package results

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// The files of a bundle.
const (
	RunFile      = "run.json"
	EvidenceFile = "evidence.jsonl"
	VerdictsFile = "verdicts.json"
	ManifestFile = "manifest.json"
	PolicyFile   = "policy.yaml"
	HistogramDir = "histograms"
	JournalFile  = "journal.jsonl"
)

// maxLine bounds one line of evidence: 64 KiB of traffic in hex, its envelope, and room to spare.
const maxLine = 4 << 20

// ErrNoBundle is wrapped when a folder holds no readable bundle.
var ErrNoBundle = errors.New("no bundle")

// ErrVersion is wrapped when a file is of a version that this program does not read.
var ErrVersion = errors.New("unknown apiVersion")

// Bundle is a run on disk, read. Verdicts is nil where none were written (a killed run).
type Bundle struct {
	Dir        string
	Run        Run
	Evidence   []Evidence
	Verdicts   *Verdicts
	Torn       bool              // the last line of evidence was cut off by a kill
	Digest     string            // SHA-256 of manifest.json in hex; empty before sealing
	Histograms map[string][]byte // by name without directory
	Policy     []byte            // policy.yaml as it was used; nil where there is none
}

// Create makes the bundle's folder with run.json in it, in one step: a reader sees both or neither.
// The folder must not exist, or be empty: nothing is ever written over.
func Create(dir string, run Run) (*Writer, error) {
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return nil, fmt.Errorf("%s is not empty: choose another folder with --out", dir)
	} else if err == nil {
		if err := os.Remove(dir); err != nil {
			return nil, fmt.Errorf("bundle: %w", err)
		}
	}
	parent := filepath.Dir(filepath.Clean(dir))
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	tmp, err := os.MkdirTemp(parent, ".assay-new-*")
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	defer os.RemoveAll(tmp) // gone after the rename; else the half-made folder goes
	if err := os.Chmod(tmp, 0o755); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	w := &Writer{dir: tmp}
	if err := w.WriteRun(run); err != nil {
		return nil, err
	}
	w.evidence, err = os.OpenFile(filepath.Join(tmp, EvidenceFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		w.evidence.Close()
		return nil, fmt.Errorf("bundle: %w", err)
	}
	w.dir = dir
	return w, nil
}

// Writer adds files to a bundle. Each file but the evidence is written whole or not at all.
type Writer struct {
	dir      string
	evidence *os.File
}

// Dir is the bundle's folder.
func (w *Writer) Dir() string { return w.dir }

// Evidence is the append-only file that a Recorder writes to.
func (w *Writer) Evidence() io.Writer { return w.evidence }

// Close closes the evidence after it has reached the disk.
func (w *Writer) Close() error { return errors.Join(w.evidence.Sync(), w.evidence.Close()) }

// WriteRun writes run.json.
func (w *Writer) WriteRun(run Run) error { return w.writeJSON(RunFile, run) }

// WriteVerdicts validates and writes verdicts.json. last is the number of the newest evidence.
func (w *Writer) WriteVerdicts(v Verdicts, last uint64) error { return WriteVerdicts(w.dir, v, last) }

// WriteVerdicts writes verdicts.json into a bundle, refusing what proves nothing.
func WriteVerdicts(dir string, v Verdicts, last uint64) error {
	for _, x := range v.Verdicts {
		if err := x.Validate(last); err != nil {
			return fmt.Errorf("verdicts.json: %w", err)
		}
	}
	w := &Writer{dir: dir}
	return w.writeJSON(VerdictsFile, v)
}

// WriteFile writes a further file of the bundle; name may have folders.
func (w *Writer) WriteFile(name string, data []byte) error {
	return WriteFileAtomic(filepath.Join(w.dir, filepath.FromSlash(name)), data)
}

func (w *Writer) writeJSON(name string, v any) error {
	raw, err := MarshalIndent(v)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return w.WriteFile(name, raw)
}

// WriteFileAtomic writes a file so that a reader sees the old or the new content, never a part. A link is replaced, not
// followed; a device, a pipe or a socket is refused, since a file would take its place.
func WriteFileAtomic(path string, data []byte) error {
	if info, err := os.Lstat(path); err == nil && info.Mode()&(fs.ModeDevice|fs.ModeNamedPipe|fs.ModeSocket) != 0 {
		return fmt.Errorf("write %s: it is no file (%s)", path, info.Mode())
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".assay-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, werr := f.Write(data)
	if err := errors.Join(werr, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}

// Open reads a bundle. A folder without run.json wraps ErrNoBundle, a newer version ErrVersion. A
// torn last line of evidence is not an error: it is what a killed run leaves.
func Open(dir string) (*Bundle, error) {
	b := &Bundle{Dir: dir}
	if err := readJSON(filepath.Join(dir, RunFile), &b.Run); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s: %w here: it has no %s", dir, ErrNoBundle, RunFile)
		}
		return nil, err
	}
	f, err := os.Open(filepath.Join(dir, EvidenceFile))
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", dir, ErrNoBundle, err)
	}
	defer f.Close()
	if b.Evidence, b.Torn, err = ReadEvidence(f); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, EvidenceFile), err)
	}
	var v Verdicts
	switch err := readJSON(filepath.Join(dir, VerdictsFile), &v); {
	case err == nil:
		b.Verdicts = &v
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	if b.Digest, err = digestFile(filepath.Join(dir, ManifestFile)); err != nil {
		return nil, err
	}
	if b.Policy, err = os.ReadFile(filepath.Join(dir, PolicyFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	b.Histograms, err = readHistograms(filepath.Join(dir, HistogramDir))
	return b, err
}

// ReadEvidence reads evidence line by line. Numbers must count up from 1 without a gap. A last line
// without its newline was cut off: it is dropped and torn is true.
func ReadEvidence(r io.Reader) (all []Evidence, torn bool, err error) {
	br := bufio.NewReaderSize(r, 64<<10)
	for n := 1; ; n++ {
		line, err := readLine(br)
		if err == io.EOF {
			return all, len(line) > 0, nil
		}
		if err != nil {
			return nil, false, fmt.Errorf("line %d: %w", n, err)
		}
		var e Evidence
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, false, fmt.Errorf("line %d: %w", n, err)
		}
		if e.Seq != uint64(n) {
			return nil, false, fmt.Errorf("line %d: evidence number %d is out of order, want %d", n, e.Seq, n)
		}
		all = append(all, e)
	}
}

func readLine(br *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := br.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > maxLine {
			return nil, fmt.Errorf("longer than %d bytes", maxLine)
		}
		if err != bufio.ErrBufferFull {
			return line, err
		}
	}
}

// readJSON reads one versioned JSON file of the bundle.
func readJSON(path string, v any) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	switch ver, err := version(raw); {
	case err != nil:
		return fmt.Errorf("%s: not JSON: %w", path, err)
	case ver != APIVersion:
		return fmt.Errorf("%s: field apiVersion is %q, this program reads %q: %w", path, ver, APIVersion, ErrVersion)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func readHistograms(dir string) (map[string][]byte, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := map[string][]byte{}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".hdr") {
			continue
		}
		if out[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Planned finds what was planned for a key.
func (b *Bundle) Planned(key Key) (Planned, bool) {
	for _, p := range b.Run.Plan {
		if p.Key() == key {
			return p, true
		}
	}
	return Planned{}, false
}

// Requirement finds a copied catalogue row.
func (b *Bundle) Requirement(id string) (Requirement, bool) {
	i := sort.Search(len(b.Run.Requirements), func(i int) bool { return b.Run.Requirements[i].ID >= id })
	if i < len(b.Run.Requirements) && b.Run.Requirements[i].ID == id {
		return b.Run.Requirements[i], true
	}
	return Requirement{}, false
}

// Counts says whether a verdict decides the exit code: of a target that is not the reference only MUST
// rows of a standard do, what it claims, and whether it is there, unless the run was asked to judge all.
func (b *Bundle) Counts(v Verdict) bool { return b.Run.Counts(v.Key()) }

// Counts is Bundle.Counts for a run whose bundle is not on disk yet.
func (r Run) Counts(key Key) bool {
	if r.Target.Kind == "reference" || r.Basis == "all" {
		return true
	}
	for _, p := range r.Plan {
		if p.Key() == key {
			return p.Decides
		}
	}
	return true // a verdict of the frame, such as the target's readiness
}
