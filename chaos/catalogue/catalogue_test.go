package catalogue

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/assay-bench/assay/chaos"
)

func TestAll(t *testing.T) {
	var names []string
	for _, f := range All() {
		names = append(names, f.Name())
		if spec, err := chaos.ParseSpec(f.Name() + "=1"); err != nil || spec.Name != f.Name() {
			t.Errorf("%s: %v", f.Name(), err)
		}
		if len(f.Name()) > 64 {
			t.Errorf("%s: longer than Find compares", f.Name())
		}
		drivers := map[string]bool{}
		for _, d := range f.Drivers() {
			if d.Name() == "" || drivers[d.Name()] {
				t.Errorf("%s: driver %q twice or without a name", f.Name(), d.Name())
			}
			drivers[d.Name()] = true
			if _, err := d.Plan(chaos.Point{}, math.NaN(), nil); err == nil {
				t.Errorf("%s by %s: a plan for nothing", f.Name(), d.Name())
			}
			if _, ok := d.(chaos.Idler); !ok {
				t.Logf("%s by %s: has no idle form on this system", f.Name(), d.Name())
			}
		}
		if len(drivers) == 0 {
			t.Errorf("%s: no driver", f.Name())
		}
	}
	if len(names) == 0 || !slices.IsSorted(names) || len(slices.Compact(slices.Clone(names))) != len(names) {
		t.Errorf("names %q", names)
	}
}

func TestFind(t *testing.T) {
	for _, f := range All() {
		if got, err := Find(f.Name()); err != nil || got.Name() != f.Name() {
			t.Errorf("%s: %v, %v", f.Name(), got, err)
		}
	}
	for typo, want := range map[string]string{
		"net/dely": "net/delay", "proc/pasue": "proc/pause", "pause": "proc/pause", "": "net/delay",
		strings.Repeat("x", 1<<20): "net/delay",
	} {
		if _, err := Find(typo); err == nil || !strings.HasSuffix(err.Error(), "did you mean "+want+"?") || len(err.Error()) > 200 {
			t.Errorf("%.20q: %.200v", typo, err)
		}
	}
}
