package results_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/results"
)

func aRun() results.Run {
	return results.Run{
		APIVersion: results.APIVersion, Kind: "run", ID: "0123456789abcdef", Seed: 7, Profile: "quick", Basis: "standard",
		Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Target: results.Target{Name: "t", Kind: "command"},
		Plan: []results.Planned{
			{Check: "a/b", Case: "c", Covers: []string{"a/b"}, Title: "<&>"},
			{Check: "a/b", Case: "c", Under: "f=1", Covers: []string{"a/b"}},
		},
		Requirements: []results.Requirement{{ID: "a/a"}, {ID: "a/b", Level: "MUST"}, {ID: "b/a"}},
	}
}

// tree lists the names below a folder.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if path != dir {
			out = append(out, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestBundleRoundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "er")
	run := aRun()
	w, err := results.Create(dir, run)
	if err != nil {
		t.Fatal(err)
	}
	if w.Dir() != dir {
		t.Errorf("Dir = %s", w.Dir())
	}
	rec := results.NewRecorder(w.Evidence(), &steps{})
	for range 3 {
		if _, err := rec.Record(keyA, results.FromHost, results.Ended, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.WriteFile(results.HistogramDir+"/x.hdr", []byte("h")); err != nil {
		t.Fatal(err)
	}
	if err := w.WriteFile(results.HistogramDir+"/x.txt", []byte("no histogram")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := results.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := &results.Bundle{Dir: dir, Run: run, Evidence: rec.All(), Histograms: map[string][]byte{"x.hdr": []byte("h")}}
	if diff := cmp.Diff(want, b); diff != "" {
		t.Errorf("a killed run's bundle (-want +got):\n%s", diff)
	}
	verdicts := results.Verdicts{APIVersion: results.APIVersion, Verdicts: []results.Verdict{{Check: "a/b", Status: results.Pass, Cites: []uint64{3}}}}
	if err := w.WriteVerdicts(verdicts, 3); err != nil {
		t.Fatal(err)
	}
	if err := w.WriteFile(results.ManifestFile, []byte("m")); err != nil {
		t.Fatal(err)
	}
	if b, err = results.Open(dir); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&verdicts, b.Verdicts); diff != "" {
		t.Errorf("verdicts (-want +got):\n%s", diff)
	}
	if sum := sha256.Sum256([]byte("m")); b.Digest != hex.EncodeToString(sum[:]) {
		t.Errorf("digest %s is not the manifest's", b.Digest)
	}
}

func TestBundleFinds(t *testing.T) {
	b := &results.Bundle{Run: aRun()}
	if p, ok := b.Planned(results.Key{Check: "a/b", Case: "c", Under: "f=1"}); !ok || p.Under != "f=1" {
		t.Errorf("Planned = %+v, %t", p, ok)
	}
	if p, ok := b.Planned(results.Key{Check: "a/b"}); ok {
		t.Errorf("Planned found %+v for a key that was not planned", p)
	}
	for _, want := range b.Run.Requirements {
		if got, ok := b.Requirement(want.ID); !ok || got != want {
			t.Errorf("Requirement(%s) = %+v, %t", want.ID, got, ok)
		}
	}
	for _, id := range []string{"", "a/aa", "z"} {
		if r, ok := b.Requirement(id); ok {
			t.Errorf("Requirement(%q) = %+v", id, r)
		}
	}
}

func TestCreateRefusesWhatIsThere(t *testing.T) {
	for _, name := range []string{"a.txt", ".hidden", results.RunFile} {
		parent := t.TempDir()
		dir := filepath.Join(parent, "b")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte("mine"), 0o644); err != nil {
			t.Fatal(err)
		}
		if w, err := results.Create(dir, aRun()); err == nil {
			t.Errorf("a folder with %s was taken", name)
			w.Close()
		}
		if diff := cmp.Diff([]string{"b", "b/" + name}, tree(t, parent)); diff != "" {
			t.Errorf("the folder was touched (-want +got):\n%s", diff)
		}
		if got := read(t, filepath.Join(dir, name)); got != "mine" {
			t.Errorf("%s now holds %q", name, got)
		}
	}
}

func TestCreateTakesAnEmptyFolder(t *testing.T) {
	parent := t.TempDir()
	w, err := results.Create(parent+"/b/", aRun())
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	want := []string{"b", "b/" + results.EvidenceFile, "b/" + results.RunFile}
	if diff := cmp.Diff(want, tree(t, parent)); diff != "" {
		t.Errorf("left behind (-want +got):\n%s", diff)
	}
	if _, err := results.Create(filepath.Join(parent, "b"), aRun()); err == nil {
		t.Error("a bundle was written over")
	}
}

