package seal_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/results/seal"
)

// sealed are the files of a bundle that the manifest must list.
var sealed = map[string]string{
	results.RunFile: "{}", results.EvidenceFile: "{\"seq\":1}\n", results.VerdictsFile: "{ }",
	results.HistogramDir + "/a.hdr": "\x00\x01", results.PolicyFile: "", "deep/er/file": "x",
	"proof/clean/manifest.json": "{}",
}

// outside are files that may change after sealing.
var outside = []string{
	results.JournalFile, seal.StatementFile, seal.MeasurementFile, "report.html", "report.md", "report.json", "junit.xml", "conformance.yaml",
	"proof/clean/run.json", "proof/clean/histograms/a.hdr", // a trial's own manifest lists them
}

func bundle(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range sealed {
		write(t, dir, name, text)
	}
	if err := seal.Write(dir, "digest-of-suite", 3); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := results.WriteFileAtomic(filepath.Join(dir, filepath.FromSlash(name)), []byte(text)); err != nil {
		t.Fatal(err)
	}
}

// mismatch demands that Check refuses the bundle and names the file.
func mismatch(t *testing.T, dir, what, name string) {
	t.Helper()
	_, err := seal.Check(dir)
	if !errors.Is(err, seal.ErrMismatch) || !strings.Contains(err.Error(), name) {
		t.Errorf("%s: error %v, want a mismatch that names %s", what, err, name)
	}
}

func TestSealed(t *testing.T) {
	dir := bundle(t)
	m, err := seal.Check(dir)
	if err != nil {
		t.Fatal(err)
	}
	if m.SuiteDigest != "digest-of-suite" || m.Executed != 3 || m.APIVersion != results.APIVersion {
		t.Errorf("manifest %+v", m)
	}
	got := map[string]int64{}
	for i, f := range m.Files {
		got[f.Path] = f.Size
		if i > 0 && m.Files[i-1].Path >= f.Path {
			t.Errorf("%s stands behind %s", f.Path, m.Files[i-1].Path)
		}
	}
	want := map[string]int64{}
	for name, text := range sealed {
		want[name] = int64(len(text))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestSealingTwiceGivesEqualBytes(t *testing.T) {
	a, b := bundle(t), bundle(t)
	ra, err := os.ReadFile(filepath.Join(a, results.ManifestFile))
	if err != nil {
		t.Fatal(err)
	}
	rb, err := os.ReadFile(filepath.Join(b, results.ManifestFile))
	if err != nil || string(ra) != string(rb) {
		t.Errorf("two manifests of equal files differ: %v", err)
	}
}

func TestDrop(t *testing.T) {
	for name := range sealed {
		dir := bundle(t)
		if err := os.Remove(filepath.Join(dir, filepath.FromSlash(name))); err != nil {
			t.Fatal(err)
		}
		mismatch(t, dir, "dropped", name)
	}
}

func TestAdd(t *testing.T) {
	names := []string{"extra", ".hidden", results.HistogramDir + "/b.hdr", "deep/report.html", "proof.json", "deep/proof/x", "proof/x", "proof/other/manifest.json"}
	for _, name := range names {
		dir := bundle(t)
		write(t, dir, name, "")
		mismatch(t, dir, "added", name)
	}
}

func TestChangeOneByte(t *testing.T) {
	changed := 0
	for name, text := range sealed {
		for i := range len(text) {
			dir := bundle(t)
			b := []byte(text)
			b[i] ^= 1
			write(t, dir, name, string(b))
			mismatch(t, dir, "changed", name)
			changed++
		}
		dir := bundle(t)
		write(t, dir, name, text+"\n")
		mismatch(t, dir, "appended to", name)
	}
	if changed == 0 {
		t.Fatal("no byte was changed: this test proves nothing")
	}
}

func TestOnlyRegularFiles(t *testing.T) {
	for _, name := range []string{"link", "report.html", seal.StatementFile} {
		dir := bundle(t)
		if err := os.Symlink("run.json", filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		mismatch(t, dir, "linked", name)
		if err := seal.Write(dir, "", 0); err == nil {
			t.Errorf("%s: a link was sealed", name)
		}
	}
}

func TestRename(t *testing.T) {
	dir := bundle(t)
	if err := os.Rename(filepath.Join(dir, results.RunFile), filepath.Join(dir, "ran.json")); err != nil {
		t.Fatal(err)
	}
	mismatch(t, dir, "renamed", results.RunFile)
}

func TestViewsAndJournalAreOutside(t *testing.T) {
	dir := bundle(t)
	for _, text := range []string{"first", "second"} {
		for _, name := range outside {
			write(t, dir, name, text)
		}
		if _, err := seal.Check(dir); err != nil {
			t.Errorf("with %s views: %v", text, err)
		}
	}
}

func TestBadManifest(t *testing.T) {
	tests := []struct {
		name, text string
		is         error
	}{
		{"not JSON", "{", seal.ErrMismatch},
		{"newer", `{"apiVersion":"assay/v2"}`, results.ErrVersion},
		{"empty list", `{"apiVersion":"assay/v1"}`, seal.ErrMismatch},
		{"path outside", `{"apiVersion":"assay/v1","files":[{"path":"../x"}]}`, seal.ErrMismatch},
	}
	for _, tt := range tests {
		dir := bundle(t)
		write(t, dir, results.ManifestFile, tt.text)
		if _, err := seal.Check(dir); !errors.Is(err, tt.is) {
			t.Errorf("%s: error %v, want %v", tt.name, err, tt.is)
		}
	}
	dir := bundle(t)
	if err := os.Remove(filepath.Join(dir, results.ManifestFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := seal.Check(dir); !errors.Is(err, seal.ErrMismatch) {
		t.Errorf("a bundle without manifest: %v", err)
	}
}

func TestListedTwiceIsAMismatch(t *testing.T) {
	dir := bundle(t)
	m, err := seal.Check(dir)
	if err != nil {
		t.Fatal(err)
	}
	m.Files = append(m.Files, m.Files[0])
	raw, err := results.MarshalIndent(m)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, results.ManifestFile, string(raw))
	mismatch(t, dir, "listed twice", m.Files[0].Path)
}
