package shipped

import (
	"errors"
	"slices"
	"testing"

	"github.com/assay-bench/assay/models/manifest"
	"github.com/assay-bench/assay/models/static"
	"github.com/assay-bench/assay/models/tower"
)

// TestShippedModels holds that the embedded model is the one that was signed, by both keys, and that an edited
// one is refused. If it fails because the model changed, `go generate ./models/shipped` signs anew.
func TestShippedModels(t *testing.T) {
	m, err := Manifest()
	if err != nil {
		t.Fatal(err)
	}
	k, err := Keys()
	if err != nil {
		t.Fatal(err)
	}
	if k.Ed25519 == nil || k.MLDSA65 == nil {
		t.Error("a key is missing")
	}
	text, err := static.Load()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Check(text.Identity().Name, static.File()); err != nil {
		t.Error(err)
	}
	if err := m.Check("assay-tower-synthetic", tower.File()); err != nil {
		t.Error(err)
	}
	if x, there := m.Find(text.Identity().Digest); !there || x.Version != text.Identity().Version {
		t.Errorf("the model's digest gives %+v, %v", x, there)
	}
	edited := slices.Clone(static.File())
	edited[len(edited)/2] ^= 1
	if err := m.Check(text.Identity().Name, edited); !errors.Is(err, manifest.ErrNotListed) {
		t.Errorf("an edited model: %v", err)
	}
}