func TestCreateIsAtomic(t *testing.T) {
	parent := t.TempDir()
	run := aRun()
	run.Started = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) // RFC 3339 has four digits: run.json can not be written
	if _, err := results.Create(filepath.Join(parent, "b"), run); err == nil {
		t.Fatal("a run that can not be written was taken")
	}
	if got := tree(t, parent); got != nil {
		t.Errorf("a failed Create left %q", got)
	}
	file := filepath.Join(parent, "file")
	if err := os.WriteFile(file, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "b")} {
		if _, err := results.Create(dir, aRun()); err == nil {
			t.Errorf("a bundle was made at %s", dir)
		}
	}
	if got := tree(t, parent); len(got) != 1 || read(t, file) != "mine" {
		t.Errorf("a failed Create left %q", got)
	}
}

func TestOpenErrors(t *testing.T) {
	run := `{"apiVersion":"assay/v1","kind":"run","laterField":{"x":[1]},"target":{"later":true}}`
	tests := []struct {
		name  string
		files map[string]string
		is    error
		says  []string // all in the error; none: it opens
	}{
		{"no folder", nil, results.ErrNoBundle, []string{"no bundle", "run.json"}},
		{"other files", map[string]string{"x": ""}, results.ErrNoBundle, []string{"no bundle"}},
		{"no evidence", map[string]string{"run.json": run}, results.ErrNoBundle, []string{"evidence.jsonl"}},
		{"newer run", map[string]string{"run.json": `{"apiVersion":"assay/v2"}`, "evidence.jsonl": ""}, results.ErrVersion, []string{"run.json", "apiVersion", `"assay/v2"`}},
		{"no version", map[string]string{"run.json": `{}`, "evidence.jsonl": ""}, results.ErrVersion, []string{"run.json", "apiVersion"}},
		{"newer verdicts", map[string]string{"run.json": run, "evidence.jsonl": "", "verdicts.json": `{"apiVersion":"assay/v9"}`}, results.ErrVersion, []string{"verdicts.json", "apiVersion", `"assay/v9"`}},
		{"unparsable run", map[string]string{"run.json": "{", "evidence.jsonl": ""}, nil, []string{"run.json", "not JSON"}},
		{"wrong type in run", map[string]string{"run.json": `{"apiVersion":"assay/v1","seed":"x"}`, "evidence.jsonl": ""}, nil, []string{"run.json", "seed"}},
		{"unknown status", map[string]string{"run.json": run, "evidence.jsonl": "", "verdicts.json": `{"apiVersion":"assay/v1","verdicts":[{"status":"green"}]}`}, nil, []string{"verdicts.json", `"green"`}},
		{"evidence with a gap", map[string]string{"run.json": run, "evidence.jsonl": `{"seq":2}` + "\n"}, nil, []string{"evidence.jsonl", "line 1"}},
		{"unknown fields", map[string]string{"run.json": run, "evidence.jsonl": "", "verdicts.json": `{"apiVersion":"assay/v1","later":1}`}, nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "b")
			for name, text := range tt.files {
				if err := results.WriteFileAtomic(filepath.Join(dir, name), []byte(text)); err != nil {
					t.Fatal(err)
				}
			}
			b, err := results.Open(dir)
			if tt.says == nil {
				if err != nil || b.Verdicts == nil {
					t.Fatalf("%+v, %v", b, err)
				}
				return
			}
			if err == nil || (tt.is != nil && !errors.Is(err, tt.is)) {
				t.Fatalf("error %v, want one that wraps %v", err, tt.is)
			}
			for _, part := range tt.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q does not say %q", err, part)
				}
			}
		})
	}
}

func TestOpenTornBundle(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "b")
	w, err := results.Create(dir, aRun())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Evidence().Write([]byte(`{"seq":1}` + "\n" + `{"seq":2`)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := results.Open(dir)
	if err != nil || !b.Torn || len(b.Evidence) != 1 || b.Verdicts != nil {
		t.Errorf("%+v, %v", b, err)
	}
}

func TestWriteFileAtomic(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "deep", "file")
	for _, text := range []string{"a long first version", "short"} {
		if err := results.WriteFileAtomic(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got := read(t, path); got != text {
			t.Errorf("holds %q, want %q", got, text)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := results.WriteFileAtomic(filepath.Join(dir, "deep"), []byte("x")); err == nil {
		t.Error("a folder was replaced by a file")
	}
	if diff := cmp.Diff([]string{"deep", "deep/file"}, tree(t, dir)); diff != "" {
		t.Errorf("left behind (-want +got):\n%s", diff)
	}
}
