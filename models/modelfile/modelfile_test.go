package modelfile_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/models/modelfile"
)

var (
	meta     = modelfile.Meta{Kind: "k", Name: "n", Version: "1", Attributes: map[string]string{"b": "2", "a": "1"}}
	sections = []modelfile.Section{{Name: "idf", Bytes: []byte("abc")}, {Name: "rows", Bytes: []byte("defgh")}}
)

func encode(t testing.TB) []byte {
	t.Helper()
	b, err := modelfile.Encode(meta, sections)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRoundTrip(t *testing.T) {
	b := encode(t)
	f, err := modelfile.Decode(b, "k")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(sections, f.Sections); d != "" || !cmp.Equal(f.Meta, meta) || len(f.Digest) != 64 {
		t.Errorf("%+v %s", f, d)
	}
	if !bytes.Equal(b, encode(t)) {
		t.Error("the second writing differs")
	}
}

// TestVersionIsBound proves router/vector/version-bound for the file: any exchanged byte is refused, and in a
// section the error names it.
func TestVersionIsBound(t *testing.T) {
	b := encode(t)
	for i := range b {
		c := bytes.Clone(b)
		c[i] ^= 1
		f, err := modelfile.Decode(c, "k")
		switch {
		case i >= len(b)-8 && !errors.Is(err, modelfile.ErrMismatch):
			t.Errorf("byte %d of a section exchanged: %v", i, err)
		case err == nil && f.Digest == mustDecode(t, b).Digest:
			t.Errorf("byte %d exchanged: same digest", i)
		}
	}
	for n := range b {
		if _, err := modelfile.Decode(b[:n], "k"); !errors.Is(err, modelfile.ErrFormat) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	if _, err := modelfile.Decode(append(bytes.Clone(b), 0), "k"); !errors.Is(err, modelfile.ErrFormat) {
		t.Errorf("a byte more: %v", err)
	}
	if _, err := modelfile.Decode(b, "other"); !errors.Is(err, modelfile.ErrFormat) {
		t.Errorf("other kind: %v", err)
	}
}

func mustDecode(t *testing.T, b []byte) *modelfile.File {
	t.Helper()
	f, err := modelfile.Decode(b, "k")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func FuzzDecode(f *testing.F) {
	f.Add(encode(f))
	f.Add([]byte("assaymdl\x02\x00\x00\x00{}"))
	f.Add([]byte("assaymdl\xff\xff\xff\xff{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := modelfile.Decode(b, "k")
		if err != nil && !errors.Is(err, modelfile.ErrFormat) && !errors.Is(err, modelfile.ErrMismatch) {
			t.Errorf("untyped error %v", err)
		}
		if err == nil {
			if _, err := modelfile.Encode(file.Meta, file.Sections); err != nil {
				t.Error(err)
			}
		}
	})
}
