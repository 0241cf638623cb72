package main

import (
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"testing"

	"golang.org/x/tools/go/packages"
	"golang.org/x/tools/go/types/typeutil"
)

// Judges are pure: the same evidence gives the same verdict, reason and text. A walk over a map has a random
// order, so a judge that leaves one with what it met, or adds to a text in it, says something else each time. What
// drives keeps the rule too: a seed gives the same run.
func TestNothingFollowsTheOrderOfAMap(t *testing.T) {
	loaded, err := packages.Load(&packages.Config{
		Mode: packages.NeedName | packages.NeedFiles | packages.NeedSyntax | packages.NeedTypes | packages.NeedTypesInfo | packages.NeedExportFile | packages.NeedImports,
	}, house+"suites/...", house+"scenarios/...", house+"results/...", house+"reports/...")
	if err != nil {
		t.Fatal(err)
	}
	if packages.PrintErrors(loaded) > 0 {
		t.Fatal("the packages do not load")
	}
	walks := 0
	for _, p := range loaded {
		for _, f := range p.Syntax {
			ast.Inspect(f, func(n ast.Node) bool {
				walk, ok := n.(*ast.RangeStmt)
				if !ok || !isMap(p.TypesInfo, walk.X) {
					return true
				}
				walks++
				for _, at := range orderly(p.TypesInfo, walk) {
					t.Errorf("%s: depends on the order of a walk over a map; walk over its sorted keys", p.Fset.Position(at))
				}
				return true
			})
		}
	}
	if walks < 10 {
		t.Fatalf("saw %d walks over maps: this test proves nothing", walks)
	}
}

// isMap says that a walk over x has a random order: x is a map, or an iterator over one.
func isMap(info *types.Info, x ast.Expr) bool {
	if call, is := x.(*ast.CallExpr); is {
		if f := typeutil.Callee(info, call); f != nil && f.Pkg() != nil && f.Pkg().Path() == "maps" {
			return true
		}
	}
	_, is := info.TypeOf(x).Underlying().(*types.Map)
	return is
}

// orderly are the statements of a walk whose effect depends on which member came first or last: a return of
// what is no constant, and an addition to a text.
func orderly(info *types.Info, walk *ast.RangeStmt) (out []token.Pos) {
	ast.Inspect(walk.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false
		case *ast.ReturnStmt:
			if slices.ContainsFunc(n.Results, func(x ast.Expr) bool { return info.Types[x].Value == nil && !info.Types[x].IsNil() }) {
				out = append(out, n.Pos())
			}
		case *ast.AssignStmt:
			if n.Tok != token.ADD_ASSIGN {
				break
			}
			if b, is := info.TypeOf(n.Lhs[0]).Underlying().(*types.Basic); is && b.Info()&types.IsString != 0 {
				out = append(out, n.Pos())
			}
		}
		return true
	})
	return out
}
