package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestSeparateBinary is load/k6/separate-binary: the program assay and the root module know nothing of k6.
func TestSeparateBinary(t *testing.T) {
	linked := func(program string) string {
		out, err := exec.Command("go", "version", "-m", program).Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	if !strings.Contains(linked(assayK6), "\tgo.k6.io/k6\tv1.8.1\t") {
		t.Error("assay-k6 does not link go.k6.io/k6 v1.8.1")
	}
	for what, text := range map[string]string{"assay": linked(assay), "go.mod": read(t, "../../go.mod"), "go.sum": read(t, "../../go.sum")} {
		for _, banned := range []string{"go.k6.io/", "xk6"} {
			if strings.Contains(text, banned) {
				t.Errorf("%s names %s", what, banned)
			}
		}
	}
}

// TestNotice is load/k6/notice: the package has the whole licence and offers the source.
func TestNotice(t *testing.T) {
	licence := read(t, "LICENSE")
	for _, part := range []string{
		"GNU AFFERO GENERAL PUBLIC LICENSE", "Version 3, 19 November 2007",
		"13. Remote Network Interaction; Use with the GNU General Public License.", "END OF TERMS AND CONDITIONS",
	} {
		if !strings.Contains(licence, part) {
			t.Errorf("LICENSE lacks %q", part)
		}
	}
	notice := read(t, "NOTICE")
	for _, part := range []string{"AGPL-3.0", "go.k6.io/k6 v1.8.1", "Source offer", "corresponding source"} {
		if !strings.Contains(notice, part) {
			t.Errorf("NOTICE lacks %q", part)
		}
	}
}

// TestImportsOfTheHouse: this module may reach scenarios and results, and what those reach.
func TestImportsOfTheHouse(t *testing.T) {
	const house = "github.com/assay-bench/assay/"
	out, err := exec.Command("go", "list", "-deps", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, path := range strings.Fields(string(out)) {
		rest, ours := strings.CutPrefix(path, house)
		folder, _, _ := strings.Cut(rest, "/")
		if !ours || strings.HasPrefix(rest, "cmd/assay-k6") {
			continue
		}
		seen++
		switch folder {
		case "scenarios", "results", "chaos", "fixtures":
		default:
			t.Errorf("reaches %s", path)
		}
	}
	if seen < 5 {
		t.Fatalf("saw %d packages of the house: this test proves nothing", seen)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
