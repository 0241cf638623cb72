package defect_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/reference/defect"
)

func TestCatalogueIsSortedAndDescribed(t *testing.T) {
	entries := defect.Catalogue()
	if len(entries) == 0 {
		t.Fatal("the catalogue is empty")
	}
	for i, e := range entries {
		if e.Does == "" || strings.Contains(e.Does, "\n") {
			t.Errorf("%s: description %q is not one line", e.Name, e.Does)
		}
		if i > 0 && entries[i-1].Name >= e.Name {
			t.Errorf("%s does not come after %s", e.Name, entries[i-1].Name)
		}
	}
	entries[0].Name = "changed"
	if defect.Catalogue()[0].Name == "changed" {
		t.Error("Catalogue hands out its own storage")
	}
}

func TestParse(t *testing.T) {
	set, err := defect.Parse([]string{"rpc.seq-zero", "grpc.soak-fails", "rpc.seq-zero"})
	if err != nil {
		t.Fatal(err)
	}
	want := []defect.Name{defect.GRPCSoakFails, defect.SeqZero}
	if diff := cmp.Diff(want, set.Names()); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	if !set.On(defect.SeqZero) || set.On(defect.PanicLeaks) {
		t.Error("On does not follow the parsed names")
	}
}

func TestParseUnknownNamesTheNearest(t *testing.T) {
	cases := map[string]defect.Name{
		"rpc.seq-zerro":               defect.SeqZero,
		"grpc.soak":                   defect.GRPCSoakFails,
		strings.Repeat("x", 1<<16):    "",
		"":                            "",
		"rpc.transform-ignored-maybe": defect.TransformIgnored,
	}
	seen := 0
	for in, near := range cases {
		seen++
		_, err := defect.Parse([]string{in})
		if err == nil {
			t.Fatalf("%.20q parsed", in)
		}
		if !strings.Contains(err.Error(), string(near)) {
			t.Errorf("error %q does not suggest %q", err, near)
		}
	}
	if seen == 0 {
		t.Fatal("no cases ran")
	}
}

func TestZeroSetIsEmpty(t *testing.T) {
	var set defect.Set
	if slices.ContainsFunc(defect.Catalogue(), func(e defect.Entry) bool { return set.On(e.Name) }) {
		t.Error("the zero Set has a defect")
	}
	if set.Names() == nil {
		t.Error("Names of the zero Set is nil")
	}
}
