package reports

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// drawing is what may differ between architectures: multiply-add is fused on some.
var drawing = regexp.MustCompile(`(?s)<svg.*?</svg>`)

func TestGolden(t *testing.T) {
	seen := 0
	for _, s := range bundles() {
		for _, f := range All() {
			name := File(f)
			if name == "" {
				name = f.Name() + ".txt"
			}
			got := render(t, f, s.bundle())
			path := filepath.Join("testdata", s.name, name)
			if *update {
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			seen++
			if diff := cmp.Diff(portable(string(want)), portable(got)); diff != "" {
				t.Errorf("%s (-want +got, renew with -update):\n%s", path, diff)
			}
		}
	}
	if want := len(bundles()) * 6; seen < want {
		t.Errorf("compared %d views, want at least %d", seen, want)
	}
}

func portable(s string) string {
	if runtime.GOARCH == "amd64" {
		return s
	}
	return drawing.ReplaceAllLiteralString(s, "<svg/>")
}

func TestTwoRendersAreEqual(t *testing.T) {
	seen := 0
	for _, s := range bundles() {
		for _, f := range All() {
			first := render(t, f, s.bundle())
			for range 9 {
				if again := render(t, f, s.bundle()); again != first {
					t.Fatalf("%s of %s differs between renders", f.Name(), s.name)
				}
			}
			seen++
		}
	}
	if seen == 0 {
		t.Fatal("nothing was rendered")
	}
}

// TestTimeZone renders where local time and the bundle's folder differ from the golden files.
func TestTimeZone(t *testing.T) {
	b := mixed()
	local := time.Local
	time.Local = time.FixedZone("elsewhere", 13*3600)
	t.Cleanup(func() { time.Local = local })
	b.Run.Started, b.Dir = b.Run.Started.Local(), "/elsewhere"
	for _, f := range All() {
		if f.Name() == "json" { // carries the time as recorded, with its offset
			continue
		}
		if render(t, f, b) != render(t, f, mixed()) {
			t.Errorf("%s depends on the time zone or on the folder", f.Name())
		}
	}
	if len(All()) < 6 {
		t.Fatalf("only %d formats", len(All()))
	}
}

func TestEveryViewNamesBundleAndPlan(t *testing.T) {
	for _, f := range All() {
		got := render(t, f, mixed())
		for _, want := range []string{digest, "10 planned"} {
			if !strings.Contains(got, want) {
				t.Errorf("%s does not say %q", f.Name(), want)
			}
		}
		if got := render(t, f, killed()); !strings.Contains(got, "not sealed") {
			t.Errorf("%s of an unsealed bundle does not say so", f.Name())
		}
	}
	if len(All()) < 6 {
		t.Fatalf("only %d formats", len(All()))
	}
}
