package main

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
)

const house = "github.com/assay-bench/assay/"

// may says which folders of the house each folder may reach, tests apart. Data flows one way, from the
// suites down to the results; reports see nothing but results, and the reference sees no harness at all.
var may = map[string][]string{
	"results":   nil,
	"models":    nil,
	"fixtures":  nil,
	"chaos":     {"results"},
	"scenarios": {"chaos", "fixtures", "results"},
	"suites":    {"scenarios", "chaos", "fixtures", "results"},
	"reports":   {"results"},
	"reference": {"models", "fixtures"},
	"cmd":       {"suites", "scenarios", "chaos", "fixtures", "results", "reports", "reference", "models"},
}

// banned are modules that a folder may not reach, whatever lies between.
var banned = map[string][]string{
	"scenarios": {"github.com/cloudwego/", "github.com/bytedance/", "github.com/apache/thrift"}, // the wall between the codecs
	"suites":    {"github.com/cloudwego/", "github.com/bytedance/", "github.com/apache/thrift"},
	"":          {"go.k6.io/k6"}, // AGPL-3.0: only cmd/assay-k6 may link it
}

type listed struct {
	ImportPath string
	Deps       []string
}

func TestImportsFollowTheHouse(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps=false", "-json=ImportPath,Deps", house+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	dec, seen := json.NewDecoder(strings.NewReader(string(out))), 0
	for dec.More() {
		var p listed
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		seen++
		folder, _, _ := strings.Cut(strings.TrimPrefix(p.ImportPath, house), "/")
		allowed, known := may[folder]
		if !known {
			t.Errorf("%s lies outside the folders of the house", p.ImportPath)
		}
		for _, dep := range p.Deps {
			checkDep(t, p.ImportPath, folder, dep, allowed)
		}
	}
	if seen < 20 {
		t.Fatalf("saw %d packages: this test proves nothing", seen)
	}
}

func checkDep(t *testing.T, pkg, folder, dep string, allowed []string) {
	for _, scope := range []string{"", folder} {
		for _, b := range banned[scope] {
			if strings.HasPrefix(dep, b) {
				t.Errorf("%s reaches %s", pkg, dep)
			}
		}
	}
	rest, ours := strings.CutPrefix(dep, house)
	if !ours {
		return
	}
	to, _, _ := strings.Cut(rest, "/")
	if to == folder {
		return
	}
	for _, a := range allowed {
		if a == to {
			return
		}
	}
	t.Errorf("%s reaches %s: %s may import of the house only %v", pkg, dep, folder, allowed)
}

// TestResultsReachesNothing keeps the waist narrow: package results itself imports no other package of
// the house, its subpackages only results.
func TestResultsReachesNothing(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", "{{join .Deps \"\\n\"}}", house+"results").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, dep := range strings.Fields(string(out)) {
		if strings.HasPrefix(dep, house) {
			t.Errorf("results imports %s", dep)
		}
	}
}
