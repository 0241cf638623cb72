package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A row whose subject is the harness is proven by a Go test whose comment or body names its id, or by a script of the command
// line. This test holds that there is one; that it passes is go test's own business.
func TestEveryHarnessRowHasATest(t *testing.T) {
	s, err := newSuite()
	if err != nil {
		t.Fatal(err)
	}
	tagged := taggedTests(t)
	rows := 0
	for _, r := range s.Requirements() {
		if r.Subject != "harness" {
			continue
		}
		rows++
		if !strings.Contains(tagged, r.ID+"\n") {
			t.Errorf("%s: no test names it", r.ID)
		}
	}
	if rows < 50 {
		t.Errorf("%d rows: this test proves little", rows)
	}
}

// taggedTests is every word of the test functions, with their comments, and of the scripts that looks like the id of a
// row, each followed by a line feed.
func taggedTests(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	files := 0
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".txtar") && !strings.HasSuffix(path, "_test.go") {
			return err
		}
		files++
		texts, err := textsOf(path)
		if err != nil {
			return err
		}
		for _, c := range texts {
			for _, word := range strings.FieldsFunc(c, func(r rune) bool { return strings.ContainsRune(" \t\n.,;:()\"`'", r) }) {
				if strings.Count(word, "/") == 2 {
					out.WriteString(word + "\n")
				}
			}
		}
		return nil
	})
	if err != nil || files < 50 {
		t.Fatalf("%d test files: %v", files, err)
	}
	return out.String()
}

func textsOf(path string) ([]string, error) {
	if strings.HasSuffix(path, "_test.go") {
		return testTexts(path)
	}
	raw, err := os.ReadFile(path)
	return []string{string(raw)}, err
}

// testTexts are the comments on test functions and within them, and their string literals.
func testTexts(path string) (out []string, err error) {
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	for _, decl := range f.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok || !strings.HasPrefix(fn.Name.Name, "Test") && !strings.HasPrefix(fn.Name.Name, "Benchmark") {
			continue
		}
		if fn.Doc != nil {
			out = append(out, fn.Doc.Text())
		}
		for _, c := range f.Comments {
			if c.Pos() >= fn.Pos() && c.End() <= fn.End() {
				out = append(out, c.Text())
			}
		}
		ast.Inspect(fn, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				out = append(out, lit.Value)
			}
			return true
		})
	}
	return out, nil
}
